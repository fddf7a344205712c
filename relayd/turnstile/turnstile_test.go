package turnstile

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPlacesOfOneSource(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, then string
		same        bool
	}{
		{"same address", "192.0.2.1", "192.0.2.1", true},
		{"same /24", "192.0.2.1", "192.0.2.255", true},
		{"next /24", "192.0.2.255", "192.0.3.0", false},
		{"IPv4 in IPv6", "192.0.2.1", "::ffff:192.0.2.9", true},
		{"same /56", "2001:db8:0:100::1", "2001:db8:0:1ff::1", true},
		{"next /56", "2001:db8:0:1ff::1", "2001:db8:0:200::1", false},
		{"loopback addresses stand for themselves", "127.0.0.1", "127.0.0.2", false},
		{"a zone is no other network", "fe80::1%a", "fe80::1%b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if same := Network(addr(c.first)) == Network(addr(c.then)); same != c.same {
				t.Errorf("%s and %s: same %v, want %v", c.first, c.then, same, c.same)
			}
		})
	}
}

func TestEnterUpToTheLimitOfASource(t *testing.T) {
	s := New(Limits{PerSource: 3, DropFrom: 100, Max: 200})
	var last *Place
	for i := 1; i <= 3; i++ {
		var err error
		if last, err = s.Enter(addr("192.0.2.1"), false, nil); err != nil {
			t.Fatalf("number %d: %v", i, err)
		}
	}
	if _, err := s.Enter(addr("192.0.2.1"), true, nil); !errors.Is(err, ErrSource) {
		t.Errorf("number 4 of a source: %v, want %v", err, ErrSource)
	}
	if _, err := s.Enter(addr("192.0.3.1"), false, nil); err != nil {
		t.Errorf("another source: %v", err)
	}
	last.Leave()
	last.Leave() // counts once
	if n := s.Inside(); n != 3 {
		t.Errorf("%d inside, want 3", n)
	}
	if _, err := s.Enter(addr("192.0.2.1"), false, nil); err != nil {
		t.Errorf("after one has left: %v", err)
	}
}

func TestEnterWhenCrowded(t *testing.T) {
	for _, c := range []struct {
		name    string
		inside  int
		chance  float64
		trusted bool
		want    error
	}{
		{"just below the early drop", 99, 0, false, nil},
		{"early drop, unlucky", 100, 0.29, false, ErrCrowded},
		{"early drop, lucky", 100, 0.31, false, nil},
		{"in the middle, unlucky", 150, 0.64, false, ErrCrowded},
		{"in the middle, lucky", 150, 0.66, false, nil},
		{"the last place", 199, 0.999, false, nil},
		{"full", 200, 0.999, false, ErrCrowded},
		{"full, trusted", 200, 0, true, nil},
		{"the last reserved place", 219, 0, true, nil},
		{"no reserved place left", 220, 0, true, ErrCrowded},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Standard())
			s.chance = func() float64 { return c.chance }
			s.inside = c.inside
			if _, err := s.Enter(addr("192.0.2.1"), c.trusted, nil); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestCrowdMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Limits{PerSource: 20, DropFrom: 3, Max: 3})
		var evicted []string
		enter := func(name string) *Place {
			p, err := s.Enter(addr("192.0.2.1"), false, func() { evicted = append(evicted, name) })
			if err != nil && !errors.Is(err, ErrCrowded) {
				t.Fatal(err)
			}
			return p
		}
		typing := enter("typing")
		typing.Settle()
		silent := enter("silent")
		enter("silent later")
		time.Sleep(patience - 1)
		if enter("early") != nil {
			t.Error("somebody came in before the others' time was over")
		}
		time.Sleep(time.Nanosecond)
		if enter("first") == nil || !silent.Evicted() {
			t.Errorf("evicted %q, want the silent one", evicted)
		}
		silent.Leave() // counts once
		if enter("second") == nil || enter("third") != nil || s.Inside() != 3 {
			t.Errorf("evicted %q, %d inside", evicted, s.Inside())
		}
		if want := []string{"silent", "silent later"}; !slices.Equal(evicted, want) || typing.Evicted() {
			t.Errorf("evicted %q, want %q", evicted, want)
		}
	})
}

func TestTrustedSourceHasMorePlaces(t *testing.T) {
	s := New(Limits{PerSource: 2, Trusted: 4, DropFrom: 100, Max: 200})
	for i := 1; i <= 5; i++ {
		if _, err := s.Enter(addr("192.0.2.1"), true, nil); (err == nil) != (i <= 4) {
			t.Errorf("number %d: %v", i, err)
		}
	}
}

func TestPenaltiesAddUpAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, src := NewPenalties(), addr("192.0.2.1")
		p.Add(src, AuthFailed)
		p.Add(src, AuthFailed)
		if d := p.Blocked(src); d != 0 {
			t.Errorf("two failures block for %v", d)
		}
		p.Add(src, AuthFailed)
		if d := p.Blocked(src); d != 15*time.Second {
			t.Errorf("three failures block for %v, want 15s", d)
		}
		if d := p.Blocked(addr("192.0.2.2")); d != 0 {
			t.Errorf("the neighbour is blocked for %v", d)
		}
		time.Sleep(15*time.Second - 1)
		if p.Blocked(src) == 0 {
			t.Error("free before the time")
		}
		time.Sleep(time.Nanosecond)
		if d := p.Blocked(src); d != 0 {
			t.Errorf("after the time still %v", d)
		}
		p.Add(src, AuthFailed)
		if d := p.Blocked(src); d != 0 {
			t.Errorf("the first failure after a block blocks for %v", d)
		}
	})
}

func TestPenaltiesHaveALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, src := NewPenalties(), addr("2001:db8::1")
		for range 100 {
			p.Add(src, Broken)
		}
		if d := p.Blocked(addr("2001:db8::ffff")); d != penaltyMax {
			t.Errorf("%v, want %v for the whole /64", d, penaltyMax)
		}
	})
}

func TestTrustedSourceIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, src := NewPenalties(), addr("192.0.2.1")
		p.Add(src, Broken)
		done := p.Trust(src)
		if d := p.Blocked(src); d != 0 {
			t.Errorf("blocked for %v although a computer of it has just signed in", d)
		}
		time.Sleep(time.Hour)
		p.Add(src, Broken)
		if d := p.Blocked(src); d != 0 {
			t.Errorf("blocked for %v although a computer of it is connected", d)
		}
		done()
		done() // counts once
		time.Sleep(trustFor - 1)
		if !p.Trusted(src) {
			t.Error("not trusted right after the computer has gone")
		}
		time.Sleep(time.Nanosecond)
		p.Add(src, Broken)
		if p.Trusted(src) || p.Blocked(src) != Broken {
			t.Errorf("trusted %v, blocked for %v long after the computer has gone", p.Trusted(src), p.Blocked(src))
		}
	})
}

// Security yardstick L8: a flood of sources neither fills memory nor shuts the door.
func TestTableForgetsTheOldest(t *testing.T) {
	p := NewPenalties()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 200_000 {
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		p.Add(netip.AddrFrom16(a), Broken)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := len(p.until.rows); n != MaxSources || p.until.order.Len() != n {
		t.Errorf("%d rows, %d in order, want %d", n, p.until.order.Len(), MaxSources)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the table takes %d KiB, more than 16 MiB", grown>>10)
	}
	if p.Blocked(addr("2001:db8::")) != 0 {
		t.Error("the oldest is still known")
	}
	if p.Blocked(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 3, 0x0d, 0x3f})) == 0 { // 199,999
		t.Error("the newest is forgotten")
	}
	runtime.KeepAlive(p)
}

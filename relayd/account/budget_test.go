package account

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// fail makes n wrong tries, which must all come to the check of the password.
func (r relay) fail(email string, src netip.Addr, n int) {
	r.t.Helper()
	for i := range n {
		if err := r.try(email, "wrong password", src); !refuse.SignIn.Is(err) {
			r.t.Fatalf("try %d of %d at %s from %v: %v", i+1, n, email, src, err)
		}
	}
}

func (r relay) wrongCode(src netip.Addr) error {
	return r.Guess(r.t.Context(), src, "code", func() (*Account, error) { return nil, refuse.CodeInvalid.Of() })
}

// slowed says that a try is refused before anything is hashed.
func (r relay) slowed(email, word string, src netip.Addr) {
	r.t.Helper()
	var err error
	if n := r.hashed(func() { err = r.try(email, word, src) }); n != 0 || !refuse.SlowDown.Is(err) {
		r.t.Errorf("%s from %v: %v after %d hashes; want a refusal before any", email, src, err, n)
	}
}

func TestSourceIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		// Five names, so that only the source's counter is full.
		for i := range 5 {
			r.fail(fmt.Sprintf("x%d@example.com", i), home, 1)
		}
		block := 10 * time.Second
		for n := range 8 {
			r.slowed("alice@example.com", password, home) // even with the right password
			if err := r.budget.allow("", home); !refuse.SlowDown.Is(err) {
				t.Errorf("a blocked source could spend a code: %v", err)
			}
			time.Sleep(block - time.Millisecond)
			r.slowed("alice@example.com", password, home)
			time.Sleep(time.Millisecond)
			r.fail(fmt.Sprintf("y%d@example.com", n), home, 1)
			block = min(2*block, 10*time.Minute)
		}
		if block != 10*time.Minute {
			t.Errorf("last block %v", block)
		}
		if err := r.try("alice@example.com", password, ip("192.0.2.2")); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		time.Sleep(sourceMemory)
		r.fail("z@example.com", home, 4) // begins anew
		if err := r.try("alice@example.com", password, home); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsASource(t *testing.T) {
	r := newRelay(t)
	for i, c := range []struct {
		from, same, other string
	}{
		{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1"},
		{"fe80::1%eth0", "fe80::2%eth1", "fe80:0:0:1::1"},
	} {
		for j := range 5 {
			r.fail(fmt.Sprintf("x%d-%d@example.com", i, j), ip(c.from), 1)
		}
		r.slowed("x@example.com", "wrong", ip(c.same))
		if err := r.budget.allow("x@example.com", ip(c.other)); err != nil {
			t.Errorf("%s: %v", c.other, err)
		}
	}
}

// Who has many addresses has not as many guesses.
func TestNetworkIsBlocked(t *testing.T) {
	for _, c := range []struct {
		name           string
		source         func(i int) string
		free           int
		inside, beside string // the network
	}{
		{"/24", func(i int) string { return fmt.Sprintf("192.0.2.%d", i) }, 60, "192.0.2.250", "192.0.3.1"},
		{"/56", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i) }, 80, "2001:db8:0:ff::1", "2001:db8:0:100::1"},
		{"/48", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i<<8) }, 100, "2001:db8:0:ffff::1", "2001:db8:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget([32]byte{}, 1024, nil)
				fail := func(src string) {
					t.Helper()
					tr, err := b.admit(t.Context(), "", ip(src))
					if err != nil {
						t.Fatalf("%s: %v", src, err)
					}
					tr.lost()
				}
				for i := range c.free - 1 {
					fail(c.source(i))
				}
				if err := b.allow("", ip(c.inside)); err != nil {
					t.Errorf("one failure before the last free one: %v", err)
				}
				fail(c.source(c.free))
				if err := b.allow("", ip(c.inside)); !refuse.SlowDown.Is(err) {
					t.Errorf("the network is not blocked: %v", err)
				}
				time.Sleep(firstBlock)
				if err := b.allow("", ip(c.beside)); err != nil {
					t.Errorf("the network beside it: %v", err)
				}
				fail(c.inside) // the next block is twice as long
				time.Sleep(2*firstBlock - time.Millisecond)
				if err := b.allow("", ip(c.source(1))); !refuse.SlowDown.Is(err) {
					t.Errorf("the second block is no longer than the first: %v", err)
				}
			})
		})
	}
}

func TestAccountAndSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		r.fail("alice@example.com", home, 5)
		time.Sleep(10 * time.Second) // the source may try again, but not at alice
		r.slowed("ALICE@example.com", password, home)
		if err := r.try("alice@example.com", password, ip("192.0.2.2")); err != nil {
			t.Errorf("alice from elsewhere: %v", err)
		}
		time.Sleep(15*time.Minute - 10*time.Second)
		if err := r.try("alice@example.com", password, home); err != nil {
			t.Errorf("after 15 minutes: %v", err)
		}
		r.fail("nobody@example.com", home, 5) // an unknown account is no different
		time.Sleep(10 * time.Second)
		r.slowed("nobody@example.com", password, home)
	})
}

func TestSuccessClears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		r.add("bob@example.com")
		for range 5 {
			r.fail("alice@example.com", home, 4)
			if err := r.try("alice@example.com", password, home); err != nil {
				t.Fatal(err)
			}
		}
		// An account of one's own does not buy guesses at another.
		for range 4 {
			r.fail("alice@example.com", home, 1)
			if err := r.try("bob@example.com", password, home); err != nil {
				t.Fatal(err)
			}
		}
		r.fail("alice@example.com", home, 1)
		r.slowed("alice@example.com", password, home)
		r.slowed("bob@example.com", password, home)
	})
}

func TestSlowAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		for i := range accountFree {
			r.fail("alice@example.com", ip(fmt.Sprintf("198.51.100.%d", i)), 1)
		}
		begin := time.Now()
		if err := r.try("alice@example.com", "wrong", ip("203.0.113.1")); !refuse.SignIn.Is(err) || time.Since(begin) != time.Second {
			t.Errorf("try 51: %v after %v", err, time.Since(begin))
		}
		// Of many at once one goes each second, and who would wait too long is told so.
		var done sync.WaitGroup
		var busy, wrong atomic.Int32
		begin = time.Now()
		for i := range 20 {
			done.Go(func() {
				switch err := r.try("alice@example.com", "wrong", ip(fmt.Sprintf("203.0.113.%d", 10+i))); {
				case refuse.Busy.Is(err):
					busy.Add(1)
				case refuse.SignIn.Is(err):
					wrong.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		done.Wait()
		if wrong.Load() != 5 || busy.Load() != 15 || time.Since(begin) != 5*time.Second {
			t.Errorf("%d tried, %d refused, in %v", wrong.Load(), busy.Load(), time.Since(begin))
		}
		begin = time.Now()
		if err := r.try("alice@example.com", password, home); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("alice herself: %v after %v", err, time.Since(begin))
		}
		time.Sleep(accountWindow)
		begin = time.Now()
		if err := r.try("alice@example.com", password, home); err != nil || time.Since(begin) != 0 {
			t.Errorf("an hour later: %v after %v", err, time.Since(begin))
		}
	})
}

// TestParallelTries: a hundred at once are five guesses, and right ones all go through.
func TestParallelTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		for _, c := range []struct {
			word   string
			ok     int32
			hashes int64
		}{{password, 100, 100}, {"wrong", 0, freeFailures}} {
			var done sync.WaitGroup
			var ok atomic.Int32
			var hashes atomic.Int64
			count := r.hasher.count
			r.hasher.count = func() { hashes.Add(1) }
			for range 100 {
				done.Go(func() {
					err := r.try("alice@example.com", c.word, home)
					if err == nil {
						ok.Add(1)
					} else if !refuse.SignIn.Is(err) && !refuse.SlowDown.Is(err) {
						t.Error(err)
					}
				})
			}
			done.Wait()
			r.hasher.count = count
			if ok.Load() != c.ok || hashes.Load() != c.hashes {
				t.Errorf("%s: %d signed in by %d hashes; want %d by %d", c.word, ok.Load(), hashes.Load(), c.ok, c.hashes)
			}
		}
	})
}

// TestParallelCodes: of a hundred wrong codes at once five are looked at, and right ones all are.
func TestParallelCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		for _, c := range []struct {
			name   string
			result error
			looked int32
		}{{"right", nil, 100}, {"nobody looks", refuse.StorageOut.Of(), 100}, {"wrong", refuse.CodeInvalid.Of(), freeFailures}} {
			var done sync.WaitGroup
			var looked atomic.Int32
			for range 100 {
				done.Go(func() {
					err := r.Guess(t.Context(), home, "code", func() (*Account, error) {
						looked.Add(1)
						time.Sleep(time.Millisecond)
						return &Account{ID: 1, Email: "alice@example.com"}, c.result
					})
					if err != c.result && !refuse.SlowDown.Is(err) {
						t.Errorf("%s: %v", c.name, err)
					}
				})
			}
			done.Wait()
			if looked.Load() != c.looked {
				t.Errorf("%s: %d looked at, want %d", c.name, looked.Load(), c.looked)
			}
		}
	})
}

// Refusals that cost nothing do not keep wrong codes out of the audit log.
func TestWrongCodesAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		for range freeFailures {
			_ = r.wrongCode(home)
		}
		for range 1000 {
			if err := r.wrongCode(home); !refuse.SlowDown.Is(err) {
				t.Fatal(err)
			}
		}
		if n := len(r.trail.events); n > freeFailures+100 {
			t.Errorf("%d records", n)
		}
		_ = r.wrongCode(ip("198.51.100.1"))
		if e := r.trail.last(); e.Code != refuse.CodeInvalid.Code || e.Source != "198.51.100.1" {
			t.Errorf("the last record is %+v", e)
		}
	})
}

func TestBudgetSurvivesARestart(t *testing.T) {
	r := newRelay(t)
	r.fail("alice@example.com", home, 5)
	if err := r.wrongCode(ip("192.0.2.9")); !refuse.CodeInvalid.Is(err) {
		t.Fatal(err)
	}
	r.store.Close()
	again := start(t, r.dir)
	again.slowed("alice@example.com", password, home)
	for range 4 {
		if err := again.wrongCode(ip("192.0.2.9")); !refuse.CodeInvalid.Is(err) {
			t.Fatal(err)
		}
	}
	if err := again.budget.allow("", ip("192.0.2.9")); !refuse.SlowDown.Is(err) {
		t.Errorf("wrong codes before and after: %v", err)
	}
	if e := again.trail.last(); e.Code != refuse.CodeInvalid.Code || e.Door != "code" {
		t.Errorf("recorded %+v", e)
	}
}

func TestOldestIsEvicted(t *testing.T) {
	dir := t.TempDir() + "/state"
	r := startWith(t, dir, cheap, 8)
	for i := range 5 {
		r.fail(fmt.Sprintf("a%d@example.com", i), home, 1)
	}
	for i := range 8 {
		r.fail("b@example.com", ip(fmt.Sprintf("198.51.100.%d", i)), 1)
	}
	if err := r.budget.allow("", home); err != nil {
		t.Errorf("the oldest is still there: %v", err)
	}
	all, err := r.store.Failures(t.Context())
	if err != nil || len(all) > 8+8+8+2 {
		t.Errorf("%d counters are stored, %v", len(all), err)
	}
	for _, f := range all {
		if strings.Contains(string(f.Key), "example") {
			t.Error("what was typed is stored")
		}
	}
}

// TestManySources fills the tables of IPv6 at their full size from 200,000 sites: they stay within 16 MiB.
func TestManySources(t *testing.T) {
	b := newBudget([32]byte{}, tableSize, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 200000 {
		src := netip.AddrFrom16([16]byte{0x20, 1, 0xd, byte(i >> 16), byte(i >> 8), byte(i), 1, 1})
		tr, err := b.admit(t.Context(), "", src)
		if err != nil {
			t.Fatal(err)
		}
		tr.lost()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 16<<20 {
		t.Errorf("%d MiB", used>>20)
	}
	for family, want := range map[int]int{source6: tableSize, net6: tableSize / 4, site6: tableSize / 4} {
		if n := len(b.tables[family].at); n != want {
			t.Errorf("%d counters of family %d, want %d", n, family, want)
		}
	}
	if err := b.allow("", home); err != nil {
		t.Errorf("a good source: %v", err)
	}
	if len(b.pending) != 0 {
		t.Errorf("%d tries are still under way", len(b.pending))
	}
}

func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		r.fail("alice@example.com", home, 5)
		all, err := r.store.Failures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			all[i].Since = all[i].Since.Add(10 * 365 * 24 * time.Hour)
			all[i].Last = all[i].Last.Add(10 * 365 * 24 * time.Hour)
		}
		b := newBudget(r.budget.pepper, 64, all)
		if err := b.allow("alice@example.com", home); !refuse.SlowDown.Is(err) {
			t.Error(err)
		}
		time.Sleep(pairWindow)
		if err := b.allow("alice@example.com", home); err != nil {
			t.Errorf("locked for ten years: %v", err)
		}
	})
}

func TestCancelledWhileSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget([32]byte{}, 64, nil)
		for i := range accountFree {
			tr, err := b.admit(t.Context(), "a", ip(fmt.Sprintf("198.51.100.%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			tr.lost()
		}
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		if _, err := b.admit(ctx, "a", home); err != context.DeadlineExceeded || len(b.pending) != 0 {
			t.Errorf("%v, %d under way", err, len(b.pending))
		}
	})
}

package registry

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/store"
)

// A fake is a tunnel that ends when it is told to.
type fake struct {
	hello tunnel.Hello
	done  chan struct{}
}

func (f *fake) Hello() tunnel.Hello          { return f.hello }
func (f *fake) Done() <-chan struct{}        { return f.done }
func (f *fake) CloseFor(tunnel.Reason) error { close(f.done); return nil }
func link1(kind tunnel.Kind, instance string) *fake {
	return &fake{tunnel.Hello{Kind: kind, Instance: instance}, make(chan struct{})}
}

func TestNewestWins(t *testing.T) {
	p := newPresence[*fake](newMetrics(prometheus.NewRegistry()))
	got := func(kind tunnel.Kind) *fake { l, _ := p.get("c", kind); return l }
	first := link1(tunnel.Main, "a")
	if c := p.attach("c", first); !c.first || len(c.ended) != 0 || got(tunnel.Main) != first {
		t.Errorf("first: %+v", c)
	}
	bulk := link1(tunnel.Bulk, "a")
	if c := p.attach("c", bulk); c.first || len(c.ended) != 0 || got(tunnel.Bulk) != bulk || got(tunnel.Main) != first {
		t.Errorf("bulk: %+v", c)
	}
	second := link1(tunnel.Main, "a")
	if c := p.attach("c", second); c.first || c.replaced || !slices.Equal(c.ended, []*fake{first}) || got(tunnel.Main) != second || got(tunnel.Bulk) != bulk {
		t.Errorf("same instance again: %+v", c)
	}
	if c := p.detach("c", first, 0); c.last {
		t.Error("the end of a tunnel that was replaced made the computer offline")
	}
	third := link1(tunnel.Main, "b")
	if c := p.attach("c", third); c.first || !c.replaced || !slices.Equal(c.ended, []*fake{second, bulk}) || got(tunnel.Bulk) != nil {
		t.Errorf("another instance: %+v", c)
	}
	newBulk := link1(tunnel.Bulk, "b")
	p.attach("c", newBulk)
	if c := p.detach("c", newBulk, 0); c.last || got(tunnel.Main) != third {
		t.Errorf("end of bulk: %+v", c)
	}
	if n := testutil.ToFloat64(p.count.online); n != 1 {
		t.Errorf("%v online", n)
	}
	close(third.done)
	if got, ok := p.get("c", tunnel.Main); ok {
		t.Errorf("a tunnel that is over is given out: %v", got)
	}
	if c := p.detach("c", third, 0); !c.last || got(tunnel.Main) != nil {
		t.Errorf("end: %+v", c)
	}
	if n := testutil.ToFloat64(p.count.online); n != 0 {
		t.Errorf("%v online", n)
	}
	p.close()
	if c := p.attach("c", first); !c.closed {
		t.Errorf("after the end: %+v", c)
	}
}

func TestDoubleIsKeptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPresence[*fake](newMetrics(prometheus.NewRegistry()))
		for i := range maxFlaps + 1 {
			if c := p.attach("c", link1(tunnel.Main, fmt.Sprint(i%2))); c.refused || c.first != (i == 0) {
				t.Fatalf("turn %d: %+v", i, c)
			}
		}
		c := p.attach("c", link1(tunnel.Main, "x"))
		if !c.refused || !c.last || len(c.ended) != 1 {
			t.Errorf("one turn too many: %+v", c)
		}
		// Both come again and again: the computer is not accessible all the time.
		for i := range 20 {
			time.Sleep(flapRest / 2)
			if c := p.attach("c", link1(tunnel.Main, []string{"y", "x"}[i%2])); !c.refused || p.barred("c") != Doubled {
				t.Errorf("while both come: %+v", c)
			}
		}
		time.Sleep(flapRest - time.Millisecond)
		if c := p.attach("c", link1(tunnel.Main, "x")); !c.refused {
			t.Errorf("too early: %+v", c)
		}
		time.Sleep(time.Millisecond)
		if c := p.attach("c", link1(tunnel.Main, "x")); c.refused || !c.first || p.barred("c") != "" {
			t.Errorf("one is left: %+v", c)
		}
		// Slowly, and by a hostd that was restarted, is no double.
		for i := range 20 {
			time.Sleep(flapWindow/maxFlaps + time.Millisecond)
			if c := p.attach("c", link1(tunnel.Main, fmt.Sprint(i))); c.refused {
				t.Fatalf("slow turn %d: %+v", i, c)
			}
		}
		for i := range 20 {
			old, _ := p.get("c", tunnel.Main)
			close(old.done)
			if c := p.attach("c", link1(tunnel.Main, fmt.Sprint("r", i))); c.refused || c.replaced {
				t.Fatalf("restart %d: %+v", i, c)
			}
		}
	})
}

func TestLastSeenIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		alice := r.add("alice@example.com")
		desk := r.enroll(alice.Email, "desk", "x")
		p := newPresence[*fake](newMetrics(prometheus.NewRegistry()))
		l := link1(tunnel.Main, "a")
		p.attach(desk.ID, l)
		if at := p.unstored(false); len(at) != 1 {
			t.Errorf("%v", at)
		} else {
			p.stored(at)
		}
		if at := p.unstored(false); len(at) != 0 {
			t.Errorf("stored already: %v", at)
		}
		time.Sleep(time.Minute)
		if at := p.unstored(true); !at[desk.ID].At.Equal(time.Now()) {
			t.Errorf("online: %v", at)
		} else {
			p.stored(at)
		}
		time.Sleep(time.Second)
		close(l.done)
		p.detach(desk.ID, l, tunnel.Asleep)
		at := p.unstored(false)
		if !at[desk.ID].At.Equal(time.Now()) {
			t.Errorf("gone: %v", at)
		}
		if err := r.store.Seen(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if c, err := r.Resolve(t.Context(), "desk"); err != nil || !c.LastSeen.Equal(at[desk.ID].At.Truncate(time.Millisecond)) || c.Away != Asleep {
			t.Errorf("%+v, %v", c, err)
		}
		p.forget(desk.ID)
		if p.lastSeen(desk.ID) != (store.Sight{}) {
			t.Error("not forgotten")
		}
	})
}

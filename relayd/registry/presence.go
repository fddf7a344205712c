package registry

import (
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/store"
)

// A link is what presence needs of a tunnel.
type link interface {
	comparable
	Hello() tunnel.Hello
	Done() <-chan struct{}
	CloseFor(tunnel.Reason) error
}

// A computer whose tunnel is replaced by that of another instance more than maxFlaps times within flapWindow has a
// double: two machines with one key. Neither is let in until only one of them has come for flapRest, in which a hostd that is
// sent away comes again.
const (
	maxFlaps   = 3
	flapWindow = 2 * time.Minute
	flapRest   = 60 * time.Second
)

// A presence knows the live tunnels, the newest of each computer and kind.
type presence[L link] struct {
	count metrics

	mu     sync.Mutex // guards what follows
	at     map[string]*place[L]
	online int
	closed bool
}

// A place is one computer that was online since the relay started.
type place[L link] struct {
	main, bulk  L // zero: none
	seen        time.Time
	away        tunnel.Reason // what it said when it went; 0: nothing, or it is online
	stored      bool          // seen is in the store
	flaps       int
	flapsBegan  time.Time
	quarantined time.Time // until then
	knocks      string    // instance that has come last while it was
	outdated    time.Time // when it was last refused for its version
}

// outdatedFor is how long a computer that was refused for its version, and will come again, is not merely offline.
const outdatedFor = 2 * time.Minute

func newPresence[L link](m metrics) *presence[L] {
	return &presence[L]{count: m, at: map[string]*place[L]{}}
}

// A change is what came of attach and detach.
type change[L link] struct {
	ended    []L  // to be closed as replaced
	first    bool // the computer has come online
	last     bool // the computer has gone offline
	refused  bool // it has a double: the new tunnel is to be closed
	closed   bool // the relay is stopping: the new tunnel is to be closed
	replaced bool // another instance took the place of one that was live
}

// attach makes l the tunnel of a computer; the newest wins.
func (p *presence[L]) attach(id string, l L) (c change[L]) {
	var none L
	hello := l.Hello()
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return change[L]{closed: true}
	}
	w := p.at[id]
	if w == nil {
		w = &place[L]{}
		p.at[id] = w
	}
	if now.Before(w.quarantined) {
		if hello.Instance != w.knocks {
			w.knocks, w.quarantined = hello.Instance, now.Add(flapRest)
		}
		p.count.tunnels.WithLabelValues("refused").Inc()
		return change[L]{refused: true}
	}
	slot := &w.main
	if hello.Kind == tunnel.Bulk {
		slot = &w.bulk
	}
	old := *slot
	if old != none {
		c.ended = append(c.ended, old)
	}
	if hello.Kind == tunnel.Main && old != none && old.Hello().Instance != hello.Instance && !over(old) {
		c.replaced = true
		if now.Sub(w.flapsBegan) > flapWindow {
			w.flaps, w.flapsBegan = 0, now
		}
		w.flaps++
	}
	if w.flaps > maxFlaps {
		w.flaps, w.quarantined, w.knocks = 0, now.Add(flapRest), hello.Instance
		c.refused = true
		if w.bulk != none {
			c.ended = append(c.ended, w.bulk)
		}
		c.last = p.leave(w, now)
		w.main, w.bulk = none, none
		p.count.tunnels.WithLabelValues("refused").Inc()
		return c
	}
	if hello.Kind == tunnel.Main {
		if w.bulk != none && w.bulk.Hello().Instance != hello.Instance {
			c.ended = append(c.ended, w.bulk)
			w.bulk = none
		}
		if c.first = old == none; c.first {
			p.online++
			p.count.online.Set(float64(p.online))
		}
	}
	*slot = l
	if hello.Kind == tunnel.Main {
		w.away, w.outdated = 0, time.Time{}
	}
	w.seen, w.stored = now, false
	p.count.tunnels.WithLabelValues("attached").Inc()
	p.count.tunnels.WithLabelValues("replaced").Add(float64(len(c.ended)))
	return c
}

// leave counts a computer out; it is called before its main tunnel is taken away.
func (p *presence[L]) leave(w *place[L], now time.Time) bool {
	var none L
	w.seen, w.stored = now, false
	if w.main == none {
		return false
	}
	p.online--
	p.count.online.Set(float64(p.online))
	return true
}

// detach takes a tunnel away that has ended, with why if the computer said so, unless another has its place.
func (p *presence[L]) detach(id string, l L, why tunnel.Reason) (c change[L]) {
	var none L
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.at[id]
	switch {
	case w == nil:
	case w.main == l:
		c.last = p.leave(w, time.Now())
		w.main, w.away = none, why
	case w.bulk == l:
		w.bulk = none
	}
	return c
}

// close lets no further tunnel in.
func (p *presence[L]) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// get is the live tunnel of a computer.
func (p *presence[L]) get(id string, kind tunnel.Kind) (l L, ok bool) {
	var none L
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.at[id]; w != nil {
		if l = w.main; kind == tunnel.Bulk {
			l = w.bulk
		}
	}
	return l, l != none && !over(l)
}

// tunnels are the live tunnels of a computer, or of all for "".
func (p *presence[L]) tunnels(id string) (all []L) {
	var none L
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, w := range p.at {
		if id != "" && id != k {
			continue
		}
		for _, l := range []L{w.main, w.bulk} {
			if l != none {
				all = append(all, l)
			}
		}
	}
	return all
}

// outdate says that a computer was refused for its version.
func (p *presence[L]) outdate(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.at[id]
	if w == nil {
		w = &place[L]{stored: true} // it was not online
		p.at[id] = w
	}
	w.outdated = time.Now()
}

// barred is why a computer that is not online is not let in.
func (p *presence[L]) barred(id string) Barred {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch w := p.at[id]; {
	case w == nil:
	case time.Now().Before(w.quarantined):
		return Doubled
	case !w.outdated.IsZero() && time.Since(w.outdated) < outdatedFor:
		return Outdated
	}
	return ""
}

// forget drops what is known of a computer that was removed and has no tunnel.
func (p *presence[L]) forget(id string) {
	var none L
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.at[id]; w != nil && w.main == none && w.bulk == none {
		delete(p.at, id)
	}
}

// lastSeen is when a computer was last online since the relay started, or zero, and what it said when it went.
func (p *presence[L]) lastSeen(id string) store.Sight {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.at[id]; w != nil {
		return store.Sight{At: w.seen, Away: uint8(w.away)}
	}
	return store.Sight{}
}

// unstored are the times to store: of computers that came or went since they were stored last and, with all, of those
// that are online.
func (p *presence[L]) unstored(all bool) map[string]store.Sight {
	var none L
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	at := map[string]store.Sight{}
	for id, w := range p.at {
		if w.main != none && all {
			w.seen, w.stored = now, false
		}
		if !w.stored {
			at[id] = store.Sight{At: w.seen, Away: uint8(w.away)}
		}
	}
	return at
}

// stored says that the store has at.
func (p *presence[L]) stored(at map[string]store.Sight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, t := range at {
		if w := p.at[id]; w != nil && w.seen.Equal(t.At) {
			w.stored = true
		}
	}
}

// over says whether a tunnel has ended.
func over[L link](l L) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

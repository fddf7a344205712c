// Package turnstile bounds what strangers cost: how many stand at a door before they have signed in, and how long a
// source that misbehaved is kept away.
package turnstile

import (
	"container/list"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits are the places of one door for connections that have not signed in yet.
type Limits struct {
	PerSource int // of one source: an IPv4 /24, an IPv6 /56, or one loopback address
	Trusted   int // of one trusted source, which may be an office full of computers that all dial again at once
	DropFrom  int // from so many on, one is dropped at random when another comes, with 30 % at first
	Max       int // from so many on, always
	Reserve   int // places above Max that only trusted sources get
}

// Standard is what every public door uses.
func Standard() Limits {
	return Limits{PerSource: 20, Trusted: 64, DropFrom: 100, Max: 200, Reserve: 20}
}

// patience is how long a connection that says nothing useful keeps its place when others come.
const patience = 2 * time.Second

// Errors of Enter, and why a place was lost.
var (
	ErrSource  = errors.New("too many connections of this source have not signed in")
	ErrCrowded = errors.New("too many connections have not signed in")
	ErrEvicted = errors.New("made room for others: too many connections have not signed in")
)

// A Turnstile counts those who stand at one door and have not signed in.
type Turnstile struct {
	limits Limits
	chance func() float64 // of being dropped early, in [0, 1)

	mu      sync.Mutex // guards what follows
	inside  int
	sources map[netip.Prefix]int
	fresh   *list.List // of *Place, oldest in front: those that have not settled
}

// New makes the turnstile of one door.
func New(limits Limits) *Turnstile {
	return &Turnstile{limits: limits, chance: rand.Float64, sources: make(map[netip.Prefix]int), fresh: list.New()}
}

// A Place is that of one connection in a Turnstile. Its methods may be called by any goroutine.
type Place struct {
	turnstile *Turnstile
	network   netip.Prefix
	since     time.Time
	evict     func()
	fresh     *list.Element // nil once settled; guarded by the turnstile's mu, like what follows
	left      bool
	evicted   bool
}

// Enter lets a new connection of src in, or says with ErrSource or ErrCrowded why not. Where it is crowded, the oldest
// connection that has not settled for some time is evicted in its favour, by a call of the evict it came with: so a
// flood of silent connections does not keep those out that have something to say. A trusted source gets more places,
// and the reserved ones.
func (t *Turnstile) Enter(src netip.Addr, trusted bool, evict func()) (*Place, error) {
	p := &Place{turnstile: t, network: Network(src), since: time.Now(), evict: evict}
	victim, err := t.enter(p, trusted)
	if victim != nil {
		victim.evict()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (t *Turnstile) enter(p *Place, trusted bool) (victim *Place, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := t.limits.PerSource
	if trusted {
		most = max(most, t.limits.Trusted)
	}
	if t.sources[p.network] >= most {
		return nil, ErrSource
	}
	if t.crowded(trusted) {
		if victim = t.oldest(); victim == nil {
			return nil, ErrCrowded
		}
		victim.evicted = true
		victim.leave()
	}
	t.inside++
	t.sources[p.network]++
	p.fresh = t.fresh.PushBack(p)
	return victim, nil
}

func (t *Turnstile) crowded(trusted bool) bool {
	l := t.limits
	switch {
	case trusted:
		return t.inside >= l.Max+l.Reserve
	case t.inside >= l.Max:
		return true
	case t.inside < l.DropFrom:
		return false
	}
	return t.chance() < 0.3+0.7*float64(t.inside-l.DropFrom)/float64(l.Max-l.DropFrom)
}

// oldest is who has to make room, or nil.
func (t *Turnstile) oldest() *Place {
	if e := t.fresh.Front(); e != nil && time.Since(e.Value.(*Place).since) >= patience {
		return e.Value.(*Place)
	}
	return nil
}

// Settle keeps the place from being evicted: the peer speaks the protocol, and now a person may have to type.
func (p *Place) Settle() {
	t := p.turnstile
	t.mu.Lock()
	defer t.mu.Unlock()
	p.settle()
}

func (p *Place) settle() {
	if p.fresh != nil {
		p.turnstile.fresh.Remove(p.fresh)
		p.fresh = nil
	}
}

// Leave gives the place up: the connection has signed in, or ended. More calls do nothing.
func (p *Place) Leave() {
	t := p.turnstile
	t.mu.Lock()
	defer t.mu.Unlock()
	p.leave()
}

func (p *Place) leave() {
	t := p.turnstile
	if p.left {
		return
	}
	p.left = true
	p.settle()
	t.inside--
	if t.sources[p.network]--; t.sources[p.network] <= 0 {
		delete(t.sources, p.network)
	}
}

// Evicted says whether the place was taken away in favour of others.
func (p *Place) Evicted() bool {
	t := p.turnstile
	t.mu.Lock()
	defer t.mu.Unlock()
	return p.evicted
}

// Inside is how many stand at the door.
func (t *Turnstile) Inside() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside
}

// Network is the group of neighbours that src is counted with. A loopback address has no neighbours: every address
// of 127.0.0.0/8 is this machine, and a program on it that chooses one is no crowd.
func Network(src netip.Addr) netip.Prefix {
	src = src.Unmap().WithZone("")
	bits := 56
	switch {
	case src.IsLoopback():
		bits = src.BitLen()
	case src.Is4():
		bits = 24
	}
	p, _ := src.Prefix(bits) // fails for the zero address only, which gets a group of its own
	return p
}

// Source is the address of conn's other end, or the zero address where it has none.
func Source(conn net.Conn) netip.AddrPort {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

package turnstile

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// MaxSources is how many sources a table remembers; the oldest are forgotten first, so that a flood of addresses
// never shuts the door for good ones.
const MaxSources = 65536

// What an offence costs, as OpenSSH's PerSourcePenalties has it.
const (
	AuthFailed = 5 * time.Second  // a sign-in failed
	UnknownKey = 5 * time.Second  // a computer's key is not known
	NoAuth     = 1 * time.Second  // left without a try
	TimedOut   = 10 * time.Second // did not finish in time
	Broken     = 90 * time.Second // broke the protocol
)

const (
	penaltyFrom = 15 * time.Second // less than this in all is let pass
	penaltyMax  = 10 * time.Minute
	trustFor    = 10 * time.Minute // after a trusted connection ended
)

// Penalties keep sources that misbehaved away for a while. A source is an IPv4 address or an IPv6 /64.
type Penalties struct {
	mu      sync.Mutex // guards what follows
	until   table[penalty]
	trusted table[trust]
}

type penalty struct {
	until  time.Time
	active bool // it once came to penaltyFrom, and holds until it is over
}

type trust struct {
	live int       // trusted connections
	last time.Time // when one began or ended
}

// NewPenalties makes an empty table.
func NewPenalties() *Penalties {
	return &Penalties{until: newTable[penalty](), trusted: newTable[trust]()}
}

// Add makes src wait cost longer. Trusted sources are spared: the offender is some neighbour behind the same address.
func (p *Penalties) Add(src netip.Addr, cost time.Duration) {
	src, now := host(src), time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if cost <= 0 || p.isTrusted(src, now) {
		return
	}
	e := p.until.put(src)
	if !e.until.After(now) {
		*e = penalty{until: now}
	}
	e.until = e.until.Add(cost)
	if limit := now.Add(penaltyMax); e.until.After(limit) {
		e.until = limit
	}
	e.active = e.active || e.until.Sub(now) >= penaltyFrom
}

// Blocked is how long src has still to wait; 0 when it may come in.
func (p *Penalties) Blocked(src netip.Addr) time.Duration {
	src, now := host(src), time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.until.get(src)
	if e == nil || !e.active || p.isTrusted(src, now) {
		return 0
	}
	return max(0, e.until.Sub(now))
}

// Trust spares src from penalties while a connection of it that proved itself lives and some minutes longer. The
// caller calls done, once, when the connection ends.
func (p *Penalties) Trust(src netip.Addr) (done func()) {
	src = host(src)
	count := func(n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		e := p.trusted.put(src)
		e.live, e.last = max(0, e.live+n), time.Now()
	}
	count(1)
	return sync.OnceFunc(func() { count(-1) })
}

// Trusted says whether src is spared.
func (p *Penalties) Trusted(src netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isTrusted(host(src), time.Now())
}

func (p *Penalties) isTrusted(src netip.Addr, now time.Time) bool {
	e := p.trusted.get(src)
	return e != nil && (e.live > 0 || now.Sub(e.last) < trustFor)
}

// host is the address that one machine holds: a whole IPv4 address, the /64 of an IPv6 one.
func host(src netip.Addr) netip.Addr {
	src = src.Unmap().WithZone("")
	if src.Is6() && !src.IsLoopback() {
		p, _ := src.Prefix(64)
		return p.Addr()
	}
	return src
}

// A table holds one V per source, at most MaxSources of them; the one untouched for longest goes first.
type table[V any] struct {
	rows  map[netip.Addr]*list.Element
	order *list.List // of *row[V], newest in front
}

type row[V any] struct {
	src netip.Addr
	v   V
}

func newTable[V any]() table[V] {
	return table[V]{make(map[netip.Addr]*list.Element), list.New()}
}

// get is the row of src, or nil.
func (t *table[V]) get(src netip.Addr) *V {
	if e := t.rows[src]; e != nil {
		return &e.Value.(*row[V]).v
	}
	return nil
}

// put is the row of src, made if needed, now the newest.
func (t *table[V]) put(src netip.Addr) *V {
	if e := t.rows[src]; e != nil {
		t.order.MoveToFront(e)
		return &e.Value.(*row[V]).v
	}
	if t.order.Len() >= MaxSources {
		oldest := t.order.Back()
		delete(t.rows, oldest.Value.(*row[V]).src)
		t.order.Remove(oldest)
	}
	r := &row[V]{src: src}
	t.rows[src] = t.order.PushFront(r)
	return &r.v
}

package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// The failure budget, one for all doors. A source is an IPv4 address or an IPv6 /64; the networks that it is in are
// counted too, so that who has many addresses has not as many guesses.
const (
	freeFailures = 5                // per source, and per account and source, before anything is refused
	freeNet4     = 60               // per IPv4 /24
	freeNet6     = 80               // per IPv6 /56, which one connection may have
	freeSite6    = 100              // per IPv6 /48, which one customer may have
	firstBlock   = 10 * time.Second // of a source or network after its last free failure; doubles with each further one
	longestBlock = 10 * time.Minute
	sourceMemory = time.Hour // after so long without a failure a source or network begins anew

	pairWindow = 15 * time.Minute // five failures at one account from one source: refused until it ends

	accountFree   = 50 // failures at one account in accountWindow; then each try waits
	accountWindow = time.Hour
	slowStep      = time.Second // between two tries at such an account
	longestQueue  = 5 * time.Second

	tableSize  = 65536 // entries of each table, a quarter of it for networks; the oldest goes
	maxWaiting = 256   // tries that wait for the outcome of others
)

// A budgetKey is what a table counts: an address, or a keyed hash of what was typed, which may be a password.
type budgetKey [16]byte

// A budget counts failed sign-ins in memory; what changes is handed back to be stored. It tells the time by one clock
// that does not jump while relayd runs.
type budget struct {
	pepper [32]byte
	start  time.Time

	mu      sync.Mutex
	tables  [families]*table   // by family
	pending map[pendingKey]int // tries under way
	changed chan struct{}      // closed when a try has ended
	waiting int
}

// The families of counters. They are stored under these numbers.
const (
	source4 = iota
	source6
	pairs
	accounts
	net4
	net6
	site6
	families
)

// free is how many failures a counter bears before it refuses; one of accounts never does.
var free = [families]int{source4: freeFailures, source6: freeFailures, pairs: freeFailures, net4: freeNet4, net6: freeNet6, site6: freeSite6}

// A network is a prefix of an address that is counted.
type network struct{ family, bits int }

// What is counted of an address; the first is the source.
var (
	networks4 = []network{{source4, 32}, {net4, 24}}
	networks6 = []network{{source6, 64}, {net6, 56}, {site6, 48}}
)

type pendingKey struct {
	family int
	key    budgetKey
}

func newBudget(pepper [32]byte, size int, stored []store.Failure) *budget {
	b := &budget{pepper: pepper, start: time.Now(), pending: map[pendingKey]int{}, changed: make(chan struct{})}
	for i := range b.tables {
		b.tables[i] = newTable(size)
		if i >= net4 {
			b.tables[i] = newTable(size / 4)
		}
	}
	now := b.now()
	for _, f := range stored {
		if f.Family < 0 || f.Family >= len(b.tables) || len(f.Key) != len(budgetKey{}) || f.Count <= 0 {
			continue
		}
		e, _ := b.tables[f.Family].touch(budgetKey(f.Key))
		e.count = int32(min(f.Count, 1<<20))
		e.since, e.last = min(f.Since.UnixMilli(), now), min(f.Last.UnixMilli(), now) // the clock may have been set back
	}
	return b
}

// now is Unix milliseconds by a clock that does not jump.
func (b *budget) now() int64 { return b.start.UnixMilli() + time.Since(b.start).Milliseconds() }

// A try is one sign-in that was let through to the check of its secret. It ends by exactly one of won, lost and void.
type try struct {
	b    *budget
	keys []pendingKey
}

// keys are the counters that a sign-in at an account, or "" for a code, from a source concerns.
func (b *budget) keys(email string, src netip.Addr) []pendingKey {
	var keys []pendingKey
	src = src.Unmap().WithZone("")
	var all []network
	switch {
	case src.Is4():
		all = networks4
	case src.Is6():
		all = networks6
	}
	for _, n := range all {
		p, _ := src.Prefix(n.bits)
		keys = append(keys, pendingKey{n.family, p.Addr().As16()})
	}
	if email != "" {
		if len(all) > 0 {
			p, _ := src.Prefix(all[0].bits)
			keys = append(keys, pendingKey{pairs, b.hash(p.Addr().String() + " " + email)})
		}
		keys = append(keys, pendingKey{accounts, b.hash(email)})
	}
	return keys
}

func (b *budget) hash(s string) (k budgetKey) {
	mac := hmac.New(sha256.New, b.pepper[:])
	mac.Write([]byte("failures " + s))
	copy(k[:], mac.Sum(nil))
	return k
}

// blocked says for how long a counter refuses, milliseconds.
func (b *budget) blocked(k pendingKey, now int64) int64 {
	e := b.tables[k.family].get(k.key)
	if e == nil || b.stale(k.family, e, now) {
		return 0
	}
	more := int(e.count) - free[k.family]
	switch {
	case more < 0, k.family == accounts:
		return 0
	case k.family == pairs:
		return max(0, e.since+pairWindow.Milliseconds()-now)
	}
	block := longestBlock
	if more < 6 {
		block = firstBlock << more
	}
	return max(0, e.last+min(block, longestBlock).Milliseconds()-now)
}

// stale says whether a counter no longer counts.
func (b *budget) stale(family int, e *entry, now int64) bool {
	switch family {
	case pairs:
		return now-e.since >= pairWindow.Milliseconds()
	case accounts:
		return now-e.since >= accountWindow.Milliseconds()
	}
	return now-e.last >= sourceMemory.Milliseconds()
}

// allow says whether a source is not blocked, without beginning a try.
func (b *budget) allow(email string, src netip.Addr) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusal(b.keys(email, src))
}

func (b *budget) refusal(keys []pendingKey) error {
	now, longest := b.now(), int64(0)
	for _, k := range keys {
		longest = max(longest, b.blocked(k, now))
	}
	if longest == 0 {
		return nil
	}
	end := time.Now().Add(time.Duration(longest)*time.Millisecond + time.Second - 1).Truncate(time.Second)
	return refuse.SlowDown.Of(end.Format("15:04:05 MST"))
}

// admit begins a try. When so many tries are under way that all of them failing would use the budget up, it waits for
// their outcome: a hundred tries at once are not a hundred guesses. The error is refuse.SlowDown, refuse.Busy, or ctx's.
func (b *budget) admit(ctx context.Context, email string, src netip.Addr) (*try, error) {
	keys := b.keys(email, src)
	late := time.NewTimer(longestQueue)
	defer late.Stop()
	b.mu.Lock()
	for {
		if err := b.refusal(keys); err != nil {
			b.mu.Unlock()
			return nil, err
		}
		if !b.crowded(keys) {
			break
		}
		if b.waiting >= maxWaiting {
			b.mu.Unlock()
			return nil, refuse.Busy.Of()
		}
		b.waiting++
		changed := b.changed
		b.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-late.C:
			err = refuse.Busy.Of()
		case <-ctx.Done():
			err = ctx.Err()
		}
		b.mu.Lock()
		b.waiting--
		if err != nil {
			b.mu.Unlock()
			return nil, err
		}
	}
	delay, err := b.slow(keys)
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	for _, k := range keys {
		b.pending[k]++
	}
	b.mu.Unlock()
	t := &try{b, keys}
	if delay > 0 {
		wait := time.NewTimer(delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			t.void()
			return nil, ctx.Err()
		}
	}
	return t, nil
}

// crowded says whether the tries under way could use up what is left of the budget.
func (b *budget) crowded(keys []pendingKey) bool {
	now := b.now()
	for _, k := range keys {
		if k.family == accounts {
			continue
		}
		count := 0
		if e := b.tables[k.family].get(k.key); e != nil && !b.stale(k.family, e, now) {
			count = int(e.count)
		}
		if n := b.pending[k]; n > 0 && n >= free[k.family]-count {
			return true
		}
	}
	return false
}

// slow is how long a try must wait because many failed at its account, whoever made them. Such tries go one at a time;
// when several wait already, it is refuse.Busy. Nobody is locked out by what others do.
func (b *budget) slow(keys []pendingKey) (time.Duration, error) {
	now := b.now()
	for _, k := range keys {
		if k.family != accounts {
			continue
		}
		e := b.tables[accounts].get(k.key)
		if e == nil || b.stale(accounts, e, now) || e.count < accountFree {
			return 0, nil
		}
		next := max(now, e.next) + slowStep.Milliseconds()
		if next-now > longestQueue.Milliseconds() {
			return 0, refuse.Busy.Of()
		}
		e.next = next
		return time.Duration(next-now) * time.Millisecond, nil
	}
	return 0, nil
}

// end takes the try off those under way and wakes those that wait for it.
func (t *try) end() {
	for _, k := range t.keys {
		if t.b.pending[k]--; t.b.pending[k] <= 0 {
			delete(t.b.pending, k)
		}
	}
	close(t.b.changed)
	t.b.changed = make(chan struct{})
}

// void ends a try that came to no answer.
func (t *try) void() {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	t.end()
}

// lost counts a failure and gives the counters to store; evicted ones have Count 0.
func (t *try) lost() []store.Failure {
	b := t.b
	b.mu.Lock()
	defer b.mu.Unlock()
	defer t.end()
	var changed []store.Failure
	now := b.now()
	for _, k := range t.keys {
		e, gone := b.tables[k.family].touch(k.key)
		if gone != nil {
			changed = append(changed, store.Failure{Family: k.family, Key: gone[:]})
		}
		if e.count == 0 || b.stale(k.family, e, now) {
			e.count, e.since, e.next = 0, now, 0
		}
		e.count++
		e.last = now
		changed = append(changed, e.stored(k.family))
	}
	return changed
}

// won clears what this account's failures from this source have cost, and gives the counters to store. Failures of the
// source at other accounts stay: an account of one's own does not buy guesses at others.
func (t *try) won() []store.Failure {
	b := t.b
	b.mu.Lock()
	defer b.mu.Unlock()
	defer t.end()
	own := int32(0)
	for _, k := range t.keys {
		if k.family == pairs {
			if e := b.tables[pairs].get(k.key); e != nil {
				own = e.count
			}
		}
	}
	var changed []store.Failure
	for _, k := range t.keys {
		e := b.tables[k.family].get(k.key)
		if e == nil {
			continue
		}
		less := own
		if k.family == pairs {
			less = e.count
		}
		if less == 0 {
			continue
		}
		if e.count -= less; e.count <= 0 {
			b.tables[k.family].drop(k.key)
			changed = append(changed, store.Failure{Family: k.family, Key: k.key[:]})
		} else {
			changed = append(changed, e.stored(k.family))
		}
	}
	return changed
}

package login

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// Figures of the failure budget.
const (
	FreeFailures = 3                // failures that cost nothing
	FirstLock    = 15 * time.Second // after the last free one; doubles with each further failure
	LongestLock  = 30 * time.Minute
	Forgiven     = 120 * time.Minute // without an attempt takes one failure off
	MaxTargets   = 4096              // counted each by itself; the user names beyond are counted together
)

const maxBudgetFile = 1 << 20

// others is the key of what is counted together. No target's key looks like it.
const others = "others"

// A Budget counts failures per target: the access code is one, each user name that was typed is one, existing or not. It is
// kept in a file, so that a restart gives no new attempts.
//
// Names cost nothing to make up, so no flood of them may push a count out: a failure is forgotten with time, by a success or by
// Unlock, never for want of space. While there is none, names that are new are one target. That holds for the names of users
// as well, as a rule for those alone would tell which names are users'.
type Budget struct {
	path string
	mu   sync.Mutex // guards what follows and the file
	f    budgetFile
	busy map[string]chan struct{} // targets that are being tried; closed at the end of the attempt
}

type budgetFile struct {
	Salt    []byte             `json:"salt"` // names are kept hashed: what is typed as a name may be a password
	Targets map[string]*record `json:"targets"`
}

type record struct {
	Failures int       `json:"failures"`
	Last     time.Time `json:"last"`  // attempt, or when the last failure was forgiven
	Until    time.Time `json:"until"` // end of the lock-out
}

// stamp notes that an attempt failed at that time, and how long the failures so far lock.
func (r *record) stamp(now time.Time) {
	r.Last, r.Until = now, now.Add(lockAfter(r.Failures))
}

// OpenBudget reads the counted failures from the file at path, which need not exist.
func OpenBudget(path string) (*Budget, error) {
	b := &Budget{path: path, busy: make(map[string]chan struct{})}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("counted log-in failures: %w", err)
	default:
		defer f.Close()
		if err := b.f.read(f); err != nil {
			return nil, fmt.Errorf("counted log-in failures in %s: %w; move the file away to start anew", path, err)
		}
	}
	if len(b.f.Salt) == 0 {
		b.f.Salt = make([]byte, 16)
		rand.Read(b.f.Salt)
	}
	if b.f.Targets == nil {
		b.f.Targets = make(map[string]*record)
	}
	return b, nil
}

func (f *budgetFile) read(r io.Reader) error {
	if err := json.NewDecoder(io.LimitReader(r, maxBudgetFile)).Decode(f); err != nil {
		return err
	}
	for key, r := range f.Targets {
		if r == nil || r.Failures < 1 {
			delete(f.Targets, key)
		}
	}
	return nil
}

func (b *Budget) key(target string) string {
	h := sha256.New()
	h.Write(b.f.Salt)
	io.WriteString(h, target)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// settle brings r up to date with now and returns the end of its lock-out, which has passed when it is not after now.
func (r *record) settle(now time.Time) time.Time {
	if r.Last.After(now) { // the clock was set back
		r.stamp(now)
	}
	for r.Failures > 0 && now.Sub(r.Last) >= Forgiven {
		r.Failures--
		r.Last = r.Last.Add(Forgiven)
	}
	return r.Until
}

// lockAfter is how long that many failures lock a target.
func lockAfter(failures int) time.Duration {
	if failures < FreeFailures {
		return 0
	}
	return min(FirstLock<<min(failures-FreeFailures, 10), LongestLock)
}

// LockedError says that a target cannot be tried now.
type LockedError struct {
	Until time.Time
}

func (e *LockedError) Error() string { return "locked until " + e.Until.Format(time.TimeOnly) }

// An Attempt is one try at a target. One of its methods must be called, once.
type Attempt struct {
	b      *Budget
	key    string
	before record // what was counted when it began
	done   chan struct{}
}

// Begin starts an attempt at a target, after the one that is under way. The attempt is counted as a failure, on disk, before it is
// made; so whatever happens to hostd meanwhile, it has been counted. The error is a LockedError, or says that the count
// could not be written, in which case nobody may be let in.
func (b *Budget) Begin(ctx context.Context, target string) (*Attempt, error) {
	key := ""
	for {
		b.mu.Lock()
		key = b.place(target, time.Now())
		other := b.busy[key]
		if other == nil {
			break
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer b.mu.Unlock()
	now := time.Now()
	r := b.f.Targets[key]
	if r == nil {
		r = &record{Last: now}
	}
	if until := r.settle(now); until.After(now) {
		return nil, &LockedError{until}
	}
	before := *r
	r.Failures++
	r.stamp(now)
	b.f.Targets[key] = r
	if err := b.write(); err != nil {
		if *r = before; r.Failures == 0 {
			delete(b.f.Targets, key)
		}
		return nil, fmt.Errorf("count a log-in attempt: %w", err)
	}
	a := &Attempt{b, key, before, make(chan struct{})}
	b.busy[key] = a.done
	return a, nil
}

// place is the key under which a target is counted: its own, or that of the others where there is no space for one more. The
// access code always has its own.
func (b *Budget) place(target string, now time.Time) string {
	key := b.key(target)
	if b.f.Targets[key] != nil || target == codeTarget || len(b.f.Targets) < MaxTargets {
		return key
	}
	for k, r := range b.f.Targets {
		if r.settle(now); r.Failures == 0 {
			delete(b.f.Targets, k)
		}
	}
	if len(b.f.Targets) < MaxTargets {
		return key
	}
	return others
}

func (b *Budget) write() error {
	data, err := json.Marshal(&b.f)
	if err != nil {
		return err
	}
	return WriteFile(b.path, data)
}

func (a *Attempt) end() {
	delete(a.b.busy, a.key)
	close(a.done)
}

// Fail ends an attempt that was wrong. It tells how many failures are still free, and when the next attempt may be made.
func (a *Attempt) Fail() (left int, until time.Time) {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	defer a.end()
	r := b.f.Targets[a.key]
	if r == nil { // unlocked meanwhile
		return FreeFailures, time.Time{}
	}
	r.stamp(time.Now())
	if r.Failures >= FreeFailures {
		until = r.Until
	}
	return max(FreeFailures-r.Failures, 0), until
}

// Succeed ends an attempt whose secret was right: its target's failures are forgotten. Those of names that are counted together
// are not, as most are another's.
func (a *Attempt) Succeed() error {
	b := a.b
	b.mu.Lock()
	defer b.mu.Unlock()
	defer a.end()
	if r := b.f.Targets[a.key]; r != nil && a.key == others && a.before.Failures > 0 {
		*r = a.before
	} else {
		delete(b.f.Targets, a.key)
	}
	return b.write()
}

// Unlock forgets the failures of a target, or of all when it is empty, and says of how many.
func (b *Budget) Unlock(target string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.f.Targets)
	if target == "" {
		clear(b.f.Targets)
	} else {
		delete(b.f.Targets, b.place(target, time.Now()))
	}
	return n - len(b.f.Targets), b.write()
}

// Locked lists when the lock-outs end that hold now, the last first.
func (b *Budget) Locked() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ends []time.Time
	now := time.Now()
	for _, r := range b.f.Targets {
		if until := r.settle(now); until.After(now) {
			ends = append(ends, until)
		}
	}
	slices.SortFunc(ends, func(a, b time.Time) int { return b.Compare(a) })
	return ends
}

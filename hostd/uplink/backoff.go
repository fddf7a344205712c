package uplink

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
)

// Times between attempts. Each is drawn from zero to its bound, so that a thousand computers do not come back at once.
const (
	firstWait = 100 * time.Millisecond
	growth    = 1.5              // after each failure
	soonWait  = 2 * time.Second  // the longest bound while the tunnel was up within the last minute
	lateWait  = 30 * time.Second // the longest bound after it
	soon      = time.Minute
	steady    = 10 * time.Second // a tunnel that was up for less has not ended the pauses: something ends it again and again
	lookAgain = time.Second      // at the network during a wait
)

// A backoff chooses when to dial again. It is used by one goroutine.
type backoff struct {
	bound time.Duration
	since time.Time // when the tunnel was lost, or the start
}

func newBackoff(now time.Time) *backoff { return &backoff{bound: firstWait, since: now} }

// lost notes that a tunnel that was up has ended.
func (b *backoff) lost(now time.Time) { b.bound, b.since = firstWait, now }

// next is the bound of the next wait.
func (b *backoff) next(now time.Time, err error) time.Duration {
	if refused(err) {
		return lateWait
	}
	most := soonWait
	if now.Sub(b.since) >= soon {
		most = lateWait
	}
	d := min(b.bound, most)
	b.bound = min(time.Duration(float64(d)*growth), most)
	return d
}

// refused says that the relay answered and sent this computer away: dialling soon does not help.
func refused(err error) bool {
	var end *tunnel.EndError
	if errors.As(err, &end) {
		return end.Reason == tunnel.Replaced || end.Reason == tunnel.Removed
	}
	return errors.Is(err, tunnel.ErrNotAccepted)
}

// sleep waits before the next attempt, less long when the network changes. It reports false when ctx has ended.
func (b *backoff) sleep(ctx context.Context, err error, network func() string) bool {
	over := time.After(rand.N(b.next(time.Now(), err)) + 1)
	if refused(err) {
		network = func() string { return "" }
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	before := network()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-look.C:
		}
		if network() != before {
			b.lost(time.Now())
			over = time.After(rand.N(firstWait) + 1)
			before = network()
		}
	}
}

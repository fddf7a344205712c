package tunnel

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A pace chooses how much is sent at a time. What comes up meanwhile waits for the piece in front of it, so a piece is
// as large as the path takes in a millisecond or two.
type pace struct{ size atomic.Int32 }

// Times of a piece.
const (
	quickPiece = 500 * time.Microsecond
	slowPiece  = 2 * time.Millisecond
)

// piece is how many bytes to send.
func (p *pace) piece() int { return max(smallPiece, int(p.size.Load())) }

// took learns how long a piece of n bytes needed, and says whether the size has changed.
func (p *pace) took(n int, d time.Duration) bool {
	size := p.piece()
	next := size
	switch {
	case d > slowPiece:
		next = (size+frameHeader)/2 - frameHeader
	case d < quickPiece && n == size:
		next = (size+frameHeader)*2 - frameHeader
	}
	if next = min(max(next, smallPiece), largePiece); next == size {
		return false
	}
	p.size.Store(int32(next))
	return true
}

// fast says whether pieces are as large as they get.
func (p *pace) fast() bool { return p.piece() == largePiece }

// A limiter makes callers wait so that no more than rate happen a second.
type limiter struct {
	mu sync.Mutex
	b  bucket
}

func newLimiter(rate int, now time.Time) *limiter {
	b := newBucket(rate, now)
	b.rate *= 0.9 // the other side's clock and the path may squeeze them together
	b.burst *= 0.9
	b.have = b.burst
	return &limiter{b: b}
}

func (l *limiter) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		ok, rate := l.b.take(time.Now()), l.b.rate
		l.mu.Unlock()
		if ok {
			return nil
		}
		t := time.NewTimer(time.Duration(float64(time.Second) / rate))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

package audit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Paces bound how fast each account does something of which records are kept for good. Their methods may be called by any goroutine.
type Paces struct {
	every time.Duration
	burst int

	mu sync.Mutex // guards what follows
	of map[int64]*rate.Limiter
}

// NewPaces lets each account do it once in each interval, and burst times at once after silence.
func NewPaces(interval time.Duration, burst int) *Paces {
	return &Paces{every: interval, burst: burst, of: map[int64]*rate.Limiter{}}
}

// Pass says whether an account may do it now, which counts n times.
func (p *Paces) Pass(account int64, n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[account]
	if l == nil {
		l = rate.NewLimiter(rate.Every(p.every), p.burst)
		p.of[account] = l
	}
	return l.AllowN(time.Now(), n)
}

// Forget begins anew for an account.
func (p *Paces) Forget(account int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, account)
}

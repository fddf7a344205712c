package audit

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Limit bounds how many records of one kind somebody can cause, so that nobody fills the disk with what costs them
// nothing. What is left out is counted, and the next record says so. Its methods may be called by any goroutine.
type Limit struct {
	mu   sync.Mutex // guards what follows
	rate *rate.Limiter
	left int // out since the last record
}

// NewLimit lets one record pass in each interval, and burst at once after silence.
func NewLimit(interval time.Duration, burst int) *Limit {
	return &Limit{rate: rate.NewLimiter(rate.Every(interval), burst)}
}

// Pass says whether e is to be written, and notes in its Detail how many before it were not.
func (l *Limit) Pass(e *Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.rate.Allow() {
		l.left++
		return false
	}
	if l.left > 0 {
		e.Detail += fmt.Sprintf(" (%d before it not recorded)", l.left)
		l.left = 0
	}
	return true
}

package web

import (
	"sync"
	"time"
)

// slots count what each account has open at once.
type slots struct {
	mu   sync.Mutex // guards what follows
	open map[int64]int
}

// enter is false when the account has most open already; else leave must follow.
func (s *slots) enter(account int64, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[int64]int{}
	}
	if s.open[account] >= most {
		return false
	}
	s.open[account]++
	return true
}

func (s *slots) leave(account int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[account]--; s.open[account] == 0 {
		delete(s.open, account)
	}
}

func (s *slots) has(account int64) bool { return s.count(account) > 0 }

func (s *slots) count(account int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[account]
}

// Each change is recorded: so many may an account make, lest it fill the disk.
const (
	changeEvery = 5 * time.Second
	changeBurst = 40
)

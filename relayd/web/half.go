package web

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/helmline/helmline/relayd/account"
)

// Limits of sign-ins that have got as far as the password.
const (
	halfTime  = 5 * time.Minute
	maxHalves = 4096 // the oldest makes room
)

// halves are sign-ins with a right password that wait for the second factor. Each has a secret, which the browser's form holds.
type halves struct {
	mu   sync.Mutex // guards what follows
	live map[string]waiting
}

// A waiting is one of them.
type waiting struct {
	*account.Half
	since time.Time
}

// add gives the secret.
func (s *halves) add(h *account.Half) string {
	secret, now := rand.Text()+rand.Text(), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[string]waiting{}
	}
	oldest := ""
	for k, w := range s.live {
		if now.Sub(w.since) > halfTime {
			delete(s.live, k)
		} else if oldest == "" || w.since.Before(s.live[oldest].since) {
			oldest = k
		}
	}
	if len(s.live) >= maxHalves {
		delete(s.live, oldest)
	}
	s.live[secret] = waiting{h, now}
	return secret
}

// get is nil when there is none of that secret, or no more.
func (s *halves) get(secret string) *account.Half {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.live[secret]
	if !ok || time.Since(w.since) > halfTime {
		return nil
	}
	return w.Half
}

// remove forgets one that is complete.
func (s *halves) remove(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, secret)
}

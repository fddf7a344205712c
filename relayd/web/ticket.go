package web

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
)

// A ticket lets one WebSocket open one session: a WebSocket's request alone does not show that the page has asked for it.
type ticket struct {
	person   *Person
	computer string // as the page names it
	role     tunnel.Role
	until    time.Time
}

const (
	ticketTime = 30 * time.Second
	maxTickets = 32 // of one visit
)

// tickets are those that are not spent, by their SHA-256.
type tickets struct {
	mu   sync.Mutex // guards what follows
	live map[[sha256.Size]byte]ticket
}

// issue makes a ticket; false: the person has too many.
func (s *tickets) issue(p *Person, computer string, role tunnel.Role) (secret string, ok bool) {
	secret = rand.Text()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[[sha256.Size]byte]ticket{}
	}
	count := 0
	for k, t := range s.live {
		if now.After(t.until) {
			delete(s.live, k)
		} else if t.person.Gone == p.Gone {
			count++
		}
	}
	if count >= maxTickets {
		return "", false
	}
	s.live[sha256.Sum256([]byte(secret))] = ticket{p, computer, role, now.Add(ticketTime)}
	return secret, true
}

// spend gives the role of a ticket that is for just this; false: there is none. Whatever is tried cannot be tried again.
func (s *tickets) spend(secret string, p *Person, computer string) (tunnel.Role, bool) {
	k := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.live[k]
	delete(s.live, k)
	return t.role, ok && t.person.Gone == p.Gone && t.computer == computer && !time.Now().After(t.until)
}

package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
)

// cookieName is of a cookie that only this very host gets, by TLS.
const cookieName = "__Host-helmline"

// How long a person stays signed in.
const (
	idleTime  = 12 * time.Hour     // without a request
	visitTime = 7 * 24 * time.Hour // at most
	maxVisits = 32                 // of one account; the oldest ends first
)

// A visit is one person signed in with one browser.
type visit struct {
	Person
	end   context.CancelFunc
	id    string // as the account's page names it; the cookie cannot be made from it
	agent string // what the browser says of itself
	from  string // address of the sign-in
	begun time.Time
	seen  time.Time // guarded by the mutex of visits
}

func (v *visit) over(now time.Time) bool {
	return now.Sub(v.seen) > idleTime || now.Sub(v.begun) > visitTime || v.Gone.Err() != nil
}

// visits are those that exist, by the SHA-256 of their cookie. They do not survive a restart.
type visits struct {
	mu   sync.Mutex // guards what follows
	live map[[sha256.Size]byte]*visit
}

// begin makes a visit and gives its cookie's value.
func (s *visits) begin(a *account.Account, r *http.Request) string {
	secret := rand.Text() + rand.Text()
	now := time.Now()
	v := &visit{Person: Person{Account: a}, id: rand.Text()[:16], agent: refuse.Printable(r.UserAgent(), 200), from: source(r), begun: now, seen: now}
	v.Gone, v.end = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = map[[sha256.Size]byte]*visit{}
	}
	count := 0
	var oldest [sha256.Size]byte
	for k, o := range s.live {
		switch {
		case o.over(now):
			s.drop(k)
		case o.Account.ID == a.ID:
			if count++; count == 1 || o.begun.Before(s.live[oldest].begun) {
				oldest = k
			}
		}
	}
	if count >= maxVisits {
		s.drop(oldest)
	}
	s.live[sha256.Sum256([]byte(secret))] = v
	return secret
}

// drop ends a visit, and with it what is open in it. The mutex is held.
func (s *visits) drop(k [sha256.Size]byte) {
	s.live[k].end()
	delete(s.live, k)
}

// person is who sent a request.
func (s *visits) person(r *http.Request) (*Person, bool) {
	k, ok := visitKey(r)
	if !ok {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, now := s.live[k], time.Now()
	if v == nil {
		return nil, false
	}
	if v.over(now) {
		s.drop(k)
		return nil, false
	}
	v.seen = now
	return &v.Person, true
}

// of are the visits of a person's account, the newest first.
func (s *visits) of(p *Person) []visited {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []visited
	for _, v := range s.live {
		if v.Account.ID == p.Account.ID && !v.over(time.Now()) {
			all = append(all, visited{v.id, v.agent, v.from, v.begun, v.seen, &v.Person == p})
		}
	}
	slices.SortFunc(all, func(x, y visited) int { return y.Begun.Compare(x.Begun) })
	return all
}

// endNamed ends a visit of an account, by its id.
func (s *visits) endNamed(account int64, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.live {
		if v.Account.ID == account && v.id == id {
			s.drop(k)
		}
	}
}

// endOne signs out who sent a request.
func (s *visits) endOne(r *http.Request) {
	k, ok := visitKey(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok && s.live[k] != nil {
		s.drop(k)
	}
}

// endAccount signs an account out everywhere.
func (s *visits) endAccount(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.live {
		if v.Account.ID == id {
			s.drop(k)
		}
	}
}

func visitKey(r *http.Request) (k [sha256.Size]byte, ok bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return k, false
	}
	return sha256.Sum256([]byte(c.Value)), true
}

// setCookie gives the browser its secret, or with none takes it away.
func setCookie(w http.ResponseWriter, secret string) {
	c := &http.Cookie{Name: cookieName, Value: secret, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if secret == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

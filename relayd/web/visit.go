package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/store"
)

// cookieName is of a cookie that only this very host gets, by TLS.
const cookieName = "__Host-helmline"

// How long a person stays signed in.
const (
	idleTime  = 12 * time.Hour     // without a request, or anything done in a session
	visitTime = 7 * 24 * time.Hour // at most
	keepEvery = 10 * time.Minute   // of when it was seen last
	maxVisits = 32                 // of one account; the oldest ends first
)

// A visit is one person signed in with one browser.
type visit struct {
	end   context.CancelCauseFunc
	id    string // as the account's page names it; the cookie cannot be made from it
	agent string // what the browser says of itself
	from  string // address of the sign-in
	begun time.Time

	// Guarded by the mutex of visits.
	Person                   // Proved changes
	key    [sha256.Size]byte // of live; it changes
	seen   time.Time
	kept   time.Time   // the seen that is kept
	late   *time.Timer // for expire
}

// left is how long a visit goes on if nothing is done in it, and why it ends then.
func (v *visit) left(now time.Time) (time.Duration, *refuse.Refusal) {
	idle, age := idleTime-now.Sub(v.seen), visitTime-now.Sub(v.begun)
	if age < idle {
		return age, refuse.SignedOut.Of("after 7 days")
	}
	return idle, refuse.SignedOut.Of("after 12 hours in which nothing was done")
}

// saw notes that something was done in a visit; it says whether that is to be kept.
func (v *visit) saw(now time.Time) (keep bool) {
	v.seen = now
	if keep = now.Sub(v.kept) > keepEvery; keep {
		v.kept = now
	}
	return keep
}

// Kept is where visits survive a restart of relayd.
type Kept interface {
	AddVisit(ctx context.Context, v store.Visit) error
	Visits(ctx context.Context, begun, seen time.Time) ([]store.Visit, error)
	SeenVisit(ctx context.Context, secret [32]byte, at time.Time) error
	// RenewVisit gives a visit another secret; false: there is none.
	RenewVisit(ctx context.Context, from, to [32]byte, proved time.Time) (bool, error)
	EndVisits(ctx context.Context, secrets [][32]byte) error
}

// visits are those that exist, by the SHA-256 of their cookie.
type visits struct {
	log  *slog.Logger
	kept Kept

	mu    sync.Mutex // guards what follows
	live  map[[sha256.Size]byte]*visit
	ended [][sha256.Size]byte // to be removed from kept
}

// resume takes up the visits of before a restart that still hold.
func (s *visits) resume(ctx context.Context, people People) error {
	s.live = map[[sha256.Size]byte]*visit{}
	now := time.Now()
	all, err := s.kept.Visits(ctx, now.Add(-visitTime), now.Add(-idleTime))
	if err != nil {
		return err
	}
	for _, k := range all {
		a, err := people.Again(ctx, k.Account, k.Generation)
		switch {
		case refuse.SignIn.Is(err):
			s.ended = append(s.ended, k.Secret)
		case err != nil:
			return err
		default:
			s.add(a, k)
		}
	}
	return nil
}

// begin makes a visit of an account that has proven at that time who it is, and gives its cookie's value. The error is
// refuse.StorageOut.
func (s *visits) begin(a *account.Account, r *http.Request, proved time.Time) (string, error) {
	secret := rand.Text() + rand.Text()
	now := time.Now()
	k := store.Visit{
		Secret: sha256.Sum256([]byte(secret)), Account: a.ID, Generation: a.Generation(), Name: rand.Text()[:16],
		Agent: refuse.Printable(r.UserAgent(), 200), Source: source(r), Begun: now, Seen: now, Proved: proved,
	}
	if err := s.kept.AddVisit(r.Context(), k); err != nil {
		return "", err
	}
	s.add(a, k)
	s.forget()
	return secret, nil
}

// renew gives the visit of who sent a request another secret, since they have proven just now who they are; what is open in it
// stays. The error is refuse.SignIn when it is over, or StorageOut.
func (s *visits) renew(r *http.Request) (string, error) {
	secret, now := rand.Text()+rand.Text(), time.Now()
	from, _ := visitKey(r)
	to := sha256.Sum256([]byte(secret))
	ok, err := s.kept.RenewVisit(r.Context(), from, to, now)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.live[from]
	if v == nil || !ok {
		s.ended = append(s.ended, to)
		return "", refuse.SignIn.Of()
	}
	v.Proved, v.key = now, to
	s.live[to] = v
	delete(s.live, from)
	return secret, nil
}

// add lists a visit. The account's oldest makes room where it has too many.
func (s *visits) add(a *account.Account, k store.Visit) {
	v := &visit{
		Person: Person{Account: a, Proved: k.Proved}, key: k.Secret,
		id: k.Name, agent: k.Agent, from: k.Source, begun: k.Begun, seen: k.Seen, kept: k.Seen,
	}
	v.Gone, v.end = context.WithCancelCause(context.Background())
	v.Active = func() { s.active(v) }
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	var oldest *visit
	for _, o := range s.live {
		if o.Account.ID == a.ID {
			if count++; count == 1 || o.begun.Before(oldest.begun) {
				oldest = o
			}
		}
	}
	if count >= maxVisits {
		s.drop(oldest, refuse.SignedOut.Of("by too many sign-ins elsewhere"))
	}
	left, _ := v.left(time.Now())
	v.late = time.AfterFunc(left, func() { s.expire(v) })
	s.live[v.key] = v
}

// expire ends a visit whose time is over, or looks at it again when it would be.
func (s *visits) expire(v *visit) {
	s.mu.Lock()
	left, why := v.left(time.Now())
	switch {
	case s.live[v.key] != v:
	case left > 0:
		v.late.Reset(left)
	default:
		s.drop(v, why)
	}
	s.mu.Unlock()
	s.forget()
}

// active notes that something is done in a visit without a request.
func (s *visits) active(v *visit) {
	s.mu.Lock()
	k, keep := v.key, s.live[v.key] == v && v.saw(time.Now())
	s.mu.Unlock()
	if keep {
		s.keep(context.Background(), k)
	}
}

// keep records that a visit is seen now.
func (s *visits) keep(ctx context.Context, k [sha256.Size]byte) {
	if err := s.kept.SeenVisit(ctx, k, time.Now()); err != nil {
		s.log.Error("visit not recorded as seen", "err", err)
	}
}

// forget removes those that have ended from where they are kept.
func (s *visits) forget() {
	s.mu.Lock()
	ended := s.ended
	s.ended = nil
	s.mu.Unlock()
	if err := s.kept.EndVisits(context.Background(), ended); err != nil {
		s.log.Error("ended visits not removed", "err", err)
		s.mu.Lock()
		s.ended = append(s.ended, ended...)
		s.mu.Unlock()
	}
}

// drop ends a visit, and with it what is open in it, which is told why. The mutex is held.
func (s *visits) drop(v *visit, why *refuse.Refusal) {
	v.late.Stop()
	v.end(why)
	delete(s.live, v.key)
	s.ended = append(s.ended, v.key)
}

// person is who sent a request.
func (s *visits) person(r *http.Request) (*Person, bool) {
	k, ok := visitKey(r)
	if !ok {
		return nil, false
	}
	p, keep := s.find(k, r.URL.Path != eventsPath)
	if keep {
		s.keep(r.Context(), k)
	}
	return p, p != nil
}

// find is whose visit it is, or nil. With seen something is done in it; keep says that this is to be kept.
func (s *visits) find(k [sha256.Size]byte, seen bool) (p *Person, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.live[k]
	if v == nil {
		return nil, false
	}
	if left, why := v.left(time.Now()); left <= 0 {
		s.drop(v, why)
		return nil, false
	}
	is := v.Person
	return &is, seen && v.saw(time.Now())
}

// of are the visits of a person's account, the newest first.
func (s *visits) of(p *Person) []visited {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []visited
	for _, v := range s.live {
		if v.Account.ID == p.Account.ID {
			all = append(all, visited{v.id, v.agent, v.from, v.begun, v.seen, v.Gone == p.Gone})
		}
	}
	slices.SortFunc(all, func(x, y visited) int { return y.Begun.Compare(x.Begun) })
	return all
}

// seenSince is whether something was done since then in a visit of an account.
func (s *visits) seenSince(account int64, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.Account.ID == account && v.seen.After(t) {
			return true
		}
	}
	return false
}

// endNamed ends a visit of an account, by its id.
func (s *visits) endNamed(account int64, id string) error {
	defer s.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.Account.ID == account && v.id == id {
			s.drop(v, refuse.SignedOut.Of("from another browser"))
			return nil
		}
	}
	return errors.New("nobody is signed in there any more")
}

// endOthers ends the visits of a person's account but their own: they were begun with less than is asked for now.
func (s *visits) endOthers(p *Person) {
	defer s.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.Account.ID == p.Account.ID && v.Gone != p.Gone {
			s.drop(v, refuse.SignedOut.Of("since the account has got a second factor"))
		}
	}
}

// endOne signs out who sent a request.
func (s *visits) endOne(r *http.Request) {
	k, ok := visitKey(r)
	defer s.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.live[k]; ok && v != nil {
		s.drop(v, refuse.SignedOut.Of("at your wish"))
	}
}

// endAccount signs an account out everywhere.
func (s *visits) endAccount(id int64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.live {
		if v.Account.ID == id {
			s.drop(v, refuse.Ended.Of(why))
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

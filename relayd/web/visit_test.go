package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/store"
)

// keptVisits are visits that are kept nowhere.
type keptVisits struct{ seen, ended atomic.Int32 }

func (*keptVisits) AddVisit(context.Context, store.Visit) error                     { return nil }
func (*keptVisits) Visits(_ context.Context, _, _ time.Time) ([]store.Visit, error) { return nil, nil }
func (k *keptVisits) SeenVisit(context.Context, [32]byte, time.Time) error          { k.seen.Add(1); return nil }
func (k *keptVisits) EndVisits(_ context.Context, all [][32]byte) error {
	k.ended.Add(int32(len(all)))
	return nil
}
func (*keptVisits) RenewVisit(context.Context, [32]byte, [32]byte, time.Time) (bool, error) {
	return true, nil
}

// arrive signs somebody in. The request is one of theirs from then on.
func arrive(t *testing.T) (*visits, *keptVisits, *http.Request, *Person) {
	t.Helper()
	kept := &keptVisits{}
	s := &visits{kept: kept}
	if err := s.resume(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/computers", nil)
	secret, err := s.begin(&account.Account{ID: 1}, r, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: cookieName, Value: secret})
	p, ok := s.person(r)
	if !ok {
		t.Fatal("nobody has signed in")
	}
	return s, kept, r, p
}

// A visit ends by itself, to the second, and says so to what is open in it: 12 hours after the last thing that was done in it, in a session
// too, and after 7 days. That a page asks for what has changed is nothing done.
func TestVisitsEnd(t *testing.T) {
	request := func(s *visits, r *http.Request, _ *Person) { s.person(r) }
	events := httptest.NewRequest("GET", eventsPath, nil)
	for _, c := range []struct {
		name string
		do   func(s *visits, r *http.Request, p *Person) // every hour
		ends time.Duration
		why  string
	}{
		{"nothing is done", func(*visits, *http.Request, *Person) {}, idleTime, "after 12 hours in which nothing was done"},
		{"a page asks by itself", func(s *visits, r *http.Request, _ *Person) {
			events.Header = r.Header
			s.person(events)
		}, idleTime, "after 12 hours in which nothing was done"},
		{"requests", request, visitTime, "after 7 days"},
		{"somebody types in a session", func(_ *visits, _ *http.Request, p *Person) {
			if err := (&words{active: p.Active}).hear([]byte(`{"active": true}`)); err != nil {
				t.Error(err)
			}
		}, visitTime, "after 7 days"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, kept, r, p := arrive(t)
				begun := time.Now()
				for p.Gone.Err() == nil && time.Since(begun) < 2*visitTime {
					select {
					case <-time.After(time.Hour):
						c.do(s, r, p)
					case <-p.Gone.Done():
					}
				}
				if got := time.Since(begun); got != c.ends || context.Cause(p.Gone).Error() != refuse.SignedOut.Text(c.why) {
					t.Errorf("ended after %v, for %v", got, context.Cause(p.Gone))
				}
				if _, ok := s.person(r); ok {
					t.Error("and yet still signed in")
				}
				synctest.Wait()
				if seen, ended := kept.seen.Load(), kept.ended.Load(); ended != 1 || (seen > 0) != (c.ends == visitTime) {
					t.Errorf("kept as seen %d times, removed %d times", seen, ended)
				}
			})
		})
	}
}

// A visit that has got another secret is the same: what is open in it goes on, keeps it alive, and ends with it.
func TestRenewedVisit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, r, before := arrive(t)
		secret, err := s.renew(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.person(r); ok {
			t.Error("the secret of before is good")
		}
		time.Sleep(idleTime - time.Hour)
		before.Active()
		time.Sleep(2 * time.Hour)
		r.Header.Del("Cookie")
		r.AddCookie(&http.Cookie{Name: cookieName, Value: secret})
		p, ok := s.person(r)
		if !ok || p.Gone != before.Gone || !p.Proved.After(before.Proved) {
			t.Fatalf("%+v", p)
		}
		s.endOne(r)
		if why := context.Cause(before.Gone); why.Error() != refuse.SignedOut.Text("at your wish") {
			t.Errorf("ended for %v", why)
		}
	})
}

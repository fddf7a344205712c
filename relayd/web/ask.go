package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
)

// lookTime is how long somebody may be looking at a page that is not told what changes.
const lookTime = 2 * time.Minute

// attended is whether somebody may be looking at a page of an account.
func (s *Server) attended(account int64) bool {
	return s.watches.has(account) || s.visits.seenSince(account, time.Now().Add(-lookTime))
}

// answerAsk serves POST /account/asks: a viewer's sign-in that waits goes on, or is refused. Only a browser that has passed the
// second factor itself approves one.
func (s *Server) answerAsk(w http.ResponseWriter, r *http.Request, p *Person) {
	approve := r.PostFormValue("answer") == "approve"
	if approve {
		f, err := s.People.Factors(r.Context(), p.Account)
		if err != nil {
			s.stored(w, p, err)
			return
		}
		if p.Proved.IsZero() || p.Proved.Before(f.Since()) {
			http.Redirect(w, r, "/account/confirm?next="+url.QueryEscape(home), http.StatusSeeOther)
			return
		}
	}
	e := audit.Event{Kind: "account.refuse", Account: p.Account.Email}
	if approve {
		e.Kind = "account.approve"
	}
	id := r.PostFormValue("id")
	for _, a := range s.People.Asks(p.Account) {
		if a.ID == id {
			e.Detail = "a viewer from " + refuse.Printable(a.Source, 60)
		}
	}
	if err := s.alter(r, p, e, func(context.Context) error { return s.People.Decide(p.Account, id, approve) }); err != nil {
		s.mine(w, r, http.StatusBadRequest, p, mine{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, home, http.StatusSeeOther)
}

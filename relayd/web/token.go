package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
)

// addToken serves POST /account/tokens. The token is shown by the answer, and never again.
func (s *Server) addToken(w http.ResponseWriter, r *http.Request, p *Person) {
	days, _ := strconv.Atoi(r.PostFormValue("days")) // NewToken says what is wrong with 0
	days = min(max(days, 0), 1000)
	t := account.Token{
		Name: r.PostFormValue("name"), Full: r.PostFormValue("may") == "all", Admin: r.PostFormValue("admin") != "",
		Expires: time.Now().Add(time.Duration(days) * 24 * time.Hour),
	}
	var m mine
	e := audit.Event{Kind: "account.token.add", Account: p.Account.Email, Detail: refuse.Printable(t.Name, account.MaxTokenName) + ", " + scope(t)}
	err := s.alter(r, p, e, func(ctx context.Context) (err error) {
		m.Token, err = s.People.NewToken(ctx, p.Account, t)
		return err
	})
	status := http.StatusOK
	if err != nil {
		m, status = mine{Problem: err.Error()}, http.StatusBadRequest
	}
	s.mine(w, r, status, p, m)
}

// scope is what a token may.
func scope(t account.Token) string {
	text := "reads"
	if t.Full {
		text = "reads and changes"
	}
	if t.Admin {
		text += ", as administrator"
	}
	return text
}

// removeToken is the form that removes a token.
func (s *Server) removeToken(r *http.Request, p *Person) error {
	e := audit.Event{Kind: "account.token.remove", Account: p.Account.Email, Detail: refuse.Printable(r.PostFormValue("name"), account.MaxTokenName)}
	return s.alter(r, p, e, func(ctx context.Context) error { return s.People.RemoveToken(ctx, p.Account, r.PostFormValue("id")) })
}

package web

import (
	"context"
	"net/http"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
)

// newPasskey serves POST /account/passkeys/new: what the browser needs to make a passkey.
func (s *Server) newPasskey(w http.ResponseWriter, r *http.Request, p *Person) {
	options, err := s.People.NewPasskey(r.Context(), p.Account, s.Name, r.Host, viewer(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, options)
}

// addPasskey serves POST /account/passkeys.
func (s *Server) addPasskey(w http.ResponseWriter, r *http.Request, p *Person) {
	name := refuse.Printable(r.PostFormValue("name"), 60)
	var codes []string
	err := s.alter(r, p, audit.Event{Kind: "account.passkey.add", Account: p.Account.Email, Detail: name}, func(ctx context.Context) (err error) {
		codes, err = s.People.AddPasskey(ctx, p.Account, name, []byte(r.PostFormValue("credential")), s.Name, r.Host)
		return err
	})
	switch {
	case err != nil:
		s.mine(w, r, http.StatusForbidden, p, mine{Problem: err.Error()})
	case codes != nil:
		s.visits.endOthers(p)
		s.look.show(w, r, http.StatusOK, "recovery.html", printed{p.Account, codes})
	default:
		http.Redirect(w, r, "/account", http.StatusSeeOther)
	}
}

// removePasskey serves POST /account/passkeys/remove. Like another password it ends whatever is open in the account's name.
func (s *Server) removePasskey(w http.ResponseWriter, r *http.Request, p *Person) {
	e := audit.Event{Kind: "account.passkey.remove", Account: p.Account.Email, Detail: refuse.Printable(r.PostFormValue("name"), 60)}
	err := s.alter(r, p, e, func(ctx context.Context) error {
		return s.People.RemovePasskey(ctx, p.Account, r.PostFormValue("id"))
	})
	if err != nil {
		s.mine(w, r, http.StatusBadRequest, p, mine{Problem: err.Error()})
		return
	}
	s.again(w, r, p, "/account")
}

// askPasskey serves POST /signin/passkey/ask: what the browser needs to sign in by a passkey, whoever it is.
func (s *Server) askPasskey(w http.ResponseWriter, r *http.Request) {
	options, err := s.People.AskPasskey(s.Name, r.Host, viewer(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, options)
}

// passkey serves POST /signin/passkey: in place of the password and the second factor, or of the latter only.
func (s *Server) passkey(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	f := signInForm{Next: within(r.PostFormValue("next"))}
	a, err := s.People.PasskeySignIn(r.Context(), []byte(r.PostFormValue("credential")), s.Name, r.Host, viewer(r), Door)
	if err != nil {
		s.refuseForm(w, r, "email.html", f, err)
		return
	}
	s.enter(w, r, a, f, time.Now())
}

// provePasskey serves POST /account/confirm/passkey: the proof of who is signed in, by a passkey.
func (s *Server) provePasskey(w http.ResponseWriter, r *http.Request, p *Person) {
	a, err := s.People.PasskeySignIn(r.Context(), []byte(r.PostFormValue("credential")), s.Name, r.Host, viewer(r), Door)
	if err == nil && a.ID != p.Account.ID {
		err = refuse.WrongPasskey.Of()
	}
	s.confirmed(w, r, p, err)
}

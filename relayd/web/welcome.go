package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
)

// A welcome is the page on which a person who has a code sets a password: it asks for the code first.
type welcome struct {
	Code string // secret
	account.Welcome
	Problem string
}

// askCode serves GET /welcome. A link to it may carry the code behind a #, which browsers do not send.
func (s *Server) askCode(w http.ResponseWriter, r *http.Request) {
	s.look.show(w, r, http.StatusOK, "welcome.html", welcome{})
}

// askNewPassword serves POST /welcome.
func (s *Server) askNewPassword(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := welcome{Code: r.PostFormValue("code")}
	var err error
	if v.Welcome, err = s.People.Welcome(r.Context(), v.Code, viewer(r), Door); err != nil {
		s.refuseWelcome(w, r, v, err)
		return
	}
	s.look.show(w, r, http.StatusOK, "welcome.html", v)
}

// accept serves POST /welcome/password, and goes on like a sign-in with the new password.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := welcome{Code: r.PostFormValue("code")}
	v.Email, v.New = r.PostFormValue("username"), r.PostFormValue("new") != "" // only to be shown again
	password := []byte(r.PostFormValue("password"))
	defer clear(password)
	err := errors.New("the two passwords differ")
	if r.PostFormValue("password") == r.PostFormValue("again") {
		v.Welcome, err = s.People.Accept(r.Context(), v.Code, password, viewer(r), Door)
	}
	if err != nil {
		s.refuseWelcome(w, r, v, err)
		return
	}
	next := home
	if v.New {
		next = "/account?welcome"
	}
	s.signInWith(w, r, signInForm{Email: v.Email, Next: next}, password)
}

// refuseWelcome says what is wrong and asks for the code again, unless only the password was.
func (s *Server) refuseWelcome(w http.ResponseWriter, r *http.Request, v welcome, err error) {
	var no *refuse.Refusal
	if errors.As(err, &no) {
		v = welcome{}
	}
	v.Problem = err.Error()
	s.look.show(w, r, http.StatusForbidden, "welcome.html", v)
}

// forAdmin serves administrators of the relay, and nobody else learns that there is something.
func (s *Server) forAdmin(serve func(w http.ResponseWriter, r *http.Request, p *Person)) http.HandlerFunc {
	return s.forPerson(func(w http.ResponseWriter, r *http.Request, p *Person) {
		if !p.Account.Admin {
			s.look.refuse(w, r, http.StatusNotFound, refuse.NoPage.Of())
			return
		}
		if r.Method != http.MethodGet && !p.proven() {
			http.Redirect(w, r, "/account/confirm?next="+url.QueryEscape(officeOf(r.URL.Path)), http.StatusSeeOther)
			return
		}
		serve(w, r, p)
	})
}

// officeOf is the administrators' page that a form is on.
func officeOf(form string) string {
	for _, page := range []string{"/admin/accounts", "/admin/sessions", "/admin/blocks"} {
		if strings.HasPrefix(form, page) {
			return page
		}
	}
	return "/admin/invite"
}

// A given is the page that gives an administrator a code for a person, or says what was done.
type given struct {
	Account *account.Account
	Email   string
	Code    string // secret, shown once
	At      string // where the person types it
	Until   time.Time
	Reset   bool // the code is for a new password
	Done    string
	Problem string
}

// askInvited serves GET /admin/invite.
func (s *Server) askInvited(w http.ResponseWriter, r *http.Request, p *Person) {
	s.look.show(w, r, http.StatusOK, "invite.html", given{Account: p.Account})
}

// invitePerson makes the invitation that the form asks for.
func (s *Server) invitePerson(r *http.Request, p *Person) (given, error) {
	v := given{Email: r.PostFormValue("email")}
	admin := r.PostFormValue("admin") != ""
	if admin && p.Token != nil {
		return v, refuse.ByPerson.Of("it makes an administrator")
	}
	e := audit.Event{Kind: "account.invite", Account: refuse.Printable(v.Email, account.MaxEmail)}
	if admin {
		e.Detail = "administrator"
	}
	err := s.alter(r, p, e, func(ctx context.Context) (err error) {
		v.Code, v.Until, err = s.People.Invite(ctx, v.Email, admin)
		return err
	})
	return v, err
}

// apiGive is the call that gives a code for a person.
func (s *Server) apiGive(give func(r *http.Request, p *Person) (given, error)) http.HandlerFunc {
	return s.apiAdmin(func(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
		v, err := give(r, p)
		return struct {
			Email   string    `json:"email"`
			Code    string    `json:"code"`
			At      string    `json:"at"`
			Expires time.Time `json:"expires"`
		}{v.Email, v.Code, welcomeAt(r), v.Until}, err
	})
}

// welcomeAt is where a person types such a code.
func welcomeAt(r *http.Request) string { return "https://" + r.Host + "/welcome" }

// resetPassword makes a code by which the person whom the form names sets another password.
func (s *Server) resetPassword(r *http.Request, p *Person) (given, error) {
	v := given{Email: r.PostFormValue("email"), Reset: true}
	err := s.reset(r, p, "account.reset", v.Email, func(ctx context.Context) (err error) {
		v.Code, v.Until, err = s.People.ResetCode(ctx, v.Email)
		return err
	})
	return v, err
}

// resetFactor takes the second factor from the person whom the form names.
func (s *Server) resetFactor(r *http.Request, p *Person) (given, error) {
	v := given{Email: r.PostFormValue("email")}
	v.Done = "The second factor of " + v.Email + " is gone: the password alone signs in. Whatever was open in that name has ended."
	return v, s.reset(r, p, "account.factor.reset", v.Email, func(ctx context.Context) error { return s.People.ResetFactors(ctx, v.Email) })
}

// apiResetFactor serves POST /api/admin/accounts/factor.
func (s *Server) apiResetFactor(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	_, err := s.resetFactor(r, p)
	return done{}, err
}

// beyond is why somebody may not change whether and how a person signs in: no token does that to an administrator, whose rights outlast
// its own, and who could take it away.
func (s *Server) beyond(r *http.Request, p *Person, email string) error {
	if p.Token == nil {
		return nil
	}
	a, err := s.People.ByEmail(r.Context(), email)
	if err == nil && a.Admin {
		err = refuse.ByPerson.Of(a.Email + " is an administrator")
	}
	return err
}

// reset changes, on record, how another person signs in.
func (s *Server) reset(r *http.Request, p *Person, kind, email string, do func(ctx context.Context) error) error {
	if err := s.beyond(r, p, email); err != nil {
		return err
	}
	return s.alter(r, p, audit.Event{Kind: kind, Account: refuse.Printable(email, account.MaxEmail)}, do)
}

// give serves a form by which an administrator gets a code for a person, or changes how they sign in.
func (s *Server) give(do func(r *http.Request, p *Person) (given, error)) http.HandlerFunc {
	return s.forAdmin(func(w http.ResponseWriter, r *http.Request, p *Person) {
		v, err := do(r, p)
		s.showGiven(w, r, p, v, err)
	})
}

func (s *Server) showGiven(w http.ResponseWriter, r *http.Request, p *Person, v given, err error) {
	v.Account, v.At = p.Account, welcomeAt(r)
	status := http.StatusOK
	if err != nil {
		v = given{Account: p.Account, Email: v.Email, Problem: err.Error()}
		status = http.StatusBadRequest
	}
	s.look.show(w, r, status, "invite.html", v)
}

package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
)

const (
	maxForm = 8 << 10 // bytes
	home    = "/computers"
)

// signInForm is what each step shows.
type signInForm struct {
	Email, Next string
	Half        string // secret: of a sign-in that waits for the second factor
	Codes       bool   // the account has an authenticator
	Refusal     *refuse.Refusal
}

// toSignIn leads to the sign-in and, behind it, back here, where here is a page.
func toSignIn(w http.ResponseWriter, r *http.Request) {
	next := home
	if r.Method == http.MethodGet {
		next = r.URL.RequestURI()
	}
	http.Redirect(w, r, "/signin?next="+url.QueryEscape(next), http.StatusSeeOther)
}

// within is next when that is an address on this site, else home.
func within(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return home
	}
	return next
}

// askEmail serves GET /signin.
func (s *Server) askEmail(w http.ResponseWriter, r *http.Request) {
	s.look.show(w, r, http.StatusOK, "email.html", signInForm{Next: within(r.FormValue("next"))})
}

// askPassword serves POST /signin. It looks nothing up: whether there is such an account does not show.
func (s *Server) askPassword(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	f := signInForm{Email: strings.TrimSpace(r.PostFormValue("email")), Next: within(r.PostFormValue("next"))}
	page := "password.html"
	if f.Email == "" {
		page = "email.html"
	}
	s.look.show(w, r, http.StatusOK, page, f)
}

// signIn serves POST /signin/password.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	f := signInForm{Email: strings.TrimSpace(r.PostFormValue("email")), Next: within(r.PostFormValue("next"))}
	password := []byte(r.PostFormValue("password"))
	defer clear(password)
	s.signInWith(w, r, f, password)
}

// signInWith goes as far as the password leads.
func (s *Server) signInWith(w http.ResponseWriter, r *http.Request, f signInForm, password []byte) {
	var a *account.Account
	var half *account.Half
	err := error(refuse.SignIn.Of())
	if f.Email != "" && len(password) > 0 {
		a, half, err = s.People.Password(r.Context(), f.Email, password, viewer(r), Door)
	}
	if half != nil {
		a, err = s.People.Trusted(r.Context(), half, deviceSecret(r), viewer(r), Door)
	}
	switch {
	case err != nil:
		s.refuseForm(w, r, "password.html", f, err)
	case a == nil:
		f.Half, f.Codes = s.halves.add(half), half.Codes
		s.look.show(w, r, http.StatusOK, "factor.html", f)
	case half != nil:
		s.enter(w, r, a, f, time.Time{}) // trust is no proof
	default:
		s.enter(w, r, a, f, time.Now())
	}
}

// secondFactor serves POST /signin/factor.
func (s *Server) secondFactor(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	f := signInForm{Next: within(r.PostFormValue("next")), Half: r.PostFormValue("half")}
	half := s.halves.get(f.Half)
	if half == nil {
		s.look.show(w, r, http.StatusForbidden, "email.html", f)
		return
	}
	f.Email, f.Codes = half.Email(), half.Codes
	a, err := s.People.SecondFactor(r.Context(), half, r.PostFormValue("code"), viewer(r), Door)
	switch {
	case refuse.SignIn.Is(err): // begin again
		s.halves.remove(f.Half)
		s.refuseForm(w, r, "password.html", f, err)
	case err != nil:
		s.refuseForm(w, r, "factor.html", f, err)
	default:
		s.halves.remove(f.Half)
		if r.PostFormValue("trust") != "" {
			s.trust(w, r, a)
		}
		s.enter(w, r, a, f, time.Now())
	}
}

// refuseForm shows a step once more, with what is wrong.
func (s *Server) refuseForm(w http.ResponseWriter, r *http.Request, page string, f signInForm, err error) {
	if !errors.As(err, &f.Refusal) {
		f.Refusal = refuse.Busy.Of()
	}
	s.look.show(w, r, http.StatusForbidden, page, f)
}

// enter begins the visit of an account that has signed in, in place of what the browser had before. proved is when the person has proven
// enough to change what they sign in with; zero: not yet.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, a *account.Account, f signInForm, proved time.Time) {
	secret, err := s.visits.begin(a, r, proved)
	if err == nil {
		// What was withdrawn between the check of the password and now is seen here or by endAccount.
		if err = s.People.Holds(r.Context(), a); err != nil {
			s.visits.endAccount(a.ID, "a change of the account")
		}
	}
	if err != nil {
		s.refuseForm(w, r, "password.html", f, err)
		return
	}
	s.visits.endOne(r)
	setCookie(w, secret)
	http.Redirect(w, r, f.Next, http.StatusSeeOther)
}

// signOut serves POST /signout.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	s.visits.endOne(r)
	setCookie(w, "")
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

package web

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/helmline/helmline/bridge/refuse"
)

const (
	maxForm = 8 << 10 // bytes
	home    = "/computers"
)

// signInForm is what both steps show.
type signInForm struct {
	Email, Next string
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
	src, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	if f.Email == "" || len(password) == 0 {
		f.Refusal = refuse.SignIn.Of()
		s.look.show(w, r, http.StatusForbidden, "password.html", f)
		return
	}
	a, err := s.People.SignIn(r.Context(), f.Email, password, src.Addr(), Door)
	var secret string
	if err == nil {
		secret, err = s.visits.begin(a, r)
	}
	if err == nil {
		// What was withdrawn between the check of the password and now is seen here or by endAccount.
		if err = s.People.Holds(r.Context(), a); err != nil {
			s.visits.endAccount(a.ID)
		}
	}
	if err != nil {
		if !errors.As(err, &f.Refusal) {
			f.Refusal = refuse.Busy.Of()
		}
		s.look.show(w, r, http.StatusForbidden, "password.html", f)
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

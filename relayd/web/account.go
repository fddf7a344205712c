package web

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
)

// Of one's sign-ins.
const (
	maxLately = 10      // are shown
	lately    = 1 << 20 // bytes of the audit log's end are looked at for them: some 4,000 records
)

// A mine is the page of one's account.
type mine struct {
	belongings
	Token   string // made just now
	Proven  bool   // lately enough to change something
	Problem string
	Changed bool // the password, just now
	Welcome bool // the account was made just now
}

// belongings are what there is of an account.
type belongings struct {
	Account *account.Account `json:"account"`
	Visits  []visited        `json:"visits,omitempty"`
	Keys    []account.Key    `json:"keys,omitempty"`
	Factors account.Factors  `json:"factors"`
	Asks    []account.Ask    `json:"signins,omitempty"`
	Tokens  []account.Token  `json:"tokens,omitempty"`
	Lately  []audit.Entry    `json:"lately,omitempty"` // sign-ins, the newest first
}

// A visited is a visit as its account's page shows it.
type visited struct {
	ID      string    `json:"id"`
	Browser string    `json:"browser"` // what it says of itself
	From    string    `json:"source"`  // address of the sign-in
	Begun   time.Time `json:"begun"`
	Seen    time.Time `json:"seen"`
	This    bool      `json:"this"`
}

// account serves GET /account.
func (s *Server) account(w http.ResponseWriter, r *http.Request, p *Person) {
	s.mine(w, r, http.StatusOK, p, mine{Changed: r.URL.RawQuery == "changed", Welcome: r.URL.RawQuery == "welcome"})
}

func (s *Server) mine(w http.ResponseWriter, r *http.Request, status int, p *Person, m mine) {
	var err error
	if m.belongings, err = s.belongings(r.Context(), p); err != nil {
		s.stored(w, p, err)
		return
	}
	m.Proven = p.proven()
	s.look.show(w, r, status, "account.html", m)
}

func (s *Server) belongings(ctx context.Context, p *Person) (b belongings, err error) {
	b.Account, b.Visits, b.Asks = p.Account, s.visits.of(p), s.People.Asks(p.Account)
	if b.Keys, err = s.People.Keys(ctx, p.Account.Email); err == nil {
		b.Factors, err = s.People.Factors(ctx, p.Account)
	}
	if err == nil {
		b.Tokens, err = s.People.Tokens(ctx, p.Account)
	}
	if err == nil {
		b.Lately, err = s.Trail.Newest(ctx, audit.Filter{Kind: "signin.", Who: p.Account.Email}, maxLately, lately)
	}
	return b, err
}

// apiAccount serves GET /api/account.
func (s *Server) apiAccount(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	return s.belongings(r.Context(), p)
}

// settles serves a form of the account's page that do does, as a call of the API does it, too; it leads back to part of the page.
func (s *Server) settles(part string, do func(r *http.Request, p *Person) error) func(w http.ResponseWriter, r *http.Request, p *Person) {
	return func(w http.ResponseWriter, r *http.Request, p *Person) {
		if err := do(r, p); err != nil {
			s.mine(w, r, http.StatusBadRequest, p, mine{Problem: err.Error()})
			return
		}
		http.Redirect(w, r, "/account"+part, http.StatusSeeOther)
	}
}

// endVisit is the form that signs a browser out.
func (s *Server) endVisit(r *http.Request, p *Person) error {
	return s.alter(r, p, audit.Event{Kind: "account.signout", Account: p.Account.Email}, func(context.Context) error {
		return s.visits.endNamed(p.Account.ID, r.PostFormValue("id"))
	})
}

// password serves POST /account/password. The old one counts like one at the sign-in. Everything that is open in the account's
// name ends, but this browser stays signed in.
func (s *Server) password(w http.ResponseWriter, r *http.Request, p *Person) {
	old, chosen := []byte(r.PostFormValue("old")), []byte(r.PostFormValue("new"))
	defer clear(old)
	defer clear(chosen)
	err := errors.New("the two new passwords differ")
	if r.PostFormValue("new") == r.PostFormValue("again") {
		err = s.People.Knows(r.Context(), p.Account, old, viewer(r), Door)
	}
	if err == nil {
		err = s.alter(r, p, audit.Event{Kind: "account.password", Account: p.Account.Email}, func(ctx context.Context) error {
			return s.People.SetPassword(ctx, p.Account.Email, chosen)
		})
	}
	if err != nil {
		s.mine(w, r, http.StatusForbidden, p, mine{Problem: err.Error()})
		return
	}
	s.again(w, r, p, "/account?changed")
}

// again signs a browser in anew whose visit has ended with everything else of the account, by what it has just done.
func (s *Server) again(w http.ResponseWriter, r *http.Request, p *Person, next string) {
	a, err := s.People.ByEmail(r.Context(), p.Account.Email)
	var secret string
	if err == nil && !a.Disabled {
		secret, err = s.visits.begin(a, r, p.Proved)
	}
	if err != nil || a.Disabled {
		toSignIn(w, r)
		return
	}
	setCookie(w, secret)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// addKey is the form that adds an SSH key. No token does: a key signs in by itself, and outlives the token.
func (s *Server) addKey(r *http.Request, p *Person) error {
	if p.Token != nil {
		return refuse.ByPerson.Of("a key signs in by itself")
	}
	if !p.proven() {
		return refuse.Unproven.Of()
	}
	line := []byte(r.PostFormValue("key"))
	defer clear(line) // it may be a private key
	key, _, err := account.ParseKey(line)
	if err != nil {
		return err
	}
	e := audit.Event{Kind: "account.key.add", Account: p.Account.Email, Detail: ssh.FingerprintSHA256(key)}
	return s.alter(r, p, e, func(ctx context.Context) error {
		_, err := s.People.AddKey(ctx, p.Account.Email, line)
		return err
	})
}

// removeKey is the form that removes one. Like another password it ends whatever is open in the account's name.
func (s *Server) removeKey(r *http.Request, p *Person) error {
	if !p.proven() {
		return refuse.Unproven.Of()
	}
	fingerprint := refuse.Printable(r.PostFormValue("fingerprint"), 100)
	e := audit.Event{Kind: "account.key.remove", Account: p.Account.Email, Detail: fingerprint}
	return s.alter(r, p, e, func(ctx context.Context) error { return s.People.RemoveKey(ctx, p.Account.Email, fingerprint) })
}

// dropKey serves POST /account/keys/remove; the browser stays signed in.
func (s *Server) dropKey(w http.ResponseWriter, r *http.Request, p *Person) {
	if err := s.removeKey(r, p); err != nil {
		s.mine(w, r, http.StatusBadRequest, p, mine{Problem: err.Error()})
		return
	}
	s.again(w, r, p, "/account")
}

// viewer is the address of who sent a request.
func viewer(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv6Unspecified() // net/http always gives one; nobody goes uncounted
	}
	return at.Addr().Unmap()
}

// source is the same as text.
func source(r *http.Request) string { return viewer(r).String() }

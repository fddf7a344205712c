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
	Account *account.Account
	Visits  []visited
	Keys    []account.Key
	Factors account.Factors
	Asks    []account.Ask
	Tokens  []account.Token
	Token   string        // made just now
	Lately  []audit.Entry // sign-ins, the newest first
	Proven  bool          // lately enough to change something
	Problem string
	Changed bool // the password, just now
	Welcome bool // the account was made just now
}

// A visited is a visit as its account's page shows it.
type visited struct {
	ID          string
	Browser     string // what it says of itself
	From        string // address of the sign-in
	Begun, Seen time.Time
	This        bool
}

// account serves GET /account.
func (s *Server) account(w http.ResponseWriter, r *http.Request, p *Person) {
	s.mine(w, r, http.StatusOK, p, mine{Changed: r.URL.RawQuery == "changed", Welcome: r.URL.RawQuery == "welcome"})
}

func (s *Server) mine(w http.ResponseWriter, r *http.Request, status int, p *Person, m mine) {
	m.Account, m.Visits, m.Proven, m.Asks = p.Account, s.visits.of(p), p.proven(), s.People.Asks(p.Account)
	var err error
	if m.Keys, err = s.People.Keys(r.Context(), p.Account.Email); err == nil {
		m.Factors, err = s.People.Factors(r.Context(), p.Account)
	}
	if err == nil {
		m.Tokens, err = s.People.Tokens(r.Context(), p.Account)
	}
	if err == nil {
		m.Lately, err = s.Trail.Newest(r.Context(), audit.Filter{Kind: "signin.", Who: p.Account.Email}, maxLately, lately)
	}
	if err != nil {
		s.stored(w, p, err)
		return
	}
	s.look.show(w, r, status, "account.html", m)
}

// endVisit serves POST /account/visits/end.
func (s *Server) endVisit(w http.ResponseWriter, r *http.Request, p *Person) {
	err := s.alter(r, p, audit.Event{Kind: "account.signout", Account: p.Account.Email}, func(context.Context) error {
		s.visits.endNamed(p.Account.ID, r.PostFormValue("id"))
		return nil
	})
	if err != nil {
		s.mine(w, r, http.StatusServiceUnavailable, p, mine{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
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

// addKey serves POST /account/keys.
func (s *Server) addKey(w http.ResponseWriter, r *http.Request, p *Person) {
	line := []byte(r.PostFormValue("key"))
	defer clear(line) // it may be a private key
	key, _, err := account.ParseKey(line)
	if err == nil {
		e := audit.Event{Kind: "account.key.add", Account: p.Account.Email, Detail: ssh.FingerprintSHA256(key)}
		err = s.alter(r, p, e, func(ctx context.Context) error {
			_, err := s.People.AddKey(ctx, p.Account.Email, line)
			return err
		})
	}
	if err != nil {
		s.mine(w, r, http.StatusForbidden, p, mine{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
}

// removeKey serves POST /account/keys/remove. Like another password it ends whatever is open in the account's name.
func (s *Server) removeKey(w http.ResponseWriter, r *http.Request, p *Person) {
	fingerprint := refuse.Printable(r.PostFormValue("fingerprint"), 100)
	e := audit.Event{Kind: "account.key.remove", Account: p.Account.Email, Detail: fingerprint}
	err := s.alter(r, p, e, func(ctx context.Context) error { return s.People.RemoveKey(ctx, p.Account.Email, fingerprint) })
	if err != nil {
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

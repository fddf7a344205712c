// Package web is the door for browsers: sign-in, the list of computers, and the page of a session, which is joined to its computer by a
// WebSocket.
package web

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/turnstile"
)

// Times and sizes of HTTP.
const (
	headerTime = 5 * time.Second
	bodyTime   = 15 * time.Second
	answerTime = 30 * time.Second
	restTime   = time.Minute // between two requests on a connection
	maxHeader  = 16 << 10    // bytes
	maxBody    = 64 << 10    // bytes of any request
)

// People signs people in.
type People interface {
	// Password signs in whose account has no second factor; it gives the others to SecondFactor.
	Password(ctx context.Context, email string, password []byte, src netip.Addr, door string) (*account.Account, *account.Half, error)
	SecondFactor(ctx context.Context, h *account.Half, code string, src netip.Addr, door string) (*account.Account, error)
	// Knows checks the password of who is signed in.
	Knows(ctx context.Context, a *account.Account, password []byte, src netip.Addr, door string) error
	// Holds is refuse.SignIn when what the account was signed in by does not hold any more.
	Holds(ctx context.Context, a *account.Account) error
	List(ctx context.Context) ([]account.Account, error)
	Disable(ctx context.Context, email string) error
	Enable(ctx context.Context, email string) error
	OnAsk(attended func(accountID int64) bool)
	Asks(a *account.Account) []account.Ask
	Decide(a *account.Account, id string, approve bool) error
	NewToken(ctx context.Context, a *account.Account, t account.Token) (secret string, err error)
	Tokens(ctx context.Context, a *account.Account) ([]account.Token, error)
	RemoveToken(ctx context.Context, a *account.Account, id string) error
	// ByToken counts a wrong token like a wrong password.
	ByToken(ctx context.Context, secret string, src netip.Addr, door string) (*account.Account, *account.Token, error)
	TokenHolds(ctx context.Context, t *account.Token) error
	Blocks() []account.Block
	Unblock(ctx context.Context, source netip.Prefix) error
	OnRevoke(f func(accountID int64, why string))
	// Again is an account that was signed in before a restart.
	Again(ctx context.Context, id, generation int64) (*account.Account, error)
	ByEmail(ctx context.Context, email string) (*account.Account, error)
	SetPassword(ctx context.Context, email string, password []byte) error
	Keys(ctx context.Context, email string) ([]account.Key, error)
	Hinted(ctx context.Context, a *account.Account) (bool, error)
	DropHint(ctx context.Context, a *account.Account) error
	AddKey(ctx context.Context, email string, line []byte) (account.Key, error)
	RemoveKey(ctx context.Context, email, fingerprint string) error
	Factors(ctx context.Context, a *account.Account) (account.Factors, error)
	NewAuthenticator(a *account.Account, relay string) account.Setup
	AddAuthenticator(ctx context.Context, a *account.Account, code string) (recovery []string, err error)
	NewRecovery(ctx context.Context, a *account.Account) ([]string, error)
	RemoveAuthenticator(ctx context.Context, a *account.Account) error
	Trust(ctx context.Context, a *account.Account, agent string, src netip.Addr) (secret string, err error)
	// Trusted is nil in a browser that is not trusted.
	Trusted(ctx context.Context, h *account.Half, secret string, src netip.Addr, door string) (*account.Account, error)
	Distrust(ctx context.Context, a *account.Account, name string) error
	NewPasskey(ctx context.Context, a *account.Account, relay, host string, src netip.Addr) (any, error)
	AddPasskey(ctx context.Context, a *account.Account, name string, credential []byte, relay, host string) (recovery []string, err error)
	RemovePasskey(ctx context.Context, a *account.Account, id string) error
	AskPasskey(relay, host string, src netip.Addr) (any, error)
	PasskeySignIn(ctx context.Context, credential []byte, relay, host string, src netip.Addr, door string) (*account.Account, error)
	ResetFactors(ctx context.Context, email string) error
	Invite(ctx context.Context, email string, admin bool) (code string, expires time.Time, err error)
	ResetCode(ctx context.Context, email string) (code string, expires time.Time, err error)
	Welcome(ctx context.Context, code string, src netip.Addr, door string) (account.Welcome, error)
	Accept(ctx context.Context, code string, password []byte, src netip.Addr, door string) (account.Welcome, error)
}

// A Server is the web door.
type Server struct {
	Config
	look    *look
	visits  visits
	halves  halves
	watches slots // pages that are told what changes
	changes *audit.Paces
	reads   slots // of the audit log
	conns   slots // connections that count as an account's
	stops   atomic.Bool
	http    *http.Server
}

// Config is what a Server needs.
type Config struct {
	Log       *slog.Logger
	Name      string // of the relay
	TLS       *tls.Config
	People    People
	Computers Computers
	Desks     Desks
	Sessions  Sessions
	Trail     Trail
	Kept      Kept
	Ways      Ways
}

// New makes the door, with the visits that survived a restart.
func New(ctx context.Context, c Config) (*Server, error) {
	s := &Server{Config: c, changes: audit.NewPaces(changeEvery, changeBurst)}
	s.TLS = c.TLS.Clone()
	s.TLS.NextProtos = []string{"http/1.1"} // WebSockets need it
	assets, err := NewAssets()
	if err != nil {
		return nil, err
	}
	if s.look, err = newLook(assets, c.Log); err != nil {
		return nil, err
	}
	s.visits.log, s.visits.kept = c.Log, c.Kept
	if err := s.visits.resume(ctx, c.People); err != nil {
		return nil, err
	}
	c.People.OnRevoke(s.visits.endAccount)
	c.People.OnAsk(s.attended)
	desk := &Desk{Log: c.Log, Desks: c.Desks, Computers: c.Computers, Look: s.look, Person: s.signedIn}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", assets)
	mux.Handle("GET /{$}", http.RedirectHandler(home, http.StatusSeeOther))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			s.apiRefuse(w, r, refuse.NoPage.Of())
			return
		}
		s.look.refuse(w, r, http.StatusNotFound, refuse.NoPage.Of())
	})
	mux.HandleFunc("GET /signin", s.askEmail)
	mux.HandleFunc("POST /signin", s.askPassword)
	mux.HandleFunc("POST /signin/password", s.signIn)
	mux.HandleFunc("POST /signin/factor", s.secondFactor)
	mux.HandleFunc("POST /signin/passkey", s.passkey)
	mux.HandleFunc("POST /signin/passkey/ask", s.askPasskey)
	mux.HandleFunc("POST /signout", s.signOut)
	mux.HandleFunc("GET /welcome", s.askCode)
	mux.HandleFunc("POST /welcome", s.askNewPassword)
	mux.HandleFunc("POST /welcome/password", s.accept)
	mux.HandleFunc("GET /admin/invite", s.forAdmin(s.askInvited))
	mux.HandleFunc("POST /admin/invite", s.give(s.invitePerson))
	mux.HandleFunc("POST /admin/accounts/password", s.give(s.resetPassword))
	mux.HandleFunc("POST /admin/accounts/factor", s.give(s.resetFactor))
	mux.HandleFunc("GET /admin/accounts", s.office("accounts.html"))
	mux.HandleFunc("POST /admin/accounts/disable", s.decide("accounts.html", "/admin/accounts", s.switchAccount("account.disable", s.People.Disable)))
	mux.HandleFunc("POST /admin/accounts/enable", s.decide("accounts.html", "/admin/accounts", s.switchAccount("account.enable", s.People.Enable)))
	mux.HandleFunc("GET /admin/computers", s.office("everything.html"))
	mux.HandleFunc("GET /admin/sessions", s.office("sessions.html"))
	mux.HandleFunc("POST /admin/sessions/end", s.decide("sessions.html", "/admin/sessions", s.endSession))
	mux.HandleFunc("GET /admin/blocks", s.office("blocks.html"))
	mux.HandleFunc("POST /admin/blocks/remove", s.decide("blocks.html", "/admin/blocks", s.unblock))
	mux.HandleFunc("GET /admin/audit", s.office("audit.html"))
	mux.HandleFunc("GET /api/admin/accounts", s.apiAdmin(s.apiAccounts))
	mux.HandleFunc("GET /api/admin/hosts", s.apiAdmin(s.apiComputers))
	mux.HandleFunc("GET /api/admin/sessions", s.apiAdmin(s.apiSessions))
	mux.HandleFunc("GET /api/admin/blocks", s.apiAdmin(s.apiBlocks))
	mux.HandleFunc("GET /api/admin/audit", s.apiAdmin(s.apiAudit))
	mux.HandleFunc("POST /api/admin/accounts/invite", s.apiGive(s.invitePerson))
	mux.HandleFunc("POST /api/admin/accounts/password", s.apiGive(s.resetPassword))
	mux.HandleFunc("POST /api/admin/accounts/factor", s.apiAdmin(s.apiResetFactor))
	mux.HandleFunc("POST /api/admin/accounts/disable", s.apiDecide(s.switchAccount("account.disable", s.People.Disable)))
	mux.HandleFunc("POST /api/admin/accounts/enable", s.apiDecide(s.switchAccount("account.enable", s.People.Enable)))
	mux.HandleFunc("POST /api/admin/sessions/end", s.apiDecide(s.endSession))
	mux.HandleFunc("POST /api/admin/blocks/remove", s.apiDecide(s.unblock))
	mux.HandleFunc("GET /computers", s.forPerson(s.list))
	mux.HandleFunc("GET /computers/add", s.forPerson(s.askName))
	mux.HandleFunc("POST /computers/add", s.forPerson(s.invite))
	mux.HandleFunc("GET /computers/{computer}", s.computer)
	mux.HandleFunc("POST /computers/{computer}/rename", s.rename)
	mux.HandleFunc("POST /computers/{computer}/remove", s.remove)
	mux.HandleFunc("POST /computers/{computer}/share", s.share)
	mux.HandleFunc("POST /computers/{computer}/leave", s.leave)
	mux.HandleFunc("POST /computers/{computer}/code", s.code)
	mux.HandleFunc("POST /computers/{computer}/favourite", s.marks(s.setFavourite))
	mux.HandleFunc("POST /computers/{computer}/group", s.marks(s.setGroup))
	mux.HandleFunc("GET /account", s.forPerson(s.account))
	mux.HandleFunc("POST /account/hint", s.forPerson(s.dropHint))
	mux.HandleFunc("GET /account/confirm", s.forPerson(s.askProof))
	mux.HandleFunc("POST /account/confirm", s.forPerson(s.prove))
	mux.HandleFunc("POST /account/confirm/passkey", s.forPerson(s.provePasskey))
	mux.HandleFunc("POST /account/password", s.forProven(s.password))
	mux.HandleFunc("POST /account/keys", s.forProven(s.settles("", s.addKey)))
	mux.HandleFunc("POST /account/keys/remove", s.forProven(s.dropKey))
	mux.HandleFunc("GET /account/authenticator", s.forProven(s.askAuthenticator))
	mux.HandleFunc("POST /account/authenticator", s.forProven(s.addAuthenticator))
	mux.HandleFunc("POST /account/recovery", s.forProven(s.newRecovery))
	mux.HandleFunc("POST /account/authenticator/remove", s.forProven(s.removeAuthenticator))
	mux.HandleFunc("POST /account/devices/remove", s.forPerson(s.settles("", s.distrust)))
	mux.HandleFunc("POST /account/passkeys", s.forProven(s.addPasskey))
	mux.HandleFunc("POST /account/passkeys/new", s.forProven(s.newPasskey))
	mux.HandleFunc("POST /account/passkeys/remove", s.forProven(s.removePasskey))
	mux.HandleFunc("POST /account/asks", s.forPerson(s.answerAsk))
	mux.HandleFunc("POST /account/tokens", s.forProven(s.addToken))
	mux.HandleFunc("POST /account/tokens/remove", s.forPerson(s.settles("#tokens", s.removeToken)))
	mux.HandleFunc("POST /account/visits/end", s.forPerson(s.settles("", s.endVisit)))
	mux.HandleFunc("GET /api/openapi.json", apiSelf)
	mux.HandleFunc("GET /api/account", s.api(s.apiAccount))
	mux.HandleFunc("POST /api/account/keys/add", s.apiDo(s.addKey))
	mux.HandleFunc("POST /api/account/keys/remove", s.apiDo(s.removeKey))
	mux.HandleFunc("POST /api/account/devices/remove", s.apiDo(s.distrust))
	mux.HandleFunc("POST /api/account/tokens/remove", s.apiDo(s.removeToken))
	mux.HandleFunc("POST /api/account/visits/end", s.apiDo(s.endVisit))
	mux.HandleFunc("POST /api/hosts/add", s.api(s.apiAdd))
	mux.HandleFunc("GET /api/hosts", s.api(s.apiList))
	mux.HandleFunc("GET /api/hosts/events", s.api(s.apiEvents))
	mux.HandleFunc("GET /api/hosts/{computer}/connectability", s.api(s.apiConnectability))
	mux.HandleFunc("POST /api/hosts/{computer}/rename", s.apiAsOne(manages, s.renameTo))
	mux.HandleFunc("POST /api/hosts/{computer}/remove", s.apiAsOne(owns, s.removeNamed))
	mux.HandleFunc("POST /api/hosts/{computer}/share", s.apiAsOne(manages, s.shareWith))
	mux.HandleFunc("POST /api/hosts/{computer}/leave", s.apiAsOne(joins, s.giveUp))
	mux.HandleFunc("GET /api/hosts/{computer}/shares", s.apiOf(manages, s.apiShares))
	mux.HandleFunc("POST /api/hosts/{computer}/code", s.apiOf(everyone, s.apiCode))
	mux.HandleFunc("POST /api/hosts/{computer}/favourite", s.apiAsOne(everyone, s.setFavourite))
	mux.HandleFunc("POST /api/hosts/{computer}/group", s.apiAsOne(everyone, s.setGroup))
	mux.HandleFunc("GET /computers/{computer}/connect", desk.Page)
	mux.HandleFunc("POST /computers/{computer}/ticket", desk.Ticket)
	mux.HandleFunc("GET /computers/{computer}/rfb", desk.Socket)
	s.http = &http.Server{
		Handler:           guarded(s.whileRunning(ownPages(mux))),
		ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: restTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, heldOf(c))
		},
	}
	return s, nil
}

// Stop has every request from now on refused: the relay is about to end.
func (s *Server) Stop() { s.stops.Store(true) }

// whileRunning refuses what comes on an open connection after Stop.
func (s *Server) whileRunning(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !s.stops.Load():
			next.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/api/") || strings.HasSuffix(r.URL.Path, "/ticket"):
			problem(w, refuse.Restarting.Of())
		default:
			s.look.refuse(w, r, http.StatusServiceUnavailable, refuse.Restarting.Of())
		}
	})
}

// Handle serves one connection; it is a turnstile.Door's Handle.
func (s *Server) Handle(_ context.Context, conn net.Conn, at *turnstile.Place) error {
	tunnel.TuneTCP(conn)
	only := &single{conn: &held{Conn: conn, at: at, closed: make(chan struct{})}, tls: s.TLS}
	_ = s.http.Serve(only) // io.EOF, when the connection is over
	return nil
}

// signedIn is who sent a request. Their connection is no stranger's any more.
func (s *Server) signedIn(r *http.Request) (*Person, bool) {
	p, ok := s.visits.person(r)
	if ok {
		s.noStranger(r, p.Account.ID)
	}
	return p, ok
}

// noStranger has the connection of a request count as one of an account.
func (s *Server) noStranger(r *http.Request, account int64) {
	if c, _ := r.Context().Value(connKey{}).(*held); c != nil {
		c.known(&s.conns, account)
	}
}

// forPerson serves only who is signed in, and reads no form that is too long.
func (s *Server) forPerson(serve func(w http.ResponseWriter, r *http.Request, p *Person)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if p, ok := s.signedIn(r); ok {
			serve(w, r, p)
		} else {
			toSignIn(w, r)
		}
	}
}

package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
)

// Door is the name of this door in logs, metrics and the audit log.
const Door = "web"

// Desks opens sessions.
type Desks interface {
	Open(ctx context.Context, req broker.Request) (*broker.Session, error)
}

// Computers knows who may use which computer.
type Computers interface {
	Find(ctx context.Context, acct *account.Account, name string) (*registry.Computer, error)
	List(ctx context.Context) ([]registry.Computer, error)
	ForAccount(ctx context.Context, acct *account.Account) ([]registry.Computer, error)

	Invite(ctx context.Context, owner, name string) (id, secret string, expires time.Time, err error)
	Rename(ctx context.Context, id, name string) (*registry.Computer, error)
	Remove(ctx context.Context, id string) (*registry.Computer, error)
	Offer(ctx context.Context, id, email string, right registry.Right, expires time.Time) (*registry.Computer, error)
	Shares(ctx context.Context, id string) ([]registry.Share, error)
	SetFavourite(ctx context.Context, acct *account.Account, c *registry.Computer, favourite bool) error
	SetGroup(ctx context.Context, acct *account.Account, c *registry.Computer, group string) error
	Codes() *registry.Codes
}

// A Person is who sent a request.
type Person struct {
	Account *account.Account
	Gone    context.Context // ends when they are signed out; its cause is a *refuse.Refusal
	Active  func()          // to be called when they do something without a request
	Proved  time.Time       // when they have proven last who they are
	Token   *account.Token  // that was shown; nil: they are signed in
}

// Desk serves the page of a session with a computer, and the WebSocket that joins the page to the computer's RFB server from its
// first byte: the computer's log-in passes the relay sealed by RSA-AES.
type Desk struct {
	Log       *slog.Logger
	Desks     Desks
	Computers Computers
	Look      *look
	Person    func(r *http.Request) (*Person, bool) // false: not signed in

	open    slots // WebSockets
	tickets tickets
}

// What a WebSocket may cost.
const (
	maxSockets = 32               // of one account
	helloTime  = 10 * time.Second // for the page to say what it wants
	maxHello   = 256              // bytes
	pingEvery  = 20 * time.Second // and so long has the page to answer
	tellTime   = 2 * time.Second  // for the page to take the reason of the end
)

// roles are what a page may ask for.
var roles = map[string]tunnel.Role{"control": tunnel.RoleControl, "watch": tunnel.RoleWatch, "take": tunnel.RoleTake}

// Page serves GET /computers/{computer}/connect; ?role= is control, watch or take.
func (d *Desk) Page(w http.ResponseWriter, r *http.Request) {
	p, ok := d.Person(r)
	if !ok {
		toSignIn(w, r)
		return
	}
	role := r.FormValue("role")
	if role == "" {
		role = "control"
	}
	_, ok = roles[role]
	c, err := d.Computers.Find(r.Context(), p.Account, r.PathValue("computer"))
	switch {
	case refuse.NoComputer.Is(err) || refuse.NameComputer.Is(err) || err == nil && !ok:
		d.Look.refuse(w, r, http.StatusNotFound, refuse.NoComputer.Of())
		return
	case err != nil:
		d.Log.Error("computer not looked up", "viewer", p.Account.Email, "err", err)
		d.Look.refuse(w, r, http.StatusServiceUnavailable, refuse.StorageOut.Of())
		return
	}
	// The page sees itself when a computer offers nothing that a browser can do.
	e2e, _ := json.Marshal(refuse.NeedsE2E.Of(c.Name))
	noRoute, _ := json.Marshal(refuse.NoRoute.Of("the relay was not reached"))
	titles, _ := json.Marshal(refuse.Titles())
	d.Look.show(w, r, http.StatusOK, "session.html", struct {
		Computer             *registry.Computer
		Account, Role        string
		E2E, NoRoute, Titles string
	}{c, p.Account.Email, role, string(e2e), string(noRoute), string(titles)})
}

// Ticket serves POST /computers/{computer}/ticket with a role: what the page shows on its WebSocket. A page does not see why a WebSocket is
// refused, so it is told here.
func (d *Desk) Ticket(w http.ResponseWriter, r *http.Request) {
	p, ok := d.Person(r)
	if !ok {
		problem(w, refuse.SignIn.Of())
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	as, ok := roles[r.PostFormValue("role")]
	if !ok {
		problem(w, refuse.NotDone.Of("there is no such role"))
		return
	}
	if n := d.open.count(p.Account.ID); n >= maxSockets {
		problem(w, refuse.YourPages.Of(n))
		return
	}
	var h hello
	if h.Ticket, ok = d.tickets.issue(p, r.PathValue("computer"), as); !ok {
		problem(w, refuse.TooFast.Of())
		return
	}
	answer(w, h)
}

// hello is the first message of a page, as text.
type hello struct {
	Ticket string `json:"ticket"`
}

// word is what the relay says to a page, as text: first, when it ends the session, and when it answers.
type word struct {
	Refusal *refuse.Refusal `json:"refusal,omitempty"` // of the first, nil: the computer is reached, and speaks from now on

	// Of the first, as the computer has it.
	CodeFirst bool `json:"code_first,omitempty"` // it rather wants its access code
	Nobody    bool `json:"nobody,omitempty"`     // is logged in there

	Pong   uint32          `json:"pong,omitempty"`   // of a ping
	Joined []joined        `json:"joined,omitempty"` // beside a pong: who is joined to the computer
	Host   json.RawMessage `json:"host,omitempty"`   // a word of the computer
}

// Socket serves GET /computers/{computer}/rfb.
func (d *Desk) Socket(w http.ResponseWriter, r *http.Request) {
	// A cookie goes along whoever's page opens the WebSocket; what tells them apart is the origin.
	if r.Header.Get("Origin") != "https://"+r.Host {
		http.Error(w, "another origin", http.StatusForbidden)
		return
	}
	p, ok := d.Person(r)
	if !ok {
		http.Error(w, refuse.SignIn.Text(), http.StatusUnauthorized)
		return
	}
	viewer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no address", http.StatusBadRequest)
		return
	}
	if !d.open.enter(p.Account.ID, maxSockets) {
		http.Error(w, refuse.YourPages.Text(maxSockets), http.StatusTooManyRequests)
		return
	}
	defer d.open.leave(p.Account.ID)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	d.join(p, ws, r.PathValue("computer"), viewer)
}

// join reaches the computer for a page and passes bytes until either is done or the person has gone.
func (d *Desk) join(p *Person, ws *websocket.Conn, computer string, viewer netip.AddrPort) {
	acct, gone := p.Account, p.Gone
	ws.SetReadLimit(maxHello)
	var h hello
	first, stop := context.WithTimeout(gone, helloTime)
	defer stop()
	if err := wsjson.Read(first, ws, &h); err != nil {
		d.Log.Info("viewer left before the session", "viewer", viewer, "account", acct.Email, "err", err)
		return
	}
	role, ok := d.tickets.spend(h.Ticket, p, computer)
	if !ok {
		_ = tell(ws, refuse.TicketInvalid.Of())
		ws.Close(websocket.StatusPolicyViolation, "no such ticket")
		return
	}
	s, err := d.Desks.Open(gone, broker.Request{
		Account: acct, Computer: computer, Role: role, Door: Door, Viewer: viewer, Purpose: tunnel.RFB, Facts: true,
	})
	if err != nil {
		var r *refuse.Refusal
		if !errors.As(err, &r) && !errors.As(context.Cause(gone), &r) {
			r = refuse.Restarting.Of()
		}
		tell(ws, r)
		ws.Close(websocket.StatusNormalClosure, "")
		return
	}
	defer s.Close()
	facts := s.Facts()
	if say(ws, word{CodeFirst: facts&tunnel.CodeFirst != 0, Nobody: facts&tunnel.Nobody != 0}) != nil {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	work.Go(func() { ping(ctx, ws) })
	words := &words{ws: ws, session: s, active: p.Active, said: make(chan json.RawMessage, maxWords)}
	work.Go(func() { words.run(ctx) })
	l := &lane{Conn: websocket.NetConn(ctx, ws, websocket.MessageBinary), ctx: ctx, ws: ws, vanish: s.Vanish, hear: words.hear, ended: func() error {
		return cmp.Or(s.Ended(), context.Cause(gone))
	}}
	defer context.AfterFunc(gone, func() { l.Close() })()
	_ = s.Join(l) // logged there
}

// tell says to the page why there is no session, or none any more.
func tell(ws *websocket.Conn, r *refuse.Refusal) error {
	return say(ws, word{Refusal: r})
}

// say sends a word to the page.
func say(ws *websocket.Conn, w word) error {
	ctx, cancel := context.WithTimeout(context.Background(), tellTime)
	defer cancel()
	return wsjson.Write(ctx, ws, w)
}

// ping ends the connection when the page does not answer any more. It returns when ctx ends.
func ping(ctx context.Context, ws *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		late, cancel := context.WithTimeout(ctx, pingEvery)
		err := ws.Ping(late)
		cancel()
		if err != nil {
			ws.CloseNow()
			return
		}
	}
}

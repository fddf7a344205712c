// Package door is where VNC viewers come in. RFB takes a user name and password inside TLS; Code takes a one-time
// code, for viewers that cannot send a user name. Both reach the computer before they tell the viewer that it is
// let in, so that a refusal arrives as the reason the viewer shows; from there on every byte is the computer's.
package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/turnstile"
)

// Desks opens sessions.
type Desks interface {
	Open(ctx context.Context, req broker.Request) (*broker.Session, error)
}

// Times bound the steps of a handshake.
type Times struct {
	Hello  time.Duration // version, security type, TLS: programs talk
	Secret time.Duration // until the first byte of what a person types
	Rest   time.Duration // for the rest of it
	Linger time.Duration // for the viewer to read why it is refused
}

func (t Times) usual() Times {
	if t == (Times{}) {
		return Times{Hello: 20 * time.Second, Secret: 150 * time.Second, Rest: 10 * time.Second, Linger: 2 * time.Second}
	}
	return t
}

// A guest is one viewer during its handshake.
type guest struct {
	conn  net.Conn // the bare connection, which the deadlines are set on
	at    *turnstile.Place
	times Times
	from  netip.AddrPort
	minor int
	step  string // what it is waited for
	limit time.Duration
}

func newGuest(conn net.Conn, at *turnstile.Place, t Times) *guest {
	tunnel.TuneTCP(conn)
	return &guest{conn: conn, at: at, times: t.usual(), from: turnstile.Source(conn)}
}

// within bounds the next step of the handshake.
func (g *guest) within(step string, d time.Duration) error {
	g.step, g.limit = step, d
	return g.conn.SetDeadline(time.Now().Add(d))
}

// hello reads the version and lets the viewer choose among the types.
func (g *guest) hello(types ...rfb.SecurityType) (rfb.SecurityType, error) {
	err := g.within("RFB handshake", g.times.Hello)
	if err != nil {
		return 0, err
	}
	if g.minor, err = rfb.ServerVersion(g.conn); err != nil {
		return 0, err
	}
	return rfb.OfferSecurity(g.conn, g.minor, types...)
}

// typed waits for what a person types: long for its first byte, then no longer than a program needs for the rest.
func (g *guest) typed(c net.Conn) (net.Conn, error) {
	g.at.Settle()
	if err := g.within("password", g.times.Secret); err != nil {
		return nil, err
	}
	return &typed{Conn: c, guest: g}, nil
}

// typed is a connection on which the first byte changes the deadline.
type typed struct {
	net.Conn
	guest *guest
	begun bool
}

func (t *typed) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 && !t.begun {
		t.begun = true
		if err := t.guest.within("rest of the password", t.guest.times.Rest); err != nil {
			return n, err
		}
	}
	return n, err
}

// errEager is of a viewer that does not wait for the answer.
var errEager = errors.New("the viewer goes on before it is let in")

// answer has do find out whether a viewer is let in, which may take as long as a person needs to approve it. When the viewer leaves
// meanwhile, do's context ends.
func (g *guest) answer(ctx context.Context, c net.Conn, do func(ctx context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	here := make(chan error)
	go func() {
		n, err := c.Read(make([]byte, 1)) // as long as the viewer waits, until the deadline below
		if n > 0 {
			err = errEager
		}
		cancel()
		here <- err
	}()
	do(ctx)
	if err := g.conn.SetReadDeadline(time.Unix(1, 0)); err != nil { // long ago
		g.conn.Close()
	}
	if err := <-here; !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return g.conn.SetReadDeadline(time.Time{})
}

// enter opens the session, lets the viewer in and joins the two. What is refused is told on c.
func (g *guest) enter(ctx context.Context, desks Desks, c net.Conn, req broker.Request) error {
	req.Viewer, req.Minor, req.Purpose = g.from, g.minor, tunnel.RFBInit
	s, err := desks.Open(ctx, req)
	if err != nil {
		return g.refuse(c, err, roles[req.Door])
	}
	defer s.Close()
	g.at.Leave()
	if err = g.within("room for the result", g.times.Rest); err == nil {
		err = rfb.WriteResult(c, g.minor, "")
	}
	if err == nil {
		err = g.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return err
	}
	_ = s.Join(c) // logged there
	return nil
}

// roles is how one takes another role, by the door.
var roles = map[string]string{
	DoorRFB:  "a role stands behind the user name: /watch, /take",
	DoorCode: "a code is for one role",
}

// refuse tells the viewer why it is not let in, with how another role is taken, and waits a moment, so that the text is read before
// the connection ends.
func (g *guest) refuse(c net.Conn, err error, role string) error {
	reason := "the relay cannot serve you now"
	var r *refuse.Refusal
	if errors.As(err, &r) {
		reason = r.Where(role).Reason()
	}
	if g.within("end of the connection", g.times.Linger) != nil {
		return err
	}
	if rfb.WriteResult(c, g.minor, reason) != nil {
		return err
	}
	g.linger(c)
	return err
}

// maxLinger is how much of what a refused viewer goes on sending is read, bytes.
const maxLinger = 64 << 10

// linger ends our side of the stream and reads until the viewer ends its own; a connection closed with unread bytes
// would be reset, and the text lost.
func (g *guest) linger(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok && h.CloseWrite() != nil {
		return
	}
	if h, ok := g.conn.(interface{ CloseWrite() error }); ok && c != g.conn && h.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, g.conn, maxLinger)
}

// explain is the reason of a broken handshake for the log. A viewer that left before it sent a secret is no event.
func (g *guest) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &turnstile.TimeError{Step: g.step, Limit: g.limit}
	}
	return err
}

// People signs people in.
type People interface {
	SignIn(ctx context.Context, email string, password []byte, src netip.Addr, door string) (*account.Account, error)
}

// RFB is the door for viewers that send a user name: VeNCrypt X509Plain, and nothing else.
type RFB struct {
	TLS    *tls.Config
	People People
	Desks  Desks
	Times  Times // zero: the usual ones
}

// DoorRFB is the name of this door in logs, metrics and the audit log.
const DoorRFB = "rfb"

// Handle serves one connection; it is a turnstile.Door's Handle.
func (d *RFB) Handle(ctx context.Context, conn net.Conn, at *turnstile.Place) error {
	g := newGuest(conn, at, d.Times)
	return g.explain(d.serve(ctx, g))
}

func (d *RFB) serve(ctx context.Context, g *guest) error {
	if _, err := g.hello(rfb.SecVeNCrypt); err != nil {
		return err
	}
	c, _, err := rfb.X509(g.conn, d.TLS, rfb.X509Plain)
	if err != nil {
		return err
	}
	in, err := g.typed(c)
	if err != nil {
		return err
	}
	user, password, err := rfb.ReadPlain(in)
	if err != nil {
		return err
	}
	defer clear(password)
	if err := g.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	name := ParseName(user)
	var acct *account.Account
	var no error
	err = g.answer(ctx, c, func(ctx context.Context) {
		acct, no = d.signIn(ctx, name.Account, password, g.from.Addr())
	})
	if err != nil {
		return err
	}
	if no != nil {
		return g.refuse(c, no, "")
	}
	return g.enter(ctx, d.Desks, c, broker.Request{
		Account: acct, Computer: name.Computer, Role: name.Role, Door: DoorRFB,
	})
}

func (d *RFB) signIn(ctx context.Context, email string, password []byte, src netip.Addr) (*account.Account, error) {
	if email == "" || len(password) == 0 {
		return nil, refuse.SignIn.Of()
	}
	return d.People.SignIn(ctx, email, password, src, DoorRFB)
}

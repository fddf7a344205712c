package door

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/turnstile"
)

// DoorCode is the name of the code door in logs, metrics and the audit log.
const DoorCode = "code"

// Codes knows the one-time codes.
type Codes interface {
	// Match spends the code that try accepts; without one it is refuse.CodeInvalid.
	Match(try func(code string) bool) (*registry.Grant, error)
}

// Guesses counts and records wrong codes and right ones like passwords.
type Guesses interface {
	// Guess has check look at a code, unless the source must wait: refuse.SlowDown.
	Guess(ctx context.Context, src netip.Addr, door string, check func() (*account.Account, error)) error
}

// Code is the door for viewers that cannot send a user name. A one-time code, used as the password of VncAuth,
// stands for account, computer and role. It travels inside TLS (VeNCrypt X509Vnc), or in clear where Offers says so.
type Code struct {
	TLS     *tls.Config
	Codes   Codes
	Guesses Guesses
	Desks   Desks
	Offers  []rfb.SecurityType // VeNCrypt, and VncAuth where nobody listens on the way
	Times   Times              // zero: the usual ones
}

// Handle serves one connection; it is a turnstile.Door's Handle.
func (d *Code) Handle(ctx context.Context, conn net.Conn, at *turnstile.Place) error {
	g := newGuest(conn, at, d.Times)
	return g.explain(d.serve(ctx, g))
}

func (d *Code) serve(ctx context.Context, g *guest) error {
	choice, err := g.hello(d.Offers...)
	if err != nil {
		return err
	}
	c := g.conn
	if choice == rfb.SecVeNCrypt {
		if c, _, err = rfb.X509(g.conn, d.TLS, rfb.X509Vnc); err != nil {
			return err
		}
	}
	in, err := g.typed(c)
	if err != nil {
		return err
	}
	challenge, response, err := rfb.Challenge(in)
	if err != nil {
		return err
	}
	if err := g.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	grant, err := d.match(ctx, g.from.Addr(), func(code string) bool { return rfb.Answers(code, challenge, response) })
	if err != nil {
		return g.refuse(c, err, "")
	}
	return g.enter(ctx, d.Desks, c, broker.Request{
		Account: grant.Account, Computer: grant.Computer, Role: grant.Role, Door: DoorCode,
	})
}

// match spends a code.
func (d *Code) match(ctx context.Context, src netip.Addr, try func(code string) bool) (grant *registry.Grant, err error) {
	err = d.Guesses.Guess(ctx, src, DoorCode, func() (*account.Account, error) {
		if grant, err = d.Codes.Match(try); err != nil {
			return nil, err
		}
		return grant.Account, nil
	})
	return grant, err
}

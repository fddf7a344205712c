// Package gate is relayd's SSH door. Computers dial in with their keys, new ones enrol with a token, and people jump
// through to a computer with the SSH client they have. There is no shell, no file and no other address behind it.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/turnstile"
)

// Door is the name of this door in logs, metrics and the audit log.
const Door = "ssh"

// People signs people in.
type People interface {
	// Password signs in whose account has no second factor; it gives the others to SecondFactor.
	Password(ctx context.Context, email string, password []byte, src netip.Addr, door string) (*account.Account, *account.Half, error)
	SecondFactor(ctx context.Context, h *account.Half, code string, src netip.Addr, door string) (*account.Account, error)
	ByKey(ctx context.Context, email string, key ssh.PublicKey, src netip.Addr) (*account.Account, error)
	Holds(ctx context.Context, a *account.Account) error
	Failed(ctx context.Context, email string, src netip.Addr, door string) error
	Succeeded(ctx context.Context, a *account.Account, src netip.Addr, door string) error
}

// Computers knows the computers' keys and keeps their tunnels.
type Computers interface {
	ByKey(ctx context.Context, key ssh.PublicKey) (*registry.Computer, error)
	Enroll(ctx context.Context, tokenID, secret, hostname string, key ssh.PublicKey, src netip.Addr) (registry.Computer, error)
	Attach(computer string, s *tunnel.Session)
	Outdated(computer string)
}

// Desks opens sessions.
type Desks interface {
	Open(ctx context.Context, req broker.Request) (*broker.Session, error)
}

// Times bound the steps of a connection.
type Times struct {
	KeyExchange time.Duration // from the first byte to the exchanged keys
	SignIn      time.Duration // from there on: people type
	Enroll      time.Duration // after the sign-in of a computer that brings a token
}

// Gate is the SSH door.
type Gate struct {
	Log       *slog.Logger
	Name      string // of the relay, as people reach it
	HostKey   ssh.Signer
	People    People
	Computers Computers
	Desks     Desks
	Penalties *turnstile.Penalties
	Times     Times // zero: the usual ones

	guests guests
}

// usual are the times that hold where none are set.
func (t Times) usual() Times {
	if t == (Times{}) {
		return Times{KeyExchange: 20 * time.Second, SignIn: 120 * time.Second, Enroll: 30 * time.Second}
	}
	return t
}

// maxAuthTries is how many keys and passwords one connection may try.
const maxAuthTries = 6

// config is the server's side of the handshake of one connection.
func (g *Gate) config(v *visit) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config: tunnel.Algorithms(),
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		MaxAuthTries:                maxAuthTries,
		ServerVersion:               "SSH-2.0-Helmline",
		PublicKeyCallback:           v.publicKey,
		PasswordCallback:            v.password,
		KeyboardInteractiveCallback: v.keyboard,
		PreAuthConnCallback:         func(ssh.ServerPreAuthConn) { v.keysExchanged() },
	}
	c.AddHostKey(g.HostKey)
	return c
}

// Handle serves one connection; it is a turnstile.Door's Handle.
func (g *Gate) Handle(ctx context.Context, raw net.Conn, at *turnstile.Place) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	raw = tunnel.Wrap(raw)
	times := g.Times.usual()
	v := &visit{gate: g, ctx: ctx, raw: raw, at: at, times: times, from: turnstile.Source(raw)}
	if err := raw.SetDeadline(time.Now().Add(times.KeyExchange)); err != nil {
		return err
	}
	conn, chans, reqs, err := ssh.NewServerConn(newStrictConn(raw), g.config(v))
	if err != nil {
		return v.failed(err)
	}
	defer conn.Close()
	who, ok := conn.Permissions.ExtraData[identity{}]
	if !ok {
		return errors.New("signed in as nobody")
	}
	switch who := who.(type) {
	case *registry.Computer:
		return g.computer(ctx, v, who, conn, chans, reqs, at)
	case enrolling:
		return g.enroll(ctx, v, conn, chans, reqs)
	case *account.Account:
		at.Leave()
		if err := raw.SetDeadline(time.Time{}); err != nil {
			return err
		}
		return g.person(ctx, v, who, conn, chans, reqs)
	}
	return fmt.Errorf("signed in as %T", who)
}

// computer serves an enrolled computer until its tunnel ends.
func (g *Gate) computer(ctx context.Context, v *visit, c *registry.Computer, conn *ssh.ServerConn,
	chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, at *turnstile.Place) error {
	defer g.Penalties.Trust(v.from.Addr())()
	s, err := tunnel.ServeTunnel(conn, chans, reqs)
	if err != nil {
		if errors.Is(err, tunnel.ErrVersion) {
			g.Computers.Outdated(c.ID)
		}
		return fmt.Errorf("tunnel of %s: %w", c.Name, err)
	}
	defer s.Close()
	at.Leave()
	if err := v.raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	g.Computers.Attach(c.ID, s)
	select {
	case <-s.Done():
	case <-ctx.Done():
		return nil
	}
	// Whoever has ended the tunnel tells the computer why, and closes the connection.
	told, late := make(chan struct{}), time.NewTimer(lastWords)
	defer late.Stop()
	go func() {
		_ = conn.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-late.C:
	case <-ctx.Done():
	}
	return nil
}

// lastWords is how long a computer has to hear why its tunnel is ended.
const lastWords = 2 * time.Second

// enroll serves a computer that brings a token.
func (g *Gate) enroll(ctx context.Context, v *visit, conn *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) error {
	ctx, stop := context.WithTimeout(ctx, v.times.Enroll)
	defer stop()
	if err := v.raw.SetDeadline(time.Now().Add(v.times.Enroll)); err != nil {
		return err
	}
	var name string
	err := tunnel.ServeEnroll(ctx, conn, chans, reqs, func(ctx context.Context, id, secret, hostname string, key ssh.PublicKey) (tunnel.Enrolled, error) {
		c, err := g.Computers.Enroll(ctx, id, secret, hostname, key, v.from.Addr())
		if err != nil {
			return tunnel.Enrolled{}, err
		}
		name = c.Name
		return tunnel.Enrolled{ID: c.ID, Name: c.Name, Relay: g.Name}, nil
	})
	if err != nil {
		g.Penalties.Add(v.from.Addr(), turnstile.AuthFailed)
		return fmt.Errorf("enrolment: %w", err)
	}
	g.Log.Info("computer enrolled", "host", name, "viewer", v.from)
	return nil
}

// Limits of one account at this door. What a client sends in a channel is kept until somebody reads it, up to 2 MiB:
// x/crypto/ssh has no smaller window. So an account's channels hold 128 MiB at most.
const (
	maxConns    = 32 // SSH connections
	maxChannels = 64 // in all of them
)

// guests are the people who are signed in, by account.
type guests struct {
	mu  sync.Mutex // guards what follows
	all map[int64]*guest
}

// A guest is what one account has open.
type guest struct {
	conns    map[*ssh.ServerConn]bool
	channels int
}

func (g *guests) add(id int64, c *ssh.ServerConn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = make(map[int64]*guest)
	}
	if g.all[id] == nil {
		g.all[id] = &guest{conns: make(map[*ssh.ServerConn]bool)}
	}
	if len(g.all[id].conns) >= maxConns {
		return fmt.Errorf("the account has %d connections already", maxConns)
	}
	g.all[id].conns[c] = true
	return nil
}

// remove forgets a connection whose channels are over.
func (g *guests) remove(id int64, c *ssh.ServerConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if delete(g.all[id].conns, c); len(g.all[id].conns) == 0 {
		delete(g.all, id)
	}
}

// open counts a channel of an account that has a connection. It reports false for one too many.
func (g *guests) open(id int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all[id].channels >= maxChannels {
		return false
	}
	g.all[id].channels++
	return true
}

func (g *guests) close(id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all[id].channels--
}

// EndAccount ends the connections of an account that was disabled.
func (g *Gate) EndAccount(id int64) {
	g.guests.mu.Lock()
	defer g.guests.mu.Unlock()
	if a := g.guests.all[id]; a != nil {
		for c := range a.conns {
			go c.Close() // which may wait for the network
		}
	}
}

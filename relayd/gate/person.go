package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/turnstile"
)

// Limits of one person's connection.
const (
	maxHolds     = 4   // session channels at once: ssh needs one, and shares a connection among several "sleep"
	askPerSecond = 20  // channels and requests
	askBurst     = 100 // at first, or after silence
)

// A person is one signed-in connection of a person. serve's goroutine reads requests and channels; each channel has
// one of its own.
type person struct {
	gate     *Gate
	account  *account.Account
	from     *visit
	conn     *ssh.ServerConn
	ask      *rate.Limiter // whatever the peer asks for
	channels sync.WaitGroup
	holds    chan struct{} // one for each session channel
}

func (g *Gate) person(ctx context.Context, v *visit, acct *account.Account, conn *ssh.ServerConn,
	chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) error {
	if _, err := tunnel.VerifiedKey(conn); err == nil { // passwords are counted where they are checked
		if err := g.People.Succeeded(ctx, acct, v.from.Addr(), Door); err != nil {
			return err
		}
	}
	if err := g.guests.add(acct.ID, conn); err != nil {
		return err
	}
	defer g.guests.remove(acct.ID, conn)
	// The key was looked up when it was offered, which may be minutes ago. Asked only now that EndAccount knows the
	// connection, nothing that is withdrawn at this moment is missed.
	if err := g.People.Holds(ctx, acct); err != nil {
		return err
	}
	p := &person{
		gate: g, account: acct, from: v, conn: conn, ask: rate.NewLimiter(askPerSecond, askBurst),
		holds: make(chan struct{}, maxHolds),
	}
	return p.serve(ctx, chans, reqs)
}

var errAsks = errors.New("the client asks for too much")

func (p *person) serve(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.channels.Wait()
	defer cancel()
	defer p.conn.Close()
	for {
		select {
		case req, ok := <-reqs:
			if !ok {
				return nil // the connection is over
			}
			if !p.ask.Allow() {
				return errAsks
			}
			if err := answer(req, false); err != nil {
				return nil
			}
		case nc, ok := <-chans:
			if !ok {
				return nil
			}
			if !p.ask.Allow() {
				return errAsks
			}
			if !p.gate.guests.open(p.account.ID) {
				_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("the account has %d channels already", maxChannels))
				continue
			}
			p.channels.Go(func() {
				defer p.gate.guests.close(p.account.ID)
				defer p.survive()
				p.channel(ctx, nc)
			})
		}
	}
}

// survive ends the connection when one of its channels has made this code panic; the turnstile does so for what runs in
// the connection's own goroutine.
func (p *person) survive() {
	if r := recover(); r != nil {
		p.gate.Log.Error("channel panicked", "door", Door, "viewer", p.from.from, "err", r, "stack", string(debug.Stack()))
		p.gate.Penalties.Add(p.from.from.Addr(), turnstile.Broken)
		p.conn.Close()
	}
}

// answer answers a request that wants it.
func answer(req *ssh.Request, ok bool) error {
	if !req.WantReply {
		return nil
	}
	return req.Reply(ok, nil)
}

func (p *person) channel(ctx context.Context, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "direct-tcpip":
		p.forward(ctx, nc)
	case "session":
		p.session(ctx, nc)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "only direct-tcpip to COMPUTER:5900 is served here")
	}
}

// forward joins a direct-tcpip channel to a computer.
func (p *person) forward(ctx context.Context, nc ssh.NewChannel) {
	t, err := parseTarget(nc.ExtraData())
	if err != nil {
		_ = nc.Reject(ssh.Prohibited, err.Error())
		return
	}
	s, err := p.gate.Desks.Open(ctx, broker.Request{
		Account: p.account, Computer: t.computer, Role: t.role, Door: Door, Viewer: p.from.from, Purpose: tunnel.RFB, WithCode: true,
	})
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer s.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	c := &channelConn{Channel: ch, conn: p.conn, gone: make(chan struct{})}
	p.channels.Go(func() {
		p.refuseAll(reqs)
		close(c.gone)
	})
	_ = s.Join(c) // logged there
}

// refuseAll answers a channel's requests until it ends.
func (p *person) refuseAll(reqs <-chan *ssh.Request) {
	for req := range reqs {
		if !p.ask.Allow() {
			p.conn.Close()
		}
		_ = answer(req, false) // a dead connection ends reqs
	}
}

// A channelConn is a channel as the broker joins it. Deadlines are not kept: the connection under it has its own
// timeouts.
type channelConn struct {
	ssh.Channel
	conn ssh.Conn
	gone chan struct{} // closed when the peer has closed the channel too
	once sync.Once
}

// closeTime is how long a client has to close a channel that we closed.
const closeTime = time.Second

// Close closes the channel. Reads and writes end when the client has closed it too; a client that does not do so in
// time loses its connection.
func (c *channelConn) Close() error {
	c.once.Do(func() {
		late := time.AfterFunc(closeTime, func() { c.conn.Close() })
		go func() {
			<-c.gone
			late.Stop()
		}()
		c.Channel.Close()
	})
	return nil
}

func (c *channelConn) LocalAddr() net.Addr              { return c.conn.LocalAddr() }
func (c *channelConn) RemoteAddr() net.Addr             { return c.conn.RemoteAddr() }
func (c *channelConn) SetDeadline(time.Time) error      { return nil }
func (c *channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c *channelConn) SetWriteDeadline(time.Time) error { return nil }

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

// A Dialer dials a relay for an enrolled computer.
type Dialer struct {
	Addr     string     // host:port of the relay's SSH door
	Key      ssh.Signer // the computer's key, ed25519
	RelayKey string     // SHA256 fingerprint of the relay's key, as ssh.FingerprintSHA256 gives it
	Hello    Hello      // its Streams is set from Limits
	Limits   Limits     // of what the relay may ask for

	// Connect makes the connection; nil is TCP by the net package.
	Connect func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ErrNotAccepted says that the relay does not accept this computer's key, because the computer was removed or never
// enrolled there.
var ErrNotAccepted = errors.New("the relay does not accept this computer's key; enrol it again if it was removed")

// Dial dials the relay, checks its key before anything but the key exchange is sent, signs in and opens the tunnel.
// It gives a *KeyError for a wrong key, and ErrNotAccepted when the relay does not know this computer.
func (d *Dialer) Dial(ctx context.Context) (*Session, error) {
	conn, chans, reqs, err := d.connect(ctx, UserTunnel)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	hello := d.Hello
	hello.Streams = uint16(d.Limits.fill().Streams)
	ch, chReqs, err := conn.OpenChannel(channelTunnel, hello.AppendTo(nil))
	if err != nil {
		_ = conn.Close()
		return nil, channelError(ctx, d.Addr, err)
	}
	s, err := newSession(channel{conn, chans, reqs, ch, chReqs}, hello, d.Limits, true)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// connect makes the SSH connection, all within ctx.
func (d *Dialer) connect(ctx context.Context, user string) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	dial := d.Connect
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c, err := dial(ctx, "tcp", d.Addr)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("dial the relay: %w", err)
	}
	c = Wrap(c)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	var wrong error
	asked := false // for the computer's key, by a relay whose own key is right
	conn, chans, reqs, err := ssh.NewClientConn(c, d.Addr, &ssh.ClientConfig{
		Config: Algorithms(),
		User:   user,
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			asked = true
			return []ssh.Signer{d.Key}, nil
		})},
		HostKeyCallback: func(host string, addr net.Addr, key ssh.PublicKey) error {
			wrong = pin(d.RelayKey)(host, addr, key)
			return wrong
		},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		ClientVersion:     "SSH-2.0-helmline",
	})
	if !stop() && err == nil {
		_ = conn.Close()
		err = ctx.Err()
	}
	if err == nil {
		return conn, chans, reqs, nil
	}
	_ = c.Close()
	var network net.Error
	switch {
	case wrong != nil:
		return nil, nil, nil, wrong
	case ctx.Err() != nil:
		return nil, nil, nil, fmt.Errorf("dial the relay: %s does not answer as an SSH server: %w", d.Addr, ctx.Err())
	case asked && !errors.As(err, &network) && !errors.Is(err, io.EOF):
		return nil, nil, nil, ErrNotAccepted
	}
	return nil, nil, nil, fmt.Errorf("dial the relay: %s: %w", d.Addr, err)
}

// channelError says why the relay gave no channel.
func channelError(ctx context.Context, addr string, err error) error {
	if e := ctx.Err(); e != nil {
		err = e
	}
	var no *ssh.OpenChannelError
	if errors.As(err, &no) {
		return fmt.Errorf("the relay refuses: %s", refuse.Printable(no.Message, refuse.MaxText))
	}
	return fmt.Errorf("dial the relay: %s: %w", addr, err)
}

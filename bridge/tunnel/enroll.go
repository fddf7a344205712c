package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/wire"
)

// Enrolled is what a relay answers to a token that it took.
type Enrolled struct {
	ID    string // of the computer, at most 64 bytes
	Name  string // of the computer, at most 255 bytes
	Relay string // the relay's public name, at most 255 bytes
}

// Limits of an enrolment, bytes and time.
const (
	maxHostname   = 255
	maxEnroll     = 1024
	enrollVersion = 1
	enrollTimeout = 30 * time.Second // for all of it
)

// Enroll spends a token. The connection itself proves that this side holds key; the token is sent only after the relay
// has shown the key that the token names, else a *KeyError is returned and nothing was sent. When the connection
// breaks before the answer, Enroll may be called again with the same key: the relay gives the same answer. A refusal
// comes back as *refuse.Refusal.
func Enroll(ctx context.Context, t Token, key ssh.Signer, hostname string) (Enrolled, error) {
	return (&Dialer{Addr: t.Relay, Key: key, RelayKey: t.Fingerprint}).Enroll(ctx, t, hostname)
}

// Enroll is the function of that name with the dialer's key and Connect.
func (d *Dialer) Enroll(ctx context.Context, t Token, hostname string) (Enrolled, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	d = &Dialer{Addr: t.Relay, RelayKey: t.Fingerprint, Key: d.Key, Connect: d.Connect}
	conn, chans, reqs, err := d.connect(ctx, UserEnroll)
	if err != nil {
		return Enrolled{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	done := make(chan struct{})
	go func() { // a relay asks a computer that enrols for nothing
		defer close(done)
		for reqs != nil || chans != nil {
			select {
			case r, ok := <-reqs:
				if reqs = unless(ok, reqs); ok {
					_ = r.Reply(false, nil)
				}
			case nc, ok := <-chans:
				if chans = unless(ok, chans); ok {
					_ = nc.Reject(ssh.Prohibited, "")
				}
			}
		}
	}()
	defer func() { _ = conn.Close(); <-done }()

	b := append(make([]byte, 0, maxEnroll), enrollVersion)
	b = wire.AppendString8(b, t.ID)
	b = wire.AppendString8(b, t.Secret)
	b = wire.AppendString8(b, cut(hostname, maxHostname))
	ch, chReqs, err := conn.OpenChannel(channelEnroll, b)
	if err != nil {
		return Enrolled{}, channelError(ctx, t.Relay, err)
	}
	go ssh.DiscardRequests(chReqs) // ends with the connection, which the deadline bounds
	e, err := readEnrolled(ch)
	if e2 := ctx.Err(); err != nil && e2 != nil {
		err = fmt.Errorf("the relay did not answer: %w", e2)
	}
	return e, err
}

func unless[T any](ok bool, c <-chan T) <-chan T {
	if ok {
		return c
	}
	return nil
}

func readEnrolled(from io.Reader) (Enrolled, error) {
	if _, err := ReadReply(from); err != nil {
		return Enrolled{}, err
	}
	r := wire.NewReader(from)
	e := Enrolled{ID: text(r, "id", MaxSession), Name: text(r, "name", maxHostname), Relay: text(r, "relay", maxRelay)}
	if err := r.Err(); err != nil {
		return Enrolled{}, fmt.Errorf("answer to the enrolment: %w", err)
	}
	return e, nil
}

// A Registrar decides on an enrolment: it spends the token and enters the computer with its key in one transaction, or
// returns an error; a *refuse.Refusal is shown to the person as it is. The same token with the same key gives the same
// answer again, as the first answer may have been lost.
type Registrar func(ctx context.Context, id, secret, hostname string, key ssh.PublicKey) (Enrolled, error)

// ServeEnroll serves one computer that signed in as UserEnroll with KeyPermissions, within 30 s, and closes the
// connection. It returns why nothing was enrolled.
func ServeEnroll(ctx context.Context, conn ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, register Registrar) error {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	key, err := VerifiedKey(conn)
	if err != nil {
		return err
	}
	if key.Type() != ssh.KeyAlgoED25519 {
		return fmt.Errorf("the computer's key is %s, not ed25519", key.Type())
	}
	nc, err := firstChannel(channelEnroll, chans, reqs)
	if err != nil {
		return err
	}
	id, secret, hostname, err := parseEnroll(nc.ExtraData())
	if err != nil {
		_ = nc.Reject(ssh.Prohibited, err.Error())
		return err
	}
	ch, chReqs, err := nc.Accept()
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(chReqs) // ends with the connection, as the other two
	go ssh.DiscardRequests(reqs)
	go func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "only one channel")
		}
	}()
	e, failed := register(ctx, id, secret, hostname, key)
	answer := bytes.NewBuffer(nil)
	if failed != nil {
		var no *refuse.Refusal
		if !errors.As(failed, &no) {
			no = refuse.Busy.Of()
		}
		_ = WriteReply(answer, no) // a buffer takes it
	} else {
		_ = WriteReply(answer, nil)
		answer.Write(wire.AppendString8(nil, cut(e.ID, MaxSession)))
		answer.Write(wire.AppendString8(nil, cut(e.Name, maxHostname)))
		answer.Write(wire.AppendString8(nil, cut(e.Relay, maxRelay)))
	}
	if _, err := ch.Write(answer.Bytes()); err != nil && failed == nil {
		return fmt.Errorf("the answer to the enrolment was not delivered: %w", err)
	}
	_ = ch.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(ch, maxEnroll)) // until the computer has read it and hangs up
	return failed
}

func parseEnroll(b []byte) (id, secret, hostname string, err error) {
	if len(b) > maxEnroll {
		return "", "", "", fmt.Errorf("enrolment of %d bytes, more than %d", len(b), maxEnroll)
	}
	r := wire.NewReader(bytes.NewReader(b))
	if v := r.U8(); r.Err() == nil && v != enrollVersion {
		r.Failf("enrolment of version %d, not %d; update the relay", v, enrollVersion)
	}
	id = text(r, "token id", maxTokenID)
	secret = text(r, "token secret", maxSecret)
	hostname = text(r, "host name", maxHostname)
	return id, secret, hostname, r.Err()
}

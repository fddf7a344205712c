package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/turnstile"
)

// identity is the key under which the permissions of a connection hold who it is: a *registry.Computer, enrolling
// or an *account.Account. x/crypto/ssh asks about every key that is offered, proven or not, and hands the
// permissions of the proven one to the connection; nothing else may decide (CVE-2024-45337).
type identity struct{}

// enrolling is a computer that is not known yet; the proven key is in tunnel.VerifiedKey.
type enrolling struct{}

var errKeyOnly = errors.New("computers sign in with their key")

// A visit is one connection until it has signed in. x/crypto/ssh calls its methods one after the other.
type visit struct {
	gate  *Gate
	ctx   context.Context
	raw   net.Conn
	at    *turnstile.Place
	times Times
	from  netip.AddrPort

	exchanged   bool   // keys are exchanged
	last        error  // what the last try to sign in ended with
	unknownKey  bool   // a computer's key was not known
	wrong       bool   // a password was wrong: counted
	offeredKeys string // a person's keys did not fit, whose: not counted yet
	unproven    bool   // a key did fit
}

// keysExchanged gives a person time to type.
func (v *visit) keysExchanged() {
	v.exchanged = true
	v.at.Settle()
	v.last = v.raw.SetDeadline(time.Now().Add(v.times.SignIn))
}

func (v *visit) publicKey(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	v.unproven = false
	p := tunnel.KeyPermissions(key)
	switch meta.User() {
	case tunnel.UserTunnel, tunnel.UserEnroll:
		if key.Type() != ssh.KeyAlgoED25519 {
			v.last = errors.New("a computer's key is of type " + ssh.KeyAlgoED25519)
			return nil, v.last
		}
		p.ExtraData[identity{}] = enrolling{}
		if meta.User() == tunnel.UserTunnel {
			c, err := v.gate.Computers.ByKey(v.ctx, key)
			if err != nil {
				v.unknownKey, v.last = refuse.NotAccepted.Is(err), err
				return nil, err
			}
			p.ExtraData[identity{}] = c
		}
		v.unproven = true
		return p, nil
	}
	acct, err := v.gate.People.ByKey(v.ctx, meta.User(), key, v.from.Addr())
	if err != nil {
		if v.last = err; refuse.SignIn.Is(err) { // anything else says nothing about the key
			v.offeredKeys = meta.User()
		}
		return nil, err
	}
	p.ExtraData[identity{}] = acct
	v.unproven = true
	return p, nil
}

// password asks for the second factor of an account that has one by a method of its own: RFC 4252, section 5.1.
func (v *visit) password(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	defer clear(password)
	p, half, err := v.signIn(meta.User(), password)
	if half != nil {
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				return v.secondFactor(half, ask)
			},
		}}
	}
	return p, err
}

func (v *visit) keyboard(meta ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	if isComputer(meta.User()) {
		return nil, errKeyOnly
	}
	password, err := question(ask, "Password of your account: ")
	if err != nil {
		return nil, err
	}
	p, half, err := v.signIn(meta.User(), []byte(password))
	if half != nil {
		return v.secondFactor(half, ask)
	}
	return p, err
}

// question has a person answer without seeing what they type.
func question(ask ssh.KeyboardInteractiveChallenge, text string) (string, error) {
	answers, err := ask("", "", []string{text}, []bool{false})
	if err == nil && len(answers) != 1 {
		err = errors.New("one question, but not one answer")
	}
	if err != nil {
		return "", err
	}
	return answers[0], nil
}

func (v *visit) signIn(email string, password []byte) (*ssh.Permissions, *account.Half, error) {
	if isComputer(email) {
		v.last = errKeyOnly
		return nil, nil, v.last
	}
	var acct *account.Account
	var half *account.Half
	err := error(refuse.SignIn.Of())
	if len(password) > 0 {
		acct, half, err = v.gate.People.Password(v.ctx, email, password, v.from.Addr(), Door)
	}
	if half != nil {
		return nil, half, nil
	}
	p, err := v.ended(acct, err)
	return p, nil, err
}

func (v *visit) secondFactor(half *account.Half, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	what := "Code of your authenticator, or a recovery code: "
	if !half.Codes {
		what = "A passkey works in a browser only. Come with an SSH key that your account has, or type a recovery code: "
	}
	code, err := question(ask, what)
	if err != nil {
		return nil, err
	}
	return v.ended(v.gate.People.SecondFactor(v.ctx, half, code, v.from.Addr(), Door))
}

// ended is how a sign-in by what was typed has ended.
func (v *visit) ended(acct *account.Account, err error) (*ssh.Permissions, error) {
	if err != nil {
		v.last = err
		v.wrong = v.wrong || refuse.SignIn.Is(err) || refuse.WrongFactor.Is(err)
		return nil, told(err)
	}
	return &ssh.Permissions{ExtraData: map[any]any{identity{}: acct}}, nil
}

func isComputer(user string) bool { return user == tunnel.UserTunnel || user == tunnel.UserEnroll }

// told makes ssh print a refusal.
func told(err error) error {
	var r *refuse.Refusal
	if errors.As(err, &r) {
		return &ssh.BannerError{Err: err, Message: r.Error() + "\r\n"}
	}
	return err
}

// failed counts a handshake that ended with err and gives the reason for the log.
func (v *visit) failed(err error) error {
	if v.offeredKeys != "" && !v.wrong && v.ctx.Err() == nil {
		if err := v.gate.People.Failed(v.ctx, v.offeredKeys, v.from.Addr(), Door); err != nil {
			v.last = errors.Join(v.last, err)
		}
	}
	v.gate.Penalties.Add(v.from.Addr(), v.penalty(err))
	return v.explain(err)
}

// penalty is what a handshake that ended with err costs its source.
func (v *visit) penalty(err error) time.Duration {
	var none *ssh.AlgorithmNegotiationError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return turnstile.TimedOut
	case v.unknownKey:
		return turnstile.UnknownKey
	case v.wrong, v.unproven, v.offeredKeys != "":
		return turnstile.AuthFailed
	case v.exchanged, errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.As(err, &none):
		return turnstile.NoAuth
	case v.ctx.Err() != nil:
		return 0 // the relay is stopping
	}
	return turnstile.AuthFailed // what it sent is not SSH
}

// explain is err for the log.
func (v *visit) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && v.exchanged:
		return &turnstile.TimeError{Step: "sign-in", Limit: v.times.SignIn}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &turnstile.TimeError{Step: "key exchange", Limit: v.times.KeyExchange}
	case v.last != nil:
		return v.last
	}
	return err
}

package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// How long a code is good by which a person sets a password.
const (
	inviteTime = 24 * time.Hour
	resetTime  = 30 * time.Minute
)

// A Welcome says whose password a code sets.
type Welcome struct {
	Email string
	New   bool // the account is made by it
}

// Invite makes a code by which a person makes the account of that e-mail, once and soon. It replaces an older one.
func (s *Service) Invite(ctx context.Context, email string, admin bool) (code string, expires time.Time, err error) {
	if err := CheckEmail(email); err != nil {
		return "", time.Time{}, err
	}
	switch _, err := s.ByEmail(ctx, email); {
	case err == nil:
		return "", time.Time{}, store.Tell(store.ErrExists, "there is an account %q already", clip(email))
	case !errors.Is(err, store.ErrNotFound):
		return "", time.Time{}, err
	}
	return s.welcome(ctx, store.Welcome{Email: email, Admin: admin, Expires: time.Now().Add(inviteTime)})
}

// ResetCode makes a code by which a person who has forgotten the password of an account sets another. A second factor stays.
func (s *Service) ResetCode(ctx context.Context, email string) (code string, expires time.Time, err error) {
	err = s.with(ctx, email, func(a *Account) error {
		code, expires, err = s.welcome(ctx, store.Welcome{Email: a.Email, Account: a.ID, Expires: time.Now().Add(resetTime)})
		return err
	})
	return code, expires, err
}

func (s *Service) welcome(ctx context.Context, w store.Welcome) (string, time.Time, error) {
	b := make([]byte, recoveryBytes)
	rand.Read(b)
	plain := b32.EncodeToString(b)
	w.Hash = sha256.Sum256([]byte(plain))
	return inFours(plain), w.Expires, s.store.SetWelcome(ctx, w, EmailKey(w.Email), time.Now())
}

// Welcome looks at a code of Invite or ResetCode. It counts as a guess like a password. Errors: refuse.WelcomeInvalid, SlowDown, Busy,
// StorageOut, or ctx's.
func (s *Service) Welcome(ctx context.Context, code string, src netip.Addr, door string) (Welcome, error) {
	var row store.Welcome
	_, err := s.guess(ctx, src, func() (_ *Account, err error) {
		row, err = s.welcomed(ctx, code)
		return nil, err
	})
	if err != nil {
		s.refused(ctx, "", src, door, err)
	}
	return Welcome{row.Email, row.Account == 0}, err
}

func (s *Service) welcomed(ctx context.Context, code string) (store.Welcome, error) {
	if len(code) > maxCode {
		return store.Welcome{}, refuse.WelcomeInvalid.Of()
	}
	w, err := s.store.Welcome(ctx, welcomeHash(code), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		err = refuse.WelcomeInvalid.Of()
	}
	return w, err
}

func welcomeHash(code string) [32]byte { return sha256.Sum256([]byte(plainCode(code))) }

// Accept spends a code of Invite or ResetCode, which sets the password; a bad password costs nothing. What was open in the name of an
// account that was there already ends. Errors: Welcome's, and what is wrong with the password.
func (s *Service) Accept(ctx context.Context, code string, password []byte, src netip.Addr, door string) (Welcome, error) {
	w, err := s.Welcome(ctx, code, src, door)
	if err != nil {
		return w, err
	}
	if err := CheckPassword(w.Email, password); err != nil {
		return w, err
	}
	hash, err := s.hasher.make(ctx, password)
	if err != nil {
		return w, err
	}
	e := audit.Event{Kind: "account.add", Account: w.Email, Door: door, Source: address(src), Detail: "by an invitation"}
	if !w.New {
		e.Kind, e.Detail = "account.password", "by a reset code"
	}
	if err := s.trail.Write(ctx, e); err != nil {
		return w, err
	}
	err = s.store.UseWelcome(ctx, welcomeHash(code), EmailKey(w.Email), hash, time.Now())
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists) {
		err = refuse.WelcomeInvalid.Of()
	}
	if err != nil {
		e.Kind, e.Detail = e.Kind+".failed", err.Error()
		return w, errors.Join(err, s.trail.Write(context.WithoutCancel(ctx), e))
	}
	if !w.New {
		err = s.with(ctx, w.Email, func(a *Account) error {
			s.revoked(a.ID, changedPassword)
			return nil
		})
	}
	return w, err
}

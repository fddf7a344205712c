package account

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// SignIn checks an account's password for a door that cannot ask for more, counts and records the outcome; where the account has a
// second factor, a right password waits to be approved on a page, for a minute at most. It runs argon2id exactly once whether the account is there, disabled or
// unknown, and not at all for a source that is blocked. src is the viewer's address; a zero one is not counted. Errors:
// refuse.SignIn, NeedsFactor, NotApproved, SlowDown, Busy, StorageOut (also when the sign-in cannot be recorded), or ctx's.
func (s *Service) SignIn(ctx context.Context, email string, password []byte, src netip.Addr, door string) (*Account, error) {
	a, half, err := s.Password(ctx, email, password, src, door)
	if half == nil {
		return a, err
	}
	if err := s.ask(ctx, half, src, door); err != nil {
		s.refused(ctx, email, src, door, err)
		return nil, err
	}
	return half.account, s.succeeded(ctx, half.account, src, door, "approved on a page")
}

// Password is SignIn for a door that can ask for the second factor: half, for SecondFactor, is set when the account has one.
func (s *Service) Password(ctx context.Context, email string, password []byte, src netip.Addr, door string) (a *Account, half *Half, err error) {
	a, err = s.checkPassword(ctx, email, password, src)
	if err != nil {
		s.refused(ctx, email, src, door, err)
		return nil, nil, err
	}
	if a.Factor {
		_, err := s.store.Authenticator(ctx, a.ID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, nil, err
		}
		return nil, &Half{Codes: err == nil, account: a, until: time.Now().Add(halfTime)}, nil
	}
	if err := s.Succeeded(ctx, a, src, door); err != nil {
		return nil, nil, err
	}
	return a, nil, nil
}

// Knows checks the password of an account that is signed in already. It counts like SignIn, whose errors it has but for NeedsFactor.
func (s *Service) Knows(ctx context.Context, a *Account, password []byte, src netip.Addr, door string) error {
	_, err := s.checkPassword(ctx, a.Email, password, src)
	if err != nil {
		s.refused(ctx, a.Email, src, door, err)
	}
	return err
}

// checkPassword gives the account whose password it is. What failures have cost is given back only where nothing more is asked for:
// a right password buys no guesses at the second factor.
func (s *Service) checkPassword(ctx context.Context, email string, password []byte, src netip.Addr) (*Account, error) {
	key := EmailKey(email)
	t, err := s.budget.admit(ctx, key, src)
	if err != nil {
		return nil, err
	}
	row, err := s.store.Account(ctx, key)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.void()
		return nil, err
	}
	right, err := s.hasher.check(ctx, password, row.Password) // of an unknown account: "", which nothing fits
	if err != nil {
		t.void()
		return nil, err
	}
	if !known || !right || row.Disabled {
		if err := s.store.SetFailures(context.WithoutCancel(ctx), t.lost()...); err != nil {
			return nil, err
		}
		return nil, refuse.SignIn.Of()
	}
	if row.Factor {
		t.void()
		return public(row), nil
	}
	if err := s.store.SetFailures(ctx, t.won()...); err != nil {
		return nil, err
	}
	return public(row), nil
}

// ByKey says whose key this is, if it is email's. That a key is offered proves nothing: the caller acts on the answer
// only for the key whose signature the SSH handshake has verified. A key that does not fit is no failure yet, since
// clients offer one after another; when a connection ends without a sign-in, the caller calls Failed once.
// Errors: refuse.SignIn, SlowDown, StorageOut, or ctx's.
func (s *Service) ByKey(ctx context.Context, email string, key ssh.PublicKey, src netip.Addr) (*Account, error) {
	k := EmailKey(email)
	if err := s.budget.allow(k, src); err != nil {
		return nil, err
	}
	if CheckKey(key) != nil {
		return nil, refuse.SignIn.Of()
	}
	row, err := s.store.Account(ctx, k)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	has, err := s.store.HasKey(ctx, row.ID, key.Marshal())
	if err != nil {
		return nil, err
	}
	if !has || row.Disabled {
		return nil, refuse.SignIn.Of()
	}
	return public(row), nil
}

// Guess has check look at a one-time code for a door, counts and records the outcome. Codes are guesses like passwords:
// of many at once no more are looked at than may fail, and a blocked source cannot spend even a valid one. check gives
// whose code it was, or refuse.CodeInvalid. Errors: those two's and SignIn's.
func (s *Service) Guess(ctx context.Context, src netip.Addr, door string, check func() (*Account, error)) error {
	a, err := s.guess(ctx, src, check)
	if err != nil {
		s.refused(ctx, "", src, door, err)
		return err
	}
	return s.Succeeded(ctx, a, src, door)
}

func (s *Service) guess(ctx context.Context, src netip.Addr, check func() (*Account, error)) (*Account, error) {
	t, err := s.budget.admit(ctx, "", src)
	if err != nil {
		return nil, err
	}
	a, err := check()
	switch {
	case refuse.CodeInvalid.Is(err), refuse.WrongPasskey.Is(err):
		if err := s.store.SetFailures(context.WithoutCancel(ctx), t.lost()...); err != nil {
			return nil, err
		}
	case err != nil:
		t.void()
	default:
		err = s.store.SetFailures(ctx, t.won()...)
	}
	return a, err
}

// Failed counts and records a failure that SignIn has not seen: an SSH connection whose keys did not fit. The error is
// refuse.StorageOut.
func (s *Service) Failed(ctx context.Context, email string, src netip.Addr, door string) error {
	s.refused(ctx, email, src, door, refuse.SignIn.Of())
	return s.lose(ctx, email, src)
}

// lose counts a failure of which no try was begun.
func (s *Service) lose(ctx context.Context, email string, src netip.Addr) error {
	b := s.budget
	t := &try{b, b.keys(EmailKey(email), src)}
	b.mu.Lock()
	for _, k := range t.keys {
		b.pending[k]++
	}
	b.mu.Unlock()
	return s.store.SetFailures(context.WithoutCancel(ctx), t.lost()...)
}

// Succeeded counts and records a sign-in by key or code. When that is not possible, or the disk is all but full, nobody is
// signed in: the error is refuse.StorageOut, or refuse.Busy where the account signs in more often than it may.
func (s *Service) Succeeded(ctx context.Context, a *Account, src netip.Addr, door string) error {
	return s.succeeded(ctx, a, src, door, "")
}

// succeeded says also by what.
func (s *Service) succeeded(ctx context.Context, a *Account, src netip.Addr, door, how string) error {
	err := s.store.Room()
	if err == nil && !s.signIns.Pass(a.ID, 1) {
		err = refuse.Busy.Of()
	}
	if err == nil {
		err = s.trail.Write(ctx, audit.Event{Kind: "signin.ok", Account: a.Email, Door: door, Source: address(src), Detail: how})
	}
	s.count(door, err)
	return err
}

// Each sign-in is recorded for good: so many may an account do, lest it fill the disk.
const (
	signInEvery = time.Second
	signInBurst = 500
)

// refused counts and records a sign-in that was refused.
func (s *Service) refused(ctx context.Context, email string, src netip.Addr, door string, err error) {
	s.count(door, err)
	var r *refuse.Refusal
	if !errors.As(err, &r) {
		return // the viewer has gone
	}
	if CheckEmail(email) != nil {
		email = "" // it may be a password, typed into the wrong field
	}
	e := audit.Event{Kind: "signin.refused", Account: email, Door: door, Source: address(src), Code: r.Code, Detail: r.Title}
	switch r.Code { // what costs a guesser nothing must not fill the disk, nor keep what does cost something out of the log
	case refuse.SignIn.Code, refuse.NeedsFactor.Code, refuse.WrongFactor.Code, refuse.NotApproved.Code:
	case refuse.CodeInvalid.Code, refuse.WrongPasskey.Code:
		if !s.codes.Pass(&e) {
			return
		}
	default:
		if !s.free.Pass(&e) {
			return
		}
	}
	if err := s.trail.Write(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("refused sign-in not recorded", "viewer", src, "err", err)
	}
}

func (s *Service) count(door string, err error) {
	result := "ok"
	var r *refuse.Refusal
	switch {
	case errors.As(err, &r):
		result = strconv.Itoa(r.Code)
	case err != nil:
		result = "error"
	}
	s.signins.WithLabelValues(door, result).Inc()
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

package account

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of the second factor.
const (
	recoveryCodes = 10
	recoveryBytes = 10               // 80 bits, 16 characters of base32
	halfTime      = 5 * time.Minute  // from the right password to the second factor
	halfTries     = 5                // wrong codes for one password
	freshTime     = 15 * time.Minute // from a new secret to its first code
	maxCode       = 64               // bytes of what is typed as a code
	codeEvery     = 30 * time.Second // codes of an authenticator for one account, from wherever they come: a guesser with the right
	codeBurst     = 20               // password and many addresses finds one of a million in years; a right one clears it
)

// A Half is a sign-in with a right password that the account's second factor has to complete.
type Half struct {
	Codes   bool // it has an authenticator that makes codes; without one there are only the recovery codes, beside passkeys
	account *Account
	until   time.Time
	tries   int // wrong codes so far; guarded by the mutex of Service
}

// Email is the account's.
func (h *Half) Email() string { return h.account.Email }

// Factors are what an account has beside its password.
type Factors struct {
	Authenticator time.Time `json:"authenticator,omitzero"` // since when it has one; zero: it has none
	Recovery      int       `json:"recovery"`               // recovery codes that are left
	Passkeys      []Passkey `json:"passkeys,omitempty"`
	Devices       []Device  `json:"devices,omitempty"`
}

// Since is since when one of them is asked for; zero: none is.
func (f Factors) Since() time.Time {
	since := f.Authenticator
	for _, p := range f.Passkeys {
		if since.IsZero() || p.Created.Before(since) {
			since = p.Created
		}
	}
	return since
}

// A fresh secret of an authenticator waits for its first code.
type fresh struct {
	secret []byte
	until  time.Time
}

// A Setup is what an authenticator program has to learn. All of it is secret.
type Setup struct {
	Secret string // in base32, in fours
	URI    string // for a QR code
}

// Factors are those of an account.
func (s *Service) Factors(ctx context.Context, a *Account) (Factors, error) {
	row, err := s.store.Authenticator(ctx, a.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Factors{}, err
	}
	n, err := s.store.Recovery(ctx, a.ID)
	if err != nil {
		return Factors{}, err
	}
	passkeys, err := s.Passkeys(ctx, a)
	if err != nil {
		return Factors{}, err
	}
	devices, err := s.Devices(ctx, a)
	return Factors{row.Created, n, passkeys, devices}, err
}

// NewAuthenticator makes the secret of an authenticator, for the relay of that name. It counts only once AddAuthenticator was
// given a code of it; until then, for a while, the same secret is shown again.
func (s *Service) NewAuthenticator(a *Account, relay string) Setup {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, f := range s.fresh {
		if now.After(f.until) {
			delete(s.fresh, id)
		}
	}
	f, ok := s.fresh[a.ID]
	if !ok {
		f = fresh{make([]byte, totpBytes), now.Add(freshTime)}
		rand.Read(f.secret)
		s.fresh[a.ID] = f
	}
	return Setup{inFours(b32.EncodeToString(f.secret)), totpURI(f.secret, relay, a.Email)}
}

// AddAuthenticator gives an account the authenticator that NewAuthenticator has shown, in place of another, when the code is of
// it, and gives the recovery codes, which nobody can read again. The error is refuse.WrongFactor or StorageOut.
func (s *Service) AddAuthenticator(ctx context.Context, a *Account, code string) (recovery []string, err error) {
	s.mu.Lock()
	f, ok := s.fresh[a.ID]
	s.mu.Unlock()
	step, right := totpFind(f.secret, plainCode(code), time.Now())
	if !ok || !right || time.Now().After(f.until) {
		return nil, refuse.WrongFactor.Of()
	}
	recovery, hashes := newRecovery()
	row := store.Authenticator{Account: a.ID, Secret: s.sealed(a.ID, f.secret), LastStep: step, Created: time.Now()}
	if err := s.store.SetAuthenticator(ctx, row, hashes); err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.fresh, a.ID)
	s.mu.Unlock()
	return recovery, nil
}

// NewRecovery replaces the recovery codes of an account that has a second factor, and gives the new ones.
func (s *Service) NewRecovery(ctx context.Context, a *Account) ([]string, error) {
	codes, hashes := newRecovery()
	return codes, s.store.SetRecovery(ctx, a.ID, hashes)
}

// RemoveAuthenticator takes the authenticator from a's account, which stays signed in.
func (s *Service) RemoveAuthenticator(ctx context.Context, a *Account) error {
	return s.store.EndAuthenticator(ctx, a.ID)
}

// ResetFactors takes authenticator, passkeys and recovery codes from an account, for an administrator, and ends its sessions.
func (s *Service) ResetFactors(ctx context.Context, email string) error {
	return s.with(ctx, email, func(a *Account) error {
		if err := s.store.EndFactors(ctx, a.ID); err != nil {
			return err
		}
		s.revoked(a.ID, "a reset of the account's second factor")
		return nil
	})
}

func newRecovery() (codes []string, hashes [][32]byte) {
	for range recoveryCodes {
		b := make([]byte, recoveryBytes)
		rand.Read(b)
		plain := b32.EncodeToString(b)
		codes, hashes = append(codes, inFours(plain)), append(hashes, sha256.Sum256([]byte(plain)))
	}
	return codes, hashes
}

// SecondFactor completes a sign-in with a code of the authenticator or a recovery code, counts and records the outcome. Each code
// works once. Errors: refuse.WrongFactor; SignIn when the time or the tries are used up, or the account has changed since;
// SlowDown, Busy, StorageOut, or ctx's.
func (s *Service) SecondFactor(ctx context.Context, h *Half, code string, src netip.Addr, door string) (*Account, error) {
	how, err := s.secondFactor(ctx, h, code, src)
	if err != nil {
		s.refused(ctx, h.account.Email, src, door, err)
		return nil, err
	}
	return h.account, s.succeeded(ctx, h.account, src, door, how)
}

func (s *Service) secondFactor(ctx context.Context, h *Half, code string, src netip.Addr) (how string, err error) {
	if !s.mayTry(h) {
		return "", refuse.SignIn.Of()
	}
	if len(plainCode(code)) == totpDigits && !s.tries.Pass(h.account.ID, 1) {
		return "", refuse.SlowDown.Of(time.Now().Add(codeEvery).Format("15:04:05 MST"))
	}
	t, err := s.budget.admit(ctx, EmailKey(h.account.Email), src)
	if err != nil {
		return "", err
	}
	if err = s.Holds(ctx, h.account); err == nil {
		how, err = s.spend(ctx, h.account.ID, code)
	}
	switch {
	case refuse.WrongFactor.Is(err):
		if err := s.store.SetFailures(context.WithoutCancel(ctx), t.lost()...); err != nil {
			return "", err
		}
	case err != nil:
		t.void()
	default:
		s.tries.Forget(h.account.ID)
		err = s.store.SetFailures(ctx, t.won()...)
	}
	return how, err
}

// mayTry counts a try.
func (s *Service) mayTry(h *Half) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.tries++
	return h.tries <= halfTries && time.Now().Before(h.until)
}

// spend takes a code, which works once, and says what it was.
func (s *Service) spend(ctx context.Context, account int64, code string) (how string, err error) {
	if len(code) > maxCode {
		return "", refuse.WrongFactor.Of()
	}
	plain := plainCode(code)
	row, err := s.store.Authenticator(ctx, account)
	if err == nil {
		secret, err := s.opened(account, row.Secret)
		if err != nil {
			return "", err
		}
		if step, ok := totpFind(secret, plain, time.Now()); ok {
			if ok, err := s.store.TakeStep(ctx, account, step); ok || err != nil {
				return "with an authenticator", err
			}
			return "", refuse.WrongFactor.Of()
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if ok, err := s.store.TakeRecovery(ctx, account, sha256.Sum256([]byte(plain))); ok || err != nil {
		return "with a recovery code", err
	}
	return "", refuse.WrongFactor.Of()
}

// factorFile is the key that secrets of authenticators are sealed with, beside the database: a copy of the database alone makes no
// codes.
const factorFile = "factor.key"

func newSealer(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealed is a secret as it is stored: it opens for this account only.
func (s *Service) sealed(account int64, secret []byte) []byte {
	return s.sealer.Seal(nil, nil, secret, binary.BigEndian.AppendUint64(nil, uint64(account)))
}

func (s *Service) opened(account int64, stored []byte) ([]byte, error) {
	secret, err := s.sealer.Open(nil, nil, stored, binary.BigEndian.AppendUint64(nil, uint64(account)))
	if err != nil {
		return nil, fmt.Errorf("the secret of an authenticator does not open with %s: restore that file from the backup of the keys", factorFile)
	}
	return secret, nil
}

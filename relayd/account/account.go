// Package account is about people: who they are, how they prove it at every door, and how guessers are slowed down.
package account

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// An Account is a person, named by an e-mail address.
type Account struct {
	ID       int64     `json:"-"`
	Email    string    `json:"email"`
	Admin    bool      `json:"admin"`
	Disabled bool      `json:"disabled"`
	Factor   bool      `json:"second_factor"` // the password alone does not sign in
	Created  time.Time `json:"created"`

	generation int64 // of what it was signed in by, see Holds
}

// Generation is of what the account was signed in by; see Service.Again.
func (a *Account) Generation() int64 { return a.generation }

// A Key is one SSH key of a person.
type Key struct {
	Fingerprint string    `json:"fingerprint"` // SHA256:…
	Type        string    `json:"type"`
	Comment     string    `json:"comment"`
	Created     time.Time `json:"created"`
}

// A Service is the accounts of one relay. Its methods may be called by any goroutine.
type Service struct {
	store      *store.Store
	log        *slog.Logger
	hasher     *hasher
	sealer     cipher.AEAD
	budget     *budget
	trail      Trail
	signins    *prometheus.CounterVec
	free       *audit.Limit // records of refusals that cost whoever is refused nothing
	ceremonies ceremonies
	codes      *audit.Limit // records of wrong codes, which cost a part of a source's budget, but no argon2id

	tries   *audit.Paces // of an authenticator's codes
	signIns *audit.Paces

	mu       sync.Mutex // guards what follows
	revoke   []func(accountID int64, why string)
	fresh    map[int64]fresh  // by account
	asks     map[int64][]*ask // likewise
	attended func(accountID int64) bool
}

// Trail is the audit log.
type Trail interface {
	Write(ctx context.Context, e audit.Event) error
}

// New gives the accounts in st. The pepper of their passwords is read from, or made in, stateDir.
func New(ctx context.Context, stateDir string, st *store.Store, trail Trail, log *slog.Logger, reg prometheus.Registerer) (*Service, error) {
	return newService(ctx, stateDir, st, trail, log, reg, costs{memoryKiB, passes}, tableSize)
}

func newService(ctx context.Context, stateDir string, st *store.Store, trail Trail, log *slog.Logger, reg prometheus.Registerer, c costs, size int) (*Service, error) {
	all, err := st.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	pepper, err := loadKey(stateDir, pepperFile, len(all) == 0)
	if err != nil {
		return nil, fmt.Errorf("pepper of the account passwords: %w", err)
	}
	sealing, err := st.Authenticators(ctx)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(stateDir, factorFile, !sealing)
	if err != nil {
		return nil, fmt.Errorf("key of the authenticators' secrets: %w", err)
	}
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	failures, err := st.Failures(ctx)
	if err != nil {
		return nil, err
	}
	hashes := prometheus.NewCounter(prometheus.CounterOpts{Name: "relayd_password_hashes_total", Help: "Runs of argon2id; each sign-in by password that is not refused before takes exactly one."})
	s := &Service{
		store:   st,
		log:     log,
		hasher:  newHasher(pepper, c, hashes.Inc),
		sealer:  sealer,
		fresh:   map[int64]fresh{},
		tries:   audit.NewPaces(codeEvery, codeBurst),
		signIns: audit.NewPaces(signInEvery, signInBurst),
		asks:    map[int64][]*ask{},
		budget:  newBudget(pepper, size, failures),
		trail:   trail,
		signins: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relayd_signins_total", Help: "Sign-ins by door and result: ok, or the number of the refusal."},
			[]string{"door", "result"}),
		free:  audit.NewLimit(time.Second, 100),
		codes: audit.NewLimit(100*time.Millisecond, 1000),
	}
	return s, errors.Join(reg.Register(hashes), reg.Register(s.signins))
}

// OnRevoke has f called when what an account was signed in by no longer holds: it was disabled, its password changed, a
// key of it was removed, its second factor was reset. Live sessions of the account must end within 2 s; why says what has ended
// them, as in "a change of the account's password". f must not block.
func (s *Service) OnRevoke(f func(accountID int64, why string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoke = append(s.revoke, f)
}

func (s *Service) revoked(id int64, why string) {
	s.mu.Lock()
	all := s.revoke
	s.mu.Unlock()
	for _, f := range all {
		f(id, why)
	}
}

// Holds says whether what a was signed in by holds still. Whoever lets a in lists it first, where a call of OnRevoke
// finds it, and then asks this: what is withdrawn between the check of a secret and now is seen by one of the two.
// Errors: refuse.SignIn when the account is gone or disabled, its password was changed or a key of it removed since;
// StorageOut.
func (s *Service) Holds(ctx context.Context, a *Account) error {
	row, err := s.store.AccountByID(ctx, a.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (row.Disabled || row.Generation != a.generation) {
		return refuse.SignIn.Of()
	}
	return err
}

// Again is an account that was signed in before relayd was started, by what had that generation then. The error is
// refuse.SignIn when that does not hold any more, or StorageOut.
func (s *Service) Again(ctx context.Context, id, generation int64) (*Account, error) {
	row, err := s.store.AccountByID(ctx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (row.Disabled || row.Generation != generation) {
		return nil, refuse.SignIn.Of()
	}
	if err != nil {
		return nil, err
	}
	return public(row), nil
}

// ByEmail finds an account, disabled or not, for an administrator.
func (s *Service) ByEmail(ctx context.Context, email string) (*Account, error) {
	row, err := s.store.Account(ctx, EmailKey(email))
	if errors.Is(err, store.ErrNotFound) {
		return nil, store.Tell(store.ErrNotFound, "there is no account %q; see: relayd account list", clip(email))
	}
	if err != nil {
		return nil, err
	}
	return public(row), nil
}

// List is every account, by e-mail.
func (s *Service) List(ctx context.Context) ([]Account, error) {
	rows, err := s.store.Accounts(ctx)
	all := make([]Account, len(rows))
	for i, r := range rows {
		all[i] = *public(r)
	}
	return all, err
}

// Add makes an account.
func (s *Service) Add(ctx context.Context, email string, password []byte, admin bool) (*Account, error) {
	if err := CheckEmail(email); err != nil {
		return nil, err
	}
	if err := CheckPassword(email, password); err != nil {
		return nil, err
	}
	hash, err := s.hasher.make(ctx, password)
	if err != nil {
		return nil, err
	}
	row := store.Account{Email: email, Admin: admin, Password: hash, Created: time.Now()}
	row.ID, err = s.store.AddAccount(ctx, row, EmailKey(email))
	if errors.Is(err, store.ErrExists) {
		return nil, store.Tell(store.ErrExists, "there is an account %q already; change its password with: relayd account password %s", email, email)
	}
	if err != nil {
		return nil, err
	}
	return public(row), nil
}

// Hinted says whether an account was shown that it can use viewers of its own, and needs it no more.
func (s *Service) Hinted(ctx context.Context, a *Account) (bool, error) {
	return s.store.Hinted(ctx, a.ID)
}

// DropHint says that it needs it no more.
func (s *Service) DropHint(ctx context.Context, a *Account) error {
	return s.store.SetHinted(ctx, a.ID)
}

// Disable ends what an account may do, and its sessions.
func (s *Service) Disable(ctx context.Context, email string) error {
	return s.with(ctx, email, func(a *Account) error {
		if err := s.store.SetDisabled(ctx, a.ID, true); err != nil {
			return err
		}
		s.revoked(a.ID, "the relay's operator, who has disabled the account")
		return nil
	})
}

// Enable lets an account sign in again.
func (s *Service) Enable(ctx context.Context, email string) error {
	return s.with(ctx, email, func(a *Account) error { return s.store.SetDisabled(ctx, a.ID, false) })
}

// changedPassword is why sessions end then.
const changedPassword = "a change of the account's password"

// SetPassword replaces an account's password and ends its sessions.
func (s *Service) SetPassword(ctx context.Context, email string, password []byte) error {
	return s.with(ctx, email, func(a *Account) error {
		if err := CheckPassword(a.Email, password); err != nil {
			return err
		}
		hash, err := s.hasher.make(ctx, password)
		if err != nil {
			return err
		}
		if err := s.store.SetPassword(ctx, a.ID, hash); err != nil {
			return err
		}
		s.revoked(a.ID, changedPassword)
		return nil
	})
}

// AddKey gives an account an SSH key, one line as in a .pub file.
func (s *Service) AddKey(ctx context.Context, email string, line []byte) (k Key, err error) {
	err = s.with(ctx, email, func(a *Account) error {
		key, comment, err := ParseKey(line)
		if err != nil {
			return err
		}
		k = Key{ssh.FingerprintSHA256(key), key.Type(), comment, time.Now()}
		err = s.store.AddKey(ctx, a.ID, store.Key{Fingerprint: k.Fingerprint, Key: key.Marshal(), Comment: comment, Created: k.Created}, MaxKeys)
		if errors.Is(err, store.ErrExists) {
			return store.Tell(store.ErrExists, "%s has the key %s already", a.Email, k.Fingerprint)
		}
		return err
	})
	return k, err
}

// Keys are an account's SSH keys, oldest first.
func (s *Service) Keys(ctx context.Context, email string) (all []Key, err error) {
	err = s.with(ctx, email, func(a *Account) error {
		rows, err := s.store.Keys(ctx, a.ID)
		all = make([]Key, 0, len(rows))
		for _, r := range rows {
			k := Key{Fingerprint: r.Fingerprint, Comment: r.Comment, Created: r.Created}
			if key, err := ssh.ParsePublicKey(r.Key); err == nil {
				k.Type = key.Type()
			}
			all = append(all, k)
		}
		return err
	})
	return all, err
}

// RemoveKey takes an SSH key, named by its fingerprint, from an account and ends the account's sessions.
func (s *Service) RemoveKey(ctx context.Context, email, fingerprint string) error {
	return s.with(ctx, email, func(a *Account) error {
		err := s.store.RemoveKey(ctx, a.ID, fingerprint)
		if errors.Is(err, store.ErrNotFound) {
			return store.Tell(store.ErrNotFound, "%s has no key %q; see: relayd account key list %s", a.Email, clip(fingerprint), a.Email)
		}
		if err == nil {
			s.revoked(a.ID, "the removal of an SSH key of the account")
		}
		return err
	})
}

func (s *Service) with(ctx context.Context, email string, do func(a *Account) error) error {
	a, err := s.ByEmail(ctx, email)
	if err != nil {
		return err
	}
	return do(a)
}

func public(r store.Account) *Account {
	return &Account{r.ID, r.Email, r.Admin, r.Disabled, r.Factor, r.Created, r.Generation}
}

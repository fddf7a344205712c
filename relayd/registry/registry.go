// Package registry is about computers: their keys and names, who may use them, and which are online.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// A Right is what an account may do with a computer.
type Right uint8

// The rights, each with those before it. The owner has RightControl, and everything that is the owner's alone.
const (
	RightNone    Right = 0
	RightWatch   Right = 1
	RightControl Right = 2
	RightManage  Right = 3 // to rename the computer, and to give and take the rights before this one
)

func (r Right) String() string {
	switch r {
	case RightWatch:
		return "watch"
	case RightControl:
		return "control"
	case RightManage:
		return "manage"
	}
	return "none"
}

// MarshalText writes the right as String has it.
func (r Right) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads none, watch, control or manage.
func (r *Right) UnmarshalText(b []byte) error {
	for _, v := range []Right{RightNone, RightWatch, RightControl, RightManage} {
		if v.String() == string(b) {
			*r = v
			return nil
		}
	}
	return fmt.Errorf("%q is not a right; write manage, control, watch or none", refuse.Printable(string(b), 40))
}

// A Computer is an enrolled machine as one account sees it.
type Computer struct {
	ID       string    `json:"id"` // UUID
	Name     string    `json:"name"`
	Owner    string    `json:"owner"`            // e-mail address
	Right    Right     `json:"right"`            // of the account that asked
	Expires  time.Time `json:"expires,omitzero"` // of that right; zero: never
	Online   bool      `json:"online"`
	LastSeen time.Time `json:"last_seen,omitzero"` // zero: never
	Away     Away      `json:"away,omitempty"`     // what it said when it went
	Barred   Barred    `json:"barred,omitempty"`   // why it is not let in; empty: it is, or does not come
	Hostname string    `json:"hostname"`           // what the computer calls itself
	Version  string    `json:"version"`            // of its hostd, while it is online
	Key      string    `json:"key"`                // fingerprint, SHA256:…
	Created  time.Time `json:"created"`

	// As the account that asked keeps it on its list; only ForAccount says.
	Favourite bool   `json:"favourite,omitempty"`
	Group     string `json:"group,omitempty"`
}

// A Share is the right of another account.
type Share struct {
	Email   string    `json:"email"`
	Right   Right     `json:"right"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// People says which accounts there are.
type People interface {
	ByEmail(ctx context.Context, email string) (*account.Account, error)
	OnRevoke(f func(accountID int64, why string))
}

// Trail is the audit log.
type Trail interface {
	Write(ctx context.Context, e audit.Event) error
}

// A Service is the computers of one relay. Its methods may be called by any goroutine.
type Service struct {
	store    *store.Store
	people   People
	trail    Trail
	refusals *audit.Limit // records of enrolments that were refused
	log      *slog.Logger
	codes    *Codes
	online   *presence[*tunnel.Session]
	count    metrics
	hooks    hooks
	work     sync.WaitGroup // tunnels and their ends

	mu      sync.Mutex // guards what follows
	rights  []func(computerID string, accountID int64, now Right)
	stopped bool
}

// New gives the computers in st. Run must be running while it is used.
func New(st *store.Store, people People, trail Trail, log *slog.Logger, reg prometheus.Registerer) *Service {
	s := &Service{store: st, people: people, trail: trail, log: log, count: newMetrics(reg)}
	s.refusals = audit.NewLimit(refusalEvery, refusalBurst)
	s.codes = &Codes{live: map[string]Grant{}, count: s.count}
	s.online = newPresence[*tunnel.Session](s.count)
	people.OnRevoke(func(id int64, _ string) { s.codes.revoke(func(g Grant) bool { return g.Account.ID == id }) })
	return s
}

// Codes are the one-time codes of the code door.
func (s *Service) Codes() *Codes { return s.codes }

// OnRights has f called when an account's right to a computer has changed, accountID 0 meaning everybody: the computer
// was removed. Sessions that need more than the right that is left must end within 2 s. f must not block.
func (s *Service) OnRights(f func(computerID string, accountID int64, now Right)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rights = append(s.rights, f)
}

func (s *Service) changed(computerID string, accountID int64, now Right) {
	s.codes.revoke(func(g Grant) bool {
		return g.Computer == computerID && (accountID == 0 || g.Account.ID == accountID) && (now == RightNone || now == RightWatch && g.Role != tunnel.RoleWatch)
	})
	s.mu.Lock()
	all := s.rights
	s.mu.Unlock()
	for _, f := range all {
		f(computerID, accountID, now)
	}
}

// Find is the computer of that name, or UUID, that acct owns or was given a right to. One's own comes before others of
// the same name. Errors: refuse.NoComputer, also for other people's computers; refuse.NameComputer, where several people
// share computers of that name; refuse.StorageOut.
func (s *Service) Find(ctx context.Context, acct *account.Account, name string) (*Computer, error) {
	rows, err := s.store.FindFor(ctx, acct.ID, nameKey(name), strings.ToLower(name), time.Now())
	if err != nil {
		return nil, err
	}
	switch {
	case len(rows) == 0:
		return nil, refuse.NoComputer.Of()
	case len(rows) == 1, rows[0].Owner == acct.ID: // own ones come first
		return s.public(rows[0]), nil
	}
	var all []string
	for _, r := range rows {
		all = append(all, r.ID+" of "+r.Email)
	}
	return nil, refuse.NameComputer.Of(acct.Email, strings.Join(all, ", "))
}

// ForAccount are the computers acct owns, by name, then those it was given a right to; favourites and groups, by theirs, before the
// others.
func (s *Service) ForAccount(ctx context.Context, acct *account.Account) ([]Computer, error) {
	rows, err := s.store.ComputersFor(ctx, acct.ID, time.Now())
	if err != nil {
		return nil, err
	}
	all := s.publics(rows)
	return all, s.marked(ctx, acct, all)
}

// List is every computer, for an administrator.
func (s *Service) List(ctx context.Context) ([]Computer, error) {
	rows, err := s.store.Computers(ctx)
	return s.publics(rows), err
}

// Resolve finds a computer for an administrator: by UUID, OWNER/NAME, or a NAME that only one computer has.
func (s *Service) Resolve(ctx context.Context, ref string) (*Computer, error) {
	if isUUID(ref) {
		row, err := s.store.Computer(ctx, strings.ToLower(ref))
		if errors.Is(err, store.ErrNotFound) {
			return nil, noSuch(ref)
		}
		if err != nil {
			return nil, err
		}
		return s.public(row), nil
	}
	owner, name, both := strings.Cut(ref, "/")
	if !both {
		name = ref
	}
	rows, err := s.store.ComputersNamed(ctx, nameKey(name))
	if err != nil {
		return nil, err
	}
	var found []store.Computer
	for _, r := range rows {
		if !both || strings.EqualFold(r.Email, owner) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, noSuch(ref)
	case 1:
		return s.public(found[0]), nil
	}
	var all []string
	for _, r := range found {
		all = append(all, r.Email+"/"+r.Name)
	}
	return nil, fmt.Errorf("several computers are called %q; write one of %s", refuse.Printable(name, MaxName), strings.Join(all, ", "))
}

func noSuch(ref string) error {
	return store.Tell(store.ErrNotFound, "there is no computer %q; see: relayd host list", refuse.Printable(ref, 100))
}

// ByKey is the computer with that key. Errors: refuse.NotAccepted; refuse.StorageOut.
func (s *Service) ByKey(ctx context.Context, key ssh.PublicKey) (*Computer, error) {
	row, err := s.store.ComputerByKey(ctx, key.Marshal())
	if errors.Is(err, store.ErrNotFound) {
		return nil, refuse.NotAccepted.Of("this computer")
	}
	if err != nil {
		return nil, err
	}
	return s.public(row), nil
}

// Rename gives a computer another name; ref as in Resolve.
func (s *Service) Rename(ctx context.Context, ref, name string) (*Computer, error) {
	c, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	err = s.store.RenameComputer(ctx, c.ID, name, nameKey(name))
	if errors.Is(err, store.ErrExists) {
		return nil, store.Tell(store.ErrExists, "%s has a computer called %q already", c.Owner, name)
	}
	return c, err
}

// Remove forgets a computer; ref as in Resolve. Its tunnels and sessions end within 2 s, and its key is no longer known.
func (s *Service) Remove(ctx context.Context, ref string) (*Computer, error) {
	c, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := s.store.RemoveComputer(ctx, c.ID); err != nil {
		return nil, err
	}
	s.changed(c.ID, 0, RightNone)
	s.end(c.ID, tunnel.Removed)
	return c, nil
}

// Share gives another account a right to a computer until expires (zero: for good), or with RightNone takes it.
func (s *Service) Share(ctx context.Context, ref, email string, right Right, expires time.Time) (*Computer, error) {
	c, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	acct, err := s.people.ByEmail(ctx, email)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.EqualFold(acct.Email, c.Owner):
		return nil, fmt.Errorf("%s owns %s, and has every right to it", acct.Email, c.Name)
	case !expires.IsZero() && !expires.After(time.Now()):
		return nil, fmt.Errorf("the right would end at %s, which is past", expires.Format(time.RFC3339))
	case right == RightNone:
		err = s.store.RemoveShare(ctx, c.ID, acct.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil, store.Tell(store.ErrNotFound, "%s has no right to %s", acct.Email, c.Name)
		}
	default:
		err = s.store.SetShare(ctx, c.ID, acct.ID, int(right), expires)
	}
	if err != nil {
		return nil, err
	}
	s.changed(c.ID, acct.ID, right)
	return c, nil
}

// maxShares is how many a computer may be shared with by its owner.
const maxShares = 256

// Offer is Share for who may not learn which accounts there are: an e-mail that has none gets the right when its account is made.
func (s *Service) Offer(ctx context.Context, ref, email string, right Right, expires time.Time) (*Computer, error) {
	all, err := s.Shares(ctx, ref)
	if err != nil {
		return nil, err
	}
	key := account.EmailKey(email)
	if right != RightNone && len(all) >= maxShares && !slices.ContainsFunc(all, func(h Share) bool { return account.EmailKey(h.Email) == key }) {
		return nil, fmt.Errorf("the computer is shared with %d others, as many as it may be; take a right back first", len(all))
	}
	switch _, err := s.people.ByEmail(ctx, email); {
	case err == nil:
		return s.Share(ctx, ref, email, right, expires)
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	c, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if right == RightNone {
		err = s.store.RemoveOffer(ctx, c.ID, key)
	} else {
		err = s.store.SetOffer(ctx, c.ID, key, key, int(right), expires)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = store.Tell(store.ErrNotFound, "%s has no right to %s", email, c.Name)
	}
	return c, err
}

// Shares are the rights that others have, or were offered, to a computer, by e-mail; ref as in Resolve.
func (s *Service) Shares(ctx context.Context, ref string) ([]Share, error) {
	c, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	rows, err := s.store.Shares(ctx, c.ID)
	all := []Share{}
	now := time.Now()
	for _, r := range rows {
		if r.Expires.IsZero() || r.Expires.After(now) {
			all = append(all, Share{r.Email, Right(r.Access), r.Expires})
		}
	}
	return all, err
}

func (s *Service) publics(rows []store.Computer) []Computer {
	all := make([]Computer, len(rows))
	for i, r := range rows {
		all[i] = *s.public(r)
	}
	return all
}

func (s *Service) public(r store.Computer) *Computer {
	c := &Computer{
		ID: r.ID, Name: r.Name, Owner: r.Email, Right: Right(r.Access), Expires: r.Expires,
		LastSeen: r.LastSeen, Hostname: r.Hostname, Created: r.Created,
	}
	if key, err := ssh.ParsePublicKey(r.Key); err == nil {
		c.Key = ssh.FingerprintSHA256(key)
	}
	if t, ok := s.online.get(r.ID, tunnel.Main); ok {
		c.Online, c.LastSeen, c.Version = true, time.Now(), t.Hello().Version
		return c
	}
	away := r.Away
	if last := s.online.lastSeen(r.ID); last.At.After(c.LastSeen) {
		c.LastSeen, away = last.At, last.Away
	}
	c.Barred = s.online.barred(r.ID)
	c.Away = awayOf(tunnel.Reason(away), c.LastSeen)
	return c
}

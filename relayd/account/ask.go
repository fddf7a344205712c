package account

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of sign-ins that wait for a page.
const (
	askTime = time.Minute
	maxAsks = 3 // of one account; of one address there is one
)

// An Ask is a sign-in with a right password, at a door that cannot ask for the second factor, which waits for the person to approve it
// on a page.
type Ask struct {
	ID     string    `json:"id"`
	Door   string    `json:"door"`
	Source string    `json:"source"` // address of the viewer
	Until  time.Time `json:"until"`
}

// An ask is one with who waits.
type ask struct {
	Ask
	answer chan *refuse.Refusal // holds one; nil: approved
}

// OnAsk has attended say whether an account has a page open on which somebody may be looking. Without one nothing waits.
func (s *Service) OnAsk(attended func(accountID int64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attended = attended
}

// Asks are the sign-ins of an account that wait, the oldest first.
func (s *Service) Asks(a *Account) []Ask {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Ask
	for _, k := range s.asks[a.ID] {
		all = append(all, k.Ask)
	}
	return all
}

// Decide lets a sign-in of an account that waits go on, or refuses it.
func (s *Service) Decide(a *Account, id string, approve bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.asks[a.ID] {
		if k.ID == id {
			var no *refuse.Refusal
			if !approve {
				no = refuse.NotApproved.Of()
			}
			s.answer(a.ID, k, no)
			return nil
		}
	}
	return store.Tell(store.ErrNotFound, "that sign-in does not wait any more; start the viewer again")
}

// answer ends an ask. The mutex is held.
func (s *Service) answer(account int64, k *ask, no *refuse.Refusal) {
	k.answer <- no
	s.asks[account] = slices.DeleteFunc(s.asks[account], func(o *ask) bool { return o == k })
	if len(s.asks[account]) == 0 {
		delete(s.asks, account)
	}
}

// ask has a sign-in wait until it is approved on a page of the account. What is refused there, or forgotten, counts like a wrong
// code, also when the viewer does not wait for it: ctx ends. Errors: refuse.NeedsFactor, NotApproved, SignIn when the account has changed
// meanwhile, StorageOut.
func (s *Service) ask(ctx context.Context, h *Half, src netip.Addr, door string) error {
	a, needs := h.account, refuse.NeedsFactor.Of(h.account.Email)
	k := s.enlist(a.ID, Ask{rand.Text()[:16], door, address(src), time.Now().Add(askTime)}, needs)
	if k == nil {
		return needs
	}
	no := s.await(ctx, a.ID, k, needs)
	if no == nil {
		return s.Holds(ctx, a)
	}
	if err := s.lose(ctx, a.Email, src); err != nil {
		return err
	}
	return no
}

// await gives the answer, which without one in time is needs.
func (s *Service) await(ctx context.Context, account int64, k *ask, needs *refuse.Refusal) *refuse.Refusal {
	late := time.NewTimer(askTime)
	defer late.Stop()
	select {
	case no := <-k.answer:
		return no
	case <-late.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.asks[account], k) {
		s.answer(account, k, needs)
	}
	return <-k.answer
}

// enlist gives nil when nobody is there to answer, or too many wait. The newest of an address is the one that counts.
func (s *Service) enlist(account int64, a Ask, needs *refuse.Refusal) *ask {
	s.mu.Lock()
	attended := s.attended
	s.mu.Unlock()
	if attended == nil || !attended(account) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.asks[account] {
		if o.Source == a.Source {
			s.answer(account, o, needs)
			break
		}
	}
	if len(s.asks[account]) >= maxAsks {
		return nil
	}
	k := &ask{a, make(chan *refuse.Refusal, 1)}
	s.asks[account] = append(s.asks[account], k)
	return k
}

package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of trusted browsers.
const (
	TrustTime  = 30 * 24 * time.Hour
	maxDevices = 16 // of one account; the oldest makes room
)

// A Device is a browser in which an account is not asked for its second factor, as the account's page shows it. It never stands
// for the password. Another password ends the trust, and so does another authenticator.
type Device struct {
	Name    string    `json:"name"`   // by which it is removed
	Agent   string    `json:"agent"`  // what the browser says of itself
	Source  string    `json:"source"` // address of the sign-in
	Begun   time.Time `json:"begun"`
	Expires time.Time `json:"expires"`
}

// Trust gives the secret by which a browser is known for TrustTime, in which a has just given the second factor.
func (s *Service) Trust(ctx context.Context, a *Account, agent string, src netip.Addr) (secret string, err error) {
	secret = rand.Text() + rand.Text()
	now := time.Now()
	return secret, s.store.AddDevice(ctx, store.Device{
		Secret: sha256.Sum256([]byte(secret)), Account: a.ID, Generation: a.generation, Name: rand.Text()[:16],
		Agent: refuse.Printable(agent, 200), Source: address(src), Begun: now, Expires: now.Add(TrustTime),
	}, maxDevices)
}

// Trusted completes a sign-in in a browser that is trusted, and records it; nil: it is not. The error is StorageOut.
func (s *Service) Trusted(ctx context.Context, h *Half, secret string, src netip.Addr, door string) (*Account, error) {
	all, err := s.store.Devices(ctx, h.account.ID, time.Now())
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(secret))
	for _, d := range all {
		if subtle.ConstantTimeCompare(d.Secret[:], hash[:]) == 1 && d.Generation == h.account.generation {
			return h.account, s.succeeded(ctx, h.account, src, door, "in a trusted browser")
		}
	}
	return nil, nil
}

// Devices are the browsers that an account trusts, the oldest first.
func (s *Service) Devices(ctx context.Context, a *Account) ([]Device, error) {
	rows, err := s.store.Devices(ctx, a.ID, time.Now())
	var all []Device
	for _, r := range rows {
		all = append(all, Device{r.Name, r.Agent, r.Source, r.Begun, r.Expires})
	}
	return all, err
}

// Distrust has a browser of an account asked for the second factor again.
func (s *Service) Distrust(ctx context.Context, a *Account, name string) error {
	return s.store.RemoveDevice(ctx, a.ID, name)
}

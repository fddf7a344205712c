package account

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of passkeys.
const (
	maxPasskeys    = 16
	maxPasskeyName = 60 // bytes
	ceremonyTime   = 3 * time.Minute
	maxCeremonies  = 4096 // the oldest makes room
	maxOfSource    = 32   // of them for one address, likewise
)

// A Passkey is one of an account, as its page shows it. The program that holds it has checked who uses it (user verification), so it
// stands for both factors.
type Passkey struct {
	ID      string    `json:"id"` // base64url
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"` // zero: never
}

// ceremonies are what browsers were asked to sign, by the challenge.
type ceremonies struct {
	mu   sync.Mutex // guards what follows
	live map[string]ceremony
}

type ceremony struct {
	session *webauthn.SessionData
	account int64      // who adds a passkey; 0: a sign-in, by whomever
	src     netip.Addr // who asked
}

// add keeps one until it is taken. Whoever asks for many pushes out their own.
func (c *ceremonies) add(s *webauthn.SessionData, account int64, src netip.Addr) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live = map[string]ceremony{}
	}
	oldest, own, n := "", "", 0
	older := func(k, than string) bool {
		return than == "" || c.live[k].session.Expires.Before(c.live[than].session.Expires)
	}
	for k, o := range c.live {
		switch {
		case now.After(o.session.Expires):
			delete(c.live, k)
			continue
		case older(k, oldest):
			oldest = k
		}
		if o.src == src {
			if n++; older(k, own) {
				own = k
			}
		}
	}
	if n >= maxOfSource {
		delete(c.live, own)
	} else if len(c.live) >= maxCeremonies {
		delete(c.live, oldest)
	}
	c.live[s.Challenge] = ceremony{s, account, src}
}

// take gives the one of a challenge, once.
func (c *ceremonies) take(challenge string) (ceremony, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.live[challenge]
	delete(c.live, challenge)
	return o, ok && time.Now().Before(o.session.Expires)
}

// A holder is an account as WebAuthn knows it.
type holder struct {
	*Account
	passkeys []webauthn.Credential
}

func handle(account int64) []byte                           { return binary.BigEndian.AppendUint64(nil, uint64(account)) }
func (h holder) WebAuthnID() []byte                         { return handle(h.ID) }
func (h holder) WebAuthnName() string                       { return h.Email }
func (h holder) WebAuthnDisplayName() string                { return h.Email }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.passkeys }

// party is the relay for a browser that has reached it as host (name and port), which must be the relay's name or localhost. That a
// page of this very origin asks is what the browser signs.
func party(relay, host string) (*webauthn.WebAuthn, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if name = strings.ToLower(name); name != strings.ToLower(relay) && name != "localhost" {
		return nil, fmt.Errorf("passkeys work at https://%s only", relay)
	}
	limit := webauthn.TimeoutConfig{Enforce: true, Timeout: ceremonyTime, TimeoutUVD: ceremonyTime}
	return webauthn.New(&webauthn.Config{
		RPID: name, RPDisplayName: "Helmline", RPOrigins: []string{"https://" + strings.ToLower(host)},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: limit, Registration: limit},
	})
}

func (s *Service) holder(ctx context.Context, a *Account) (holder, error) {
	rows, err := s.store.Passkeys(ctx, a.ID)
	h := holder{Account: a}
	for _, r := range rows {
		var c webauthn.Credential
		if err := json.Unmarshal(r.Record, &c); err != nil {
			return h, fmt.Errorf("passkey %q of %s: %w", r.Name, a.Email, err)
		}
		h.passkeys = append(h.passkeys, c)
	}
	return h, err
}

// Passkeys are those of an account, the oldest first.
func (s *Service) Passkeys(ctx context.Context, a *Account) ([]Passkey, error) {
	rows, err := s.store.Passkeys(ctx, a.ID)
	var all []Passkey
	for _, r := range rows {
		all = append(all, Passkey{base64.RawURLEncoding.EncodeToString(r.ID), r.Name, r.Created, r.Used})
	}
	return all, err
}

// NewPasskey begins to add one: it gives what the browser's navigator.credentials.create takes, in JSON. relay is the relay's name,
// host what the browser calls it.
func (s *Service) NewPasskey(ctx context.Context, a *Account, relay, host string, src netip.Addr) (any, error) {
	rp, err := party(relay, host)
	if err != nil {
		return nil, err
	}
	h, err := s.holder(ctx, a)
	if err != nil {
		return nil, err
	}
	options, session, err := rp.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.passkeys).CredentialDescriptors()))
	if err != nil {
		return nil, err
	}
	s.ceremonies.add(session, a.ID, src)
	return options.Response, nil
}

// AddPasskey adds the passkey that the browser has made. An account that has no second factor yet gets recovery codes, which nobody can
// read again. Errors: refuse.WrongPasskey, or StorageOut.
func (s *Service) AddPasskey(ctx context.Context, a *Account, name string, credential []byte, relay, host string) (recovery []string, err error) {
	rp, err := party(relay, host)
	if err != nil {
		return nil, err
	}
	said, err := protocol.ParseCredentialCreationResponseBytes(credential)
	if err != nil {
		return nil, refuse.WrongPasskey.Of()
	}
	c, ok := s.ceremonies.take(said.Response.CollectedClientData.Challenge)
	if !ok || c.account != a.ID {
		return nil, refuse.WrongPasskey.Of()
	}
	h, err := s.holder(ctx, a)
	if err != nil {
		return nil, err
	}
	made, err := rp.CreateCredential(h, *c.session, said)
	if err != nil {
		return nil, refuse.WrongPasskey.Of()
	}
	record, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	if name = strings.TrimSpace(refuse.Printable(name, maxPasskeyName)); name == "" {
		name = "Passkey"
	}
	recovery, hashes := newRecovery()
	first, err := s.store.AddPasskey(ctx, store.Passkey{ID: made.ID, Account: a.ID, Name: name, Record: record, Created: time.Now()}, maxPasskeys, hashes)
	if !first {
		recovery = nil
	}
	return recovery, err
}

// RemovePasskey takes one from an account and ends the account's sessions.
func (s *Service) RemovePasskey(ctx context.Context, a *Account, id string) error {
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err == nil {
		err = s.store.RemovePasskey(ctx, a.ID, raw)
	}
	if err != nil {
		return err
	}
	s.revoked(a.ID, "the removal of a passkey of the account")
	return nil
}

// AskPasskey begins a sign-in: it gives what the browser's navigator.credentials.get takes, in JSON.
func (s *Service) AskPasskey(relay, host string, src netip.Addr) (any, error) {
	rp, err := party(relay, host)
	if err != nil {
		return nil, err
	}
	options, session, err := rp.BeginDiscoverableLogin()
	if err != nil {
		return nil, err
	}
	s.ceremonies.add(session, 0, src)
	return options.Response, nil
}

// PasskeySignIn signs in by what a browser has got from a passkey, counts and records the outcome. Errors: refuse.WrongPasskey, SignIn,
// SlowDown, Busy, StorageOut, or ctx's.
func (s *Service) PasskeySignIn(ctx context.Context, credential []byte, relay, host string, src netip.Addr, door string) (*Account, error) {
	a, err := s.guess(ctx, src, func() (*Account, error) { return s.checkPasskey(ctx, credential, relay, host) })
	if err != nil {
		s.refused(ctx, "", src, door, err)
		return nil, err
	}
	return a, s.succeeded(ctx, a, src, door, "with a passkey")
}

func (s *Service) checkPasskey(ctx context.Context, credential []byte, relay, host string) (*Account, error) {
	rp, err := party(relay, host)
	if err != nil {
		return nil, err
	}
	said, err := protocol.ParseCredentialRequestResponseBytes(credential)
	if err != nil {
		return nil, refuse.WrongPasskey.Of()
	}
	c, ok := s.ceremonies.take(said.Response.CollectedClientData.Challenge)
	if !ok || c.account != 0 {
		return nil, refuse.WrongPasskey.Of()
	}
	var fault error // of the store
	find := func(_, of []byte) (webauthn.User, error) {
		if len(of) != 8 {
			return nil, errors.New("no account")
		}
		row, err := s.store.AccountByID(ctx, int64(binary.BigEndian.Uint64(of)))
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				fault = err
			}
			return nil, err
		}
		h, err := s.holder(ctx, public(row))
		fault = err
		return h, err
	}
	user, used, err := rp.ValidatePasskeyLogin(find, *c.session, said)
	if fault != nil {
		return nil, fault
	}
	if err != nil || used.Authenticator.CloneWarning || !bytes.Equal(user.WebAuthnID(), said.Response.UserHandle) {
		return nil, refuse.WrongPasskey.Of()
	}
	a := user.(holder).Account
	if a.Disabled {
		return nil, refuse.WrongPasskey.Of()
	}
	record, err := json.Marshal(used)
	if err == nil {
		err = s.store.UsePasskey(ctx, a.ID, used.ID, record, time.Now())
	}
	if errors.Is(err, store.ErrNotFound) {
		err = refuse.WrongPasskey.Of()
	}
	return a, err
}

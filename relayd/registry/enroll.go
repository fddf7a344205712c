package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of invitations.
const (
	InvitationTTL  = 15 * time.Minute
	maxInvitations = 64 // open ones of one account
	secretBytes    = 20
)

// Anybody may try to enrol: one refusal in refusalEvery is recorded, and refusalBurst after silence.
const (
	refusalEvery = time.Second
	refusalBurst = 100
)

// Invite makes a token by which one computer can join ownerEmail's within InvitationTTL; name may be empty. The store
// keeps only the secret's hash.
func (s *Service) Invite(ctx context.Context, ownerEmail, name string) (id, secret string, expires time.Time, err error) {
	owner, err := s.people.ByEmail(ctx, ownerEmail)
	if err != nil {
		return "", "", expires, err
	}
	if owner.Disabled {
		return "", "", expires, fmt.Errorf("the account %s is disabled; enable it first: relayd account enable %s", owner.Email, owner.Email)
	}
	if name != "" {
		if err := CheckName(name); err != nil {
			return "", "", expires, err
		}
		rows, err := s.store.FindFor(ctx, owner.ID, nameKey(name), "", time.Now())
		if err != nil {
			return "", "", expires, err
		}
		if len(rows) > 0 && rows[0].Owner == owner.ID {
			return "", "", expires, store.Tell(store.ErrExists, "%s has a computer called %q already; choose another name, or remove that one first", owner.Email, rows[0].Name)
		}
	}
	raw := make([]byte, secretBytes)
	rand.Read(raw)
	secret = hex.EncodeToString(raw)
	id = strings.ToLower(rand.Text()[:16])
	now := time.Now()
	expires = now.Add(InvitationTTL)
	err = s.store.Invite(ctx, store.Invitation{ID: id, Secret: sha256.Sum256([]byte(secret)), Owner: owner.ID, Name: name, Expires: expires}, now, maxInvitations)
	if err != nil {
		return "", "", expires, err
	}
	return id, secret, expires, nil
}

// Enroll spends a token and enrols the computer that proved to hold key, in one transaction. The same computer may
// repeat it until the token expires, in case it missed the answer, and with a new token of the same owner it stays what it
// was. src is where it comes from. Errors: refuse.CodeInvalid, for a token that is unknown, wrong, spent or expired;
// refuse.OtherOwner; refuse.StorageOut.
func (s *Service) Enroll(ctx context.Context, tokenID, secret, hostname string, key ssh.PublicKey, src netip.Addr) (Computer, error) {
	hostname = refuse.Printable(hostname, 255)
	row, made, err := s.store.Enrol(ctx, tokenID, sha256.Sum256([]byte(secret)), key.Marshal(), time.Now(),
		func(v store.Invitation, taken func(string) (bool, error)) (store.Computer, string, error) {
			name := v.Name
			if name == "" {
				name = nameFrom(hostname)
			}
			c := store.Computer{ID: newUUID(), Hostname: hostname, Created: time.Now()}
			for n := 1; ; n++ {
				c.Name = numbered(name, n)
				used, err := taken(nameKey(c.Name))
				if err != nil || !used {
					return c, nameKey(c.Name), err
				}
			}
		},
		func(c store.Computer) error { // what cannot be recorded does not happen
			return s.trail.Write(ctx, audit.Event{Kind: "host.enrol", Account: c.Email, Computer: c.Name, ComputerID: c.ID, Source: address(src)})
		})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Computer{}, s.refused(ctx, refuse.CodeInvalid.Of(), hostname, key, src)
	case errors.Is(err, store.ErrExists):
		return Computer{}, s.refused(ctx, refuse.OtherOwner.Of(), hostname, key, src)
	case err != nil:
		return Computer{}, err
	}
	if made {
		s.count.enrolments.WithLabelValues("ok").Inc()
	}
	return *s.public(row), nil
}

// refused counts and records an enrolment that is refused, and gives r. The computer is what it calls itself.
func (s *Service) refused(ctx context.Context, r *refuse.Refusal, hostname string, key ssh.PublicKey, src netip.Addr) error {
	s.count.enrolments.WithLabelValues("refused").Inc()
	e := audit.Event{
		Kind: "host.enrol.refused", Computer: hostname, Source: address(src), Code: r.Code,
		Detail: r.Title + ", key " + ssh.FingerprintSHA256(key),
	}
	if !s.refusals.Pass(&e) {
		return r
	}
	if err := s.trail.Write(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("refused enrolment not recorded", "viewer", src, "err", err)
	}
	return r
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// newUUID makes a random UUID, version 4 (RFC 9562, section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

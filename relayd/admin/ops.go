package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
)

// A route adds one operation.
type route func(name string, h http.Handler)

func (s *Server) accountOps(on route) {
	about := func(kind string) func(emailArg) audit.Event {
		return func(a emailArg) audit.Event { return audit.Event{Kind: kind, Account: a.Email} }
	}
	on(opAccountList, look(func(ctx context.Context, _ none) ([]Account, error) { return s.People.List(ctx) }))
	on(opAccountAdd, alter(s,
		func(a passwordArg) audit.Event {
			e := audit.Event{Kind: opAccountAdd, Account: a.Email}
			if a.Admin {
				e.Detail = "administrator"
			}
			return e
		},
		func(ctx context.Context, a passwordArg) (*Account, error) {
			return s.People.Add(ctx, a.Email, []byte(a.Password), a.Admin)
		}))
	on(opAccountDisable, alter(s, about(opAccountDisable), func(ctx context.Context, a emailArg) (none, error) {
		return none{}, s.People.Disable(ctx, a.Email)
	}))
	on(opAccountEnable, alter(s, about(opAccountEnable), func(ctx context.Context, a emailArg) (none, error) {
		return none{}, s.People.Enable(ctx, a.Email)
	}))
	on(opFactorReset, alter(s, about(opFactorReset), func(ctx context.Context, a emailArg) (none, error) {
		return none{}, s.People.ResetFactors(ctx, a.Email)
	}))
	on(opAccountPassword, alter(s,
		func(a passwordArg) audit.Event { return audit.Event{Kind: opAccountPassword, Account: a.Email} },
		func(ctx context.Context, a passwordArg) (none, error) {
			return none{}, s.People.SetPassword(ctx, a.Email, []byte(a.Password))
		}))
	on(opKeyAdd, alter(s, keyEvent, func(ctx context.Context, a keyArg) (Key, error) {
		return s.People.AddKey(ctx, a.Email, []byte(a.Key))
	}))
	on(opKeyList, look(func(ctx context.Context, a emailArg) ([]Key, error) { return s.People.Keys(ctx, a.Email) }))
	on(opKeyRemove, alter(s,
		func(a keyArg) audit.Event { return audit.Event{Kind: opKeyRemove, Account: a.Email, Detail: a.Key} },
		func(ctx context.Context, a keyArg) (none, error) {
			return none{}, s.People.RemoveKey(ctx, a.Email, a.Key)
		}))
}

// keyEvent names a new key by its fingerprint only: what was given may be a private key.
func keyEvent(a keyArg) audit.Event {
	e := audit.Event{Kind: opKeyAdd, Account: a.Email}
	if key, _, err := account.ParseKey([]byte(a.Key)); err == nil {
		e.Detail = ssh.FingerprintSHA256(key)
	}
	return e
}

func (s *Server) hostOps(on route) {
	on(opHostList, look(func(ctx context.Context, a hostArg) ([]Host, error) { return s.hosts(ctx, a.Host) }))
	on(opHostInvite, alter(s,
		func(a inviteArg) audit.Event {
			return audit.Event{Kind: opHostInvite, Account: a.Email, Computer: a.Name}
		},
		func(ctx context.Context, a inviteArg) (Invitation, error) {
			id, secret, expires, err := s.Computers.Invite(ctx, a.Email, a.Name)
			if err != nil {
				return Invitation{}, err
			}
			t := tunnel.Token{Relay: s.Relay, Fingerprint: s.HostKey, ID: id, Secret: secret}
			return Invitation{t.String(), expires}, nil
		}))
	on(opHostRemove, alter(s,
		func(a hostArg) audit.Event { return audit.Event{Kind: opHostRemove, Computer: a.Host} },
		func(ctx context.Context, a hostArg) (Host, error) { return host(s.Computers.Remove(ctx, a.Host)) }))
	on(opHostRename, alter(s,
		func(a hostArg) audit.Event { return audit.Event{Kind: opHostRename, Computer: a.Host, Detail: a.Name} },
		func(ctx context.Context, a hostArg) (Host, error) {
			return host(s.Computers.Rename(ctx, a.Host, a.Name))
		}))
	on(opHostShare, alter(s,
		func(a shareArg) audit.Event {
			e := audit.Event{Kind: opHostShare, Computer: a.Host, Account: a.Email, Detail: a.Right.String()}
			if !a.Expires.IsZero() {
				e.Detail += a.Expires.UTC().Format(" until 2006-01-02T15:04:05Z")
			}
			return e
		},
		func(ctx context.Context, a shareArg) (Host, error) {
			return host(s.Computers.Share(ctx, a.Host, a.Email, a.Right, a.Expires))
		}))
}

// hosts are all computers, or the one that is named, with their shares.
func (s *Server) hosts(ctx context.Context, ref string) ([]Host, error) {
	all := []Host{}
	list, err := s.Computers.List(ctx)
	if ref != "" {
		c, err := s.Computers.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		list = []registry.Computer{*c}
	}
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		h, _ := host(&c, nil)
		if h.Shares, err = s.Computers.Shares(ctx, c.ID); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

func host(c *registry.Computer, err error) (Host, error) {
	if err != nil {
		return Host{}, err
	}
	h := Host{ID: c.ID, Owner: c.Owner, Name: c.Name, Online: c.Online, Hostname: c.Hostname, Version: c.Version, Key: c.Key, Created: c.Created}
	if !c.LastSeen.IsZero() {
		h.LastSeen = &c.LastSeen
	}
	return h, nil
}

func (s *Server) otherOps(on route) {
	on(opSessionList, look(func(context.Context, none) ([]SessionInfo, error) {
		return append([]SessionInfo{}, s.Sessions.List()...), nil
	}))
	on(opSessionEnd, alter(s,
		func(a sessionArg) audit.Event { return audit.Event{Kind: opSessionEnd, Session: a.ID} },
		func(_ context.Context, a sessionArg) (none, error) { return none{}, s.Sessions.End(a.ID) }))
	on(opCode, alter(s,
		func(a codeArg) audit.Event {
			return audit.Event{Kind: "code.make", Account: a.Email, Computer: a.Host, Detail: role(a.Watch).String()}
		},
		func(ctx context.Context, a codeArg) (Code, error) { return s.code(ctx, a) }))
	on(opFingerprint, look(func(context.Context, none) ([]Fingerprint, error) { return s.Fingerprints(), nil }))
}

func (s *Server) code(ctx context.Context, a codeArg) (Code, error) {
	acct, err := s.People.ByEmail(ctx, a.Email)
	if err != nil {
		return Code{}, err
	}
	if acct.Disabled {
		return Code{}, fmt.Errorf("the account %s is disabled; enable it first: relayd account enable %s", acct.Email, acct.Email)
	}
	c, err := s.Computers.Find(ctx, acct, a.Host)
	if refuse.NoComputer.Is(err) {
		return Code{}, fmt.Errorf("%s has no computer %q, and none of that name is shared with them; see: relayd host list", acct.Email, refuse.Printable(a.Host, 100))
	}
	if err != nil {
		return Code{}, err
	}
	code, expires, err := s.Computers.Codes().Make(acct, c, role(a.Watch))
	if refuse.WatchOnly.Is(err) {
		return Code{}, errors.New(acct.Email + " may only watch " + c.Name + "; make a code with --watch, or give the right: relayd host share " + c.ID + " " + acct.Email + " control")
	}
	return Code{code, c.Name, role(a.Watch).String(), expires}, err
}

package registry

import (
	"crypto/rand"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
)

// One-time codes.
const (
	CodeTTL        = 120 * time.Second
	CodeLen        = 8 // characters: what VncAuth takes
	maxCodes       = 4096
	maxAccountCode = 16 // live ones of one account; the oldest goes
)

// alphabet has no two characters that look alike: no 0 O, 1 I. It has 32, so each gives 5 bits.
const alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

// A Grant is what a one-time code stands for: the sign-in of an account, for one computer and role.
type Grant struct {
	Account  *account.Account
	Computer string // UUID
	Role     tunnel.Role
	expires  time.Time
}

// Codes are the one-time codes, kept in memory only. Its methods may be called by any goroutine.
type Codes struct {
	count metrics

	mu   sync.Mutex       // guards what follows
	live map[string]Grant // by code
}

// Make makes a code for a computer that Find gave for acct. A code for control where acct may only watch is
// refuse.WatchOnly; when too many codes are live, it is refuse.Busy.
func (c *Codes) Make(acct *account.Account, computer *Computer, role tunnel.Role) (code string, expires time.Time, err error) {
	if role != tunnel.RoleWatch && computer.Right < RightControl {
		return "", time.Time{}, refuse.WatchOnly.Of(computer.Name)
	}
	code = newCode()
	expires = time.Now().Add(CodeTTL)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	own, oldest := 0, ""
	for k, g := range c.live {
		if g.Account.ID != acct.ID {
			continue
		}
		own++
		if oldest == "" || g.expires.Before(c.live[oldest].expires) {
			oldest = k
		}
	}
	if own >= maxAccountCode {
		delete(c.live, oldest)
	}
	if len(c.live) >= maxCodes {
		return "", time.Time{}, refuse.Busy.Of()
	}
	c.live[code] = Grant{acct, computer.ID, role, expires}
	c.count.codes.Set(float64(len(c.live)))
	return code, expires, nil
}

// newCode is 40 random bits.
func newCode() string {
	var b [CodeLen]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b[:])
}

// Match spends the code that try accepts; without one it is refuse.CodeInvalid. It tries every live one, so its time
// says nothing about which. The caller bounds who may try, see account.Guess.
func (c *Codes) Match(try func(code string) bool) (*Grant, error) {
	c.mu.Lock()
	c.expire()
	all := make([]string, 0, len(c.live))
	for code := range c.live {
		all = append(all, code)
	}
	c.mu.Unlock()
	found := ""
	for _, code := range all {
		if try(code) {
			found = code
		}
	}
	g, ok := c.spend(found)
	if !ok {
		return nil, refuse.CodeInvalid.Of()
	}
	return &g, nil
}

// Take spends the newest live code that is for just this account, computer and role, and gives it; empty: there is none.
// The caller has signed the account in and found the computer.
func (c *Codes) Take(account int64, computer string, role tunnel.Role) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	newest := ""
	for code, g := range c.live {
		if g.Account.ID == account && g.Computer == computer && g.Role == role && (newest == "" || g.expires.After(c.live[newest].expires)) {
			newest = code
		}
	}
	delete(c.live, newest)
	c.count.codes.Set(float64(len(c.live)))
	return newest
}

// spend takes a code away; of several at once, one gets it.
func (c *Codes) spend(code string) (Grant, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.live[code]
	ok = ok && time.Now().Before(g.expires)
	delete(c.live, code)
	c.count.codes.Set(float64(len(c.live)))
	return g, ok
}

// revoke takes codes away.
func (c *Codes) revoke(which func(Grant) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, g := range c.live {
		if which(g) {
			delete(c.live, code)
		}
	}
	c.count.codes.Set(float64(len(c.live)))
}

// expire drops the codes whose time is over.
func (c *Codes) expire() {
	now := time.Now()
	for code, g := range c.live {
		if !now.Before(g.expires) {
			delete(c.live, code)
		}
	}
}

package door

import (
	"strings"

	"github.com/helmline/helmline/bridge/tunnel"
)

// A Name is what a viewer's user name says: who signs in, to which computer, in which role.
type Name struct {
	Account  string // as typed
	Computer string // as typed; empty: none named
	Role     tunnel.Role
}

// ParseName takes "account/computer/role" apart. An account is an e-mail address, which may hold slashes before its
// last @; so the account ends at the first slash behind that, or at the first slash of all. The role is "watch" or
// "take"; without one it is control. What follows the account and is no role belongs to the computer's name, which
// then matches none. A viewer that cannot send an empty name sends one space: spaces around the parts are dropped.
func ParseName(user string) Name {
	at := strings.LastIndexByte(user, '@') + 1
	account, rest := user, ""
	if i := strings.IndexByte(user[at:], '/'); i >= 0 {
		account, rest = user[:at+i], user[at+i+1:]
	}
	n := Name{Account: strings.TrimSpace(account), Role: tunnel.RoleControl}
	computer := strings.TrimSpace(rest)
	if i := strings.LastIndexByte(computer, '/'); i >= 0 {
		if role, ok := parseRole(computer[i+1:]); ok {
			computer, n.Role = computer[:i], role
		}
	}
	n.Computer = strings.TrimSpace(computer)
	return n
}

func parseRole(s string) (tunnel.Role, bool) {
	switch s = strings.TrimSpace(s); {
	case s == "", strings.EqualFold(s, "control"):
		return tunnel.RoleControl, true
	case strings.EqualFold(s, "watch"):
		return tunnel.RoleWatch, true
	case strings.EqualFold(s, "take"):
		return tunnel.RoleTake, true
	}
	return 0, false
}

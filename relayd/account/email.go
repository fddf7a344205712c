package account

import (
	"fmt"
	"strings"
)

// Limits of an e-mail address, bytes: RFC 5321, sections 4.5.3.1.1 and 4.5.3.1.2, and the erratum on the whole.
const (
	MaxEmail  = 254
	maxLocal  = 64
	maxDomain = 253
)

// CheckEmail says what is wrong with an e-mail address as the name of an account. Only ASCII is accepted, so that two
// names cannot look the same, and none of / \ # : which divide user names at the doors.
func CheckEmail(s string) error {
	local, domain, found := cutLast(s, '@')
	switch {
	case !found:
		return fmt.Errorf("%q is not an e-mail address: it has no @", clip(s))
	case len(s) > MaxEmail || len(local) > maxLocal || len(domain) > maxDomain:
		return fmt.Errorf("%q is too long: an e-mail address has at most %d bytes, %d of them before the @", clip(s), MaxEmail, maxLocal)
	case local == "" || strings.Trim(local, ".") != local || strings.Contains(local, ".."):
		return fmt.Errorf("%q is not an e-mail address: something is missing before the @, or a dot is out of place", clip(s))
	}
	for _, c := range local {
		if !alnum(c) && !strings.ContainsRune("!$%&'*+-=?^_`{|}~.", c) {
			return fmt.Errorf("%q cannot name an account: the character %q is not allowed before the @", clip(s), c)
		}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return fmt.Errorf("%q is not an e-mail address: its domain is not a host name", clip(s))
		}
		for _, c := range label {
			if !alnum(c) && c != '-' {
				return fmt.Errorf("%q cannot name an account: the character %q is not allowed in a domain; write an international one in its xn-- form", clip(s), c)
			}
		}
	}
	return nil
}

// EmailKey is an e-mail address as accounts are compared. What people type at a door goes through here unchecked.
func EmailKey(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func alnum(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// clip keeps an error that quotes s short.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

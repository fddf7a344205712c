package registry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// MaxName is the longest name of a computer, bytes in UTF-8.
const MaxName = 63

// CheckName says what is wrong with a computer's name. It must fit between the signs that divide user names at the
// doors, so only letters, digits, hyphen, dot and underscore are in it.
func CheckName(s string) error {
	switch {
	case s == "":
		return errors.New("a computer must have a name")
	case len(s) > MaxName || !utf8.ValidString(s):
		return fmt.Errorf("the name of a computer has at most %d bytes of UTF-8; this one has %d", MaxName, len(s))
	case norm.NFC.String(s) != s:
		return fmt.Errorf("%q is not in Unicode's composed form (NFC)", s)
	case isUUID(s):
		return fmt.Errorf("%q looks like the number of a computer, so it cannot be a name", s)
	}
	for i, c := range s {
		switch {
		case unicode.IsLetter(c), unicode.IsDigit(c):
		case i > 0 && (c == '-' || c == '.' || c == '_' || unicode.IsMark(c)):
		default:
			return fmt.Errorf("%q is not a name of a computer: letters, digits and, not at its beginning, hyphen, dot and underscore may be in it", s)
		}
	}
	if first, _, _ := strings.Cut(nameKey(s), "."); first == "watch" || first == "take" {
		return fmt.Errorf("%q cannot be a name: at the doors, %q is how a viewer asks to %s", s, first, first)
	}
	return nil
}

// nameKey is a name as names are compared. What people type at a door goes through here unchecked.
func nameKey(s string) string {
	folded := strings.Map(func(c rune) rune {
		// x/text exchanges the two cases of Cherokee, where CaseFolding.txt makes capitals of both.
		if unicode.Is(unicode.Cherokee, c) {
			return unicode.ToUpper(c)
		}
		return c
	}, cases.Fold().String(norm.NFC.String(s)))
	return norm.NFC.String(folded)
}

// nameFrom makes a name of what a computer calls itself.
func nameFrom(hostname string) string {
	host, _, _ := strings.Cut(norm.NFC.String(hostname), ".")
	host = strings.TrimLeftFunc(strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !(unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsMark(c) || c == '_') {
			return '-'
		}
		return c
	}, host), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
	host = strings.TrimRight(norm.NFC.String(cut(host, MaxName)), "-_")
	if CheckName(host) != nil {
		return "computer"
	}
	return host
}

// numbered is the n-th variant of a name: desk, desk-2, desk-3 …
func numbered(name string, n int) string {
	if n < 2 {
		return name
	}
	suffix := "-" + strconv.Itoa(n)
	return cut(name, MaxName-len(suffix)) + suffix
}

// cut shortens s to at most max bytes between two characters.
func cut(s string, max int) string {
	for len(s) > max {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", c) {
				return false
			}
		}
	}
	return true
}

package input

import (
	"unicode"

	"github.com/helmline/helmline/bridge/form"
)

// Keysyms by name, as far as they are special. X11/keysymdef.h.
const (
	symVoid         = 0xffffff
	symUnicode      = 0x01000000 // and the character
	symLastUnicode  = 0x0110ffff
	symVendor       = 0x10000000 // XF86 and other vendors' keys
	symLastVendor   = 0x1fffffff
	symModeSwitch   = 0xff7e
	symNumLock      = 0xff7f
	symKeypad       = 0xff80 // KP_Space
	symKeypadEqual  = 0xffbd
	symShiftL       = 0xffe1
	symHyperR       = 0xffee
	symISOLock      = 0xfe01
	symISOLast      = 0xfe0f
	symLevel3       = 0xfe03
	symLeftTab      = 0xfe20
	symDeadFirst    = 0xfe50
	symDeadLast     = 0xfe9f
	symFunction     = 0xfd00 // 3270 and everything above it
	symLastFunction = 0xffff
)

// canonical makes one keysym of those that stand for the same character: Latin 1 and the Unicode ones.
func canonical(sym uint32) uint32 {
	if r := char(sym); r > 0 {
		return ofChar(r)
	}
	return sym
}

func ofChar(r rune) uint32 {
	if r >= 0x20 && r < 0x7f || r >= 0xa0 && r <= 0xff {
		return uint32(r)
	}
	return symUnicode | uint32(r)
}

// char is the character of a keysym, 0: none.
func char(sym uint32) rune {
	switch {
	case sym >= 0x20 && sym < 0x7f, sym >= 0xa0 && sym <= 0xff:
		return rune(sym)
	case sym >= symUnicode+0x20 && sym <= symLastUnicode:
		if r := rune(sym - symUnicode); r < 0x7f || r >= 0xa0 {
			return r
		}
		return 0
	case sym > 0xff && sym <= 0x20ff:
		return form.Legacy(sym)
	}
	return 0
}

// upper is what programs make of a symbol under Caps Lock where the key itself does not say. 0: they differ.
func upper(sym uint32) uint32 {
	r := char(sym)
	switch r {
	case 0:
		return sym
	case 'ß', 'µ', 'ÿ', 'ı', 'ĸ', 'ŉ', 'ſ':
		return 0
	}
	if u := unicode.ToUpper(r); u != r {
		return ofChar(u)
	}
	return sym
}

// modifier says whether a keysym is of a key that is held or toggled for others.
func modifier(sym uint32) bool {
	return sym >= symShiftL && sym <= symHyperR || sym >= symISOLock && sym <= symISOLast ||
		sym == symModeSwitch || sym == symNumLock
}

// keypad says whether a keysym is of the keypad, where Num Lock chooses between two of a key.
func keypad(sym uint32) bool { return sym >= symKeypad && sym <= symKeypadEqual }

// function says whether a keysym is that of a key which does something: pressing it with a modifier held means the
// modified key, whatever symbol the keyboard has there.
func function(sym uint32) bool {
	dead := sym >= symDeadFirst && sym <= symDeadLast
	return !dead && !keypad(sym) &&
		(sym >= symFunction && sym <= symLastFunction || sym >= symVendor && sym <= symLastVendor)
}

// bindable says whether a keysym that no key has may be bound to one.
func bindable(sym uint32) bool {
	switch {
	case modifier(sym):
		return false
	case char(sym) > 0:
		return true
	}
	return sym >= symDeadFirst && sym <= symDeadLast || sym >= 0xff08 && sym <= symLastFunction ||
		sym >= symVendor+0x8fe01 && sym <= symVendor+0x8ffff || sym >= symVendor+0x81001 && sym <= symVendor+0x81fff
}

// instead names keys that do the same where a keyboard has not the one that was sent.
var instead = [...]struct{ sent, has uint32 }{
	{0xffe2, 0xffe1}, {0xffe4, 0xffe3}, // Shift_R, Control_R
	{0xffea, 0xffe9}, {0xffe7, 0xffe9}, {0xffe8, 0xffe9}, // Alt_R, Meta_L, Meta_R
	{0xffec, 0xffeb}, {0xffed, 0xffeb}, {0xffee, 0xffeb}, // Super_R, Hyper_L, Hyper_R
	{symModeSwitch, symLevel3}, {symLevel3, symModeSwitch},
	{symLeftTab, 0xff09},
}

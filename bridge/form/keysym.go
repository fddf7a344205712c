package form

import "sort"

// Keysyms that do something else than write a character. X11, keysymdef.h.
const (
	KeyBackSpace = 0xff08
	KeyTab       = 0xff09
	KeyReturn    = 0xff0d
	KeyEscape    = 0xff1b
	KeyHome      = 0xff50
	KeyLeft      = 0xff51
	KeyUp        = 0xff52
	KeyRight     = 0xff53
	KeyDown      = 0xff54
	KeyEnd       = 0xff57
	KeyInsert    = 0xff63
	KeyEnter     = 0xff8d // of the keypad
	KeyF1        = 0xffbe
	KeyShiftL    = 0xffe1
	KeyShiftR    = 0xffe2
	KeyControlL  = 0xffe3
	KeyControlR  = 0xffe4
	KeyLeftTab   = 0xfe20
	KeyDelete    = 0xffff
)

// Rune is the character that a keysym writes, 0 for none.
func Rune(sym uint32) rune {
	switch {
	case sym >= 0x20 && sym <= 0x7e, sym >= 0xa0 && sym <= 0xff:
		return rune(sym)
	case sym >= 0x01000100 && sym <= 0x0110ffff:
		return rune(sym - 0x01000000)
	case sym >= 0xffaa && sym <= 0xffb9: // keypad: * + , - . / 0 … 9
		return rune(sym - 0xff80)
	case sym == 0xffbd: // keypad
		return '='
	case sym == 0xff80: // keypad
		return ' '
	}
	return Legacy(sym)
}

// Legacy is the character of a keysym from before Unicode, Latin 2 to currency, 0 for none. Latin 1 stands for itself.
func Legacy(sym uint32) rune {
	i := sort.Search(len(legacy), func(i int) bool { return uint32(legacy[i].sym) >= sym })
	if i < len(legacy) && uint32(legacy[i].sym) == sym {
		return rune(legacy[i].char)
	}
	return 0
}

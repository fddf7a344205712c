package input

import (
	"encoding/binary"
	"testing"
	"unicode"
)

const (
	mod2 = 1 << 4 // Num Lock, as usual
	mod5 = 1 << 7 // ISO_Level3_Shift
)

// testMap is a keyboard of a few keys.
func testMap() *keymap {
	m := &keymap{first: 8, last: 255, types: []keyType{
		0: {},
		1: {mask: shiftMask, entries: []typeEntry{{shiftMask, 1, 0}}},                                                          // TWO_LEVEL
		2: {mask: shiftMask | lockMask, entries: []typeEntry{{shiftMask, 1, 0}, {lockMask, 1, 0}}},                             // ALPHABETIC
		3: {mask: shiftMask | mod2, entries: []typeEntry{{shiftMask, 1, 0}, {mod2, 1, 0}}},                                     // KEYPAD
		4: {mask: shiftMask | mod5, entries: []typeEntry{{shiftMask, 1, 0}, {mod5, 2, 0}, {shiftMask | mod5, 3, 0}}},           // FOUR_LEVEL
		5: {mask: shiftMask | lockMask | mod5, entries: []typeEntry{{shiftMask, 1, 0}, {lockMask, 0, lockMask}, {mod5, 2, 0}}}, // keeps Caps Lock for the program
		6: {mask: shiftMask | 1<<2 | 1<<3, entries: []typeEntry{{shiftMask, 0, shiftMask}, {1<<2 | 1<<3, 4, 0}}},               // CTRL+ALT
	}}
	set := func(code byte, kind byte, mods byte, groups int, syms ...uint32) {
		m.keys[code] = key{groups: groups, types: [4]byte{kind, kind, kind, kind}, width: len(syms) / groups, syms: syms, mods: mods}
	}
	set(10, 1, 0, 1, '1', '!')
	set(38, 2, 0, 1, 'a', 'A')
	set(39, 2, 0, 2, 's', 'S', 0x6d9, 0x6f9) // Cyrillic in the second group
	set(24, 4, 0, 1, 'q', 'Q', '@', 0x7d9)
	set(47, 5, 0, 1, 0xf6, 0xd6, 0xdf) // ö Ö ß
	set(79, 3, 0, 1, 0xff95, 0xffb7)   // KP_Home KP_7
	set(23, 1, 0, 1, 0xff09, symLeftTab)
	set(67, 6, 0, 1, 0xffbe, 0xffbe, 0xffbe, 0xffbe, 0x1008fe01) // F1, XF86Switch_VT_1
	set(50, 1, shiftMask, 1, symShiftL, 0)
	set(92, 1, mod5, 1, symLevel3, 0)
	set(64, 1, 1<<3, 1, 0xffe9, 0xffe7) // Alt_L Meta_L
	set(205, 1, 1<<3, 1, 0, 0xffe7)     // Meta_L, which no keyboard has
	set(94, 1, 0, 1, '<', '>')
	set(59, 1, 0, 1, ',', '<')
	return m
}

func TestFind(t *testing.T) {
	m := testMap()
	x := m.index()
	for _, c := range []struct {
		name  string
		sym   uint32
		state state
		held  byte
		code  byte
		mods  byte
		group int // wanted, -1: as it is
		none  bool
	}{
		{name: "as it is", sym: 'a', code: 38, group: -1},
		{name: "Shift is missing", sym: 'A', code: 38, mods: shiftMask, group: -1},
		{name: "Shift is held", sym: 'A', state: state{base: shiftMask}, held: shiftMask, code: 38, mods: shiftMask, group: -1},
		{name: "Shift is held by us and must not be", sym: 'a', state: state{base: shiftMask}, held: shiftMask, code: 38, group: -1},
		{name: "Shift is held by somebody else", sym: '1', state: state{base: shiftMask}, none: true},
		{name: "Shift is held by somebody else, Caps Lock helps", sym: 'a', state: state{base: shiftMask}, code: 38, mods: shiftMask | lockMask, group: -1},
		{name: "Caps Lock is on", sym: 'a', state: state{locked: lockMask}, code: 38, group: -1},
		{name: "Caps Lock is on and right", sym: 'A', state: state{locked: lockMask}, code: 38, mods: lockMask, group: -1},
		{name: "Caps Lock does not touch digits", sym: '1', state: state{locked: lockMask}, code: 10, mods: lockMask, group: -1},
		{name: "Caps Lock and a symbol above Shift", sym: '!', state: state{locked: lockMask}, code: 10, mods: lockMask | shiftMask, group: -1},
		{name: "a key that leaves Caps Lock to the program", sym: 0xf6, state: state{locked: lockMask}, code: 47, group: -1},
		{name: "and is right so", sym: 0xd6, state: state{locked: lockMask}, code: 47, mods: lockMask, group: -1},
		{name: "ß, which programs capitalize as they like", sym: 0xdf, state: state{locked: lockMask}, code: 47, mods: mod5, group: -1},
		{name: "third level", sym: '@', code: 24, mods: mod5, group: -1},
		{name: "third level while Shift is held", sym: '@', state: state{base: shiftMask}, held: shiftMask, code: 24, mods: mod5, group: -1},
		{name: "fourth level while Shift is held", sym: 0x7d9, state: state{base: shiftMask}, held: shiftMask, code: 24, mods: shiftMask | mod5, group: -1},
		{name: "Num Lock is off", sym: 0xffb7, code: 79, mods: shiftMask, group: -1},
		{name: "Num Lock is on", sym: 0xff95, state: state{locked: mod2}, code: 79, group: -1},
		{name: "Shift is meant with KP_Home", sym: 0xff95, state: state{base: shiftMask}, held: shiftMask, code: 79, mods: shiftMask | mod2, group: -1},
		{name: "Shift and Tab", sym: 0xff09, state: state{base: shiftMask}, held: shiftMask, code: 23, mods: shiftMask, group: -1},
		{name: "ISO_Left_Tab alone", sym: symLeftTab, code: 23, mods: shiftMask, group: -1},
		{name: "Ctrl, Alt and F1", sym: 0xffbe, state: state{base: 1<<2 | 1<<3}, held: 1<<2 | 1<<3, code: 67, mods: 1<<2 | 1<<3, group: -1},
		{name: "the second group", sym: 0x6d9, code: 39, group: 1},
		{name: "the first group, while in the second", sym: 's', state: state{group: 1}, code: 39, group: 0},
		{name: "a key of one group, while in the second", sym: 'a', state: state{group: 1}, code: 38, group: -1},
		{name: "the place that needs nothing", sym: '<', code: 94, group: -1},
		{name: "the other place", sym: '<', state: state{base: shiftMask}, held: shiftMask, code: 59, mods: shiftMask, group: -1},
		{name: "a modifier", sym: symShiftL, code: 50, group: -1},
		{name: "a modifier in the second place of a real key", sym: 0xffe7, code: 205, group: -1},
		{name: "nowhere", sym: 0x100004e, none: true},
	} {
		sym := canonical(c.sym)
		p, ok := m.find(sym, x[sym], c.state, c.held)
		switch {
		case ok == c.none:
			t.Errorf("%s: found: %v, %+v", c.name, ok, p)
		case ok && (p.code != c.code || p.group != c.group || p.mods != c.mods):
			t.Errorf("%s: code %d, modifiers %08b, group %d; want %d, %08b, %d", c.name, p.code, p.mods, p.group, c.code, c.mods, c.group)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ sym, want uint32 }{
		{'a', 'a'}, {0xe4, 0xe4}, {0x10000e4, 0xe4}, {0x1000041, 'A'},
		{0x20ac, 0x10020ac}, {0x10020ac, 0x10020ac}, {0x7d9, 0x10003a9}, {0x1004e2d, 0x1004e2d},
		{0x100007f, 0x100007f}, {0x1000000, 0x1000000}, {0x1000080, 0x1000080}, {0x110ffff, 0x110ffff}, {0x1110000, 0x1110000},
		{0xff0d, 0xff0d}, {0xfe51, 0xfe51}, {0, 0}, {0x7f, 0x7f}, {0x9f, 0x9f}, {0x100, 0x100}, {0x1a1, 0x1000104},
	} {
		if got := canonical(c.sym); got != c.want {
			t.Errorf("canonical(%#x) = %#x, want %#x", c.sym, got, c.want)
		}
	}
}

func TestBindable(t *testing.T) {
	for _, c := range []struct {
		sym  uint32
		want bool
	}{
		{'a', true}, {0xe4, true}, {0x1004e2d, true}, {0x20ac, true}, {0xfe51, true}, {0xff0d, true}, {0x1008ff13, true},
		{0, false}, {1, false}, {0x7f, false}, {0x1000000, false}, {0x1000085, false}, {0x1110000, false}, {symVoid, false},
		{symShiftL, false}, {symNumLock, false}, {symLevel3, false}, {0x12345678, false}, {0xffffffff, false}, {0x3a0, false},
	} {
		if got := bindable(canonical(c.sym)); got != c.want {
			t.Errorf("bindable(%#x) = %v", c.sym, got)
		}
	}
}

func TestUpper(t *testing.T) {
	for _, c := range []struct{ sym, want uint32 }{
		{'a', 'A'}, {'A', 'A'}, {'1', '1'}, {0xe4, 0xc4}, {0xdf, 0}, {0xb5, 0}, {0xff, 0}, {0xff0d, 0xff0d},
		{canonical(0x6c1), canonical(0x6e1)}, {canonical(0x7e1), canonical(0x7c1)},
	} {
		if got := upper(c.sym); got != c.want {
			t.Errorf("upper(%#x) = %#x, want %#x", c.sym, got, c.want)
		}
	}
	for r := rune(0x20); r < 0x3000; r++ { // a capital stays one
		if unicode.IsUpper(r) && upper(ofChar(r)) != ofChar(r) && upper(ofChar(r)) != 0 {
			t.Errorf("%c becomes %#x", r, upper(ofChar(r)))
		}
	}
}

func TestGroup(t *testing.T) {
	for _, c := range []struct {
		groups  int
		outside byte
		g       byte
		want    int
	}{
		{0, 0, 0, 0}, {0, 0, 3, 0}, {2, 0, 0, 0}, {2, 0, 1, 1}, {2, 0, 2, 0}, {2, 0, 3, 1},
		{2, outsideClamp, 3, 1}, {2, outsideRedirect | 1<<4, 3, 1}, {2, outsideRedirect | 3<<4, 3, 0},
	} {
		k := key{groups: c.groups, outside: c.outside}
		if got := k.group(c.g); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// appendMap writes a keymap as a server sends it.
func appendMap(m *keymap) []byte {
	b := make([]byte, 40)
	b[10], b[11] = m.first, m.last
	binary.LittleEndian.PutUint16(b[12:], xkbKeyTypes|xkbKeySyms|xkbModifierMap)
	b[15], b[17], b[20] = byte(len(m.types)), m.first, m.last-m.first+1
	b[31], b[32] = m.first, m.last-m.first+1
	for _, t := range m.types {
		b = append(b, t.mask, t.mask, 0, 0, 8, byte(len(t.entries)), 1, 0)
		for _, e := range t.entries {
			b = append(b, 1, e.mods, byte(e.level), e.mods, 0, 0, 0, 0)
		}
		for _, e := range t.entries {
			b = append(b, e.preserve, e.preserve, 0, 0)
		}
	}
	for code := int(m.first); code <= int(m.last); code++ {
		k := m.keys[code]
		b = append(append(b, k.types[:]...), byte(k.groups)|k.outside, byte(k.width))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(k.syms)))
		for _, s := range k.syms {
			b = binary.LittleEndian.AppendUint32(b, s)
		}
	}
	for code := int(m.first); code <= int(m.last); code++ {
		if m.keys[code].mods != 0 {
			b = append(b, byte(code), m.keys[code].mods)
			b[33]++
		}
	}
	return append(b, 0, 0)
}

func FuzzParseMap(f *testing.F) {
	good := appendMap(testMap())
	f.Add(good)
	f.Add(good[:40])
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) { // what is accepted can be used
		m, err := parseMap(in)
		if err != nil {
			return
		}
		m.free()
		for sym, places := range m.index() {
			for _, s := range []state{{}, {locked: 0xff}, {base: 0x55, group: 3}} {
				if p, ok := m.find(sym, places, s, 0x55); ok {
					m.means(p.code, int(p.place.group), p.mods)
				}
			}
		}
	})
}

func TestParseMap(t *testing.T) {
	m, err := parseMap(appendMap(testMap()))
	if err != nil {
		t.Fatal(err)
	}
	for code := range m.keys {
		for g := range 2 {
			for mods := range 256 {
				if a, b := m.means(byte(code), g, byte(mods)), testMap().means(byte(code), g, byte(mods)); a != b {
					t.Fatalf("code %d, modifiers %08b: %#x, not %#x", code, mods, a, b)
				}
			}
		}
	}
	if _, err := parseMap(appendMap(testMap())[:300]); err != errMap {
		t.Fatal(err)
	}
}

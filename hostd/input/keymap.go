package input

import "slices"

// lockMask is the modifier of Caps Lock.
const (
	shiftMask = 1 << 0
	lockMask  = 1 << 1
)

// Groups beyond those of a key. XKB specification, "Computing Effective Group".
const (
	outsideClamp    = 0x40
	outsideRedirect = 0x80
)

// group is the group of k that counts when the keyboard is in group g.
func (k *key) group(g byte) int {
	switch {
	case k.groups == 0:
		return 0
	case int(g) < k.groups:
		return int(g)
	case k.outside&0xc0 == outsideClamp:
		return k.groups - 1
	case k.outside&0xc0 == outsideRedirect:
		if r := int(k.outside >> 4 & 3); r < k.groups {
			return r
		}
		return 0
	}
	return int(g) % k.groups
}

// level is the level that modifiers choose, and which of them are used up in choosing it.
func (t *keyType) level(mods byte) (level int, used byte) {
	for _, e := range t.entries {
		if e.mods == mods&t.mask {
			return e.level, t.mask &^ e.preserve
		}
	}
	return 0, t.mask
}

// at is the symbol of a level.
func (k *key) at(group, level int) uint32 {
	if group >= k.groups || level >= k.width {
		return 0
	}
	return k.syms[group*k.width+level]
}

// means is the symbol that programs get of a key with these modifiers.
func (m *keymap) means(code byte, group int, mods byte) uint32 {
	k := &m.keys[code]
	if group >= k.groups {
		return 0
	}
	level, used := m.types[k.types[group]].level(mods)
	sym := k.at(group, level)
	if mods&^used&lockMask != 0 {
		sym = upper(sym)
	}
	return sym
}

// A place is where on a keyboard a symbol is.
type place struct {
	code  byte
	group uint8
	level uint8
}

// An index finds the places of symbols. Symbols that stand for the same character share their places.
type index map[uint32][]place

// on are those of a symbol's places that are on one key: they stand together.
func on(code byte, places []place) []place {
	from := slices.IndexFunc(places, func(p place) bool { return p.code == code })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(places) && places[to].code == code {
		to++
	}
	return places[from:to]
}

func (m *keymap) index() index {
	x := index{}
	for code := int(m.first); code <= int(m.last); code++ {
		k := &m.keys[code]
		for g := range k.groups {
			for l := range k.width {
				if s := k.at(g, l); s != 0 {
					s = canonical(s)
					x[s] = append(x[s], place{byte(code), uint8(g), uint8(l)})
				}
			}
		}
	}
	return x
}

// free lists the codes with no symbol and no modifier, which may be bound to any, last first: the first are those of
// keys that exist on some keyboards.
func (m *keymap) free() []byte {
	var codes []byte
	for code := int(m.last); code >= int(m.first); code-- {
		k := &m.keys[code]
		empty := k.mods == 0
		for _, s := range k.syms {
			empty = empty && s == 0
		}
		if empty {
			codes = append(codes, byte(code))
		}
	}
	return codes
}

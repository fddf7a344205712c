package input

import (
	"slices"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// maxSpares is how many symbols without a key of their own can be typed without binding one anew. Some free keys are
// left to others, who do the same.
const (
	maxSpares  = 24
	leftSpares = 2
)

// spareRest is how long a bound key is left alone after it was used: programs read the keyboard map only when they
// deal with the change, and one that is late would read what the key means next. Nobody types as many symbols that the
// keyboard does not have in that time.
const spareRest = time.Second

// spareProperty lists on the root window the codes of keys that were bound here, so that a worker that was killed
// does not use them up for good.
const spareProperty = "_HELMLINE_SPARE_KEYS"

// spares are the keys that have no symbol of their own. They stay bound until the least recently used one is needed
// for another symbol.
type spares struct {
	slots   []spare  // the least recently used first
	adopted []byte   // bound by one before
	mine    []uint16 // numbers of the requests that changed the map
	atom    xproto.Atom
	root    xproto.Window
}

type spare struct {
	code byte
	sym  uint32 // 0: none yet
	used time.Time
}

// adopt takes over the keys of one before.
func (s *spares) adopt(x *xgb.Conn, root xproto.Window) {
	s.root = root
	r, err := xproto.InternAtom(x, false, uint16(len(spareProperty)), spareProperty).Reply()
	if err != nil {
		return
	}
	s.atom = r.Atom
	p, err := xproto.GetProperty(x, false, root, s.atom, xproto.AtomCardinal, 0, maxSpares).Reply()
	if err == nil && p.Format == 8 {
		s.adopted = slices.Clone(p.Value[:min(len(p.Value), maxSpares)])
	}
}

// fit looks which keys are free on a new map. Those that still have the symbol they were bound to stay as they are.
func (s *spares) fit(m *keymap) {
	old := s.slots
	s.slots = nil
	kept := map[byte]bool{}
	for _, o := range old {
		if o.sym != 0 && bound(m, o.code) == o.sym {
			s.slots, kept[o.code] = append(s.slots, o), true
		}
	}
	for _, code := range s.adopted {
		if sym := bound(m, code); sym != 0 && !kept[code] {
			s.slots, kept[code] = append([]spare{{code: code, sym: canonical(sym)}}, s.slots...), true
		}
	}
	s.adopted = nil
	free := m.free()
	for _, code := range free[:max(len(free)-leftSpares, 0)] {
		if len(s.slots) < maxSpares && !kept[code] {
			s.slots = append([]spare{{code: code}}, s.slots...)
		}
	}
}

// bound is the symbol of a key that looks as bind leaves it, else 0.
func bound(m *keymap, code byte) uint32 {
	k := &m.keys[code]
	if k.mods != 0 || k.groups != 1 || k.width != 2 || k.syms[0] != k.syms[1] {
		return 0
	}
	return canonical(k.syms[0])
}

// bind gives a symbol a key, the one that has rested for the longest time. Where none has rested for long enough it
// says how long that will take. Keys that are down are left alone.
func (s *spares) bind(x *xgb.Conn, sym uint32, down []byte) (code byte, wait time.Duration, ok bool) {
	i := slices.IndexFunc(s.slots, func(p spare) bool { return !slices.Contains(down, p.code) })
	if i < 0 {
		return 0, 0, false
	}
	p := s.slots[i]
	if p.sym != 0 {
		if wait := spareRest - time.Since(p.used); wait > 0 {
			return 0, wait, false
		}
	}
	// Two symbols make a key of two levels; one would be a letter with its capital.
	c := xproto.ChangeKeyboardMappingChecked(x, 1, xproto.Keycode(p.code), 2,
		[]xproto.Keysym{xproto.Keysym(sym), xproto.Keysym(sym)})
	if c.Check() != nil {
		return 0, 0, false
	}
	s.mine = append(s.mine[max(len(s.mine)-maxSpares, 0):], c.Sequence)
	fresh := p.sym == 0
	p.sym, p.used = sym, time.Now()
	s.slots = append(slices.Delete(s.slots, i, i+1), p)
	if fresh {
		s.tell(x)
	}
	return p.code, 0, true
}

// find is the key that a symbol is bound to.
func (s *spares) find(sym uint32) (code byte, ok bool) {
	i := slices.IndexFunc(s.slots, func(p spare) bool { return p.sym == sym })
	if i < 0 {
		return 0, false
	}
	p := s.slots[i]
	p.used = time.Now()
	s.slots = append(slices.Delete(s.slots, i, i+1), p)
	return p.code, true
}

// tell writes the list of bound keys to the root window.
func (s *spares) tell(x *xgb.Conn) {
	var codes []byte
	for _, p := range s.slots {
		if p.sym != 0 {
			codes = append(codes, p.code)
		}
	}
	if s.atom != 0 {
		xproto.ChangeProperty(x, xproto.PropModeReplace, s.root, s.atom, xproto.AtomCardinal, 8, uint32(len(codes)), codes)
	}
}

// restore unbinds all.
func (s *spares) restore(x *xgb.Conn) {
	for _, p := range s.slots {
		if p.sym != 0 {
			xproto.ChangeKeyboardMapping(x, 1, xproto.Keycode(p.code), 1, []xproto.Keysym{0})
		}
	}
	s.slots = nil
	if s.atom != 0 {
		xproto.DeleteProperty(x, s.root, s.atom)
	}
	x.Sync()
}

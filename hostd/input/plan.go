package input

// A plan says how to get a symbol from a place: which modifiers have to count, and which group.
type plan struct {
	place
	mods  byte // the effective modifiers while the key is pressed
	group int  // -1: as it is
	cost  int
}

// Costs of what a program may notice.
const (
	costUnlock  = 1  // Caps Lock or Num Lock is off for the moment
	costLock    = 2  // a modifier counts without its key being pressed
	costCaps    = 10 // Caps Lock is on for the moment
	costLift    = 3  // a held key is let go for the moment
	costLiftPad = 8  // and it is one that is meant
	costGroup   = 50 // another group for the moment
)

// find chooses the best of a symbol's places. held is the modifiers that keys of ours hold: those of others cannot be
// let go.
func (m *keymap) find(sym uint32, places []place, s state, held byte) (plan, bool) {
	best := plan{cost: 1 << 30}
	for _, p := range places {
		var c plan
		var ok bool
		if function(sym) {
			c, ok = m.press(sym, p, s)
		}
		if !ok {
			c, ok = m.exact(sym, p, s, held)
		}
		if ok && c.cost < best.cost {
			best = c
		}
	}
	return best, best.cost < 1<<30
}

// press plans a key that is pressed with whatever modifiers are held. Levels above the first are for those it has no
// other place for.
func (m *keymap) press(sym uint32, p place, s state) (plan, bool) {
	k := &m.keys[p.code]
	c := plan{place: p, mods: s.mods(), group: -1}
	switch {
	case int(p.group) != k.group(s.group):
		if !modifier(sym) {
			return c, false
		}
		c.cost = costGroup
	case p.level == 0 || m.means(p.code, int(p.group), s.mods()) == sym:
	case modifier(sym) && k.at(int(p.group), 0) == 0:
		c.cost = 1
	case modifier(sym):
		c.cost = 2
	default:
		return c, false
	}
	return c, true
}

// exact plans a key so that programs get this very symbol.
func (m *keymap) exact(sym uint32, p place, s state, held byte) (plan, bool) {
	k := &m.keys[p.code]
	t := &m.types[k.types[p.group]]
	now := s.mods()
	best := plan{cost: 1 << 30}
	for chosen := t.mask; ; chosen = (chosen - 1) & t.mask { // every set of the modifiers that matter
		for _, drop := range [...]byte{0, lockMask} {
			mods := (now&^t.mask | chosen) &^ drop
			if canonical(m.means(p.code, int(p.group), mods)) != sym {
				continue
			}
			cost, ok := weigh(sym, s, mods, held)
			if ok && cost < best.cost {
				best = plan{place: p, mods: mods, group: -1, cost: cost}
			}
		}
		if chosen == 0 {
			break
		}
	}
	if best.cost == 1<<30 {
		return best, false
	}
	if int(p.group) != k.group(s.group) {
		best.group = int(p.group)
		best.cost += costGroup
	}
	return best, true
}

// weigh says what it costs to make mods the effective modifiers, and whether that can be done.
func weigh(sym uint32, s state, mods, held byte) (cost int, ok bool) {
	for bit := byte(1); bit != 0; bit <<= 1 {
		switch {
		case (s.mods()^mods)&bit == 0:
		case mods&bit == 0 && s.base&bit != 0:
			if held&bit == 0 {
				return 0, false
			}
			if cost += costLift; keypad(sym) {
				cost += costLiftPad - costLift
			}
		case mods&bit == 0:
			cost += costUnlock
		case bit == lockMask:
			cost += costCaps
		case bit == shiftMask:
			cost += costLock
		default:
			cost += costLock + 1
		}
	}
	return cost, true
}

// Package input types and points on an X display, so that programs get exactly the symbols that a viewer sent, whatever
// layout the keyboard has and whichever lock is on.
package input

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
)

// maxHeld is the largest number of keys held down at a time; more are ignored.
const maxHeld = 64

// buttons is the number of buttons that a viewer's mask has.
const buttons = 9

// An Injector presses keys and moves the pointer. One goroutine uses it; Event may be called by another.
//
// Nothing is pressed that it does not know of, so Release leaves the keyboard as if nobody had typed. Errors show at the
// connection: without a display nothing can be typed.
type Injector struct {
	x    *xgb.Conn
	root xproto.Window
	xkb  xkb

	lights [3]xproto.Atom // names of those of the lock keys, in the order of bits in their state
	told   int            // state of the lock keys that Locks gave last; -1: none
	lit    atomic.Bool    // the state may have changed

	stale   atomic.Bool // keyboard or button map have changed
	changes changes
	keys    *keymap
	evdev   bool // scan codes are known by their number
	index   index
	spare   spares
	held    []holding // in the order they were pressed
	repeats [32]byte  // keys that the X server repeats by itself
	tap     [256]byte // of a pointer button: the one to press for it
	at      [2]int    // of the pointer
	moved   bool      // at is known
	mask    uint16    // pressed buttons
}

// A holding is a key that is down.
type holding struct {
	sym     uint32 // canonical; 0: none
	scan    uint32 // 0: none
	code    byte
	repeats bool // when it is let go
}

// New prepares the keyboard of a display. The connection must have XTEST ready, and hand every event to Event.
func New(x *xgb.Conn, root xproto.Window) (*Injector, error) {
	k, err := newXKB(x)
	if err != nil {
		return nil, err
	}
	in := &Injector{x: x, root: root, xkb: k, told: -1}
	for i, name := range [...]string{"Scroll Lock", "Num Lock", "Caps Lock"} {
		r, err := xproto.InternAtom(x, false, uint16(len(name)), name).Reply()
		if err != nil {
			return nil, err
		}
		in.lights[i] = r.Atom
	}
	in.lit.Store(true)
	in.stale.Store(true)
	k.watch()
	in.spare.adopt(x, root)
	if err := in.refresh(); err != nil {
		return nil, err
	}
	return in, in.settle()
}

// settle lets go of what a worker before held when it was killed: its keys stay down for the X server. A key that
// somebody holds on a keyboard is not touched, since that is another device.
func (in *Injector) settle() error {
	down, err := xproto.QueryKeymap(in.x).Reply()
	if err != nil {
		return err
	}
	for code := range len(down.Keys) * 8 {
		if down.Keys[code/8]>>(code%8)&1 != 0 {
			in.fake(xproto.KeyRelease, byte(code))
			if in.keys.keys[code].mods == 0 {
				in.repeat(byte(code), true)
			}
		}
	}
	pointer, err := xproto.QueryPointer(in.x, in.root).Reply()
	if err != nil {
		return err
	}
	for i := range 5 { // the mask has no more
		if pointer.Mask>>(8+i)&1 != 0 {
			in.fake(xproto.ButtonRelease, in.tap[i+1])
		}
	}
	s, err := in.xkb.state()
	if err != nil {
		return err
	}
	if s.locked&shiftMask != 0 { // killed in the middle of a press
		in.xkb.lock(shiftMask, 0, 0)
	}
	in.x.Sync()
	return nil
}

// repeat says whether the X server repeats a key that is held. Viewers repeat by themselves, and a release that comes
// late must not make a row of letters.
func (in *Injector) repeat(code byte, on bool) {
	mode := uint32(xproto.AutoRepeatModeOff)
	if on {
		mode = xproto.AutoRepeatModeOn
	}
	xproto.ChangeKeyboardControl(in.x, xproto.KbKey|xproto.KbAutoRepeatMode, []uint32{uint32(code), mode})
}

// What an event may mean for others.
type What uint8

// Kinds of What.
const (
	Nothing What = iota
	Locked       // Locks may give another state
	Rang         // the bell
)

// Event looks at an event of the X server. It does not wait.
func (in *Injector) Event(e []byte) What {
	const mappingNotify = 34
	switch e[0] & 0x7f {
	case in.xkb.first:
		switch e[1] {
		case xkbNewKeyboardNotify, xkbMapNotify:
			in.changes.add(uint16(e[2]) | uint16(e[3])<<8)
		case xkbLightNotify:
			in.lit.Store(true)
			return Locked
		case xkbBellNotify:
			return Rang
		}
	case mappingNotify:
		if e[4] == xproto.MappingPointer {
			in.stale.Store(true)
		}
	}
	return Nothing
}

// Locks gives the state of the lock keys, by their lights, when it has changed since the last call: Scroll Lock 1, Num Lock 2, Caps
// Lock 4.
func (in *Injector) Locks() (state uint8, changed bool) {
	if !in.lit.Swap(false) {
		return 0, false
	}
	for i, name := range in.lights {
		on, err := in.xkb.light(name)
		if err != nil {
			return 0, false
		}
		if on {
			state |= 1 << i
		}
	}
	changed = int(state) != in.told
	in.told = int(state)
	return state, changed
}

// changes are the numbers of the last requests of ours that the X server had seen when the keyboard map changed: one
// that made the change itself, when it was ours.
type changes struct {
	mu   sync.Mutex
	seq  []uint16
	many bool // more than are worth keeping
}

func (c *changes) add(seq uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.seq); n == 0 || c.seq[n-1] != seq {
		if c.many = c.many || n >= maxSpares; !c.many {
			c.seq = append(c.seq, seq)
		}
	}
}

// foreign says whether there was a change that is in none of mine, and forgets them all.
func (c *changes) foreign(mine []uint16) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.many || slices.ContainsFunc(c.seq, func(s uint16) bool { return !slices.Contains(mine, s) })
	c.seq, c.many = c.seq[:0], false
	return f
}

// refresh reads keyboard and button map if they have changed.
func (in *Injector) refresh() error {
	if !in.stale.Swap(false) && !in.changes.foreign(in.spare.mine) {
		return nil
	}
	m, err := in.xkb.keymap()
	if err != nil {
		in.stale.Store(true)
		return err
	}
	if in.evdev, err = in.xkb.named(); err != nil {
		in.stale.Store(true)
		return err
	}
	in.keys, in.index = m, m.index()
	in.spare.fit(m)
	control, err := xproto.GetKeyboardControl(in.x).Reply()
	if err != nil {
		return err
	}
	copy(in.repeats[:], control.AutoRepeats)
	for _, h := range in.held { // off while they are down
		if h.repeats {
			in.repeats[h.code/8] |= 1 << (h.code % 8)
		}
	}
	r, err := xproto.GetPointerMapping(in.x).Reply()
	if err != nil {
		return err
	}
	for i := range in.tap {
		in.tap[i] = byte(i)
	}
	for i, logical := range r.Map {
		if logical != 0 && i < 255 {
			in.tap[logical] = byte(i + 1)
		}
	}
	return nil
}

// Key presses or releases a key. What counts is the keysym: programs get that symbol. The scan code, 0 where it is not known, says
// which key is meant where several have it, stands for a keysym that is 0 or that the display cannot have, and names the key that is
// let go. A key that is pressed again while it is down repeats; a keysym that no key has is bound to a spare key if it can be typed at
// all, else ignored. Key does nothing and says how long to wait where that key cannot be bound yet: then it is to be called again.
func (in *Injector) Key(sym, scan uint32, down bool) (wait time.Duration) {
	if sym = canonical(sym); sym == symVoid {
		sym = 0
	}
	if !down {
		in.up(sym, scan)
		return 0
	}
	if sym == 0 && scan == 0 || in.refresh() != nil {
		return 0
	}
	if i := in.holds(sym, scan); i >= 0 {
		if modifier(sym) || in.keys.keys[in.held[i].code].mods != 0 {
			return 0
		}
		in.lift(i)
	}
	if len(in.held) >= maxHeld {
		return 0
	}
	s, err := in.xkb.state()
	if err != nil {
		return 0
	}
	p, wait, ok := in.look(sym, in.keycode(scan), s)
	if !ok {
		return wait
	}
	if i := slices.IndexFunc(in.held, func(h holding) bool { return h.code == p.code }); i >= 0 {
		in.lift(i)
	}
	in.press(p, s)
	h := holding{sym, scan, p.code, in.repeats[p.code/8]>>(p.code%8)&1 != 0}
	in.held = append(in.held, h)
	if h.repeats {
		in.repeat(p.code, false)
	}
	return 0
}

// keycode is the key of a scan code, 0 where there is none with a symbol.
func (in *Injector) keycode(scan uint32) byte {
	if code := keycode(scan); in.evdev && code != 0 && in.keys.keys[code].groups > 0 {
		return code
	}
	return 0
}

// look finds how to type a symbol, by the key that is meant if that has it, or says how long to wait until it can.
func (in *Injector) look(sym uint32, key byte, s state) (p plan, wait time.Duration, ok bool) {
	held, meant := in.modifiers(), plan{place: place{code: key}, mods: s.mods(), group: -1}
	if sym == 0 {
		return meant, 0, key != 0
	}
	if key != 0 {
		if p, ok := in.keys.find(sym, on(key, in.index[sym]), s, held); ok && p.group < 0 {
			return p, 0, true
		}
	}
	if code, ok := in.spare.find(sym); ok {
		return spareplan(sym, code, s), 0, true
	}
	if p, ok := in.keys.find(sym, in.index[sym], s, held); ok {
		return p, 0, true
	}
	for _, alt := range instead {
		if alt.sent == sym {
			if p, ok := in.keys.find(alt.has, in.index[alt.has], s, held); ok {
				return p, 0, true
			}
		}
	}
	if !bindable(sym) {
		return meant, 0, key != 0
	}
	code, wait, ok := in.spare.bind(in.x, sym, in.codes())
	if !ok {
		return plan{}, wait, false
	}
	return spareplan(sym, code, s), 0, true
}

// spareplan plans a spare key: it has its symbol at both levels, and only Caps Lock changes it.
func spareplan(sym uint32, code byte, s state) plan {
	p := plan{place: place{code: code}, mods: s.mods(), group: -1}
	if upper(sym) != sym {
		p.mods &^= lockMask
	}
	return p
}

// press makes the planned modifiers count, presses the key and makes everything as it was.
func (in *Injector) press(p plan, s state) {
	lift := s.base &^ p.mods
	affect := (s.mods()^p.mods)&^lift | lift&(s.locked|s.latched)
	var lifted []byte
	for _, h := range in.held {
		if in.keys.keys[h.code].mods&lift != 0 {
			in.fake(xproto.KeyRelease, h.code)
			lifted = append(lifted, h.code)
		}
	}
	if affect != 0 {
		in.xkb.lock(affect, s.latched&affect, p.mods)
	}
	if p.group >= 0 {
		in.xkb.lockGroup(byte(p.group))
	}
	in.fake(xproto.KeyPress, p.code)
	if p.group >= 0 {
		in.xkb.lockGroup(s.lockedGroup)
	}
	if affect != 0 {
		in.xkb.lock(affect, 0, s.locked)
	}
	for _, code := range lifted {
		in.fake(xproto.KeyPress, code)
	}
}

// up releases what was pressed for a symbol or a scan code. A viewer that let go of Shift first may name another symbol of the key.
func (in *Injector) up(sym, scan uint32) {
	i := in.holds(sym, scan)
	if i < 0 {
		i = slices.IndexFunc(in.held, func(h holding) bool {
			return slices.ContainsFunc(in.index[sym], func(p place) bool { return p.code == h.code })
		})
	}
	if i >= 0 {
		in.lift(i)
	}
}

// lift releases one key.
func (in *Injector) lift(i int) {
	h := in.held[i]
	in.fake(xproto.KeyRelease, h.code)
	if h.repeats {
		in.repeat(h.code, true)
	}
	in.held = slices.Delete(in.held, i, i+1)
}

// holds is where in held a key is, by its scan code or its symbol, -1: nowhere. The symbol does not count where it is another key's.
func (in *Injector) holds(sym, scan uint32) int {
	return slices.IndexFunc(in.held, func(h holding) bool {
		if scan != 0 && h.scan != 0 {
			return h.scan == scan
		}
		return sym != 0 && h.sym == sym
	})
}

// codes lists the keys that are down.
func (in *Injector) codes() []byte {
	var c []byte
	for _, h := range in.held {
		c = append(c, h.code)
	}
	return c
}

// modifiers is the modifiers that our keys hold.
func (in *Injector) modifiers() byte {
	var m byte
	for _, h := range in.held {
		m |= in.keys.keys[h.code].mods
	}
	return m
}

func (in *Injector) fake(kind, detail byte) {
	xtest.FakeInput(in.x, kind, detail, 0, 0, 0, 0, 0)
}

// Pointer moves the pointer to a pixel of the screen, or to the nearest there is, and presses and releases buttons so
// that those of mask are down: bit 0 is the left one, bits 3 to 6 are the wheel's up, down, left, right, bits 7 and 8
// are back and forward.
func (in *Injector) Pointer(mask uint16, x, y int) {
	x, y = min(max(x, 0), math.MaxInt16), min(max(y, 0), math.MaxInt16)
	if at := [2]int{x, y}; !in.moved || at != in.at {
		in.at, in.moved = at, true
		xtest.FakeInput(in.x, xproto.MotionNotify, 0, 0, in.root, int16(x), int16(y), 0)
	}
	in.press9(mask & (1<<buttons - 1))
}

// press9 makes the buttons of mask the pressed ones.
func (in *Injector) press9(mask uint16) {
	for i := range buttons {
		bit := uint16(1) << i
		if (in.mask^mask)&bit == 0 {
			continue
		}
		if mask&bit != 0 {
			in.fake(xproto.ButtonPress, in.tap[i+1])
		} else {
			in.fake(xproto.ButtonRelease, in.tap[i+1])
		}
	}
	in.mask = mask
}

// Release lets go of every key and button, the last pressed first, and returns when the X server has done it.
func (in *Injector) Release() {
	for i := len(in.held) - 1; i >= 0; i-- {
		in.lift(i)
	}
	in.press9(0)
	in.moved = false // somebody else may move it now
	in.x.Sync()
}

// Close lets go of everything and gives the spare keys back.
func (in *Injector) Close() {
	in.Release()
	in.spare.restore(in.x)
}

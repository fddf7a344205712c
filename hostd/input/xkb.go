package input

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// The X Keyboard Extension's requests and events that are used, which xgb does not have. "The X Keyboard Extension:
// Protocol Specification", version 1.0.
const (
	xkbUseExtension   = 0
	xkbSelectEvents   = 1
	xkbGetState       = 4
	xkbLatchLockState = 5
	xkbGetMap         = 8
	xkbGetNamedLight  = 15 // GetNamedIndicator
	xkbGetNames       = 17

	xkbCoreKeyboard = 0x100 // the keyboard that everybody types on

	xkbNewKeyboardNotify = 0 // events
	xkbMapNotify         = 1
	xkbLightNotify       = 4 // IndicatorStateNotify
	xkbBellNotify        = 8

	xkbKeyTypes    = 1 << 0 // parts of a map
	xkbKeySyms     = 1 << 1
	xkbModifierMap = 1 << 2
)

var errMap = errors.New("the X server's keyboard map makes no sense")

// A xkb is the extension on one connection.
type xkb struct {
	x     *xgb.Conn
	major byte
	first byte // its one event code
}

func newXKB(x *xgb.Conn) (xkb, error) {
	r, err := xproto.QueryExtension(x, 9, "XKEYBOARD").Reply()
	if err != nil {
		return xkb{}, err
	}
	if !r.Present {
		return xkb{}, errors.New("the X server has no XKEYBOARD extension, which Helmline needs")
	}
	k := xkb{x, r.MajorOpcode, r.FirstEvent}
	b, err := k.ask(xkbUseExtension, 1, 0, 0, 0) // version 1.0
	if err != nil {
		return xkb{}, fmt.Errorf("XKEYBOARD: %w", err)
	}
	if b[1] == 0 {
		return xkb{}, errors.New("the X server's XKEYBOARD extension is of another version than 1.0")
	}
	return k, nil
}

func (k xkb) request(minor byte, body []byte) []byte {
	b := make([]byte, 4, 4+len(body))
	b[0], b[1] = k.major, minor
	b = append(b, body...)
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)/4))
	return b
}

// ask sends a request and gives its reply, of at least 32 bytes.
func (k xkb) ask(minor byte, body ...byte) ([]byte, error) {
	c := k.x.NewCookie(true, true)
	k.x.NewRequest(k.request(minor, body), c)
	return c.Reply()
}

// tell sends a request that has no reply.
func (k xkb) tell(minor byte, body ...byte) {
	k.x.NewRequest(k.request(minor, body), k.x.NewCookie(false, false))
}

// watch asks for an event when what keymap reads of the map changes, or a light, and when the bell rings. The parts of the map that say
// which keys repeat are not asked for: each key that is typed changes them twice.
func (k xkb) watch() {
	const all = 1<<xkbNewKeyboardNotify | 1<<xkbLightNotify | 1<<xkbBellNotify
	const which = all | 1<<xkbMapNotify
	const parts = xkbKeyTypes | xkbKeySyms | xkbModifierMap
	k.tell(xkbSelectEvents, xkbCoreKeyboard&0xff, xkbCoreKeyboard>>8, which&0xff, which>>8, 0, 0, all&0xff, all>>8, 0xff, 0, parts, 0)
}

// named says whether the keyboard's keys have the numbers that Linux gives them.
func (k xkb) named() (bool, error) {
	b, err := k.ask(xkbGetNames, xkbCoreKeyboard&0xff, xkbCoreKeyboard>>8, 0, 0, 1, 0, 0, 0) // of the keycodes
	if err != nil || len(b) < 36 {
		return false, err
	}
	r, err := xproto.GetAtomName(k.x, xproto.Atom(binary.LittleEndian.Uint32(b[32:]))).Reply()
	return err == nil && strings.HasPrefix(r.Name, "evdev"), err
}

// light says whether a light of the keyboard is on.
func (k xkb) light(name xproto.Atom) (bool, error) {
	body := []byte{xkbCoreKeyboard & 0xff, xkbCoreKeyboard >> 8, 0, 3, 0, 4, 0, 0} // of the default class, of the default number
	b, err := k.ask(xkbGetNamedLight, binary.LittleEndian.AppendUint32(body, uint32(name))...)
	if err != nil {
		return false, err
	}
	return b[12] != 0 && b[13] != 0, nil // there is one, and it is on
}

// A state is what modifiers and group the keyboard has.
type state struct {
	base, latched, locked byte // modifiers: keys held down, once, until undone
	group, lockedGroup    byte
}

func (s state) mods() byte { return s.base | s.latched | s.locked }

func (k xkb) state() (state, error) {
	b, err := k.ask(xkbGetState, xkbCoreKeyboard&0xff, xkbCoreKeyboard>>8, 0, 0)
	if err != nil {
		return state{}, err
	}
	return state{base: b[9], latched: b[10], locked: b[11], group: b[12], lockedGroup: b[13]}, nil
}

// lock sets those locked modifiers that are in affect to those in mods, and undoes those latched that are in unlatch.
func (k xkb) lock(affect, unlatch, mods byte) {
	k.tell(xkbLatchLockState, xkbCoreKeyboard&0xff, xkbCoreKeyboard>>8, affect, mods&affect, 0, 0, unlatch, 0, 0, 0, 0, 0)
}

// lockGroup sets the locked group.
func (k xkb) lockGroup(group byte) {
	k.tell(xkbLatchLockState, xkbCoreKeyboard&0xff, xkbCoreKeyboard>>8, 0, 0, 1, group, 0, 0, 0, 0, 0, 0)
}

// A keyType says which modifiers choose which level of a key.
type keyType struct {
	mask    byte // the modifiers that matter
	entries []typeEntry
}

type typeEntry struct {
	mods     byte // exactly these of the mask
	level    int
	preserve byte // of mods: still count for what the key means
}

// A key is one code's symbols.
type key struct {
	groups  int
	outside byte // what a group beyond them means
	types   [4]byte
	width   int // symbols a group
	syms    []uint32
	mods    byte // the modifiers that it is, by the server's modifier map
}

// A keymap is the keyboard's.
type keymap struct {
	first, last byte
	types       []keyType
	keys        [256]key
}

// keymap reads the map.
func (k xkb) keymap() (*keymap, error) {
	body := make([]byte, 24)
	binary.LittleEndian.PutUint16(body, xkbCoreKeyboard)
	binary.LittleEndian.PutUint16(body[2:], xkbKeyTypes|xkbKeySyms|xkbModifierMap)
	b, err := k.ask(xkbGetMap, body...)
	if err != nil {
		return nil, err
	}
	return parseMap(b)
}

// parseMap reads a GetMap reply with types, symbols and the modifier map.
func parseMap(b []byte) (*keymap, error) {
	if len(b) < 40 {
		return nil, errMap
	}
	m := &keymap{first: b[10], last: b[11]}
	present := binary.LittleEndian.Uint16(b[12:])
	nTypes, firstSym, nSyms := int(b[15]), int(b[17]), int(b[20])
	firstMod, nModKeys, nMods := int(b[31]), int(b[32]), int(b[33])
	r := reader{b: b[40:]}
	if present&xkbKeyTypes != 0 {
		for range nTypes {
			m.types = append(m.types, r.keyType())
		}
	}
	if present&xkbKeySyms != 0 {
		if firstSym+nSyms > len(m.keys) {
			return nil, errMap
		}
		for i := range nSyms {
			m.keys[firstSym+i] = r.key()
		}
	}
	if present&xkbModifierMap != 0 {
		for range nMods {
			p := r.take(2)
			if k := int(p[0]); k >= firstMod && k < firstMod+nModKeys {
				m.keys[k].mods = p[1]
			}
		}
	}
	if r.short {
		return nil, errMap
	}
	for i := range m.keys {
		for _, t := range m.keys[i].types[:m.keys[i].groups] {
			if int(t) >= len(m.types) {
				return nil, errMap
			}
		}
	}
	return m, nil
}

// A reader takes bytes from a reply. Beyond its end there are zeros, and short is set.
type reader struct {
	b     []byte
	short bool
}

var zeros [8]byte

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.b, r.short = nil, true
		return zeros[:n:n]
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) keyType() keyType {
	p := r.take(8)
	t := keyType{mask: p[0]}
	n, preserve := int(p[5]), p[6] != 0
	active := make([]bool, n)
	t.entries = make([]typeEntry, n)
	for i := range n {
		e := r.take(8)
		active[i] = e[0] != 0
		t.entries[i] = typeEntry{mods: e[1], level: int(e[2])}
	}
	if preserve {
		for i := range n {
			t.entries[i].preserve = r.take(4)[0]
		}
	}
	kept := t.entries[:0]
	for i, e := range t.entries {
		if active[i] {
			kept = append(kept, e)
		}
	}
	t.entries = kept
	return t
}

func (r *reader) key() key {
	p := r.take(8)
	k := key{groups: int(p[4] & 0x0f), outside: p[4] & 0xf0, width: int(p[5])}
	copy(k.types[:], p[:4])
	n := int(binary.LittleEndian.Uint16(p[6:]))
	if k.groups > len(k.types) || k.groups*k.width > n || n*4 > len(r.b) {
		r.short = true
		return key{}
	}
	k.syms = make([]uint32, n)
	for i := range k.syms {
		k.syms[i] = binary.LittleEndian.Uint32(r.take(4))
	}
	return k
}

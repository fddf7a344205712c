package screen

import (
	"encoding/binary"
	"image"
	"sync"

	"github.com/jezek/xgb/xproto"
)

// genericEvent is the one event type that is longer than 32 bytes.
const genericEvent = 35

// configureNotify says that a window, the root or one of its own, has another size or place.
const configureNotify = 22

// pending is what has happened on the display since it was last asked. The X connection's reader fills it and never
// waits.
type pending struct {
	wake chan struct{} // holds one when there is something to take

	mu      sync.Mutex
	ready   bool // the display is set up: first and major are known
	root    uint32
	first   map[string]byte
	major   map[string]byte
	quiet   bool // pointer moves do not wake
	what    happened
	windows windows
	locks   uint8                      // state of the lock keys, once known
	lit     bool                       // it is
	foreign func(e []byte) (rang bool) // gets the events that are not the screen's; rang: the bell
}

// happened is what may happen on a display.
type happened struct {
	damaged  bool
	sequence uint16 // of the last damage event: the last request the server had seen
	cursor   bool   // the pointer has another shape
	moved    bool   // the pointer has moved
	locked   bool   // the lock keys have another state
	rang     bool   // the bell has
	relaid   bool   // size or screens may be others
}

func newPending() *pending { return &pending{wake: make(chan struct{}, 1)} }

// begin makes the events of d known; before it none is taken.
func (p *pending) begin(d *display, foreign func([]byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root, p.first, p.major, p.foreign, p.ready = uint32(d.root), d.first, d.major, foreign, true
}

// event takes one event of the X server.
func (p *pending) event(e []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		return
	}
	le := binary.LittleEndian
	wake := true
	switch code := e[0] & 0x7f; {
	case code == p.first["DAMAGE"]:
		p.what.damaged, p.what.sequence = true, le.Uint16(e[2:])
	case code == p.first["XFIXES"]+1: // CursorNotify
		p.what.cursor = true
	case code == configureNotify && le.Uint32(e[8:]) == p.root:
		p.what.relaid = true // RandR sends it for its monitors, too
	case (code == configureNotify || code == destroyNotify || code == reparentNotify) && le.Uint32(e[4:]) == p.root:
		p.windows.event(e)
		wake = false // damage will
	case code == genericEvent && e[1] == p.major["XInputExtension"] && p.major["XInputExtension"] != 0:
		wake = !p.what.moved && !p.quiet
		p.what.moved = !p.quiet
	default:
		wake = p.foreign != nil && p.foreign(e)
		p.what.rang = p.what.rang || wake
	}
	if wake {
		p.rouse()
	}
}

func (p *pending) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// setLocks takes in the state of the lock keys.
func (p *pending) setLocks(state uint8) {
	p.mu.Lock()
	p.locks, p.lit, p.what.locked = state, true, true
	p.mu.Unlock()
	p.rouse()
}

// lockState is that of the lock keys, if it is known yet.
func (p *pending) lockState() (state uint8, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.locks, p.lit
}

// take gives what has happened since the last call.
func (p *pending) take() happened {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.what
	p.what = happened{}
	return h
}

// read says that the picture has been read, and appends the windows that have moved since it was before.
func (p *pending) read(dst []moved) []moved {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.windows.read(dst)
}

// dealt says that the damage up to a request has been taken out of the server. The caller has had the server's answer to it, so
// what was reported before is here, and both numbers are young: after 32,768 requests more, they could not be compared.
func (p *pending) dealt(sequence uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before(p.what.sequence, sequence) {
		p.what.damaged = false
	}
}

// ignoreMoves says whether moves of the pointer wake. While its place is looked at anyway they need not.
func (p *pending) ignoreMoves(ignore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet, p.what.moved = ignore, false
}

// before says whether request a was sent before request b.
func before(a, b uint16) bool { return int16(a-b) < 0 }

const (
	xiSelectEvents     = 46
	xiQueryVersion     = 47
	xiRawMotion        = 17
	xiAllMasterDevices = 1
)

// watchPointer asks for an event whenever the pointer is moved by a device, whoever has grabbed it; the XInput
// extension is not one of xgb's. It reports whether the server does so.
func (d *display) watchPointer() bool {
	major, ok := d.major["XInputExtension"]
	if !ok {
		return false
	}
	le := binary.LittleEndian
	q := []byte{major, xiQueryVersion, 2, 0, 2, 0, 2, 0} // version 2.2: raw events whoever has grabbed the pointer
	cookie := d.x.NewCookie(true, true)
	d.x.NewRequest(q, cookie)
	if r, err := cookie.Reply(); err != nil || len(r) < 12 || le.Uint16(r[8:]) < 2 {
		return false
	}
	s := []byte{major, xiSelectEvents, 5, 0}
	s = le.AppendUint32(s, uint32(d.root))
	s = append(s, 1, 0, 0, 0) // one mask
	s = le.AppendUint16(s, xiAllMasterDevices)
	s = le.AppendUint16(s, 1) // of one word
	s = le.AppendUint32(s, 1<<xiRawMotion)
	cookie = d.x.NewCookie(true, false)
	d.x.NewRequest(s, cookie)
	return cookie.Check() == nil
}

// pointer asks where the pointer is.
func (d *display) pointer() (image.Point, error) {
	return pointerReply(xproto.QueryPointer(d.x, d.root))
}

func pointerReply(cookie xproto.QueryPointerCookie) (image.Point, error) {
	r, err := cookie.Reply()
	if err != nil {
		return image.Point{}, err
	}
	return image.Pt(max(int(r.RootX), 0), max(int(r.RootY), 0)), nil
}

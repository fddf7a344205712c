// Package clipboard joins the clipboards of an X display, the selections PRIMARY and CLIPBOARD, to that of a person who is
// elsewhere: what is copied on the display is told, and what the person copied can be pasted there. Only text goes either way.
package clipboard

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"
)

// Limits.
const (
	maxText      = 256 << 10              // bytes; a longer text is not told
	piece        = 64 << 10               // bytes of a text in one property; a longer one goes in pieces (INCR)
	maxTransfers = 16                     // texts that go in pieces at a time
	maxPairs     = 16                     // targets of one MULTIPLE
	maxEvents    = 256                    // that wait for Run; more are lost, and who waits for an answer gives up
	settle       = 200 * time.Millisecond // from a new owner to the question for its text: while one drags there are many
	patience     = 5 * time.Second        // for the next sign of life of the program at the other end of a text
)

// names are those of atoms, in the order of atoms' fields.
var names = [...]string{"CLIPBOARD", "TARGETS", "TIMESTAMP", "MULTIPLE", "INCR", "ATOM_PAIR", "TEXT", "UTF8_STRING", "text/plain;charset=utf-8", "_HELMLINE_CLIPBOARD"}

type atoms struct {
	clipboard, targets, timestamp, multiple, incr, pair, text, utf8, plain, property xproto.Atom
}

// A Clipboard is that of one display. Run owns it; Event, Paste, Own and Listen may be called by other goroutines and do not wait
// for Run. Errors show at the connection.
type Clipboard struct {
	x      *xgb.Conn
	root   xproto.Window
	xfixes byte          // its first event
	once   sync.Once     // makes the two that follow
	window xproto.Window // owner, and where texts are put that were asked for; 0: the display is gone
	atoms  atoms
	tell   func(text []byte) error // says what was copied: UTF-8, lines ended by LF

	events chan [32]byte
	wake   chan struct{} // holds one when listens has changed

	mu      sync.Mutex // guards what follows
	text    []byte     // of the person; never changed but replaced
	told    []byte     // told last, nil: the selection has another owner since
	listens bool

	// Owned by Run.
	owned     map[xproto.Atom]xproto.Timestamp // the selections that are ours, since when
	newest    xproto.Atom                      // the selection of another's that is to be asked for; 0: none
	since     xproto.Timestamp                 // of newest
	due       time.Time                        // when
	asking    question
	transfers map[transferKey]*transfer
}

// A question is for the text of a selection.
type question struct {
	selection xproto.Atom // 0: there is no question
	target    xproto.Atom
	time      xproto.Timestamp
	pieces    bool // it comes in pieces
	long      bool // it is too long
	text      []byte
	until     time.Time
}

// A transfer is a text that goes to a program in pieces.
type transfer struct {
	kind  xproto.Atom
	rest  []byte
	until time.Time
}

type transferKey struct {
	window   xproto.Window
	property xproto.Atom
}

// New makes the clipboard of a display, and does nothing there before the first Own or Listen: display managers end programs that have
// windows on their log-on screen. The connection must have XFIXES ready, whose first event is given, and hand every event to Event. tell
// is called by Run.
func New(x *xgb.Conn, root xproto.Window, xfixesFirst byte, tell func(text []byte) error) *Clipboard {
	return &Clipboard{
		x: x, root: root, xfixes: xfixesFirst, tell: tell, events: make(chan [32]byte, maxEvents), wake: make(chan struct{}, 1),
		owned: map[xproto.Atom]xproto.Timestamp{}, transfers: map[transferKey]*transfer{},
	}
}

// open makes the window, once, and says whether there is one.
func (c *Clipboard) open() bool {
	c.once.Do(func() {
		if c.prepare() != nil {
			c.window = 0
		}
	})
	return c.window != 0
}

func (c *Clipboard) prepare() error {
	cookies := make([]xproto.InternAtomCookie, len(names))
	for i, name := range names {
		cookies[i] = xproto.InternAtom(c.x, false, uint16(len(name)), name)
	}
	a := &c.atoms
	for i, to := range []*xproto.Atom{&a.clipboard, &a.targets, &a.timestamp, &a.multiple, &a.incr, &a.pair, &a.text, &a.utf8, &a.plain, &a.property} {
		r, err := cookies[i].Reply()
		if err != nil {
			return err
		}
		*to = r.Atom
	}
	var err error
	if c.window, err = xproto.NewWindowId(c.x); err != nil {
		return err
	}
	err = xproto.CreateWindowChecked(c.x, 0, c.window, c.root, -1, -1, 1, 1, 0, xproto.WindowClassInputOnly, 0,
		xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange}).Check()
	const mask = xfixes.SelectionEventMaskSetSelectionOwner | xfixes.SelectionEventMaskSelectionWindowDestroy | xfixes.SelectionEventMaskSelectionClientClose
	for _, s := range c.selections() {
		if err == nil {
			err = xfixes.SelectSelectionInputChecked(c.x, c.window, s, mask).Check()
		}
	}
	return err
}

func (c *Clipboard) selections() [2]xproto.Atom {
	return [...]xproto.Atom{xproto.AtomPrimary, c.atoms.clipboard}
}

// Types of X events.
const (
	propertyNotify   = 28
	selectionRequest = 30
	selectionNotify  = 31
)

// Event looks at an event of the X server. It does not wait.
func (c *Clipboard) Event(e []byte) {
	switch e[0] & 0x7f {
	case propertyNotify, selectionRequest, selectionNotify, c.xfixes:
		select {
		case c.events <- [32]byte(e):
		default:
		}
	}
}

// Paste takes a text of the person, UTF-8 with lines ended by LF. It says whether Own is to be called to have programs paste it: a text
// that was told and has come back is in the right hands.
func (c *Clipboard) Paste(text []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.told) > 0 && bytes.Equal(text, c.told) {
		return false
	}
	c.text = bytes.Clone(text)
	return true
}

// Own makes both selections that of the text that Paste took last. Requests that are made after it find them so.
func (c *Clipboard) Own() {
	if !c.open() {
		return
	}
	for _, s := range c.selections() {
		xproto.SetSelectionOwner(c.x, c.window, s, xproto.TimeCurrentTime)
	}
}

// Listen says whether what is copied is told: from now on, and what was copied before, which can still be pasted.
func (c *Clipboard) Listen(on bool) {
	c.mu.Lock()
	c.listens = on
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Clipboard) listening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listens
}

// Run serves the display's programs until stop is closed or nobody can be told any more.
func (c *Clipboard) Run(stop <-chan struct{}) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(c.next())
		var err error
		select {
		case <-stop:
			return nil
		case e := <-c.events:
			err = c.event(e[:])
		case <-c.wake:
			err = c.listensNow()
		case now := <-timer.C:
			c.tick(now)
		}
		if err != nil {
			return err
		}
	}
}

// next is how long there is nothing to do if nothing happens.
func (c *Clipboard) next() time.Duration {
	at := time.Now().Add(time.Hour)
	earlier := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if c.newest != 0 {
		earlier(c.due)
	}
	if c.asking.selection != 0 {
		earlier(c.asking.until)
	}
	for _, t := range c.transfers {
		earlier(t.until)
	}
	return time.Until(at)
}

// tick does what is due.
func (c *Clipboard) tick(now time.Time) {
	if c.asking.selection != 0 && !now.Before(c.asking.until) {
		c.asking = question{}
	}
	for k, t := range c.transfers {
		if !now.Before(t.until) {
			c.endTransfer(k)
		}
	}
	if c.newest != 0 && !now.Before(c.due) {
		s := c.newest
		c.newest = 0
		c.ask(s, c.atoms.utf8, c.since)
	}
}

// listensNow looks for what has been copied already. Events that came before the answers are of that, too: they do not make it new.
func (c *Clipboard) listensNow() error {
	if !c.listening() || !c.open() {
		c.newest, c.asking = 0, question{}
		return nil
	}
	found := xproto.Atom(0)
	for _, s := range [...]xproto.Atom{xproto.AtomPrimary, c.atoms.clipboard} { // what was copied is rather meant than what was marked
		r, err := xproto.GetSelectionOwner(c.x, s).Reply()
		if err == nil && r.Owner != 0 && r.Owner != c.window {
			found = s
		}
	}
	for n := len(c.events); n > 0; n-- {
		e := <-c.events
		if err := c.event(e[:]); err != nil {
			return err
		}
	}
	c.newest, c.since, c.due = found, xproto.TimeCurrentTime, time.Now()
	return nil
}

func (c *Clipboard) event(e []byte) error {
	if !c.open() {
		return nil
	}
	le := binary.LittleEndian
	atom := func(at int) xproto.Atom { return xproto.Atom(le.Uint32(e[at:])) }
	switch e[0] & 0x7f {
	case c.xfixes:
		c.owner(atom(12), xproto.Window(le.Uint32(e[8:])), xproto.Timestamp(le.Uint32(e[20:])))
	case selectionRequest:
		c.request(request{
			time: le.Uint32(e[4:]), requestor: xproto.Window(le.Uint32(e[12:])), selection: atom(16), target: atom(20), property: atom(24),
		})
	case selectionNotify:
		q, at := &c.asking, xproto.Timestamp(le.Uint32(e[4:]))
		if q.selection != 0 && atom(12) == q.selection && atom(16) == q.target && (at == q.time || q.time == xproto.TimeCurrentTime) {
			return c.answered(atom(20))
		}
	case propertyNotify:
		window, gone := xproto.Window(le.Uint32(e[4:])), e[16] != 0
		switch {
		case window != c.window && gone:
			c.proceed(transferKey{window, atom(8)})
		case window == c.window && !gone && atom(8) == c.atoms.property && c.asking.pieces:
			return c.another()
		}
	}
	return nil
}

// owner takes in that a selection has another owner, 0: none.
func (c *Clipboard) owner(selection xproto.Atom, owner xproto.Window, since xproto.Timestamp) {
	c.mu.Lock()
	c.told = nil
	c.mu.Unlock()
	if owner == c.window {
		c.owned[selection] = since
		c.newest = 0
		return
	}
	delete(c.owned, selection)
	if owner == 0 || !c.listening() {
		return
	}
	if c.newest == 0 {
		c.due = time.Now().Add(settle)
	}
	c.newest, c.since = selection, since
}

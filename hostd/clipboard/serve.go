package clipboard

import (
	"encoding/binary"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/rfb"
)

// A request is a program's for a selection of ours.
type request struct {
	time                        uint32
	requestor                   xproto.Window
	selection, target, property xproto.Atom
}

// request answers a program. ICCCM, section 2.2.
func (c *Clipboard) request(r request) {
	if r.property == 0 { // of an obsolete client
		r.property = r.target
	}
	if _, ours := c.owned[r.selection]; !ours || !c.serve(r) {
		r.property = 0
	}
	le := binary.LittleEndian
	e := []byte{selectionNotify, 0, 0, 0}
	for _, v := range [...]uint32{r.time, uint32(r.requestor), uint32(r.selection), uint32(r.target), uint32(r.property)} {
		e = le.AppendUint32(e, v)
	}
	xproto.SendEvent(c.x, false, r.requestor, xproto.EventMaskNoEvent, string(append(e, make([]byte, 32-len(e))...)))
}

// serve puts what is asked for into the property, and says whether it can be had.
func (c *Clipboard) serve(r request) bool {
	c.mu.Lock()
	text := c.text
	c.mu.Unlock()
	a := &c.atoms
	switch r.target {
	case a.targets:
		c.put32(r, xproto.AtomAtom, a.targets, a.timestamp, a.multiple, a.utf8, a.plain, a.text, xproto.AtomString)
	case a.timestamp:
		c.put32(r, xproto.AtomInteger, xproto.Atom(c.owned[r.selection]))
	case a.multiple:
		return c.serveAll(r)
	case a.utf8, a.plain:
		return c.put(r, r.target, text)
	case a.text:
		return c.put(r, a.utf8, text)
	case xproto.AtomString:
		return c.put(r, xproto.AtomString, rfb.Latin1(string(text)))
	default:
		return false
	}
	return true
}

// serveAll answers several questions at once; those without an answer are marked by no property.
func (c *Clipboard) serveAll(r request) bool {
	p, err := xproto.GetProperty(c.x, false, r.requestor, r.property, c.atoms.pair, 0, 2*maxPairs).Reply()
	if err != nil || p.Format != 32 || len(p.Value)%8 != 0 || p.BytesAfter > 0 {
		return false
	}
	le := binary.LittleEndian
	for pair := p.Value; len(pair) > 0; pair = pair[8:] {
		one := r
		one.target, one.property = xproto.Atom(le.Uint32(pair)), xproto.Atom(le.Uint32(pair[4:]))
		if one.target == c.atoms.multiple || one.property == 0 || !c.serve(one) {
			le.PutUint32(pair[4:], 0)
		}
	}
	xproto.ChangeProperty(c.x, xproto.PropModeReplace, r.requestor, r.property, c.atoms.pair, 32, uint32(len(p.Value)/4), p.Value)
	return true
}

func (c *Clipboard) put32(r request, kind xproto.Atom, values ...xproto.Atom) {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	xproto.ChangeProperty(c.x, xproto.PropModeReplace, r.requestor, r.property, kind, 32, uint32(len(values)), b)
}

// put puts a text into the property, or begins to.
func (c *Clipboard) put(r request, kind xproto.Atom, text []byte) bool {
	if len(text) <= piece {
		xproto.ChangeProperty(c.x, xproto.PropModeReplace, r.requestor, r.property, kind, 8, uint32(len(text)), text)
		return true
	}
	key := transferKey{r.requestor, r.property}
	if r.requestor == c.root || len(c.transfers) >= maxTransfers && c.transfers[key] == nil { // of the root window other events are wanted
		return false
	}
	c.transfers[key] = &transfer{kind, text, time.Now().Add(patience)}
	xproto.ChangeWindowAttributes(c.x, r.requestor, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange})
	c.put32(r, c.atoms.incr, xproto.Atom(len(text)))
	return true
}

// proceed goes on with a transfer after its program has taken what there was. ICCCM, section 2.7.2.
func (c *Clipboard) proceed(key transferKey) {
	t := c.transfers[key]
	if t == nil {
		return
	}
	n := min(len(t.rest), piece)
	xproto.ChangeProperty(c.x, xproto.PropModeReplace, key.window, key.property, t.kind, 8, uint32(n), t.rest[:n])
	if n == 0 {
		c.endTransfer(key)
		return
	}
	t.rest, t.until = t.rest[n:], time.Now().Add(patience)
}

func (c *Clipboard) endTransfer(key transferKey) {
	delete(c.transfers, key)
	for k := range c.transfers {
		if k.window == key.window {
			return
		}
	}
	xproto.ChangeWindowAttributes(c.x, key.window, xproto.CwEventMask, []uint32{0})
}

package clipboard

import (
	"bytes"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/rfb"
)

// ask asks the owner of a selection for its text. ICCCM, section 2.4.
func (c *Clipboard) ask(selection, target xproto.Atom, since xproto.Timestamp) {
	xproto.DeleteProperty(c.x, c.window, c.atoms.property)
	xproto.ConvertSelection(c.x, c.window, selection, target, c.atoms.property, since)
	c.asking = question{selection: selection, target: target, time: since, until: time.Now().Add(patience)}
}

// answered takes the answer to the question out of the property; 0 is a refusal.
func (c *Clipboard) answered(property xproto.Atom) error {
	q := &c.asking
	switch {
	case property == 0 && q.target == c.atoms.utf8:
		c.ask(q.selection, xproto.AtomString, q.time)
		return nil
	case property != c.atoms.property:
		c.asking = question{}
		return nil
	}
	p := c.take()
	if p == nil {
		return nil
	}
	if p.Type == c.atoms.incr { // that it was taken is the sign to begin
		q.pieces, q.until = true, time.Now().Add(patience)
		return nil
	}
	c.add(p)
	return c.done(p.Type)
}

// another takes the next piece of a text; an empty one is the end. ICCCM, section 2.7.2.
func (c *Clipboard) another() error {
	p := c.take()
	switch {
	case p == nil || p.Type == 0: // it is gone again
		return nil
	case len(p.Value) == 0:
		return c.done(p.Type)
	}
	c.add(p)
	c.asking.until = time.Now().Add(patience)
	return nil
}

// take reads the property and deletes it, whatever its length; nil: the display is gone.
func (c *Clipboard) take() *xproto.GetPropertyReply {
	p, err := xproto.GetProperty(c.x, true, c.window, c.atoms.property, xproto.GetPropertyTypeAny, 0, maxText/4).Reply()
	if err != nil {
		return nil
	}
	if p.BytesAfter > 0 {
		xproto.DeleteProperty(c.x, c.window, c.atoms.property)
		c.asking.long = true
	}
	return p
}

func (c *Clipboard) add(p *xproto.GetPropertyReply) {
	q := &c.asking
	if q.long = q.long || p.Format != 8 || len(q.text)+len(p.Value) > maxText; q.long {
		q.text = nil
		return
	}
	q.text = append(q.text, p.Value...)
}

// done tells the text, unless it is empty or too long.
func (c *Clipboard) done(kind xproto.Atom) error {
	q := c.asking
	c.asking = question{}
	text, _, _ := bytes.Cut(q.text, []byte{0})
	if kind == xproto.AtomString {
		text = rfb.FromLatin1(text)
	}
	text = bytes.ToValidUTF8(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\uFFFD"))
	if len(text) == 0 || len(text) > maxText || !c.listening() {
		return nil
	}
	if c.newest == 0 { // else there is another owner already
		c.mu.Lock()
		c.told = text
		c.mu.Unlock()
	}
	return c.tell(text)
}

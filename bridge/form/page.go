// Package form is what Helmline draws into a picture itself: log-on forms, messages, questions and notices. A Page
// is the model: it takes keys, clicks and pasted text and holds what was typed. A Painter draws one into an image. Both
// know nothing of a protocol, a clock or a log-in.
package form

import (
	"slices"
	"unicode/utf8"
)

// MaxField is the longest text of a field, bytes of UTF-8.
const MaxField = 255

// Kind says what an Item is.
type Kind uint8

// Kinds of items.
const (
	Heading Kind = iota + 1 // the page's title, beside the picture of a computer
	Subject                 // what it is about, under the heading
	Text                    // a paragraph
	Strong                  // a paragraph in bold
	Small                   // a note in small grey letters
	Error                   // a red box; its first line, up to a line feed, is bold
	Info                    // a blue box, likewise
	Field                   // a line to type in, with Text as its label
	Secret                  // the same, drawn as dots
	Link                    // text that can be chosen
	Button                  // a button; those that follow each other stand in one row
	Rule                    // a thin line
)

// An Item is one thing on a page.
type Item struct {
	Kind    Kind
	ID      int    // of what can be chosen or typed in: what Key and Click give back
	Text    string // or the label of a field
	Primary bool   // of a button: Enter in a field chooses it
	Cancel  bool   // of a button or link: Escape chooses it

	value []byte // of a field; its memory never grows, so that Wipe reaches all of it
	caret int    // byte of value before which it stands
	dots  int    // of a copy of a Secret: characters
	at    int    // of a copy of a Secret: characters before the caret
}

// Takes says whether the item can have the focus.
func (it *Item) takes() bool { return it.typed() || it.Kind == Link || it.Kind == Button }

func (it *Item) typed() bool { return it.Kind == Field || it.Kind == Secret }

// A Page is a list of items, one of which has the focus. It is used by one goroutine; View makes a copy for another.
type Page struct {
	Items []Item
	Focus int  // index of an item; of one that cannot take it when there is none to have it
	Busy  bool // what was entered is being looked at: only Escape and the item that it chooses work
	Box   Box  // where it is drawn
}

// Box is where a page is drawn.
type Box uint8

// Places of a page.
const (
	Middle Box = iota // a form on an empty background
	Top               // a question over a desktop, at the middle of its top edge
	Corner            // a notice over a desktop, at the right of its top edge
)

// NewPage makes a page whose first item that can take it has the focus.
func NewPage(items ...Item) *Page {
	p := &Page{Items: items, Focus: -1}
	for i := range p.Items {
		if p.Items[i].typed() {
			p.Items[i].value = make([]byte, 0, MaxField)
		}
	}
	p.move(1)
	return p
}

// move gives the focus to the next (1) or the previous (-1) item that takes it.
func (p *Page) move(by int) {
	for n, i := 0, p.Focus; n < len(p.Items); n++ {
		if i += by; i < 0 {
			i = len(p.Items) - 1
		}
		i %= len(p.Items)
		if p.Items[i].takes() {
			p.Focus = i
			return
		}
	}
}

// find is the first item with that ID.
func (p *Page) find(id int) *Item {
	for i := range p.Items {
		if p.Items[i].ID == id {
			return &p.Items[i]
		}
	}
	return nil
}

// FocusOn gives the focus to the item with that ID.
func (p *Page) FocusOn(id int) {
	for i := range p.Items {
		if p.Items[i].ID == id && p.Items[i].takes() {
			p.Focus = i
		}
	}
}

// Value is what is in a field; the bytes are the page's own and change with the next key.
func (p *Page) Value(id int) []byte {
	if it := p.find(id); it != nil {
		return it.value
	}
	return nil
}

// Set puts s into a field, up to MaxField bytes of whole characters, the caret behind it.
func (p *Page) Set(id int, s string) {
	if it := p.find(id); it != nil && it.typed() {
		clear(it.value)
		it.value, it.caret = it.value[:0], 0
		it.insert(s)
	}
}

// Wipe overwrites what was typed into the fields with that ID, or into all when none is given.
func (p *Page) Wipe(ids ...int) {
	for i := range p.Items {
		if it := &p.Items[i]; len(ids) == 0 || slices.Contains(ids, it.ID) {
			clear(it.value[:cap(it.value)])
			it.value, it.caret = it.value[:0], 0
		}
	}
}

// View is a copy of the page to draw from, which holds no secret, only how long it is.
func (p *Page) View() *Page {
	v := *p
	v.Items = slices.Clone(p.Items)
	for i := range v.Items {
		it := &v.Items[i]
		switch it.Kind {
		case Secret:
			it.dots, it.at = utf8.RuneCount(it.value), utf8.RuneCount(it.value[:it.caret])
			it.value = nil
		case Field:
			it.value = slices.Clone(it.value)
		}
	}
	return &v
}

// insert puts as much of s at the caret as fits.
func (it *Item) insert(s string) bool {
	changed := false
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			continue
		}
		n := utf8.RuneLen(c)
		if len(it.value)+n > MaxField {
			break
		}
		var b [utf8.UTFMax]byte
		utf8.EncodeRune(b[:], c)
		it.value = slices.Insert(it.value, it.caret, b[:n]...)
		it.caret += n
		changed = true
	}
	return changed
}

// remove takes the character before the caret, or behind it, out.
func (it *Item) remove(before bool) bool {
	if before {
		if it.caret == 0 {
			return false
		}
		it.step(-1)
	}
	if it.caret == len(it.value) {
		return false
	}
	_, n := utf8.DecodeRune(it.value[it.caret:])
	it.value = slices.Delete(it.value, it.caret, it.caret+n) // clears the tail
	return true
}

// step moves the caret by one character.
func (it *Item) step(by int) bool {
	was := it.caret
	if by < 0 {
		_, n := utf8.DecodeLastRune(it.value[:it.caret])
		it.caret -= n
	} else {
		_, n := utf8.DecodeRune(it.value[it.caret:])
		it.caret += n
	}
	return it.caret != was
}

// Paste types text into the field that has the focus, up to its first line's end.
func (p *Page) Paste(text string) (changed bool) {
	if p.Busy || p.Focus < 0 || !p.Items[p.Focus].typed() {
		return false
	}
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text = text[:i]
			break
		}
	}
	return p.Items[p.Focus].insert(text)
}

// Key types a key that went down, named by its X11 keysym. shift says whether the shift key is held. chosen is the
// ID of the button or link it activated, else 0; changed says that the page looks different now.
func (p *Page) Key(sym uint32, shift bool) (chosen int, changed bool) {
	if sym == KeyEscape {
		for i := range p.Items {
			if p.Items[i].Cancel {
				return p.Items[i].ID, false
			}
		}
		return 0, false
	}
	if p.Busy || p.Focus < 0 {
		return 0, false
	}
	it := &p.Items[p.Focus]
	switch sym {
	case KeyTab:
		if shift {
			return 0, p.turn(-1)
		}
		return 0, p.turn(1)
	case KeyDown:
		return 0, p.turn(1)
	case KeyLeftTab, KeyUp:
		return 0, p.turn(-1)
	case KeyReturn, KeyEnter:
		return p.enter(it), true
	case ' ':
		if !it.typed() {
			return it.ID, true
		}
	case KeyLeft, KeyRight:
		by := 1
		if sym == KeyLeft {
			by = -1
		}
		if it.typed() {
			return 0, it.step(by)
		}
		return 0, p.turn(by)
	case KeyHome, KeyEnd:
		was := it.caret
		it.caret = 0
		if sym == KeyEnd {
			it.caret = len(it.value)
		}
		return 0, it.caret != was
	case KeyBackSpace:
		return 0, it.remove(true)
	case KeyDelete:
		return 0, it.remove(false)
	}
	if c := Rune(sym); c != 0 && it.typed() {
		return 0, it.insert(string(c))
	}
	return 0, false
}

func (p *Page) turn(by int) bool {
	was := p.Focus
	p.move(by)
	return p.Focus != was
}

// enter is what the Enter key does on it: a button or link is chosen; a field followed by an empty one hands the
// focus on; else the primary button is chosen.
func (p *Page) enter(it *Item) int {
	if !it.typed() {
		return it.ID
	}
	for i := range p.Items {
		if next := &p.Items[i]; next.typed() && len(next.value) == 0 && i > p.Focus {
			p.Focus = i
			return 0
		}
	}
	for i := range p.Items {
		if p.Items[i].Primary {
			return p.Items[i].ID
		}
	}
	return 0
}

// Click is a click on the item with that index, as Painter.At gives it: a field gets the focus, a button or link is
// chosen.
func (p *Page) Click(i int) (chosen int, changed bool) {
	if i < 0 || i >= len(p.Items) || !p.Items[i].takes() || p.Busy && !p.Items[i].Cancel {
		return 0, false
	}
	changed = p.Focus != i
	p.Focus = i
	if p.Items[i].typed() {
		return 0, changed
	}
	return p.Items[i].ID, changed
}

// Dots is how many characters a secret field of a View shows.
func (p *Page) Dots(id int) int {
	if it := p.find(id); it != nil {
		return it.dots
	}
	return 0
}

package screen

import (
	"encoding/binary"
	"image"
)

// Events of the root's windows. X protocol, section 11.
const (
	destroyNotify  = 17
	reparentNotify = 21
)

// manyWindows is how many windows are followed: those that were moved last.
const manyWindows = 32

// A moved is a window that has gone from one place to another of the same size.
type moved struct{ from, to image.Rectangle }

// windows are the root's windows that have been moved or resized, as far as they are known.
type windows struct {
	list [manyWindows]struct {
		id       uint32
		from, to image.Rectangle // when the picture was read last, empty: unknown; and now
	}
	next int // of the list to be used
}

// event takes a ConfigureNotify, a DestroyNotify or a ReparentNotify that the root window has sent.
func (w *windows) event(e []byte) {
	le := binary.LittleEndian
	id := le.Uint32(e[8:])
	at := -1
	for i := range w.list {
		if w.list[i].id == id {
			at = i
		}
	}
	if e[0]&0x7f != configureNotify {
		if at >= 0 {
			w.list[at].id = 0
		}
		return
	}
	if at < 0 {
		at = w.next
		w.next = (w.next + 1) % manyWindows
		w.list[at].id, w.list[at].from = id, image.Rectangle{}
	}
	border := 2 * int(le.Uint16(e[24:]))
	x, y := int(int16(le.Uint16(e[16:]))), int(int16(le.Uint16(e[18:])))
	w.list[at].to = image.Rect(x, y, x+int(le.Uint16(e[20:]))+border, y+int(le.Uint16(e[22:]))+border)
}

// read says that the picture has been read, and appends the windows that have moved since it was before.
func (w *windows) read(dst []moved) []moved {
	for i := range w.list {
		l := &w.list[i]
		if l.id != 0 && l.from != l.to && l.from.Size() == l.to.Size() {
			dst = append(dst, moved{l.from, l.to})
		}
		l.from = l.to
	}
	return dst
}

package screen

import (
	"encoding/binary"
	"image"
	"time"

	"github.com/jezek/xgb/xfixes"

	"github.com/helmline/helmline/bridge/frame"
)

// Pace of the pointer while it moves, and how long it is looked at after that.
const (
	pointerEvery = 16 * time.Millisecond
	pointerRest  = 200 * time.Millisecond
	pointerPoll  = 100 * time.Millisecond // where the server does not tell
	cursorEvery  = 33 * time.Millisecond  // between two shapes: some are animated
)

// readCursor asks for the pointer's shape. One that is too large is cut.
func (d *display) readCursor() (frame.Cursor, error) {
	r, err := xfixes.GetCursorImage(d.x).Reply()
	if err != nil {
		return frame.Cursor{}, err
	}
	w, h := int(r.Width), int(r.Height)
	if w == 0 || h == 0 || len(r.CursorImage) < w*h {
		return frame.Cursor{}, nil
	}
	size := image.Pt(min(w, frame.MaxCursorSide), min(h, frame.MaxCursorSide))
	c := frame.Cursor{
		Size: size,
		Hot:  image.Pt(min(int(r.Xhot), size.X-1), min(int(r.Yhot), size.Y-1)),
		Pix:  make([]byte, 0, size.X*size.Y*frame.BytesPerPixel),
	}
	for y := range size.Y {
		for _, v := range r.CursorImage[y*w:][:size.X] {
			c.Pix = binary.LittleEndian.AppendUint32(c.Pix, v)
		}
	}
	return c, nil
}

package record

import (
	"fmt"
	"image"
	"io"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// What a recording may hold. RFC 6143, section 7.7, and the IANA registry.
const (
	encRaw      int32 = 0
	encCopyRect int32 = 1
	encTight    int32 = 7
	encLastRect int32 = -224
	encCursor   int32 = -239
)

// A decoder draws updates into an image.
type decoder struct {
	r       *wire.Reader
	m       frame.Image
	skips   bool   // it reads without drawing; m has no memory
	notes   bool   // what it reads goes into ops
	ops     []op   // see ahead.go
	unseen  bitset // photographs, counted from where this was set, that need not be drawn
	photos  int
	streams [4]stream
	jpeg    piece  // a JPEG picture
	data    []byte // of a rectangle
}

func newDecoder(r io.Reader, m frame.Image) *decoder {
	d := &decoder{m: m}
	d.anew(r, true)
	return d
}

// anew begins at the start or in the middle of a file, where the streams of before are not known.
func (d *decoder) anew(r io.Reader, start bool) {
	d.r = wire.NewReader(r)
	for i := range d.streams {
		d.streams[i].reset()
		d.streams[i].known = start
	}
}

// update reads one message. It takes out of missing what the picture has now, and adds to changed what it shows, if that is not nil. It
// returns io.EOF when the recording ends before the message.
func (d *decoder) update(missing, changed *frame.Region) error {
	d.r.Begin()
	t := d.r.U8()
	if d.r.Err() != nil {
		return d.r.Err()
	}
	if t != 0 {
		return fmt.Errorf("the recording has a message of type %d", t)
	}
	d.r.Skip(1)
	for range d.r.U16() {
		last, err := d.rect(missing, changed)
		if err != nil {
			return err
		}
		if last {
			break
		}
	}
	return d.r.Err()
}

func (d *decoder) rect(missing, changed *frame.Region) (last bool, err error) {
	x, y := int(d.r.U16()), int(d.r.U16())
	w, h := int(d.r.U16()), int(d.r.U16())
	encoding := d.r.Int32()
	if d.r.Err() != nil {
		return false, d.r.Err()
	}
	r := image.Rect(x, y, x+w, y+h)
	switch encoding {
	case encLastRect:
		return true, nil
	case encCursor:
		if w > frame.MaxCursorSide || h > frame.MaxCursorSide {
			return false, fmt.Errorf("a pointer of %d×%d pixels", w, h)
		}
		d.r.Skip(int64(w*h*frame.BytesPerPixel + (w+7)/8*h))
		return false, d.r.Err()
	}
	if r.Empty() || !r.In(d.m.Rect) {
		return false, fmt.Errorf("a rectangle at %v of a picture of %v", r, d.m.Rect.Max)
	}
	if d.notes {
		d.note(r)
	}
	switch encoding {
	case encRaw:
		d.raw(r)
	case encCopyRect:
		c := frame.Copy{From: image.Pt(int(d.r.U16()), int(d.r.U16())), To: r}
		if d.r.Err() == nil && !c.Source().In(d.m.Rect) {
			d.r.Failf("a copy from %v of a picture of %v", c.Source(), d.m.Rect.Max)
		}
		if d.r.Err() != nil {
			return false, d.r.Err()
		}
		if !d.skips {
			d.m.Move(c)
		} else if d.notes {
			d.ops[len(d.ops)-1].copied(c)
		}
		if missing.Touches(c.Source()) { // what was copied is not known
			missing.Add(r)
			break
		}
		missing.Sub(r)
	case encTight:
		d.tight(r)
		missing.Sub(r)
	default:
		return false, fmt.Errorf("the recording has the encoding %d", encoding)
	}
	if encoding == encRaw {
		missing.Sub(r)
	}
	if changed != nil && d.r.Err() == nil {
		changed.Add(r)
	}
	return false, d.r.Err()
}

// raw reads rows of pixels. RFC 6143, section 7.7.1.
func (d *decoder) raw(r image.Rectangle) {
	if d.skips {
		d.r.Skip(int64(r.Dx() * r.Dy() * frame.BytesPerPixel))
		return
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := d.m.Row(y, r.Min.X, r.Max.X)
		d.r.Full(row)
		for i := 3; i < len(row); i += frame.BytesPerPixel { // the unused byte is as in what Tight draws
			row[i] = 0
		}
	}
}

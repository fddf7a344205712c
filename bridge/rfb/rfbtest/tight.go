package rfbtest

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// rgb says whether a pixel of Tight is red, green and blue bytes.
func (d *Decoder) rgb() bool {
	f := d.format
	return f.TrueColour && f.BitsPerPixel == 32 && f.Depth == 24 && f.RedMax == 255 && f.GreenMax == 255 && f.BlueMax == 255
}

// tightBytes is the size of a pixel of Tight.
func (d *Decoder) tightBytes() int {
	if d.rgb() {
		return 3
	}
	return d.format.Bytes()
}

func (d *Decoder) tightPixel(b []byte) pixel {
	if d.rgb() {
		return pixel{b[2], b[1], b[0]}
	}
	return d.pixel(b)
}

// tightLength reads a length of one to three bytes.
func tightLength(r *wire.Reader) int {
	n := 0
	for i := range 3 {
		b := int(r.U8())
		if i == 2 {
			return n | b<<14
		}
		n |= b & 0x7f << (7 * i)
		if b&0x80 == 0 {
			break
		}
	}
	return n
}

func (d *Decoder) tightRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	if rect.Dx() > 2048 {
		r.Failf("a Tight rectangle %d pixels wide", rect.Dx())
		return
	}
	control := r.U8()
	for i := range d.tight {
		if control>>i&1 != 0 {
			d.tight[i].reset()
		}
	}
	size := d.tightBytes()
	switch kind := control >> 4; {
	case r.Err() != nil:
	case kind == 8:
		b := make([]byte, size)
		r.Full(b)
		fill(m, rect, d.tightPixel(b))
	case kind == 9:
		d.jpegRect(r, m, rect)
	case kind > 9:
		r.Failf("a Tight rectangle of kind %d", kind)
	default:
		d.tightBasic(r, m, rect, &d.tight[kind&3], kind&4 != 0)
	}
}

// tightBasic reads a rectangle of filtered and compressed pixels.
func (d *Decoder) tightBasic(r *wire.Reader, m frame.Image, rect image.Rectangle, s *stream, filtered bool) {
	size := d.tightBytes()
	var filter uint8
	if filtered {
		filter = r.U8()
	}
	var palette []pixel
	row := rect.Dx() * size
	switch filter {
	case 0:
	case 1:
		b := make([]byte, size)
		for range int(r.U8()) + 1 {
			r.Full(b)
			palette = append(palette, d.tightPixel(b))
		}
		row = rect.Dx()
		if len(palette) == 2 {
			row = (rect.Dx() + 7) / 8
		}
	default:
		r.Failf("Tight filter %d", filter)
	}
	if r.Err() != nil {
		return
	}
	in := r
	if row*rect.Dy() >= 12 {
		s.feed(r, tightLength(r))
		in = s.reader(r)
	}
	b := make([]byte, row)
	for y := rect.Min.Y; y < rect.Max.Y && in.Err() == nil && r.Err() == nil; y++ {
		in.Full(b)
		out := m.Row(y, rect.Min.X, rect.Max.X)
		for x := range rect.Dx() {
			var p pixel
			switch {
			case palette == nil:
				p = d.tightPixel(b[x*size : (x+1)*size])
			case len(palette) == 2:
				p = palette[b[x/8]>>(7-x%8)&1]
			case int(b[x]) >= len(palette):
				r.Failf("colour %d of %d", b[x], len(palette))
				return
			default:
				p = palette[b[x]]
			}
			copy(out[4*x:], p[:])
		}
	}
	if in != r {
		s.end(r, in)
	}
}

package rfbtest

import (
	"fmt"
	"image"
	"io"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/wire"
)

// Rect reads the body of a rectangle of that encoding from r and draws it into m.
func (d *Decoder) Rect(r io.Reader, m frame.Image, rect image.Rectangle, encoding int32) error {
	return d.rect(wire.NewReader(r), m, rect, encoding)
}

func (d *Decoder) rect(r *wire.Reader, m frame.Image, rect image.Rectangle, encoding int32) error {
	if !rect.In(m.Rect) {
		return fmt.Errorf("a rectangle at %v of a desktop of %v", rect, m.Rect.Max)
	}
	if rect.Empty() {
		return fmt.Errorf("an empty rectangle of encoding %d", encoding)
	}
	switch encoding {
	case rfb.Raw:
		d.raw(r, m, rect)
	case rfb.CopyRect:
		copyRect(r, m, rect)
	case rfb.RRE:
		d.rre(r, m, rect)
	case rfb.Hextile:
		d.hextile(r, m, rect)
	case rfb.Zlib:
		d.zlibRect(r, m, rect)
	case rfb.Tight:
		d.tightRect(r, m, rect)
	case rfb.ZRLE:
		d.zrleRect(r, m, rect)
	case rfb.JPEG:
		d.bareRect(r, m, rect)
	default:
		return fmt.Errorf("encoding %d is unknown", encoding)
	}
	return r.Err()
}

// raw reads rows of pixels; it serves everything that ends in plain pixels.
func (d *Decoder) raw(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	size := d.format.Bytes()
	row := make([]byte, rect.Dx()*size)
	for y := rect.Min.Y; y < rect.Max.Y && r.Err() == nil; y++ {
		r.Full(row)
		out := m.Row(y, rect.Min.X, rect.Max.X)
		for x := range rect.Dx() {
			p := d.pixel(row[x*size : (x+1)*size])
			copy(out[4*x:], p[:])
		}
	}
}

func copyRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	from := image.Pt(int(r.U16()), int(r.U16()))
	src := rect.Sub(rect.Min).Add(from)
	if !src.In(m.Rect) {
		r.Failf("a copy from %v of a desktop of %v", src, m.Rect.Max)
	}
	if r.Err() != nil {
		return
	}
	for i := range rect.Dy() {
		y := i
		if from.Y < rect.Min.Y {
			y = rect.Dy() - 1 - i
		}
		copy(m.Row(rect.Min.Y+y, rect.Min.X, rect.Max.X), m.Row(src.Min.Y+y, src.Min.X, src.Max.X))
	}
}

// fill paints a rectangle in one colour.
func fill(m frame.Image, rect image.Rectangle, p pixel) {
	for y := rect.Min.Y; y < rect.Max.Y; y++ {
		row := m.Row(y, rect.Min.X, rect.Max.X)
		for x := 0; x < len(row); x += 4 {
			copy(row[x:], p[:])
		}
	}
}

// one reads a pixel.
func (d *Decoder) one(r *wire.Reader) pixel {
	var b [4]byte
	n := d.format.Bytes()
	r.Full(b[:n])
	return d.pixel(b[:n])
}

func (d *Decoder) rre(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	n := r.Count32("subrectangles", rect.Dx()*rect.Dy())
	fill(m, rect, d.one(r))
	for range n {
		p := d.one(r)
		x, y := int(r.U16()), int(r.U16())
		w, h := int(r.U16()), int(r.U16())
		if d.inside(r, rect, x, y, w, h) {
			fill(m, image.Rect(x, y, x+w, y+h).Add(rect.Min), p)
		}
	}
}

// inside says whether a part lies in rect, and fails when it does not.
func (d *Decoder) inside(r *wire.Reader, rect image.Rectangle, x, y, w, h int) bool {
	if r.Err() == nil && (x+w > rect.Dx() || y+h > rect.Dy()) {
		r.Failf("a subrectangle of %d×%d at %d, %d of %d×%d", w, h, x, y, rect.Dx(), rect.Dy())
	}
	return r.Err() == nil
}

func (d *Decoder) hextile(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	var back, fore pixel
	hasBack, hasFore := false, false
	for y := rect.Min.Y; y < rect.Max.Y; y += 16 {
		for x := rect.Min.X; x < rect.Max.X; x += 16 {
			if r.Err() != nil {
				return
			}
			tile := image.Rect(x, y, x+16, y+16).Intersect(rect)
			kind := r.U8()
			if kind&1 != 0 {
				d.raw(r, m, tile)
				hasBack, hasFore = false, false // viewers forget here; a server must not rely on more
				continue
			}
			if kind&2 != 0 {
				back, hasBack = d.one(r), true
			}
			if kind&4 != 0 {
				fore, hasFore = d.one(r), true
			}
			if !hasBack {
				r.Failf("a Hextile tile without a background")
			}
			if r.Err() != nil {
				return
			}
			fill(m, tile, back)
			if kind&8 == 0 {
				continue
			}
			if kind&16 == 0 && !hasFore {
				r.Failf("a Hextile tile without a foreground")
			}
			for range r.U8() {
				p := fore
				if kind&16 != 0 {
					p = d.one(r)
					hasFore = false
				}
				at, size := int(r.U8()), int(r.U8())
				sx, sy, w, h := at>>4, at&15, size>>4+1, size&15+1
				if !d.inside(r, tile, sx, sy, w, h) {
					return
				}
				fill(m, image.Rect(sx, sy, sx+w, sy+h).Add(tile.Min), p)
			}
		}
	}
}

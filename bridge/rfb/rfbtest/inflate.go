package rfbtest

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// Limits on compressed data.
const (
	maxPiece    = 64 << 20 // bytes of one piece
	maxLeftover = 16       // bytes of a piece that may stay unread: the end of a block and a flush
)

// A stream is a zlib stream that comes in pieces.
type stream struct {
	in bytes.Buffer
	z  io.ReadCloser
}

// feed reads n bytes of the stream from r.
func (s *stream) feed(r *wire.Reader, n int) {
	var part [4096]byte
	for n > 0 && r.Err() == nil { // takes memory as the bytes arrive
		p := part[:min(n, len(part))]
		r.Full(p)
		s.in.Write(p)
		n -= len(p)
	}
}

// reader gives the pixels of what was fed.
func (s *stream) reader(r *wire.Reader) *wire.Reader {
	if r.Err() == nil && s.z == nil {
		z, err := zlib.NewReader(&s.in)
		if err != nil {
			r.Fail(fmt.Errorf("begin a zlib stream: %w", noEnd(err)))
		} else {
			s.z = z
		}
	}
	if r.Err() != nil {
		return wire.NewReader(bytes.NewReader(nil))
	}
	return wire.NewReader(s.z)
}

// end checks that the piece was used up, and hands errors on.
func (s *stream) end(r, inner *wire.Reader) {
	if r.Err() == nil && inner.Err() != nil {
		r.Fail(fmt.Errorf("inflate: %w", noEnd(inner.Err())))
	}
	if r.Err() == nil && s.in.Len() > maxLeftover {
		r.Failf("%d bytes more than the rectangle needs", s.in.Len())
	}
}

// reset begins a new stream.
func (s *stream) reset() { *s = stream{} }

// noEnd keeps the end of a piece from looking like the end of the connection.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("a piece ends too early")
	}
	return err
}

func (d *Decoder) zlibRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	d.zlib.feed(r, r.Count32("bytes of zlib", maxPiece))
	inner := d.zlib.reader(r)
	d.raw(inner, m, rect)
	d.zlib.end(r, inner)
}

// compact reads a pixel of ZRLE, which has three bytes where the fourth holds no colour.
func (d *Decoder) compact(r *wire.Reader) pixel {
	f := d.format
	bits := uint32(f.RedMax)<<f.RedShift | uint32(f.GreenMax)<<f.GreenShift | uint32(f.BlueMax)<<f.BlueShift
	if !f.TrueColour || f.BitsPerPixel != 32 || f.Depth > 24 || (bits>>24 != 0 && bits&0xff != 0) {
		return d.one(r)
	}
	var b [4]byte
	low := bits>>24 == 0
	if low == f.BigEndian { // the byte that is left out is the first one
		r.Full(b[1:])
	} else {
		r.Full(b[:3])
	}
	return d.pixel(b[:])
}

func (d *Decoder) zrleRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	d.zrle.feed(r, r.Count32("bytes of ZRLE", maxPiece))
	inner := d.zrle.reader(r)
	for y := rect.Min.Y; y < rect.Max.Y; y += 64 {
		for x := rect.Min.X; x < rect.Max.X && inner.Err() == nil; x += 64 {
			d.zrleTile(inner, m, image.Rect(x, y, x+64, y+64).Intersect(rect))
		}
	}
	d.zrle.end(r, inner)
}

func (d *Decoder) zrleTile(r *wire.Reader, m frame.Image, tile image.Rectangle) {
	kind := int(r.U8())
	size := 0
	switch {
	case kind <= 16:
		size = kind
	case kind == 128:
	case kind >= 130:
		size = kind - 128
	default:
		r.Failf("a ZRLE tile of kind %d", kind)
	}
	var palette [128]pixel
	for i := range size {
		palette[i] = d.compact(r)
	}
	if r.Err() != nil {
		return
	}
	w, h := tile.Dx(), tile.Dy()
	set := func(i int, p pixel) {
		x, y := tile.Min.X+i%w, tile.Min.Y+i/w
		copy(m.Row(y, x, x+1), p[:])
	}
	switch {
	case kind == 0:
		for i := range w * h {
			set(i, d.compact(r))
		}
	case kind == 1:
		fill(m, tile, palette[0])
	case kind <= 16:
		bits := 4
		if size <= 2 {
			bits = 1
		} else if size <= 4 {
			bits = 2
		}
		for y := range h {
			var b byte
			for x := range w {
				if x*bits%8 == 0 {
					b = r.U8()
				}
				n := int(b >> (8 - bits))
				b <<= bits
				if n >= size {
					r.Failf("colour %d of %d", n, size)
					return
				}
				set(y*w+x, palette[n])
			}
		}
	default:
		for i := 0; i < w*h; {
			var p pixel
			run := kind == 128
			if run {
				p = d.compact(r)
			} else {
				n := r.U8()
				run = n&0x80 != 0
				if int(n&0x7f) >= size {
					r.Failf("colour %d of %d", n&0x7f, size)
				}
				p = palette[n&0x7f]
			}
			length := 1
			for run && r.Err() == nil {
				b := r.U8()
				length += int(b)
				run = b == 255
			}
			if length > w*h-i {
				r.Failf("a run of %d pixels where %d are left", length, w*h-i)
			}
			if r.Err() != nil {
				return
			}
			for range length {
				set(i, p)
				i++
			}
		}
	}
}

package rfbtest

import (
	"image"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/wire"
)

// A Decoder turns rectangles into pixels. Its zlib streams go on from rectangle to rectangle, so a connection has one.
type Decoder struct {
	Map   [256][3]byte // red, green, blue of formats without true colour
	JPEGs int          // pictures decoded, of Tight and of JPEG

	format rfb.PixelFormat
	zlib   stream
	zrle   stream
	tight  [4]stream
	tables [2][]byte // of the last picture of JPEG that had them: steps, Huffman tables
}

// JPEG counts the JPEG pictures, also those within Tight, in Client.Rects.
const JPEG int32 = 1 << 30

// SetFormat says how pixels come from here on. f has passed Check.
func (d *Decoder) SetFormat(f rfb.PixelFormat) { d.format = f }

func readFormat(r *wire.Reader) rfb.PixelFormat {
	var b [16]byte
	r.Full(b[:])
	return rfb.PixelFormat{
		BitsPerPixel: b[0], Depth: b[1], BigEndian: b[2] != 0, TrueColour: b[3] != 0,
		RedMax: uint16(b[4])<<8 | uint16(b[5]), GreenMax: uint16(b[6])<<8 | uint16(b[7]), BlueMax: uint16(b[8])<<8 | uint16(b[9]),
		RedShift: b[10], GreenShift: b[11], BlueShift: b[12],
	}
}

// A pixel is a colour as it stands in the picture: blue, green, red.
type pixel [3]byte

// pixel takes a pixel of the format apart.
func (d *Decoder) pixel(b []byte) pixel {
	var v uint32
	for i, c := range b {
		if d.format.BigEndian {
			v = v<<8 | uint32(c)
		} else {
			v |= uint32(c) << (8 * i)
		}
	}
	return d.colour(v)
}

func (d *Decoder) colour(v uint32) pixel {
	f := d.format
	if !f.TrueColour {
		m := d.Map[v&0xff]
		return pixel{m[2], m[1], m[0]}
	}
	return pixel{widen(v, f.BlueShift, f.BlueMax), widen(v, f.GreenShift, f.GreenMax), widen(v, f.RedShift, f.RedMax)}
}

// widen stretches a colour to 0 … 255.
func widen(v uint32, shift uint8, max uint16) byte {
	if max == 0 {
		return 0
	}
	c := v >> shift & uint32(max)
	return byte((c*255 + uint32(max)/2) / uint32(max))
}

// cursor reads the pointer's shape.
func (d *Decoder) cursor(r *wire.Reader, encoding int32, hot, size image.Point) (Cursor, error) {
	c := Cursor{Encoding: encoding, Size: size, Hot: hot}
	n := size.X * size.Y
	if n > 1<<20 {
		r.Failf("a cursor of %v pixels", size)
		return c, r.Err()
	}
	c.RGBA = make([]byte, 4*n)
	maskRow := (size.X + 7) / 8
	switch encoding {
	case rfb.PseudoCursorWithAlpha:
		if inner := r.Int32(); inner != rfb.Raw {
			r.Failf("a cursor in encoding %d", inner)
		}
		r.Full(c.RGBA)
		for i := 0; i < len(c.RGBA); i += 4 {
			a := int(c.RGBA[i+3])
			for j := i; j < i+3 && a > 0; j++ {
				c.RGBA[j] = byte(min(int(c.RGBA[j])*255/a, 255))
			}
		}
	case rfb.PseudoVMwareCursor:
		if kind := r.U8(); kind != 1 {
			r.Failf("a VMware cursor of kind %d", kind)
		}
		r.Skip(1)
		r.Full(c.RGBA)
	case rfb.PseudoCursor:
		size := d.format.Bytes()
		px, mask := make([]byte, n*size), make([]byte, maskRow*c.Size.Y)
		r.Full(px)
		r.Full(mask)
		for i := range n {
			p := d.pixel(px[i*size : (i+1)*size])
			c.set(i, mask, maskRow, p[2], p[1], p[0])
		}
	case rfb.PseudoXCursor:
		if n == 0 {
			break
		}
		var colours [6]byte
		bits, mask := make([]byte, maskRow*c.Size.Y), make([]byte, maskRow*c.Size.Y)
		r.Full(colours[:])
		r.Full(bits)
		r.Full(mask)
		for i := range n {
			x, y := i%c.Size.X, i/c.Size.X
			p := colours[3:]
			if bits[y*maskRow+x/8]<<(x%8)&0x80 != 0 {
				p = colours[:3]
			}
			c.set(i, mask, maskRow, p[0], p[1], p[2])
		}
	}
	return c, r.Err()
}

// set sets pixel i where the mask has a bit.
func (c *Cursor) set(i int, mask []byte, maskRow int, red, green, blue byte) {
	x, y := i%c.Size.X, i/c.Size.X
	if mask[y*maskRow+x/8]<<(x%8)&0x80 != 0 {
		copy(c.RGBA[4*i:], []byte{red, green, blue, 255})
	}
}

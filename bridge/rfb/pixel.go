package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// A PixelFormat says how a viewer wants a pixel's bits. RFC 6143, section 7.4. It is comparable.
type PixelFormat struct {
	BitsPerPixel                    uint8 // 8, 16 or 32
	Depth                           uint8 // bits that matter
	BigEndian                       bool
	TrueColour                      bool   // else pixels are numbers of a colour map; see AppendColourMap
	RedMax, GreenMax, BlueMax       uint16 // 2^n - 1
	RedShift, GreenShift, BlueShift uint8  // bits
}

// Native is the format of frame.Image: blue, green, red and an unused byte. It is offered to every viewer and never changed.
var Native = PixelFormat{
	BitsPerPixel: 32, Depth: 24, TrueColour: true,
	RedMax: 255, GreenMax: 255, BlueMax: 255, RedShift: 16, GreenShift: 8,
}

// maxChannel is the largest value of a colour, so that a table of 256 entries converts it.
const maxChannel = 255

// Bytes is the size of a pixel.
func (f PixelFormat) Bytes() int { return int(f.BitsPerPixel) / 8 }

// Check says whether pictures can be sent in this format.
func (f PixelFormat) Check() error {
	if f.BitsPerPixel != 8 && f.BitsPerPixel != 16 && f.BitsPerPixel != 32 {
		return fmt.Errorf("%d bits per pixel, not 8, 16 or 32", f.BitsPerPixel)
	}
	if f.Depth > f.BitsPerPixel {
		return fmt.Errorf("depth %d in %d bits per pixel", f.Depth, f.BitsPerPixel)
	}
	if !f.TrueColour {
		if f.BitsPerPixel != 8 {
			return fmt.Errorf("a colour map with %d bits per pixel, not 8", f.BitsPerPixel)
		}
		return nil
	}
	var used uint64
	for _, c := range [...]struct {
		name  string
		max   uint16
		shift uint8
	}{{"red", f.RedMax, f.RedShift}, {"green", f.GreenMax, f.GreenShift}, {"blue", f.BlueMax, f.BlueShift}} {
		if c.max == 0 || c.max > maxChannel || c.max&(c.max+1) != 0 {
			return fmt.Errorf("%s maximum %d is not 2^n-1 up to %d", c.name, c.max, maxChannel)
		}
		if c.shift >= f.BitsPerPixel || uint64(c.max)<<c.shift>>f.BitsPerPixel != 0 {
			return fmt.Errorf("%s maximum %d shifted by %d leaves %d bits", c.name, c.max, c.shift, f.BitsPerPixel)
		}
		bits := uint64(c.max) << c.shift
		if used&bits != 0 {
			return errors.New("the colours of a pixel overlap")
		}
		used |= bits
	}
	return nil
}

// AppendTo appends the format as it stands in messages, 16 bytes.
func (f PixelFormat) AppendTo(dst []byte) []byte {
	dst = append(dst, f.BitsPerPixel, f.Depth, flag(f.BigEndian), flag(f.TrueColour))
	dst = binary.BigEndian.AppendUint16(dst, f.RedMax)
	dst = binary.BigEndian.AppendUint16(dst, f.GreenMax)
	dst = binary.BigEndian.AppendUint16(dst, f.BlueMax)
	return append(dst, f.RedShift, f.GreenShift, f.BlueShift, 0, 0, 0)
}

// readPixelFormat reads 16 bytes. What does not matter in a format is cleared, so that formats which give equal bytes are equal.
func readPixelFormat(r *wire.Reader) PixelFormat {
	f := PixelFormat{BitsPerPixel: r.U8(), Depth: r.U8(), BigEndian: r.Bool(), TrueColour: r.Bool()}
	f.RedMax, f.GreenMax, f.BlueMax = r.U16(), r.U16(), r.U16()
	f.RedShift, f.GreenShift, f.BlueShift = r.U8(), r.U8(), r.U8()
	r.U8() // padding
	r.U16()
	if !f.TrueColour {
		f.RedMax, f.GreenMax, f.BlueMax, f.RedShift, f.GreenShift, f.BlueShift = 0, 0, 0, 0, 0, 0
	}
	if f.BitsPerPixel == 8 {
		f.BigEndian = false
	}
	return f
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// bgr233 is the true colour that stands behind the map of viewers without true colour: number and colour are the same.
var bgr233 = PixelFormat{
	BitsPerPixel: 8, Depth: 8, TrueColour: true,
	RedMax: 7, GreenMax: 7, BlueMax: 3, GreenShift: 3, BlueShift: 6,
}

// is888 says whether Tight sends red, green and blue bytes for this format, whatever its shifts are.
func (f PixelFormat) is888() bool {
	return f.TrueColour && f.BitsPerPixel == 32 && f.Depth == 24 && f.RedMax == 255 && f.GreenMax == 255 && f.BlueMax == 255
}

// A packing says how many bytes of a pixel value are sent, and in which order.
type packing struct {
	bytes int
	big   bool // the most significant byte first
	shift int  // bits dropped at the low end before
}

// packing is that of whole pixels.
func (f PixelFormat) packing() packing { return packing{f.Bytes(), f.BigEndian, 0} }

// compact is the packing of ZRLE, which leaves out a fourth byte without bits. RFC 6143, section 7.7.5 (CPIXEL).
func (f PixelFormat) compact() packing {
	p := f.packing()
	if !f.TrueColour || f.BitsPerPixel != 32 || f.Depth > 24 {
		return p
	}
	used := uint32(f.RedMax)<<f.RedShift | uint32(f.GreenMax)<<f.GreenShift | uint32(f.BlueMax)<<f.BlueShift
	if used>>24 == 0 {
		p.bytes = 3
	} else if used&0xff == 0 {
		p.bytes, p.shift = 3, 8
	}
	return p
}

// append appends pixels.
func (p packing) append(dst []byte, px []uint32) []byte {
	n := len(dst)
	switch {
	case p.bytes == 1:
		dst = grow(dst, len(px))
		for i, v := range px {
			dst[n+i] = byte(v)
		}
	case p.bytes == 2 && p.big:
		dst = grow(dst, 2*len(px))
		for i, v := range px {
			binary.BigEndian.PutUint16(dst[n+2*i:], uint16(v))
		}
	case p.bytes == 2:
		dst = grow(dst, 2*len(px))
		for i, v := range px {
			binary.LittleEndian.PutUint16(dst[n+2*i:], uint16(v))
		}
	case p.bytes == 3 && p.big:
		dst = grow(dst, 3*len(px))
		for i, v := range px {
			v >>= p.shift
			d := dst[n+3*i : n+3*i+3 : n+3*i+3]
			d[0], d[1], d[2] = byte(v>>16), byte(v>>8), byte(v)
		}
	case p.bytes == 3:
		dst = grow(dst, 3*len(px))
		for i, v := range px {
			v >>= p.shift
			d := dst[n+3*i : n+3*i+3 : n+3*i+3]
			d[0], d[1], d[2] = byte(v), byte(v>>8), byte(v>>16)
		}
	case p.big:
		dst = grow(dst, 4*len(px))
		for i, v := range px {
			binary.BigEndian.PutUint32(dst[n+4*i:], v)
		}
	default:
		dst = grow(dst, 4*len(px))
		for i, v := range px {
			binary.LittleEndian.PutUint32(dst[n+4*i:], v)
		}
	}
	return dst
}

// one appends one pixel.
func (p packing) one(dst []byte, v uint32) []byte {
	v >>= p.shift
	for i := range p.bytes {
		at := 8 * i
		if p.big {
			at = 8 * (p.bytes - 1 - i)
		}
		dst = append(dst, byte(v>>at))
	}
	return dst
}

// grow makes dst longer by n bytes, which the caller sets.
func grow(dst []byte, n int) []byte {
	if len(dst)+n <= cap(dst) {
		return dst[:len(dst)+n]
	}
	return append(dst, make([]byte, n)...)
}

// A converter turns rows of frame.Image into pixel values of one format.
type converter struct {
	format  PixelFormat
	native  bool
	r, g, b [256]uint32
}

// set prepares the tables, unless they are those of f already. f must have passed Check.
func (c *converter) set(f PixelFormat) {
	if !f.TrueColour {
		f = bgr233
	}
	if c.format == f {
		return
	}
	c.format = f
	c.native = f.RedMax == 255 && f.GreenMax == 255 && f.BlueMax == 255 && f.RedShift == 16 && f.GreenShift == 8 && f.BlueShift == 0
	for i := range uint32(256) {
		c.r[i] = scale(i, f.RedMax) << f.RedShift
		c.g[i] = scale(i, f.GreenMax) << f.GreenShift
		c.b[i] = scale(i, f.BlueMax) << f.BlueShift
	}
}

// scale maps 0 … 255 to 0 … max, rounded.
func scale(v uint32, max uint16) uint32 { return (v*uint32(max) + 127) / 255 }

// row converts len(dst) pixels.
func (c *converter) row(dst []uint32, src []byte) {
	src = src[:len(dst)*frame.BytesPerPixel]
	if c.native {
		for i := range dst {
			dst[i] = binary.LittleEndian.Uint32(src[4*i:]) & 0xffffff
		}
		return
	}
	for i := range dst {
		p := src[4*i : 4*i+3 : 4*i+3]
		dst[i] = c.b[p[0]] | c.g[p[1]] | c.r[p[2]]
	}
}

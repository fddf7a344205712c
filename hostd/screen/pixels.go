package screen

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// A format says how the X server lays out the pixels of the screen.
type format struct {
	bits             int       // a pixel, with its padding: 8, 16, 24 or 32
	pad              int       // bits a row is padded to
	native           bool      // blue, green, red and one more byte: what a frame.Image has
	big              bool      // byte order
	mask, shift      [3]uint32 // of red, green, blue
	red, green, blue []byte    // a channel's value to 8 bits
	colours          []uint32  // of a palette: 0xRRGGBB; else nil
}

// newFormat reads the root window's format. It is an error where it is none of those that are known.
func newFormat(x *xgb.Conn, setup *xproto.SetupInfo, s *xproto.ScreenInfo) (format, error) {
	f := format{big: setup.ImageByteOrder == xproto.ImageOrderMSBFirst}
	for _, p := range setup.PixmapFormats {
		if p.Depth == s.RootDepth {
			f.bits, f.pad = int(p.BitsPerPixel), int(p.ScanlinePad)
		}
	}
	var visual *xproto.VisualInfo
	for i := range s.AllowedDepths {
		for j := range s.AllowedDepths[i].Visuals {
			if v := &s.AllowedDepths[i].Visuals[j]; v.VisualId == s.RootVisual {
				visual = v
			}
		}
	}
	if visual == nil || f.bits%8 != 0 || f.bits < 8 || f.bits > 32 || f.pad%8 != 0 || f.pad < 8 || f.pad > 64 {
		return f, fmt.Errorf("pixels of depth %d are not supported; use a screen of depth 24", s.RootDepth)
	}
	switch visual.Class {
	case xproto.VisualClassTrueColor:
		for i, m := range []uint32{visual.RedMask, visual.GreenMask, visual.BlueMask} {
			if m == 0 || bits.OnesCount32(m) > 12 {
				return f, fmt.Errorf("a colour mask of %#x is not supported; use a screen of depth 24", m)
			}
			f.mask[i], f.shift[i] = m, uint32(bits.TrailingZeros32(m))
		}
		f.red, f.green, f.blue = scale(f.mask[0]), scale(f.mask[1]), scale(f.mask[2])
		f.native = f.bits == 32 && !f.big && f.mask == [3]uint32{0xff0000, 0xff00, 0xff}
		return f, nil
	case xproto.VisualClassPseudoColor, xproto.VisualClassStaticColor, xproto.VisualClassGrayScale, xproto.VisualClassStaticGray:
		if f.bits == 8 {
			f.colours = make([]uint32, 256)
			return f, f.readColours(x, s.DefaultColormap, int(visual.ColormapEntries))
		}
	}
	return f, fmt.Errorf("a screen of depth %d and visual class %d is not supported; use a screen of depth 24",
		s.RootDepth, visual.Class)
}

// scale makes the table from a channel's values to 8 bits.
func scale(mask uint32) []byte {
	limit := mask >> bits.TrailingZeros32(mask)
	t := make([]byte, limit+1)
	for i := range t {
		t[i] = byte((uint32(i)*255 + limit/2) / limit)
	}
	return t
}

// readColours reads a colour map of n entries.
func (f *format) readColours(x *xgb.Conn, m xproto.Colormap, n int) error {
	pixels := make([]uint32, min(n, len(f.colours)))
	for i := range pixels {
		pixels[i] = uint32(i)
	}
	r, err := xproto.QueryColors(x, m, pixels).Reply()
	if err != nil {
		return err
	}
	for i, c := range r.Colors[:min(len(r.Colors), len(pixels))] {
		f.colours[i] = uint32(c.Red>>8)<<16 | uint32(c.Green>>8)<<8 | uint32(c.Blue>>8)
	}
	return nil
}

// stride is the length of a row of width pixels as the server sends it, bytes.
func (f *format) stride(width int) int {
	return (width*f.bits + f.pad - 1) / f.pad * f.pad / 8
}

// convert writes len(dst)/4 pixels of src as blue, green, red and zero.
func (f *format) convert(dst, src []byte) {
	n := f.bits / 8
	for i := 0; i < len(dst); i, src = i+4, src[n:] {
		var v uint32
		switch {
		case n == 1:
			v = uint32(src[0])
		case n == 2 && f.big:
			v = uint32(binary.BigEndian.Uint16(src))
		case n == 2:
			v = uint32(binary.LittleEndian.Uint16(src))
		case n == 3 && f.big:
			v = uint32(src[0])<<16 | uint32(src[1])<<8 | uint32(src[2])
		case n == 3:
			v = uint32(src[2])<<16 | uint32(src[1])<<8 | uint32(src[0])
		case f.big:
			v = binary.BigEndian.Uint32(src)
		default:
			v = binary.LittleEndian.Uint32(src)
		}
		if f.colours != nil {
			binary.LittleEndian.PutUint32(dst[i:], f.colours[v])
			continue
		}
		dst[i] = f.blue[(v&f.mask[2])>>f.shift[2]]
		dst[i+1] = f.green[(v&f.mask[1])>>f.shift[1]]
		dst[i+2] = f.red[(v&f.mask[0])>>f.shift[0]]
		dst[i+3] = 0
	}
}

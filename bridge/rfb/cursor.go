package rfb

import (
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// AppendCursor appends the pointer's shape as one rectangle of that kind, which must not be CursorNone. A shape larger than
// frame.MaxCursorSide is cut there, and the hot spot is kept inside. f matters for CursorPixels only. RFC 6143, section 7.8.1.
//
// In an update the pointer's shape goes before any rectangle of pixels: at CursorAlpha, TigerVNC up to 1.16 changes the pixel
// format of rectangles that it has received but not yet decoded, and crashes.
func AppendCursor(dst []byte, c frame.Cursor, kind CursorKind, f PixelFormat) []byte {
	size := image.Pt(min(c.Size.X, frame.MaxCursorSide), min(c.Size.Y, frame.MaxCursorSide))
	if size.X <= 0 || size.Y <= 0 || len(c.Pix) < c.Size.X*c.Size.Y*frame.BytesPerPixel {
		size = image.Point{}
	}
	hot := image.Pt(max(min(c.Hot.X, size.X-1), 0), max(min(c.Hot.Y, size.Y-1), 0))
	encoding := [...]int32{CursorX: PseudoXCursor, CursorPixels: PseudoCursor, CursorVMware: PseudoVMwareCursor, CursorAlpha: PseudoCursorWithAlpha}[kind]
	dst = appendRect(dst, image.Rectangle{Min: hot, Max: hot.Add(size)}, encoding)
	at := func(x, y int) []byte { i := (y*c.Size.X + x) * frame.BytesPerPixel; return c.Pix[i : i+4] }
	switch kind {
	case CursorAlpha:
		dst = binary.BigEndian.AppendUint32(dst, uint32(Raw))
		for y := range size.Y {
			for x := range size.X {
				p := at(x, y)
				dst = append(dst, p[2], p[1], p[0], p[3])
			}
		}
	case CursorVMware:
		dst = append(dst, 1, 0)
		for y := range size.Y {
			for x := range size.X {
				p := at(x, y)
				dst = append(dst, straight(p[2], p[3]), straight(p[1], p[3]), straight(p[0], p[3]), p[3])
			}
		}
	case CursorPixels:
		if !f.TrueColour {
			f = bgr233
		}
		to := f.packing()
		for y := range size.Y {
			for x := range size.X {
				p := at(x, y)
				dst = to.one(dst, scale(uint32(straight(p[2], p[3])), f.RedMax)<<f.RedShift|
					scale(uint32(straight(p[1], p[3])), f.GreenMax)<<f.GreenShift|
					scale(uint32(straight(p[0], p[3])), f.BlueMax)<<f.BlueShift)
			}
		}
		dst = appendBits(dst, size, func(x, y int) bool { return at(x, y)[3] >= 128 })
	case CursorX:
		if size == (image.Point{}) {
			return dst
		}
		dst = append(dst, 0, 0, 0, 255, 255, 255) // bits that are set are black, the others white
		dst = appendBits(dst, size, func(x, y int) bool {
			p := at(x, y)
			return p[3] >= 128 && 299*int(straight(p[2], p[3]))+587*int(straight(p[1], p[3]))+114*int(straight(p[0], p[3])) < 128_000
		})
		dst = appendBits(dst, size, func(x, y int) bool { return at(x, y)[3] >= 128 })
	}
	return dst
}

// straight undoes the multiplication of a colour by alpha.
func straight(v, alpha byte) byte {
	if alpha == 0 {
		return 0
	}
	return byte(min((uint32(v)*255+uint32(alpha)/2)/uint32(alpha), 255))
}

// appendBits appends one bit a pixel, the leftmost in the highest bit, rows padded to whole bytes.
func appendBits(dst []byte, size image.Point, set func(x, y int) bool) []byte {
	for y := range size.Y {
		for x := range size.X {
			if x%8 == 0 {
				dst = append(dst, 0)
			}
			if set(x, y) {
				dst[len(dst)-1] |= 0x80 >> (x % 8)
			}
		}
	}
	return dst
}

// Package frame holds what a picture is made of: pixels, the part of them that changed, and the pointer's shape.
package frame

import (
	"fmt"
	"image"
)

// Limits of a desktop's size. RFB and RDP both carry 16-bit sizes; Helmline stays below.
const (
	MaxSide   = 16384    // pixels
	MaxPixels = 64 << 20 // pixels in all
)

// CheckSize says whether a desktop of that size is accepted.
func CheckSize(size image.Point) error {
	if size.X < 1 || size.Y < 1 || size.X > MaxSide || size.Y > MaxSide || size.X*size.Y > MaxPixels {
		return fmt.Errorf("a desktop of %d×%d pixels is outside 1×1 … %d×%d and %d pixels in all",
			size.X, size.Y, MaxSide, MaxSide, MaxPixels)
	}
	return nil
}

// MaxScreens is the largest number of screens in a layout.
const MaxScreens = 16

// A Screen is one monitor of a desktop. Its number stays the same while it is there.
type Screen struct {
	ID   uint32
	Rect image.Rectangle // pixels of the desktop
}

// CheckLayout says whether a desktop can get that size and these screens.
func CheckLayout(size image.Point, screens []Screen) error {
	if err := CheckSize(size); err != nil {
		return err
	}
	if len(screens) < 1 || len(screens) > MaxScreens {
		return fmt.Errorf("%d screens, not 1 to %d", len(screens), MaxScreens)
	}
	for i, s := range screens {
		if s.Rect.Empty() || !s.Rect.In(image.Rectangle{Max: size}) {
			return fmt.Errorf("screen %v does not lie on the desktop of %v", s.Rect, size)
		}
		for _, t := range screens[:i] {
			if t.ID == s.ID {
				return fmt.Errorf("two screens with the number %d", s.ID)
			}
		}
	}
	return nil
}

// BytesPerPixel is the size of every pixel in an Image.
const BytesPerPixel = 4

// An Image is a view of pixels: blue, green, red and one unused byte each. It does not own its memory, which may be
// shared with another process, so whoever hands it out says for how long it may be read.
type Image struct {
	Pix    []byte
	Stride int             // bytes from a row to the next; 0 repeats one row
	Rect   image.Rectangle // the place of the pixels on the desktop; Pix[0] is Rect.Min
}

// New makes a black image of its own memory.
func New(r image.Rectangle) Image {
	return Image{Pix: make([]byte, r.Dx()*r.Dy()*BytesPerPixel), Stride: r.Dx() * BytesPerPixel, Rect: r}
}

// Solid makes an image of one colour (0xRRGGBB) that holds a single row, however tall it is.
func Solid(r image.Rectangle, rgb uint32) Image {
	m := Image{Pix: make([]byte, r.Dx()*BytesPerPixel), Rect: r}
	for i := 0; i < len(m.Pix); i += BytesPerPixel {
		m.Pix[i], m.Pix[i+1], m.Pix[i+2] = byte(rgb), byte(rgb>>8), byte(rgb>>16)
	}
	return m
}

// Row is the pixels of row y from x0 to x1, exclusive. The coordinates are the desktop's and inside m.Rect.
func (m Image) Row(y, x0, x1 int) []byte {
	i := (y-m.Rect.Min.Y)*m.Stride + (x0-m.Rect.Min.X)*BytesPerPixel
	return m.Pix[i : i+(x1-x0)*BytesPerPixel : i+(x1-x0)*BytesPerPixel]
}

// Part is what of the image lies in r, with r.Min at 0,0. It shares the image's memory.
func (m Image) Part(r image.Rectangle) Image {
	at := r.Min
	if r = r.Intersect(m.Rect); r.Empty() {
		return Image{}
	}
	from := (r.Min.Y-m.Rect.Min.Y)*m.Stride + (r.Min.X-m.Rect.Min.X)*BytesPerPixel
	return Image{Pix: m.Pix[from:], Stride: m.Stride, Rect: r.Sub(at)}
}

// A Copy says that the pixels of To were those of the same sized rectangle at From in the frame before.
type Copy struct {
	From image.Point
	To   image.Rectangle
}

// Source is the rectangle whose pixels To gets.
func (c Copy) Source() image.Rectangle {
	return image.Rectangle{Min: c.From, Max: c.From.Add(c.To.Size())}
}

// Move makes a copy within the image, as if all of its source were read before any of it is written. Both ends lie in m.Rect.
func (m Image) Move(c Copy) {
	src := c.Source()
	first, step := 0, 1
	if c.From.Y < c.To.Min.Y { // downwards: a row is read before it is written over
		first, step = c.To.Dy()-1, -1
	}
	for i, y := 0, first; i < c.To.Dy(); i, y = i+1, y+step {
		copy(m.Row(c.To.Min.Y+y, c.To.Min.X, c.To.Max.X), m.Row(src.Min.Y+y, src.Min.X, src.Max.X))
	}
}

// MaxCursorSide is the largest side of a pointer shape, pixels.
const MaxCursorSide = 256

// A Cursor is the pointer's shape: premultiplied blue, green, red, alpha, in rows of Size.X pixels. The zero Cursor
// is hidden.
type Cursor struct {
	Size image.Point
	Hot  image.Point // inside Size
	Pix  []byte
}

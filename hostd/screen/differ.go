package screen

import (
	"bytes"
	"encoding/binary"
	"image"
	"math/bits"
	"slices"

	"github.com/helmline/helmline/bridge/frame"
)

// compareTile is the side of the squares that are compared, pixels.
const compareTile = 64

// A differ copies into an image what differs from it and says where that was. It needs no memory of its own but the list.
type differ struct {
	img   frame.Image
	rects []image.Rectangle
	from  int // rects of this frame start here
	above int // rects of the row of tiles above start here, those of this row of tiles at row
	row   int
}

// A grid marks tiles of a picture.
type grid struct {
	cols int
	set  []bool
}

// reset unmarks all tiles of a picture.
func (g *grid) reset(size image.Point) {
	g.cols = (size.X + compareTile - 1) / compareTile
	n := g.cols * ((size.Y + compareTile - 1) / compareTile)
	g.set = slices.Grow(g.set[:0], n)[:n]
	clear(g.set)
}

// at is the mark of the tile that has a pixel.
func (g *grid) at(x, y int) *bool { return &g.set[y/compareTile*g.cols+x/compareTile] }

// begin starts a frame: what differs is copied to img and appended to rects.
func (d *differ) begin(img frame.Image, rects []image.Rectangle) {
	d.img, d.rects, d.from = img, rects, len(rects)
}

// end gives the list back, without the places that join has emptied.
func (d *differ) end() []image.Rectangle {
	kept := d.rects[:d.from]
	for _, r := range d.rects[d.from:] {
		if !r.Empty() {
			kept = append(kept, r)
		}
	}
	d.rects, d.img = nil, frame.Image{}
	return kept
}

// area compares src, a part of the screen, with the image: but of right, a part of src, only the tiles that are marked in wrong.
func (d *differ) area(src frame.Image, right image.Rectangle, wrong *grid) {
	d.above, d.row = len(d.rects), len(d.rects)
	r := src.Rect
	for y := r.Min.Y; y < r.Max.Y; {
		y1 := tileEnd(y, r.Max.Y)
		for _, edge := range [...]int{right.Min.Y, right.Max.Y} {
			if y < edge && edge < y1 {
				y1 = edge
			}
		}
		d.above, d.row = d.row, len(d.rects)
		if right.Min.Y <= y && y < right.Max.Y {
			d.run(src, image.Rect(r.Min.X, y, right.Min.X, y1))
			for x := right.Min.X; x < right.Max.X; {
				x1 := tileEnd(x, right.Max.X)
				if *wrong.at(x, y) {
					d.run(src, image.Rect(x, y, x1, y1))
				}
				x = x1
			}
			d.run(src, image.Rect(right.Max.X, y, r.Max.X, y1))
		} else {
			d.run(src, image.Rect(r.Min.X, y, r.Max.X, y1))
		}
		d.join()
		y = y1
	}
}

// tileEnd is where the tile of a column or row ends, or the area does.
func tileEnd(at, end int) int { return min((at/compareTile+1)*compareTile, end) }

// run compares tiles beside each other: whole rows as far down as they are the same, since long rows are read faster.
func (d *differ) run(src frame.Image, r image.Rectangle) {
	if r.Empty() {
		return
	}
	for alike(src.Row(r.Min.Y, r.Min.X, r.Max.X), d.img.Row(r.Min.Y, r.Min.X, r.Max.X)) {
		if r.Min.Y++; r.Min.Y == r.Max.Y {
			return
		}
	}
	for x := r.Min.X; x < r.Max.X; {
		x1 := tileEnd(x, r.Max.X)
		if t := d.tile(src, image.Rect(x, r.Min.Y, x1, r.Max.Y)); !t.Empty() {
			d.add(t)
		}
		x = x1
	}
}

// tile compares one tile, copies what differs and gives its bounds.
func (d *differ) tile(src frame.Image, t image.Rectangle) image.Rectangle {
	x0, x1 := t.Min.X, t.Max.X
	y0 := t.Min.Y
	for y0 < t.Max.Y && alike(src.Row(y0, x0, x1), d.img.Row(y0, x0, x1)) {
		y0++
	}
	if y0 == t.Max.Y {
		return image.Rectangle{}
	}
	y1 := t.Max.Y
	for alike(src.Row(y1-1, x0, x1), d.img.Row(y1-1, x0, x1)) {
		y1--
	}
	left, right := x1, x0
	for y := y0; y < y1 && (left > x0 || right < x1); y++ {
		if left > x0 {
			n := same(src.Row(y, x0, left), d.img.Row(y, x0, left))
			left = x0 + n
		}
		if right < x1 {
			n := sameEnd(src.Row(y, right, x1), d.img.Row(y, right, x1))
			right = x1 - n
		}
	}
	for y := y0; y < y1; y++ {
		copy(d.img.Row(y, left, right), src.Row(y, left, right))
	}
	return image.Rect(left, y0, right, y1)
}

// colours are the bits of two pixels that are seen. The fourth byte is what drawing happens to leave there: Render and the core
// requests leave different bytes under the same colour.
const colours = 0x00ffffff_00ffffff

// alike says whether two rows show the same.
func alike(a, b []byte) bool { return bytes.Equal(a, b) || same(a, b) == len(a)/frame.BytesPerPixel }

// same is the number of pixels at the start of both that are the same.
func same(a, b []byte) int {
	i := 0
	for ; i+8 <= len(a); i += 8 {
		if x := (binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])) & colours; x != 0 {
			return i/4 + bits.TrailingZeros64(x)/32
		}
	}
	if i < len(a) && (binary.LittleEndian.Uint32(a[i:])^binary.LittleEndian.Uint32(b[i:]))&uint32(colours>>32) == 0 {
		i += 4
	}
	return i / 4
}

// sameEnd is the number of pixels at the end of both that are the same.
func sameEnd(a, b []byte) int {
	n := len(a)
	i := n
	for ; i >= 8; i -= 8 {
		if x := (binary.LittleEndian.Uint64(a[i-8:]) ^ binary.LittleEndian.Uint64(b[i-8:])) & colours; x != 0 {
			return (n-i)/4 + bits.LeadingZeros64(x)/32
		}
	}
	if i > 0 && (binary.LittleEndian.Uint32(a[i-4:])^binary.LittleEndian.Uint32(b[i-4:]))&uint32(colours>>32) == 0 {
		i -= 4
	}
	return (n - i) / 4
}

// add appends a tile's rectangle, or lets the one to its left grow where little that is the same comes with it.
func (d *differ) add(r image.Rectangle) {
	if n := len(d.rects); n > d.row {
		if l := &d.rects[n-1]; l.Max.X == r.Min.X && worth(*l, r) {
			*l = l.Union(r)
			return
		}
	}
	d.rects = append(d.rects, r)
}

// join lets the rectangles of this row of tiles grow upwards over those of the row above that are as wide.
func (d *differ) join() {
	for i := d.row; i < len(d.rects); i++ {
		r := &d.rects[i]
		for j := d.above; j < d.row; j++ {
			if a := &d.rects[j]; a.Max.Y == r.Min.Y && a.Min.X == r.Min.X && a.Max.X == r.Max.X {
				r.Min.Y, *a = a.Min.Y, image.Rectangle{}
				break
			}
		}
	}
}

// worth says whether the union of two rectangles is hardly larger than both.
func worth(a, b image.Rectangle) bool {
	u := a.Union(b)
	both := a.Dx()*a.Dy() + b.Dx()*b.Dy()
	return u.Dx()*u.Dy() <= both+both/8
}

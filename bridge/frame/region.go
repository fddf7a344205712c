package frame

import (
	"image"
	"math/bits"
)

// Tile is the side of a Region's cells, pixels.
const Tile = 16

// A Region is a set of Tile×Tile cells of a picture. It has a fixed size, so merging any number of changes takes no
// memory. The zero Region is empty and of size 0×0. It is not safe for concurrent use.
type Region struct {
	size  image.Point // of the picture, pixels
	words int         // 64-cell words a row
	rows  int
	set   []uint64
}

// NewRegion makes an empty region for a picture of that size.
func NewRegion(size image.Point) *Region {
	r := &Region{}
	r.Reset(size)
	return r
}

// Reset empties the region and sets the size of its picture.
func (r *Region) Reset(size image.Point) {
	cols := (size.X + Tile - 1) / Tile
	r.size, r.words, r.rows = size, (cols+63)/64, (size.Y+Tile-1)/Tile
	if n := r.words * r.rows; cap(r.set) < n {
		r.set = make([]uint64, n)
	} else {
		r.set = r.set[:n]
		clear(r.set)
	}
}

// Size is the picture's.
func (r *Region) Size() image.Point { return r.size }

// Bounds is the picture's rectangle.
func (r *Region) Bounds() image.Rectangle { return image.Rectangle{Max: r.size} }

// Clear empties the region.
func (r *Region) Clear() { clear(r.set) }

// Empty says whether nothing is in the region.
func (r *Region) Empty() bool {
	for _, w := range r.set {
		if w != 0 {
			return false
		}
	}
	return true
}

// mask is the bits lo … hi-1 of the word at index w of a row.
func mask(w, lo, hi int) uint64 {
	lo, hi = max(lo-w*64, 0), min(hi-w*64, 64)
	if lo >= hi {
		return 0
	}
	return (^uint64(0) << lo) & (^uint64(0) >> (64 - hi))
}

// each calls f with the words that rect touches and the bits of it there. Cells that rect covers in part count when
// partly is set, else only cells it covers whole, the picture's last row and column being whole at its edge.
func (r *Region) each(rect image.Rectangle, partly bool, f func(w *uint64, bits uint64)) {
	rect = rect.Intersect(r.Bounds())
	if rect.Empty() {
		return
	}
	x0, y0, x1, y1 := rect.Min.X/Tile, rect.Min.Y/Tile, (rect.Max.X+Tile-1)/Tile, (rect.Max.Y+Tile-1)/Tile
	if !partly {
		x0, y0 = (rect.Min.X+Tile-1)/Tile, (rect.Min.Y+Tile-1)/Tile
		if rect.Max.X < r.size.X {
			x1 = rect.Max.X / Tile
		}
		if rect.Max.Y < r.size.Y {
			y1 = rect.Max.Y / Tile
		}
	}
	for y := y0; y < y1; y++ {
		for w := x0 / 64; w*64 < x1; w++ {
			if m := mask(w, x0, x1); m != 0 {
				f(&r.set[y*r.words+w], m)
			}
		}
	}
}

// Add puts every cell that rect touches into the region.
func (r *Region) Add(rect image.Rectangle) {
	r.each(rect, true, func(w *uint64, m uint64) { *w |= m })
}

// Sub takes every cell that rect covers whole out of the region.
func (r *Region) Sub(rect image.Rectangle) {
	r.each(rect, false, func(w *uint64, m uint64) { *w &^= m })
}

// Touches says whether the region and rect share a cell.
func (r *Region) Touches(rect image.Rectangle) bool {
	hit := false
	r.each(rect, true, func(w *uint64, m uint64) { hit = hit || *w&m != 0 })
	return hit
}

// Union adds the cells of s, which has the same size.
func (r *Region) Union(s *Region) {
	for i, w := range s.set {
		r.set[i] |= w
	}
}

// Without takes the cells of s, which has the same size, out of the region.
func (r *Region) Without(s *Region) {
	for i, w := range s.set {
		r.set[i] &^= w
	}
}

// AddCopied adds the cells that a copy within the picture takes something of s to: whatever of a cell lies in c.To and comes from
// a cell of s. s is another region of the same size.
func (r *Region) AddCopied(s *Region, c Copy) {
	src := c.Source()
	if c.To.Empty() || !c.To.In(r.Bounds()) || !src.In(r.Bounds()) {
		return
	}
	d := c.To.Min.Sub(c.From)
	right, rest := floor(d.X) // whole cells, and pixels more
	sx0, sx1 := src.Min.X/Tile, (src.Max.X+Tile-1)/Tile
	tx0, tx1 := c.To.Min.X/Tile, (c.To.Max.X+Tile-1)/Tile
	for y := c.To.Min.Y / Tile; y*Tile < c.To.Max.Y; y++ {
		y0, y1 := max(y*Tile, c.To.Min.Y)-d.Y, min((y+1)*Tile, c.To.Max.Y)-d.Y // of the source; in one row of cells, or two
		upper := s.set[y0/Tile*s.words:][:s.words]
		lower := s.set[(y1-1)/Tile*s.words:][:s.words]
		for w := tx0 / 64; w*64 < tx1; w++ {
			from := w*64 - right // the source's cell that comes to the word's first
			bits := window(upper, lower, sx0, sx1, from)
			if rest != 0 {
				bits |= window(upper, lower, sx0, sx1, from-1)
			}
			r.set[y*r.words+w] |= bits & mask(w, tx0, tx1)
		}
	}
}

// floor divides pixels into whole cells and what is left of one, which is not negative.
func floor(n int) (cells, rest int) {
	rest = (n%Tile + Tile) % Tile
	return (n - rest) / Tile, rest
}

// window is the 64 cells from that one on, which may lie left of the picture, of two rows put together; only those from lo to
// hi-1 count.
func window(a, b []uint64, lo, hi, from int) uint64 {
	w := from >> 6 // rounded down, also where from is negative
	shift := from & 63
	word := func(w int) uint64 {
		if w < 0 || w >= len(a) {
			return 0
		}
		return (a[w] | b[w]) & mask(w, lo, hi)
	}
	return word(w)>>shift | word(w+1)<<(64-shift) // a shift by 64 leaves nothing
}

// Set makes r equal to s.
func (r *Region) Set(s *Region) {
	r.size, r.words, r.rows = s.size, s.words, s.rows
	r.set = append(r.set[:0], s.set...)
}

// Split moves what lies in rect (cells it touches) from r to dst, which gets r's size and loses what it held.
func (r *Region) Split(rect image.Rectangle, dst *Region) {
	dst.Reset(r.size)
	x := rect.Intersect(r.Bounds())
	if x.Empty() {
		return
	}
	x0, x1 := x.Min.X/Tile, (x.Max.X+Tile-1)/Tile
	for y := x.Min.Y / Tile; y < (x.Max.Y+Tile-1)/Tile; y++ {
		for w := x0 / 64; w*64 < x1; w++ {
			m := mask(w, x0, x1)
			at := y*r.words + w
			dst.set[at] |= r.set[at] & m
			r.set[at] &^= m
		}
	}
}

// Hash is a fingerprint of the region; equal regions of equal size have equal fingerprints.
func (r *Region) Hash() uint64 {
	h := uint64(14695981039346656037) ^ uint64(r.size.X)<<32 ^ uint64(r.size.Y)
	for _, w := range r.set {
		h = (h ^ w) * 1099511628211
		h ^= h >> 29
	}
	return h
}

// Equal says whether both hold the same cells of pictures of the same size.
func (r *Region) Equal(s *Region) bool {
	if r.size != s.size {
		return false
	}
	for i, w := range r.set {
		if s.set[i] != w {
			return false
		}
	}
	return true
}

// AppendRects appends the region as rectangles that do not overlap, top to bottom, cut at the picture's edge. A
// run of cells is one rectangle as far down as the same run goes on.
func (r *Region) AppendRects(dst []image.Rectangle) []image.Rectangle {
	from := len(dst)
	bounds := r.Bounds()
	for y := range r.rows {
		row := r.set[y*r.words : (y+1)*r.words]
		for x := 0; x < r.words*64; {
			w := row[x/64] >> (x % 64)
			if w == 0 {
				x = (x/64 + 1) * 64
				continue
			}
			x += bits.TrailingZeros64(w)
			end := x
			for end < r.words*64 {
				n := bits.TrailingZeros64(^(row[end/64] >> (end % 64)))
				if n < 64-end%64 {
					end += n
					break
				}
				end = (end/64 + 1) * 64
			}
			run := image.Rect(x*Tile, y*Tile, end*Tile, (y+1)*Tile).Intersect(bounds)
			if i := above(dst[from:], run); i >= 0 {
				dst[from+i].Max.Y = run.Max.Y
			} else {
				dst = append(dst, run)
			}
			x = end
		}
	}
	return dst
}

// above is the index of the rectangle that run continues downwards, or -1. Only the newest few are looked at: a
// picture that is torn into more pieces than that is sent as more rectangles, no slower.
func above(rects []image.Rectangle, run image.Rectangle) int {
	for i := len(rects) - 1; i >= max(0, len(rects)-64); i-- {
		if r := rects[i]; r.Max.Y == run.Min.Y && r.Min.X == run.Min.X && r.Max.X == run.Max.X {
			return i
		}
	}
	return -1
}

// Area is the number of pixels in the region.
func (r *Region) Area() int {
	area := 0
	for y := range r.rows {
		h := min(Tile, r.size.Y-y*Tile)
		for w := range r.words {
			n := bits.OnesCount64(r.set[y*r.words+w])
			area += n * Tile * h
			if last := (r.size.X - 1) / Tile; r.size.X%Tile != 0 && w == last/64 && r.set[y*r.words+w]>>(last%64)&1 != 0 {
				area -= (Tile - r.size.X%Tile) * h
			}
		}
	}
	return area
}

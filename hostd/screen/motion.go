package screen

import (
	"bytes"
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// Limits of what is looked for.
const (
	mostCopies = 8       // of one frame
	leastSaved = 1 << 11 // pixels that a copy must spare
	lookRows   = 16      // rows by which windows and scrolling are judged
)

// A motion finds what has moved: it guesses, moves pixels within the picture and leaves it to a differ to find what is still not as
// it should be. So a wrong guess costs bytes and never a pixel, as long as nothing is moved to where no differ looks.
//
// Windows say where they go. What scrolls is searched for: see scroll.
type motion struct {
	img    frame.Image
	copies []frame.Copy
	right  []image.Rectangle // what has scrolled, and was compared as it was moved
	wrong  grid              // tiles of it that are not right

	hashes hashes  // of rows
	votes  []int32 // for a distance
	gain   []int32 // of columns

	last  image.Rectangle // area that was searched
	to    image.Rectangle // what had scrolled there
	by    image.Point     // and how far; zero: nothing had
	vain  int             // searches of it that found nothing, in a row
	pause int             // frames in which it is not searched
}

// begin starts a frame: what has moved is moved in img, too.
func (m *motion) begin(img frame.Image) {
	m.img, m.copies, m.right = img, m.copies[:0], m.right[:0]
	m.wrong.reset(img.Rect.Max)
}

// move makes a copy in the picture.
func (m *motion) move(to image.Rectangle, by image.Point) {
	c := frame.Copy{From: to.Min.Sub(by), To: to}
	m.img.Move(c)
	m.copies = append(m.copies, c)
}

// window looks whether a window that has gone to another place is there. areas are the parts of the screen as they are now.
func (m *motion) window(w moved, areas []frame.Image) {
	by := w.to.Min.Sub(w.from.Min)
	bounds := m.img.Rect
	to := w.to.Intersect(bounds).Intersect(bounds.Add(by))
	if by == (image.Point{}) || to.Empty() {
		return
	}
	read, saved := 0, 0
	for _, a := range areas {
		if part := to.Intersect(a.Rect); !part.Empty() {
			read += part.Dx() * part.Dy()
			saved += m.saved(a, part, by)
		}
	}
	if saved < leastSaved {
		return
	}
	if read == to.Dx()*to.Dy() {
		if len(m.copies) < mostCopies {
			m.move(to, by)
		}
		return
	}
	for i := range areas { // only what was read is compared afterwards
		if by.Y > 0 || by.Y == 0 && by.X > 0 {
			i = len(areas) - 1 - i // what is read is not yet written over
		}
		part := to.Intersect(areas[i].Rect)
		if len(m.copies) < mostCopies && !part.Empty() && m.saved(areas[i], part, by) >= leastSaved {
			m.move(part, by)
		}
	}
}

// saved estimates how many pixels of r are right after it was moved there, less those that are right already.
func (m *motion) saved(now frame.Image, r image.Rectangle, by image.Point) int {
	sum, rows := 0, min(lookRows, r.Dy())
	for i := range rows {
		y := r.Min.Y + i*r.Dy()/rows
		sum += m.compare(now, y, r.Min.X, r.Max.X, by, nil)
	}
	return sum * r.Dy() / rows
}

// compare counts the pixels of a row that are right after it was moved there, less those that are right already; for each column, too,
// if gain is not nil.
func (m *motion) compare(now frame.Image, y, x0, x1 int, by image.Point, gain []int32) int {
	le := binary.LittleEndian
	is := now.Row(y, x0, x1)
	was := m.img.Row(y, x0, x1)
	from := m.img.Row(y-by.Y, x0-by.X, x1-by.X)
	was, from = was[:len(is)], from[:len(is)]
	sum := 0
	for i := 0; i+4 <= len(is); i += 4 {
		p := le.Uint32(is[i:])
		g := 0
		if (p^le.Uint32(from[i:]))<<8 == 0 {
			g++
		}
		if (p^le.Uint32(was[i:]))<<8 == 0 {
			g--
		}
		sum += g
		if gain != nil {
			gain[i/4] += int32(g)
		}
	}
	return sum
}

// shift is move for a part of an area that has scrolled. It compares the rows while it moves them: where they are right, the differ need
// not read them again.
func (m *motion) shift(now frame.Image, to image.Rectangle, by image.Point) {
	m.copies = append(m.copies, frame.Copy{From: to.Min.Sub(by), To: to})
	m.right = append(m.right, to)
	first, step := to.Min.Y, 1
	if by.Y > 0 { // downwards: a row is read before it is written over
		first, step = to.Max.Y-1, -1
	}
	for i, y := 0, first; i < to.Dy(); i, y = i+1, y+step {
		is, from := now.Row(y, to.Min.X, to.Max.X), m.img.Row(y-by.Y, to.Min.X-by.X, to.Max.X-by.X)
		if !bytes.Equal(is, from) {
			for x := to.Min.X; x < to.Max.X; {
				x1 := tileEnd(x, to.Max.X)
				if wrong := m.wrong.at(x, y); !*wrong {
					*wrong = !alike(now.Row(y, x, x1), m.img.Row(y-by.Y, x-by.X, x1-by.X))
				}
				x = x1
			}
		}
		copy(m.img.Row(y, to.Min.X, to.Max.X), from)
	}
}

// compared is the part of an area that needs no more reading, but for tiles that are wrong.
func (m *motion) compared(area image.Rectangle) image.Rectangle {
	for _, r := range m.right {
		if r.In(area) {
			return r
		}
	}
	return image.Rectangle{}
}

// cleared is a list of n zeroes in the memory of s, if that is enough.
func cleared(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n, n+n/4)
	}
	s = s[:n]
	clear(s)
	return s
}

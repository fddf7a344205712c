package screen

import (
	"bytes"
	"encoding/binary"
	"image"
	"math/bits"

	"github.com/helmline/helmline/bridge/frame"
)

// Limits of what is looked for.
const (
	mostCopies  = 8       // of one frame
	leastScroll = 1 << 14 // pixels of an area in which scrolling is looked for
	leastWidth  = 64      // pixels of its width
	leastHeight = 32      // and of its height
	leastSaved  = 1 << 11 // pixels that a copy must spare
	leastRows   = 8       // rows that it must bring to their place

	stripWidth = 64 // pixels of the parts of rows that are read
	strips     = 2  // as many parts
	lookWidth  = 16 // pixels that are compared to find them, in as many places at most:
	lookStrips = 24
	lookRows   = 16  // rows by which strips, columns and windows are judged
	probes     = 256 // rows of an area that are looked for, about
	mostAlike  = 8   // rows of which there are more say nothing
	reach      = 128 // rows above and below an area from where something may have come

	inVain    = 4 // searches in vain of an area, for each frame in which it is not searched
	mostPause = 7 // such frames: a film is not searched each time for what no film does
)

// A motion finds what has moved: it guesses, moves pixels within the picture and leaves it to a differ to find what is still not as
// it should be. So a wrong guess costs bytes and never a pixel, as long as nothing is moved to where no differ looks.
//
// Scrolling is found by the rows of an area: those that are elsewhere now say by how much. Of each row only two short strips are read,
// where the picture has changed most: what a search costs is the pages of memory that it touches. Windows say where they go.
type motion struct {
	img    frame.Image
	copies []frame.Copy
	right  []image.Rectangle // what has scrolled, and was compared as it was moved
	wrong  grid              // tiles of it that are not right

	before, now []uint64 // hashes of rows
	table       []int32  // of before, by hash: 1 + index of the last such row; 0: free
	same        []int32  // 1 + index of the row before that has the same hash; 0: none
	votes       []int32  // for a distance
	gain        []int32  // of columns

	last  image.Rectangle // area that was searched
	to    image.Rectangle // what had scrolled there
	by    int             // and how far; 0: nothing had
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

// scroll looks whether rows of an area have moved up or down.
func (m *motion) scroll(now frame.Image) {
	r := now.Rect
	if r.Dx() < leastWidth || r.Dy() < leastHeight || r.Dx()*r.Dy() < leastScroll || len(m.copies) >= mostCopies {
		return
	}
	if r != m.last {
		m.last, m.vain, m.pause, m.by = r, 0, 0, 0
	}
	if m.pause > 0 {
		m.pause--
		return
	}
	if m.again(now) || m.search(now) {
		m.shift(now, m.to, m.by)
		m.vain = 0
		return
	}
	m.by = 0
	m.vain++
	m.pause = min(m.vain/inVain, mostPause)
}

// again says whether the same rows have moved as far as the last time: lines that follow on each other, a wheel that is turned on. A search
// reads far more to find that.
func (m *motion) again(now frame.Image) bool {
	if m.by == 0 {
		return false
	}
	to := m.columns(now, image.Rect(now.Rect.Min.X, m.to.Min.Y, now.Rect.Max.X, m.to.Max.Y), m.by)
	if to.Empty() {
		return false
	}
	fits := func(y int) bool {
		return alike(now.Row(y, to.Min.X, to.Max.X), m.img.Row(y-m.by, to.Min.X, to.Max.X))
	}
	changed := 0
	for i := range lookRows {
		y := to.Min.Y + i*to.Dy()/lookRows
		if alike(now.Row(y, to.Min.X, to.Max.X), m.img.Row(y, to.Min.X, to.Max.X)) {
			continue
		}
		if !fits(y) {
			return false
		}
		changed++
	}
	if changed < lookRows/4 {
		return false
	}
	top, bottom := max(now.Rect.Min.Y, m.img.Rect.Min.Y+m.by), min(now.Rect.Max.Y, m.img.Rect.Max.Y+m.by)
	for to.Min.Y > top && fits(to.Min.Y-1) {
		to.Min.Y--
	}
	for to.Max.Y < bottom && fits(to.Max.Y) {
		to.Max.Y++
	}
	m.to = to
	return true
}

// search finds what to shift, and says whether there is something.
func (m *motion) search(now frame.Image) bool {
	r := now.Rect
	var places [strips]int
	at := m.changed(now, &places)
	if len(at) == 0 {
		return false
	}
	y0, y1 := max(r.Min.Y-reach, m.img.Rect.Min.Y), min(r.Max.Y+reach, m.img.Rect.Max.Y)
	m.before = hashRows(m.before[:0], m.img, at, y0, y1, 1)
	step := max(r.Dy()/probes, 1)
	m.now = hashRows(m.now[:0], now, at, r.Min.Y, r.Max.Y, step)
	by := m.vote(r.Min.Y-y0, step)
	if by == 0 {
		return false
	}
	if step > 1 {
		m.now = hashRows(m.now[:0], now, at, r.Min.Y, r.Max.Y, 1)
	}
	top, bottom := m.rows(r.Min.Y-y0, by)
	if bottom-top < leastRows {
		return false
	}
	to := m.columns(now, image.Rect(r.Min.X, r.Min.Y+top, r.Max.X, r.Min.Y+bottom), by)
	if to.Empty() {
		return false
	}
	m.to, m.by = to, by
	return true
}

// shift is move for a part of an area that has scrolled. It compares the rows while it moves them: where they are right, the differ need
// not read them again.
func (m *motion) shift(now frame.Image, to image.Rectangle, by int) {
	m.copies = append(m.copies, frame.Copy{From: to.Min.Sub(image.Pt(0, by)), To: to})
	m.right = append(m.right, to)
	first, step := to.Min.Y, 1
	if by > 0 { // downwards: a row is read before it is written over
		first, step = to.Max.Y-1, -1
	}
	for i, y := 0, first; i < to.Dy(); i, y = i+1, y+step {
		is, from := now.Row(y, to.Min.X, to.Max.X), m.img.Row(y-by, to.Min.X, to.Max.X)
		if !bytes.Equal(is, from) {
			for x := to.Min.X; x < to.Max.X; {
				x1 := tileEnd(x, to.Max.X)
				if wrong := m.wrong.at(x, y); !*wrong {
					*wrong = !alike(now.Row(y, x, x1), m.img.Row(y-by, x, x1))
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

// changed gives the strips of an area that have changed most, by where they begin. They are kept in at. None lies across the edge of
// what has changed: the part that has not moved would hide the one that has.
func (m *motion) changed(now frame.Image, at *[strips]int) []int {
	r := now.Rect
	n := min(r.Dx()/lookWidth, lookStrips)
	place := func(i int) int { return r.Min.X + i*(r.Dx()-lookWidth)/(n-1) }
	var changes, scores [lookStrips]int
	for i := range lookRows {
		y := r.Min.Y + i*r.Dy()/lookRows
		for s := range n {
			x := place(s)
			if !alike(now.Row(y, x, x+lookWidth), m.img.Row(y, x, x+lookWidth)) {
				changes[s]++
			}
		}
	}
	beside := (stripWidth/2*(n-1) + r.Dx() - 1) / r.Dx() // places to each side that a strip reaches to
	for s := range n {
		least := changes[s]
		for i := max(s-beside, 0); i <= min(s+beside, n-1); i++ {
			least = min(least, changes[i])
		}
		scores[s] = 2*least + changes[s]
	}
	found := 0
	for ; found < strips; found++ {
		best := 0
		for s := range n {
			if scores[s] > scores[best] {
				best = s
			}
		}
		if scores[best] < lookRows/4 || found > 0 && scores[best] < 2*lookRows {
			break
		}
		at[found] = min(max(place(best)+lookWidth/2-stripWidth/2, r.Min.X), r.Max.X-stripWidth)
		for s := range n {
			if x := place(s); x > at[found]-stripWidth && x < at[found]+2*stripWidth {
				scores[s] = 0
			}
		}
	}
	return at[:found]
}

// hashRows appends a hash of every step-th row, made of its strips.
func hashRows(dst []uint64, img frame.Image, at []int, y0, y1, step int) []uint64 {
	for y := y0; y < y1; y += step {
		h := uint64(0)
		for _, x := range at {
			row := img.Row(y, x, x+stripWidth)
			for i := 0; i < len(row); i += 64 {
				h = (h ^ hash((*[64]byte)(row[i:]))) * 0x9e3779b97f4a7c15
			}
		}
		dst = append(dst, h^h>>32)
	}
	return dst
}

// hash is one of the colours of 16 pixels. Its multiplications do not wait for each other.
func hash(p *[64]byte) uint64 {
	le := binary.LittleEndian
	two := func(a, b, ka, kb uint64) uint64 {
		hi, lo := bits.Mul64(a&colours^ka, b&colours^kb)
		return hi ^ lo
	}
	return two(le.Uint64(p[0:]), le.Uint64(p[8:]), 0xa0761d6478bd642f, 0xe7037ed1a0b428db) +
		two(le.Uint64(p[16:]), le.Uint64(p[24:]), 0x8ebc6af09c88c6e3, 0x589965cc75374cc3) +
		two(le.Uint64(p[32:]), le.Uint64(p[40:]), 0x1d8e4e27c47d124f, 0xeb44accab455d165) +
		two(le.Uint64(p[48:]), le.Uint64(p[56:]), 0x9fb21c651e98df25, 0xff51afd7ed558ccd)
}

// vote gives the distance, downwards, by which most rows that have changed have moved; 0: few of them agree. The first row of
// m.now, which has every step-th, is at index first of m.before. A row votes for every place that it may come from: lines of a text
// are repeated.
func (m *motion) vote(first, step int) int {
	size := 1 << bits.Len(uint(2*len(m.before)))
	m.table = cleared(m.table, size)
	m.same = m.same[:0]
	for i, h := range m.before {
		slot := m.slot(h)
		m.same = append(m.same, m.table[slot])
		m.table[slot] = int32(i) + 1
	}
	m.votes = cleared(m.votes, 2*len(m.before))
	best, most := 0, int32(leastRows-1)
	for i, h := range m.now {
		i *= step
		if h == m.before[first+i] {
			continue
		}
		last := m.table[m.slot(h)]
		alike := 0
		for at := last; at > 0 && alike <= mostAlike; at = m.same[at-1] {
			alike++
		}
		if alike > mostAlike {
			continue
		}
		for at := last; at > 0; at = m.same[at-1] {
			by := first + i - int(at-1)
			v := &m.votes[by+len(m.before)]
			if *v++; *v > most {
				best, most = by, *v
			}
		}
	}
	return best
}

// slot is where the table has a hash, or has room for it.
func (m *motion) slot(h uint64) int {
	last := len(m.table) - 1
	for slot := int(h) & last; ; slot = (slot + 1) & last {
		if at := m.table[slot]; at == 0 || m.before[at-1] == h {
			return slot
		}
	}
}

// rows gives the run of rows, by their index in m.now, in which most become right when they are moved, and fewest wrong.
func (m *motion) rows(first, by int) (top, bottom int) {
	sum, most, start := 0, 0, 0
	for i, h := range m.now {
		from := first + i - by
		if from < 0 || from >= len(m.before) {
			sum, start = 0, i+1
			continue
		}
		if h == m.before[from] {
			sum++
		}
		if h == m.before[first+i] {
			sum--
		}
		if sum <= 0 {
			sum, start = 0, i+1
		} else if sum > most {
			most, top, bottom = sum, start, i+1
		}
	}
	if most < leastRows {
		return 0, 0
	}
	return top, bottom
}

// columns narrows r to those columns in which most pixels become right when it is moved down, and fewest wrong. It is empty when
// that is too little.
func (m *motion) columns(now frame.Image, r image.Rectangle, by int) image.Rectangle {
	m.gain = cleared(m.gain, r.Dx())
	rows := 0
	step := max(r.Dy()/lookRows, 1)
	for y := r.Min.Y + step/2; y < r.Max.Y; y += step {
		rows++
		m.compare(now, y, r.Min.X, r.Max.X, image.Pt(0, by), m.gain)
	}
	sum, most, start, left, right := 0, 0, 0, 0, 0
	for x, g := range m.gain {
		sum += int(g)
		if sum <= 0 {
			sum, start = 0, x+1
		} else if sum > most {
			most, left, right = sum, start, x+1
		}
	}
	if rows == 0 || most*r.Dy()/rows < leastSaved {
		return image.Rectangle{}
	}
	to := image.Rect(r.Min.X+left, r.Min.Y, r.Min.X+right, r.Max.Y)
	if m.moves(now, image.Rect(r.Min.X, r.Min.Y, to.Min.X, r.Max.Y), by) {
		to.Min.X = r.Min.X
	}
	if m.moves(now, image.Rect(to.Max.X, r.Min.Y, r.Max.X, r.Max.Y), by) {
		to.Max.X = r.Max.X
	}
	return to
}

// moves says whether r, a margin of what has scrolled, may be moved along: one that is the same all over is. Long rows are read faster.
func (m *motion) moves(now frame.Image, r image.Rectangle, by int) bool {
	step := max(r.Dy()/lookRows, 1)
	for y := r.Min.Y + step/2; y < r.Max.Y; y += step {
		if !alike(now.Row(y, r.Min.X, r.Max.X), m.img.Row(y-by, r.Min.X, r.Max.X)) {
			return false
		}
	}
	return true
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

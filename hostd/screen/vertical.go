package screen

import (
	"encoding/binary"
	"image"
	"math/bits"

	"github.com/helmline/helmline/bridge/frame"
)

// Limits of a search for what has moved up or down.
const (
	leastRows = 8 // that must come to their place

	stripWidth = 64 // pixels of the parts of rows that are read
	strips     = 2  // as many parts
	lookWidth  = 16 // pixels that are compared to find them, in as many places at most:
	lookStrips = 24
	probes     = 256 // rows of an area that are looked for, about
	mostAlike  = 8   // rows, or anchors, of which there are more say nothing
	reach      = 128 // rows above and below an area from where something may have come
)

// hashes are those of rows.
type hashes struct {
	before, now []uint64
	table       []int32 // of before, by hash: 1 + index of the last such row; 0: free
	same        []int32 // 1 + index of the row before that has the same hash; 0: none
}

// search finds what to shift up or down, and says whether there is something.
//
// The rows of an area that are elsewhere now say by how much. Of each row only two short strips are read, where the picture has
// changed most: what a search costs is the pages of memory that it touches.
func (m *motion) search(now frame.Image) bool {
	r := now.Rect
	var places [strips]int
	at := m.changed(now, &places)
	if len(at) == 0 {
		return false
	}
	y0, y1 := max(r.Min.Y-reach, m.img.Rect.Min.Y), min(r.Max.Y+reach, m.img.Rect.Max.Y)
	h := &m.hashes
	h.before = hashRows(h.before[:0], m.img, at, y0, y1, 1)
	step := max(r.Dy()/probes, 1)
	h.now = hashRows(h.now[:0], now, at, r.Min.Y, r.Max.Y, step)
	by := m.vote(r.Min.Y-y0, step)
	if by == 0 {
		return false
	}
	if step > 1 {
		h.now = hashRows(h.now[:0], now, at, r.Min.Y, r.Max.Y, 1)
	}
	top, bottom := h.run(r.Min.Y-y0, by)
	if bottom-top < leastRows {
		return false
	}
	to := m.columns(now, image.Rect(r.Min.X, r.Min.Y+top, r.Max.X, r.Min.Y+bottom), image.Pt(0, by))
	if to.Empty() {
		return false
	}
	m.to, m.by = to, image.Pt(0, by)
	return true
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
// t.now, which has every step-th, is at index first of t.before. A row votes for every place that it may come from: lines of a text
// are repeated.
func (m *motion) vote(first, step int) int {
	t := &m.hashes
	size := 1 << bits.Len(uint(2*len(t.before)))
	t.table = cleared(t.table, size)
	t.same = t.same[:0]
	for i, h := range t.before {
		slot := t.slot(h)
		t.same = append(t.same, t.table[slot])
		t.table[slot] = int32(i) + 1
	}
	m.votes = cleared(m.votes, 2*len(t.before))
	best, most := 0, int32(leastRows-1)
	for i, h := range t.now {
		i *= step
		if h == t.before[first+i] {
			continue
		}
		last := t.table[t.slot(h)]
		alike := 0
		for at := last; at > 0 && alike <= mostAlike; at = t.same[at-1] {
			alike++
		}
		if alike > mostAlike {
			continue
		}
		for at := last; at > 0; at = t.same[at-1] {
			by := first + i - int(at-1)
			v := &m.votes[by+len(t.before)]
			if *v++; *v > most {
				best, most = by, *v
			}
		}
	}
	return best
}

// slot is where the table has a hash, or has room for it.
func (h *hashes) slot(row uint64) int {
	last := len(h.table) - 1
	for slot := int(row) & last; ; slot = (slot + 1) & last {
		if at := h.table[slot]; at == 0 || h.before[at-1] == row {
			return slot
		}
	}
}

// run gives the run of rows, by their index in h.now, in which most become right when they are moved, and fewest wrong.
func (h *hashes) run(first, by int) (top, bottom int) {
	sum, most, start := 0, 0, 0
	for i, row := range h.now {
		from := first + i - by
		if from < 0 || from >= len(h.before) {
			sum, start = 0, i+1
			continue
		}
		if row == h.before[from] {
			sum++
		}
		if row == h.before[first+i] {
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

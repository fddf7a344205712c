package screen

import (
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// Limits of a search for what has moved left or right.
const (
	anchorWidth  = 32 // pixels: a word
	leastColours = 2  // changes of colour in an anchor
	anchors      = 3  // of a row
	leastAnchors = 5  // that must have moved as far
	mostLost     = 8  // that are nowhere, one after the other: nothing has moved
)

// searchSideways finds what to shift left or right, and says whether there is something. A few short pieces of rows, anchors, are looked for in
// the same rows as they were; what scrolls is then where most becomes right.
func (m *motion) searchSideways(now frame.Image) bool {
	distance, x := m.distance(now)
	if distance == 0 {
		return false
	}
	by := image.Pt(distance, 0)
	top, bottom := m.rows(now, x, by)
	if bottom-top < leastRows {
		return false
	}
	to := m.columns(now, image.Rect(now.Rect.Min.X, top, now.Rect.Max.X, bottom), by)
	if to.Empty() {
		return false
	}
	m.to, m.by = to, by
	return true
}

// distance is how far, to the right, most anchors have moved that have changed, and where one of them is; 0: few of them agree.
func (m *motion) distance(now frame.Image) (by, at int) {
	r := now.Rect
	n := min(r.Dx()/anchorWidth, lookStrips)
	m.votes = cleared(m.votes, 2*r.Dx())
	most, lost := int32(leastAnchors-1), 0
	for i := range lookRows {
		y := r.Min.Y + (2*i+1)*r.Dy()/(2*lookRows)
		is, was := now.Row(y, r.Min.X, r.Max.X), m.img.Row(y, r.Min.X, r.Max.X)
		for s, found := 0, 0; s < n && found < anchors; s++ {
			x := (s + 7*i) % n * (r.Dx() - anchorWidth) / (n - 1) // from elsewhere in the next row
			anchor := (*[anchorWidth * frame.BytesPerPixel]byte)(is[x*frame.BytesPerPixel:])
			if alike(anchor[:], was[x*frame.BytesPerPixel:][:len(anchor)]) || !colourful(anchor) {
				continue
			}
			found++
			places, k := find(was, anchor)
			if k == 0 {
				if lost++; lost == mostLost {
					return by, at
				}
				continue
			}
			if lost = 0; k == mostAlike { // what is everywhere says nothing
				continue
			}
			for _, from := range places[:k] {
				v := &m.votes[x-from+r.Dx()]
				if *v++; *v > most {
					by, at, most = x-from, r.Min.X+x, *v
				}
			}
		}
	}
	return by, at
}

// colourful says whether an anchor is more than one colour beside another, which is everywhere.
func colourful(p *[anchorWidth * frame.BytesPerPixel]byte) bool {
	changes := 0
	for i := 4; i < len(p); i += 4 {
		if (binary.LittleEndian.Uint32(p[i:])^binary.LittleEndian.Uint32(p[i-4:]))&uint32(colours>>32) != 0 {
			changes++
		}
	}
	return changes >= leastColours
}

// find gives the first columns, at most mostAlike, where an anchor is in a row.
func find(row []byte, anchor *[anchorWidth * frame.BytesPerPixel]byte) (at [mostAlike]int, n int) {
	want := binary.LittleEndian.Uint64(anchor[:]) & colours
	for i := 0; i+len(anchor) <= len(row); i += frame.BytesPerPixel {
		if binary.LittleEndian.Uint64(row[i:])&colours != want || !alike(row[i:i+len(anchor)], anchor[:]) {
			continue
		}
		at[n] = i / frame.BytesPerPixel
		if n++; n == mostAlike {
			break
		}
	}
	return at, n
}

// rows gives the run of rows of an area in which most become right when they are moved, and fewest wrong. They are judged by an anchor at x.
func (m *motion) rows(now frame.Image, x int, by image.Point) (top, bottom int) {
	sum, most, start := 0, 0, now.Rect.Min.Y
	for y := now.Rect.Min.Y; y < now.Rect.Max.Y; y++ {
		is := now.Row(y, x, x+anchorWidth)
		if alike(is, m.img.Row(y, x-by.X, x-by.X+anchorWidth)) {
			sum++
		}
		if alike(is, m.img.Row(y, x, x+anchorWidth)) {
			sum--
		}
		if sum <= 0 {
			sum, start = 0, y+1
		} else if sum > most {
			most, top, bottom = sum, start, y+1
		}
	}
	return top, bottom
}

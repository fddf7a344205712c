package screen

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// Limits of where scrolling is looked for.
const (
	leastScroll = 1 << 14 // pixels of an area
	leastWidth  = 64      // pixels of its width
	leastHeight = 32      // and of its height

	inVain    = 4 // searches in vain of an area, for each frame in which it is not searched
	mostPause = 7 // such frames: a film is not searched each time for what no film does
)

// scroll looks whether a part of an area has moved up or down, left or right: as the last time, or anew.
func (m *motion) scroll(now frame.Image) {
	r := now.Rect
	if r.Dx() < leastWidth || r.Dy() < leastHeight || r.Dx()*r.Dy() < leastScroll || len(m.copies) >= mostCopies {
		return
	}
	if r != m.last {
		m.last, m.vain, m.pause, m.by = r, 0, 0, image.Point{}
	}
	if m.pause > 0 {
		m.pause--
		return
	}
	if m.again(now) || m.search(now) || m.searchSideways(now) {
		m.shift(now, m.to, m.by)
		m.vain = 0
		return
	}
	m.by = image.Point{}
	m.vain++
	m.pause = min(m.vain/inVain, mostPause)
}

// again says whether the same rows have moved as far as the last time: lines that follow on each other, a wheel that is turned on. A search
// reads far more to find that.
func (m *motion) again(now frame.Image) bool {
	if m.by == (image.Point{}) {
		return false
	}
	to := m.columns(now, image.Rect(now.Rect.Min.X, m.to.Min.Y, now.Rect.Max.X, m.to.Max.Y), m.by)
	if to.Empty() {
		return false
	}
	fits := func(y int) bool {
		return alike(now.Row(y, to.Min.X, to.Max.X), m.img.Row(y-m.by.Y, to.Min.X-m.by.X, to.Max.X-m.by.X))
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
	top, bottom := max(now.Rect.Min.Y, m.img.Rect.Min.Y+m.by.Y), min(now.Rect.Max.Y, m.img.Rect.Max.Y+m.by.Y)
	for to.Min.Y > top && fits(to.Min.Y-1) {
		to.Min.Y--
	}
	for to.Max.Y < bottom && fits(to.Max.Y) {
		to.Max.Y++
	}
	m.to = to
	return true
}

// columns narrows r to those columns in which most pixels become right when it is moved, and fewest wrong. It is empty when that is
// too little.
func (m *motion) columns(now frame.Image, r image.Rectangle, by image.Point) image.Rectangle {
	r = r.Intersect(m.img.Rect.Add(by))
	m.gain = cleared(m.gain, r.Dx())
	rows := 0
	step := max(r.Dy()/lookRows, 1)
	for y := r.Min.Y + step/2; y < r.Max.Y; y += step {
		rows++
		m.compare(now, y, r.Min.X, r.Max.X, by, m.gain)
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
func (m *motion) moves(now frame.Image, r image.Rectangle, by image.Point) bool {
	step := max(r.Dy()/lookRows, 1)
	for y := r.Min.Y + step/2; y < r.Max.Y; y += step {
		if !alike(now.Row(y, r.Min.X, r.Max.X), m.img.Row(y-by.Y, r.Min.X-by.X, r.Max.X-by.X)) {
			return false
		}
	}
	return true
}

package form

import (
	"image"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"

	"github.com/helmline/helmline/bridge/frame"
)

// A Painter draws pages. It may be used by several goroutines.
type Painter struct {
	mu    sync.Mutex // guards faces, which keep state while they draw
	faces faces
}

// NewPainter makes a Painter with the fonts that come with the program.
func NewPainter() *Painter {
	regular, err := opentype.Parse(goregular.TTF)
	if err != nil { // built in: cannot be
		panic(err)
	}
	bold, err := opentype.Parse(gobold.TTF)
	if err != nil {
		panic(err)
	}
	return &Painter{faces: faces{regular: regular, bold: bold, made: map[faceKey]*typeface{}}}
}

// scale is how much larger than 96 dots an inch things are drawn, in quarters.
type scale int

func (s scale) px(n int) int { return (n*int(s) + 2) / 4 }

// scaleFor guesses from a picture's height how fine its pixels are.
func scaleFor(size image.Point) scale {
	switch {
	case size.Y >= 2000 && size.X >= 2560:
		return 8
	case size.Y >= 1300 && size.X >= 1700:
		return 6
	case size.Y >= 1000 && size.X >= 1600:
		return 5
	}
	return 4
}

// a spot is where an item is drawn.
type spot struct {
	item  int
	r     image.Rectangle
	lines []string
}

// a layout is where everything on a page is, on the picture.
type layout struct {
	scale scale
	box   image.Rectangle // on the picture, its sides multiples of frame.Tile but at the picture's edge
	card  image.Rectangle
	spots []spot
}

// Bounds is the part of a picture of that size that the page covers. Its sides are multiples of frame.Tile, but for
// those at the right and the bottom edge of the picture.
func (p *Painter) Bounds(page *Page, size image.Point) image.Rectangle {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lay(page, size).box
}

// At is the index of the item under a point of a picture of that size, -1 for none.
func (p *Painter) At(page *Page, size, at image.Point) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.lay(page, size).spots {
		if at.In(s.r) && page.Items[s.item].takes() {
			return s.item
		}
	}
	return -1
}

// Where is the place of the item with that ID on a picture of that size; empty when there is none.
func (p *Painter) Where(page *Page, size image.Point, id int) image.Rectangle {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.lay(page, size).spots {
		if page.Items[s.item].ID == id {
			return s.r
		}
	}
	return image.Rectangle{}
}

// Draw draws the page into dst, an image of the page's Bounds on a picture of that size.
func (p *Painter) Draw(page *Page, size image.Point, dst frame.Image) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lay(page, size)
	c := newCanvas(dst)
	d := drawing{Painter: p, canvas: c, page: page, layout: l, text: cText, soft: cSoft}
	if page.Box == Middle {
		c.fill(dst.Rect, Background)
		c.shadow(l.card, l.scale.px(18), l.scale.px(4), l.scale.px(10))
		c.round(l.card, float32(l.scale.px(10)), cCard)
	} else {
		d.text, d.soft = cNoticeFG, 0xc9d3de
		c.fill(dst.Rect, cNotice)
		edge := max(l.scale.px(3), 3)
		c.fill(image.Rect(dst.Rect.Min.X, dst.Rect.Max.Y-edge, dst.Rect.Max.X, dst.Rect.Max.Y), 0x4d8fdb)
	}
	for _, s := range l.spots {
		d.item(s)
	}
	for i := 3; i < len(dst.Pix); i += frame.BytesPerPixel { // the unused byte is the same as in a desktop's picture
		dst.Pix[i] = 0
	}
}

// lay places the items. Measures are pixels at scale 1.
func (p *Painter) lay(page *Page, size image.Point) layout {
	l := layout{scale: scaleFor(size)}
	px := l.scale.px
	tight := page.Box == Middle && size.Y < px(560) // a small picture: less air
	width, margin, pad, gap := px(544), px(24), px(30), px(12)
	switch page.Box {
	case Top:
		width, margin, pad, gap = px(560), 0, px(18), px(10)
	case Corner:
		width, margin, pad, gap = px(400), 0, px(16), px(4)
	}
	if tight {
		margin, pad, gap = px(8), px(20), px(6)
	}
	width = min(down(width), size.X)
	l.box = image.Rect(0, 0, width, 0)
	inner := image.Rect(margin+pad, 0, width-margin-pad, 0)
	y := margin + pad - px(4)
	if page.Box != Middle {
		y = pad - px(4)
	}
	x := inner.Min.X // of the next button
	row := 0         // height of a row of buttons that has begun
	for i := range page.Items {
		it := &page.Items[i]
		if row > 0 && it.Kind != Button {
			y, x, row = y+row+gap, inner.Min.X, 0
		}
		s := spot{item: i}
		switch it.Kind {
		case Heading, Subject:
			left := inner.Min.X
			if page.Box == Middle {
				left += px(62) // beside the picture of a computer
			}
			t := p.faces.get(itemStyle(it.Kind), l.scale)
			s.lines = []string{t.cut(it.Text, inner.Max.X-left)}
			s.r = image.Rect(left, y, inner.Max.X, y+t.height)
			y += t.height
			if i+1 < len(page.Items) && page.Items[i+1].Kind != Subject {
				y += gap
			}
		case Text, Strong, Small:
			t := p.faces.get(itemStyle(it.Kind), l.scale)
			s.lines = t.wrap(it.Text, inner.Dx())
			s.r = image.Rect(inner.Min.X, y, inner.Max.X, y+len(s.lines)*t.height)
			y = s.r.Max.Y + gap*2/3
		case Error, Info:
			t, b := p.faces.get(styleText, l.scale), p.faces.get(styleStrong, l.scale)
			first, rest, more := strings.Cut(it.Text, "\n")
			side := px(14)
			s.lines = b.wrap(first, inner.Dx()-2*side)
			bold := len(s.lines)
			if more {
				s.lines = append(s.lines, t.wrap(rest, inner.Dx()-2*side)...)
			}
			h := bold*b.height + (len(s.lines)-bold)*t.height + px(18)
			s.r = image.Rect(inner.Min.X, y, inner.Max.X, y+h)
			y = s.r.Max.Y + gap
		case Field, Secret:
			t, small := p.faces.get(styleText, l.scale), p.faces.get(styleSmall, l.scale)
			top := y
			y += small.height + px(2)
			s.r = image.Rect(inner.Min.X, top, inner.Max.X, y+t.height+px(14))
			if tight {
				s.r.Max.Y -= px(6)
			}
			y = s.r.Max.Y + gap
		case Link:
			t := p.faces.get(styleText, l.scale)
			s.lines = []string{t.cut(it.Text, inner.Dx()-px(8))}
			s.r = image.Rect(inner.Min.X, y, inner.Min.X+t.width(s.lines[0])+px(4), y+t.height)
			y += t.height + gap*2/3
		case Button:
			t := p.faces.get(styleStrong, l.scale)
			s.lines = []string{t.cut(it.Text, inner.Dx()-px(36))}
			w, h := max(t.width(s.lines[0])+px(36), px(104)), t.height+px(13)
			if x+w > inner.Max.X && x > inner.Min.X {
				y, x = y+row+gap, inner.Min.X
			}
			if row == 0 {
				y += gap / 3
			}
			s.r = image.Rect(x, y, x+w, y+h)
			x, row = s.r.Max.X+px(12), h
		case Rule:
			s.r = image.Rect(inner.Min.X, y+px(3), inner.Max.X, y+px(4))
			y += px(4) + gap
		}
		l.spots = append(l.spots, s)
	}
	if row > 0 {
		y += row + gap
	}
	bottom := y + pad - gap + margin
	if page.Box == Middle && !tight {
		bottom -= px(6)
	}
	l.box.Max.Y = min(up(bottom), size.Y)
	l.card = image.Rect(margin, margin, width-margin, l.box.Max.Y-margin)
	l.shift(at(page.Box, l.box.Size(), size, px(600)))
	return l
}

// at is where a box of that size goes; usual is the height of most pages: they have their top edge in common.
func at(b Box, box, size image.Point, usual int) image.Point {
	x := (size.X - box.X) / 2
	y := 0
	switch b {
	case Middle:
		y = max(min((size.Y-usual)*2/5, size.Y-box.Y), 0)
		if y == 0 {
			y = max((size.Y-box.Y)/2, 0)
		}
	case Corner:
		x = size.X - box.X
	}
	return image.Pt(down(x), down(y))
}

func (l *layout) shift(by image.Point) {
	l.box, l.card = l.box.Add(by), l.card.Add(by)
	for i := range l.spots {
		l.spots[i].r = l.spots[i].r.Add(by)
	}
}

func up(n int) int   { return (n + frame.Tile - 1) / frame.Tile * frame.Tile }
func down(n int) int { return n / frame.Tile * frame.Tile }

func itemStyle(k Kind) style {
	switch k {
	case Heading:
		return styleHeading
	case Subject:
		return styleSubject
	case Strong:
		return styleStrong
	case Small:
		return styleSmall
	}
	return styleText
}

// a drawing is one call of Draw.
type drawing struct {
	*Painter
	*canvas
	page       *Page
	layout     layout
	text, soft uint32
}

func (d *drawing) get(s style) *typeface { return d.faces.get(s, d.layout.scale) }

func (d *drawing) item(s spot) {
	it := &d.page.Items[s.item]
	px := d.layout.scale.px
	focus := s.item == d.page.Focus && !d.page.Busy
	switch it.Kind {
	case Heading:
		if d.page.Box == Middle {
			side := px(46)
			d.computer(image.Rect(s.r.Min.X-px(62), s.r.Min.Y+px(3), s.r.Min.X-px(62)+side, s.r.Min.Y+px(3)+side), cAccent, cCard)
		}
		d.lines(s, styleHeading, d.text)
	case Subject:
		d.lines(s, styleSubject, d.soft)
	case Text:
		d.lines(s, styleText, d.text)
	case Strong:
		d.lines(s, styleStrong, d.text)
	case Small:
		d.lines(s, styleSmall, d.soft)
	case Error:
		d.notice(s, it, cError, cErrorBG)
	case Info:
		d.notice(s, it, cInfo, cInfoBG)
	case Field, Secret:
		d.field(s, it, focus)
	case Link:
		d.link(s, focus)
	case Button:
		d.button(s, it, focus)
	case Rule:
		d.fill(s.r, 0xdfe4ea)
	}
}

func (d *drawing) lines(s spot, st style, rgb uint32) {
	t := d.get(st)
	for i, line := range s.lines {
		t.draw(d.canvas, line, s.r.Min.X, s.r.Min.Y+i*t.height, rgb)
	}
}

// notice is a coloured box; its lines up to the first line feed are bold.
func (d *drawing) notice(s spot, it *Item, rgb, back uint32) {
	px := d.layout.scale.px
	d.round(s.r, float32(px(5)), back)
	d.fill(image.Rect(s.r.Min.X, s.r.Min.Y+px(2), s.r.Min.X+px(4), s.r.Max.Y-px(2)), rgb)
	first, _, _ := strings.Cut(it.Text, "\n")
	bold := len(d.get(styleStrong).wrap(first, s.r.Dx()-2*px(14)))
	y := s.r.Min.Y + px(10)
	for i, line := range s.lines {
		t := d.get(styleText)
		if i < bold {
			t = d.get(styleStrong)
		}
		t.draw(d.canvas, line, s.r.Min.X+px(14), y, rgb)
		y += t.height
	}
}

func (d *drawing) field(s spot, it *Item, focus bool) {
	px := d.layout.scale.px
	small, t := d.get(styleSmall), d.get(styleText)
	small.draw(d.canvas, it.Text, s.r.Min.X, s.r.Min.Y, d.soft)
	in := s.r
	in.Min.Y += small.height + px(2)
	radius := float32(px(5))
	if focus {
		d.round(in.Inset(-px(3)), radius+float32(px(3)), cRing)
		d.framed(in, radius, px(2), cAccent, cCard)
	} else {
		d.framed(in, radius, px(1), cLine, cField)
	}
	in.Min.X, in.Max.X = in.Min.X+px(11), in.Max.X-px(11)
	rgb := uint32(cText)
	if d.page.Busy {
		rgb = cSoft
	}
	y := in.Min.Y + (in.Dy()-t.ascent-t.descent)/2
	caret := in.Min.X
	if it.Kind == Secret {
		step, r := px(11), px(4)
		room := max(in.Dx()/step, 1)
		from := max(0, it.at-room) // a long secret scrolls
		for i := from; i < it.dots && i-from < room; i++ {
			d.disc(image.Pt(in.Min.X+(i-from)*step+r, in.Min.Y+in.Dy()/2), r, rgb)
		}
		caret += (it.at - from) * step
	} else {
		v, at := string(it.value), it.caret
		for t.width(v[:at]) > in.Dx() { // so does a long text
			_, n := utf8.DecodeRuneInString(v)
			v, at = v[n:], at-n
		}
		caret += t.width(v[:at])
		if n := t.fit(v, in.Dx()); v != "" && t.width(v) > in.Dx() {
			v = v[:n]
		}
		t.draw(d.canvas, v, in.Min.X, y, rgb)
	}
	if focus {
		d.fill(image.Rect(caret, y-px(1), caret+max(px(2), 1), y+t.ascent+t.descent+px(1)), cAccent)
	}
}

func (d *drawing) link(s spot, focus bool) {
	px := d.layout.scale.px
	t := d.get(styleText)
	if focus {
		d.round(s.r.Inset(-px(3)), float32(px(4)), cRing)
		d.round(s.r.Inset(-px(1)), float32(px(3)), cCard)
	}
	t.draw(d.canvas, s.lines[0], s.r.Min.X+px(2), s.r.Min.Y+px(1), cAccent)
	line := s.r.Min.Y + px(1) + t.ascent + px(2)
	d.fill(image.Rect(s.r.Min.X+px(2), line, s.r.Max.X-px(2), line+max(px(1), 1)), cAccent)
}

func (d *drawing) button(s spot, it *Item, focus bool) {
	px := d.layout.scale.px
	t := d.get(styleStrong)
	radius := float32(px(5))
	edge, fill, rgb := uint32(cLine), uint32(cButton), uint32(cText)
	switch {
	case it.Primary && d.page.Busy:
		edge, fill, rgb = cBusy, cBusy, cCard
	case it.Primary:
		edge, fill, rgb = cAccent, cAccent, cCard
	}
	if focus {
		d.round(s.r.Inset(-px(4)), radius+float32(px(4)), cRing)
		if d.page.Box == Middle {
			d.round(s.r.Inset(-px(2)), radius+float32(px(2)), cCard)
		} else {
			d.round(s.r.Inset(-px(2)), radius+float32(px(2)), cNotice)
		}
	}
	d.framed(s.r, radius, max(px(1), 1), edge, fill)
	x := s.r.Min.X + (s.r.Dx()-t.width(s.lines[0]))/2
	t.draw(d.canvas, s.lines[0], x, s.r.Min.Y+(s.r.Dy()-t.ascent-t.descent)/2, rgb)
}

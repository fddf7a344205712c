package record

import (
	"image"
	"time"

	"github.com/helmline/helmline/bridge/frame"
)

// Photographs and films take long to draw, at some 50 million pixels a second, and most of them are drawn over before a jump arrives. So a
// jump reads the way to its end twice: first what is drawn where, then, with the photographs left out that nobody will see.

// maxOps is how many rectangles are looked at ahead.
const maxOps = 1 << 20

// An op is a rectangle on the way.
type op struct {
	x, y, w, h   uint16
	fromX, fromY uint16 // of a copy
	kind         opKind
}

type opKind uint8

const (
	opPixels opKind = iota
	opCopy
	opPhoto
)

func (o *op) rect() image.Rectangle {
	return image.Rect(int(o.x), int(o.y), int(o.x)+int(o.w), int(o.y)+int(o.h))
}

func (o *op) copied(c frame.Copy) {
	o.kind, o.fromX, o.fromY = opCopy, uint16(c.From.X), uint16(c.From.Y)
}

func (o *op) source() image.Rectangle {
	return image.Rect(int(o.fromX), int(o.fromY), int(o.fromX)+int(o.w), int(o.fromY)+int(o.h))
}

// note notes a rectangle.
func (d *decoder) note(r image.Rectangle) {
	d.ops = append(d.ops, op{x: uint16(r.Min.X), y: uint16(r.Min.Y), w: uint16(r.Dx()), h: uint16(r.Dy())})
}

// lookAhead finds the photographs between here and a time that are not seen then.
func (p *Player) lookAhead(to time.Duration) {
	in := p.in
	in.buf = nil // p.in's is still to be read
	d := newDecoder(&in, frame.Image{Rect: p.dec.m.Rect})
	d.skips, d.notes = true, true
	var none frame.Region
	none.Reset(p.f.Size)
	for p.ended == nil && in.fill() == nil && in.at <= to && len(d.ops) < maxOps && d.update(&none, nil) == nil {
	}
	if len(d.ops) >= maxOps || d.photos < 2 {
		return
	}
	needed := frame.NewRegion(p.f.Size)
	needed.Add(needed.Bounds())
	unseen := make(bitset, (d.photos+63)/64)
	n := d.photos
	for i := len(d.ops) - 1; i >= 0; i-- {
		o := &d.ops[i]
		r := o.rect()
		seen := needed.Touches(r)
		needed.Sub(r)
		switch {
		case o.kind == opCopy && seen:
			needed.Add(o.source())
		case o.kind == opPhoto:
			if n--; !seen {
				unseen.set(n)
			}
		}
	}
	p.dec.unseen, p.dec.photos = unseen, 0
}

// A bitset is a set of small numbers. What lies beyond it is not in it.
type bitset []uint64

func (b bitset) set(n int) { b[n/64] |= 1 << (n % 64) }

func (b bitset) has(n int) bool { return n/64 < len(b) && b[n/64]>>(n%64)&1 != 0 }

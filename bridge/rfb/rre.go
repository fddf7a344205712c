package rfb

import (
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// A subrect is a rectangle of one colour on a background.
type subrect struct {
	colour     uint32
	x, y, w, h int
}

// rre encodes r in pieces of 64×64, each by the encoding RRE, or Raw where that is shorter. RFC 6143, section 7.7.3.
func (e *Encoder) rre(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	for y := r.Min.Y; y < r.Max.Y; y += bandRows {
		for x := r.Min.X; x < r.Max.X; x += bandRows {
			e.rrePiece(b, p, img, image.Rect(x, y, min(x+bandRows, r.Max.X), min(y+bandRows, r.Max.Y)))
		}
	}
}

func (e *Encoder) rrePiece(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	px := e.load(img, r)
	to := p.Format.packing()
	back, _, _ := twoColours(px)
	var ok bool
	e.subs, ok = e.subrects(e.subs[:0], px, r.Dx(), r.Dy(), back, len(px)*to.bytes/(to.bytes+8))
	if !ok {
		b.Bytes = to.append(appendRect(b.Bytes, r, Raw), px)
		b.Count++
		return
	}
	b.Bytes = appendRect(b.Bytes, r, RRE)
	b.Count++
	b.Bytes = binary.BigEndian.AppendUint32(b.Bytes, uint32(len(e.subs)))
	b.Bytes = to.one(b.Bytes, back)
	for _, s := range e.subs {
		b.Bytes = to.one(b.Bytes, s.colour)
		for _, v := range [...]int{s.x, s.y, s.w, s.h} {
			b.Bytes = binary.BigEndian.AppendUint16(b.Bytes, uint16(v))
		}
	}
}

// twoColours finds the more frequent of the first two colours and the other one, and whether there are 1, 2 or more (3).
func twoColours(px []uint32) (back, fore uint32, colours int) {
	back, colours = px[0], 1
	nBack, nFore := 0, 0
	for _, v := range px {
		switch {
		case v == back:
			nBack++
		case colours == 1:
			fore, colours, nFore = v, 2, 1
		case v == fore:
			nFore++
		default:
			colours = 3
		}
	}
	if nFore > nBack {
		back, fore = fore, back
	}
	return back, fore, colours
}

// subrects appends rectangles that cover every pixel unlike back, and gives up (false) when it takes more than max.
func (e *Encoder) subrects(dst []subrect, px []uint32, w, h int, back uint32, max int) ([]subrect, bool) {
	e.work = append(e.work[:0], px...)
	left := e.work
	for y := range h {
		for x := 0; x < w; x++ {
			c := left[y*w+x]
			if c == back {
				continue
			}
			if len(dst) >= max {
				return dst, false
			}
			s := largest(left, w, h, x, y)
			dst = append(dst, s)
			for i := s.y; i < s.y+s.h; i++ {
				for j := s.x; j < s.x+s.w; j++ {
					left[i*w+j] = back
				}
			}
			x += s.w - 1
		}
	}
	return dst, true
}

// largest is the largest rectangle of one colour whose first pixel is x, y.
func largest(px []uint32, w, h, x, y int) subrect {
	c := px[y*w+x]
	var best subrect
	for wide, bottom := w-x, y; bottom < h && px[bottom*w+x] == c; bottom++ {
		n := 1
		for row := px[bottom*w+x:]; n < wide && row[n] == c; {
			n++
		}
		wide = n
		if high := bottom - y + 1; wide*high > best.w*best.h {
			best = subrect{c, x, y, wide, high}
		}
	}
	return best
}

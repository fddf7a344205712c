package rfb

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// What a tile of Hextile says. RFC 6143, section 7.7.4.
const (
	hexRaw      = 1
	hexBack     = 2
	hexFore     = 4
	hexSubrects = 8
	hexColoured = 16
)

// hextile encodes r in tiles of 16×16. A background or foreground equal to the last one is left out, except after tiles
// that make viewers forget them.
func (e *Encoder) hextile(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	b.Bytes = appendRect(b.Bytes, r, Hextile)
	b.Count++
	to := p.Format.packing()
	s := hexState{to: to}
	for band := range bands(r) {
		px, width := e.load(img, band), band.Dx()
		for y := 0; y < band.Dy(); y += hexTile {
			for x := 0; x < width; x += hexTile {
				w, h := min(hexTile, width-x), min(hexTile, band.Dy()-y)
				tile := e.tile[:w*h]
				for i := range h {
					copy(tile[i*w:(i+1)*w], px[(y+i)*width+x:])
				}
				b.Bytes = e.hexTile(b.Bytes, &s, tile, w, h)
			}
		}
	}
}

// hexState is what a viewer remembers from tile to tile.
type hexState struct {
	to               packing
	back, fore       uint32
	hasBack, hasFore bool
}

func (e *Encoder) hexTile(dst []byte, s *hexState, tile []uint32, w, h int) []byte {
	back, fore, colours := twoColours(tile)
	start := len(dst)
	dst = append(dst, 0)
	mask := byte(0)
	if !s.hasBack || s.back != back {
		mask |= hexBack
		dst = s.to.one(dst, back)
	}
	s.back, s.hasBack = back, true
	limit := start + 1 + len(tile)*s.to.bytes // from here on raw is shorter
	switch colours {
	case 1:
	case 2:
		mask |= hexSubrects
		if !s.hasFore || s.fore != fore {
			mask |= hexFore
			dst = s.to.one(dst, fore)
		}
		s.fore, s.hasFore = fore, true
	default:
		mask |= hexSubrects | hexColoured
		s.hasFore = false
	}
	if mask&hexSubrects != 0 {
		each := 2
		if mask&hexColoured != 0 {
			each += s.to.bytes
		}
		var ok bool
		e.subs, ok = e.subrects(e.subs[:0], tile, w, h, back, min(255, (limit-len(dst)-1)/each))
		if !ok {
			s.hasBack, s.hasFore = false, false
			return s.to.append(append(dst[:start], hexRaw), tile)
		}
		dst = append(dst, byte(len(e.subs)))
		for _, r := range e.subs {
			if mask&hexColoured != 0 {
				dst = s.to.one(dst, r.colour)
			}
			dst = append(dst, byte(r.x<<4|r.y), byte((r.w-1)<<4|(r.h-1)))
		}
	}
	dst[start] = mask
	return dst
}

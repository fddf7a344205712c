package rfb

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// What a tile of ZRLE begins with. RFC 6143, section 7.7.6. 2 … 16 is a packed palette of that size.
const (
	zrleRaw        = 0
	zrleSolid      = 1
	zrlePacked     = 16 // and below
	zrleRuns       = 128
	zrlePaletteRun = 128 // + size of the palette, 2 … 127
	zrleMaxPalette = 127
)

// zrle encodes r in tiles of 64×64, each in the way that looks shortest, through the stream of the encoding ZRLE.
func (e *Encoder) zrle(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	e.buf = e.buf[:0]
	to := p.Format.compact()
	for band := range bands(r) {
		px, width := e.load(img, band), band.Dx()
		for x := 0; x < width; x += bandRows {
			w := min(bandRows, width-x)
			tile := e.gather(px[x:], width, w, band.Dy())
			e.zrleTile(to, tile, w)
		}
	}
	e.appendStream(b, p, r, &b.first[zrleStream])
}

// gather copies a block of w × h pixels from lines of stride pixels into memory without gaps.
func (e *Encoder) gather(px []uint32, stride, w, h int) []uint32 {
	if stride == w {
		return px[:w*h]
	}
	if cap(e.work) < w*h {
		e.work = make([]uint32, bandRows*bandRows)
	}
	tile := e.work[:w*h]
	for y := range h {
		copy(tile[y*w:(y+1)*w], px[y*stride:])
	}
	return tile
}

// zrleTile appends a tile to e.buf.
func (e *Encoder) zrleTile(to packing, tile []uint32, w int) {
	e.pal.reset()
	colours, runs, singles := 0, 0, 0 // colours: 0 when too many for a palette
	few := true
	for i := 0; i < len(tile); {
		v, from := tile[i], i
		for i++; i < len(tile) && tile[i] == v; i++ {
		}
		if i-from == 1 {
			singles++
		} else {
			runs++
		}
		few = few && e.pal.number(v, zrleMaxPalette) >= 0
	}
	if few {
		colours = e.pal.n
	}
	if colours == 1 {
		e.buf = to.one(append(e.buf, zrleSolid), tile[0])
		return
	}

	kind, size := zrleRaw, len(tile)*to.bytes
	if n := (to.bytes + 1) * (runs + singles); n < size {
		kind, size = zrleRuns, n
	}
	if colours > 0 {
		if n := to.bytes*colours + 2*runs + singles; n < size {
			kind, size = zrlePaletteRun+colours, n
		}
		if colours <= zrlePacked {
			if n := to.bytes*colours + (w*packedBits(colours)+7)/8*(len(tile)/w); n < size {
				kind = colours
			}
		}
	}

	e.buf = append(e.buf, byte(kind))
	if kind != zrleRaw && kind != zrleRuns {
		e.buf = to.append(e.buf, e.pal.colours[:colours])
	}
	switch {
	case kind == zrleRaw:
		e.buf = to.append(e.buf, tile)
	case kind <= zrlePacked:
		e.packed(tile, w, packedBits(colours))
	default:
		e.runs(to, tile, kind != zrleRuns)
	}
}

// packedBits is the size of a pixel in a palette of that many colours.
func packedBits(colours int) int {
	switch {
	case colours <= 2:
		return 1
	case colours <= 4:
		return 2
	}
	return 4
}

// packed appends numbers of colours of that many bits, the leftmost highest, rows padded to whole bytes.
func (e *Encoder) packed(tile []uint32, w, bits int) {
	for len(tile) > 0 {
		var acc byte
		free := 8
		for _, v := range tile[:w] {
			free -= bits
			acc |= byte(e.pal.number(v, 0)) << free
			if free == 0 {
				e.buf, acc, free = append(e.buf, acc), 0, 8
			}
		}
		if free < 8 {
			e.buf = append(e.buf, acc)
		}
		tile = tile[w:]
	}
}

// runs appends runs of equal pixels, by number when numbered is set.
func (e *Encoder) runs(to packing, tile []uint32, numbered bool) {
	for i := 0; i < len(tile); {
		v, from := tile[i], i
		for i++; i < len(tile) && tile[i] == v; i++ {
		}
		length := i - from
		if !numbered {
			e.buf = to.one(e.buf, v)
		} else if n := byte(e.pal.number(v, 0)); length == 1 {
			e.buf = append(e.buf, n)
			continue
		} else {
			e.buf = append(e.buf, n|0x80)
		}
		for length--; length >= 255; length -= 255 {
			e.buf = append(e.buf, 255)
		}
		e.buf = append(e.buf, byte(length))
	}
}

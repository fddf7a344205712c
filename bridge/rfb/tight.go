package rfb

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// What a rectangle of Tight begins with, beside the bits 0 … 3 that reset streams.
const (
	tightFill    = 0x80
	tightJPEG    = 0x90
	tightFilter  = 0x40 // a filter byte follows; the stream's number is in bits 4 and 5
	tightPalette = 1    // the filter that sends numbers of colours
)

// Limits of Tight.
const (
	tightMinData  = 12        // shorter data is not compressed
	tightMaxData  = 1<<22 - 1 // the longest piece whose length can be written
	tightMinPhoto = 1 << 10   // pixels; for less the tables of a JPEG picture cost more than it saves
)

// A kind is what a block of a picture looks like.
type kind uint8

const (
	solid kind = iota // one colour
	mono              // two
	few               // as many as a palette takes
	full              // more, to be sent exactly
	photo             // more, and changing softly from pixel to pixel
)

// A block is a part of a band, up to 64×64 pixels.
type block struct {
	kind   kind
	colour uint32 // of a solid one
}

// A piece is a rectangle that becomes one of Tight.
type piece struct {
	rect image.Rectangle
	block
}

// tight cuts r into blocks, looks at each, and joins neighbours of a kind into one rectangle. Those that need no palette grow
// downwards too, so they are sent at the end.
func (e *Encoder) tight(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	e.open = e.open[:0]
	for band := range bands(r) {
		px, w := e.load(img, band), band.Dx()
		var blocks [maxWidth / bandRows]block
		n := 0
		for x := 0; x < w; x += bandRows {
			blocks[n] = e.classify(px[x:], w, min(bandRows, w-x), band.Dy(), p.Quality >= 0)
			n++
		}
		for i := 0; i < n; {
			from := i
			switch blocks[i].kind {
			case mono, few:
				i = e.paletteRun(b, p, px, band, blocks[:n], i)
			default:
				for i++; i < n && blocks[i] == blocks[from]; i++ {
				}
				e.join(piece{image.Rect(band.Min.X+from*bandRows, band.Min.Y, min(band.Min.X+i*bandRows, band.Max.X), band.Max.Y), blocks[from]})
			}
		}
	}
	for _, o := range e.open {
		switch {
		case o.kind == solid:
			b.Bytes = append(appendRect(b.Bytes, o.rect, Tight), tightFill)
			b.Bytes = tightPacking(p.Format).one(b.Bytes, o.colour)
			b.Count++
		case o.kind == photo && o.rect.Dx()*o.rect.Dy() >= tightMinPhoto:
			e.photo(b, p, img, o.rect)
		default:
			e.tightFull(b, p, img, o.rect)
		}
	}
}

// tightPacking is that of Tight (TPIXEL): Native stands for every format of three whole bytes.
func tightPacking(f PixelFormat) packing {
	if f.is888() {
		return packing{3, true, 0}
	}
	return f.packing()
}

// Few colours are sent as numbers, up to one for every eight pixels. Where JPEG is allowed, it takes over from 96 colours on.
const (
	pixelsPerColour  = 8
	maxFewBesideJPEG = 96
)

// classify looks at a block of w × h pixels in lines of stride.
func (e *Encoder) classify(px []uint32, stride, w, h int, jpeg bool) block {
	limit := max(min(w*h/pixelsPerColour, maxColours), 2)
	e.pal.reset()
	ok := e.pal.add(px, stride, w, h, limit)
	switch {
	case ok && e.pal.n == 1:
		return block{kind: solid, colour: px[0]}
	case ok && e.pal.n == 2:
		return block{kind: mono}
	case jpeg && (!ok || e.pal.n > maxFewBesideJPEG) && soft(px, stride, w, h):
		return block{kind: photo}
	case ok:
		return block{kind: few}
	}
	return block{kind: full}
}

// soft says whether most pixels differ from the one to their left, as in photographs. Text, even smoothed and coloured, stands on
// a ground of one colour. Every fourth row is looked at.
func soft(px []uint32, stride, w, h int) bool {
	same, seen := 0, 0
	for y := 0; y < h; y += 4 {
		row := px[y*stride : y*stride+w]
		for x := 1; x < len(row); x++ {
			if row[x] == row[x-1] {
				same++
			}
		}
		seen += w - 1
	}
	return 2*same < seen
}

// join adds a rectangle to the open one above it, or opens it.
func (e *Encoder) join(p piece) {
	for i := range e.open {
		o := &e.open[i]
		if o.block == p.block && o.rect.Max.Y == p.rect.Min.Y && o.rect.Min.X == p.rect.Min.X && o.rect.Max.X == p.rect.Max.X {
			o.rect.Max.Y = p.rect.Max.Y
			return
		}
	}
	e.open = append(e.open, p)
}

// paletteRun sends block i and as many of the following as share its kind and fit into one palette. It returns the
// first block that it did not send.
func (e *Encoder) paletteRun(b *Batch, p Params, px []uint32, band image.Rectangle, blocks []block, i int) int {
	w, h := band.Dx(), band.Dy()
	if cap(e.numbers) < w*h {
		e.numbers = make([]byte, cap(e.px))
	}
	numbers := e.numbers[:w*h]
	limit := maxColours
	if blocks[i].kind == mono {
		limit = 2
	}
	e.pal.reset()
	from, end := i*bandRows, i*bandRows
	for first := i; i < len(blocks) && blocks[i].kind == blocks[first].kind; i++ {
		next := min(end+bandRows, w)
		before := e.pal.n
		if !e.number(numbers[end:], px[end:], w, next-end, h, limit) {
			e.pal.cut(before)
			break
		}
		end = next
	}

	b.Bytes = appendRect(b.Bytes, image.Rect(band.Min.X+from, band.Min.Y, band.Min.X+end, band.Max.Y), Tight)
	b.Count++
	stream := streamIndexed
	e.buf = e.buf[:0]
	for y := range h {
		row := numbers[y*w+from : y*w+end]
		if limit > 2 {
			e.buf = append(e.buf, row...)
			continue
		}
		for len(row) > 0 {
			n := min(len(row), 8)
			var bits byte
			for j, v := range row[:n] {
				bits |= v << (7 - j)
			}
			e.buf, row = append(e.buf, bits), row[n:]
		}
	}
	if limit == 2 {
		stream = streamMono
	}
	b.Bytes = append(b.Bytes, tightFilter|byte(stream<<4)|e.resets(stream), tightPalette, byte(e.pal.n-1))
	b.Bytes = tightPacking(p.Format).append(b.Bytes, e.pal.colours[:e.pal.n])
	e.tightData(b, p, stream)
	return i
}

// number writes the numbers of a block's colours and adds new ones to the palette; false when there are too many.
func (e *Encoder) number(dst []byte, px []uint32, stride, w, h, limit int) bool {
	last, number := ^px[0], 0
	for y := range h {
		out := dst[y*stride : y*stride+w]
		for x, v := range px[y*stride : y*stride+w] {
			if v != last {
				if number = e.pal.number(v, limit); number < 0 {
					return false
				}
				last = v
			}
			out[x] = byte(number)
		}
	}
	return true
}

// tightFull sends pixels as they are.
func (e *Encoder) tightFull(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	to := tightPacking(p.Format)
	e.buf = e.buf[:0]
	for band := range bands(r) {
		e.buf = to.append(e.buf, e.load(img, band))
	}
	b.Bytes = append(appendRect(b.Bytes, r, Tight), byte(streamFull<<4)|e.resets(streamFull))
	b.Count++
	e.tightData(b, p, streamFull)
}

// resets is the bit that makes the viewer begin a stream anew, when e.buf will be its first piece of this batch.
func (e *Encoder) resets(stream int) byte {
	if len(e.buf) < tightMinData || e.deflate.begun[stream] {
		return 0
	}
	return 1 << stream
}

// tightData appends e.buf, compressed when it is worth it.
func (e *Encoder) tightData(b *Batch, p Params, stream int) {
	if len(e.buf) < tightMinData {
		b.Bytes = append(b.Bytes, e.buf...)
		return
	}
	header := ""
	if !e.deflate.begun[stream] {
		header = zlibHeader
	}
	data := e.deflate.piece(stream, p.Compress, header, e.buf)
	b.Bytes = append(appendLength(b.Bytes, len(data)), data...)
}

// appendLength appends a length up to tightMaxData: seven bits a byte, the lowest first, eight in the third.
func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 1<<7:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, byte(n)|0x80, byte(n>>7))
	}
	return append(dst, byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14))
}

package rfb

import (
	"bytes"
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// What a rectangle of Tight begins with. The bits 0 … 3, which reset streams, are never set: see StreamState.
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

// tightBand is what is known of the blocks of one band, left to right.
type tightBand struct {
	blocks  [maxWidth / bandRows]block
	count   [maxWidth / bandRows]int // of colours, in a block of few
	colours [maxWidth / bandRows][maxColours]uint32
	numbers []byte // of the colours, for each pixel of the band
}

// tight cuts r into blocks, looks at each, and joins neighbours of a kind into one rectangle. Those that need no palette grow
// downwards too, so they are sent at the end.
func (e *Encoder) tight(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	e.open = e.open[:0]
	t := &e.band
	for band := range bands(r) {
		n := 0
		for x := band.Min.X; x < band.Max.X; x += bandRows {
			t.blocks[n] = e.classify(n, img, image.Rect(x, band.Min.Y, min(x+bandRows, band.Max.X), band.Max.Y), band, p.Quality >= 0)
			n++
		}
		for i := 0; i < n; {
			from := i
			switch t.blocks[i].kind {
			case mono, few:
				i = e.paletteRun(b, p, band, n, i)
			default:
				for i++; i < n && t.blocks[i] == t.blocks[from]; i++ {
				}
				e.join(piece{image.Rect(band.Min.X+from*bandRows, band.Min.Y, min(band.Min.X+i*bandRows, band.Max.X), band.Max.Y), t.blocks[from]})
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

// Few colours are sent as numbers, up to one for every eight pixels. Where JPEG is allowed, it takes over from manyBesideJPEG on when
// nearly all pixels differ from their neighbours.
const (
	pixelsPerColour = 8
	manyBesideJPEG  = 24
	manyInGlance    = 64 // of some 250 pixels
)

// classify looks at block n of a band. Where its colours are few, it numbers them.
func (e *Encoder) classify(n int, img frame.Image, r, band image.Rectangle, jpeg bool) block {
	if uniform(img, r) {
		return block{kind: solid, colour: e.loadAt(img, image.Rectangle{Min: r.Min, Max: r.Min.Add(image.Pt(1, 1))}, 1, 0, 1)[0]}
	}
	if jpeg && photographed(img, r) {
		return block{kind: photo}
	}
	w, h, stride, at := r.Dx(), r.Dy(), band.Dx(), r.Min.X-band.Min.X
	px := e.loadAt(img, r, stride*band.Dy(), at, stride)
	if cap(e.band.numbers) < len(e.px) {
		e.band.numbers = make([]byte, cap(e.px))
	}
	e.pal.reset()
	ok := e.pal.index(e.band.numbers[:cap(e.px)][at:], px, stride, w, h, max(min(w*h/pixelsPerColour, maxColours), 2))
	switch {
	case ok && e.pal.n == 1:
		return block{kind: solid, colour: px[0]}
	case jpeg && (!ok || e.pal.n > manyBesideJPEG) && soft(px, stride, w, h, !ok):
		return block{kind: photo}
	case !ok:
		return block{kind: full}
	}
	e.band.count[n] = copy(e.band.colours[n][:], e.pal.colours[:e.pal.n])
	if e.pal.n == 2 {
		return block{kind: mono}
	}
	return block{kind: few}
}

// uniform says whether all pixels are the same, the byte that is not seen included.
func uniform(img frame.Image, r image.Rectangle) bool {
	first := img.Row(r.Min.Y, r.Min.X, r.Max.X)
	if !bytes.Equal(first[frame.BytesPerPixel:], first[:len(first)-frame.BytesPerPixel]) {
		return false
	}
	for y := r.Min.Y + 1; y < r.Max.Y; y++ {
		if !bytes.Equal(img.Row(y, r.Min.X, r.Max.X), first) {
			return false
		}
	}
	return true
}

// photographed says whether a glance is enough: there are many colours, and three of four pixels differ from the one to their left, or there
// are very many and the rest of what soft asks for holds. It looks at every sixteenth row, and is quick where it says no.
func photographed(img frame.Image, r image.Rectangle) bool {
	if r.Dx()*r.Dy() < tightMinPhoto {
		return false
	}
	most := (r.Dx() - 1) * ((r.Dy() + 15) / 16) * 3 / 4 // pixels that may be the same
	seen, same, little, many := 0, 0, 0, 0
	var colours [256]uint32 // met lately
	for y := r.Min.Y; y < r.Max.Y; y += 16 {
		row := img.Row(y, r.Min.X, r.Max.X)
		seen += r.Dx() - 1
		last := binary.LittleEndian.Uint32(row) & 0xffffff
		for x := frame.BytesPerPixel; x+4 <= len(row); x += frame.BytesPerPixel {
			v := binary.LittleEndian.Uint32(row[x:]) & 0xffffff
			if v == last {
				same++
				continue
			}
			if near(v, last) {
				little++
			}
			last = v
			if many <= manyInGlance {
				if at := v * paletteHash >> 24; colours[at] != v {
					colours[at] = v
					many++
				}
			}
		}
		switch {
		case same > most:
			return false
		case many > manyInGlance && mostly(same, little, seen):
			return true
		}
	}
	return many > manyBesideJPEG && 4*same < seen
}

// soft says whether most pixels differ from the one to their left, or those that do differ by little, as in photographs. Text, even
// smoothed and coloured, stands on a ground of one colour with sharp edges. Where there are not many colours, three of four must differ.
// Every fourth row is looked at.
func soft(px []uint32, stride, w, h int, many bool) bool {
	same, little, seen := 0, 0, 0
	for y := 0; y < h; y += 4 {
		row := px[y*stride : y*stride+w]
		for x := 1; x < len(row); x++ {
			switch a, b := row[x], row[x-1]; {
			case a == b:
				same++
			case near(a, b):
				little++
			}
		}
		seen += w - 1
	}
	if !many {
		return 4*same < seen
	}
	return mostly(same, little, seen)
}

// mostly is what soft asks for where there are many colours: of the pixels seen, so many are the same as the one to their left, and so many
// differ by little.
func mostly(same, little, seen int) bool { return 2*same < seen || 4*little > 3*(seen-same) }

// near says whether each byte of two pixels differs by less than 16 or so.
func near(a, b uint32) bool {
	const high = 0x80808080
	d := (a>>1&^high | high) - b>>1&^high + 0x08080808 // half the difference of each byte, as 0x88 and more or less
	return d&0xf0f0f0f0 == high
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

// paletteRun sends block i of n and as many of the following as share its kind and fit into one palette. It returns the
// first block that it did not send.
func (e *Encoder) paletteRun(b *Batch, p Params, band image.Rectangle, n, i int) int {
	t, w, h := &e.band, band.Dx(), band.Dy()
	limit := maxColours
	if t.blocks[i].kind == mono {
		limit = 2
	}
	e.pal.reset()
	from := i * bandRows
	for first := i; i < n && t.blocks[i].kind == t.blocks[first].kind; i++ {
		if !e.renumber(i, w, h, limit) {
			break
		}
	}
	end := min(i*bandRows, w)

	b.Bytes = appendRect(b.Bytes, image.Rect(band.Min.X+from, band.Min.Y, band.Min.X+end, band.Max.Y), Tight)
	b.Count++
	stream := streamIndexed
	e.buf = e.buf[:0]
	for y := range h {
		row := t.numbers[y*w+from : y*w+end]
		if limit > 2 {
			e.buf = append(e.buf, row...)
			continue
		}
		for len(row) >= 8 {
			e.buf = append(e.buf, row[0]<<7|row[1]<<6|row[2]<<5|row[3]<<4|row[4]<<3|row[5]<<2|row[6]<<1|row[7])
			row = row[8:]
		}
		if len(row) > 0 {
			var bits byte
			for j, v := range row {
				bits |= v << (7 - j)
			}
			e.buf = append(e.buf, bits)
		}
	}
	if limit == 2 {
		stream = streamMono
	}
	b.Bytes = append(b.Bytes, tightFilter|byte(stream<<4), tightPalette, byte(e.pal.n-1))
	b.Bytes = tightPacking(p.Format).append(b.Bytes, e.pal.colours[:e.pal.n])
	e.tightData(b, p, stream)
	return i
}

// renumber gives the pixels of a block, whose rows lie w apart, the numbers of e.pal, to which it adds what is new; false, and nothing has
// changed, when there would be more than limit.
func (e *Encoder) renumber(block, w, h, limit int) bool {
	t := &e.band
	var to [maxColours]byte
	before, moved := e.pal.n, false
	for i, v := range t.colours[block][:t.count[block]] {
		n := e.pal.number(v, limit)
		if n < 0 {
			e.pal.cut(before)
			return false
		}
		to[i], moved = byte(n), moved || n != i
	}
	if !moved {
		return true
	}
	x := block * bandRows
	for y := range h {
		row := t.numbers[y*w+x : y*w+min(x+bandRows, w)]
		for i, v := range row {
			row[i] = to[v]
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
	b.Bytes = append(appendRect(b.Bytes, r, Tight), streamFull<<4)
	b.Count++
	e.tightData(b, p, streamFull)
}

// tightData appends e.buf, compressed when it is worth it.
func (e *Encoder) tightData(b *Batch, p Params, stream int) {
	if len(e.buf) < tightMinData {
		b.Bytes = append(b.Bytes, e.buf...)
		return
	}
	data := e.deflate.piece(stream, p.Compress, e.buf)
	if b.first[stream] == 0 {
		b.first[stream] = len(b.Bytes)
	}
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

// length reads such a length of ours, and its size in bytes.
func length(b []byte) (n, size int) {
	switch {
	case b[0] < 0x80:
		return int(b[0]), 1
	case b[1] < 0x80:
		return int(b[0]&0x7f) | int(b[1])<<7, 2
	}
	return int(b[0]&0x7f) | int(b[1]&0x7f)<<7 | int(b[2])<<14, 3
}

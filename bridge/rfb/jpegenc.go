package rfb

import (
	"encoding/binary"
	"image"
	"slices"

	"github.com/helmline/helmline/bridge/frame"
)

// goJPEG writes JPEG pictures: baseline, one scan, the tables of ITU-T T.81, annex K, steps scaled as libjpeg does. It goes
// through a picture in units 16 pixels wide, so that everything but input and output stays in the processor's first cache:
// colours are converted into pairs of blocks (jpegdct.go), these are transformed, quantised and written (jpeghuff.go).
// It takes no memory but the tables of each quality, once.
type goJPEG struct {
	tables [101]*jpegTables // by quality
	bits   bitWriter

	// The unit being encoded.
	luma   [2]pair                              // blocks side by side; in 4:2:0 two rows of them
	cb, cr pair                                 // of 4:4:4; else the colours are the two blocks of cb
	edge   [16 * 16 * frame.BytesPerPixel]uint8 // its pixels, if it reaches over the picture's edge
}

// jpegTables is what a quality stands for.
type jpegTables struct {
	steps        []byte // the segments that say them
	luma, chroma *quantiser
}

// The steps of T.81, section K.1, row by row: of brightness and of colours.
var jpegSteps = [2][64]int{{
	16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
	18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
}, {
	17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
	99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
}}

func newTables(quality int) *jpegTables {
	percent := 200 - 2*quality
	if quality < 50 {
		percent = 5000 / quality
	}
	t := &jpegTables{}
	var q [2]*quantiser
	for i := range jpegSteps {
		var steps [64]uint8
		for k, at := range zigzag {
			steps[k] = uint8(min(max((jpegSteps[i][at]*percent+50)/100, 1), 255))
		}
		t.steps = append(append(t.steps, 0xff, markerDQT, 0, 67, byte(i)), steps[:]...)
		q[i] = newQuantiser(&steps)
	}
	t.luma, t.chroma = q[0], q[1]
	return t
}

// append appends r of img as a whole picture.
func (e *goJPEG) append(dst []byte, img frame.Image, r image.Rectangle, q jpegQuality) []byte {
	t := e.tables[q.quality]
	if t == nil {
		t = newTables(int(q.quality))
		e.tables[q.quality] = t
	}
	e.bits = bitWriter{out: t.head(dst, r.Dx(), r.Dy(), q.sub), free: 64}
	y := component{steps: t.luma, means: &codesOf[0], rest: &codesOf[1]}
	cb := component{steps: t.chroma, means: &codesOf[2], rest: &codesOf[3]}
	cr := cb
	rows := 8
	if q.sub == Sub420 {
		rows = 16
	}
	for top := r.Min.Y; top < r.Max.Y; top += rows {
		for left := r.Min.X; left < r.Max.X; left += 16 {
			pix, stride := e.unit(img, image.Rect(left, top, left+16, top+rows), r)
			e.bits.out = slices.Grow(e.bits.out, 6*maxCoded+8)
			right, below := left+8 < r.Max.X, top+8 < r.Max.Y // is the picture there
			switch q.sub {
			case Sub444:
				e.convert444(pix, stride)
				e.unit444(&y, &cb, &cr, right)
			case Sub422:
				e.convert422(pix, stride)
				e.unitLuma(&e.luma[0], &y, right)
				e.unitChroma(&cb, &cr)
			default:
				e.convert420(pix, stride)
				e.unitLuma(&e.luma[0], &y, right)
				if below {
					e.unitLuma(&e.luma[1], &y, right)
				} else {
					e.bits.blank(&y)
					e.bits.blank(&y)
				}
				e.unitChroma(&cb, &cr)
			}
		}
	}
	e.bits.end()
	return append(e.bits.out, 0xff, markerEOI)
}

// unit gives the pixels of a unit of r. Where it reaches over r's edge, the last ones are repeated.
func (e *goJPEG) unit(img frame.Image, unit, r image.Rectangle) (pix []byte, stride int) {
	if unit.Max.X <= r.Max.X && unit.Max.Y <= r.Max.Y {
		return img.Pix[(unit.Min.Y-img.Rect.Min.Y)*img.Stride+(unit.Min.X-img.Rect.Min.X)*frame.BytesPerPixel:], img.Stride
	}
	const size = 16 * frame.BytesPerPixel
	for y := range unit.Dy() {
		row := e.edge[y*size : (y+1)*size]
		n := copy(row, img.Row(min(unit.Min.Y+y, r.Max.Y-1), unit.Min.X, min(unit.Max.X, r.Max.X)))
		for ; n < size; n++ {
			row[n] = row[n-frame.BytesPerPixel]
		}
	}
	return e.edge[:], size
}

// unitLuma transforms and writes two blocks of brightness. Where the second lies beyond the edge it is blank.
func (e *goJPEG) unitLuma(p *pair, y *component, right bool) {
	p.transform()
	m, n := y.steps.nonzero(p)
	e.bits.block(y, p, false, m)
	if right {
		e.bits.block(y, p, true, n)
	} else {
		e.bits.blank(y)
	}
}

// unitChroma transforms and writes the colours of a unit in which they share a pair.
func (e *goJPEG) unitChroma(cb, cr *component) {
	e.cb.transform()
	m, n := cb.steps.nonzero(&e.cb)
	e.bits.block(cb, &e.cb, false, m)
	e.bits.block(cr, &e.cb, true, n)
}

// unit444 transforms and writes a unit in which each half has all three colours, and leaves the right half out if it
// lies beyond the edge.
func (e *goJPEG) unit444(y, cb, cr *component, right bool) {
	e.luma[0].transform()
	e.cb.transform()
	e.cr.transform()
	my, ny := y.steps.nonzero(&e.luma[0])
	mb, nb := cb.steps.nonzero(&e.cb)
	mr, nr := cr.steps.nonzero(&e.cr)
	e.bits.block(y, &e.luma[0], false, my)
	e.bits.block(cb, &e.cb, false, mb)
	e.bits.block(cr, &e.cr, false, mr)
	if right {
		e.bits.block(y, &e.luma[0], true, ny)
		e.bits.block(cb, &e.cb, true, nb)
		e.bits.block(cr, &e.cr, true, nr)
	}
}

// Conversion is by the matrix of JFIF (ITU-R BT.601, full range), in units of 2^-16, and for two pixels at once, whose colours are
// in both halves of a number as in a pair.
const bytes2 = 0xff * twice

// couple reads pixels 2x and 2x+1 of a row of a unit, and with each the one eight to its right.
func couple(row *[64]byte, x int) (b0, g0, r0, b1, g1, r1 uint64) {
	x = x & 3 * 8
	p := uint64(binary.LittleEndian.Uint32(row[x:])) | uint64(binary.LittleEndian.Uint32(row[x+32:]))<<32
	q := uint64(binary.LittleEndian.Uint32(row[x+4:])) | uint64(binary.LittleEndian.Uint32(row[x+36:]))<<32
	return p & bytes2, p >> 8 & bytes2, p >> 16 & bytes2, q & bytes2, q >> 8 & bytes2, q >> 16 & bytes2
}

func lumaOf(b, g, r uint64) int64 {
	return int64((19595*r + 38470*g + 7471*b + 1<<15*twice) >> 16 & bytes2)
}

// chromaOf takes sums of 2^n pixels.
func chromaOf(b, g, r uint64, n int) (cb, cr uint64) {
	middle := (128<<16 + 1<<15 - 1) << n * uint64(twice)
	cb = (32768*b - 21712*g - 11056*r + middle) >> (16 + n) & bytes2
	cr = (32768*r - 27440*g - 5328*b + middle) >> (16 + n) & bytes2
	return cb, cr
}

// setColours sets columns x and x+4 of a row of cb, of which cb and cr have one in each half.
func setColours(row *[8]int64, x int, cb, cr uint64) {
	row[x&3] = int64(cb&0xff | cr<<32)
	row[x&3+4] = int64(cb>>32 | cr>>32<<32)
}

func (e *goJPEG) convert444(pix []byte, stride int) {
	for y := 0; y < 8; y++ {
		row := (*[64]byte)(pix[y*stride:])
		l, blue, red := (*[8]int64)(e.luma[0][8*y:]), (*[8]int64)(e.cb[8*y:]), (*[8]int64)(e.cr[8*y:])
		for x := 0; x < 4; x++ {
			b0, g0, r0, b1, g1, r1 := couple(row, x)
			l[2*x], l[2*x+1] = lumaOf(b0, g0, r0), lumaOf(b1, g1, r1)
			cb, cr := chromaOf(b0, g0, r0, 0)
			blue[2*x], red[2*x] = int64(cb), int64(cr)
			cb, cr = chromaOf(b1, g1, r1, 0)
			blue[2*x+1], red[2*x+1] = int64(cb), int64(cr)
		}
	}
}

func (e *goJPEG) convert422(pix []byte, stride int) {
	for y := 0; y < 8; y++ {
		row := (*[64]byte)(pix[y*stride:])
		l, colours := (*[8]int64)(e.luma[0][8*y:]), (*[8]int64)(e.cb[8*y:])
		for x := 0; x < 4; x++ {
			b0, g0, r0, b1, g1, r1 := couple(row, x)
			l[2*x], l[2*x+1] = lumaOf(b0, g0, r0), lumaOf(b1, g1, r1)
			cb, cr := chromaOf(b0+b1, g0+g1, r0+r1, 1)
			setColours(colours, x, cb, cr)
		}
	}
}

func (e *goJPEG) convert420(pix []byte, stride int) {
	for y := 0; y < 8; y++ {
		upper, lower := (*[64]byte)(pix[2*y*stride:]), (*[64]byte)(pix[(2*y+1)*stride:])
		l, colours := (*[16]int64)(e.luma[y>>2&1][y&3*16:]), (*[8]int64)(e.cb[8*y:])
		for x := 0; x < 4; x++ {
			b0, g0, r0, b1, g1, r1 := couple(upper, x)
			l[2*x], l[2*x+1] = lumaOf(b0, g0, r0), lumaOf(b1, g1, r1)
			b, g, r := b0+b1, g0+g1, r0+r1
			b0, g0, r0, b1, g1, r1 = couple(lower, x)
			l[2*x+8], l[2*x+9] = lumaOf(b0, g0, r0), lumaOf(b1, g1, r1)
			cb, cr := chromaOf(b+b0+b1, g+g0+g1, r+r0+r1, 2)
			setColours(colours, x, cb, cr)
		}
	}
}

// Markers of segments. T.81, table B.1.
const (
	markerSOF0 = 0xc0 // the frame of a baseline picture
	markerDHT  = 0xc4 // Huffman tables
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda // the scan, which ends the segments
	markerDQT  = 0xdb // steps
	markerAPP0 = 0xe0 // JFIF
)

// head appends what stands before the scan, in the order of libjpeg, on which viewers have come to rely.
func (t *jpegTables) head(dst []byte, w, h int, sub Subsampling) []byte {
	dst = append(dst, 0xff, markerSOI, 0xff, markerAPP0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0)
	dst = append(dst, t.steps...)
	sampling := byte(0x11) // how many blocks of brightness there are beside each other, and below, for one of colour
	switch sub {
	case Sub422:
		sampling = 0x21
	case Sub420:
		sampling = 0x22
	}
	dst = append(dst, 0xff, markerSOF0, 0, 17, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1)
	for i := range huffmanTables {
		h := &huffmanTables[i]
		dst = append(dst, 0xff, markerDHT, 0, byte(19+len(h.values)), h.class)
		dst = append(append(dst, h.counts[:]...), h.values...)
	}
	return append(dst, 0xff, markerSOS, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0)
}

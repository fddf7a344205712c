package rfb

import (
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// Params says how to encode. It is comparable: equal Params and equal pixels give bytes that serve every viewer.
type Params struct {
	Encoding int32       // Raw, RRE, Hextile, Zlib, Tight or ZRLE; anything else is Raw
	Format   PixelFormat // has passed Check
	Quality  int8        // JPEG quality level 0 … 9; -1: no JPEG
	Fine     uint8       // 1 … 100 on libjpeg's scale; 0: what the quality level stands for
	Sub      Subsampling // SubByLevel: that of the quality level
	JPEG     bool        // the encoding JPEG instead of that within Tight
	Compress int8        // compress level 0 … 9, or -1 for the default
	Lossless bool        // no JPEG, whatever Quality says
}

// plain clears what makes no difference.
func (p Params) plain() Params {
	switch p.Encoding {
	case Raw, RRE, Hextile:
		p.Compress, p.Quality = -1, -1
	case Zlib, ZRLE:
		p.Compress, p.Quality = levelName(p.Compress), -1
	case Tight:
		p.Compress = levelName(p.Compress)
		if p.Format.is888() {
			p.Format = Native // pixels go as red, green, blue whatever the shifts
		}
		if p.Format.BitsPerPixel < 16 || p.Quality < 0 || p.Lossless {
			p.Quality = -1
		}
		p.Quality = min(p.Quality, 9)
	default:
		p = Params{Encoding: Raw, Format: p.Format, Quality: -1, Compress: -1}
	}
	if p.Lossless = p.Quality < 0; p.Lossless {
		p.Fine, p.Sub, p.JPEG = 0, SubByLevel, false
		return p
	}
	q := p.jpeg()
	p.Quality, p.Fine, p.Sub = levelOf(q.quality), q.quality, q.sub
	if jpegLevels[p.Quality] == q {
		p.Fine, p.Sub = 0, SubByLevel
	}
	return p
}

// Sizes of what is worked on at once.
const (
	maxWidth = 2048    // pixels; Tight allows no wider rectangle
	maxArea  = 1 << 18 // pixels of a rectangle
	bandRows = 64      // rows that are converted at once, and the side of blocks and ZRLE's tiles
	bandArea = maxWidth * bandRows
	hexTile  = 16
)

// An Encoder turns pixels into rectangles. It holds tables and scratch memory, some megabytes, and is used by one goroutine at
// a time; keep it for the next batch. Nothing of one batch shows in another.
type Encoder struct {
	conv converter
	px   []uint32 // the band being encoded, in pixel values
	work []uint32 // a tile of ZRLE; what of a tile is not yet covered by subrects
	subs []subrect
	tile [hexTile * hexTile]uint32 // of Hextile

	pal     palette
	band    tightBand
	open    []piece // of Tight: rectangles that may still grow
	buf     []byte  // what is to be compressed, or a JPEG picture
	deflate deflater
	jpeg    jpegEncoder
}

// Append encodes rects of img and appends them to b. The rectangles lie in img.Rect (what does not is left out) and become
// one or several rectangles each. img is read once or twice; when another process changes it meanwhile, the picture
// is wrong but nothing else.
func (e *Encoder) Append(b *Batch, p Params, img frame.Image, rects []image.Rectangle) {
	p = p.plain()
	e.conv.set(p.Format)
	e.deflate.restart()
	for _, r := range rects {
		r = r.Intersect(img.Rect)
		for x := r.Min.X; x < r.Max.X; x += maxWidth {
			w := min(maxWidth, r.Max.X-x)
			rows := max(maxArea/w/bandRows, 1) * bandRows
			for y := r.Min.Y; y < r.Max.Y; y += rows {
				e.rect(b, p, img, image.Rect(x, y, x+w, min(y+rows, r.Max.Y)))
			}
		}
	}
}

// rect encodes a rectangle of at most maxWidth and maxArea.
func (e *Encoder) rect(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	switch p.Encoding {
	case Hextile:
		e.hextile(b, p, img, r)
	case RRE:
		e.rre(b, p, img, r)
	case Zlib:
		e.zlib(b, p, img, r)
	case Tight:
		e.tight(b, p, img, r)
	case ZRLE:
		e.zrle(b, p, img, r)
	default:
		e.raw(b, p, img, r)
	}
}

// load converts the rows of r, at most bandRows of them, into e.px.
func (e *Encoder) load(img frame.Image, r image.Rectangle) []uint32 {
	return e.loadAt(img, r, r.Dx()*r.Dy(), 0, r.Dx())
}

// loadAt is load for a part of a band of size pixels, which begins at pixel at of e.px and whose rows lie stride apart there.
func (e *Encoder) loadAt(img frame.Image, r image.Rectangle, size, at, stride int) []uint32 {
	if cap(e.px) < size {
		e.px = make([]uint32, min(max(size, 1<<14), bandArea))
	}
	px := e.px[at:size]
	for y := range r.Dy() {
		e.conv.row(px[y*stride:y*stride+r.Dx()], img.Row(r.Min.Y+y, r.Min.X, r.Max.X))
	}
	return px
}

// bands calls f for the parts of r that load takes, top to bottom.
func bands(r image.Rectangle) func(func(image.Rectangle) bool) {
	return func(yield func(image.Rectangle) bool) {
		for y := r.Min.Y; y < r.Max.Y; y += bandRows {
			if !yield(image.Rect(r.Min.X, y, r.Max.X, min(y+bandRows, r.Max.Y))) {
				return
			}
		}
	}
}

// raw is RFC 6143, section 7.7.1.
func (e *Encoder) raw(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	b.Bytes = appendRect(b.Bytes, r, Raw)
	b.Count++
	to := p.Format.packing()
	for band := range bands(r) {
		b.Bytes = to.append(b.Bytes, e.load(img, band))
	}
}

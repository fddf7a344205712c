package rfb

import (
	"encoding/binary"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// A Subsampling says how many colours the pixels of a JPEG picture share.
type Subsampling uint8

// Subsamplings. The zero one is what the quality level stands for.
const (
	SubByLevel Subsampling = iota
	Sub444                 // each pixel has its colour
	Sub422                 // two pixels beside each other share one
	Sub420                 // 2×2 pixels do
)

// jpegQuality is what a JPEG picture depends on beside its pixels.
type jpegQuality struct {
	quality uint8 // 1 … 100, on libjpeg's scale
	sub     Subsampling
}

// jpegLevels is what the quality levels 0 … 9 of viewers stand for, as in TigerVNC.
var jpegLevels = [10]jpegQuality{
	{15, Sub420}, {29, Sub420}, {41, Sub420}, {42, Sub422}, {62, Sub422},
	{77, Sub422}, {79, Sub444}, {86, Sub444}, {92, Sub444}, {100, Sub444},
}

// levelOf is the lowest quality level that is as good as a fine quality.
func levelOf(quality uint8) int8 {
	for l, q := range jpegLevels {
		if quality <= q.quality {
			return int8(l)
		}
	}
	return int8(len(jpegLevels) - 1)
}

// jpeg is how to make JPEG pictures. p.Quality is not -1.
func (p Params) jpeg() jpegQuality {
	q := jpegLevels[p.Quality]
	if p.Fine > 0 {
		q.quality = min(p.Fine, 100)
	}
	if p.Sub > SubByLevel && p.Sub <= Sub420 {
		q.sub = p.Sub
	}
	return q
}

// subsamplingOf is the nearest of what is asked for by PseudoSubsampling0 + i: TurboVNC knows no colours at all (3) and less than
// Sub420 (4, 5) too.
func subsamplingOf(i int32) Subsampling {
	return [...]Subsampling{Sub444, Sub420, Sub422, Sub420, Sub420, Sub420}[i]
}

// photo sends r as a JPEG picture, and notes that it is not exact.
func (e *Encoder) photo(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	q := p.jpeg()
	e.buf = e.jpeg.append(e.buf[:0], img, r, q)
	if len(e.buf) > tightMaxData {
		e.tightFull(b, p, img, r) // cannot happen at sizes up to maxArea
		return
	}
	if p.JPEG {
		b.Bytes = appendRect(b.Bytes, r, JPEG)
		if b.jpegTables == q.quality {
			b.Bytes = appendBare(b.Bytes, e.buf)
		} else {
			b.Bytes = append(b.Bytes, e.buf...)
		}
		b.jpegTables = q.quality
	} else {
		b.Bytes = append(appendRect(b.Bytes, r, Tight), tightJPEG)
		b.Bytes = append(appendLength(b.Bytes, len(e.buf)), e.buf...)
	}
	b.Count++
	b.Lossy = append(b.Lossy, r)
}

// appendBare appends a picture of ours without its tables. Viewers that decode the encoding JPEG use those of the rectangle before
// it then. As a batch goes to viewers that have seen different ones, its first rectangle has them all, whatever was sent before.
func appendBare(dst, picture []byte) []byte {
	dst, picture = append(dst, picture[:2]...), picture[2:]
	for picture[1] != markerSOS {
		n := 2 + int(binary.BigEndian.Uint16(picture[2:]))
		if m := picture[1]; m != markerDQT && m != markerDHT {
			dst = append(dst, picture[:n]...)
		}
		picture = picture[n:]
	}
	return append(dst, picture...)
}

package rfb

import (
	"image"
	"image/jpeg"

	"github.com/helmline/helmline/bridge/frame"
)

// qualities is what the quality levels 0 … 9 of viewers stand for on libjpeg's scale of 1 … 100, as in TigerVNC and TurboVNC.
var qualities = [10]int{15, 29, 41, 42, 62, 77, 79, 86, 92, 100}

// levelOf is the quality level for a fine quality, 0 … 100.
func levelOf(fine int) int8 {
	for l, q := range qualities {
		if fine <= q {
			return int8(l)
		}
	}
	return 9
}

// tightJPEG sends r as a JPEG picture with colours at half the resolution, and notes that it is not exact.
func (e *Encoder) tightJPEG(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	e.jpeg.load(img, r)
	e.deflate.out.b = e.deflate.out.b[:0]
	e.jpegOptions.Quality = qualities[p.Quality]
	if err := jpeg.Encode(&e.deflate.out, &e.jpeg.YCbCr, &e.jpegOptions); err != nil || len(e.deflate.out.b) > tightMaxData {
		e.tightFull(b, p, img, r) // cannot happen at sizes up to maxArea
		return
	}
	b.Bytes = append(appendRect(b.Bytes, r, Tight), tightJPEG)
	b.Bytes = append(appendLength(b.Bytes, len(e.deflate.out.b)), e.deflate.out.b...)
	b.Count++
	b.Lossy = append(b.Lossy, r)
}

// A ycbcr is a picture as JPEG wants it: brightness, and two colour differences for every 2×2 pixels.
type ycbcr struct{ image.YCbCr }

// load converts r of img by the matrix of JFIF (ITU-R BT.601, full range).
func (m *ycbcr) load(img frame.Image, r image.Rectangle) {
	w, h := r.Dx(), r.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	m.Rect = image.Rect(0, 0, w, h)
	m.SubsampleRatio = image.YCbCrSubsampleRatio420
	m.YStride, m.CStride = w, cw
	m.Y, m.Cb, m.Cr = resize(m.Y, w*h), resize(m.Cb, cw*ch), resize(m.Cr, cw*ch)
	for y := 0; y < h; y += 2 {
		last := min(y+1, h-1) // an odd last row counts twice, as does an odd last column
		top, bottom := img.Row(r.Min.Y+y, r.Min.X, r.Max.X), img.Row(r.Min.Y+last, r.Min.X, r.Max.X)
		yTop, yBottom := m.Y[y*w:(y+1)*w], m.Y[last*w:(last+1)*w]
		cb, cr := m.Cb[y/2*cw:(y/2+1)*cw], m.Cr[y/2*cw:(y/2+1)*cw]
		for c := range w / 2 {
			p, q := top[8*c:8*c+8:8*c+8], bottom[8*c:8*c+8:8*c+8]
			yTop[2*c], yTop[2*c+1] = luma(p[0], p[1], p[2]), luma(p[4], p[5], p[6])
			yBottom[2*c], yBottom[2*c+1] = luma(q[0], q[1], q[2]), luma(q[4], q[5], q[6])
			cb[c], cr[c] = chroma(
				int32(p[0])+int32(p[4])+int32(q[0])+int32(q[4]),
				int32(p[1])+int32(p[5])+int32(q[1])+int32(q[5]),
				int32(p[2])+int32(p[6])+int32(q[2])+int32(q[6]))
		}
		if w%2 != 0 {
			p, q := top[4*w-4:], bottom[4*w-4:]
			yTop[w-1], yBottom[w-1] = luma(p[0], p[1], p[2]), luma(q[0], q[1], q[2])
			cb[cw-1], cr[cw-1] = chroma(2*(int32(p[0])+int32(q[0])), 2*(int32(p[1])+int32(q[1])), 2*(int32(p[2])+int32(q[2])))
		}
	}
}

func luma(blue, green, red byte) byte {
	return byte((19595*uint32(red) + 38470*uint32(green) + 7471*uint32(blue) + 1<<15) >> 16)
}

// chroma takes sums of four pixels.
func chroma(blue, green, red int32) (cb, cr byte) {
	const middle = 128<<18 + 1<<17
	cb = byte(min((-11056*red-21712*green+32768*blue+middle)>>18, 255))
	cr = byte(min((32768*red-27440*green-5328*blue+middle)>>18, 255))
	return cb, cr
}

// resize makes b n bytes long; what they hold does not matter.
func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

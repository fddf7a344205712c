//go:build turbo

package rfb

// #cgo LDFLAGS: -l:libturbojpeg.a
// #cgo noescape compress
// #cgo nocallback compress
// #include <turbojpeg.h>
//
// // compress returns how long the picture in out is, or -1. out has room for tjBufSize bytes.
// static long compress(tjhandle h, const unsigned char *pix, int width, int stride, int height,
// 		unsigned char *out, int subsampling, int quality) {
// 	unsigned long size = 0;
// 	if (tjCompress2(h, pix, width, stride, height, TJPF_BGRX, &out, &size, subsampling, quality, TJFLAG_NOREALLOC | TJFLAG_ACCURATEDCT) != 0)
// 		return -1;
// 	return size;
// }
import "C"

import (
	"image"
	"runtime"
	"slices"
	"unsafe"

	"github.com/helmline/helmline/bridge/frame"
)

// jpegEncoder is what an Encoder makes JPEG pictures with.
type jpegEncoder = turboJPEG

// turboJPEG makes JPEG pictures by libjpeg-turbo, with the same tables as goJPEG, to which it leaves what the library refuses.
type turboJPEG struct {
	handle *turboHandle
	slow   goJPEG
}

// A turboHandle is the library's state. It is freed when the encoder is collected.
type turboHandle struct{ h C.tjhandle } // nil when there was no memory for it

func newTurboHandle() *turboHandle {
	t := &turboHandle{C.tjInitCompress()}
	if t.h != nil {
		runtime.AddCleanup(t, func(h C.tjhandle) { C.tjDestroy(h) }, t.h)
	}
	return t
}

// append appends r of img as a whole picture.
func (e *turboJPEG) append(dst []byte, img frame.Image, r image.Rectangle, q jpegQuality) []byte {
	if e.handle == nil {
		e.handle = newTurboHandle()
	}
	if e.handle.h == nil || img.Stride == 0 { // which would mean that rows follow each other
		return e.slow.append(dst, img, r, q)
	}
	sub := C.int(C.TJSAMP_420)
	switch q.sub {
	case Sub444:
		sub = C.TJSAMP_444
	case Sub422:
		sub = C.TJSAMP_422
	}
	w, h, n := C.int(r.Dx()), C.int(r.Dy()), len(dst)
	dst = slices.Grow(dst, int(C.tjBufSize(w, h, sub)))
	pix, out := img.Row(r.Min.Y, r.Min.X, r.Max.X), dst[n:n+1]
	size := int(C.compress(e.handle.h, (*C.uchar)(unsafe.Pointer(&pix[0])), w, C.int(img.Stride), h,
		(*C.uchar)(unsafe.Pointer(&out[0])), sub, C.int(q.quality)))
	runtime.KeepAlive(e.handle)
	if size < 0 {
		return e.slow.append(dst, img, r, q)
	}
	return dst[:n+size]
}

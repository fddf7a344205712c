package rfb

import (
	"encoding/binary"
	"image"

	"github.com/klauspost/compress/flate"

	"github.com/helmline/helmline/bridge/frame"
)

// The streams that are kept apart, because their bytes look different. Their numbers are those of Tight; Zlib and ZRLE use
// the first.
const (
	streamFull = iota
	streamMono
	streamIndexed
	streams
)

// levels are the deflate levels in use; levelFor gives one for each compress level of a viewer.
var levels = [...]int{1, 2, 5, 6}

// levelFor is an index of levels. Compress level 2 is what viewers ask for when nobody chose one.
func levelFor(compress int8) int {
	switch {
	case compress < 3:
		return 0
	case compress < 5:
		return 1
	case compress < 8:
		return 2
	}
	return 3
}

// levelName is the compress level that stands for all with the same index of levels.
func levelName(compress int8) int8 { return [...]int8{1, 3, 5, 9}[levelFor(compress)] }

// A sink collects what is written to it.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) { s.b = append(s.b, p...); return len(p), nil }
func (s *sink) WriteByte(c byte) error      { s.b = append(s.b, c); return nil }
func (s *sink) Flush() error                { return nil }

// A deflater compresses pieces of several streams. Pieces of a stream look back to others since restart, but no further.
type deflater struct {
	out     sink
	writers [streams][len(levels)]*flate.Writer
	begun   [streams]bool // since restart
}

// restart makes the next piece of every stream one that does not look back.
func (d *deflater) restart() { d.begun = [streams]bool{} }

// piece compresses data as the next piece of a stream and ends it on a byte. The result is valid until the next call.
// A stream keeps its level until restart.
func (d *deflater) piece(stream int, compress int8, data []byte) []byte {
	w := &d.writers[stream][levelFor(compress)]
	d.out.b = d.out.b[:0]
	switch {
	case *w == nil:
		var err error
		if *w, err = flate.NewWriter(&d.out, levels[levelFor(compress)]); err != nil {
			panic(err) // the level is one of ours
		}
	case !d.begun[stream]:
		(*w).Reset(&d.out)
	}
	d.begun[stream] = true
	_, _ = (*w).Write(data) // a sink takes everything
	_ = (*w).Flush()
	return d.out.b
}

// zlib encodes r as raw pixels in the stream of the encoding Zlib.
func (e *Encoder) zlib(b *Batch, p Params, img frame.Image, r image.Rectangle) {
	e.buf = e.buf[:0]
	to := p.Format.packing()
	for band := range bands(r) {
		e.buf = to.append(e.buf, e.load(img, band))
	}
	e.appendStream(b, p, r, &b.first[zlibStream])
}

// appendStream appends a rectangle whose payload is e.buf, compressed. first is where the batch notes its first one.
func (e *Encoder) appendStream(b *Batch, p Params, r image.Rectangle, first *int) {
	b.Bytes = appendRect(b.Bytes, r, p.Encoding)
	b.Count++
	if *first == 0 {
		*first = len(b.Bytes)
	}
	data := e.deflate.piece(streamFull, p.Compress, e.buf)
	b.Bytes = binary.BigEndian.AppendUint32(b.Bytes, uint32(len(data)))
	b.Bytes = append(b.Bytes, data...)
}

package rfb

import (
	"encoding/binary"
	"image"
	"io"
)

// A Batch is rectangles, encoded once for every viewer of the same Params. When it is complete, any number of goroutines may
// send it.
type Batch struct {
	Bytes []byte
	Count int               // rectangles in Bytes; an update holds fewer than UnknownRects
	Lossy []image.Rectangle // what was sent by JPEG and is not exact

	zlib, zrle int   // where the first rectangle's length stands in Bytes; 0: there is none
	jpegTables uint8 // the quality whose tables the last rectangle of the encoding JPEG left behind; 0: there is none
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Bytes, b.Lossy = b.Bytes[:0], b.Lossy[:0]
	b.Count, b.zlib, b.zrle, b.jpegTables = 0, 0, 0, 0
}

// A StreamState is what one viewer's decompressors have seen. The zero value is that of a viewer that just connected.
//
// Encodings by zlib have one stream for the life of a connection, and pieces made for one viewer cannot be read by another.
// So each piece is made without looking back, ends on a byte (sync flush) and begins no stream: then a piece can stand in any
// stream. What is left is the stream's header of two bytes, which the first piece that a viewer gets must have in front.
// Tight needs none of this, because there a piece can begin a stream anew.
type StreamState struct {
	OneStream bool // Capabilities.OneStream of the viewer

	zlib, zrle bool // the header was sent
}

// zlibHeader begins a stream: deflate, window of 32 KiB, no dictionary. RFC 1950.
const zlibHeader = "\x78\x01"

// Send writes the batch for the viewer with state s.
func (b *Batch) Send(w io.Writer, s *StreamState) error {
	from := 0
	at, n := b.headers(s)
	for _, at := range at[:n] {
		if _, err := w.Write(b.Bytes[from:at]); err != nil {
			return err
		}
		if _, err := w.Write(b.begin(at)); err != nil {
			return err
		}
		from = at + 4
	}
	_, err := w.Write(b.Bytes[from:])
	return err
}

// AppendTo appends the batch for the viewer with state s.
func (b *Batch) AppendTo(dst []byte, s *StreamState) []byte {
	from := 0
	at, n := b.headers(s)
	for _, at := range at[:n] {
		dst = append(append(dst, b.Bytes[from:at]...), b.begin(at)...)
		from = at + 4
	}
	return append(dst, b.Bytes[from:]...)
}

// headers is where stream headers are due, in order. It notes in s that they are sent.
func (b *Batch) headers(s *StreamState) (at [2]int, n int) {
	if b.zlib > 0 && !s.zlib {
		at[n], s.zlib = b.zlib, true
		n++
	}
	if b.zrle > 0 && !s.zrle {
		at[n], s.zrle = b.zrle, true
		n++
	}
	if n == 2 && at[0] > at[1] {
		at[0], at[1] = at[1], at[0]
	}
	if s.OneStream && n > 0 {
		s.zlib, s.zrle = true, true
		n = 1
	}
	return at, n
}

// begin is what stands at a length instead of it: the length with the header, and the header.
func (b *Batch) begin(at int) []byte {
	n := binary.BigEndian.Uint32(b.Bytes[at:]) + uint32(len(zlibHeader))
	return append(binary.BigEndian.AppendUint32(nil, n), zlibHeader...)
}

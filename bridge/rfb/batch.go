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

	first      [viewerStreams]int // where the length of each stream's first piece stands in Bytes; 0: there is none
	jpegTables uint8              // the quality whose tables the last rectangle of the encoding JPEG left behind; 0: there is none
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Bytes, b.Lossy = b.Bytes[:0], b.Lossy[:0]
	b.Count, b.first, b.jpegTables = 0, [viewerStreams]int{}, 0
}

// A StreamState is what one viewer's decompressors have seen. The zero value is that of a viewer that just connected.
//
// Encodings by zlib have one stream for the life of a connection, and pieces made for one viewer cannot be read by another.
// So each piece is made without looking back, ends on a byte (sync flush) and begins no stream: then a piece can stand in any
// stream. What is left is the stream's header of two bytes, which the first piece that a viewer gets must have in front.
//
// In Tight a piece could begin its stream anew instead. But noVNC 1.7 loses the thread there: behind such a beginning it cannot look back from
// a piece to the one before.
type StreamState struct {
	OneStream bool // Capabilities.OneStream of the viewer

	begun [viewerStreams]bool // the header was sent
}

// The streams of a viewer: those of Tight by their numbers, and one for each of the encodings Zlib and ZRLE.
const (
	zlibStream = streams + iota
	zrleStream
	viewerStreams
)

// zlibHeader begins a stream: deflate, window of 32 KiB, no dictionary. RFC 1950.
const zlibHeader = "\x78\x01"

// Send writes the batch for the viewer with state s.
func (b *Batch) Send(w io.Writer, s *StreamState) error {
	from := 0
	due, n := b.due(s)
	for _, d := range due[:n] {
		if _, err := w.Write(b.Bytes[from:d.at]); err != nil {
			return err
		}
		begin, size := b.begin(d)
		if _, err := w.Write(begin); err != nil {
			return err
		}
		from = d.at + size
	}
	_, err := w.Write(b.Bytes[from:])
	return err
}

// AppendTo appends the batch for the viewer with state s.
func (b *Batch) AppendTo(dst []byte, s *StreamState) []byte {
	from := 0
	due, n := b.due(s)
	for _, d := range due[:n] {
		begin, size := b.begin(d)
		dst = append(append(dst, b.Bytes[from:d.at]...), begin...)
		from = d.at + size
	}
	return append(dst, b.Bytes[from:]...)
}

// A place is where the length of a stream's first piece stands.
type place struct{ at, stream int }

// due is where stream headers are due, in order. It notes in s that they are sent.
func (b *Batch) due(s *StreamState) (due [viewerStreams]place, n int) {
	all := 0
	for stream, at := range b.first {
		if at == 0 {
			continue
		}
		due[all] = place{at, stream}
		for i := all; i > 0 && due[i].at < due[i-1].at; i-- {
			due[i], due[i-1] = due[i-1], due[i]
		}
		all++
	}
	for _, d := range due[:all] {
		if s.begun[d.stream] {
			continue
		}
		s.begun[d.stream] = true
		if s.OneStream && d.stream >= zlibStream {
			s.begun[zlibStream], s.begun[zrleStream] = true, true
		}
		due[n] = d
		n++
	}
	return due, n
}

// begin is what stands at a length of so many bytes instead of it: the length with the header, and the header.
func (b *Batch) begin(p place) (begin []byte, size int) {
	if p.stream >= zlibStream {
		n := binary.BigEndian.Uint32(b.Bytes[p.at:]) + uint32(len(zlibHeader))
		return append(binary.BigEndian.AppendUint32(nil, n), zlibHeader...), 4
	}
	n, size := length(b.Bytes[p.at:])
	return append(appendLength(nil, n+len(zlibHeader)), zlibHeader...), size
}

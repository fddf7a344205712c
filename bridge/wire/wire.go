// Package wire reads and writes the big-endian integers, counts and strings that Helmline's protocols are made of.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Reader takes a message apart. It keeps its first error: after one, every method returns zero values, so a
// parser checks Err once, at the end of a message. Input that ends inside a message is io.ErrUnexpectedEOF; input
// that ends before its first byte is io.EOF. A Reader is used by one goroutine.
type Reader struct {
	r     io.Reader
	err   error
	begun bool // a byte of the current message has arrived
	num   [8]byte
}

// NewReader reads from r, which should be buffered.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Begin marks the start of a message: from here to the first byte, an end of input is io.EOF again.
func (r *Reader) Begin() { r.begun = false }

// Err is the first error met.
func (r *Reader) Err() error { return r.err }

// Fail records err, unless an error stands already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Failf records a fault in the message.
func (r *Reader) Failf(format string, args ...any) { r.Fail(fmt.Errorf(format, args...)) }

// Full fills dst.
func (r *Reader) Full(dst []byte) {
	if r.err != nil || len(dst) == 0 {
		return
	}
	n, err := io.ReadFull(r.r, dst)
	if errors.Is(err, io.EOF) && (r.begun || n > 0) {
		err = io.ErrUnexpectedEOF
	}
	r.begun = r.begun || n > 0
	r.err = err
}

func (r *Reader) take(n int) []byte {
	b := r.num[:n]
	r.Full(b)
	if r.err != nil {
		clear(b)
	}
	return b
}

// U8 reads one byte.
func (r *Reader) U8() uint8 { return r.take(1)[0] }

// U16 reads two bytes.
func (r *Reader) U16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }

// U32 reads four bytes.
func (r *Reader) U32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

// U64 reads eight bytes.
func (r *Reader) U64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// Int32 reads a signed number of four bytes.
func (r *Reader) Int32() int32 { return int32(r.U32()) }

// Bool reads one byte; any value but zero is true.
func (r *Reader) Bool() bool { return r.U8() != 0 }

// Skip drops n bytes without keeping them.
func (r *Reader) Skip(n int64) {
	if r.err != nil || n <= 0 {
		return
	}
	m, err := io.CopyN(io.Discard, r.r, n)
	if errors.Is(err, io.EOF) && (r.begun || m > 0) {
		err = io.ErrUnexpectedEOF
	}
	r.begun = r.begun || m > 0
	r.err = err
}

// Count16 reads a count of at most max things.
func (r *Reader) Count16(things string, max int) int { return r.count(things, int64(r.U16()), max) }

// Count32 reads a count of at most max things.
func (r *Reader) Count32(things string, max int) int { return r.count(things, int64(r.U32()), max) }

func (r *Reader) count(things string, n int64, max int) int {
	if n > int64(max) {
		r.Failf("%d %s, more than %d", n, things, max)
		return 0
	}
	return int(n)
}

// String8 reads a length byte and a text of at most max bytes.
func (r *Reader) String8(what string, max int) string {
	return string(r.bytes(r.count("bytes of "+what, int64(r.U8()), max)))
}

// Bytes16 reads a two-byte length and at most max bytes.
func (r *Reader) Bytes16(what string, max int) []byte {
	return r.bytes(r.Count16("bytes of "+what, max))
}

// Bytes32 reads a four-byte length and at most max bytes.
func (r *Reader) Bytes32(what string, max int) []byte {
	return r.bytes(r.Count32("bytes of "+what, max))
}

// bytes reads n bytes, a number that was checked.
func (r *Reader) bytes(n int) []byte {
	if r.err != nil || n == 0 {
		return nil
	}
	b := make([]byte, n)
	r.Full(b)
	if r.err != nil {
		return nil
	}
	return b
}

// AppendString8 appends a length byte and s, cut to 255 bytes.
func AppendString8(dst []byte, s string) []byte {
	if len(s) > 255 {
		s = s[:255]
	}
	return append(append(dst, byte(len(s))), s...)
}

// AppendString32 appends a four-byte length and s.
func AppendString32(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// AppendBytes16 appends a two-byte length and b, which must be shorter than 64 KiB.
func AppendBytes16(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

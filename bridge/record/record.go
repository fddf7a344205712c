// Package record keeps what a watcher of a desktop receives in a file, and plays it. A file is FBS 001.000, as other programs for VNC
// write and play it:
//
//	"FBS 001.000\n"
//	blocks:  U32 length, data, padding to a multiple of four, U32 milliseconds since the start
//
// The data of all blocks together is what a server of RFB 3.3 sends: its version, the security type None, ServerInit, and then
// FramebufferUpdates. Each update begins a block, whose time is its own, and goes on in further ones of the same time if it is long. A file
// is of one size of the desktop, in pixels of blue, green, red and an unused byte, and its updates are of Tight, CopyRect, Raw, Cursor and
// LastRect. What was cut off in the middle, as by a kill, plays up to there.
//
// To jump in a file there are keys: places from which on nothing before is needed. They stand in an index, a file beside it, sealed as the
// recording is, and are found again from the recording itself when that is missing. A recording is input that is not trusted: whatever is in it and in its index, playing
// it takes bounded memory, and a wrong index costs time but shows no wrong picture.
//
//	tap.Tap → Writer      recording: package tap reads the stream of a server
//	Open → File → Player  playing
package record

import (
	"encoding/binary"
	"image"
	"io"
	"time"

	"github.com/helmline/helmline/bridge/wire"
)

const (
	magic = "FBS 001.000\n"

	// What the data begins with: the version, and the security type None as RFB 3.3 has it. RFC 6143, section 7.1.
	hello = "RFB 003.003\n\x00\x00\x00\x01"
)

// pixelFormat is the only one of a recording, 16 bytes. RFC 6143, section 7.4.
var pixelFormat = [16]byte{32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0}

// Limits of a file.
const (
	blockSize = 64 << 10 // bytes of data in a block, as written
	maxBlock  = 1 << 20  // and as read
	MaxName   = 255      // bytes of a desktop's name

	// MaxTime is the longest recording: its times have 32 bits.
	MaxTime = 24 * time.Hour
)

// A Writer writes a file. It is used by one goroutine. Its memory is one block.
type Writer struct {
	w    io.Writer
	buf  []byte // the block being filled, from its length on
	at   uint32 // its time, milliseconds
	size int64
	err  error
}

// NewWriter begins a file: the picture is of that size, and the name is cut to MaxName bytes.
func NewWriter(w io.Writer, size image.Point, name string) (*Writer, error) {
	f := &Writer{w: w, buf: make([]byte, 4, blockSize+12)}
	f.write([]byte(magic))
	init := binary.BigEndian.AppendUint16([]byte(hello), uint16(size.X))
	init = binary.BigEndian.AppendUint16(init, uint16(size.Y))
	init = append(init, pixelFormat[:]...)
	f.Begin(0)
	f.Write(wire.AppendString32(init, name[:min(len(name), MaxName)]))
	return f, f.End()
}

// Begin begins an update at a time since the start of the recording, at most MaxTime. Times do not go back.
func (f *Writer) Begin(at time.Duration) {
	f.buf = f.buf[:4]
	f.at = max(f.at, uint32(min(max(at, 0), MaxTime)/time.Millisecond))
}

// Write adds bytes to the update.
func (f *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && f.err == nil {
		m := min(len(p), 4+blockSize-len(f.buf))
		f.buf, p = append(f.buf, p[:m]...), p[m:]
		if len(f.buf) == 4+blockSize {
			f.block()
		}
	}
	return n, f.err
}

// End ends the update: all of it has been written.
func (f *Writer) End() error {
	if len(f.buf) > 4 {
		f.block()
	}
	return f.err
}

// Idle says that up to now nothing has changed: an update without a rectangle.
func (f *Writer) Idle(at time.Duration) error {
	f.Begin(at)
	f.Write([]byte{0, 0, 0, 0})
	return f.End()
}

// Size is how much has been written, bytes: where in the file, unsealed, the next update begins.
func (f *Writer) Size() int64 { return f.size }

func (f *Writer) block() {
	n := len(f.buf) - 4
	binary.BigEndian.PutUint32(f.buf, uint32(n))
	f.buf = append(f.buf, "\x00\x00\x00"[:-n&3]...)
	f.buf = binary.BigEndian.AppendUint32(f.buf, f.at)
	f.write(f.buf)
	f.buf = f.buf[:4]
}

func (f *Writer) write(p []byte) {
	if f.err != nil {
		return
	}
	n, err := f.w.Write(p)
	f.size, f.err = f.size+int64(n), err
}

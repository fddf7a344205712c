package rfb

import (
	"bufio"
	"fmt"
	"image"
	"io"
	"slices"
	"sync/atomic"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// Limits of a viewer's messages.
const (
	MaxEncodings    = 256       // distinct encodings kept of a list; the rest is dropped
	MaxCutText      = 256 << 10 // bytes of text handed on; a longer one is dropped
	MaxCutTextDrain = 16 << 20  // bytes of text dropped; a longer one ends the connection
	MaxClipboard    = 256 << 10 // bytes of a message of the clipboard extension; a longer one ends the connection
	MaxFence        = 64        // bytes of payload; a longer fence is dropped
)

// Optional names messages that a viewer may send only after the server has announced them.
type Optional uint32

// What Reader.Allow takes. KeepAlive and the QEMU audio messages are always read and ignored.
const (
	AllowQEMUKeys Optional = 1 << iota
	AllowFence
	AllowContinuousUpdates
	AllowExtendedMouse
	AllowDesktopSize
	AllowClipboard
)

// A Handler gets what the viewer sends. Calls come from Reader.Next; slices are valid during the call. An error ends Next and
// comes out of it.
type Handler interface {
	SetPixelFormat(PixelFormat) error // has passed Check
	SetEncodings([]int32) error       // distinct, in the viewer's order
	UpdateRequest(incremental bool, r image.Rectangle) error
	Key(down bool, keysym, code uint32) error // code: XT scan code, 0 when unknown
	Pointer(mask uint16, x, y int) error      // bit 0 is the left button; 0 ≤ x, y ≤ 65535
	CutText(text []byte) error                // Latin-1
	Clipboard(ClipMessage) error
	ContinuousUpdates(on bool, r image.Rectangle) error
	Fence(flags uint32, payload []byte) error
	SetDesktopSize(size image.Point, screens []frame.Screen) error // not checked; see frame.CheckLayout
}

// A Reader reads a viewer's messages. It is used by one goroutine, but for Allow.
type Reader struct {
	r         *wire.Reader
	allowed   atomic.Uint32
	small     [MaxFence]byte
	text      []byte
	encodings []int32
	screens   []frame.Screen
}

// NewReader reads from r, buffered.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: wire.NewReader(bufio.NewReader(r))}
}

// Allow adds to the optional messages that are accepted. They stay so for the life of the connection, because a viewer that
// takes an encoding back may have sent a message before. It may be called at any time by any goroutine.
func (r *Reader) Allow(o Optional) { r.allowed.Or(uint32(o)) }

// need fails when a message came that nobody announced.
func (r *Reader) need(o Optional, what string) bool {
	if r.allowed.Load()&uint32(o) != 0 {
		return true
	}
	r.r.Failf("the viewer sent %s, which was not announced", what)
	return false
}

// Next reads one message and hands it to h. It returns io.EOF when the input ends between two messages. After an error the
// Reader cannot go on.
func (r *Reader) Next(h Handler) error {
	r.r.Begin()
	t := r.r.U8()
	if err := r.r.Err(); err != nil {
		return err
	}
	switch t {
	case clientPixelFormat:
		return r.pixelFormat(h)
	case clientEncodings:
		return r.setEncodings(h)
	case clientUpdate:
		return r.request(h)
	case clientKey:
		return r.key(h)
	case clientPointer:
		return r.pointer(h)
	case clientCutText:
		return r.cutText(h)
	case clientKeepAlive:
		return nil
	case clientCU:
		return r.continuous(h)
	case clientFence:
		return r.fence(h)
	case clientDesktopSize:
		return r.desktopSize(h)
	case clientQEMU:
		return r.qemu(h)
	}
	return fmt.Errorf("message type %d of the viewer is unknown", t)
}

// pad drops n bytes, at most MaxFence.
func (r *Reader) pad(n int) { r.r.Full(r.small[:n]) }

func (r *Reader) rect() image.Rectangle {
	x, y := int(r.r.U16()), int(r.r.U16())
	w, h := int(r.r.U16()), int(r.r.U16())
	return image.Rect(x, y, x+w, y+h)
}

// RFC 6143, section 7.5.1.
func (r *Reader) pixelFormat(h Handler) error {
	r.pad(3)
	f := readPixelFormat(r.r)
	if r.r.Err() != nil {
		return r.r.Err()
	}
	if err := f.Check(); err != nil {
		return fmt.Errorf("pixel format: %w", err)
	}
	return h.SetPixelFormat(f)
}

// RFC 6143, section 7.5.2.
func (r *Reader) setEncodings(h Handler) error {
	r.pad(1)
	r.encodings = r.encodings[:0]
	for n := r.r.U16(); n > 0 && r.r.Err() == nil; n-- {
		if e := r.r.Int32(); len(r.encodings) < MaxEncodings && !slices.Contains(r.encodings, e) {
			r.encodings = append(r.encodings, e)
		}
	}
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.SetEncodings(r.encodings)
}

// RFC 6143, section 7.5.3.
func (r *Reader) request(h Handler) error {
	incremental, area := r.r.Bool(), r.rect()
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.UpdateRequest(incremental, area)
}

// RFC 6143, section 7.5.4.
func (r *Reader) key(h Handler) error {
	down := r.r.Bool()
	r.pad(2)
	sym := r.r.U32()
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.Key(down, sym, 0)
}

// RFC 6143, section 7.5.5; with ExtendedMouseButtons bit 7 says that another byte of buttons follows.
func (r *Reader) pointer(h Handler) error {
	mask := uint16(r.r.U8())
	x, y := int(r.r.U16()), int(r.r.U16())
	if mask&0x80 != 0 && r.allowed.Load()&uint32(AllowExtendedMouse) != 0 {
		mask = mask&0x7f | uint16(r.r.U8())<<7
	}
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.Pointer(mask, x, y)
}

// RFC 6143, section 7.5.6. A negative length is the clipboard extension's.
func (r *Reader) cutText(h Handler) error {
	r.pad(3)
	n := int64(r.r.Int32())
	switch {
	case n < 0:
		if n = -n; n > MaxClipboard {
			r.r.Failf("a clipboard message of %d bytes, more than %d", n, MaxClipboard)
		} else if r.need(AllowClipboard, "the clipboard extension") {
			return r.clipboard(h, int(n))
		}
		return r.r.Err()
	case n > MaxCutTextDrain:
		r.r.Failf("%d bytes of cut text, more than %d", n, MaxCutTextDrain)
		return r.r.Err()
	case n > MaxCutText:
		r.r.Skip(n)
		return r.r.Err()
	}
	r.bytes(int(n))
	defer r.shrink()
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.CutText(r.text)
}

// bytes reads n bytes into text. It takes memory as they arrive.
func (r *Reader) bytes(n int) {
	r.text = r.text[:0]
	for len(r.text) < n && r.r.Err() == nil {
		from := len(r.text)
		r.text = grow(r.text, min(n-from, 4096))
		r.r.Full(r.text[from:])
	}
}

// shrink gives back the memory of a long text, which is rare.
func (r *Reader) shrink() {
	if cap(r.text) > 16<<10 {
		r.text = nil
	}
}

func (r *Reader) continuous(h Handler) error {
	if !r.need(AllowContinuousUpdates, "continuous updates") {
		return r.r.Err()
	}
	on, area := r.r.Bool(), r.rect()
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.ContinuousUpdates(on, area)
}

func (r *Reader) fence(h Handler) error {
	if !r.need(AllowFence, "a fence") {
		return r.r.Err()
	}
	r.pad(3)
	flags := r.r.U32()
	n := int(r.r.U8())
	if n > MaxFence {
		r.r.Skip(int64(n))
		return r.r.Err()
	}
	r.r.Full(r.small[:n])
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.Fence(flags, r.small[:n])
}

func (r *Reader) desktopSize(h Handler) error {
	if !r.need(AllowDesktopSize, "a desktop size") {
		return r.r.Err()
	}
	r.pad(1)
	size := image.Pt(int(r.r.U16()), int(r.r.U16()))
	n := int(r.r.U8())
	r.pad(1)
	r.screens = r.screens[:0]
	for i := 0; i < n && r.r.Err() == nil; i++ {
		s := frame.Screen{ID: r.r.U32(), Rect: r.rect()}
		r.pad(4) // flags, none of which is defined
		if n <= frame.MaxScreens {
			r.screens = append(r.screens, s)
		}
	}
	if r.r.Err() != nil {
		return r.r.Err()
	}
	return h.SetDesktopSize(size, r.screens)
}

// qemu reads the messages of QEMU: keys with scan codes, and audio, which is ignored.
func (r *Reader) qemu(h Handler) error {
	switch sub := r.r.U8(); sub {
	case 0:
		if !r.need(AllowQEMUKeys, "a QEMU key") {
			return r.r.Err()
		}
		down, sym, code := r.r.U16() != 0, r.r.U32(), r.r.U32()
		if r.r.Err() != nil {
			return r.r.Err()
		}
		return h.Key(down, sym, code)
	case 1:
		switch op := r.r.U16(); op {
		case 0, 1:
		case 2:
			r.pad(6)
		default:
			r.r.Failf("audio operation %d of the viewer is unknown", op)
		}
	default:
		r.r.Failf("QEMU message %d of the viewer is unknown", sub)
	}
	return r.r.Err()
}

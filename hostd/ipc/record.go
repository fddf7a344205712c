package ipc

import (
	"encoding/binary"
	"errors"
	"image"

	"github.com/helmline/helmline/bridge/frame"
)

// InputKind tells input records apart.
type InputKind uint8

// Input kinds.
const (
	InputKey     InputKind = iota + 1 // A: keysym, B: 1 down, 0 up; C: XT scan code or 0
	InputPointer                      // A: button mask of RFB (bit 0: left), X, Y: pixels
)

// Input is one event for a desktop. Epoch 0 never controls.
type Input struct {
	Session uint32
	Epoch   uint64
	Kind    InputKind
	A, B, C uint32
	X, Y    uint16
}

const inputSize = 1 + 4 + 8 + 1 + 12 + 4

// AppendTo appends the packet.
func (m Input) AppendTo(dst []byte) []byte {
	be := binary.BigEndian
	dst = append(dst, byte(TypeInput))
	dst = be.AppendUint32(dst, m.Session)
	dst = be.AppendUint64(dst, m.Epoch)
	dst = append(dst, byte(m.Kind))
	dst = be.AppendUint32(dst, m.A)
	dst = be.AppendUint32(dst, m.B)
	dst = be.AppendUint32(dst, m.C)
	dst = be.AppendUint16(dst, m.X)
	return be.AppendUint16(dst, m.Y)
}

// ErrMalformed is a packet that is not what its type says.
var ErrMalformed = errors.New("malformed message between hostd's parts")

// ParseInput takes an input packet apart.
func ParseInput(p []byte) (Input, error) {
	if len(p) != inputSize || Type(p[0]) != TypeInput {
		return Input{}, ErrMalformed
	}
	be := binary.BigEndian
	return Input{
		Session: be.Uint32(p[1:]), Epoch: be.Uint64(p[5:]), Kind: InputKind(p[13]),
		A: be.Uint32(p[14:]), B: be.Uint32(p[18:]), C: be.Uint32(p[22:]),
		X: be.Uint16(p[26:]), Y: be.Uint16(p[28:]),
	}, nil
}

// MaxClip is the longest text of a clipboard, bytes.
const MaxClip = 256 << 10

// A Clip is text of a clipboard: UTF-8, lines ended by a line feed. Session and Epoch say who controls: whose it is as a Paste, and
// whom it is for as a Copy; they are 0 between hostd and a worker.
type Clip struct {
	Session uint32
	Epoch   uint64
	Text    []byte
}

// AppendTo appends the packet, which is a TypePaste or a TypeCopy.
func (m Clip) AppendTo(dst []byte, t Type) []byte {
	dst = append(dst, byte(t))
	dst = binary.BigEndian.AppendUint32(dst, m.Session)
	dst = binary.BigEndian.AppendUint64(dst, m.Epoch)
	return append(dst, m.Text...)
}

// ParseClip takes a packet with text apart. Text is a part of it.
func ParseClip(p []byte) (Clip, error) {
	const head = 1 + 4 + 8
	if len(p) < head || len(p) > head+MaxClip {
		return Clip{}, ErrMalformed
	}
	return Clip{binary.BigEndian.Uint32(p[1:]), binary.BigEndian.Uint64(p[5:]), p[head:]}, nil
}

// Grab asks for an up-to-date frame memory. Full asks for all of it, whatever changed.
type Grab struct {
	Full bool
}

// AppendTo appends the packet.
func (m Grab) AppendTo(dst []byte) []byte {
	b := byte(0)
	if m.Full {
		b = 1
	}
	return append(dst, byte(TypeGrab), b)
}

// ParseGrab takes a grab packet apart.
func ParseGrab(p []byte) (Grab, error) {
	if len(p) != 2 || Type(p[0]) != TypeGrab {
		return Grab{}, ErrMalformed
	}
	return Grab{Full: p[1] != 0}, nil
}

// MaxRects is the largest number of rectangles in a Frame; more are merged into larger ones by the sender.
const MaxRects = 4000

// Frame says that the memory is up to date and what changed in it: first the copies, in order, then the rectangles.
type Frame struct {
	Sequence uint32
	Captured uint32 // pixels read from the display for it
	Copies   []frame.Copy
	Rects    []image.Rectangle
}

// AppendTo appends the packet.
func (m *Frame) AppendTo(dst []byte) []byte {
	be := binary.BigEndian
	dst = append(dst, byte(TypeFrame))
	dst = be.AppendUint32(dst, m.Sequence)
	dst = be.AppendUint32(dst, m.Captured)
	dst = be.AppendUint16(dst, uint16(len(m.Copies)))
	dst = be.AppendUint16(dst, uint16(len(m.Rects)))
	for _, c := range m.Copies {
		dst = be.AppendUint16(dst, uint16(c.From.X))
		dst = be.AppendUint16(dst, uint16(c.From.Y))
		dst = appendRect(dst, c.To)
	}
	for _, r := range m.Rects {
		dst = appendRect(dst, r)
	}
	return dst
}

func appendRect(dst []byte, r image.Rectangle) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(dst, uint16(r.Min.X))
	dst = be.AppendUint16(dst, uint16(r.Min.Y))
	dst = be.AppendUint16(dst, uint16(r.Max.X))
	return be.AppendUint16(dst, uint16(r.Max.Y))
}

func parseRect(p []byte) image.Rectangle {
	be := binary.BigEndian
	return image.Rect(int(be.Uint16(p)), int(be.Uint16(p[2:])), int(be.Uint16(p[4:])), int(be.Uint16(p[6:])))
}

// Parse fills m from a packet, using its slices again. size bounds every rectangle.
func (m *Frame) Parse(p []byte, size image.Point) error {
	if len(p) < 13 || Type(p[0]) != TypeFrame {
		return ErrMalformed
	}
	be := binary.BigEndian
	m.Sequence, m.Captured = be.Uint32(p[1:]), be.Uint32(p[5:])
	copies, rects := int(be.Uint16(p[9:])), int(be.Uint16(p[11:]))
	p = p[13:]
	if copies+rects > MaxRects || len(p) != copies*12+rects*8 {
		return ErrMalformed
	}
	bounds := image.Rectangle{Max: size}
	m.Copies, m.Rects = m.Copies[:0], m.Rects[:0]
	for ; copies > 0; copies-- {
		c := frame.Copy{From: image.Pt(int(be.Uint16(p)), int(be.Uint16(p[2:]))), To: parseRect(p[4:])}
		from := image.Rectangle{Min: c.From, Max: c.From.Add(c.To.Size())}
		if !c.To.In(bounds) || !from.In(bounds) {
			return ErrMalformed
		}
		m.Copies, p = append(m.Copies, c), p[12:]
	}
	for ; rects > 0; rects-- {
		r := parseRect(p)
		if !r.In(bounds) {
			return ErrMalformed
		}
		m.Rects, p = append(m.Rects, r), p[8:]
	}
	return nil
}

// AppendCursor appends a cursor packet. A shape that does not fit a packet is cut at the bottom.
func AppendCursor(dst []byte, c *frame.Cursor) []byte {
	be := binary.BigEndian
	h := c.Size.Y
	if c.Size.X > 0 {
		h = min(h, (MaxMessage-9)/(c.Size.X*frame.BytesPerPixel))
	}
	dst = append(dst, byte(TypeCursor))
	dst = be.AppendUint16(dst, uint16(c.Size.X))
	dst = be.AppendUint16(dst, uint16(h))
	dst = be.AppendUint16(dst, uint16(c.Hot.X))
	dst = be.AppendUint16(dst, uint16(c.Hot.Y))
	return append(dst, c.Pix[:c.Size.X*h*frame.BytesPerPixel]...)
}

// ParseCursor takes a cursor packet apart; the pixels are copied.
func ParseCursor(p []byte) (frame.Cursor, error) {
	if len(p) < 9 || Type(p[0]) != TypeCursor {
		return frame.Cursor{}, ErrMalformed
	}
	be := binary.BigEndian
	c := frame.Cursor{
		Size: image.Pt(int(be.Uint16(p[1:])), int(be.Uint16(p[3:]))),
		Hot:  image.Pt(int(be.Uint16(p[5:])), int(be.Uint16(p[7:]))),
	}
	if c.Size.X > frame.MaxCursorSide || c.Size.Y > frame.MaxCursorSide || len(p)-9 != c.Size.X*c.Size.Y*frame.BytesPerPixel {
		return frame.Cursor{}, ErrMalformed
	}
	c.Pix = append([]byte(nil), p[9:]...)
	return c, nil
}

// Pointer is the pointer's place, pixels.
type Pointer struct {
	X, Y uint16
}

// AppendTo appends the packet.
func (m Pointer) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(TypePointer))
	dst = binary.BigEndian.AppendUint16(dst, m.X)
	return binary.BigEndian.AppendUint16(dst, m.Y)
}

// ParsePointer takes a pointer packet apart.
func ParsePointer(p []byte) (Pointer, error) {
	if len(p) != 5 || Type(p[0]) != TypePointer {
		return Pointer{}, ErrMalformed
	}
	return Pointer{binary.BigEndian.Uint16(p[1:]), binary.BigEndian.Uint16(p[3:])}, nil
}

// What came of a Resize; the numbers are those of RFB's ExtendedDesktopSize.
const (
	ResizeDone       = 0
	ResizeProhibited = 1 // the display's size is not to be changed
	ResizeResources  = 2
	ResizeInvalid    = 3
)

// Layout is what screens a desktop has.
type Layout struct {
	Number  uint32 // of the last Resize; 0: there was none
	Result  uint8  // of it
	Screens []frame.Screen
}

// AppendTo appends the packet.
func (m *Layout) AppendTo(dst []byte) []byte {
	be := binary.BigEndian
	dst = append(dst, byte(TypeLayout))
	dst = be.AppendUint32(dst, m.Number)
	dst = append(dst, m.Result)
	for _, s := range m.Screens {
		dst = appendRect(be.AppendUint32(dst, s.ID), s.Rect)
	}
	return dst
}

// ParseLayout takes a layout packet of a desktop of that size apart.
func ParseLayout(p []byte, size image.Point) (Layout, error) {
	const head, each = 6, 12
	if len(p) < head || Type(p[0]) != TypeLayout || (len(p)-head)%each != 0 || p[5] > ResizeInvalid {
		return Layout{}, ErrMalformed
	}
	be := binary.BigEndian
	m := Layout{Number: be.Uint32(p[1:]), Result: p[5]}
	for p = p[head:]; len(p) > 0; p = p[each:] {
		m.Screens = append(m.Screens, frame.Screen{ID: be.Uint32(p), Rect: parseRect(p[4:])})
	}
	if frame.CheckLayout(size, m.Screens) != nil {
		return Layout{}, ErrMalformed
	}
	return m, nil
}

// Package tap reads what an RFB server sends to a watcher that records. The stream is parsed by github.com/amitbet/vncproxy's client and
// encodings, of which nothing else is used: its servers, players and proxies take the process down when a peer misbehaves. The other end
// is this process's own server, on an in-process connection. Nevertheless, the parser stands behind a recover, a limit on the bytes of a
// message, and checks of what it has parsed; it gets none of the messages and encodings that it reads wrongly, because it does not ask for
// them: no clipboard, fence, lock keys, extended desktop size or name, and no pointer of 256×256 pixels.
package tap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"os"

	"github.com/amitbet/vncproxy/client"
	"github.com/amitbet/vncproxy/common"
	"github.com/amitbet/vncproxy/encodings"
	"github.com/amitbet/vncproxy/logger"
)

// vncproxy writes what it has to say, and even that it shall be silent, to standard output. Here nothing else runs yet.
func init() {
	out := os.Stdout
	defer func() { os.Stdout = out }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer null.Close()
	os.Stdout = null
	logger.SetLogLevel("fatal")
}

// bell is the message that may come between updates. RFC 6143, section 7.6.3.
const bell = 2

// maxUpdate is the longest update, bytes: 12 million pixels that cannot be compressed.
const maxUpdate = 48 << 20

// Quality is the JPEG quality level of a recording.
const Quality = 6

// The encodings of a recording, beside those that are pixels' own.
const (
	tight    = int32(common.EncTight)
	copyRect = int32(common.EncCopyRect)
	cursor   = int32(common.EncCursorPseudo)
	lastRect = int32(common.EncLastRectPseudo)
	raw      = int32(common.EncRaw)
)

// A Tap is a watcher of a server, from ClientInit on. It is used by one goroutine.
type Tap struct {
	conn    *client.ClientConn
	in      *budget
	helper  *common.RfbReadHelper
	message client.MsgFramebufferUpdate
	out     *forward
	Size    image.Point // of the picture, from ServerInit
}

// New does ClientInit over conn and reads ServerInit. The server's pixels have to be 32 bits of blue, green and red.
func New(conn net.Conn) (*Tap, error) {
	c, err := client.NewClientConn(conn, &client.ClientConfig{})
	if err != nil {
		return nil, err
	}
	t := &Tap{conn: c, in: &budget{r: bufio.NewReaderSize(conn, 64<<10), left: 1 << 10}, out: &forward{}}
	if _, err := conn.Write([]byte{1}); err != nil { // shared
		return nil, err
	}
	var init struct {
		Width, Height uint16
		Format        common.PixelFormat
		_             [3]byte
		NameLength    uint32
	}
	if err := binary.Read(t.in, binary.BigEndian, &init); err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, t.in, int64(init.NameLength)); err != nil {
		return nil, err
	}
	if want := *common.NewPixelFormat(32); init.Format != want {
		return nil, fmt.Errorf("the server's pixels are %v, not %v", init.Format, want)
	}
	c.PixelFormat = init.Format
	t.Size = image.Pt(int(init.Width), int(init.Height))
	t.helper = common.NewRfbReadHelper(t.in)
	t.helper.Listeners.AddListener(t.out)
	return t, nil
}

// SetEncodings asks for Tight with JPEG, copies and the pointer's shape or, if exact, for Tight without JPEG and no copies.
func (t *Tap) SetEncodings(exact bool) error {
	list := []common.IEncoding{&encodings.TightEncoding{}, &encodings.EncCursorPseudo{}, &encodings.PseudoEncoding{Typ: lastRect}}
	if !exact {
		list = append(list, &encodings.CopyRectEncoding{}, &encodings.PseudoEncoding{Typ: int32(common.EncJPEGQualityLevelPseudo1) + Quality})
	}
	return t.conn.SetEncodings(list)
}

// Request asks for an update of the whole picture, or of what changes.
func (t *Tap) Request(incremental bool) error {
	return t.conn.FramebufferUpdateRequest(incremental, 0, 0, uint16(t.Size.X), uint16(t.Size.Y))
}

// Wait returns when an update has begun to come. A bell is not recorded.
func (t *Tap) Wait() error {
	for {
		b, err := t.in.r.Peek(1)
		if err != nil || b[0] != bell {
			return err
		}
		t.in.r.Discard(1)
	}
}

// Next reads one update, which goes to w byte for byte, and gives the places of its pixels.
func (t *Tap) Next(w io.Writer) (rects []image.Rectangle, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser of the recorded stream failed: %v", p)
		}
	}()
	t.in.left = maxUpdate
	t.out.w, t.out.err = w, nil
	kind, err := t.helper.ReadUint8()
	if err != nil {
		return nil, err
	}
	if kind != t.message.Type() {
		return nil, fmt.Errorf("the server sent a message of type %d", kind)
	}
	m, err := t.message.Read(t.conn, t.helper)
	if err = errors.Join(t.out.err, t.in.err, err); err != nil { // the parser does not hand on every error
		return nil, err
	}
	for _, r := range m.(*client.MsgFramebufferUpdate).Rectangles {
		at := image.Rect(int(r.X), int(r.Y), int(r.X)+int(r.Width), int(r.Y)+int(r.Height))
		switch r.Enc.Type() {
		case tight, copyRect, raw:
			if at.Empty() || !at.In(image.Rectangle{Max: t.Size}) {
				return nil, fmt.Errorf("the server sent a rectangle at %v of %v", at, t.Size)
			}
			rects = append(rects, at)
		case cursor:
		case lastRect:
			return rects, nil
		default:
			return nil, fmt.Errorf("the server sent the encoding %d", r.Enc.Type())
		}
	}
	return rects, nil
}

// A budget reads at most left bytes, and keeps its first error.
type budget struct {
	r    *bufio.Reader
	left int
	err  error
}

func (b *budget) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left <= 0:
		b.err = errors.New("the server sent a message that is too long")
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left, b.err = b.left-n, err
	return n, err
}

// A forward hands the bytes of a message on.
type forward struct {
	w   io.Writer
	err error
}

// Consume implements common.SegmentConsumer.
func (f *forward) Consume(s *common.RfbSegment) error {
	if s.SegmentType == common.SegmentBytes && f.err == nil {
		_, f.err = f.w.Write(s.Bytes)
	}
	return f.err
}

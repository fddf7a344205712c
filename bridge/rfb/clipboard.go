package rfb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zlib"
)

// Flags of the clipboard extension: a format, and what a message is.
const (
	ClipText    uint32 = 1       // the only format that is known here
	ClipCaps    uint32 = 1 << 24 // what the sender can do
	ClipRequest uint32 = 1 << 25 // the other side shall provide these formats
	ClipPeek    uint32 = 1 << 26 // the other side shall notify
	ClipNotify  uint32 = 1 << 27 // these formats can be had
	ClipProvide uint32 = 1 << 28 // here they are

	clipActions = ClipRequest | ClipPeek | ClipNotify | ClipProvide
	clipFormats = 1<<16 - 1
)

// A ClipMessage is one message of the clipboard extension.
type ClipMessage struct {
	Action  uint32 // one of ClipCaps … ClipProvide
	Formats uint32
	Actions uint32 // of ClipCaps: those that the viewer knows
	Text    []byte // of ClipProvide with ClipText: UTF-8 as it came, lines ended by LF; nil: too long
}

// errClipboard is a message of the extension that is not what its flags say.
var errClipboard = errors.New("a malformed message of the clipboard extension")

// clipboard reads a message of n bytes, at most MaxClipboard.
func (r *Reader) clipboard(h Handler, n int) error {
	r.bytes(n)
	defer r.shrink()
	if r.r.Err() != nil {
		return r.r.Err()
	}
	if n < 4 {
		return errClipboard
	}
	flags, body := binary.BigEndian.Uint32(r.text), r.text[4:]
	m := ClipMessage{Formats: flags & clipFormats}
	switch m.Action = flags & clipActions; {
	case flags&ClipCaps != 0:
		if m.Action, m.Actions = ClipCaps, flags&clipActions; len(body) < 4*bits.OnesCount32(m.Formats) { // the largest size of each
			return errClipboard
		}
	case bits.OnesCount32(m.Action) != 1:
		return errClipboard
	case m.Action == ClipProvide && m.Formats&ClipText != 0:
		var err error
		if m.Text, err = r.inflate(body); err != nil {
			return err
		}
	}
	return h.Clipboard(m)
}

// inflate takes the text out of what a ClipProvide carries: of all formats it comes first. nil is a text of more than MaxCutText.
func (r *Reader) inflate(body []byte) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, errClipboard
	}
	defer z.Close()
	var size [4]byte
	if _, err := io.ReadFull(z, size[:]); err != nil {
		return nil, errClipboard
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > MaxCutText {
		return nil, nil
	}
	var b bytes.Buffer
	if m, _ := b.ReadFrom(io.LimitReader(z, int64(n))); m != int64(n) {
		return nil, errClipboard
	}
	text, _, _ := bytes.Cut(b.Bytes(), []byte{0})
	return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), nil
}

// AppendClipboardCaps says that text may be asked for and announced. The size of 0 keeps viewers from sending any unasked.
func AppendClipboardCaps(dst []byte) []byte {
	return append(appendClipboard(dst, ClipCaps|clipActions|ClipText, 4), 0, 0, 0, 0)
}

// AppendClipboard appends a message without data: a ClipRequest, ClipPeek or ClipNotify.
func AppendClipboard(dst []byte, action, formats uint32) []byte {
	return appendClipboard(dst, action|formats, 0)
}

// AppendClipboardText appends a ClipProvide with text: UTF-8, lines ended by a line feed. Each message is a stream of its own.
func AppendClipboardText(dst, text []byte) []byte {
	text = append(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), 0)
	var out sink
	w := zlib.NewWriter(&out)
	_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text)))) // a sink takes everything
	_, _ = w.Write(text)
	_ = w.Close()
	return append(appendClipboard(dst, ClipProvide|ClipText, len(out.b)), out.b...)
}

// appendClipboard appends what comes before size bytes of data.
func appendClipboard(dst []byte, flags uint32, size int) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, serverCutText, 0, 0, 0), uint32(-int32(4+size)))
	return binary.BigEndian.AppendUint32(dst, flags)
}

// Latin1 is text for AppendServerCutText: what Latin-1 does not have becomes a question mark.
func Latin1(text string) []byte {
	b := make([]byte, 0, len(text))
	for _, c := range text {
		if c > 0xff {
			c = '?'
		}
		b = append(b, byte(c))
	}
	return b
}

// FromLatin1 is text of a viewer's CutText as UTF-8.
func FromLatin1(text []byte) []byte {
	b := make([]byte, 0, len(text)+len(text)/8)
	for _, c := range text {
		b = append(b, string(rune(c))...)
	}
	return b
}

package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/wire"
)

// A Purpose says what a stream is for.
type Purpose uint8

// The purposes. All are opened by the relay; a computer opens no stream yet.
const (
	RFB      Purpose = 1 // RFB from its first byte: the computer does the security
	RFBInit  Purpose = 2 // RFB from ClientInit: the relay did the security of the viewer
	DialBulk Purpose = 3 // dial a tunnel of kind Bulk; the stream ends with its reply
	SSH      Purpose = 4 // the computer's SSH server
	RDP      Purpose = 5 // RDP from the licence step
	Talk     Purpose = 6 // words beside the RFB session of that name, which the relay can read anyway: ReadWord, WriteWord
)

// A Role is what a viewer asks to be. The computer decides.
type Role uint8

// The roles. Zero is for streams that have no viewer.
const (
	RoleControl Role = 1 // control, refused while another has it
	RoleWatch   Role = 2 // watch only
	RoleTake    Role = 3 // control, and ask a holder to hand it over
)

func (r Role) String() string {
	switch r {
	case RoleControl:
		return "control"
	case RoleWatch:
		return "watch"
	case RoleTake:
		return "take"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// Limits of a Header, bytes.
const (
	MaxSession = 64
	MaxAccount = 255
	MaxViewer  = 64
	MaxCode    = 8 // what VncAuth takes
	maxHeader  = 1024
)

// A Header is the first message of a stream. From the relay it says for whom the stream is; a computer never takes more
// from it than narrows what it would allow.
type Header struct {
	Purpose Purpose
	Role    Role
	Minor   uint8  // minor version of RFB the viewer speaks: 3, 7 or 8; only for RFBInit
	Session string // the relay's name for the session, at most MaxSession bytes
	Account string // e-mail address of the account, at most MaxAccount bytes
	Viewer  string // address of the viewer as the relay sees it, at most MaxViewer bytes

	// Code is a one-time code that the relay has spent on this stream, at most MaxCode bytes; only for RFB. A viewer that can do no more
	// than VncAuth may show it, and gets as far as the host login. Empty: no viewer may.
	Code string

	// Facts asks for those of the computer with the reply; only for RFB.
	Facts bool
}

// Facts are what a computer says of its log-in before that.
type Facts uint8

// The facts.
const (
	CodeFirst Facts = 1 << iota // it rather wants its access code than a user name and password
	Nobody                      // its screen shows the log-on screen, as nobody is logged in
)

// headerVersion is the first byte of a header.
const headerVersion = 1

// AppendTo appends the header: a two-byte length, then version, purpose, role, minor, session, account, viewer, code, facts.
// Texts longer than their limit are cut.
func (h Header) AppendTo(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, headerVersion, byte(h.Purpose), byte(h.Role), h.Minor)
	dst = wire.AppendString8(dst, cut(h.Session, MaxSession))
	dst = wire.AppendString8(dst, cut(h.Account, MaxAccount))
	dst = wire.AppendString8(dst, cut(h.Viewer, MaxViewer))
	dst = wire.AppendString8(dst, cut(h.Code, MaxCode))
	if h.Facts {
		dst = append(dst, 1)
	}
	binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return dst
}

// ReadHeader reads a header and not a byte more. Fields that a later version adds behind it are skipped.
func ReadHeader(from io.Reader) (Header, error) {
	first := wire.NewReader(from)
	body := first.Bytes16("stream header", maxHeader)
	if err := first.Err(); err != nil {
		return Header{}, fmt.Errorf("stream header: %w", err)
	}
	in := bytes.NewReader(body)
	r := wire.NewReader(in)
	if v := r.U8(); r.Err() == nil && v != headerVersion {
		r.Failf("version %d, not %d", v, headerVersion)
	}
	h := Header{Purpose: Purpose(r.U8()), Role: Role(r.U8()), Minor: r.U8()}
	h.Session = text(r, "session", MaxSession)
	h.Account = text(r, "account", MaxAccount)
	h.Viewer = text(r, "viewer", MaxViewer)
	if in.Len() > 0 { // an earlier version ends here
		h.Code = text(r, "code", MaxCode)
	}
	if in.Len() > 0 { // so does one that asks for none
		h.Facts = r.U8() == 1
	}
	if r.Err() == nil && h.Role > RoleTake {
		r.Failf("%v is none of control, watch, take", h.Role)
	}
	if err := r.Err(); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Header{}, fmt.Errorf("stream header: %w", err)
	}
	return h, nil
}

// The first byte of a reply.
const (
	replyAccepted = 0
	replyRefused  = 1 // followed by a refuse.Refusal
	replyFacts    = 2 // accepted; followed by the Facts that were asked for
)

// WriteReply answers a header in one write: nil accepts the stream, which from here on is the acceptor's and the
// opener's alone. After a refusal the acceptor closes the stream.
func WriteReply(w io.Writer, r *refuse.Refusal) error {
	b := make([]byte, 1, 640)
	if r != nil {
		b[0] = replyRefused
		b = r.AppendTo(b)
	}
	_, err := w.Write(b)
	return err
}

// WriteFacts accepts a stream whose header asks for facts.
func WriteFacts(w io.Writer, f Facts) error {
	_, err := w.Write([]byte{replyFacts, byte(f)})
	return err
}

// ReadReply reads the answer and not a byte more. A refusal is returned as *refuse.Refusal.
func ReadReply(from io.Reader) (Facts, error) {
	r := wire.NewReader(from)
	switch v := r.U8(); {
	case r.Err() != nil:
	case v == replyAccepted:
		return 0, nil
	case v == replyFacts:
		if f := Facts(r.U8()); r.Err() == nil {
			return f, nil
		}
	case v == replyRefused:
		if no := refuse.Read(r); r.Err() == nil {
			return 0, no
		}
	default:
		r.Failf("answer %d is neither yes (0, 2) nor no (1)", v)
	}
	err := r.Err()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("answer to the stream header: %w", err)
}

package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/helmline/helmline/bridge/wire"
)

// VersionText is what the server says first, and how long the viewer's answer is.
const VersionText = "RFB 003.008\n"

// SecurityType is a way in which a viewer proves who it is.
type SecurityType uint8

// The security types that are offered. None is not among them.
const (
	SecVncAuth  SecurityType = 2
	SecRA2      SecurityType = 5 // RSA-AES with 128 bits
	SecRA2ne    SecurityType = 6 // "ne": not encrypted behind the security handshake
	SecVeNCrypt SecurityType = 19
	SecRA2256   SecurityType = 129 // RSA-AES with 256 bits
	SecRA2ne256 SecurityType = 130
)

func (t SecurityType) String() string {
	switch t {
	case SecVncAuth:
		return "VncAuth"
	case SecRA2:
		return "RA2"
	case SecRA2ne:
		return "RA2ne"
	case SecRA2256:
		return "RA2_256"
	case SecRA2ne256:
		return "RA2ne_256"
	case SecVeNCrypt:
		return "VeNCrypt"
	}
	return fmt.Sprintf("security type %d", uint8(t))
}

// ErrVersion says that the other side does not speak RFB 3 or later.
var ErrVersion = errors.New("the viewer's first 12 bytes are no version of RFB")

// ErrNotOffered says that a viewer chose a security type that was not in the list it got.
var ErrNotOffered = errors.New("the viewer chose a security type that was not offered")

// ServerVersion sends the server's version and reads the viewer's. minor is 3, 7 or 8; versions between and above count as
// the next lower one, as viewers expect that call themselves 3.5, 3.889 or 5.0. RFC 6143, section 7.1.1.
func ServerVersion(rw io.ReadWriter) (minor int, err error) {
	if _, err := io.WriteString(rw, VersionText); err != nil {
		return 0, err
	}
	var b [len(VersionText)]byte
	r := wire.NewReader(rw)
	r.Full(b[:])
	if r.Err() != nil {
		return 0, r.Err()
	}
	major, ok1 := number(b[4:7])
	minor, ok2 := number(b[8:11])
	if string(b[:4]) != "RFB " || b[7] != '.' || b[11] != '\n' || !ok1 || !ok2 || major < 3 {
		return 0, ErrVersion
	}
	switch {
	case major > 5:
		return 0, ErrVersion
	case major > 3 || minor >= 8:
		return 8, nil
	case minor == 7:
		return 7, nil
	case minor >= 3:
		return 3, nil
	}
	return 0, ErrVersion
}

// number reads decimal digits.
func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// OfferSecurity sends the list of types and reads the viewer's choice, which must be one of them (ErrNotOffered). A viewer
// of version 3.3 cannot choose: it gets VncAuth when that is among the types, else a refusal. RFC 6143, section 7.1.2.
func OfferSecurity(rw io.ReadWriter, minor int, types ...SecurityType) (SecurityType, error) {
	if minor < 7 {
		if !slices.Contains(types, SecVncAuth) {
			const reason = "this port needs a viewer that speaks RFB 3.8 with VeNCrypt"
			return 0, errors.Join(fmt.Errorf("the viewer speaks RFB 3.%d: %w", minor, ErrNotOffered), RefuseSecurity(rw, minor, reason))
		}
		_, err := rw.Write([]byte{0, 0, 0, byte(SecVncAuth)})
		return SecVncAuth, err
	}
	offer := []byte{byte(len(types))}
	for _, t := range types {
		offer = append(offer, byte(t))
	}
	if _, err := rw.Write(offer); err != nil {
		return 0, err
	}
	r := wire.NewReader(rw)
	choice := SecurityType(r.U8())
	if r.Err() != nil {
		return 0, inside(r.Err())
	}
	if !slices.Contains(types, choice) {
		return 0, fmt.Errorf("%v: %w", choice, ErrNotOffered)
	}
	return choice, nil
}

// RefuseSecurity ends a handshake before any type is offered. Some viewers do not show the reason; WriteResult after an
// offered type reaches more of them.
func RefuseSecurity(w io.Writer, minor int, reason string) error {
	var b []byte
	if minor < 7 {
		b = append(b, 0, 0, 0)
	}
	_, err := w.Write(wire.AppendString32(append(b, 0), oneLine(reason, MaxReason)))
	return err
}

// WriteResult ends the security handshake: success when reason is empty. Only viewers of version 3.8 can show a reason.
// RFC 6143, section 7.1.3.
func WriteResult(w io.Writer, minor int, reason string) error {
	b := make([]byte, 4, 8+MaxReason)
	if reason != "" {
		b[3] = 1
		if minor >= 8 {
			b = wire.AppendString32(b, oneLine(reason, MaxReason))
		}
	}
	_, err := w.Write(b)
	return err
}

// ReadClientInit reads the viewer's first message after security: whether it would share the desktop. RFC 6143, section 7.3.1.
func ReadClientInit(r io.Reader) (shared bool, err error) {
	w := wire.NewReader(r)
	shared = w.Bool()
	return shared, inside(w.Err())
}

// AppendServerInit appends the answer to ClientInit. The name is cut to MaxName bytes. RFC 6143, section 7.3.2.
func AppendServerInit(dst []byte, size image.Point, f PixelFormat, name string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(size.X))
	dst = binary.BigEndian.AppendUint16(dst, uint16(size.Y))
	dst = f.AppendTo(dst)
	return wire.AppendString32(dst, oneLine(name, MaxName))
}

// oneLine makes a text fit for a viewer's message box: no control characters, at most max bytes of whole characters.
func oneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > max {
		for !utf8.RuneStart(s[max]) {
			max--
		}
		s = s[:max]
	}
	return s
}

// inside turns the end of input between two parts of the handshake into an unexpected one.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

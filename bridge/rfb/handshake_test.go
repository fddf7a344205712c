package rfb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// A script is a viewer that says what it would say anyway, and notes what it hears.
type script struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

// serve does a whole handshake with VncAuth and says how far it came. reason is that of SecurityResult.
func serve(rw io.ReadWriter, reason string, types ...rfb.SecurityType) (challenge [16]byte, err error) {
	minor, err := rfb.ServerVersion(rw)
	if err != nil {
		return challenge, err
	}
	t, err := rfb.OfferSecurity(rw, minor, types...)
	if err != nil {
		return challenge, err
	}
	if t == rfb.SecVncAuth {
		if challenge, _, err = rfb.Challenge(rw); err != nil {
			return challenge, err
		}
	}
	if err := rfb.WriteResult(rw, minor, reason); err != nil || reason != "" {
		return challenge, err
	}
	if _, err := rfb.ReadClientInit(rw); err != nil {
		return challenge, err
	}
	_, err = rw.Write(rfb.AppendServerInit(nil, image.Pt(800, 600), rfb.Native, "desk7"))
	return challenge, err
}

const serverInit = "\x03\x20\x02\x58" + // 800×600
	"\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00" + // 32 bits, depth 24, little-endian, 16/8/0
	"\x00\x00\x00\x05desk7"

// The bytes of whole handshakes, as RFC 6143 has them in section 7.1 to 7.3.
func TestTranscripts(t *testing.T) {
	const challenge = "<16 random bytes>"
	const response = "0123456789abcdef"
	both := []rfb.SecurityType{rfb.SecVeNCrypt, rfb.SecVncAuth}
	for _, c := range []struct {
		name   string
		in     string
		types  []rfb.SecurityType
		reason string
		out    string // behind the server's version
		err    string
	}{
		{name: "3.3", in: "RFB 003.003\n" + response + "\x01", types: both,
			out: "\x00\x00\x00\x02" + challenge + "\x00\x00\x00\x00" + serverInit},
		{name: "3.7", in: "RFB 003.007\n\x02" + response + "\x00", types: both,
			out: "\x02\x13\x02" + challenge + "\x00\x00\x00\x00" + serverInit},
		{name: "3.8", in: "RFB 003.008\n\x02" + response + "\x01", types: both,
			out: "\x02\x13\x02" + challenge + "\x00\x00\x00\x00" + serverInit},
		{name: "3.8, one type", in: "RFB 003.008\n\x02" + response + "\x01", types: both[1:],
			out: "\x01\x02" + challenge + "\x00\x00\x00\x00" + serverInit},
		{name: "3.889 of Apple", in: "RFB 003.889\n\x02" + response + "\x01", types: both,
			out: "\x02\x13\x02" + challenge + "\x00\x00\x00\x00" + serverInit},
		{name: "3.3 refused", in: "RFB 003.003\n" + response, types: both, reason: "desk7 is offline",
			out: "\x00\x00\x00\x02" + challenge + "\x00\x00\x00\x01"},
		{name: "3.7 refused", in: "RFB 003.007\n\x02" + response, types: both, reason: "desk7 is offline",
			out: "\x02\x13\x02" + challenge + "\x00\x00\x00\x01"},
		{name: "3.8 refused", in: "RFB 003.008\n\x02" + response, types: both, reason: "desk7 is offline",
			out: "\x02\x13\x02" + challenge + "\x00\x00\x00\x01\x00\x00\x00\x10desk7 is offline"},
		{name: "3.3 where VncAuth is not offered", in: "RFB 003.003\n", types: both[:1],
			out: "\x00\x00\x00\x00\x00\x00\x00\x3athis port needs a viewer that speaks RFB 3.8 with VeNCrypt", err: "not offered"},
		{name: "None, which was not offered", in: "RFB 003.008\n\x01", types: both, out: "\x02\x13\x02", err: "security type 1: the viewer chose a security type that was not offered"},
		{name: "VncAuth where only VeNCrypt is offered", in: "RFB 003.008\n\x02", types: both[:1], out: "\x01\x13", err: "VncAuth: the viewer chose"},
		{name: "0", in: "RFB 003.007\n\x00", types: both, out: "\x02\x13\x02", err: "not offered"},
		{name: "a browser", in: "GET / HTTP/1.1\r\n", types: both, err: "no version of RFB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{in: strings.NewReader(c.in)}
			sent, err := serve(s, c.reason, c.types...)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, not %q", err, c.err)
			}
			want := rfb.VersionText + strings.Replace(c.out, challenge, string(sent[:]), 1)
			if got := s.out.String(); got != want {
				t.Errorf("sent %q\nnot  %q", got, want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]int{
		"RFB 003.003\n": 3, "RFB 003.004\n": 3, "RFB 003.005\n": 3, "RFB 003.006\n": 3, "RFB 003.007\n": 7, "RFB 003.008\n": 8, "RFB 003.009\n": 8,
		"RFB 003.889\n": 8, "RFB 004.000\n": 8, "RFB 004.001\n": 8, "RFB 005.000\n": 8,
		"RFB 000.000\n": 0, "RFB 002.008\n": 0, "RFB 003.002\n": 0, "RFB 003.000\n": 0, "RFB 006.000\n": 0, "RFB 999.999\n": 0,
		"RFB 003.0x8\n": 0, "RFB 0-3.008\n": 0, "RFB 003.008\r": 0, "RFB 003,008\n": 0, "rfb 003.008\n": 0, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": 0,
	} {
		minor, err := rfb.ServerVersion(&script{in: strings.NewReader(in)})
		if minor != want || (err == nil) != (want > 0) || (err != nil && !errors.Is(err, rfb.ErrVersion)) {
			t.Errorf("%q is version 3.%d, %v", in, minor, err)
		}
	}
}

// The sender of the reason never writes more than viewers take, in one line of whole characters.
func TestReasons(t *testing.T) {
	for _, n := range []int{rfb.MaxReason - 1, rfb.MaxReason, rfb.MaxReason + 1} {
		var out bytes.Buffer
		if err := rfb.WriteResult(&out, 8, strings.Repeat("x", n)); err != nil {
			t.Fatal(err)
		}
		if want := 8 + min(n, rfb.MaxReason); out.Len() != want {
			t.Errorf("a reason of %d bytes became a message of %d, not %d", n, out.Len(), want)
		}
	}
	for in, want := range map[string]string{
		"two\nlines\x07": "two lines ",
		strings.Repeat("x", rfb.MaxReason-1) + "é":       strings.Repeat("x", rfb.MaxReason-1),
		strings.Repeat("x", rfb.MaxReason-2) + "é":       strings.Repeat("x", rfb.MaxReason-2) + "é",
		strings.Repeat("x", rfb.MaxReason-2) + "éé":      strings.Repeat("x", rfb.MaxReason-2) + "é",
		strings.Repeat("\xff", rfb.MaxReason/3) + "\xff": strings.Repeat("\ufffd", rfb.MaxReason/3),
	} {
		var out bytes.Buffer
		if err := rfb.RefuseSecurity(&out, 8, in); err != nil {
			t.Fatal(err)
		}
		if got := out.String()[5:]; got != want || out.Bytes()[0] != 0 || int(out.Bytes()[4])+int(out.Bytes()[3])<<8 != len(want) {
			t.Errorf("%q became %q", in, got)
		}
	}
	var out bytes.Buffer
	if err := rfb.RefuseSecurity(&out, 3, "no"); err != nil || out.String() != "\x00\x00\x00\x00\x00\x00\x00\x02no" {
		t.Errorf("3.3 was refused by %q, %v", out.String(), err)
	}
}

func TestServerInitName(t *testing.T) {
	for _, n := range []int{rfb.MaxName - 1, rfb.MaxName, rfb.MaxName + 1} {
		b := rfb.AppendServerInit(nil, image.Pt(1, 1), rfb.Native, strings.Repeat("n", n))
		if len(b) != 24+min(n, rfb.MaxName) || int(b[23]) != min(n, rfb.MaxName) {
			t.Errorf("a name of %d bytes gave a message of %d", n, len(b))
		}
	}
}

func TestReadPlain(t *testing.T) {
	message := func(user, password int) string {
		b := binary.BigEndian.AppendUint32(nil, uint32(user))
		b = binary.BigEndian.AppendUint32(b, uint32(password))
		return string(b) + strings.Repeat("u", user) + strings.Repeat("p", password)
	}
	for _, c := range []struct {
		user, password int
		err            string
	}{
		{user: 0, password: 0},
		{user: rfb.MaxUser - 1, password: 1}, {user: rfb.MaxUser, password: 1}, {user: rfb.MaxUser + 1, password: 1, err: "256 bytes of user name, more than 255"},
		{user: 1, password: rfb.MaxPassword - 1}, {user: 1, password: rfb.MaxPassword}, {user: 1, password: rfb.MaxPassword + 1, err: "256 bytes of password, more than 255"},
	} {
		user, password, err := rfb.ReadPlain(strings.NewReader(message(c.user, c.password)))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || password != nil {
				t.Errorf("%d and %d bytes: %v, not %q", c.user, c.password, err, c.err)
			}
		} else if err != nil || user != strings.Repeat("u", c.user) || string(password) != strings.Repeat("p", c.password) {
			t.Errorf("%d and %d bytes: %q, %d bytes, %v", c.user, c.password, user, len(password), err)
		}
	}
	whole := message(5, 6)
	for i := range whole {
		if _, _, err := rfb.ReadPlain(strings.NewReader(whole[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
}

// The answer that vncviewer gives, worked out with OpenSSL (des-ecb, key bytes mirrored).
func TestVncResponse(t *testing.T) {
	const want = "fcc310c13b8d36be29db135cef1b870a"
	var challenge [16]byte
	for i := range challenge {
		challenge[i] = byte(i)
	}
	if got := fmt.Sprintf("%x", rfb.VncResponse("abcd1234", challenge)); got != want {
		t.Errorf("the answer is %s, not %s", got, want)
	}
	if rfb.VncResponse("abcd1234", challenge) != rfb.VncResponse("abcd1234 and more", challenge) {
		t.Error("more than eight bytes matter")
	}
	if rfb.VncResponse("", challenge) == rfb.VncResponse("a", challenge) {
		t.Error("the secret does not matter")
	}
}

// Every cut of a recorded session is an error of the handshake.
func TestCutHandshake(t *testing.T) {
	for _, whole := range []string{
		"RFB 003.003\n0123456789abcdef\x01", "RFB 003.007\n\x020123456789abcdef\x01", "RFB 003.008\n\x020123456789abcdef\x01",
	} {
		for i := range whole {
			_, err := serve(&script{in: strings.NewReader(whole[:i])}, "", rfb.SecVncAuth)
			if !errors.Is(err, io.ErrUnexpectedEOF) && !(i == 0 && errors.Is(err, io.EOF)) {
				t.Errorf("%q: %v", whole[:i], err)
			}
		}
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("RFB 003.003\n0123456789abcdef\x01"), true)
	f.Add([]byte("RFB 003.008\n\x020123456789abcdef\x01"), true)
	f.Add([]byte("RFB 003.008\n\x13\x00\x02\x00\x00\x01\x06\x16\x03\x01"), false)
	f.Fuzz(func(t *testing.T, in []byte, vncAuth bool) {
		types := []rfb.SecurityType{rfb.SecVeNCrypt}
		if vncAuth {
			types = append(types, rfb.SecVncAuth)
		}
		s := &script{in: bytes.NewReader(in)}
		minor, err := rfb.ServerVersion(s)
		if err != nil {
			return
		}
		if minor != 3 && minor != 7 && minor != 8 {
			t.Fatalf("version 3.%d", minor)
		}
		chosen, err := rfb.OfferSecurity(s, minor, types...)
		if err != nil {
			return
		}
		if chosen == rfb.SecVncAuth && !vncAuth {
			t.Fatal("VncAuth was accepted without an offer")
		}
		if chosen == rfb.SecVncAuth {
			if _, _, err := rfb.Challenge(s); err != nil {
				return
			}
		} else if user, password, err := rfb.ReadPlain(s); err != nil || len(user) > rfb.MaxUser || len(password) > rfb.MaxPassword {
			if err == nil {
				t.Fatal("a limit does not hold")
			}
			return
		}
		if _, err := rfb.ReadClientInit(s); err == nil && s.out.Len() > 1024 {
			t.Fatal("more was sent than a handshake has")
		}
	})
}

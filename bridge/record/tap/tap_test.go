package tap

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// A stream is a connection whose other end has said everything at once, and does not listen.
type stream struct {
	net.Conn
	in *bytes.Reader
}

func (s stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s stream) Write(p []byte) (int, error) { return len(p), nil }

// server begins what a server of 64×48 pixels says.
const server = "\x00\x40\x00\x30\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00\x00\x00\x00\x04desk"

func rect(x, y, w, h int, encoding int32, body string) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(x))
	b = binary.BigEndian.AppendUint16(b, uint16(y))
	b = binary.BigEndian.AppendUint16(b, uint16(w))
	b = binary.BigEndian.AppendUint16(b, uint16(h))
	return string(binary.BigEndian.AppendUint32(b, uint32(encoding))) + body
}

func update(rects ...string) string {
	return "\x00\x00\x00" + string([]byte{byte(len(rects))}) + strings.Join(rects, "")
}

func TestUpdatesGoThroughByteForByte(t *testing.T) {
	all := []string{
		update(rect(0, 0, 64, 32, tight, "\x80abc"), rect(0, 32, 64, 16, tight, "\x80def")),
		update(rect(0, 0, 12, 19, cursor, strings.Repeat("x", 12*19*4+2*19)), rect(8, 8, 16, 16, copyRect, "\x00\x00\x00\x00")),
		update(rect(0, 0, 8, 2, tight, "\x50\x01\x01aaabbb"+"\x55\xaa"), rect(0, 0, 0, 0, lastRect, "")),
		update(),
		update(rect(0, 0, 2, 1, raw, "abcdefgh")),
		update(rect(0, 0, 16, 16, tight, "\x90\x85\x01"+strings.Repeat("j", 133))),
	}
	tap, err := New(stream{in: bytes.NewReader([]byte(server + strings.Join(all, "\x02")))}) // with bells between them
	if err != nil || tap.Size != image.Pt(64, 48) {
		t.Fatal(tap, err)
	}
	tap.SetEncodings(false)
	for _, want := range all {
		var got bytes.Buffer
		if err := tap.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := tap.Next(&got); err != nil || got.String() != want {
			t.Fatalf("%q, not %q: %v", got.String(), want, err)
		}
	}
	if err := tap.Wait(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct{ name, in, err string }{
		{"another message", "\x03\x00\x00\x00\x00\x00\x00\x00", "a message of type 3"},
		{"outside", update(rect(1, 0, 64, 48, tight, "\x80abc")), "a rectangle at (1,0)-(65,48)"},
		{"an encoding nobody asked for", update(rect(0, 0, 64, 48, 16, "\x00\x00\x00\x01x")), "unsupported encoding"},
		{"a pseudo-encoding nobody asked for", update(rect(0, 0, 0, 0, -223, "")), "the encoding -223"},
		{"cut off in a filter", update(rect(0, 0, 64, 48, tight, "\x40\x01\xff")), "EOF"},
		{"cut off", "\x00\x00\x00\x01\x00", "EOF"},
	} {
		tap, err := New(stream{in: bytes.NewReader([]byte(server + c.in))})
		if err != nil {
			t.Fatal(err)
		}
		tap.SetEncodings(false)
		if _, err := tap.Next(io.Discard); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := New(stream{in: bytes.NewReader([]byte(strings.Replace(server, "\x20\x18", "\x10\x10", 1)))}); err == nil {
		t.Error("pixels of another format are accepted")
	}
	tap, err := New(stream{in: bytes.NewReader([]byte(server + update(rect(0, 0, 64, 48, tight, "\x80abc"))))})
	if err != nil {
		t.Fatal(err)
	}
	tap.SetEncodings(true)
	if _, err := tap.Next(full{}); err != os.ErrInvalid && (err == nil || !strings.Contains(err.Error(), os.ErrInvalid.Error())) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrInvalid }

func FuzzTap(f *testing.F) {
	f.Add([]byte(update(rect(0, 0, 64, 32, tight, "\x80abc"), rect(0, 32, 64, 16, tight, "\x40\x01\x01aaabbb"))))
	f.Add([]byte(update(rect(0, 0, 12, 19, cursor, strings.Repeat("x", 12*19*4+2*19)), rect(8, 8, 16, 16, copyRect, "\x00\x00\x00\x00"))))
	f.Fuzz(func(t *testing.T, in []byte) {
		tap, err := New(stream{in: bytes.NewReader(append([]byte(server), in...))})
		if err != nil {
			t.Fatal(err)
		}
		tap.SetEncodings(false)
		for tap.Wait() == nil {
			var got bytes.Buffer
			rects, err := tap.Next(&got)
			if err != nil {
				return
			}
			for _, r := range rects {
				if r.Empty() || !r.In(image.Rectangle{Max: tap.Size}) {
					t.Fatal(r)
				}
			}
			if !bytes.Contains(in, got.Bytes()) {
				t.Fatalf("%q is not part of what came", got.Bytes())
			}
		}
	})
}

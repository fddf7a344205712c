package rfb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// A diary notes what a Reader hands on.
type diary struct {
	lines []string
	err   error // what the handler answers
}

func (d *diary) add(format string, args ...any) error {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
	return d.err
}

func (d *diary) SetPixelFormat(f rfb.PixelFormat) error {
	return d.add("format %d/%d %t %t %d %d %d %d %d %d", f.BitsPerPixel, f.Depth, f.BigEndian, f.TrueColour,
		f.RedMax, f.GreenMax, f.BlueMax, f.RedShift, f.GreenShift, f.BlueShift)
}
func (d *diary) SetEncodings(list []int32) error { return d.add("encodings %d", list) }
func (d *diary) UpdateRequest(incremental bool, r image.Rectangle) error {
	return d.add("request %t %v", incremental, r)
}
func (d *diary) Key(down bool, sym, code uint32) error { return d.add("key %t %x %x", down, sym, code) }
func (d *diary) Pointer(mask uint16, x, y int) error   { return d.add("pointer %x %d %d", mask, x, y) }
func (d *diary) CutText(text []byte) error             { return d.add("text %d %.9q", len(text), text) }
func (d *diary) Clipboard(m rfb.ClipMessage) error {
	return d.add("clipboard %x %x %x %d %.9q", m.Action, m.Formats, m.Actions, len(m.Text), m.Text)
}
func (d *diary) Fence(flags uint32, payload []byte) error {
	return d.add("fence %x %d", flags, len(payload))
}
func (d *diary) ContinuousUpdates(on bool, r image.Rectangle) error {
	return d.add("continuous %t %v", on, r)
}
func (d *diary) SetDesktopSize(size image.Point, screens []frame.Screen) error {
	return d.add("size %v, %d screens, %v", size, len(screens), frame.CheckLayout(size, screens))
}

const everything = rfb.AllowQEMUKeys | rfb.AllowFence | rfb.AllowContinuousUpdates | rfb.AllowExtendedMouse | rfb.AllowDesktopSize | rfb.AllowClipboard

// readAll reads messages until an error.
func readAll(r *rfb.Reader, d *diary) error {
	for {
		if err := r.Next(d); err != nil {
			return err
		}
	}
}

func u16(v ...int) (s string) {
	for _, n := range v {
		s += string(binary.BigEndian.AppendUint16(nil, uint16(n)))
	}
	return s
}

func u32(v ...int) (s string) {
	for _, n := range v {
		s += string(binary.BigEndian.AppendUint32(nil, uint32(n)))
	}
	return s
}

func screens(n int) (s string) {
	for i := range n {
		s += u32(i) + u16(i*10, 0, 10, 10) + u32(0)
	}
	return s
}

func TestMessages(t *testing.T) {
	list := func(n, first int) string {
		var b []byte
		for i := range n {
			b = binary.BigEndian.AppendUint32(b, uint32(first+i))
		}
		return string(b)
	}
	numbers := func(n, first int) []int32 {
		var l []int32
		for i := range n {
			l = append(l, int32(first+i))
		}
		return l
	}
	for _, c := range []struct {
		name string
		in   string
		want []string
		err  string // "" is the end of input behind the message
	}{
		{name: "nothing"},
		{name: "format", in: "\x00\x00\x00\x00\x10\x0f\x01\x01\x00\x1f\x00\x1f\x00\x1f\x0a\x05\x00\x01\x02\x03", want: []string{"format 16/15 true true 31 31 31 10 5 0"}},
		{name: "format with a map", in: "\x00\x00\x00\x00\x08\x08\x01\x00\x00\x07\x00\x07\x00\x03\x01\x03\x06\x00\x00\x00", want: []string{"format 8/8 false false 0 0 0 0 0 0"}},
		{name: "wrong format", in: "\x00\x00\x00\x00\x18\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00", err: "pixel format: 24 bits per pixel"},
		{name: "encodings", in: "\x02\x00" + u16(3) + u32(16, -239, 16), want: []string{"encodings [16 -239]"}},
		{name: "no encodings", in: "\x02\x00\x00\x00", want: []string{"encodings []"}},
		{name: "encodings, limit - 1", in: "\x02\x00" + u16(rfb.MaxEncodings-1) + list(rfb.MaxEncodings-1, 5), want: []string{fmt.Sprintf("encodings %d", numbers(rfb.MaxEncodings-1, 5))}},
		{name: "encodings, limit", in: "\x02\x00" + u16(rfb.MaxEncodings) + list(rfb.MaxEncodings, 5), want: []string{fmt.Sprintf("encodings %d", numbers(rfb.MaxEncodings, 5))}},
		{name: "encodings, limit + 1", in: "\x02\x00" + u16(rfb.MaxEncodings+1) + list(rfb.MaxEncodings+1, 5) + "\x0d", want: []string{fmt.Sprintf("encodings %d", numbers(rfb.MaxEncodings, 5))}},
		{name: "as many encodings as can be", in: "\x02\x00" + u16(65535) + list(65535, 1) + "\x0d", want: []string{fmt.Sprintf("encodings %d", numbers(rfb.MaxEncodings, 1))}},
		{name: "encodings end inside a number", in: "\x02\x00\x00\x01\x00", err: "unexpected EOF"},
		{name: "request", in: "\x03\x01" + u16(1, 2, 3, 4), want: []string{"request true (1,2)-(4,6)"}},
		{name: "request of nothing", in: "\x03\x00" + u16(0, 0, 0, 0), want: []string{"request false (0,0)-(0,0)"}},
		{name: "largest request", in: "\x03\x00" + u16(65535, 65535, 65535, 65535), want: []string{"request false (65535,65535)-(131070,131070)"}},
		{name: "key", in: "\x04\x01\x00\x00" + u32(0xff0d) + "\x04\x00\x00\x00" + u32(0x1000000+0x20ac), want: []string{"key true ff0d 0", "key false 10020ac 0"}},
		{name: "pointer", in: "\x05\x1f" + u16(10, 65535), want: []string{"pointer 1f 10 65535"}},
		{name: "pointer with many buttons", in: "\x05\x81" + u16(10, 20) + "\x03", want: []string{"pointer 181 10 20"}},
		{name: "text", in: "\x06\x00\x00\x00" + u32(5) + "h\xe9llo", want: []string{`text 5 "h\xe9llo"`}},
		{name: "no text", in: "\x06\x00\x00\x00" + u32(0), want: []string{`text 0 ""`}},
		{name: "text, limit - 1", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutText-1) + strings.Repeat("x", rfb.MaxCutText-1), want: []string{`text 262143 "xxxxxxxxx"`}},
		{name: "text, limit", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutText) + strings.Repeat("x", rfb.MaxCutText), want: []string{`text 262144 "xxxxxxxxx"`}},
		{name: "text, limit + 1", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutText+1) + strings.Repeat("x", rfb.MaxCutText+1) + "\x0d"},
		{name: "dropped text, limit - 1", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutTextDrain-1) + strings.Repeat("x", rfb.MaxCutTextDrain-1) + "\x0d"},
		{name: "dropped text, limit", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutTextDrain) + strings.Repeat("x", rfb.MaxCutTextDrain) + "\x0d"},
		{name: "dropped text, limit + 1", in: "\x06\x00\x00\x00" + u32(rfb.MaxCutTextDrain+1), err: "16777217 bytes of cut text, more than 16777216"},
		{name: "text ends early", in: "\x06\x00\x00\x00" + u32(5) + "hell", err: "unexpected EOF"},
		{name: "clipboard, limit - 1", in: "\x06\x00\x00\x00" + u32(-(rfb.MaxClipboard - 1)) + "\x02" + strings.Repeat("\x00", rfb.MaxClipboard-2) + "\x0d", want: []string{`clipboard 2000000 0 0 0 ""`}},
		{name: "clipboard, limit", in: "\x06\x00\x00\x00" + u32(-rfb.MaxClipboard) + "\x02" + strings.Repeat("\x00", rfb.MaxClipboard-1) + "\x0d", want: []string{`clipboard 2000000 0 0 0 ""`}},
		{name: "clipboard, limit + 1", in: "\x06\x00\x00\x00" + u32(-rfb.MaxClipboard-1), err: "262145 bytes, more than 262144"},
		{name: "clipboard, the lowest number", in: "\x06\x00\x00\x00\x80\x00\x00\x00", err: "2147483648 bytes, more than 262144"},
		{name: "keep alive", in: "\x0d\x0d\x0d"},
		{name: "continuous updates", in: "\x96\x01" + u16(1, 2, 3, 4) + "\x96\x00" + u16(0, 0, 0, 0), want: []string{"continuous true (1,2)-(4,6)", "continuous false (0,0)-(0,0)"}},
		{name: "fence, limit - 1", in: "\xf8\x00\x00\x00" + u32(0x80000001) + "\x3f" + strings.Repeat("f", 63), want: []string{"fence 80000001 63"}},
		{name: "fence, limit", in: "\xf8\x00\x00\x00" + u32(4) + "\x40" + strings.Repeat("f", 64), want: []string{"fence 4 64"}},
		{name: "fence, limit + 1", in: "\xf8\x00\x00\x00" + u32(4) + "\x41" + strings.Repeat("f", 65) + "\x0d"},
		{name: "longest fence", in: "\xf8\x00\x00\x00" + u32(4) + "\xff" + strings.Repeat("f", 255) + "\x0d"},
		{name: "desktop size", in: "\xfb\x00" + u16(800, 600) + "\x01\x00" + screens(1), want: []string{"size (800,600), 1 screens, <nil>"}},
		{name: "screens, limit - 1", in: "\xfb\x00" + u16(800, 600) + "\x0f\x00" + screens(15), want: []string{"size (800,600), 15 screens, <nil>"}},
		{name: "screens, limit", in: "\xfb\x00" + u16(800, 600) + "\x10\x00" + screens(16), want: []string{"size (800,600), 16 screens, <nil>"}},
		{name: "screens, limit + 1", in: "\xfb\x00" + u16(800, 600) + "\x11\x00" + screens(17) + "\x0d", want: []string{"size (800,600), 0 screens, 0 screens, not 1 to 16"}},
		{name: "most screens", in: "\xfb\x00" + u16(800, 600) + "\xff\x00" + screens(255) + "\x0d", want: []string{"size (800,600), 0 screens, 0 screens, not 1 to 16"}},
		{name: "QEMU key", in: "\xff\x00" + u16(1) + u32(0x61, 0x1e), want: []string{"key true 61 1e"}},
		{name: "QEMU audio", in: "\xff\x01" + u16(0) + "\xff\x01" + u16(1) + "\xff\x01" + u16(2) + "\x03\x02" + u32(44100) + "\x0d"},
		{name: "unknown audio", in: "\xff\x01" + u16(3), err: "audio operation 3"},
		{name: "unknown QEMU message", in: "\xff\x02", err: "QEMU message 2"},
		{name: "cut QEMU message", in: "\xff", err: "unexpected EOF"},
		{name: "type 1", in: "\x01", err: "message type 1 "},
		{name: "scaling", in: "\x08\x00\x00\x00", err: "message type 8 "},
		{name: "xvp", in: "\xfa\x00\x01\x02", err: "message type 250 "},
		{name: "file transfer", in: "\x07\x00", err: "message type 7 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d diary
			r := rfb.NewReader(strings.NewReader(c.in))
			r.Allow(everything)
			err := readAll(r, &d)
			if c.err == "" && err != io.EOF || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, not %q", err, c.err)
			}
			if !slices.Equal(d.lines, c.want) {
				t.Errorf("read %q\nnot  %q", d.lines, c.want)
			}
		})
	}
}

// What was not announced ends the connection, and is accepted once it was.
func TestNotAnnounced(t *testing.T) {
	for _, c := range []struct {
		name, in string
		allow    rfb.Optional
	}{
		{"continuous updates", "\x96\x01" + u16(1, 2, 3, 4), rfb.AllowContinuousUpdates},
		{"a fence", "\xf8\x00\x00\x00" + u32(1) + "\x01x", rfb.AllowFence},
		{"a desktop size", "\xfb\x00" + u16(8, 8) + "\x00\x00", rfb.AllowDesktopSize},
		{"a QEMU key", "\xff\x00" + u16(1) + u32(0x61, 0x1e), rfb.AllowQEMUKeys},
		{"the clipboard extension", "\x06\x00\x00\x00" + u32(-4) + "\x08\x00\x00\x01", rfb.AllowClipboard},
	} {
		var d diary
		r := rfb.NewReader(strings.NewReader(c.in))
		r.Allow(everything &^ c.allow)
		want := "the viewer sent " + c.name + ", which was not announced"
		if err := r.Next(&d); err == nil || err.Error() != want || len(d.lines) > 0 {
			t.Errorf("%s: %v, %q", c.name, err, d.lines)
		}
		r = rfb.NewReader(strings.NewReader(c.in))
		r.Allow(c.allow)
		r.Allow(rfb.AllowExtendedMouse)
		if err := r.Next(&d); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Without the extension bit 7 is a button like the others and no byte follows.
	var d diary
	if err := readAll(rfb.NewReader(strings.NewReader("\x05\x81"+u16(1, 2)+"\x0d")), &d); err != io.EOF || !slices.Equal(d.lines, []string{"pointer 81 1 2"}) {
		t.Errorf("%v, %q", err, d.lines)
	}
}

// session is one message of each kind.
var session = "\x00\x00\x00\x00\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00" +
	"\x02\x00" + u16(2) + u32(7, -239) + "\x03\x01" + u16(0, 0, 8, 8) + "\x04\x01\x00\x00" + u32(0x61) + "\x05\x81" + u16(4, 5) + "\x01" +
	"\x06\x00\x00\x00" + u32(3) + "abc" + "\x06\x00\x00\x00" + u32(-4) + "\x08\x00\x00\x01" + "\x0d" + "\x96\x01" + u16(0, 0, 8, 8) +
	"\xf8\x00\x00\x00" + u32(1) + "\x02xy" + "\xfb\x00" + u16(8, 8) + "\x01\x00" + screens(1) + "\xff\x00" + u16(1) + u32(0x61, 0x1e) +
	"\xff\x01" + u16(2) + "\x03\x02" + u32(44100)

// A session that ends between messages ends with io.EOF, and inside one with io.ErrUnexpectedEOF.
func TestCutSession(t *testing.T) {
	whole := map[int]bool{}
	for i := 0; i <= len(session); i++ {
		var d diary
		r := rfb.NewReader(oneByOne{strings.NewReader(session[:i])})
		r.Allow(everything)
		n := 0
		var err error
		for ; err == nil; n++ {
			err = r.Next(&d)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d bytes: %v", i, err)
		}
		whole[n] = whole[n] || errors.Is(err, io.EOF)
	}
	for n := 1; n <= 14; n++ {
		if !whole[n] {
			t.Errorf("no cut behind message %d was a clean end", n-1)
		}
	}
	if len(whole) != 14 {
		t.Errorf("%d messages, not 13", len(whole)-1)
	}
}

// An error of the handler comes out of Next.
func TestHandlerError(t *testing.T) {
	stop := errors.New("stop")
	r := rfb.NewReader(strings.NewReader(session))
	r.Allow(everything)
	for i := range 13 {
		if err := r.Next(&diary{err: stop}); err != stop && i != 7 && i != 12 { // what is dropped reaches no handler
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// quiet takes messages without memory.
type quiet struct{ n int }

func (q *quiet) SetPixelFormat(rfb.PixelFormat) error             { q.n++; return nil }
func (q *quiet) SetEncodings([]int32) error                       { q.n++; return nil }
func (q *quiet) UpdateRequest(bool, image.Rectangle) error        { q.n++; return nil }
func (q *quiet) Key(bool, uint32, uint32) error                   { q.n++; return nil }
func (q *quiet) Pointer(uint16, int, int) error                   { q.n++; return nil }
func (q *quiet) CutText([]byte) error                             { q.n++; return nil }
func (q *quiet) Clipboard(rfb.ClipMessage) error                  { q.n++; return nil }
func (q *quiet) ContinuousUpdates(bool, image.Rectangle) error    { q.n++; return nil }
func (q *quiet) Fence(uint32, []byte) error                       { q.n++; return nil }
func (q *quiet) SetDesktopSize(image.Point, []frame.Screen) error { q.n++; return nil }

// endless repeats a text.
type endless struct {
	s string
	i int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.s[e.i:])
	e.i = (e.i + n) % len(e.s)
	return n, nil
}

func TestReaderNoAllocation(t *testing.T) {
	r := rfb.NewReader(&endless{s: session})
	r.Allow(everything)
	q := &quiet{}
	if n := testing.AllocsPerRun(100, func() {
		for range 13 {
			if err := r.Next(q); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations for each kind of message", n)
	}
}

func TestPixelFormatCheck(t *testing.T) {
	base := formats()["565"]
	with := func(f func(*rfb.PixelFormat)) rfb.PixelFormat { p := base; f(&p); return p }
	for _, c := range []struct {
		name string
		f    rfb.PixelFormat
		err  string
	}{
		{"565", base, ""},
		{"0 bits", with(func(f *rfb.PixelFormat) { f.BitsPerPixel = 0 }), "0 bits per pixel"},
		{"24 bits", with(func(f *rfb.PixelFormat) { f.BitsPerPixel = 24 }), "24 bits per pixel"},
		{"64 bits", with(func(f *rfb.PixelFormat) { f.BitsPerPixel = 64 }), "64 bits per pixel"},
		{"depth, limit - 1", with(func(f *rfb.PixelFormat) { f.Depth = 15 }), ""},
		{"depth, limit + 1", with(func(f *rfb.PixelFormat) { f.Depth = 17 }), "depth 17 in 16"},
		{"maximum 254", with(func(f *rfb.PixelFormat) { f.BitsPerPixel, f.RedMax = 32, 254 }), "red maximum 254"},
		{"maximum 255", with(func(f *rfb.PixelFormat) { f.BitsPerPixel, f.RedMax = 32, 255 }), ""},
		{"maximum 256", with(func(f *rfb.PixelFormat) { f.BitsPerPixel, f.RedMax = 32, 256 }), "red maximum 256"},
		{"maximum 511", with(func(f *rfb.PixelFormat) { f.BitsPerPixel, f.RedMax = 32, 511 }), "red maximum 511"},
		{"maximum 65535", with(func(f *rfb.PixelFormat) { f.BitsPerPixel, f.RedMax = 32, 65535 }), "red maximum 65535"},
		{"maximum 0", with(func(f *rfb.PixelFormat) { f.BlueMax = 0 }), "blue maximum 0"},
		{"shift, limit - 1", with(func(f *rfb.PixelFormat) { f.RedShift = 11 }), ""},
		{"shift, limit + 1", with(func(f *rfb.PixelFormat) { f.RedShift = 12 }), "leaves 16 bits"},
		{"shift 255", with(func(f *rfb.PixelFormat) { f.RedShift = 255 }), "leaves 16 bits"},
		{"overlap", with(func(f *rfb.PixelFormat) { f.GreenShift = 4 }), "overlap"},
		{"map of 8 bits", rfb.PixelFormat{BitsPerPixel: 8, Depth: 8}, ""},
		{"map of 16 bits", rfb.PixelFormat{BitsPerPixel: 16, Depth: 8}, "a colour map with 16 bits"},
	} {
		if err := c.f.Check(); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, not %q", c.name, err, c.err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(session), uint32(everything))
	f.Add([]byte("\x06\x00\x00\x00\xff\xff\xff\xfcabcd"), uint32(rfb.AllowClipboard))
	f.Add([]byte(clip(rfb.ClipProvide|rfb.ClipText, letter("ÄΩ€中😀\r\n\x00"))), uint32(rfb.AllowClipboard))
	f.Add([]byte("\x02\x00\xff\xff\x00\x00\x00\x07"), uint32(0))
	f.Fuzz(func(t *testing.T, in []byte, allow uint32) {
		r := rfb.NewReader(bytes.NewReader(in))
		r.Allow(rfb.Optional(allow))
		d := &diary{}
		if err := readAll(r, d); err == nil {
			t.Fatal("no end")
		}
		// The same bytes, one at a time, say the same.
		slow := rfb.NewReader(oneByOne{bytes.NewReader(in)})
		slow.Allow(rfb.Optional(allow))
		again := &diary{}
		_ = readAll(slow, again)
		if !slices.Equal(d.lines, again.lines) {
			t.Fatalf("read %q at once and %q slowly", d.lines, again.lines)
		}
	})
}

// A format that passes can be written, read back and used by every encoding.
func FuzzPixelFormat(f *testing.F) {
	for _, p := range formats() {
		f.Add(p.AppendTo(nil))
	}
	img := paint(image.Rect(0, 0, 70, 20), mosaic(1))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) != 16 {
			return
		}
		got := &formatHandler{}
		if err := rfb.NewReader(strings.NewReader("\x00\x00\x00\x00" + string(in))).Next(got); err != nil {
			return
		}
		again := &formatHandler{}
		if err := rfb.NewReader(strings.NewReader("\x00\x00\x00\x00" + string(got.f.AppendTo(nil)))).Next(again); err != nil || again.f != got.f {
			t.Fatalf("wrote %+v, read back %+v, %v", got.f, again.f, err)
		}
		var e rfb.Encoder
		for _, encoding := range encodings {
			var b rfb.Batch
			e.Append(&b, rfb.Params{Encoding: encoding, Format: got.f, Quality: -1}, img, []image.Rectangle{img.Rect})
			m := frame.New(img.Rect)
			decode(t, newDecoder(got.f), &rfb.StreamState{}, &b, m)
			exact(t, got.f, img, []image.Rectangle{img.Rect}, m)
		}
	})
}

type formatHandler struct {
	quiet
	f rfb.PixelFormat
}

func (h *formatHandler) SetPixelFormat(f rfb.PixelFormat) error { h.f = f; return nil }

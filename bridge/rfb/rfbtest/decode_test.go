package rfbtest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"image"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/wire"
)

// bgr233 has one byte a pixel, which keeps handmade bytes readable.
var bgr233 = rfb.PixelFormat{BitsPerPixel: 8, Depth: 8, TrueColour: true, RedMax: 7, GreenMax: 7, BlueMax: 3, GreenShift: 3, BlueShift: 6}

// pack compresses a piece that begins a stream.
func pack(s string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = io.WriteString(z, s)
	_ = z.Flush()
	return b.String()
}

func withLength(s string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s
}

// letters shows a picture of bgr233 as text, a row a line: the number of each pixel as a digit.
func letters(m frame.Image) string {
	var b strings.Builder
	for y := range m.Rect.Max.Y {
		for x := range m.Rect.Max.X {
			p := m.Row(y, x, x+1)
			b.WriteByte('0' + p[2]/36 + p[1]/36*8 + p[0]/85*64)
		}
		b.WriteByte('/')
	}
	return b.String()
}

// Bytes made by hand from RFC 6143 and the description of Tight, and what they show.
func TestDecoders(t *testing.T) {
	for _, c := range []struct {
		name     string
		encoding int32
		w, h     int
		in       string
		want     string
		err      string
	}{
		{name: "Raw", encoding: rfb.Raw, w: 2, h: 2, in: "\x01\x02\x03\x04", want: "12/34/"},
		{name: "Raw, cut", encoding: rfb.Raw, w: 2, h: 2, in: "\x01\x02\x03", err: "unexpected EOF"},
		{name: "RRE", encoding: rfb.RRE, w: 3, h: 2, in: "\x00\x00\x00\x01\x05\x02\x00\x01\x00\x00\x00\x02\x00\x01", want: "522/555/"},
		{name: "RRE outside", encoding: rfb.RRE, w: 3, h: 2, in: "\x00\x00\x00\x01\x05\x02\x00\x02\x00\x00\x00\x02\x00\x01", err: "subrectangle of 2×1 at 2, 0 of 3×2"},
		{name: "RRE, too many", encoding: rfb.RRE, w: 3, h: 2, in: "\x00\x00\x00\x07\x05", err: "7 subrectangles, more than 6"},
		{name: "Hextile raw", encoding: rfb.Hextile, w: 2, h: 1, in: "\x01\x03\x04", want: "34/"},
		{name: "Hextile two tiles", encoding: rfb.Hextile, w: 18, h: 1, in: "\x02\x03\x0c\x05\x01\x00\x00", want: "333333333333333353/"},
		{name: "Hextile coloured", encoding: rfb.Hextile, w: 3, h: 3, in: "\x1a\x01\x02\x02\x00\x10\x03\x12\x10", want: "221/111/133/"},
		{name: "Hextile without background", encoding: rfb.Hextile, w: 2, h: 1, in: "\x00", err: "without a background"},
		{name: "Hextile without foreground", encoding: rfb.Hextile, w: 2, h: 1, in: "\x0a\x01\x01\x00\x00", err: "without a foreground"},
		{name: "Hextile outside", encoding: rfb.Hextile, w: 2, h: 1, in: "\x0e\x01\x02\x01\x00\x20", err: "subrectangle"},
		{name: "CopyRect outside", encoding: rfb.CopyRect, w: 2, h: 1, in: "\x00\x01\x00\x00", err: "a copy from (1,0)-(3,1)"},
		{name: "zlib", encoding: rfb.Zlib, w: 2, h: 2, in: withLength(pack("\x01\x02\x03\x04")), want: "12/34/"},
		{name: "zlib, too short", encoding: rfb.Zlib, w: 2, h: 2, in: withLength(pack("\x01\x02\x03")), err: "a piece ends too early"},
		{name: "zlib, far too long", encoding: rfb.Zlib, w: 2, h: 2, in: withLength(pack("\x01\x02\x03\x04") + strings.Repeat("x", 30)), err: "bytes more than the rectangle needs"},
		{name: "zlib, nothing", encoding: rfb.Zlib, w: 2, h: 2, in: withLength(""), err: "begin a zlib stream"},
		{name: "zlib, garbage", encoding: rfb.Zlib, w: 2, h: 2, in: withLength("garbage"), err: "begin a zlib stream"},
		{name: "zlib, huge", encoding: rfb.Zlib, w: 2, h: 2, in: "\xff\xff\xff\xff", err: "4294967295 bytes of zlib, more than 67108864"},
		{name: "JPEG, no beginning", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd9", err: "a JPEG picture begins with ffd9"},
		{name: "JPEG, no segment", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd8\xfe\xe0\x00\x02", err: "a JPEG segment begins with fee00002"},
		{name: "JPEG, short segment", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd8\xff\xe0\x00\x01", err: "a JPEG segment begins with ffe00001"},
		{name: "JPEG, cut", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd8\xff\xda\x00\x02abc", err: "unexpected EOF"},
		{name: "JPEG, marker in the scan", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd8\xff\xda\x00\x02a\xff\xd7\xff\xd8", err: "marker d8 in the scan"},
		{name: "JPEG, no picture", encoding: rfb.JPEG, w: 2, h: 2, in: "\xff\xd8\xff\xda\x00\x02a\xff\xd9", err: "JPEG: "},
		{name: "ZRLE raw", encoding: rfb.ZRLE, w: 2, h: 2, in: withLength(pack("\x00\x01\x02\x03\x04")), want: "12/34/"},
		{name: "ZRLE solid", encoding: rfb.ZRLE, w: 2, h: 2, in: withLength(pack("\x01\x06")), want: "66/66/"},
		{name: "ZRLE two colours", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x02\x06\x07\x40\xa0")), want: "676/767/"},
		{name: "ZRLE three colours", encoding: rfb.ZRLE, w: 5, h: 1, in: withLength(pack("\x03\x05\x06\x07\x18\x80")), want: "56757/"},
		{name: "ZRLE five colours", encoding: rfb.ZRLE, w: 3, h: 1, in: withLength(pack("\x05\x01\x02\x03\x04\x05\x40\x20")), want: "513/"},
		{name: "ZRLE colour outside", encoding: rfb.ZRLE, w: 3, h: 1, in: withLength(pack("\x05\x01\x02\x03\x04\x05\x50\x20")), err: "colour 5 of 5"},
		{name: "ZRLE runs", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x80\x01\x03\x02\x01")), want: "111/122/"},
		{name: "ZRLE long run", encoding: rfb.ZRLE, w: 20, h: 20, in: withLength(pack("\x80\x01\xff\x90")), want: strings.Repeat(strings.Repeat("1", 20)+"/", 20)},
		{name: "ZRLE one run", encoding: rfb.ZRLE, w: 1, h: 64, in: withLength(pack("\x80\x01\x3f")), want: strings.Repeat("1/", 64)},
		{name: "ZRLE run too long", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x80\x01\x06")), err: "a run of 7 pixels where 6 are left"},
		{name: "ZRLE palette runs", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x82\x01\x02\x80\x03\x01\x00")), want: "111/121/"},
		{name: "ZRLE unknown", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x11")), err: "tile of kind 17"},
		{name: "ZRLE 129", encoding: rfb.ZRLE, w: 3, h: 2, in: withLength(pack("\x81")), err: "tile of kind 129"},
		{name: "Tight fill", encoding: rfb.Tight, w: 3, h: 1, in: "\x80\x05", want: "555/"},
		{name: "Tight short", encoding: rfb.Tight, w: 3, h: 1, in: "\x00\x05\x06\x07", want: "567/"},
		{name: "Tight compressed", encoding: rfb.Tight, w: 6, h: 2, in: "\x01" + string(rune(len(pack("\x01\x02\x03\x04\x05\x06\x06\x05\x04\x03\x02\x01")))) + pack("\x01\x02\x03\x04\x05\x06\x06\x05\x04\x03\x02\x01"), want: "123456/654321/"},
		{name: "Tight two colours", encoding: rfb.Tight, w: 9, h: 1, in: "\x50\x01\x01\x05\x06\x55\x80", want: "565656566/"},
		{name: "Tight three colours", encoding: rfb.Tight, w: 3, h: 1, in: "\x60\x01\x02\x05\x06\x07\x02\x01\x00", want: "765/"},
		{name: "Tight colour outside", encoding: rfb.Tight, w: 3, h: 1, in: "\x60\x01\x02\x05\x06\x07\x03\x01\x00", err: "colour 3 of 3"},
		{name: "Tight gradient", encoding: rfb.Tight, w: 3, h: 1, in: "\x40\x02", err: "Tight filter 2"},
		{name: "Tight unknown", encoding: rfb.Tight, w: 3, h: 1, in: "\xa0", err: "a Tight rectangle of kind 10"},
		{name: "Tight JPEG, garbage", encoding: rfb.Tight, w: 3, h: 1, in: "\x90\x03abc", err: "JPEG: "},
		{name: "Tight too wide", encoding: rfb.Tight, w: 2049, h: 1, in: "\x80\x05", err: "2049 pixels wide"},
		{name: "unknown", encoding: 99, w: 1, h: 1, err: "encoding 99 is unknown"},
		{name: "empty", encoding: rfb.Raw, w: 0, h: 1, err: "an empty rectangle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := frame.New(image.Rect(0, 0, max(c.w, 1), c.h))
			var d Decoder
			d.SetFormat(bgr233)
			r := strings.NewReader(c.in)
			err := d.Rect(r, m, image.Rect(0, 0, c.w, c.h), c.encoding)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, not %q", err, c.err)
			}
			if err == nil && (letters(m) != c.want || r.Len() > 0) {
				t.Errorf("shows %s, not %s, %d bytes left", letters(m), c.want, r.Len())
			}
		})
	}
	var d Decoder
	d.SetFormat(bgr233)
	if err := d.Rect(strings.NewReader("x"), frame.New(image.Rect(0, 0, 5, 5)), image.Rect(4, 4, 6, 5), rfb.Raw); err == nil || !strings.Contains(err.Error(), "a rectangle at (4,4)-(6,5)") {
		t.Errorf("outside: %v", err)
	}
}

func TestTightLength(t *testing.T) {
	for in, want := range map[string]int{"\x00": 0, "\x7f": 127, "\x80\x01": 128, "\x90\x4e": 10000, "\xff\x7f": 16383, "\x80\x80\x01": 16384, "\xff\xff\xff": 4194303} {
		if got := tightLength(wire.NewReader(strings.NewReader(in))); got != want {
			t.Errorf("%q is %d, not %d", in, got, want)
		}
	}
}

// A stalled server does not hold up who watches the viewer, and waiting for what does not come ends.
func TestStall(t *testing.T) {
	defer goleak.VerifyNone(t)
	a, b := net.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = a.Read(make([]byte, 1))
		_, _ = a.Write(rfb.AppendServerInit(nil, image.Pt(4, 4), bgr233, "desk"))
		_, _ = a.Write([]byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x04\x00\x04\x00\x00\x00\x00\x01\x02\x03"))
	}()
	c, err := Handshake(b, Config{FromInit: true, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *Client) bool { return c.At(1, 1) != 0 }, time.Millisecond); err == nil || !strings.Contains(err.Error(), "not within") {
		t.Errorf("waited until %v", err)
	}
	<-sent
	a.Close()
	if err := c.WaitFor(func(*Client) bool { return false }, time.Minute); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("the end of the server is %v", err)
	}
	c.Close()
	<-c.Done()
	if c.Err() == nil || c.Name() != "desk" || c.Size() != image.Pt(4, 4) || c.At(99, 99) != 0 {
		t.Errorf("%v, %q, %v", c.Err(), c.Name(), c.Size())
	}
}

// fuzz gives bytes to a decoder as they are and, where the encoding compresses, packed as one piece. The picture and what packs are
// used again, as making them takes longer than all the rest.
func fuzz(f *testing.F, encoding int32, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(3), uint8(2), false)
		f.Add([]byte(s), uint8(70), uint8(33), true)
	}
	native := rfb.Native
	m := frame.New(image.Rect(0, 0, 255, 255))
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	f.Fuzz(func(t *testing.T, in []byte, w, h uint8, wide bool) {
		for _, packs := range []bool{false, true} {
			var d Decoder
			d.SetFormat(bgr233)
			if wide {
				d.SetFormat(native)
			}
			s := string(in)
			if packs {
				packed.Reset()
				z.Reset(&packed)
				_, _ = z.Write(in)
				_ = z.Flush()
				s = withLength(packed.String())
			}
			r := strings.NewReader(s)
			for d.Rect(r, m, image.Rect(0, 0, int(w), int(h)), encoding) == nil && r.Len() > 0 {
			}
		}
	})
}

func FuzzRaw(f *testing.F)      { fuzz(f, rfb.Raw, "\x01\x02\x03\x04\x05\x06") }
func FuzzCopyRect(f *testing.F) { fuzz(f, rfb.CopyRect, "\x00\x01\x00\x02") }
func FuzzRRE(f *testing.F) {
	fuzz(f, rfb.RRE, "\x00\x00\x00\x01\x05\x02\x00\x01\x00\x00\x00\x02\x00\x01")
}
func FuzzHextile(f *testing.F) {
	fuzz(f, rfb.Hextile, "\x1a\x01\x02\x02\x00\x10\x03\x12\x10", "\x02\x03\x0c\x05\x01\x00\x00", "\x01\x03\x04\x05\x06\x07\x08")
}
func FuzzZlib(f *testing.F) { fuzz(f, rfb.Zlib, "\x01\x02\x03\x04\x05\x06") }
func FuzzZRLE(f *testing.F) {
	fuzz(f, rfb.ZRLE, "\x00\x01\x02\x03\x04\x05\x06", "\x01\x06", "\x02\x06\x07\x40\xa0", "\x80\x01\x03\x02\x01", "\x82\x01\x02\x80\x03\x01\x00", withLength(pack("\x01\x06")))
}
func FuzzTight(f *testing.F) {
	fuzz(f, rfb.Tight, "\x80\x05", "\x00\x05\x06\x07\x01\x02\x03", "\x50\x01\x01\x05\x06\x55\x80", "\x60\x01\x02\x05\x06\x07\x02\x01\x00\x01\x01\x01", "\x01\x0e"+pack("\x01\x02\x03\x04\x05\x06"), "\x90\x03abc")
}
func FuzzJPEG(f *testing.F) {
	fuzz(f, rfb.JPEG, "\xff\xd8\xff\xe0\x00\x04ab\xff\xda\x00\x02\xff\x00\xff\xd0\xff\xd9", "\xff\xd8\xff\xdb\x00\x02\xff\xc4\x00\x02\xff\xda\x00\x02\xff\xd8")
}

// Whatever a server says after its ServerInit, the viewer ends in peace.
func FuzzServer(f *testing.F) {
	f.Add([]byte("\x02\x03\x00\x00\x00\x00\x00\x00\x02hi\x96\xf8\x00\x00\x00\x80\x00\x00\x01\x01x"))
	f.Add(rfb.AppendColourMap(nil))
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00\x00\x00\x02\x00\x01\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x20"))
	cursor := frame.Cursor{Size: image.Pt(3, 2), Pix: make([]byte, 24)}
	for kind := rfb.CursorX; kind <= rfb.CursorAlpha; kind++ {
		f.Add(rfb.AppendCursor(rfb.AppendUpdateHeader(nil, 1), cursor, kind, bgr233))
	}
	f.Add(rfb.AppendExtendedDesktopSize(rfb.AppendUpdateHeader(nil, 1), 0, 0, image.Pt(9, 9), []frame.Screen{{Rect: image.Rect(0, 0, 9, 9)}}))
	f.Add(rfb.AppendDesktopName(rfb.AppendUpdateHeader(nil, 1), "n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := &canned{in: bytes.NewReader(append(rfb.AppendServerInit(nil, image.Pt(32, 32), bgr233, "d"), in...))}
		c, err := Handshake(conn, Config{FromInit: true, Manual: true})
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		if c.Err() == nil {
			t.Fatal("no end")
		}
	})
}

// Whatever a server says before, the viewer ends in peace.
func FuzzLogin(f *testing.F) {
	f.Add([]byte("RFB 003.008\n\x01\x02"+strings.Repeat("c", 16)+"\x00\x00\x00\x00\x00\x04\x00\x04"), uint8(8))
	f.Add([]byte("RFB 003.003\n\x00\x00\x00\x00\x00\x00\x00\x02no"), uint8(3))
	f.Add([]byte("RFB 003.008\n\x01\x13\x00\x02\x00\x01\x00\x00\x01\x06\x01"), uint8(8))
	f.Fuzz(func(t *testing.T, in []byte, minor uint8) {
		for _, security := range []uint8{0, 1, 2, 19} {
			c, err := Handshake(&canned{in: bytes.NewReader(in)}, Config{Minor: int(minor), Security: security, Code: "c", Manual: true})
			if err == nil {
				c.Close()
			}
		}
	})
}

// canned is a server's half of a connection, already written.
type canned struct {
	net.Conn
	in io.Reader
}

func (c *canned) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

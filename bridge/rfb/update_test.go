package rfb_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// shape is a pointer of odd size: opaque, half and fully transparent pixels.
func shape() frame.Cursor {
	c := frame.Cursor{Size: image.Pt(11, 7), Hot: image.Pt(3, 4)}
	for i := range 11 * 7 {
		alpha := [...]byte{255, 128, 0, 200}[i%4]
		for _, v := range [...]int{i * 3, 255 - i, i * 2} { // premultiplied blue, green, red
			c.Pix = append(c.Pix, byte(v*int(alpha)/255))
		}
		c.Pix = append(c.Pix, alpha)
	}
	return c
}

// A talk is a server that has done its handshake with a viewer by pipe.
func talk(t *testing.T, cfg rfbtest.Config) (net.Conn, *rfbtest.Client) {
	t.Helper()
	a, b := net.Pipe()
	cfg.FromInit, cfg.Manual = true, true
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := rfb.ReadClientInit(a); err != nil {
			t.Error(err)
		}
		if _, err := a.Write(rfb.AppendServerInit(nil, image.Pt(64, 48), rfb.Native, "desk7")); err != nil {
			t.Error(err)
		}
	})
	c, err := rfbtest.Handshake(b, cfg)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); c.Close() })
	return a, c
}

// send sends a message and waits until the viewer has taken it.
func send(t *testing.T, to net.Conn, c *rfbtest.Client, b []byte) {
	t.Helper()
	bells := c.Bells()
	if _, err := to.Write(rfb.AppendBell(b)); err != nil {
		t.Fatalf("%v; the viewer: %v", err, c.Err())
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Bells() > bells }, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// What is not pixels reaches a viewer as it was sent.
func TestPseudoRectangles(t *testing.T) {
	to, c := talk(t, rfbtest.Config{})
	update := func(n int) []byte { return rfb.AppendUpdateHeader(nil, n) }

	send(t, to, c, rfb.AppendServerCutText(nil, []byte("h\xe9llo")))
	if text, n := c.Text(); text != "h\xe9llo" || n != 1 {
		t.Errorf("text %q, %d times", text, n)
	}
	send(t, to, c, rfb.AppendEndOfCU(nil))
	if c.EndsOfCU() != 1 {
		t.Errorf("%d ends of continuous updates", c.EndsOfCU())
	}
	for n := rfb.MaxFence - 1; n <= rfb.MaxFence+1; n++ {
		fences := c.Fences()
		send(t, to, c, rfb.AppendFence(nil, rfb.FenceBlockBefore, make([]byte, n)))
		if c.Fences() != fences+1 {
			t.Errorf("a fence of %d bytes did not arrive", n)
		}
	}
	if b := rfb.AppendFence(nil, 0, make([]byte, rfb.MaxFence+1)); len(b) != 9+rfb.MaxFence {
		t.Errorf("a fence that is too long became %d bytes", len(b))
	}
	send(t, to, c, rfb.AppendDesktopName(update(1), "desk7: Ünï\n"))
	if c.Name() != "desk7: Ünï " {
		t.Errorf("name %q", c.Name())
	}
	send(t, to, c, rfb.AppendDesktopName(update(1), strings.Repeat("n", rfb.MaxName+1)))
	if len(c.Name()) != rfb.MaxName {
		t.Errorf("a name of %d bytes", len(c.Name()))
	}
	send(t, to, c, rfb.AppendPointerPos(update(1), image.Pt(7, 9)))
	if c.PointerPos() != image.Pt(7, 9) {
		t.Errorf("pointer at %v", c.PointerPos())
	}
	send(t, to, c, rfb.AppendQEMULED(update(1), 5))
	if c.LED() != 5 {
		t.Errorf("lock keys %d", c.LED())
	}
	send(t, to, c, rfb.AppendVMwareLED(update(1), 3))
	if c.LED() != 3 {
		t.Errorf("lock keys %d", c.LED())
	}
	send(t, to, c, rfb.AppendAnnounce(rfb.AppendAnnounce(update(2), rfb.PseudoQEMUKey), rfb.PseudoExtendedMouse))
	if !c.Announced(rfb.PseudoQEMUKey) || !c.Announced(rfb.PseudoExtendedMouse) || c.Announced(rfb.PseudoLastRect) {
		t.Error("the announcements did not arrive")
	}
	send(t, to, c, rfb.AppendLastRect(rfb.AppendPointerPos(update(rfb.UnknownRects), image.Pt(1, 2))))
	if c.PointerPos() != image.Pt(1, 2) {
		t.Error("an update with a last rectangle did not end")
	}

	send(t, to, c, rfb.AppendDesktopSize(update(1), image.Pt(100, 50)))
	if c.Size() != image.Pt(100, 50) {
		t.Errorf("size %v", c.Size())
	}
	want := []frame.Screen{{ID: 7, Rect: image.Rect(0, 0, 120, 80)}, {ID: 9, Rect: image.Rect(120, 0, 200, 80)}}
	send(t, to, c, rfb.AppendExtendedDesktopSize(update(1), rfb.ReasonOther, rfb.ResultOK, image.Pt(200, 80), want))
	if got := c.Layout(); c.Size() != image.Pt(200, 80) || !reflect.DeepEqual(got, rfbtest.Layout{Reason: 2, Size: c.Size(), Screens: want}) {
		t.Errorf("size %v, %v", c.Size(), got)
	}
	send(t, to, c, rfb.AppendExtendedDesktopSize(update(1), rfb.ReasonClient, rfb.ResultProhibited, image.Pt(200, 80), want))
	if got := c.Layout(); got.Reason != 1 || got.Result != 1 {
		t.Errorf("%v", got)
	}
	if b := rfb.AppendExtendedDesktopSize(nil, 0, 0, image.Pt(1, 1), make([]frame.Screen, 256)); len(b) != 12+4+255*16 || b[12] != 255 {
		t.Errorf("256 screens gave %d bytes", len(b))
	}
	if c.Updates() != 10 {
		t.Errorf("%d updates", c.Updates())
	}
}

func TestCopyRect(t *testing.T) {
	to, c := talk(t, rfbtest.Config{})
	img := paint(image.Rect(0, 0, 64, 48), mosaic(1))
	var e rfb.Encoder
	var b rfb.Batch
	e.Append(&b, rfb.Params{Encoding: rfb.Raw, Format: rfb.Native}, img, []image.Rectangle{img.Rect})
	send(t, to, c, append(rfb.AppendUpdateHeader(nil, b.Count), b.Bytes...))
	for _, m := range []frame.Copy{
		{From: image.Pt(0, 0), To: image.Rect(5, 7, 35, 40)}, {From: image.Pt(30, 20), To: image.Rect(20, 19, 50, 40)}, {From: image.Pt(3, 3), To: image.Rect(0, 3, 20, 20)},
	} {
		want := c.Picture()
		before := c.Picture()
		for y := range m.To.Dy() {
			copy(want.Row(m.To.Min.Y+y, m.To.Min.X, m.To.Max.X), before.Row(m.From.Y+y, m.From.X, m.From.X+m.To.Dx()))
		}
		send(t, to, c, rfb.AppendCopyRect(rfb.AppendUpdateHeader(nil, 1), m))
		if !bytes.Equal(c.Picture().Pix, want.Pix) {
			t.Errorf("a copy from %v to %v went wrong", m.From, m.To)
		}
	}
}

// Every kind of pointer shows the colours and the outline that the kind can show.
func TestCursor(t *testing.T) {
	source := shape()
	for kind, encoding := range map[rfb.CursorKind]int32{rfb.CursorX: rfb.PseudoXCursor, rfb.CursorPixels: rfb.PseudoCursor,
		rfb.CursorVMware: rfb.PseudoVMwareCursor, rfb.CursorAlpha: rfb.PseudoCursorWithAlpha} {
		for _, name := range []string{"native", "565 BE", "BGR233", "map"} {
			t.Run(fmt.Sprint(encoding, " ", name), func(t *testing.T) {
				f := formats()[name]
				to, c := talk(t, rfbtest.Config{Format: f})
				if !f.TrueColour {
					send(t, to, c, rfb.AppendColourMap(nil))
				}
				send(t, to, c, rfb.AppendCursor(rfb.AppendUpdateHeader(nil, 1), source, kind, f))
				got := c.Cursor()
				if got.Encoding != encoding || got.Size != source.Size || got.Hot != source.Hot {
					t.Fatalf("%d, size %v, hot spot %v", got.Encoding, got.Size, got.Hot)
				}
				for i := 0; i < len(source.Pix); i += 4 {
					alpha := int(source.Pix[i+3])
					opaque := alpha >= 128
					if kind >= rfb.CursorVMware {
						if int(got.RGBA[i+3]) != alpha {
							t.Fatalf("pixel %d has alpha %d, not %d", i/4, got.RGBA[i+3], alpha)
						}
						opaque = alpha > 0
					} else if (got.RGBA[i+3] == 255) != opaque || !opaque && got.RGBA[i+3] != 0 {
						t.Fatalf("pixel %d has alpha %d of %d", i/4, got.RGBA[i+3], alpha)
					}
					if !opaque {
						continue
					}
					var colour [3]int // red, green, blue without alpha
					for k := range colour {
						colour[k] = min(int(source.Pix[i+2-k])*255/alpha, 255)
					}
					step := 2
					switch kind {
					case rfb.CursorX:
						if v := got.RGBA[i]; v != got.RGBA[i+1] || v != got.RGBA[i+2] || v != 0 && v != 255 {
							t.Fatalf("pixel %d is %v", i/4, got.RGBA[i:i+3])
						}
						continue
					case rfb.CursorPixels:
						step = map[string]int{"native": 2, "565 BE": 6, "BGR233": 44, "map": 44}[name]
					}
					for k, v := range colour {
						if d := int(got.RGBA[i+k]) - v; d > step || d < -step {
							t.Fatalf("pixel %d is %v, not %v", i/4, got.RGBA[i:i+3], colour)
						}
					}
				}
			})
		}
	}
}

// A hidden pointer is an empty rectangle; one that is too large is cut, and its hot spot stays inside.
func TestCursorEdges(t *testing.T) {
	header := func(b []byte) (x, y, w, h int) {
		u := func(i int) int { return int(binary.BigEndian.Uint16(b[i:])) }
		return u(0), u(2), u(4), u(6)
	}
	for kind, body := range map[rfb.CursorKind]int{rfb.CursorX: 0, rfb.CursorPixels: 0, rfb.CursorVMware: 2, rfb.CursorAlpha: 4} {
		for _, c := range []frame.Cursor{{}, {Size: image.Pt(5, 0), Hot: image.Pt(3, 3)}, {Size: image.Pt(5, 5), Pix: make([]byte, 99)}, {Size: image.Pt(-5, -5), Pix: make([]byte, 100)}} {
			b := rfb.AppendCursor(nil, c, kind, rfb.Native)
			if x, y, w, h := header(b); x != 0 || y != 0 || w != 0 || h != 0 || len(b) != 12+body {
				t.Errorf("kind %d, size %v: %d×%d at %d, %d, %d bytes", kind, c.Size, w, h, x, y, len(b))
			}
		}
		for n := frame.MaxCursorSide - 1; n <= frame.MaxCursorSide+1; n++ {
			c := frame.Cursor{Size: image.Pt(n, n), Hot: image.Pt(n, -4), Pix: make([]byte, 4*n*n)}
			if x, y, w, h := header(rfb.AppendCursor(nil, c, kind, rfb.Native)); w != min(n, 256) || h != w || x != w-1 || y != 0 {
				t.Errorf("%d pixels became %d×%d with the hot spot at %d, %d", n, w, h, x, y)
			}
		}
	}
}

func TestParseEncodings(t *testing.T) {
	base := rfb.Capabilities{Encoding: rfb.Raw, Quality: -1, Compress: -1}
	with := func(f func(*rfb.Capabilities)) rfb.Capabilities { c := base; f(&c); return c }
	for _, c := range []struct {
		name string
		list []int32
		want rfb.Capabilities
	}{
		{"none", nil, base},
		{"unknown", []int32{4, 9, 15, 17, 50, -260, 1 << 30, -1 << 31}, base},
		{"JPEG alone", []int32{21}, with(func(c *rfb.Capabilities) { c.JPEG = true })},
		{"TigerVNC 1.12", []int32{-314, 0x574d5664, -239, -240, 0x574d5666, -223, -308, -307, -224, -0x3f5e1a32, -313, -312, -258, 7, 1, 16, 5, 2, 0, -254, -24},
			with(func(c *rfb.Capabilities) {
				c.Encoding, c.CopyRect, c.Cursor, c.Compress, c.Quality = rfb.Tight, true, rfb.CursorAlpha, 2, 8
				c.DesktopSize, c.ExtendedDesktopSize, c.DesktopName, c.LastRect = true, true, true, true
				c.ContinuousUpdates, c.Fence, c.QEMUKey, c.ExtendedClipboard = true, true, true, true
			})},
		{"noVNC 1.7", []int32{1, 7, -260, 16, 21, 5, 2, 6, 0, -26, -254, -223, -224, -258, -261, -308, -309, -312, -313, -307, -0x3f5e1a32, -316, 0x574d5664, -239},
			with(func(c *rfb.Capabilities) {
				c.Encoding, c.CopyRect, c.Cursor, c.Compress, c.Quality = rfb.Tight, true, rfb.CursorVMware, 2, 6
				c.JPEG = true
				c.DesktopSize, c.ExtendedDesktopSize, c.DesktopName, c.LastRect = true, true, true, true
				c.ContinuousUpdates, c.Fence, c.QEMUKey, c.QEMULED, c.ExtendedMouse, c.ExtendedClipboard = true, true, true, true, true, true
			})},
		{"Remmina, best", []int32{1, 6, 5, 0, -255, -240, -239, -232, -131072, -223, -308, -131071, -131070, -131069, -309, -258},
			with(func(c *rfb.Capabilities) {
				c.Encoding, c.CopyRect, c.Cursor, c.Compress, c.OneStream = rfb.Zlib, true, rfb.CursorPixels, 1, true
				c.DesktopSize, c.ExtendedDesktopSize, c.PointerPos, c.QEMUKey = true, true, true, true
			})},
		{"xtightvncviewer on the same machine", []int32{0, 1, 7, 5, 6, 4, 2, -255, -26, -240, -239, -232, -224},
			with(func(c *rfb.Capabilities) {
				c.Encoding, c.CopyRect, c.Cursor, c.Compress, c.Quality, c.PointerPos, c.LastRect = rfb.Tight, true, rfb.CursorPixels, 1, 6, true, true
			})},
		{"vncsnapshot", []int32{-224, 1, 0, 16, 5, 4, 2, 7, -252, -23, -240, -239, -232},
			with(func(c *rfb.Capabilities) {
				c.Encoding, c.CopyRect, c.Cursor, c.Compress, c.Quality, c.PointerPos, c.LastRect = rfb.ZRLE, true, rfb.CursorPixels, 4, 9, true, true
			})},
		{"lowest levels", []int32{-32, -256}, with(func(c *rfb.Capabilities) { c.Quality, c.Compress = 0, 0 })},
		{"highest levels", []int32{-23, -247}, with(func(c *rfb.Capabilities) { c.Quality, c.Compress = 9, 9 })},
		{"beside the levels", []int32{-33, -22, -257, -246, -513, -411}, base},
		{"fine quality 0", []int32{-512}, with(func(c *rfb.Capabilities) { c.Quality, c.Fine = 0, 1 })},
		{"fine quality 80", []int32{-432}, with(func(c *rfb.Capabilities) { c.Quality, c.Fine = 7, 80 })},
		{"fine quality 100", []int32{-412}, with(func(c *rfb.Capabilities) { c.Quality, c.Fine = 9, 100 })},
		{"beyond fine qualities", []int32{-411, -513}, base},
		{"fine quality beside a level", []int32{-412, -30}, with(func(c *rfb.Capabilities) { c.Quality, c.Fine = 2, 100 })},
		{"4:4:4", []int32{-768}, with(func(c *rfb.Capabilities) { c.Sub = rfb.Sub444 })},
		{"4:2:0", []int32{-767}, with(func(c *rfb.Capabilities) { c.Sub = rfb.Sub420 })},
		{"4:2:2", []int32{-766}, with(func(c *rfb.Capabilities) { c.Sub = rfb.Sub422 })},
		{"grey", []int32{-765}, with(func(c *rfb.Capabilities) { c.Sub = rfb.Sub420 })},
		{"one colour of 4×4", []int32{-763}, with(func(c *rfb.Capabilities) { c.Sub = rfb.Sub420 })},
		{"beyond subsamplings", []int32{-769, -762}, base},
		{"TurboVNC", []int32{7, -247 - 8, -417, -768, -24}, with(func(c *rfb.Capabilities) {
			c.Encoding, c.Compress, c.Quality, c.Fine, c.Sub = rfb.Tight, 1, 8, 95, rfb.Sub444
		})},
		{"VMware LED", []int32{0x574d5668}, with(func(c *rfb.Capabilities) { c.VMwareLED = true })},
	} {
		if got := rfb.ParseEncodings(c.list); got != c.want {
			t.Errorf("%s: %+v\nnot %+v", c.name, got, c.want)
		}
	}
}

func TestOptional(t *testing.T) {
	for _, c := range []struct {
		list []int32
		want rfb.Optional
	}{
		{nil, 0}, {[]int32{-258}, rfb.AllowQEMUKeys}, {[]int32{-312}, rfb.AllowFence}, {[]int32{-313}, 0},
		{[]int32{-312, -313}, rfb.AllowFence | rfb.AllowContinuousUpdates}, {[]int32{-316}, rfb.AllowExtendedMouse},
		{[]int32{-308}, rfb.AllowDesktopSize}, {[]int32{-0x3f5e1a32}, rfb.AllowClipboard},
	} {
		if got := rfb.ParseEncodings(c.list).Optional(); got != c.want {
			t.Errorf("%d allows %b, not %b", c.list, got, c.want)
		}
	}
}

// libvncclient reads zlib and ZRLE from one stream, so it gets one header.
func TestOneStream(t *testing.T) {
	img := paint(image.Rect(0, 0, 100, 80), mosaic(1))
	var e rfb.Encoder
	for _, first := range []int32{rfb.Zlib, rfb.ZRLE} {
		s := rfb.StreamState{OneStream: true}
		var sizes []int
		for _, encoding := range []int32{first, rfb.Zlib, rfb.ZRLE} {
			var b rfb.Batch
			e.Append(&b, rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: -1}, img, []image.Rectangle{img.Rect})
			sizes = append(sizes, len(b.AppendTo(nil, &s))-len(b.Bytes))
		}
		if !reflect.DeepEqual(sizes, []int{2, 0, 0}) {
			t.Errorf("headers of %d bytes", sizes)
		}
	}
	var b rfb.Batch
	for _, encoding := range []int32{rfb.ZRLE, rfb.Zlib} {
		e.Append(&b, rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: -1}, img, []image.Rectangle{img.Rect})
	}
	if n := len(b.AppendTo(nil, &rfb.StreamState{OneStream: true})) - len(b.Bytes); n != 2 {
		t.Errorf("headers of %d bytes in a mixed batch", n)
	}
	if n := len(b.AppendTo(nil, &rfb.StreamState{})) - len(b.Bytes); n != 4 {
		t.Errorf("headers of %d bytes in a mixed batch for two streams", n)
	}
}

func FuzzParseEncodings(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x07\xff\xff\xff\x11"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var list []int32
		for ; len(in) >= 4; in = in[4:] {
			list = append(list, int32(binary.BigEndian.Uint32(in)))
		}
		c := rfb.ParseEncodings(list)
		if c.Quality < -1 || c.Quality > 9 || c.Compress < -1 || c.Compress > 9 || c.Cursor > rfb.CursorAlpha {
			t.Fatalf("%+v", c)
		}
		if p := c.Params(rfb.Native, false); p != c.Params(rfb.Native, false) || c.Fine > 100 || c.Sub > rfb.Sub420 || p.Lossless != (p.Quality < 0) {
			t.Fatalf("%+v", p)
		}
	})
}

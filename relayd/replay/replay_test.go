package replay

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

const patience = 20 * time.Second

var size = image.Pt(640, 480)

// scene is the picture of a second of the test's recording: no two are the same.
func scene(second int) frame.Image {
	m := frame.New(image.Rectangle{Max: size})
	for y := range size.Y {
		row := m.Row(y, 0, size.X)
		for x := range size.X {
			row[4*x], row[4*x+1], row[4*x+2] = byte(second*3), byte(x/8*second), byte(y/8+second)
		}
	}
	return m
}

// recording has a new picture each second, for 100 seconds.
func recording(t *testing.T) *record.File {
	t.Helper()
	var out bytes.Buffer
	w, err := record.NewWriter(&out, size, "alice@desk7")
	if err != nil {
		t.Fatal(err)
	}
	var enc rfb.Encoder
	var b rfb.Batch
	var s rfb.StreamState
	params := rfb.ParseEncodings([]int32{rfb.Tight}).Params(rfb.Native, true)
	for second := range 101 {
		b.Reset()
		enc.Append(&b, params, scene(second), []image.Rectangle{{Max: size}})
		w.Begin(time.Duration(second) * time.Second)
		w.Write(b.AppendTo(rfb.AppendUpdateHeader(nil, b.Count), &s))
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := record.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// serveIt shows the recording and gives the address.
func serveIt(t *testing.T, cfg Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = "pass1234"
	if cfg.Bar == 0 {
		cfg.Bar = 100 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, cfg, func(v string, err error) { t.Logf("%s: %v", v, err) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string, cfg rfbtest.Config) *rfbtest.Client {
	t.Helper()
	cfg.Code = "pass1234"
	c, err := rfbtest.Dial(t.Context(), address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// shows waits until a viewer shows the picture of a second, exactly; the bar goes by itself.
func shows(t *testing.T, c *rfbtest.Client, second int) {
	t.Helper()
	want := scene(second)
	err := c.WaitFor(func(c *rfbtest.Client) bool {
		m := c.Picture()
		return slices.EqualFunc(m.Pix, want.Pix, func(a, b byte) bool { return a == b })
	}, patience)
	if err != nil {
		t.Fatalf("second %d is not shown: %v", second, err)
	}
}

func press(t *testing.T, c *rfbtest.Client, syms ...uint32) {
	t.Helper()
	for _, s := range syms {
		if err := c.Key(true, s); err != nil {
			t.Fatal(err)
		}
		if err := c.Key(false, s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryViewerSeesWhatWasRecorded(t *testing.T) {
	address := serveIt(t, Config{File: recording(t), Speed: 1, At: 42 * time.Second, Paused: true})
	for minor, encodings := range map[int][]int32{
		3: {rfb.Raw}, 7: {rfb.Hextile}, 8: {rfb.Tight, rfb.PseudoQuality0 + 2, rfb.PseudoDesktopName, rfb.PseudoLastRect},
	} {
		t.Run(fmt.Sprintf("RFB 3.%d", minor), func(t *testing.T) {
			t.Parallel()
			shows(t, dial(t, address, rfbtest.Config{Minor: minor, Encodings: encodings}), 42)
		})
	}
	for name, e := range map[string]int32{"ZRLE": rfb.ZRLE, "Zlib": rfb.Zlib, "RRE": rfb.RRE} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := rfb.PixelFormat{BitsPerPixel: 32, Depth: 24, BigEndian: true, TrueColour: true, RedMax: 255, GreenMax: 255, BlueMax: 255, BlueShift: 16, GreenShift: 8}
			shows(t, dial(t, address, rfbtest.Config{Encodings: []int32{e}, Format: f}), 42)
		})
	}
}

func TestKeysGoElsewhere(t *testing.T) {
	c := dial(t, serveIt(t, Config{File: recording(t), Speed: 1, Paused: true}), rfbtest.Config{
		Encodings: []int32{rfb.ZRLE, rfb.PseudoDesktopName},
	})
	for _, step := range []struct {
		keys   []uint32
		second int
	}{
		{[]uint32{form.KeyEnd}, 100},
		{[]uint32{form.KeyLeft, form.KeyLeft}, 80},
		{[]uint32{'3', form.KeyRight}, 40},
		{[]uint32{keyPageUp}, 0},
		{[]uint32{keyPageDown}, 60},
		{[]uint32{form.KeyHome}, 0},
		{[]uint32{0xffb5}, 50}, // 5 of the keypad
	} {
		press(t, c, step.keys...)
		shows(t, c, step.second)
		if want := Clock(time.Duration(step.second)*time.Second) + " / 0:01:40 · alice@desk7"; c.Name() != want {
			t.Fatalf("the title is %q, not %q", c.Name(), want)
		}
	}
	press(t, c, form.KeyUp, form.KeyUp, form.KeyUp, form.KeyUp, form.KeyUp, form.KeyUp, ' ') // 64 times as fast, from 50 on
	shows(t, c, 100)
}

func TestEscapeHidesTheBar(t *testing.T) {
	c := dial(t, serveIt(t, Config{File: recording(t), Speed: 1, Paused: true, Bar: time.Hour}), rfbtest.Config{Encodings: []int32{rfb.ZRLE}})
	press(t, c, '7', form.KeyEscape)
	shows(t, c, 70)
}

func TestPasswordIsNeeded(t *testing.T) {
	address := serveIt(t, Config{File: recording(t), Speed: 1})
	_, err := rfbtest.Dial(t.Context(), address, rfbtest.Config{Code: "pass1235"})
	if err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Fatal(err)
	}
}

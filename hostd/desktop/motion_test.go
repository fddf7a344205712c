package desktop

import (
	"bufio"
	"context"
	"errors"
	"image"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/screen"
)

// An xserver is a real X server, seen by a program that draws.
type xserver struct {
	t    testing.TB
	cmd  *exec.Cmd
	name string
	x    *xgb.Conn
	root xproto.ScreenInfo
	gc   xproto.Gcontext // of the root and its windows
	size image.Point
}

func startX(t testing.TB, geometry string) *xserver {
	t.Helper()
	return startServer(t, "Xvfb", "-screen", "0", geometry)
}

func startServer(t testing.TB, program string, args ...string) *xserver {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(program, append([]string{"-displayfd", "3", "-ac", "-nolisten", "tcp", "-noreset"}, args...)...)
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	d := &xserver{t: t, cmd: cmd, name: ":" + strings.TrimSpace(line)}
	if d.x, err = xgb.NewConnDisplay(d.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.x.Close)
	d.root = *xproto.Setup(d.x).DefaultScreen(d.x)
	d.size = image.Pt(int(d.root.WidthInPixels), int(d.root.HeightInPixels))
	d.gc, _ = xproto.NewGcontextId(d.x)
	d.check(xproto.CreateGCChecked(d.x, d.gc, xproto.Drawable(d.root.Root), 0, nil).Check())
	return d
}

func (d *xserver) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// pixmap keeps an image in the server.
func (d *xserver) pixmap(img frame.Image) xproto.Drawable {
	d.t.Helper()
	id, err := xproto.NewPixmapId(d.x)
	d.check(err)
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if h == 1 {
		img.Stride = len(img.Pix) // frame.Solid has none
	}
	d.check(xproto.CreatePixmapChecked(d.x, d.root.RootDepth, id, xproto.Drawable(d.root.Root), uint16(w), uint16(h)).Check())
	for y := 0; y < h; y += 32 {
		n := min(32, h-y)
		d.check(xproto.PutImageChecked(d.x, xproto.ImageFormatZPixmap, xproto.Drawable(id), d.gc, uint16(w), uint16(n), 0, int16(y), 0,
			d.root.RootDepth, img.Pix[y*img.Stride:(y+n)*img.Stride]).Check())
	}
	return xproto.Drawable(id)
}

// window is one that shows a pixmap as its background, so that nobody has to draw what becomes visible.
func (d *xserver) window(r image.Rectangle, show xproto.Drawable) xproto.Window {
	d.t.Helper()
	id, err := xproto.NewWindowId(d.x)
	d.check(err)
	d.check(xproto.CreateWindowChecked(d.x, 0, id, d.root.Root, int16(r.Min.X), int16(r.Min.Y), uint16(r.Dx()), uint16(r.Dy()), 0,
		xproto.WindowClassInputOutput, d.root.RootVisual, xproto.CwBackPixmap|xproto.CwOverrideRedirect, []uint32{uint32(show), 1}).Check())
	d.check(xproto.MapWindowChecked(d.x, id).Check())
	return id
}

func (d *xserver) copy(from, to xproto.Drawable, src image.Rectangle, at image.Point) {
	d.t.Helper()
	d.check(xproto.CopyAreaChecked(d.x, from, to, d.gc, int16(src.Min.X), int16(src.Min.Y), int16(at.X), int16(at.Y),
		uint16(src.Dx()), uint16(src.Dy())).Check())
}

func (d *xserver) fill(w xproto.Window, r image.Rectangle, rgb uint32) {
	d.t.Helper()
	xproto.ChangeGC(d.x, d.gc, xproto.GcForeground, []uint32{rgb})
	d.check(xproto.PolyFillRectangleChecked(d.x, xproto.Drawable(w), d.gc, []xproto.Rectangle{{
		X: int16(r.Min.X), Y: int16(r.Min.Y), Width: uint16(r.Dx()), Height: uint16(r.Dy())}}).Check())
}

// shot is what the screen shows.
func (d *xserver) shot() frame.Image {
	d.t.Helper()
	r, err := xproto.GetImage(d.x, xproto.ImageFormatZPixmap, xproto.Drawable(d.root.Root), 0, 0, uint16(d.size.X), uint16(d.size.Y), ^uint32(0)).Reply()
	d.check(err)
	return frame.Image{Pix: r.Data, Stride: d.size.X * frame.BytesPerPixel, Rect: image.Rectangle{Max: d.size}}
}

// real gives hostd-net the display of an X server, by a worker as hostd starts it.
func (h *fakeHost) real(d *xserver) {
	h.t.Helper()
	a, b, err1 := ipc.Pair()
	mine, err2 := ipc.FileConn(a)
	theirs, err3 := ipc.FileConn(b)
	for _, err := range []error{err1, err2, err3} {
		d.check(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- screen.RunWorker(ctx, theirs, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	received := make(chan struct{})
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("the worker: %v", err)
		}
		mine.Close()
		theirs.Close()
		<-received
	})
	d.check(mine.Send(ipc.TypeStart, ipc.Start{Display: d.name}))
	buf := make([]byte, ipc.MaxMessage)
	p, _, err := mine.Receive(buf)
	d.check(err)
	h.with(func() { h.resize = func(r ipc.Resize) { mine.Send(ipc.TypeResize, r) } })
	h.hand(mine, p)
	go func() {
		defer close(received)
		for {
			p, _, err := mine.Receive(buf)
			if err != nil {
				return
			}
			h.hand(mine, p)
		}
	}()
}

// hand gives a worker and hostd-net a memory of the size that the worker has told.
func (h *fakeHost) hand(w *ipc.Conn, p []byte) {
	ready, err1 := ipc.Decode[ipc.Ready](p)
	stride := ready.Size.X * frame.BytesPerPixel
	f, mem, err2 := memory(stride * ready.Size.Y)
	worker, net, err3 := ipc.Pair()
	if err := errors.Join(err1, err2, err3); err != nil {
		h.t.Error(err)
		return
	}
	unix.Munmap(mem)
	defer ipc.CloseFiles([]*os.File{f, worker, net})
	if w.Send(ipc.TypeMemory, ipc.Memory{Size: ready.Size, Stride: stride}, f, worker) == nil {
		h.with(func() {
			h.send(ipc.TypeDesktop, ipc.Desktop{Number: 1, Size: ready.Size, Stride: stride, Name: "the desktop"}, f, net)
		})
	}
}

// document looks like a page with text and pictures.
func document(size image.Point) frame.Image {
	img := frame.New(image.Rectangle{Max: size})
	rnd := rand.New(rand.NewPCG(4, 2))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	for y := 0; y+20 < size.Y; y += 20 {
		if y/300%3 == 2 { // a picture
			for row := y; row < y+20; row++ {
				for x := 40; x < size.X*2/3; x++ {
					p := img.Row(row, x, x+1)
					p[0], p[1], p[2] = byte(row/3+x/5+rnd.IntN(12)), byte(row/2+rnd.IntN(12)), byte(x/4+rnd.IntN(12))
				}
			}
			continue
		}
		for x, end := 30, size.X-60-rnd.IntN(300); x < end; x += 9 {
			if rnd.IntN(6) == 0 {
				continue // between words
			}
			for row := y + 3; row < y+15; row++ {
				for col := x; col < x+7; col++ {
					if rnd.IntN(3) == 0 {
						p := img.Row(row, col, col+1)
						p[0], p[1], p[2] = 0x20, 0x20, 0x20
					}
				}
			}
		}
	}
	return img
}

// What is sent of a screen that scrolls, and of a window that is dragged, to viewers that can copy and to others. That they show the
// same as the screen in the end is the condition.
func TestBytesOfMotion(t *testing.T) {
	const steps = 12
	d := startX(t, "1280x800x24")
	root := d.root.Root
	page := document(image.Pt(1000, 700+48*steps+48))
	doc := d.pixmap(page)
	for at := 0; at < d.size.X; at += 64 { // a background that shows where a window was
		d.fill(root, image.Rect(at, 0, at+64, d.size.Y), uint32(at)*0x30201+0x336699)
	}
	marker := d.window(image.Rect(1240, 760, 1272, 792), xproto.Drawable(d.pixmap(frame.Solid(image.Rect(0, 0, 32, 1), 0))))
	s, h := start(t, d.size)
	h.real(d)
	kinds := []struct {
		name string
		list []int32
		most float64 // bytes to a viewer that copies, of those to one that does not
	}{
		{"Tight quality 8", []int32{rfb.Tight, rfb.PseudoQuality0 + 8, rfb.PseudoCursor, rfb.PseudoDesktopSize}, 0.4},
		{"ZRLE", []int32{rfb.ZRLE, rfb.PseudoCursor, rfb.PseudoDesktopSize}, 0.3},
	}
	var viewers []*rfbtest.Client
	for _, k := range kinds {
		for _, copies := range []bool{false, true} {
			list := k.list
			who := k.name
			if copies {
				list = append([]int32{rfb.CopyRect}, list...)
				who += " and CopyRect"
			}
			c := view(t, s, who, tunnel.RoleWatch, rfbtest.Config{Encodings: list})
			logIn(t, s, who, c)
			viewers = append(viewers, c)
		}
	}
	rests(t, s, len(viewers))

	var shown xproto.Window
	for _, load := range []struct {
		name  string
		begin func()
		step  func(i int)
	}{
		{"a scrolled page", func() {
			shown = d.window(image.Rect(100, 40, 1100, 740), d.pixmap(frame.Solid(image.Rect(0, 0, 32, 1), 0xffffff)))
			d.copy(doc, xproto.Drawable(shown), image.Rect(0, 0, 1000, 700), image.Point{})
		}, func(i int) {
			d.copy(doc, xproto.Drawable(shown), image.Rect(0, 48*i+48, 1000, 48*i+748), image.Point{})
		}},
		{"a scrolling terminal", func() {}, func(i int) {
			d.copy(xproto.Drawable(shown), xproto.Drawable(shown), image.Rect(0, 20, 1000, 700), image.Point{})
			d.copy(doc, xproto.Drawable(shown), image.Rect(0, 20*(i%15), 1000, 20*(i%15)+20), image.Pt(0, 680))
		}},
		{"a dragged window", func() {
			xproto.DestroyWindow(d.x, shown)
			shown = d.window(image.Rect(50, 50, 450, 350), d.pixmap(document(image.Pt(400, 300))))
			xproto.ConfigureWindow(d.x, shown, xproto.ConfigWindowX, []uint32{51}) // the worker gets to know it
		}, func(i int) {
			xproto.ConfigureWindow(d.x, shown, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{uint32(51 + 7*i + 7), uint32(50 + 5*i + 5)})
		}},
	} {
		t.Run(load.name, func(t *testing.T) {
			mark := func(rgb uint32) {
				d.fill(marker, image.Rect(0, 0, 32, 32), rgb)
				for _, c := range viewers {
					sees(t, c, 1256, 776, rgb)
				}
			}
			load.begin()
			mark(0xffff00)
			rests(t, s, len(viewers))
			var before []int64
			for _, c := range viewers {
				before = append(before, c.Bytes())
			}
			for i := range steps {
				load.step(i)
				mark(uint32(i)*0x51 + 1)
			}
			var sent []int64
			for i, c := range viewers {
				sent = append(sent, c.Bytes()-before[i])
			}
			rests(t, s, len(viewers))
			want := d.shot()
			for i, c := range viewers {
				if diff := differ(want, c.Picture(), []image.Rectangle{image.Rect(624, 384, 656, 432)}); diff != "" { // the pointer
					t.Errorf("viewer %d: %s", i, diff)
				}
			}
			for i, k := range kinds {
				plain, copies := sent[2*i]/steps, sent[2*i+1]/steps
				ratio := float64(copies) / float64(plain)
				t.Logf("%s: %d bytes a step without copies, %d with them: %.3f", k.name, plain, copies, ratio)
				if ratio > k.most {
					t.Errorf("%s: more than %v", k.name, k.most)
				}
			}
		})
	}
}

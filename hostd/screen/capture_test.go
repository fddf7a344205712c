package screen

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math/bits"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// watch opens a display with a worker and looks at it.
func (x *xserver) watch(t testing.TB) (*monitor, *spectator) {
	t.Helper()
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	s := m.memory(m.ready(ipc.TypeReady).Size)
	s.grab(false)
	return m, s
}

// settle grabs until everything that was drawn before the call is in the memory.
func (s *spectator) settle() {
	s.t.Helper()
	s.grab(false) // the server answers in the order it drew
}

func TestDamagedOncePerBurst(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	_, s := x.watch(t)
	s.settle()
	for round := range 3 {
		for i := range 50 {
			p.fill(image.Rect(i*10, 0, i*10+8, 8), uint32(round*50+i+1))
		}
		await(t, s.msgs, ipc.TypeDamaged)
		f := s.grab(false)
		if f.Captured > 50*16*16 || len(f.Rects) == 0 {
			t.Fatalf("captured %d pixels, %d rectangles", f.Captured, len(f.Rects))
		}
		s.equal(p.shot())
		for len(s.msgs) > 0 {
			if m := <-s.msgs; m.t == ipc.TypeDamaged {
				t.Fatal("told twice of one burst")
			}
		}
	}
}

// Numbers of requests wrap at 65,536. Half of them after the last damage, nobody was told of any more.
func TestDamageAfterManyRequests(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m, s := x.watch(t)
	s.settle()
	for i := range 9 {
		for range 1600 { // of which each makes requests, and none draws
			m.key('a', true)
			m.key('a', false)
		}
		m.pointer(0, 10*i+10, 5)
		s.pointerAt(image.Pt(10*i+10, 5))
	}
	p.fill(image.Rect(10, 10, 40, 40), 0xff)
	await(t, s.msgs, ipc.TypeDamaged)
	s.grab(false)
	s.equal(p.shot())
}

// A screen that becomes smaller and large again while it is read has the size that it had: what fails then is the reading, not the
// worker.
func TestSizeThereAndBack(t *testing.T) {
	for _, args := range [][]string{{"-screen", "0", "640x480x24"}, {"-screen", "0", "640x480x24", "-extension", "MIT-SHM"}} {
		x := startX(t, "Xvfb", args...)
		p := x.painter(t)
		c, err := newCapturer(p.display, slog.New(slog.DiscardHandler), func() error { return nil })
		p.check(err)
		defer c.close()
		c.areas = []image.Rectangle{image.Rect(600, 400, 650, 440)} // 10 pixels of it were there before
		if _, err := c.capture(frame.New(image.Rect(0, 0, 650, 480)), false, nil); !errors.Is(err, errResized) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// A shape of the pointer comes soon, however much else changes: it once waited until the picture rested.
func TestCursorBesideDamage(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	_, s := x.watch(t)
	shapes := []xproto.Cursor{p.cursor(3), p.cursor(7)}
	s.settle()
	for i := uint32(0); ; i++ {
		if i%20 == 19 { // two at once: the second is too soon after the first
			for _, c := range shapes {
				p.check(xproto.ChangeWindowAttributesChecked(p.x, p.root, xproto.CwCursor, []uint32{uint32(c)}).Check())
			}
		}
		p.fill(image.Rect(0, 0, 50, 50), i+1)
		await(t, s.msgs, ipc.TypeDamaged)
		if err := s.conn.SendPacket(ipc.Grab{}.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		for m := range s.msgs {
			if m.t == ipc.TypeFrame {
				break
			}
			if c, err := ipc.ParseCursor(m.b); m.t == ipc.TypeCursor && err == nil && c.Hot == image.Pt(7, 7) {
				return
			}
		}
		if i == 2000 {
			t.Fatal("the shape does not come while the picture changes")
		}
	}
}

// cursor makes a shape with its hot spot at (hot, hot).
func (p *painter) cursor(hot uint16) xproto.Cursor {
	p.t.Helper()
	pix, err := xproto.NewPixmapId(p.x)
	p.check(err)
	p.check(xproto.CreatePixmapChecked(p.x, 1, pix, xproto.Drawable(p.root), 16, 16).Check())
	c, err := xproto.NewCursorId(p.x)
	p.check(err)
	p.check(xproto.CreateCursorChecked(p.x, c, pix, pix, 0, 0, 0, 0, 0, 0, hot, hot).Check())
	return c
}

// Many small changes are read in a bounded number of pieces, and exactly.
func TestManyAreas(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "1000x800x24")
	p := x.painter(t)
	_, s := x.watch(t)
	for i := range 2000 {
		at := image.Pt(i*37%99*10, i/99*39)
		p.fill(image.Rectangle{Min: at, Max: at.Add(image.Pt(3, 3))}, uint32(i*7919+1))
	}
	s.settle()
	s.equal(p.shot())
}

// Every kind of screen comes out in the same pixels.
func TestVisuals(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"depth 8, colour map", []string{"-screen", "0", "201x150x8"}},
		{"depth 15", []string{"-screen", "0", "201x150x15"}},
		{"depth 16", []string{"-screen", "0", "201x150x16"}},
		{"depth 24", []string{"-screen", "0", "201x150x24"}},
		{"depth 24, 24 bits", []string{"-screen", "0", "201x150x24", "-pixdepths", "24"}},
		{"depth 30", []string{"-screen", "0", "201x150x30"}},
		{"no MIT-SHM", []string{"-screen", "0", "201x150x24", "-extension", "MIT-SHM"}},
		{"depth 16, no MIT-SHM", []string{"-screen", "0", "201x150x16", "-extension", "MIT-SHM"}},
		{"no MIT-SHM, many bands", []string{"-screen", "0", "1601x1200x24", "-extension", "MIT-SHM"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := startX(t, "Xvfb", c.args...)
			p := x.painter(t)
			p.noise(image.Rect(0, 0, 100, 100), 5)
			_, s := x.watch(t)
			s.equal(p.decoded())
			p.noise(image.Rect(33, 17, 180, 140), 1)
			s.settle()
			s.equal(p.decoded())
			p.fill(image.Rect(3, 3, 9, 9), 0x1f)
			s.settle()
			s.equal(p.decoded())
		})
	}
}

// decoded is what the screen shows as blue, green, red and an unused byte, by the masks of its visual.
func (p *painter) decoded() []byte {
	p.t.Helper()
	raw := p.shot()
	f := p.format
	var out []byte
	var colours []xproto.Rgb
	if f.colours != nil {
		var all []uint32
		for i := range uint32(256) {
			all = append(all, i)
		}
		r, err := xproto.QueryColors(p.x, p.screen.DefaultColormap, all).Reply()
		p.check(err)
		colours = r.Colors
	}
	for y := range p.size.Y {
		row := raw[y*f.stride(p.size.X):]
		for i := range p.size.X {
			var b [4]byte
			copy(b[:], row[i*f.bits/8:][:f.bits/8])
			v := binary.LittleEndian.Uint32(b[:])
			if colours != nil {
				c := colours[v]
				out = append(out, byte(c.Blue>>8), byte(c.Green>>8), byte(c.Red>>8), 0)
				continue
			}
			for c := 2; c >= 0; c-- {
				m := f.mask[c]
				limit := float64(m >> bits.TrailingZeros32(m))
				out = append(out, byte(float64(v&m>>bits.TrailingZeros32(m))*255/limit+0.5))
			}
			out = append(out, 0)
		}
	}
	return out
}

// A server that may not open the segment sends its pixels through the connection.
func TestSegmentOfAnother(t *testing.T) {
	if os.Getuid() != 0 { // another user's server needs root; the way without the extension is tested above
		return
	}
	x := startXAs(t, &syscall.Credential{Uid: 65534, Gid: 65534}, "Xvfb", "-screen", "0", "300x200x24")
	p := x.painter(t)
	p.noise(image.Rect(0, 0, 300, 200), 9)
	_, s := x.watch(t)
	s.equal(p.shot())
	p.fill(image.Rect(10, 10, 20, 20), 0xff)
	await(t, s.msgs, ipc.TypeDamaged)
	if f := s.grab(false); f.Captured != 100 {
		t.Fatalf("captured %d", f.Captured)
	}
	s.equal(p.shot())
}

func TestResize(t *testing.T) {
	x := startX(t, "Xtigervnc", "-rfbport", "-1", "-SecurityTypes", "None", "-geometry", "640x480", "-depth", "24")
	p := x.painter(t)
	m, s := x.watch(t)
	for _, size := range []image.Point{{1024, 768}, {800, 600}, {1920, 1200}, {640, 480}} {
		x.run(t, "xrandr", "-s", fmt.Sprintf("%dx%d", size.X, size.Y))
		if r := m.ready(ipc.TypeSize); r.Size != size {
			t.Fatalf("size %v, not %v", r.Size, size)
		}
		if f := s.grab(true); len(f.Rects) != 0 { // the old memory is not touched any more
			t.Fatalf("a frame of the old size: %v", f.Rects)
		}
		p.noise(image.Rect(size.X-100, size.Y-50, size.X, size.Y), uint32(size.X))
		s = m.memory(size)
		await(t, s.msgs, ipc.TypeCursor)
		await(t, s.msgs, ipc.TypeDamaged)
		if f := s.grab(false); len(f.Rects) != 1 || f.Rects[0].Max != size {
			t.Fatalf("the first frame of the new size: %v", f.Rects)
		}
		s.equal(p.shot())
		p.fill(image.Rect(size.X-10, size.Y-10, size.X, size.Y), 0xff)
		s.settle()
		s.equal(p.shot())
	}
}

func TestServerGone(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m, s := x.watch(t)
	s.conn.SendPacket(ipc.Grab{}.AppendTo(nil))
	x.kill()
	f, err := ipc.Decode[ipc.Failed](awaitRaw(t, m.msgs, ipc.TypeFailed))
	if err != nil || f.Cause != "display "+x.name+": the display is gone" {
		t.Fatalf("%q, %v", f.Cause, err)
	}
	if err := <-m.done; err == nil {
		t.Fatal("no error")
	}
}

// A program that has taken the server for itself, as menus and lockers do, stops neither picture nor keys.
func TestGrabbedServer(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m, s := x.watch(t)
	// The painter is impervious as well, so another one grabs.
	other, err := xgb.NewConnNetWithCookieHex(mustDial(t, x), hex.EncodeToString(x.cookie))
	p.check(err)
	defer other.Close()
	p.check(xproto.GrabServerChecked(other).Check())
	p.fill(image.Rect(1, 1, 5, 5), 0xff)
	s.settle()
	m.key('a', true)
	m.release()
	s.equal(p.shot())
}

func mustDial(t *testing.T, x *xserver) net.Conn {
	t.Helper()
	n, err := displayNumber(x.name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", socketPath(n))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A worker ends when it is told to, even where its X server answers no more.
func TestStoppedServer(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m, s := x.watch(t)
	x.cmd.Process.Signal(syscall.SIGSTOP)
	defer x.cmd.Process.Signal(syscall.SIGCONT)
	s.conn.SendPacket(ipc.Grab{Full: true}.AppendTo(nil))
	if err := m.conn.Send(ipc.TypeStop, nil); err != nil {
		t.Fatal(err)
	}
	<-m.done
}

func TestNoServer(t *testing.T) {
	m := startWorker(t, ipc.Start{Display: ":65000"})
	f, _ := ipc.Decode[ipc.Failed](awaitRaw(t, m.msgs, ipc.TypeFailed))
	if f.Cause != "display :65000 cannot be opened: connect: no such file or directory" {
		t.Fatal(f.Cause)
	}
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	t.Setenv("HOME", t.TempDir())
	m = startWorker(t, ipc.Start{Display: x.name, Cookie: make([]byte, cookieSize)})
	f, _ = ipc.Decode[ipc.Failed](awaitRaw(t, m.msgs, ipc.TypeFailed))
	if f.Cause != "display "+x.name+" cannot be opened: x protocol authentication refused: Authorization required, but no authorization protocol specified" &&
		f.Cause != "display "+x.name+" cannot be opened: x protocol authentication refused: Invalid MIT-MAGIC-COOKIE-1 key" {
		t.Fatal(f.Cause)
	}
}

// awaitRaw is await for a message that means failure.
func awaitRaw(t testing.TB, ch chan message, want ipc.Type) []byte {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m, ok := <-ch:
			if !ok {
				t.Fatalf("the connection ended before message %d came", want)
			}
			if m.t == want {
				return m.b
			}
		case <-late:
			t.Fatalf("message %d does not come", want)
		}
	}
}

// A memory that its other owner could shorten, or that is too small, ends the worker instead of crashing it later.
func TestBadMemory(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	for _, c := range []struct {
		name  string
		bytes int
		seals int
		msg   ipc.Memory
		err   string
	}{
		{"not sealed", 640 * 480 * 4, unix.F_SEAL_GROW, ipc.Memory{Size: image.Pt(640, 480), Stride: 2560}, "the frame memory is not sealed against shrinking"},
		{"too small", 640*480*4 - 1, unix.F_SEAL_SHRINK, ipc.Memory{Size: image.Pt(640, 480), Stride: 2560}, "the frame memory has 1228799 bytes, not 1228800"},
		{"short rows", 640 * 480 * 4, unix.F_SEAL_SHRINK, ipc.Memory{Size: image.Pt(640, 480), Stride: 2559}, "rows of 2559 bytes for 640 pixels"},
		{"huge", 4096, unix.F_SEAL_SHRINK, ipc.Memory{Size: image.Pt(frame.MaxSide+1, 1), Stride: 70000}, "a desktop of 16385×1 pixels is outside 1×1 … 16384×16384 and 67108864 pixels in all"},
	} {
		m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
		m.ready(ipc.TypeReady)
		f := memfd(t, c.bytes, c.seals)
		a, b, err := ipc.Pair()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.conn.Send(ipc.TypeMemory, c.msg, f, b); err != nil {
			t.Fatal(err)
		}
		f.Close()
		a.Close()
		b.Close()
		if err := <-m.done; err == nil || err.Error() != c.err {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Someone who does not read what he asked for stops neither the keys nor the next memory.
func TestStuckSpectator(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	f := memfd(t, 640*480*4, unix.F_SEAL_SHRINK)
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.conn.Send(ipc.TypeMemory, ipc.Memory{Size: image.Pt(640, 480), Stride: 2560}, f, b); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.Close()
	deaf, err := ipc.FileConn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	for range 5000 { // far more answers than a socket holds
		if deaf.SendPacket(ipc.Grab{Full: true}.AppendTo(nil)) != nil {
			break
		}
	}
	m.release()
	s := m.memory(image.Pt(640, 480))
	s.grab(true)
	s.equal(x.painter(t).shot())
}

// pointerAt waits until the pointer is told to be there.
func (s *spectator) pointerAt(want image.Point) {
	s.t.Helper()
	for {
		p, err := ipc.ParsePointer(await(s.t, s.msgs, ipc.TypePointer))
		if err != nil {
			s.t.Fatal(err)
		}
		if image.Pt(int(p.X), int(p.Y)) == want {
			return
		}
	}
}

func TestPointer(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m, s := x.watch(t)
	m.pointer(0, 12, 34)
	s.pointerAt(image.Pt(12, 34))
	x.run(t, "xdotool", "mousemove", "300", "200") // somebody in front of the computer
	s.pointerAt(image.Pt(300, 200))
	m.pointer(0, 65535, 65535)
	s.pointerAt(image.Pt(639, 479))
	m.pointer(0, 0, 0)
	s.pointerAt(image.Point{})
}

func TestCursor(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	_, s := x.watch(t)
	bitmap := func(r image.Rectangle) xproto.Pixmap {
		pix, _ := xproto.NewPixmapId(p.x)
		gc, _ := xproto.NewGcontextId(p.x)
		p.check(xproto.CreatePixmapChecked(p.x, 1, pix, xproto.Drawable(p.root), 16, 12).Check())
		p.check(xproto.CreateGCChecked(p.x, gc, xproto.Drawable(pix), xproto.GcForeground, []uint32{0}).Check())
		xproto.PolyFillRectangle(p.x, xproto.Drawable(pix), gc, []xproto.Rectangle{{Width: 16, Height: 12}})
		xproto.ChangeGC(p.x, gc, xproto.GcForeground, []uint32{1})
		xproto.PolyFillRectangle(p.x, xproto.Drawable(pix), gc, []xproto.Rectangle{{
			X: int16(r.Min.X), Y: int16(r.Min.Y), Width: uint16(r.Dx()), Height: uint16(r.Dy())}})
		return pix
	}
	cursor, _ := xproto.NewCursorId(p.x)
	source, mask := bitmap(image.Rect(0, 0, 4, 12)), bitmap(image.Rect(0, 0, 8, 12))
	p.check(xproto.CreateCursorChecked(p.x, cursor, source, mask, 0xffff, 0, 0, 0, 0, 0xffff, 3, 5).Check())
	p.check(xproto.ChangeWindowAttributesChecked(p.x, p.root, xproto.CwCursor, []uint32{uint32(cursor)}).Check())
	for {
		c, err := ipc.ParseCursor(await(t, s.msgs, ipc.TypeCursor))
		if err != nil {
			t.Fatal(err)
		}
		if c.Hot != image.Pt(3, 5) {
			continue // the one before
		}
		for y := range 12 {
			for i := range 8 {
				want := [4]byte{0, 0, 255, 255} // red
				if i >= 4 {
					want = [4]byte{255, 0, 0, 255} // blue
				}
				if got := [4]byte(c.Pix[(y*c.Size.X+i)*4:]); got != want {
					t.Fatalf("pixel %d,%d of the pointer is %v, not %v", i, y, got, want)
				}
			}
			for i := 8; i < c.Size.X; i++ {
				if got := [4]byte(c.Pix[(y*c.Size.X+i)*4:]); got != [4]byte{} {
					t.Fatalf("pixel %d,%d of the pointer is %v, not transparent", i, y, got)
				}
			}
		}
		return
	}
}

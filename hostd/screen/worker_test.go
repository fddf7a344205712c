package screen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// patience is how long a test waits for what must come; nothing waits that long when all is well.
const patience = 20 * time.Second

// An xserver is a real X server for one test.
type xserver struct {
	name   string
	cookie []byte
	auth   string
	cmd    *exec.Cmd
}

// startX starts an X server on a free display. The arguments follow those that every one gets.
func startX(t testing.TB, program string, args ...string) *xserver {
	t.Helper()
	return startXAs(t, nil, program, args...)
}

func startXAs(t testing.TB, who *syscall.Credential, program string, args ...string) *xserver {
	t.Helper()
	s := &xserver{cookie: bytes.Repeat([]byte{7}, cookieSize), auth: filepath.Join(t.TempDir(), "auth")}
	if err := os.WriteFile(s.auth, appendXauthority(nil, -1, s.cookie), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.cmd = exec.Command(program, append([]string{"-displayfd", "3", "-auth", s.auth, "-nolisten", "tcp", "-noreset"}, args...)...)
	s.cmd.ExtraFiles = []*os.File{w}
	if who != nil {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		for dir := filepath.Dir(s.auth); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
			os.Chmod(dir, 0o755)
		}
		os.Chown(s.auth, int(who.Uid), int(who.Gid))
	}
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	r.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("%s does not start: %v", program, err)
	}
	s.name = ":" + strings.TrimSpace(line)
	return s
}

func (s *xserver) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// run runs an X program to its end and gives what it writes.
func (s *xserver) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (s *xserver) env() []string {
	return append(os.Environ(), "DISPLAY="+s.name, "XAUTHORITY="+s.auth, "LC_ALL=C.UTF-8")
}

// A painter draws on a display and reads it back, independently of the worker.
type painter struct {
	*display
	t      testing.TB
	gc     xproto.Gcontext
	events chan byte // types
}

func (s *xserver) painter(t testing.TB) *painter {
	t.Helper()
	p := &painter{t: t, events: make(chan byte, 100)}
	d, err := openDisplay(s.name, [][]byte{s.cookie}, func(e []byte) {
		select {
		case p.events <- e[0] & 0x7f:
		default:
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	p.display = d
	p.gc, _ = xproto.NewGcontextId(d.x)
	p.check(xproto.CreateGCChecked(d.x, p.gc, xproto.Drawable(d.root), xproto.GcSubwindowMode, []uint32{xproto.SubwindowModeIncludeInferiors}).Check())
	return p
}

func (p *painter) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// fill fills a rectangle of the root window.
func (p *painter) fill(r image.Rectangle, pixel uint32) {
	p.t.Helper()
	xproto.ChangeGC(p.x, p.gc, xproto.GcForeground, []uint32{pixel})
	p.check(xproto.PolyFillRectangleChecked(p.x, xproto.Drawable(p.root), p.gc, []xproto.Rectangle{{
		X: int16(r.Min.X), Y: int16(r.Min.Y), Width: uint16(r.Dx()), Height: uint16(r.Dy())}}).Check())
}

// noise draws something different on every pixel.
func (p *painter) noise(r image.Rectangle, seed uint32) {
	p.t.Helper()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		var row []byte
		for range r.Dx() {
			seed = seed*1664525 + 1013904223
			row = binary.LittleEndian.AppendUint32(row, seed>>8)
		}
		row = row[:p.format.stride(r.Dx())]
		p.check(xproto.PutImageChecked(p.x, xproto.ImageFormatZPixmap, xproto.Drawable(p.root), p.gc, uint16(r.Dx()), 1,
			int16(r.Min.X), int16(y), 0, p.screen.RootDepth, row).Check())
	}
}

// shot reads the whole screen.
func (p *painter) shot() []byte {
	p.t.Helper()
	p.check(p.askSize())
	r, err := xproto.GetImage(p.x, xproto.ImageFormatZPixmap, xproto.Drawable(p.root), 0, 0, uint16(p.size.X), uint16(p.size.Y), ^uint32(0)).Reply()
	p.check(err)
	return r.Data
}

// A monitor is hostd as a worker sees it.
type monitor struct {
	t    testing.TB
	conn *ipc.Conn
	msgs chan message
	done chan error // RunWorker's end
}

type message struct {
	t ipc.Type
	b []byte
}

// receiver hands on the messages of a connection until it ends.
func receiver(c *ipc.Conn) chan message {
	ch := make(chan message, 1000)
	go func() {
		defer close(ch)
		buf := make([]byte, ipc.MaxMessage)
		for {
			p, files, err := c.Receive(buf)
			ipc.CloseFiles(files)
			if err != nil {
				return
			}
			ch <- message{ipc.Type(p[0]), bytes.Clone(p)}
		}
	}()
	return ch
}

// await takes messages until one of a type comes.
func await(t testing.TB, ch chan message, want ipc.Type) []byte {
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
			if m.t == ipc.TypeFailed {
				t.Fatalf("the worker has failed: %s", m.b[1:])
			}
		case <-late:
			t.Fatalf("message %d does not come", want)
		}
	}
}

// startWorker runs a worker and has it open a display.
func startWorker(t testing.TB, start ipc.Start) *monitor {
	t.Helper()
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ipc.FileConn(a)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ipc.FileConn(b)
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{t: t, conn: mine, msgs: receiver(mine), done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		err := RunWorker(ctx, theirs, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
		theirs.Close()
		m.done <- err
		close(m.done)
	}()
	t.Cleanup(func() {
		cancel()
		<-m.done
		mine.Close()
	})
	if err := mine.Send(ipc.TypeStart, start); err != nil {
		t.Fatal(err)
	}
	return m
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (m *monitor) ready(t ipc.Type) ipc.Ready {
	m.t.Helper()
	r, err := ipc.Decode[ipc.Ready](await(m.t, m.msgs, t))
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// A spectator is hostd-net as a worker sees it.
type spectator struct {
	t     testing.TB
	conn  *ipc.Conn
	msgs  chan message
	mem   []byte
	size  image.Point
	frame ipc.Frame
}

func memfd(t testing.TB, size int, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	return f
}

// memory gives the worker a frame memory.
func (m *monitor) memory(size image.Point) *spectator {
	m.t.Helper()
	n := size.X * size.Y * frame.BytesPerPixel
	f := memfd(m.t, n, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	mem, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { unix.Munmap(mem) })
	a, b, err := ipc.Pair()
	if err != nil {
		m.t.Fatal(err)
	}
	err = m.conn.Send(ipc.TypeMemory, ipc.Memory{Size: size, Stride: size.X * frame.BytesPerPixel}, f, b)
	f.Close()
	b.Close()
	if err != nil {
		m.t.Fatal(err)
	}
	conn, err := ipc.FileConn(a)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	return &spectator{t: m.t, conn: conn, msgs: receiver(conn), mem: mem, size: size}
}

// grab brings the memory up to date.
func (s *spectator) grab(full bool) *ipc.Frame {
	s.t.Helper()
	if err := s.conn.SendPacket(ipc.Grab{Full: full}.AppendTo(nil)); err != nil {
		s.t.Fatal(err)
	}
	if err := s.frame.Parse(await(s.t, s.msgs, ipc.TypeFrame), s.size); err != nil {
		s.t.Fatal(err)
	}
	return &s.frame
}

// equal compares the memory with what the server says, but for the unused byte.
func (s *spectator) equal(shot []byte) {
	s.t.Helper()
	if len(shot) != len(s.mem) {
		s.t.Fatalf("%d bytes, not %d", len(s.mem), len(shot))
	}
	for i := range shot {
		if i%4 != 3 && shot[i] != s.mem[i] {
			p := i / 4
			s.t.Fatalf("the pixel at %d,%d is % x, not % x", p%s.size.X, p/s.size.X, s.mem[p*4:p*4+3], shot[p*4:p*4+3])
		}
	}
}

func TestCapture(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "700x500x24")
	p := x.painter(t)
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	r := m.ready(ipc.TypeReady)
	if r.Size != image.Pt(700, 500) || r.Display != x.name {
		t.Fatalf("ready: %+v", r)
	}
	s := m.memory(r.Size)
	await(t, s.msgs, ipc.TypeCursor)
	await(t, s.msgs, ipc.TypePointer)
	await(t, s.msgs, ipc.TypeDamaged)
	f := s.grab(false)
	if !slices.Equal(f.Rects, []image.Rectangle{image.Rect(0, 0, 700, 500)}) || f.Captured != 700*500 {
		t.Fatalf("the first frame is not a full one: %+v", f)
	}
	s.equal(p.shot())

	for i, c := range []struct {
		draw     func()
		want     []image.Rectangle
		captured uint32
	}{
		{func() { p.fill(image.Rect(10, 20, 18, 36), 0xff0000) }, []image.Rectangle{image.Rect(10, 20, 18, 36)}, 8 * 16},
		{func() { p.fill(image.Rect(10, 20, 18, 36), 0xff0000) }, nil, 8 * 16}, // drawn, but nothing is different
		{func() { p.fill(image.Rect(12, 20, 13, 21), 0xff00) }, []image.Rectangle{image.Rect(12, 20, 13, 21)}, 1},
		{func() { p.fill(image.Rect(690, 490, 700, 500), 0xffff) }, []image.Rectangle{image.Rect(690, 490, 700, 500)}, 100},
		{func() { p.fill(image.Rect(60, 60, 200, 200), 0xff) }, []image.Rectangle{image.Rect(60, 60, 200, 200)}, 140 * 140},
		{func() { // two places
			p.fill(image.Rect(0, 0, 5, 5), 0xabcdef)
			p.fill(image.Rect(300, 300, 310, 310), 0xabcdef)
		}, []image.Rectangle{image.Rect(0, 0, 5, 5), image.Rect(300, 300, 310, 310)}, 125},
		{func() {}, nil, 0},
	} {
		c.draw()
		if i < 6 {
			await(t, s.msgs, ipc.TypeDamaged)
		}
		f := s.grab(false)
		if !slices.Equal(f.Rects, c.want) || f.Captured != c.captured {
			t.Errorf("%d: %v, captured %d; want %v, %d", i, f.Rects, f.Captured, c.want, c.captured)
		}
		s.equal(p.shot())
	}
	p.noise(image.Rect(33, 65, 601, 333), 1)
	s.grab(false)
	s.equal(p.shot())
}

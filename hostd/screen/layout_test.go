package screen

import (
	"bytes"
	"image"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

func startTigerVNC(t *testing.T) *xserver {
	t.Helper()
	return startX(t, "Xtigervnc", "-rfbport", "-1", "-geometry", "640x480", "-depth", "24")
}

// resize asks for a layout; one screen of the whole size when none is named.
func (m *monitor) resize(number uint32, size image.Point, screens ...frame.Screen) {
	m.t.Helper()
	if len(screens) == 0 {
		screens = []frame.Screen{{ID: 1, Rect: image.Rectangle{Max: size}}}
	}
	if err := m.conn.Send(ipc.TypeResize, ipc.Resize{Number: number, Size: size, Screens: screens}); err != nil {
		m.t.Fatal(err)
	}
}

// layout waits for the next one.
func (s *spectator) layout() ipc.Layout {
	s.t.Helper()
	l, err := ipc.ParseLayout(await(s.t, s.msgs, ipc.TypeLayout), s.size)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// rects are the screens' places.
func rects(l ipc.Layout) (all []image.Rectangle) {
	for _, s := range l.Screens {
		all = append(all, s.Rect)
	}
	return all
}

// The controller resizes the display, time and again: each size comes with the answer, and the picture is right.
func TestLayOut(t *testing.T) {
	x := startTigerVNC(t)
	p := x.painter(t)
	m, s := x.watch(t)
	id := uint32(0)
	for i, size := range []image.Point{{1111, 733}, {800, 600}, {33, 32}, {1920, 100}, {640, 480}, {1111, 733}} {
		m.resize(uint32(i+1), size)
		if r := m.ready(ipc.TypeSize); r.Size != size {
			t.Fatalf("size %v, not %v", r.Size, size)
		}
		s = m.memory(size)
		l := s.layout()
		if l.Number != uint32(i+1) || l.Result != ipc.ResizeDone || len(l.Screens) != 1 || l.Screens[0].Rect.Max != size {
			t.Fatalf("%+v", l)
		}
		if i > 0 && l.Screens[0].ID != id {
			t.Errorf("the screen has the number %d, before %d", l.Screens[0].ID, id)
		}
		id = l.Screens[0].ID
		p.noise(image.Rect(0, 0, min(size.X, 100), min(size.Y, 50)), uint32(size.X))
		s.grab(false)
		s.equal(p.shot())
	}
	if out := x.run(t, "xrandr"); strings.Count(out, modePrefix) > 1 || !strings.Contains(out, modePrefix+"1111x733") {
		t.Errorf("modes of before are left:\n%s", out)
	}
	// The same again changes nothing and is answered all the same.
	m.resize(99, s.size)
	if l := s.layout(); l.Number != 99 || l.Result != ipc.ResizeDone {
		t.Errorf("%+v", l)
	}
	p.fill(image.Rect(3, 3, 9, 9), 0xff)
	s.settle()
	s.equal(p.shot())
}

// A display is split into screens and put together again, by the controller and by others; the screens keep their numbers.
func TestSplit(t *testing.T) {
	x := startTigerVNC(t)
	m, s := x.watch(t)
	left, right := image.Rect(0, 0, 300, 480), image.Rect(300, 0, 640, 480)
	m.resize(1, image.Pt(640, 480), frame.Screen{ID: 7, Rect: left}, frame.Screen{ID: 0xfffffff0, Rect: right})
	want := []frame.Screen{{ID: 7, Rect: left}, {ID: 0xfffffff0, Rect: right}}
	for { // others may come between
		l := s.layout()
		if l.Number == 1 && l.Result == ipc.ResizeDone && slices.Equal(l.Screens, want) {
			break
		}
	}
	if out := x.run(t, "xrandr", "--listmonitors"); !strings.Contains(out, "Monitors: 2") {
		t.Fatal(out)
	}
	// Unplugged by hand.
	x.run(t, "xrandr", "--delmonitor", "screen-fffffff0")
	for l := s.layout(); !slices.Equal(l.Screens, want[:1]); l = s.layout() {
	}
	x.run(t, "xrandr", "--setmonitor", "third", "200/50x100/25+100+100", "none")
	for l := s.layout(); !slices.Equal(rects(l), []image.Rectangle{left, image.Rect(100, 100, 300, 200)}); l = s.layout() {
	}
	m.resize(2, image.Pt(640, 480))
	for l := s.layout(); l.Number != 2 || !slices.Equal(rects(l), []image.Rectangle{{Max: image.Pt(640, 480)}}); l = s.layout() {
	}
	// Screens and size at once.
	top, below := image.Rect(0, 0, 500, 200), image.Rect(0, 200, 500, 500)
	m.resize(3, image.Pt(500, 500), frame.Screen{ID: 1, Rect: top}, frame.Screen{ID: 2, Rect: below})
	m.ready(ipc.TypeSize)
	s = m.memory(image.Pt(500, 500))
	if l := s.layout(); l.Number != 3 || l.Result != ipc.ResizeDone || !slices.Equal(rects(l), []image.Rectangle{top, below}) {
		t.Fatalf("%+v", l)
	}
}

// What cannot be is refused, and the display stays as it is.
func TestLayOutRefused(t *testing.T) {
	tiger := startTigerVNC(t)
	for _, c := range []struct {
		name    string
		x       *xserver
		size    image.Point
		screens []frame.Screen
		result  uint8
	}{
		{"a display that cannot", startX(t, "Xvfb", "-screen", "0", "640x480x24"), image.Pt(600, 400), nil, ipc.ResizeProhibited},
		{"no RandR", startX(t, "Xvfb", "-screen", "0", "640x480x24", "-extension", "RANDR"), image.Pt(600, 400), nil, ipc.ResizeProhibited},
		{"too small", tiger, image.Pt(31, 400), nil, ipc.ResizeInvalid},
		{"a screen outside", tiger, image.Pt(600, 400), []frame.Screen{{Rect: image.Rect(0, 0, 601, 400)}}, ipc.ResizeInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, s := c.x.watch(t)
			m.resize(5, c.size, c.screens...)
			l := s.layout()
			for l.Number == 0 {
				l = s.layout()
			}
			if l.Number != 5 || l.Result != c.result || !slices.Equal(rects(l), []image.Rectangle{{Max: image.Pt(640, 480)}}) {
				t.Fatalf("%+v", l)
			}
		})
	}
}

// However often the display changes its size, hostd is told no more often than it takes, and the last one.
func TestSizesFaster(t *testing.T) {
	x := startTigerVNC(t)
	p := x.painter(t)
	m, _ := x.watch(t)
	const changes = 300
	start := time.Now()
	last := image.Pt(0, 0)
	for i := range changes {
		last = image.Pt(300+i, 200+i%7)
		result, err := p.layOut(last, []frame.Screen{{Rect: image.Rectangle{Max: last}}})
		if err != nil || result != ipc.ResizeDone {
			t.Fatalf("%d, %v", result, err)
		}
	}
	told := 1
	for m.ready(ipc.TypeSize).Size != last {
		told++
	}
	if most := 2 + int(time.Since(start)/sizeEvery); told > most {
		t.Errorf("told %d sizes in %v", told, time.Since(start))
	}
	s := m.memory(last)
	p.fill(image.Rect(9, 9, 99, 99), 0xff)
	s.grab(false)
	s.equal(p.shot())
}

// A virtual display is one that can be resized, with the programs on it, and its X server has no port.
func TestVirtualResized(t *testing.T) {
	dir := t.TempDir()
	m := startWorker(t, ipc.Start{Size: image.Pt(1000, 700), StateDir: dir})
	r := m.ready(ipc.TypeReady)
	x := join(t, dir, r.Display)
	p := x.painter(t)
	m.memory(r.Size)
	x.run(t, "xdotool", "search", "--sync", "--onlyvisible", "--class", "xterm")
	m.resize(1, image.Pt(1234, 567))
	if r := m.ready(ipc.TypeSize); r.Size != image.Pt(1234, 567) {
		t.Fatalf("%+v", r)
	}
	s := m.memory(image.Pt(1234, 567))
	if l := s.layout(); l.Number != 1 || l.Result != ipc.ResizeDone {
		t.Fatalf("%+v", l)
	}
	p.fill(image.Rect(1200, 500, 1234, 567), 0xff)
	s.grab(true)
	if at := (510*1234 + 1210) * frame.BytesPerPixel; !bytes.Equal(s.mem[at:at+3], []byte{0xff, 0, 0}) { // beside the terminal, which lives
		t.Errorf("the corner is %x", s.mem[at:at+3])
	}
	n, err := displayNumber(r.Display)
	if err != nil {
		t.Fatal(err)
	}
	server, err := askServer(n)
	if err != nil {
		t.Fatal(err)
	}
	if ports := listening(t, int(server.pid)); len(ports) != 0 {
		t.Errorf("the X server listens: %q", ports)
	}
}

// listening are the lines of the Internet sockets in /proc that a process has open.
func listening(t *testing.T, pid int) (lines []string) {
	t.Helper()
	open := map[string]bool{}
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir + "/" + fd.Name()); err == nil {
			open[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && open[f[9]] {
				lines = append(lines, table+" "+f[1])
			}
		}
	}
	return lines
}

package screen

import (
	"image"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/hostd/ipc"
)

// A terminal is an xterm whose program hands on every byte that is typed.
type terminal struct {
	t    *testing.T
	m    *monitor
	pipe *os.File
}

func (s *xserver) terminal(t *testing.T, m *monitor) *terminal {
	t.Helper()
	name := filepath.Join(t.TempDir(), "typed")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("xterm", "-u8", "-geometry", "80x24+0+0", "-e", "sh", "-c", `stty raw -echo; echo ready > "$0"; exec cat > "$0"`, name)
	cmd.Env = s.env()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		pipe.Close()
	})
	x := &terminal{t, m, pipe}
	if got := x.read(len("ready\n")); got != "ready\n" {
		t.Fatalf("the terminal says %q", got)
	}
	s.run(t, "xdotool", "search", "--sync", "--onlyvisible", "--class", "xterm")
	m.pointer(0, 100, 100)
	return x
}

// read reads that many bytes, fewer when they do not come.
func (x *terminal) read(n int) string {
	x.t.Helper()
	x.pipe.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, n)
	got := 0
	for got < n {
		k, err := x.pipe.Read(buf[got:])
		got += k
		if err != nil {
			x.t.Logf("after %q: %v", buf[:got], err)
			break
		}
	}
	return string(buf[:got])
}

func (m *monitor) input(in ipc.Input) {
	m.t.Helper()
	if err := m.conn.SendPacket(in.AppendTo(nil)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *monitor) key(sym uint32, down bool) {
	m.t.Helper()
	in := ipc.Input{Kind: ipc.InputKey, A: sym}
	if down {
		in.B = 1
	}
	m.input(in)
}

func (m *monitor) tap(syms ...uint32) {
	for _, s := range syms {
		m.key(s, true)
		m.key(s, false)
	}
}

func (m *monitor) pointer(mask uint32, x, y int) {
	m.input(ipc.Input{Kind: ipc.InputPointer, A: mask, X: uint16(x), Y: uint16(y)})
}

// release lets everything go, and does away with what has not been injected yet.
func (m *monitor) release() {
	m.t.Helper()
	if err := m.conn.Send(ipc.TypeRelease, nil); err != nil {
		m.t.Fatal(err)
	}
	await(m.t, m.msgs, ipc.TypeReleased)
}

// keysym is what a viewer sends for a character.
func keysym(r rune) uint32 {
	switch r {
	case '€':
		return 0x20ac
	case 'Ω':
		return 0x7d9
	}
	if r < 0x100 {
		return uint32(r)
	}
	return 0x1000000 | uint32(r)
}

const (
	keyShift  = 0xffe1
	keyCaps   = 0xffe5
	keyNum    = 0xff7f
	keyLevel3 = 0xfe03
)

// Every character is typed as such, whatever the layout, the locks and what the viewer holds.
func TestTypesEveryCharacter(t *testing.T) {
	var ascii, latin strings.Builder
	for r := rune(0x20); r < 0x7f; r++ {
		ascii.WriteRune(r)
	}
	for r := rune(0xa0); r <= 0xff; r++ {
		latin.WriteRune(r)
	}
	all := ascii.String() + latin.String() + "€ÄΩ中文字ÄΩ€中Жжяß½ŁłŒœ→日本語"
	few := ascii.String() + "ÄΩ€中жßëÉ"

	caps, num := []uint32{keyCaps}, []uint32{keyNum}
	type run struct {
		text  string
		locks []uint32
		held  uint32
	}
	for _, c := range []struct {
		layout string
		runs   []run
	}{
		{"us", []run{{all, nil, 0}, {few, caps, keyShift}, {few, num, keyLevel3}}},
		{"us", []run{{all, caps, 0}}},
		{"us", []run{{all, nil, keyShift}}},
		{"de", []run{{all, nil, 0}, {few, caps, keyShift}, {few, num, keyLevel3}}},
		{"de", []run{{all, caps, 0}}},
		{"de", []run{{all, nil, keyShift}}},
		{"fr", []run{{few, nil, 0}, {few, caps, keyShift}}}, // digits above Shift
		{"us,ru", []run{{few, nil, 0}}},                     // two groups
		{"ru,us", []run{{few, caps, 0}}},
	} {
		t.Run(c.layout, func(t *testing.T) {
			t.Parallel() // it mostly waits
			x := startX(t, "Xvfb", "-screen", "0", "800x600x24")
			m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
			m.ready(ipc.TypeReady)
			term := x.terminal(t, m)
			x.run(t, "setxkbmap", "-layout", c.layout)
			for _, r := range c.runs {
				m.tap(r.locks...)
				if r.held != 0 {
					m.key(r.held, true)
				}
				// In pieces: a terminal that is more than a second late, as on a busy machine, would read what
				// the keys mean by then.
				for piece := range slices.Chunk([]rune(r.text), 16) {
					for _, s := range piece {
						m.tap(keysym(s))
					}
					if got := term.read(len(string(piece))); got != string(piece) {
						t.Fatalf("locks %x, held %x: got %q, want %q", r.locks, r.held, got, string(piece))
					}
				}
				m.release()
				m.tap(r.locks...)
			}
		})
	}
}

// Keys that do something, dead keys and the keypad come out as on a keyboard.
func TestTypesKeys(t *testing.T) {
	const ctrl, tab, leftTab, f5, home, deadAcute, deadCircumflex = 0xffe3, 0xff09, 0xfe20, 0xffc2, 0xff50, 0xfe51, 0xfe52
	x := startX(t, "Xvfb", "-screen", "0", "800x600x24")
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	term := x.terminal(t, m)
	with := func(mod uint32, syms ...uint32) func() {
		return func() {
			m.key(mod, true)
			m.tap(syms...)
			m.key(mod, false)
		}
	}
	tap := func(syms ...uint32) func() { return func() { m.tap(syms...) } }
	for _, layout := range []string{"us", "de"} {
		x.run(t, "setxkbmap", "-layout", layout)
		for _, c := range []struct {
			name string
			do   func()
			want string
		}{
			{"Return, Escape, BackSpace", tap(0xff0d, 0xff1b, 0xff08), "\r\x1b\x7f"},
			{"Tab", tap(tab), "\t"},
			{"Shift and Tab", with(keyShift, tab), "\x1b[Z"},
			{"Shift and ISO_Left_Tab", with(keyShift, leftTab), "\x1b[Z"},
			{"ISO_Left_Tab alone", tap(leftTab), "\x1b[Z"},
			{"Ctrl and c", with(ctrl, 'c'), "\x03"},
			{"Ctrl and c under Caps Lock", func() { m.tap(keyCaps); with(ctrl, 'c')(); m.tap(keyCaps) }, "\x03"},
			{"Ctrl and F5", with(ctrl, f5), "\x1b[15;5~"},
			{"Shift and F5", with(keyShift, f5), "\x1b[15;2~"},
			{"Home", tap(home), "\x1b[H"},
			{"Ctrl and Home", with(ctrl, home), "\x1b[1;5H"},
			{"dead acute", tap(deadAcute, 'e', deadAcute, 'A', deadCircumflex, 'o'), "éÁô"},
			{"dead acute under Caps Lock", func() { m.tap(keyCaps, deadAcute, 'e', keyCaps) }, "é"},
			{"keypad digits", tap(0xffb7, 0xffb0, 0xffab), "70+"},
			{"keypad digits under Num Lock", tap(keyNum, 0xffb7, 0xffb0, keyNum), "70"},
			{"KP_Home under Num Lock", tap(keyNum, 0xff95, keyNum), "\x1b[H"},
			{"KP_Home", tap(0xff95), "\x1b[H"},
			{"Alt_R, which is no Alt on a German keyboard", tap(0xffea, 'x'), "x"},
			{"no such key", tap(0, 0xffffff, 0xffffffff, 0x2fffff, 0x01110000, 0xfe0f, 'x'), "x"},
			{"pressed again", func() {
				for range 5 {
					m.key('a', true)
				}
				m.key('a', false)
				m.tap('b')
			}, "aaaaab"},
			{"Shift let go first", func() {
				m.key(keyShift, true)
				m.key('A', true)
				m.key(keyShift, false)
				m.key('a', false) // what the viewer has on that key now
				m.tap('a')
			}, "Aa"},
			{"Unicode keysyms of Latin 1 and Greek", tap(0x10000e4, 0x10003a9, 0x1000041), "äΩA"},
		} {
			c.do()
			if got := term.read(len(c.want)); got != c.want {
				t.Fatalf("layout %s, %s: got %q, want %q", layout, c.name, got, c.want)
			}
			m.release()
			m.tap('.')
			if got := term.read(1); got != "." {
				t.Fatalf("layout %s, %s: %q too much", layout, c.name, got)
			}
		}
	}
}

// Nothing stays pressed, whoever ends.
func TestReleases(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "800x600x24")
	p := x.painter(t)
	first := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	first.ready(ipc.TypeReady)
	down := func() (keys int, buttons uint16, repeats int) {
		k, err := xproto.QueryKeymap(p.x).Reply()
		p.check(err)
		for _, b := range k.Keys {
			keys += bits.OnesCount8(b)
		}
		q, err := xproto.QueryPointer(p.x, p.root).Reply()
		p.check(err)
		c, err := xproto.GetKeyboardControl(p.x).Reply()
		p.check(err)
		for _, b := range c.AutoRepeats {
			repeats += bits.OnesCount8(b)
		}
		return keys, q.Mask & 0x1f00, repeats
	}
	press := func(m *monitor) {
		for _, sym := range []uint32{keyShift, 0xffe3, 'a', 'B', 0x4e2d + 0x1000000, keyLevel3, 0xffc2} {
			m.key(sym, true)
		}
		m.pointer(1|4, 30, 40)
	}
	_, _, all := down()
	press(first)
	first.key('z', true)
	first.key('z', false)
	first.pointer(1|4, 31, 41) // when it is there, so is everything before it
	s := first.memory(image.Pt(800, 600))
	s.pointerAt(image.Pt(31, 41))
	keys, buttons, repeats := down()
	if keys != 7 || buttons != 0x500 || repeats != all-4 {
		t.Fatalf("%d keys, buttons %#x, %d of %d keys repeat", keys, buttons, repeats, all)
	}
	first.release()
	if keys, buttons, repeats := down(); keys != 0 || buttons != 0 || repeats != all {
		t.Fatalf("after the release: %d keys, buttons %#x, %d of %d keys repeat", keys, buttons, repeats, all)
	}
	press(first)
	first.conn.Close() // hostd has ended
	if err := <-first.done; err == nil {
		t.Fatal("no error")
	}
	if keys, buttons, repeats := down(); keys != 0 || buttons != 0 || repeats != all {
		t.Fatalf("after the end: %d keys, buttons %#x, %d of %d keys repeat", keys, buttons, repeats, all)
	}
	// A worker that was killed could release nothing; the next one does.
	x.run(t, "xdotool", "keydown", "a", "keydown", "Shift_L", "mousedown", "1")
	second := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	second.ready(ipc.TypeReady)
	if keys, buttons, _ := down(); keys != 0 || buttons != 0 {
		t.Fatalf("after the next start: %d keys, buttons %#x", keys, buttons)
	}
}

package screen

import (
	"image"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/hostd/input"
	"github.com/helmline/helmline/hostd/ipc"
)

// scan presses or releases a key by keysym and scan code.
func (m *monitor) scan(sym, code uint32, down bool) {
	m.t.Helper()
	in := ipc.Input{Kind: ipc.InputKey, A: sym, C: code}
	if down {
		in.B = 1
	}
	m.input(in)
}

// pressed are the codes of the keys that are down.
func (p *painter) pressed() (codes []int) {
	k, err := xproto.QueryKeymap(p.x).Reply()
	p.check(err)
	for code := range 256 {
		if k.Keys[code/8]>>(code%8)&1 != 0 {
			codes = append(codes, code)
		}
	}
	return codes
}

// A scan code presses the key that the viewer means, as far as that has the symbol, and names it when it is let go.
func TestScanCodes(t *testing.T) {
	const up, rightCtrl, kpEnter, pause, print = 0xff52, 0xffe4, 0xff8d, 0xff13, 0xff61
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	for _, c := range []struct {
		name        string
		sym, scan   uint32
		let, letter uint32 // what is let go
		code        int
	}{
		{"a letter", 'a', 0x1e, 'a', 0x1e, 38},
		{"another symbol at the end", 'a', 0x1e, 'A', 0x1e, 38},
		{"the key beside Shift", '<', 0x56, '<', 0x56, 94},
		{"the same symbol elsewhere", '<', 0x33, '<', 0x33, 59},
		{"no symbol", 0, 0x1e, 0, 0x1e, 38},
		{"a symbol that there is not", 0xfffffe, 0x1e, 0xfffffe, 0x1e, 38},
		{"another layout's key", 'a', 0x10, 'a', 0x10, 38},
		{"Up", up, 0xc8, up, 0xc8, 111},
		{"right Control", rightCtrl, 0x9d, rightCtrl, 0x9d, 105},
		{"Enter of the keypad", kpEnter, 0x9c, kpEnter, 0x9c, 104},
		{"Pause", pause, 0xc6, pause, 0xc6, 127},
		{"Print", print, 0x54, print, 0x54, 107},
		{"Print as others send it", print, 0xb7, print, 0xb7, 107},
		{"no such code", 'a', 0xfff, 'a', 0xfff, 38},
	} {
		m.scan(c.sym, c.scan, true)
		until(t, c.name+" is down", func() bool { return slices.Contains(p.pressed(), c.code) })
		m.scan(c.let, c.letter, false)
		until(t, c.name+" is up", func() bool { return len(p.pressed()) == 0 })
	}
	m.scan(0, 0x1e, true) // what has no symbol is let go with all others
	m.scan(0, 0x9d, true)
	until(t, "two are down", func() bool { return len(p.pressed()) == 2 })
	m.release()
	if k := p.pressed(); len(k) > 0 {
		t.Errorf("%d are down", k)
	}
	x.run(t, "setxkbmap", "-keycodes", "xfree86") // where Up is another key than Linux has for it
	m.scan(up, 0xc8, true)
	until(t, "Up is down", func() bool { return slices.Equal(p.pressed(), []int{98}) })
	m.scan(0, 0x1e, true) // unknown
	m.scan(up, 0xc8, false)
	until(t, "it is up", func() bool { return len(p.pressed()) == 0 })
}

// locks waits for a state of the lock keys.
func (s *spectator) locks() int {
	s.t.Helper()
	return int(await(s.t, s.msgs, ipc.TypeLocks)[1])
}

// The state of the lock keys is told when it changes, but not what it is in the middle of a symbol that needs another one.
func TestLocks(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	s := m.memory(image.Pt(640, 480))
	if got := s.locks(); got != 0 {
		t.Errorf("at the start: %d", got)
	}
	for i, c := range []struct {
		do   func()
		want int
	}{
		{func() { m.tap(keyCaps) }, 4},
		{func() { m.tap('a', 'b', 'Ä', '1'); m.tap(keyNum) }, 6},
		{func() { m.tap(0xff95, 0xffb7, 'x'); m.tap(keyCaps) }, 2},
		{func() { x.run(t, "xdotool", "key", "Num_Lock") }, 0}, // somebody at the computer
	} {
		c.do()
		if got := s.locks(); got != c.want {
			t.Errorf("%d: %d, not %d", i, got, c.want)
		}
	}
	m.tap(keyCaps)
	if got := s.locks(); got != 4 {
		t.Errorf("%d", got)
	}
	again := m.memory(image.Pt(640, 480)) // who looks later is told
	if got := again.locks(); got != 4 {
		t.Errorf("%d", got)
	}
}

func TestBell(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	s := m.memory(image.Pt(640, 480))
	await(t, s.msgs, ipc.TypeDamaged) // it looks
	p.check(xproto.BellChecked(p.x, 50).Check())
	await(t, s.msgs, ipc.TypeBell)
}

// All nine buttons of a viewer reach the programs, back and forward too.
func TestButtons(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	events := make(chan [2]byte, 100)
	d, err := openDisplay(x.name, [][]byte{x.cookie}, func(e []byte) {
		if e[0] == xproto.ButtonPress || e[0] == xproto.ButtonRelease {
			events <- [2]byte(e)
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	window, err := xproto.NewWindowId(d.x)
	if err != nil {
		t.Fatal(err)
	}
	err = xproto.CreateWindowChecked(d.x, 0, window, d.root, 0, 0, 640, 480, 0, xproto.WindowClassInputOnly, 0, xproto.CwEventMask,
		[]uint32{xproto.EventMaskButtonPress | xproto.EventMaskButtonRelease}).Check()
	if err == nil {
		err = xproto.MapWindowChecked(d.x, window).Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	for i := range 9 {
		m.pointer(1<<i, 10, 10)
		m.pointer(0, 10, 10)
		for _, kind := range []byte{xproto.ButtonPress, xproto.ButtonRelease} {
			if got := <-events; got != [2]byte{kind, byte(i + 1)} {
				t.Errorf("button %d: event %d of %d", i+1, got[0], got[1])
			}
		}
	}
}

// What is typed changes nothing that the keyboard's map would have to be read again for, which costs more than all the rest.
func TestTypingKeepsTheMap(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	ext, err := xproto.QueryExtension(x.painter(t).x, uint16(len("XKEYBOARD")), "XKEYBOARD").Reply()
	if err != nil {
		t.Fatal(err)
	}
	const newKeyboardNotify, mapNotify = 0, 1
	var maps atomic.Int32
	d, err := openDisplay(x.name, [][]byte{x.cookie}, func(e []byte) {
		if e[0]&0x7f == ext.FirstEvent && (e[1] == newKeyboardNotify || e[1] == mapNotify) {
			maps.Add(1)
		}
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	in, err := input.New(d.x, d.root)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.Key('k', 0, true) // the keyboard is another device from now on: that is one change
	in.Release()         // waits for the X server
	before := maps.Load()
	for _, sym := range "keyboard" {
		in.Key(uint32(sym), 0, true)
		in.Key(uint32(sym), 0, false)
	}
	in.Release()
	if n := maps.Load() - before; n != 0 {
		t.Errorf("the map changed %d times", n)
	}
	x.run(t, "setxkbmap", "de")
	until(t, "another layout is told of", func() bool { in.Release(); return maps.Load() > before })
}

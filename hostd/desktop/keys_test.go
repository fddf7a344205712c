package desktop

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// say sends a packet of the worker.
func (w *fakeWorker) say(t *testing.T, p ...byte) {
	t.Helper()
	if err := w.conn.SendPacket(p); err != nil {
		t.Fatal(err)
	}
}

// Scan codes and the buttons above the seventh go to the desktop of who controls, once they are announced.
func TestScanCodesAndManyButtons(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	announced := func(c *rfbtest.Client) bool {
		return c.Announced(rfb.PseudoQEMUKey) && c.Announced(rfb.PseudoExtendedMouse)
	}
	if err := c.WaitFor(announced, patience); err != nil {
		t.Fatal(err)
	}
	for _, sym := range []uint32{'a', 'l', 'i', 'c', 'e', 0xff09} { // the form takes the symbols
		if err := errors.Join(c.QEMUKey(true, sym, 0x10), c.QEMUKey(false, sym, 0x10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Type("pass word\n"); err != nil {
		t.Fatal(err)
	}
	sees(t, c, 1, 1, canary)
	h.await("control", func() bool { return h.holder != 0 })
	err := errors.Join(c.QEMUKey(true, 'q', 0x10), c.QEMUKey(false, 'q', 0x10), c.Pointer(1<<7, 5, 6), c.Pointer(1<<8, 5, 6), c.Pointer(0, 5, 6))
	if err != nil {
		t.Fatal(err)
	}
	want := []ipc.Input{
		{Kind: ipc.InputKey, A: 'q', B: 1, C: 0x10}, {Kind: ipc.InputKey, A: 'q', C: 0x10},
		{Kind: ipc.InputPointer, A: 1 << 7, X: 5, Y: 6}, {Kind: ipc.InputPointer, A: 1 << 8, X: 5, Y: 6}, {Kind: ipc.InputPointer, X: 5, Y: 6},
	}
	h.await("the events", func() bool { return len(h.inputs[1]) >= len(want) })
	h.with(func() {
		got := slices.Clone(h.inputs[1])
		for i := range got {
			got[i].Session, got[i].Epoch = 0, 0
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %+v, not %+v", got, want)
		}
	})
	before := c.Rects(rfb.PseudoCursorWithAlpha)
	if err := c.SetEncodings(rfbtest.DefaultEncodings()...); err != nil { // once is enough
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Rects(rfb.PseudoCursorWithAlpha) > before }, patience); err != nil {
		t.Fatal(err)
	}
	if n, m := c.Rects(rfb.PseudoQEMUKey), c.Rects(rfb.PseudoExtendedMouse); n != 1 || m != 1 {
		t.Errorf("announced %d and %d times", n, m)
	}
}

// Before the buttons are announced, bit 7 of a mask is the eighth button and no byte follows.
func TestEighthButtonOfOldViewers(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{Encodings: []int32{rfb.Raw}})
	logIn(t, s, alice, c)
	sees(t, c, 1, 200, canary)
	h.await("control", func() bool { return h.holder != 0 })
	if err := errors.Join(c.Send([]byte{5, 0x80, 0, 3, 0, 4}), c.Send([]byte{5, 0, 0, 3, 0, 4}), c.Press('x')); err != nil {
		t.Fatal(err)
	}
	h.await("the key behind it", func() bool { return len(h.inputs[1]) == 4 })
	h.with(func() {
		if in := h.inputs[1][0]; in.A != 0x80 || in.X != 3 || in.Y != 4 {
			t.Errorf("%+v", in)
		}
	})
	if c.Announced(rfb.PseudoQEMUKey) || c.Announced(rfb.PseudoExtendedMouse) {
		t.Error("announced to a viewer that does not know it")
	}
}

// Who controls is told of the lock keys, by either extension, and hears the bell; who watches is not and does not.
func TestLockKeysAndBell(t *testing.T) {
	for _, encoding := range []int32{rfb.PseudoQEMULED, rfb.PseudoVMwareLED} {
		s, h := start(t, small)
		cfg := rfbtest.Config{Encodings: append(rfbtest.DefaultEncodings(), encoding)}
		a := view(t, s, alice, tunnel.RoleControl, cfg)
		logIn(t, s, alice, a)
		sees(t, a, 1, 1, canary)
		h.await("control", func() bool { return h.holder != 0 })
		b := view(t, s, bob, tunnel.RoleWatch, cfg)
		logIn(t, s, bob, b)
		sees(t, b, 1, 300, canary)
		if a.LED() != -1 {
			t.Error("a state that is not known")
		}
		w := h.worker()
		for _, state := range []byte{0, 4, 6, 2} {
			w.say(t, byte(ipc.TypeLocks), state)
			if err := a.WaitFor(func(c *rfbtest.Client) bool { return c.LED() == int(state) }, patience); err != nil {
				t.Fatal(state, err)
			}
		}
		n := a.Rects(encoding)
		if n != 4 {
			t.Errorf("told %d times", n)
		}
		if err := a.SetEncodings(cfg.Encodings...); err != nil { // after which it is told again
			t.Fatal(err)
		}
		if err := a.WaitFor(func(c *rfbtest.Client) bool { return c.Rects(encoding) == 5 }, patience); err != nil {
			t.Fatal(err)
		}

		for range 50 {
			w.say(t, byte(ipc.TypeBell))
		}
		w.say(t, byte(ipc.TypeLocks), 0) // behind them
		if err := a.WaitFor(func(c *rfbtest.Client) bool { return c.LED() == 0 }, patience); err != nil {
			t.Fatal(err)
		}
		if n := a.Bells(); n < 1 || n > 25 { // 5 a second, should the machine be as slow as that
			t.Errorf("%d bells", n)
		}
		if b.LED() != -1 || b.Bells() > 0 {
			t.Errorf("a watcher was told %d and heard %d bells", b.LED(), b.Bells())
		}
		h.with(func() { h.grant(ipc.Control{Session: 2}) })
		if err := b.WaitFor(func(c *rfbtest.Client) bool { return c.LED() == 0 }, patience); err != nil {
			t.Fatal(err)
		}
	}
}

// Five bells a second.
func TestBellRate(t *testing.T) {
	s, _ := lone(t)
	v := newViewer(sink{}, small, s.cache, s.painter)
	v.scene = &scene{owner: true}
	now := time.Now()
	for i := range 1000 {
		v.ring(now.Add(time.Duration(i) * time.Millisecond))
	}
	if n := len(v.replies); n != 5 {
		t.Errorf("%d bells in a second", n)
	}
}

package desktop

import (
	"image"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// point moves the fake desktop's pointer.
func (w *fakeWorker) point(x, y int) {
	w.conn.SendPacket(ipc.Pointer{X: uint16(x), Y: uint16(y)}.AppendTo(nil))
}

// Who controls has the desktop's cursor as its own; for the others it is drawn into the picture, over whatever changes there.
func TestCursor(t *testing.T) {
	s, h := start(t, small)
	a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	b := view(t, s, bob, tunnel.RoleWatch, rfbtest.Config{})
	old := view(t, s, "old", tunnel.RoleWatch, rfbtest.Config{Encodings: []int32{rfb.Hextile}})
	w := h.worker()
	shape := frame.Cursor{Size: image.Pt(4, 3), Hot: image.Pt(1, 1)}
	for range shape.Size.X * shape.Size.Y {
		shape.Pix = append(shape.Pix, 0x80, 0, 0, 0x80) // half blue
	}
	shape.Pix[3], shape.Pix[0] = 0, 0 // with a hole
	w.conn.SendPacket(ipc.AppendCursor(nil, &shape))
	logIn(t, s, alice, a)
	logIn(t, s, bob, b)
	logIn(t, s, "old", old)
	if err := a.WaitFor(func(c *rfbtest.Client) bool { return c.Cursor().Size == shape.Size }, patience); err != nil {
		t.Fatalf("the controller's cursor is %v: %v", a.Cursor(), err)
	}
	blend := func(rgb uint32) uint32 { // half of it, and half blue
		return ((rgb>>16&0xff)*127+127)/255<<16 | ((rgb>>8&0xff)*127+127)/255<<8 | (0x80 + ((rgb&0xff)*127+127)/255)
	}
	for _, at := range []image.Point{{100, 200}, {111, 207}, {400, 300}} {
		w.point(at.X, at.Y)
		for i, rgb := range []uint32{canary, 0x204060, canary} {
			if i > 0 {
				w.paint(image.Rectangle{Min: at.Sub(image.Pt(9, 9)), Max: at.Add(image.Pt(30, 30))}, rgb)
			}
			for _, c := range []*rfbtest.Client{b, old} {
				sees(t, c, at.X, at.Y, blend(rgb))
				sees(t, c, at.X+2, at.Y+1, blend(rgb))
				sees(t, c, at.X+3, at.Y+1, rgb)
				sees(t, c, at.X-1, at.Y-1, rgb)
			}
			sees(t, a, at.X, at.Y, rgb)
		}
	}
	sees(t, b, 100, 200, canary) // it is gone where it was
	if got := b.Cursor().Size; got != arrow().Size {
		t.Errorf("the watcher's own cursor is %v", got)
	}
}

package screen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// A viewing is what loop knows about the screen and the one who looks at it.
type viewing struct {
	*worker
	cap   *capturer
	pic   *picture // nil: nobody
	fresh bool     // the memory holds nothing yet
	told  bool     // Damaged was sent and no Grab has come since

	frame  ipc.Frame
	layout ipc.Layout // as last sent, or to be sent with the next memory
	packet []byte

	cursor      frame.Cursor
	cursorDue   bool
	cursorTime  time.Time // of the last one
	at          image.Point
	pointerTold bool
	locksTold   int       // -1: no state yet
	moving      time.Time // the pointer has moved last
	raw         bool      // the server tells of moves
	timer       *time.Timer

	sizeTold time.Time   // when hostd was told a size last
	sizeDue  *time.Timer // until it is told the next
}

// sizeEvery is the least time between two sizes that hostd is told: of those meanwhile the last counts.
const sizeEvery = 50 * time.Millisecond

// loop serves the screen until ctx ends (nil) or the display is gone.
func (w *worker) loop(ctx context.Context) error {
	v := &viewing{worker: w, raw: w.d.watchPointer()}
	var err error
	if v.cap, err = newCapturer(w.d, w.log, w.greeter.still); err != nil {
		return v.verdict(err)
	}
	v.cap.read = w.pending.read
	defer v.cap.close()
	defer v.drop()
	v.timer = time.NewTimer(time.Hour)
	v.timer.Stop()
	v.sizeDue = time.NewTimer(time.Hour)
	v.sizeDue.Stop()
	for {
		var grabs chan bool
		if v.pic != nil {
			grabs = v.pic.grabs
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.d.stream.closed:
			return v.verdict(ErrDisplayGone)
		case p := <-w.memory:
			err = v.install(p)
		case m := <-w.resizes:
			err = v.layOut(m)
		case full, ok := <-grabs:
			if !ok {
				v.drop()
				continue
			}
			err = v.grab(full)
		case <-w.pending.wake:
			err = v.happened(w.pending.take())
		case <-v.timer.C:
			err = v.tick()
		case <-v.sizeDue.C:
			err = v.tellSize()
		}
		if err != nil {
			return v.verdict(err)
		}
	}
}

// verdict makes one error of all that the end of a display causes.
func (v *viewing) verdict(err error) error {
	if v.d.gone() {
		return fmt.Errorf("display %s: %w", v.d.name, ErrDisplayGone)
	}
	return err
}

// drop forgets the one who looks.
func (v *viewing) drop() {
	if v.pic != nil {
		v.pic.close()
		v.pic = nil
	}
	v.moving = time.Time{}
	v.pending.ignoreMoves(true) // until somebody looks
	v.timer.Stop()
}

// install starts to serve a new memory: shape and place of the pointer first, and all of the picture waits to be asked for.
func (v *viewing) install(p *picture) error {
	v.drop()
	v.pic, v.fresh, v.told, v.pointerTold, v.locksTold = p, true, false, false, -1
	if p.img.Rect.Max != v.d.size {
		return nil // another will come for the size that hostd has been told since
	}
	var err error
	if v.cursor, err = v.d.readCursor(); err != nil {
		return err
	}
	if v.layout.Screens, err = v.d.screens(); err != nil {
		return err
	}
	v.send(v.layout.AppendTo(v.packet[:0]))
	v.cursorTime, v.cursorDue = time.Now(), false
	v.send(ipc.AppendCursor(v.packet[:0], &v.cursor))
	if err := v.point(); err != nil {
		return err
	}
	v.locks()
	v.damaged()
	v.pending.ignoreMoves(false)
	v.schedule()
	return nil
}

// send sends a packet to the one who looks. An error shows at the socket's end, which is received.
func (v *viewing) send(p []byte) {
	v.packet = p[:0]
	if v.pic.conn.SendPacket(p) != nil {
		v.pic.hangUp()
	}
}

// damaged says once that there is something to grab.
func (v *viewing) damaged() {
	if v.pic != nil && !v.told {
		v.told = true
		v.send(append(v.packet[:0], byte(ipc.TypeDamaged)))
	}
}

// locks sends the state of the lock keys if it is another.
func (v *viewing) locks() {
	if state, known := v.pending.lockState(); known && int(state) != v.locksTold {
		v.locksTold = int(state)
		v.send(append(v.packet[:0], byte(ipc.TypeLocks), state))
	}
}

// happened deals with what the X server said.
func (v *viewing) happened(h happened) error {
	if h.relaid {
		if err := v.relaid(false); err != nil {
			return err
		}
	}
	if v.pic == nil {
		return nil
	}
	if h.damaged {
		v.damaged()
	}
	if h.locked {
		v.locks()
	}
	if h.rang {
		v.send(append(v.packet[:0], byte(ipc.TypeBell)))
	}
	v.cursorDue = v.cursorDue || h.cursor
	if err := v.shapeDue(); err != nil {
		return err
	}
	if h.moved && v.moving.IsZero() {
		v.moving = time.Now()
		v.pending.ignoreMoves(true)
		if err := v.point(); err != nil {
			return err
		}
	}
	v.schedule()
	return nil
}

// tick looks at the pointer again.
func (v *viewing) tick() error {
	if v.pic == nil {
		return nil
	}
	if err := v.shapeDue(); err != nil {
		return err
	}
	at := v.at
	if err := v.point(); err != nil {
		return err
	}
	switch now := time.Now(); {
	case v.at != at:
		v.moving = now
	case now.Sub(v.moving) > pointerRest:
		v.moving = time.Time{}
		v.pending.ignoreMoves(false)
	}
	v.schedule()
	return nil
}

// schedule sets the timer for what comes next, if anything.
func (v *viewing) schedule() {
	switch {
	case !v.moving.IsZero():
		v.timer.Reset(pointerEvery)
	case v.cursorDue:
		v.timer.Reset(cursorEvery)
	case !v.raw:
		v.timer.Reset(pointerPoll)
	}
}

// shapeDue is shape when there is reason, and not too soon after the last. Whatever happens asks for it: events that come more
// often than the timer's time put its end off for ever.
func (v *viewing) shapeDue() error {
	if v.cursorDue && time.Since(v.cursorTime) >= cursorEvery {
		return v.shape()
	}
	return nil
}

// shape sends the pointer's shape if it is another.
func (v *viewing) shape() error {
	c, err := v.d.readCursor()
	if err != nil {
		return err
	}
	if err := v.greeter.still(); err != nil {
		return err
	}
	v.cursorDue, v.cursorTime = false, time.Now()
	if c.Size != v.cursor.Size || c.Hot != v.cursor.Hot || !bytes.Equal(c.Pix, v.cursor.Pix) {
		v.cursor = c
		v.send(ipc.AppendCursor(v.packet[:0], &c))
	}
	return nil
}

// point sends the pointer's place if it is another.
func (v *viewing) point() error {
	at, err := v.d.pointer()
	if err == nil {
		v.pointed(at)
	}
	return err
}

func (v *viewing) pointed(at image.Point) {
	if at != v.at || !v.pointerTold {
		v.at, v.pointerTold = at, true
		v.send(ipc.Pointer{X: uint16(at.X), Y: uint16(at.Y)}.AppendTo(v.packet[:0]))
	}
}

// grab brings the memory up to date and answers with what has changed in it.
func (v *viewing) grab(full bool) error {
	v.told = false
	v.frame.Sequence++
	v.frame.Captured, v.frame.Copies, v.frame.Rects = 0, nil, v.frame.Rects[:0]
	if v.pic.img.Rect.Max != v.d.size { // of before a resize; its other end forgets it soon
		v.send(v.frame.AppendTo(v.packet[:0]))
		return nil
	}
	v.d.stream.hold() // damaged flushes
	pointer := xproto.QueryPointer(v.d.x, v.d.root)
	full = full || v.fresh
	var seq uint16
	var err error
	if full {
		seq, err = v.cap.everything()
	} else {
		seq, err = v.cap.damaged()
	}
	if err != nil {
		return err
	}
	v.pending.dealt(seq)
	if at, err := pointerReply(pointer); err != nil {
		return err
	} else {
		v.pointed(at)
	}
	v.frame.Rects, err = v.cap.capture(v.pic.img, full, v.frame.Rects)
	v.frame.Copies = v.cap.motion.copies
	again := false
	switch {
	case errors.Is(err, errResized):
		v.fresh = true
		if again = v.pic.img.Rect.Max == v.d.size; again {
			break // there and back
		}
		if err := v.announce(); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		v.fresh = false
	}
	v.frame.Captured = v.cap.captured()
	if full {
		v.frame.Rects = append(v.frame.Rects[:0], v.pic.img.Rect)
	}
	v.frame.Rects = fewer(v.cap.cells, v.frame.Rects)
	v.send(v.frame.AppendTo(v.packet[:0]))
	if again {
		v.damaged()
	}
	return nil
}

// layOut does what the one in control asks for.
func (v *viewing) layOut(m ipc.Resize) (err error) {
	v.layout.Number, v.layout.Result = m.Number, ipc.ResizeProhibited
	if v.greeter == nil { // the log-on screen is for all
		if v.layout.Result, err = v.d.layOut(m.Size, m.Screens); err != nil {
			return err
		}
	}
	return v.relaid(true)
}

// relaid asks the server for the size, which may have changed again, and the screens, and tells if they are others or tell is true. Of a new
// size hostd is told, and the screens go with the memory that comes for it.
func (v *viewing) relaid(tell bool) error {
	size := v.d.size
	if err := v.d.askSize(); err != nil {
		return err
	}
	if size != v.d.size {
		return v.announce()
	}
	screens, err := v.d.screens()
	if err != nil {
		return err
	}
	if v.pic == nil || v.pic.img.Rect.Max != size || !tell && slices.Equal(screens, v.layout.Screens) {
		return nil
	}
	v.layout.Screens = screens
	v.send(v.layout.AppendTo(v.packet[:0]))
	return nil
}

// announce has hostd told of the new size. A memory for it will come.
func (v *viewing) announce() error {
	v.cap.resize()
	v.frame.Rects = slices.Grow(v.frame.Rects[:0], 64)
	return v.tellSize()
}

// tellSize tells hostd the size, now or as soon as it may.
func (v *viewing) tellSize() error {
	if wait := time.Until(v.sizeTold.Add(sizeEvery)); wait > 0 {
		v.sizeDue.Reset(wait)
		return nil
	}
	v.sizeTold = time.Now()
	return v.conn.Send(ipc.TypeSize, v.ready())
}

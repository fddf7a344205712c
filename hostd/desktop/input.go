package desktop

import (
	"bytes"
	"context"
	"errors"
	"image"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// Limits of input.
const (
	inputRate  = 1000 // events a second: beyond it pointer moves are dropped, and the rest waits
	inputBurst = 1000
	answerRate = 200 // fences and the like a second: beyond it they wait
	maxEvents  = 64  // waiting for a page
	maxHeld    = 32  // keys held down that went into a page
)

// Keys that answer the question for control.
const (
	keyHandOver = form.KeyF1 + 8 // F9
	keyKeep     = form.KeyF1 + 9 // F10
)

// An event is something typed into a page.
type event struct {
	kind  eventKind
	sym   uint32
	shift bool
	at    image.Point
	text  []byte // wiped by who takes it
}

type eventKind uint8

const (
	eventKey eventKind = iota
	eventClick
	eventPaste
)

// A reader takes in what the client sends: the first gate that input passes. It is used by one goroutine.
type reader struct {
	s      *session
	ctx    context.Context
	in     *rfb.Reader
	limit  *rate.Limiter
	asks   *rate.Limiter // messages that want an answer
	clips  *rate.Limiter // texts, and what is said of them
	packet []byte

	mods    modifiers
	held    []uint32 // keys that went into a page, which has them until they are up
	below   []uint32 // keys that answer questions, but went down on the desktop, which has them until they are up
	buttons uint16   // as last sent by the client
	grabbed bool     // the buttons went down on a page: the pointer is the page's until they are up
	fence   []byte   // the answer to a fence that waits for the next message
	clip    []byte   // start of the client's clipboard, for pasting into a field
	move    ipc.Input
	moves   bool // move was held back by the limit

	boxPage *form.Page // what box has last looked at
	boxSize image.Point
	boxRect image.Rectangle
}

// readLoop takes in what the client sends, until its end.
func (s *session) readLoop(ctx context.Context) error {
	r := &reader{
		s: s, ctx: ctx, in: s.in, limit: rate.NewLimiter(inputRate, inputBurst), asks: rate.NewLimiter(answerRate, answerRate),
		clips: rate.NewLimiter(clipRate, clipRate), packet: make([]byte, 0, 64), clip: make([]byte, 0, form.MaxField),
	}
	defer func() { clear(r.clip[:cap(r.clip)]) }()
	for {
		held := r.fence
		if err := r.in.Next(r); err != nil {
			return err
		}
		if len(held) > 0 && len(r.fence) > 0 { // that message was the one to wait for
			if err := r.answer(r.fence); err != nil {
				return err
			}
			r.fence = r.fence[:0]
		}
		s.begun.Store(0)
	}
}

func (r *reader) SetPixelFormat(f rfb.PixelFormat) error {
	fits := r.s.view.setPixelFormat(f, r.fence)
	r.fence = r.fence[:0]
	if !fits {
		return errReplies
	}
	return nil
}

func (r *reader) SetEncodings(list []int32) error {
	r.in.Allow(r.s.view.setEncodings(list))
	return nil
}

func (r *reader) UpdateRequest(incremental bool, area image.Rectangle) error {
	r.s.view.request(incremental, area)
	return r.flush()
}

// ContinuousUpdates is answered when it turns them off, each time.
func (r *reader) ContinuousUpdates(on bool, area image.Rectangle) error {
	r.s.view.continuous(on, area)
	if on {
		return nil
	}
	if err := wait(r.ctx, r.asks); err != nil {
		return err
	}
	return r.answer(rfb.AppendEndOfCU(nil))
}

// Fence takes an answer of the client, or answers. Messages are dealt with in order and updates are whole, so all but SyncNext come for free:
// that answer waits until the next message is dealt with.
func (r *reader) Fence(flags uint32, payload []byte) error {
	if flags&rfb.FenceRequest == 0 {
		if n, ok := parsePing(payload); ok {
			r.s.view.pong(n, time.Now())
		}
		return nil
	}
	if err := wait(r.ctx, r.asks); err != nil {
		return err
	}
	answer := rfb.AppendFence(r.fence[:0], flags&(rfb.FenceBlockBefore|rfb.FenceBlockAfter|rfb.FenceSyncNext), payload)
	if flags&rfb.FenceSyncNext != 0 {
		r.fence = answer
		return nil
	}
	return r.answer(answer)
}

// errReplies ends a session.
var errReplies = errors.New("the viewer has more answered than it reads")

func (r *reader) answer(message []byte) error {
	if !r.s.view.reply(message) {
		return errReplies
	}
	return nil
}

// SetDesktopSize is a wish of who controls, or may come to.
func (r *reader) SetDesktopSize(size image.Point, screens []frame.Screen) error {
	if err := r.wait(); err != nil {
		return err
	}
	fits := true
	p := r.s.prompt.Load()
	switch {
	case r.s.epoch.Load() == 0 && (p == nil || !p.form):
		fits = r.s.view.refuseLayout(ipc.ResizeProhibited)
	case frame.CheckLayout(size, screens) != nil:
		fits = r.s.view.refuseLayout(ipc.ResizeInvalid)
	default:
		fits = r.s.view.wantLayout(ipc.Resize{Number: r.s.srv.resizes.next(), Size: size, Screens: slices.Clone(screens)})
	}
	if !fits {
		return errReplies
	}
	return nil
}

// resize hands a wish of the viewer's on to hostd, with the epoch of this session's control.
func (s *session) resize(r ipc.Resize) (refused uint8) {
	r.Session, r.Epoch = s.number, s.epoch.Load()
	if r.Epoch == 0 {
		return ipc.ResizeProhibited
	}
	if s.srv.monitor.conn.Send(ipc.TypeResize, r) != nil { // hostd is gone, and so will this be
		return ipc.ResizeResources
	}
	return ipc.ResizeDone
}

// Key goes into a page when one is there, else to the desktop of who controls.
func (r *reader) Key(down bool, sym, code uint32) error {
	if err := r.wait(); err != nil {
		return err
	}
	r.mods.key(down, sym)
	p := r.s.prompt.Load()
	held, below := slices.Index(r.held, sym), slices.Index(r.below, sym)
	switch {
	case !down && held >= 0:
		r.held = slices.Delete(r.held, held, held+1)
		return nil
	case !down && below >= 0:
		r.below = slices.Delete(r.below, below, below+1)
	case down && p != nil && (p.form || below < 0 && p.answers(sym)):
		if held < 0 && len(r.held) < maxHeld {
			r.held = append(r.held, sym)
		}
		if p.form && (r.mods.control() && (sym == 'v' || sym == 'V') || r.mods.shift() && sym == form.KeyInsert) {
			return r.send(event{kind: eventPaste, text: bytes.Clone(r.clip)})
		}
		if p.form && r.mods.control() {
			return nil // a shortcut, not a character
		}
		return r.send(event{kind: eventKey, sym: sym, shift: r.mods.shift()})
	case down && below < 0 && (sym == keyHandOver || sym == keyKeep):
		r.below = append(r.below, sym)
	}
	in := ipc.Input{Kind: ipc.InputKey, A: sym, C: code}
	if down {
		in.B = 1
		// It went down in a page before, and that end has not come: the next one is this one's.
		r.held = slices.DeleteFunc(r.held, func(held uint32) bool { return held == sym })
	}
	return r.input(in)
}

// modifiers are the shift and control keys that are held, a bit for each: viewers repeat a key that stays down, so downs
// are not to be counted.
type modifiers uint8

func (m *modifiers) key(down bool, sym uint32) {
	if sym < form.KeyShiftL || sym > form.KeyControlR {
		return
	}
	bit := modifiers(1) << (sym - form.KeyShiftL)
	if *m &^= bit; down {
		*m |= bit
	}
}

// The keysyms of the four keys follow each other: left and right shift, left and right control.
func (m modifiers) shift() bool   { return m&0b0011 != 0 }
func (m modifiers) control() bool { return m&0b1100 != 0 }

// Pointer goes to a page when one is there under it, else to the desktop of who controls.
func (r *reader) Pointer(mask uint16, x, y int) error {
	pressed := mask &^ r.buttons
	moved := mask == r.buttons
	was := r.buttons
	r.buttons = mask
	at := image.Pt(x, y)
	p := r.s.prompt.Load()
	if p != nil && (p.form || was == 0 && at.In(r.box(p.page))) {
		r.grabbed = mask != 0
		if pressed&1 != 0 {
			return r.send(event{kind: eventClick, at: at})
		}
		return nil
	}
	if r.grabbed {
		r.grabbed = mask != 0
		return nil
	}
	on := r.s.view.place(x, y)
	in := ipc.Input{Kind: ipc.InputPointer, A: uint32(mask), X: uint16(on.X), Y: uint16(on.Y)}
	if moved && !r.limit.Allow() {
		r.move, r.moves = in, true
		return nil
	}
	if !moved {
		if err := r.wait(); err != nil {
			return err
		}
	}
	r.moves = false
	return r.input(in)
}

// box is where a page is drawn.
func (r *reader) box(page *form.Page) image.Rectangle {
	if size := r.s.view.bounds(); page != r.boxPage || size != r.boxSize {
		r.boxPage, r.boxSize, r.boxRect = page, size, r.s.srv.painter.Bounds(page, size)
	}
	return r.boxRect
}

// wait keeps to the limit of keys.
func (r *reader) wait() error { return wait(r.ctx, r.limit) }

func wait(ctx context.Context, limit *rate.Limiter) error {
	if limit.Allow() {
		return nil
	}
	return limit.Wait(ctx)
}

// flush sends the pointer's last move that the limit held back.
func (r *reader) flush() error {
	if !r.moves {
		return nil
	}
	r.moves = false
	return r.input(r.move)
}

// send hands an event to run, and waits while it is busy.
func (r *reader) send(e event) error {
	select {
	case r.s.events <- e:
		return nil
	case <-r.ctx.Done():
		clear(e.text)
		return r.ctx.Err()
	}
}

// input hands an event to hostd, with the epoch of this session's control. Without control it is dropped.
func (r *reader) input(in ipc.Input) error {
	in.Epoch = r.s.epoch.Load()
	if in.Epoch == 0 {
		r.s.srv.stats.dropped.Add(1)
		return nil
	}
	in.Session = r.s.number
	r.packet = in.AppendTo(r.packet[:0])
	r.s.srv.stats.inputs.Add(1)
	return r.s.srv.monitor.conn.SendPacket(r.packet)
}

// begins reads from the session's connection and notes when a message began.
type begins struct{ s *session }

func (b *begins) Read(p []byte) (int, error) {
	n, err := b.s.conn.Read(p)
	if n > 0 && b.s.begun.Load() == 0 {
		b.s.begun.Store(time.Now().UnixNano())
	}
	return n, err
}

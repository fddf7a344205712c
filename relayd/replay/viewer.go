package replay

import (
	"context"
	"errors"
	"fmt"
	"image"
	"net"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/rfb"
)

const (
	shortStep = 10 * time.Second
	longStep  = time.Minute
	busyTime  = 100 * time.Millisecond // how long updates are drawn before keys are looked at
	leap      = 5 * time.Second        // what is further away is jumped to
)

// A viewer is one connection. run owns it; the reader sends it functions to call.
type viewer struct {
	conn    net.Conn
	cfg     Config
	play    *record.Player
	painter *form.Painter
	events  chan func()

	from   time.Duration // where it was in the recording at since
	since  time.Time
	speed  float64
	paused bool

	caps    rfb.Capabilities
	format  rfb.PixelFormat
	asked   bool
	area    image.Rectangle // of the requests not yet answered
	map8    bool            // the colour map is to be sent
	dirty   frame.Region    // what the viewer lacks
	title   string          // as it was told
	barEnds time.Time
	bar     frame.Image // zero: not shown
	barText string

	enc    rfb.Encoder
	stream rfb.StreamState
	batch  rfb.Batch
	part   frame.Region
	rects  []image.Rectangle
	out    []byte
}

func newViewer(conn net.Conn, cfg Config, painter *form.Painter) *viewer {
	v := &viewer{
		conn: conn, cfg: cfg, play: cfg.File.NewPlayer(), painter: painter, events: make(chan func()),
		since: time.Now(), speed: cfg.Speed, paused: cfg.Paused,
		caps: rfb.ParseEncodings(nil), format: rfb.Native,
	}
	v.dirty.Reset(cfg.File.Size)
	v.seek(cfg.At)
	return v
}

// run shows the recording until the viewer leaves.
func (v *viewer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := make(chan error, 1)
	go func() {
		in := rfb.NewReader(v.conn)
		for {
			if err := in.Next(input{ctx, v}); err != nil {
				left <- err
				return
			}
		}
	}()
	defer func() { // the reader has ended when this returns
		cancel()
		v.conn.Close()
		<-left
	}()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		if err := v.advance(time.Now()); err != nil {
			return err
		}
		if err := v.send(); err != nil {
			return err
		}
		t.Reset(v.wait(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case err := <-left:
			left <- err
			return err
		case f := <-v.events:
			f()
		case <-t.C:
		}
	}
}

// at is where in the recording it should be.
func (v *viewer) at(now time.Time) time.Duration {
	at := v.from
	if !v.paused {
		at += time.Duration(float64(now.Sub(v.since)) * v.speed)
	}
	return min(max(at, 0), v.cfg.File.Duration)
}

// seek goes on from another place.
func (v *viewer) seek(to time.Duration) {
	v.from, v.since = min(max(to, 0), v.cfg.File.Duration), time.Now()
	v.play.Seek(v.from)
	v.dirty.Add(v.dirty.Bounds())
	v.barEnds = v.since.Add(v.cfg.Bar)
}

// advance shows what has come due, and the bar.
func (v *viewer) advance(now time.Time) error {
	at := v.at(now)
	if at > v.play.At()+leap {
		if next, ok := v.play.Next(); ok && next <= at {
			v.play.Seek(at)
			v.dirty.Add(v.dirty.Bounds())
		}
	}
	for {
		next, ok := v.play.Next()
		if !ok {
			if err := v.play.Err(); err != nil {
				return fmt.Errorf("the recording is damaged behind %s: %w", Clock(v.play.At()), err)
			}
			break
		}
		if next > at || time.Since(now) > busyTime {
			break
		}
		v.play.Step(&v.dirty)
	}
	v.drawBar(now, at)
	return nil
}

// drawBar brings the bar up to date: how to go where, for some seconds after each key.
func (v *viewer) drawBar(now time.Time, at time.Duration) {
	if !now.Before(v.barEnds) {
		if v.bar.Pix != nil {
			v.dirty.Add(v.bar.Rect)
			v.bar, v.barText = frame.Image{}, ""
		}
		return
	}
	state := fmt.Sprintf("%s / %s", Clock(at), Clock(v.cfg.File.Duration))
	switch {
	case v.paused:
		state += ", paused"
	case at == v.cfg.File.Duration:
		state += ", the end"
	case v.speed != 1:
		state += fmt.Sprintf(", speed %g", v.speed)
	}
	if state == v.barText {
		return
	}
	if v.bar.Pix != nil {
		v.dirty.Add(v.bar.Rect)
	}
	v.barText = state
	page := form.Notice(state, Keys)
	page.Box = form.Top
	v.bar = frame.New(v.painter.Bounds(page, v.cfg.File.Size))
	v.painter.Draw(page, v.cfg.File.Size, v.bar)
	v.dirty.Add(v.bar.Rect)
}

// wait is how long nothing has to be done, unless the viewer sends something.
func (v *viewer) wait(now time.Time) time.Duration {
	wait := time.Hour
	if now.Before(v.barEnds) {
		wait = v.barEnds.Sub(now)
	}
	if v.paused || v.at(now) == v.cfg.File.Duration {
		return wait
	}
	wait = min(wait, time.Duration(float64(time.Second)/max(v.speed, 1))) // the clock goes on
	if next, ok := v.play.Next(); ok {
		wait = min(wait, time.Duration(float64(next-v.at(now))/v.speed))
	}
	return max(wait, time.Millisecond)
}

// send sends what the viewer lacks and has asked for.
func (v *viewer) send() error {
	if v.map8 {
		v.map8 = false
		return v.write(rfb.AppendColourMap(v.out[:0]))
	}
	if !v.asked {
		return nil
	}
	v.batch.Reset()
	count := 0
	head := rfb.AppendUpdateHeader(v.out[:0], 0)
	if name := title(v.cfg.File, v.at(time.Now())); v.caps.DesktopName && name != v.title {
		head = rfb.AppendDesktopName(head, name)
		v.title = name
		count++
	}
	v.dirty.Split(v.area, &v.part)
	params := v.caps.Params(v.format, true)
	if v.bar.Pix != nil {
		var bar frame.Region
		v.part.Split(v.bar.Rect, &bar)
		v.rects = bar.AppendRects(v.rects[:0])
		v.enc.Append(&v.batch, params, v.bar, v.rects)
	}
	v.rects = v.part.AppendRects(v.rects[:0])
	v.enc.Append(&v.batch, params, v.play.Picture(), v.rects)
	if count += v.batch.Count; count == 0 {
		return nil
	}
	if count >= rfb.UnknownRects {
		return errors.New("an update of more rectangles than can be counted")
	}
	head[2], head[3] = byte(count>>8), byte(count)
	v.asked, v.area = false, image.Rectangle{}
	v.stream.OneStream = v.caps.OneStream
	return v.write(v.batch.AppendTo(head, &v.stream))
}

func (v *viewer) write(b []byte) error {
	v.out = b
	v.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := v.conn.Write(b)
	return err
}

// key does what a key is for.
func (v *viewer) key(sym uint32) {
	now := time.Now()
	at := v.at(now)
	switch c := form.Rune(sym); {
	case c == ' ' && !v.paused && at == v.cfg.File.Duration:
		v.seek(0)
	case c == ' ':
		v.from, v.since, v.paused = at, now, !v.paused
	case c >= '0' && c <= '9':
		v.seek(v.cfg.File.Duration * time.Duration(c-'0') / 10)
	case sym == form.KeyLeft:
		v.seek(at - shortStep)
	case sym == form.KeyRight:
		v.seek(at + shortStep)
	case sym == keyPageUp:
		v.seek(at - longStep)
	case sym == keyPageDown:
		v.seek(at + longStep)
	case sym == form.KeyHome:
		v.seek(0)
	case sym == form.KeyEnd:
		v.seek(v.cfg.File.Duration)
	case sym == form.KeyUp, sym == form.KeyDown:
		if v.from, v.since = at, now; sym == form.KeyUp {
			v.speed = min(v.speed*2, MaxSpeed)
		} else {
			v.speed = max(v.speed/2, MinSpeed)
		}
	}
	v.barEnds = now.Add(v.cfg.Bar)
	if sym == form.KeyEscape {
		v.barEnds = now
	}
}

const (
	keyPageUp   = 0xff55
	keyPageDown = 0xff56
)

// input hands what a viewer sends to run.
type input struct {
	ctx context.Context
	v   *viewer
}

func (h input) do(f func()) error {
	select {
	case h.v.events <- f:
		return nil
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
}

func (h input) SetPixelFormat(f rfb.PixelFormat) error {
	return h.do(func() { h.v.format, h.v.map8 = f, !f.TrueColour })
}

func (h input) SetEncodings(list []int32) error {
	caps := rfb.ParseEncodings(list)
	return h.do(func() { h.v.caps, h.v.title = caps, "" })
}

func (h input) UpdateRequest(incremental bool, r image.Rectangle) error {
	return h.do(func() {
		v := h.v
		if r = r.Intersect(v.dirty.Bounds()); !incremental {
			v.dirty.Add(r)
		}
		v.asked, v.area = true, v.area.Union(r)
	})
}

func (h input) Key(down bool, sym, _ uint32) error {
	if !down {
		return nil
	}
	return h.do(func() { h.v.key(sym) })
}

func (input) Pointer(uint16, int, int) error                   { return nil }
func (input) CutText([]byte) error                             { return nil }
func (input) Clipboard(rfb.ClipMessage) error                  { return nil }
func (input) ContinuousUpdates(bool, image.Rectangle) error    { return nil }
func (input) Fence(uint32, []byte) error                       { return nil }
func (input) SetDesktopSize(image.Point, []frame.Screen) error { return nil }

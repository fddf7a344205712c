package desktop

import (
	"image"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// A path carries bytes at a rate, after a delay, and queues without end. Its clock is moved by hand.
type path struct {
	flow flow
	rate float64       // bytes a second
	trip time.Duration // empty, both ways
	now  time.Time
	free time.Time // when the last byte sent will have left the queue
	out  []answer  // pings on their way, in order

	photos bool // updates have photographs
}

type answer struct {
	n  uint32
	at time.Time
}

func newPath(rate float64, trip time.Duration) *path {
	return &path{flow: flow{window: firstWindow}, rate: rate, trip: trip, now: time.Unix(1e9, 0)}
}

// step lets a millisecond pass, in which an update of size bytes is sent unless the window is full. It gives the time for which that
// update will queue.
func (p *path) step(size uint64) (queue time.Duration, sent bool) {
	p.now = p.now.Add(time.Millisecond)
	for len(p.out) > 0 && !p.out[0].at.After(p.now) {
		p.flow.pong(p.out[0].n, p.now)
		p.out = p.out[1:]
	}
	if size == 0 || p.flow.congested(p.now) {
		return 0, false
	}
	if p.free.Before(p.now) {
		p.free = p.now
	}
	queue = p.free.Sub(p.now)
	if n, ok := p.flow.before(p.now); ok {
		p.out = append(p.out, answer{n, p.free.Add(p.trip)})
	}
	p.free = p.free.Add(time.Duration(float64(size) / p.rate * float64(time.Second)))
	p.out = append(p.out, answer{p.flow.after(size, p.photos, p.now), p.free.Add(p.trip)})
	return queue, true
}

// Whatever the path, it is kept busy and no queue builds up in it.
func TestFlowFillsThePathAndNoQueue(t *testing.T) {
	for _, c := range []struct {
		name string
		rate float64 // bytes a second
		trip time.Duration
	}{
		{"loopback", 1e9, 100 * time.Microsecond},
		{"LAN", 125e6, time.Millisecond},
		{"100 Mbit/s, 40 ms", 12.5e6, 40 * time.Millisecond},
		{"20 Mbit/s, 40 ms", 2.5e6, 40 * time.Millisecond},
		{"10 Mbit/s, 200 ms", 1.25e6, 200 * time.Millisecond},
		{"2 Mbit/s, 20 ms", 0.25e6, 20 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPath(c.rate, c.trip)
			const update = 8 << 10
			var sent uint64
			var worst time.Duration
			for ms := range 30000 {
				queue, ok := p.step(update)
				if ms < 10000 { // finds its way
					continue
				}
				if ok {
					sent += update
				}
				worst = max(worst, queue)
			}
			rate := float64(sent) / 20
			if want := 0.8 * min(c.rate, update*1000); rate < want { // one update a millisecond is offered
				t.Errorf("%.0f bytes a second, want %.0f", rate, want)
			}
			// Behind a pause all of the window comes at once.
			if worst > c.trip+4*queueTime+time.Duration(update/c.rate*float64(time.Second)) {
				t.Errorf("an update waits for %v", worst)
			}
		})
	}
}

// A film that does not fit through the path gets coarser until it does, and finer when the path has room again. Each level of quality
// takes a third less.
func TestFlowFitsTheFilm(t *testing.T) {
	p := newPath(2.5e6, 40*time.Millisecond)
	p.photos = true
	film := func(seconds int) (frames int, worst time.Duration) {
		for ms, due := 0, 0; ms < seconds*1000; ms++ {
			if due += 30; due < 1000 { // 30 frames a second
				p.step(0)
				continue
			}
			size := 290e3
			for range p.flow.coarser {
				size *= 0.67
			}
			queue, sent := p.step(uint64(size))
			if !sent {
				continue // the next millisecond has a newer one
			}
			due = (due - 1000) % 1000
			if ms > seconds*1000/2 {
				frames++
				worst = max(worst, queue+time.Duration(size/p.rate*float64(time.Second)))
			}
		}
		return frames, worst
	}
	frames, worst := film(20)
	if frames < 200 || worst > 110*time.Millisecond {
		t.Errorf("%d frames in 10 s, the worst takes %v, at %d levels less", frames, worst, p.flow.coarser)
	}
	p.rate = 125e6
	if frames, _ := film(60); frames < 29*30 || p.flow.coarser != 0 {
		t.Errorf("%d frames in 30 s, at %d levels less, on a fast path", frames, p.flow.coarser)
	}
}

// A viewer without fences, which asks again when it has read an update, gets a film as coarse as its path needs.
func TestFlowWithoutFencesFitsTheFilm(t *testing.T) {
	f := flow{window: firstWindow}
	now := time.Unix(1e9, 0)
	film := func(rate float64, trip time.Duration, updates int) (last time.Duration) {
		for range updates {
			size := 150e3
			for range f.coarser {
				size *= 0.67
			}
			f.plainly(uint64(size), true, now)
			last = trip + time.Duration(size/rate*float64(time.Second))
			now = now.Add(last)
			f.requested(now)
			f.plainly(300, false, now)
			now = now.Add(trip)
			f.requested(now)
		}
		return last
	}
	if last := film(1.25e6, 40*time.Millisecond, 100); last > 100*time.Millisecond {
		t.Errorf("a picture takes %v at %d levels less", last, f.coarser)
	}
	if film(125e6, 40*time.Millisecond, 400); f.coarser != 0 {
		t.Errorf("%d levels less on a fast path", f.coarser)
	}
}

// A viewer on this machine that is slow to decode is sent what it asked for all the same.
func TestFlowIsNotFooledByASlowViewer(t *testing.T) {
	f := flow{window: firstWindow}
	now := time.Unix(1e9, 0)
	for range 50 {
		if n, ok := f.before(now); ok {
			f.pong(n, now.Add(time.Millisecond))
		}
		n := f.after(130e3, true, now)
		now = now.Add(100 * time.Millisecond)
		f.pong(n, now)
	}
	if f.coarser != 0 {
		t.Errorf("%d levels less", f.coarser)
	}
}

// A path that becomes longer, and one that becomes shorter, is measured anew.
func TestFlowForgetsAnOldBase(t *testing.T) {
	p := newPath(12.5e6, 10*time.Millisecond)
	for range 5000 {
		p.step(8 << 10)
	}
	p.trip = 80 * time.Millisecond
	var sent uint64
	for ms := range 60000 {
		if _, ok := p.step(8 << 10); ok && ms > 40000 {
			sent += 8 << 10
		}
	}
	if rate := float64(sent) / 20; rate < 5.6e6 {
		t.Errorf("%.0f bytes a second after the path became longer", rate)
	}
}

// What is no ping of ours, or answers one twice or out of order, changes nothing for the worse.
func TestFlowStandsAnyPong(t *testing.T) {
	f := flow{window: firstWindow}
	now := time.Unix(1e9, 0)
	for range 10 {
		f.after(1000, true, now)
	}
	for _, n := range []uint32{10, 1 << 31, ^uint32(0), 5, 5, 2, 9, 9} {
		f.pong(n, now.Add(time.Millisecond))
		if f.flight() > 10000 {
			t.Fatalf("after pong %d, %d bytes are on the way", n, f.flight())
		}
	}
	if f.flight() != 0 {
		t.Errorf("%d bytes are on the way", f.flight())
	}
}

// continuing is a viewer with continuous updates that sends no requests.
func continuing(t *testing.T, s *server) *rfbtest.Client {
	t.Helper()
	c := view(t, s, alice, tunnel.RoleWatch, rfbtest.Config{Manual: true})
	if err := c.SetEncodings(rfb.Tight, rfb.PseudoFence, rfb.PseudoContinuousUpdates); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Fences() > 0 && c.EndsOfCU() == 1 }, patience); err != nil {
		t.Fatalf("fences and continuous updates are not announced: %v", err)
	}
	return c
}

// With continuous updates a viewer sees every change without asking, and none any more after it has turned them off.
func TestContinuousUpdates(t *testing.T) {
	s, h := start(t, small)
	c := continuing(t, s)
	if err := c.ContinuousUpdates(true, image.Rectangle{Max: small}); err != nil {
		t.Fatal(err)
	}
	logIn(t, s, alice, c)
	w := h.worker()
	for i := range uint32(20) {
		at := image.Pt(int(i)*16, 200)
		w.paint(image.Rectangle{Min: at, Max: at.Add(image.Pt(16, 16))}, 0xff0000+i)
		sees(t, c, at.X, at.Y, 0xff0000+i)
	}
	if err := c.ContinuousUpdates(false, image.Rectangle{}); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.EndsOfCU() == 2 }, patience); err != nil {
		t.Fatal(err)
	}
	updates := c.Updates()
	w.paint(image.Rect(0, 300, 16, 316), 0x123456)
	if err := c.Fence(rfb.FenceRequest, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Answered() == "after" }, patience); err != nil {
		t.Fatal(err)
	}
	if n := c.Updates() - updates; n != 0 {
		t.Errorf("%d updates nobody asked for", n)
	}
	if err := c.Request(true); err != nil {
		t.Fatal(err)
	}
	sees(t, c, 8, 308, 0x123456)
}

// TigerVNC changes its pixel format while updates come: behind the answer to a fence with SyncNext, all is in the new format.
func TestPixelFormatBehindAFence(t *testing.T) {
	s, h := start(t, small)
	c := continuing(t, s)
	if err := c.ContinuousUpdates(true, image.Rectangle{Max: small}); err != nil {
		t.Fatal(err)
	}
	logIn(t, s, alice, c)
	w := h.worker()
	formats := []rfb.PixelFormat{
		{BitsPerPixel: 16, Depth: 16, TrueColour: true, RedMax: 31, GreenMax: 63, BlueMax: 31, RedShift: 11, GreenShift: 5},
		rfb.Native,
	}
	for i := range uint32(30) {
		if i%3 == 2 {
			if err := c.ChangeFormat(formats[i/3%2]); err != nil {
				t.Fatal(err)
			}
		}
		w.paint(image.Rect(0, 200, 200, 300), []uint32{0xff0000, 0x00ff00, 0x0000ff}[i%3])
		sees(t, c, 100, 250, []uint32{0xff0000, 0x00ff00, 0x0000ff}[i%3])
	}
}

package desktop

import (
	"bytes"
	"fmt"
	"image"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// eventually looks again and again at what nobody tells of.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// rests waits until so many viewers have all there is and ask for more.
func rests(t testing.TB, s *server, n int) {
	t.Helper()
	eventually(t, "the viewers to rest", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		resting := 0
		for _, se := range s.sessions {
			se.mu.Lock()
			if se.ready && se.view.rests() {
				resting++
			}
			se.mu.Unlock()
		}
		return resting == n
	})
}

func (v *viewer) rests() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asked && v.dirty.Empty() && len(v.copies) == 0 && !v.coarse.Load() && v.scene.desk != nil
}

// shows waits until a viewer's picture is the screen, but for cells in except.
func (w *fakeWorker) shows(t testing.TB, c *rfbtest.Client, except ...image.Rectangle) {
	t.Helper()
	w.mu.Lock()
	want := w.screen
	want.Pix = slices.Clone(want.Pix)
	w.mu.Unlock()
	var diff string
	same := func(c *rfbtest.Client) bool {
		diff = differ(want, c.Picture(), except)
		return diff == ""
	}
	if err := c.WaitFor(same, patience); err != nil {
		t.Fatalf("%s: %v", diff, err)
	}
}

// differ says where two pictures differ, the unused byte aside.
func differ(want, got frame.Image, except []image.Rectangle) string {
	if want.Rect != got.Rect {
		return fmt.Sprintf("size %v, not %v", got.Rect, want.Rect)
	}
	for y := range want.Rect.Max.Y {
		a, b := want.Row(y, 0, want.Rect.Max.X), got.Row(y, 0, want.Rect.Max.X)
		for x := 0; x < want.Rect.Max.X; x++ {
			i := x * frame.BytesPerPixel
			if a[i] == b[i] && a[i+1] == b[i+1] && a[i+2] == b[i+2] {
				continue
			}
			if !slices.ContainsFunc(except, func(r image.Rectangle) bool { return image.Pt(x, y).In(r) }) {
				return fmt.Sprintf("pixel %d,%d is %x, not %x", x, y, b[i:i+3], a[i:i+3])
			}
		}
	}
	return ""
}

// pointer is where the fake desktop's pointer is drawn for those who watch.
var pointer = image.Rect(0, 0, 16, 32)

// noise makes a rectangle look like a photograph.
func (w *fakeWorker) noise(r image.Rectangle, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w.draw(r, func() {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			row := w.screen.Row(y, r.Min.X, r.Max.X)
			for i := range row {
				if i%4 != 3 {
					row[i] = byte(y*2 + i/4 + rnd.IntN(24))
				}
			}
		}
	})
}

// counts are what one change has cost.
type counts struct {
	captures, captured, encodes, shared uint64
}

func (s *server) counts() counts {
	return counts{s.stats.captures.Load(), s.stats.captured.Load(), s.stats.encodes.Load(), s.stats.shared.Load()}
}

func (c counts) since(b counts) counts {
	return counts{c.captures - b.captures, c.captured - b.captured, c.encodes - b.encodes, c.shared - b.shared}
}

// One change is captured once, and encoded once for all viewers of one format.
func TestEncodeOnce(t *testing.T) {
	format16 := rfb.PixelFormat{BitsPerPixel: 16, Depth: 16, TrueColour: true, RedMax: 31, GreenMax: 63, BlueMax: 31, RedShift: 11, GreenShift: 5}
	tests := []struct {
		name   string
		second rfbtest.Config
		want   counts
	}{
		{"one format", rfbtest.Config{}, counts{captures: 1, captured: 400, encodes: 1, shared: 1}},
		{"two formats", rfbtest.Config{Format: format16}, counts{captures: 1, captured: 400, encodes: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, h := start(t, small)
			var viewers []*rfbtest.Client
			for i, cfg := range []rfbtest.Config{{}, tt.second} {
				who := fmt.Sprintf("v%d", i)
				c := view(t, s, who, tunnel.RoleWatch, cfg)
				logIn(t, s, who, c)
				viewers = append(viewers, c)
			}
			rests(t, s, 2)
			before := s.counts()
			h.worker().paint(image.Rect(200, 200, 220, 220), 0xff0000)
			for _, c := range viewers {
				c.WaitFor(func(c *rfbtest.Client) bool { return c.At(210, 210)>>16 > 0xf0 && c.At(210, 210)&0xffff < 0x0f0f }, patience)
			}
			rests(t, s, 2)
			if got := s.counts().since(before); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// A gate is a connection that can be kept from being read.
type gate struct {
	net.Conn
	mu sync.Mutex
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	return n, err
}

// A viewer that takes its time gets what has changed meanwhile in one update, and holds nobody up.
func TestSlowViewer(t *testing.T) {
	s, h := start(t, small)
	fast := view(t, s, "fast", tunnel.RoleWatch, rfbtest.Config{})
	logIn(t, s, "fast", fast)
	conn, err := join(t.Context(), t, s, fromInit("slow", tunnel.RoleWatch))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Conn: conn}
	slow, err := rfbtest.Handshake(g, rfbtest.Config{FromInit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	logIn(t, s, "slow", slow)
	rests(t, s, 2)
	g.mu.Lock()
	before := slow.Updates()
	w := h.worker()
	const n = 20
	for i := range n {
		w.paint(image.Rect(100+i*10, 100, 130+i*10, 130), uint32(i)*7+1)
		sees(t, fast, 101+i*10, 101, uint32(i)*7+1)
	}
	g.mu.Unlock()
	w.shows(t, slow, pointer)
	if got := slow.Updates() - before; got > n/4 { // one that it was in, and what came together since; a busy machine may send that in parts
		t.Errorf("the slow viewer got %d updates for %d changes", got, n)
	}
}

// What was sent by JPEG is exact when the screen rests, though elsewhere it goes on changing.
func TestExactAtRest(t *testing.T) {
	s, h := start(t, small)
	enc := []int32{rfb.Tight, rfb.PseudoQuality0 + 2, rfb.PseudoLastRect, rfb.PseudoCursor}
	c := view(t, s, "a", tunnel.RoleControl, rfbtest.Config{Encodings: enc})
	logIn(t, s, "a", c)
	sees(t, c, 1, 1, canary)
	w := h.worker()
	photo := image.Rect(37, 51, 421, 333)
	w.noise(photo, 1)
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Rects(rfbtest.JPEG) > 0 }, patience); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := uint32(1); ; i++ {
			select {
			case <-tick.C:
				w.paint(image.Rect(600, 400, 610, 410), i)
			case <-stop:
				return
			}
		}
	}()
	blinking := image.Rect(592, 400, 624, 416)
	w.shows(t, c, blinking)
	close(stop)
	<-done
	w.shows(t, c)
	rests(t, s, 1)
	updates := c.Updates()
	if w.paint(image.Rect(0, 0, 1, 1), 5); c.WaitFor(func(c *rfbtest.Client) bool { return c.At(0, 0) == 5 }, patience) != nil {
		t.Error("no update after the rest")
	}
	if c.Updates() != updates+1 {
		t.Errorf("%d updates for one change at rest", c.Updates()-updates)
	}
}

// A film's colours are shared by 2×2 pixels from its second picture on, unless the viewer has asked for something else.
func TestFilmSharesColours(t *testing.T) {
	size := image.Pt(640, 360)
	const full, shared = 0x11, 0x22 // sampling factors of the first component
	for _, c := range []struct {
		asks int32
		want [3]byte
	}{
		{rfb.PseudoQuality0 + 8, [3]byte{full, shared, shared}},
		{rfb.PseudoQuality0 + 2, [3]byte{shared, shared, shared}},
		{rfb.PseudoQuality0 + 9, [3]byte{full, full, full}},
		{rfb.PseudoSubsampling0, [3]byte{full, full, full}},
		{rfb.PseudoFineQuality0 + 92, [3]byte{full, full, full}},
	} {
		p, _ := bench(t, size, 0)
		wire := &tape{}
		v := newViewer(wire, size, p.desk.cache, form.NewPainter())
		v.setEncodings([]int32{rfb.Tight, rfb.PseudoQuality0 + 8, c.asks})
		v.send.arrow = arrow()
		v.show(&scene{desk: p.desk, owner: true})
		packet := (&ipc.Frame{Rects: []image.Rectangle{p.image.Rect}}).AppendTo(nil)
		for i, want := range c.want {
			wire.buf.Reset()
			oneFrame(t, p, packet, []*viewer{v})
			at := bytes.Index(wire.buf.Bytes(), []byte{0xff, 0xc0}) // SOF0
			if at < 0 {
				t.Fatalf("no JPEG picture for %d", c.asks)
			}
			if got := wire.buf.Bytes()[at+11]; got != want {
				t.Errorf("picture %d for %d is sampled by %#x, not %#x", i+1, c.asks, got, want)
			}
		}
	}
}

// The worker is started again, with another size and then back: whoever can gets a new size, the others what fits.
func TestWorkerRestart(t *testing.T) {
	s, h := start(t, small)
	enc := []int32{rfb.ZRLE, rfb.PseudoCursor}
	fixed := view(t, s, "fixed", tunnel.RoleWatch, rfbtest.Config{Encodings: enc})
	grows := view(t, s, "grows", tunnel.RoleControl, rfbtest.Config{})
	extended := view(t, s, "extended", tunnel.RoleWatch, rfbtest.Config{Encodings: append(enc, rfb.PseudoExtendedDesktopSize)})
	logIn(t, s, "fixed", fixed)
	logIn(t, s, "grows", grows)
	logIn(t, s, "extended", extended)
	rests(t, s, 3)
	for _, size := range []image.Point{{700, 500}, {330, 250}, small} {
		h.with(func() { h.desktop(size) })
		w := h.worker()
		w.paint(image.Rect(40, 40, 60, 60), 0x123456)
		for _, c := range []*rfbtest.Client{grows, extended} {
			if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Size() == size }, patience); err != nil {
				t.Fatalf("%v: %v", size, err)
			}
		}
		w.shows(t, grows)
		sees(t, fixed, 50, 50, 0x123456)
		edge := image.Pt(min(size.X, small.X), min(size.Y, small.Y))
		sees(t, fixed, edge.X-1, edge.Y-1, canary)
		if edge.X < small.X {
			sees(t, fixed, edge.X, edge.Y-1, form.Background)
			sees(t, fixed, 0, edge.Y, form.Background)
			sees(t, fixed, small.X-1, small.Y-1, form.Background)
		}
		if fixed.Size() != small {
			t.Errorf("the size of a viewer that cannot change it is %v", fixed.Size())
		}
	}
}

// Eight viewers of all kinds, who come and go while everything changes, all show the screen at the end.
func TestManyViewers(t *testing.T) {
	s, h := start(t, small)
	w := h.worker()
	lists := [][]int32{
		{rfb.Tight, rfb.PseudoQuality0 + 5}, {rfb.ZRLE}, {rfb.Hextile}, {rfb.Zlib}, {rfb.RRE}, {rfb.Raw}, {rfb.Tight},
		{rfb.Tight, rfb.CopyRect, rfb.PseudoQuality0 + 5},
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for i := uint64(0); ; i++ {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			at := image.Pt(rnd.IntN(560), rnd.IntN(400))
			r := image.Rectangle{Min: at, Max: at.Add(image.Pt(1+rnd.IntN(80), 1+rnd.IntN(80)))}
			if i%3 == 0 {
				w.noise(r, i)
			} else {
				w.paint(r, rnd.Uint32N(1<<24))
			}
		}
	})
	var viewers []*rfbtest.Client
	for i, list := range lists {
		who := fmt.Sprintf("v%d", i)
		c := view(t, s, who, tunnel.RoleWatch, rfbtest.Config{Encodings: list})
		logIn(t, s, who, c)
		viewers = append(viewers, c)
	}
	for _, c := range viewers {
		if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > 4 }, patience); err != nil {
			t.Fatal(err)
		}
	}
	viewers[3].Close()
	close(stop)
	work.Wait()
	w.paint(image.Rect(0, 0, 16, 16), 1)
	for i, c := range viewers {
		if i != 3 {
			w.shows(t, c, pointer)
		}
	}
}

// bench is a desk with a picture and viewers, without any goroutine.
func bench(tb testing.TB, size image.Point, viewers int, list ...int32) (*picture, []*viewer) {
	s := &stats{}
	d := newDesk(1, newCache(s))
	p := &picture{desk: d, kick: make(chan struct{}, 1), laid: true, image: frame.New(image.Rectangle{Max: size})}
	p.conn = discard(tb)
	d.picture, p.begun = p, true
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range p.image.Pix {
		if i%4 != 3 {
			p.image.Pix[i] = byte(rnd.IntN(4) * 60)
		}
	}
	var vs []*viewer
	for range viewers {
		v := newViewer(sink{}, size, d.cache, form.NewPainter())
		v.setEncodings(list)
		v.send.arrow = arrow()
		v.show(&scene{desk: d, owner: true})
		vs = append(vs, v)
	}
	return p, vs
}

// discard is a picture socket without a worker.
func discard(tb testing.TB) *ipc.Conn {
	a, b, err := ipc.Pair()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := ipc.FileConn(a)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(); b.Close() })
	return c
}

// A sink is a viewer's connection that takes everything.
type sink struct{ net.Conn }

func (sink) Write(p []byte) (int, error)      { return len(p), nil }
func (sink) Read([]byte) (int, error)         { return 0, io.EOF }
func (sink) SetWriteDeadline(time.Time) error { return nil }

// oneFrame is a frame from the worker to the viewers.
func oneFrame(tb testing.TB, p *picture, packet []byte, viewers []*viewer) {
	all := image.Rectangle{Max: p.image.Rect.Max}
	for _, v := range viewers {
		v.request(true, all)
	}
	if err := p.took(packet); err != nil {
		tb.Fatal(err)
	}
	for _, v := range viewers {
		more, _, err := v.step(time.Time{})
		if !more || err != nil {
			tb.Fatalf("nothing sent: %v", err)
		}
	}
}

// A viewer with much to encode lets the worker in between: it once held the memory, and so every other viewer, for all of it.
func TestEncodingMakesWayForTheWorker(t *testing.T) {
	size := image.Pt(1920, 1080)
	p, viewers := bench(t, size, 1, rfb.ZRLE)
	v := viewers[0]
	v.dirty.Clear()
	u := update{scene: v.scene, caps: v.caps, format: v.format, size: size}
	for _, waits := range []bool{true, false} {
		v.send.parts = nil
		v.send.work.Reset(size)
		v.send.work.Add(v.send.work.Bounds())
		p.due = waits
		v.encodeDesk(&u, p, p.image, false)
		sent, left := v.send.work.Area(), v.dirty.Area()
		if waits && (len(v.send.parts) > runtime.GOMAXPROCS(0) || sent > maxSlice*runtime.GOMAXPROCS(0) || sent+left != size.X*size.Y) {
			t.Errorf("%d slices, %d pixels, are encoded while the worker waits; %d are left", len(v.send.parts), sent, left)
		} else if !waits && sent != size.X*size.Y {
			t.Errorf("%d pixels are encoded", sent)
		}
	}
}

// What equal viewers lack is encoded once, also when one of them is behind the others.
func TestEqualViewersShareEverySlice(t *testing.T) {
	p, viewers := bench(t, image.Pt(1920, 1080), 4, rfb.ZRLE)
	packet := (&ipc.Frame{Rects: []image.Rectangle{p.image.Rect}}).AppendTo(nil)
	stats := p.desk.cache.stats
	for range 3 {
		encodes, shared := stats.encodes.Load(), stats.shared.Load()
		oneFrame(t, p, packet, viewers)
		encodes, shared = stats.encodes.Load()-encodes, stats.shared.Load()-shared
		if encodes == 0 || shared != 3*encodes {
			t.Errorf("%d encodings, %d shared", encodes, shared)
		}
	}
}

func frames(encodings ...int32) func(testing.TB) {
	return func(tb testing.TB) {
		p, viewers := bench(tb, image.Pt(1920, 1080), 2, encodings...)
		f := ipc.Frame{Rects: []image.Rectangle{image.Rect(100, 100, 400, 160), image.Rect(900, 700, 1000, 720)}}
		if slices.Contains(encodings, rfb.CopyRect) {
			f.Copies = []frame.Copy{{From: image.Pt(0, 20), To: image.Rect(0, 0, 1000, 900)}, {From: image.Pt(900, 3), To: image.Rect(905, 7, 1300, 400)}}
		}
		packet := f.AppendTo(nil)
		if b, ok := tb.(*testing.B); ok {
			oneFrame(tb, p, packet, viewers)
			b.ReportAllocs()
			for b.Loop() {
				oneFrame(tb, p, packet, viewers)
			}
			return
		}
		for range 4 {
			oneFrame(tb, p, packet, viewers)
		}
		if n := testing.AllocsPerRun(20, func() { oneFrame(tb, p, packet, viewers) }); n > 0 {
			tb.Errorf("%v allocations a frame", n)
		}
	}
}

// A frame takes no memory once the first ones have been sent.
func TestFrameAllocations(t *testing.T) {
	for name, list := range map[string][]int32{
		"Tight": {rfb.Tight}, "ZRLE": {rfb.ZRLE}, "Raw": {rfb.Raw}, "Hextile": {rfb.Hextile}, "CopyRect": {rfb.ZRLE, rfb.CopyRect},
	} {
		t.Run(name, func(t *testing.T) { frames(list...)(t) })
	}
}

func BenchmarkFrame(b *testing.B) {
	b.Run("Tight", func(b *testing.B) { frames(rfb.Tight)(b) })
	b.Run("ZRLE", func(b *testing.B) { frames(rfb.ZRLE)(b) })
	b.Run("Raw", func(b *testing.B) { frames(rfb.Raw)(b) })
	b.Run("CopyRect", func(b *testing.B) { frames(rfb.Raw, rfb.CopyRect)(b) })
}

func TestFirstOf(t *testing.T) {
	rects := []image.Rectangle{image.Rect(0, 0, 64, 16), image.Rect(0, 16, 640, 480)}
	for _, tt := range []struct {
		pixels, n, rows int // rows of the last one
	}{
		{1 << 20, 2, 464}, {1024, 1, 16}, {64 * 16, 1, 16}, {1, 1, 16}, {1024 + 640*40, 2, 32}, {1024 + 640*15, 1, 16},
	} {
		got := firstOf(slices.Clone(rects), tt.pixels)
		if len(got) != tt.n || got[len(got)-1].Dy() != tt.rows {
			t.Errorf("%d pixels: %v", tt.pixels, got)
		}
	}
}

func TestArrow(t *testing.T) {
	c := arrow()
	if len(c.Pix) != c.Size.X*c.Size.Y*frame.BytesPerPixel || bytes.Count(c.Pix, []byte{0, 0, 0, 0xff}) == 0 {
		t.Errorf("%v, %d bytes", c.Size, len(c.Pix))
	}
}

// A worker writes into the memory and ends before it has said what: nobody sees what it wrote.
func TestWorkerEndsWhileTheMemoryIsItsOwn(t *testing.T) {
	const secret = 0x5ec2e7
	s, h := start(t, small)
	c := view(t, s, "alice@example.com", tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, "alice@example.com", c)
	sees(t, c, 1, 1, canary)
	w := h.worker()
	w.mu.Lock()
	w.hold = true
	w.mu.Unlock()
	w.paint(image.Rect(0, 0, 16, 16), 0x00ff00)
	eventually(t, "a Grab", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.held })
	for i := 0; i < len(w.mem); i += frame.BytesPerPixel {
		w.mem[i], w.mem[i+1], w.mem[i+2] = secret&0xff, secret>>8&0xff, secret>>16&0xff
	}
	w.conn.Close()
	s.mu.Lock()
	d := s.desks[1]
	s.mu.Unlock()
	eventually(t, "the end of the worker", func() bool { return !d.alive() })
	// One more viewer, for whom nothing has been encoded yet.
	other := view(t, s, "bob@example.com", tunnel.RoleWatch, rfbtest.Config{Encodings: []int32{rfb.ZRLE}})
	logIn(t, s, "bob@example.com", other)
	if other.WaitFor(func(c *rfbtest.Client) bool { return c.At(600, 400) == secret }, 300*time.Millisecond) == nil {
		t.Error("what the worker wrote was shown")
	}
	h.with(func() { h.desktop(small) }) // its successor
	h.worker().paint(image.Rect(592, 400, 608, 416), 0x0000ff)
	sees(t, c, 600, 410, 0x0000ff)
	sees(t, other, 600, 410, 0x0000ff)
}

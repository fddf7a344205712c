package desktop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"math/rand/v2"
	"net"
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

// A replica is the client of a viewer, without a connection: it decodes what step has written.
type replica struct {
	t       testing.TB
	name    string
	v       *viewer
	list    []int32
	wire    *tape
	dec     rfbtest.Decoder
	picture frame.Image
	rects   map[int32]int
	updates int
}

// A tape is a connection that keeps what is written.
type tape struct {
	net.Conn
	buf bytes.Buffer
}

func (w *tape) Write(p []byte) (int, error)      { return w.buf.Write(p) }
func (w *tape) SetWriteDeadline(time.Time) error { return nil }

func newReplica(t testing.TB, name string, d *desk, size image.Point, owner bool, list ...int32) *replica {
	w := &tape{}
	c := &replica{t: t, name: name, list: list, wire: w, picture: frame.New(image.Rectangle{Max: size}), rects: map[int32]int{}}
	c.v = newViewer(w, size, d.cache, form.NewPainter())
	c.v.setEncodings(list)
	c.v.send.arrow = arrow()
	c.dec.SetFormat(rfb.Native)
	c.v.show(&scene{desk: d, owner: owner})
	return c
}

// step lets the viewer send at most one update.
func (c *replica) step(now time.Time) bool {
	c.t.Helper()
	more, _, err := c.v.step(now)
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	for c.wire.buf.Len() > 0 {
		c.update()
	}
	return more
}

func (c *replica) update() {
	c.t.Helper()
	head := c.wire.buf.Next(4)
	if head[0] != 0 {
		c.t.Fatalf("%s: message %d", c.name, head[0])
	}
	c.updates++
	pixels := false
	for range binary.BigEndian.Uint16(head[2:]) {
		h := c.wire.buf.Next(12)
		be := binary.BigEndian
		at := image.Pt(int(be.Uint16(h)), int(be.Uint16(h[2:])))
		r := image.Rectangle{Min: at, Max: at.Add(image.Pt(int(be.Uint16(h[4:])), int(be.Uint16(h[6:]))))}
		encoding := int32(be.Uint32(h[8:]))
		c.rects[encoding]++
		switch encoding {
		case rfb.PseudoCursor:
			c.wire.buf.Next(r.Dx()*r.Dy()*4 + (r.Dx()+7)/8*r.Dy())
			continue
		case rfb.PseudoDesktopSize:
			c.picture = frame.New(image.Rectangle{Max: r.Size()})
			continue
		case rfb.CopyRect:
			if pixels {
				c.t.Fatalf("%s: a copy comes behind pixels", c.name)
			}
		default:
			pixels = true
		}
		if err := c.dec.Rect(&c.wire.buf, c.picture, r, encoding); err != nil {
			c.t.Fatalf("%s: %v", c.name, err)
		}
	}
}

// rest lets the viewer send all there is, also what is refined.
func (c *replica) rest(d *desk, clock *time.Time) {
	c.t.Helper()
	for range 1000 {
		*clock = clock.Add(time.Second)
		c.v.request(true, image.Rectangle{Max: c.v.bounds()})
		if c.step(*clock) {
			continue
		}
		if c.v.rests() {
			return
		}
		d.beat()
	}
	c.t.Fatalf("%s never rests", c.name)
}

// exact compares the client's picture with what it should show: the memory, the cursor and the pages.
func (c *replica) exact(p *picture) {
	c.t.Helper()
	size := c.v.bounds()
	ground := frame.Solid(image.Rectangle{Max: size}, form.Background)
	want := frame.New(ground.Rect)
	both := p.image.Rect.Intersect(want.Rect)
	for y := range size.Y {
		copy(want.Row(y, 0, size.X), ground.Row(y, 0, size.X))
		if y < both.Max.Y {
			copy(want.Row(y, 0, both.Max.X), p.image.Row(y, 0, both.Max.X))
		}
	}
	if c.v.draws.Load() {
		cur, _, at := p.desk.pointing()
		drawn := drawnCursor{cursor: cur, at: at, box: both}
		drawn.draw(want)
		overlap(want, drawn.image)
	}
	for _, page := range slices.Backward(c.v.scene.pages) {
		img := frame.New(c.v.painter.Bounds(page, size))
		c.v.painter.Draw(page, size, img)
		overlap(want, img)
	}
	if diff := differ(want, c.picture, nil); diff != "" {
		c.t.Fatalf("%s after %d updates: %s", c.name, c.updates, diff)
	}
}

func overlap(dst, src frame.Image) {
	for y := src.Rect.Min.Y; y < src.Rect.Max.Y; y++ {
		copy(dst.Row(y, src.Rect.Min.X, src.Rect.Max.X), src.Row(y, src.Rect.Min.X, src.Rect.Max.X))
	}
}

// randomFrame changes the memory as a worker does: copies, then pixels.
func randomFrame(rnd *rand.Rand, img frame.Image) (f ipc.Frame) {
	size := img.Rect.Max
	within := func(w, h int) image.Rectangle {
		at := image.Pt(rnd.IntN(size.X-w+1), rnd.IntN(size.Y-h+1))
		return image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
	}
	for range max(rnd.IntN(5)-1, 0) {
		var c frame.Copy
		switch to := within(1+rnd.IntN(size.X), 1+rnd.IntN(size.Y)); rnd.IntN(3) {
		case 0: // anywhere
			c = frame.Copy{From: within(to.Dx(), to.Dy()).Min, To: to}
		case 1: // a page scrolls
			dy := 1 + rnd.IntN(40)
			c = frame.Copy{From: image.Pt(40, dy+7), To: image.Rect(40, 7, 211, size.Y-dy-3)}
		default: // a window is dragged
			d := image.Pt(rnd.IntN(21)-10, rnd.IntN(21)-10)
			c = frame.Copy{From: to.Min.Add(d), To: to}
			if !c.Source().In(img.Rect) {
				continue
			}
		}
		img.Move(c)
		f.Copies = append(f.Copies, c)
	}
	for range rnd.IntN(4) {
		r := within(1+rnd.IntN(50), 1+rnd.IntN(50))
		colour, noisy := rnd.Uint32(), rnd.IntN(3) == 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			row := img.Row(y, r.Min.X, r.Max.X)
			for i := 0; i < len(row); i += 4 {
				if noisy {
					colour = rnd.Uint32()
				}
				row[i], row[i+1], row[i+2] = byte(colour), byte(colour>>8), byte(colour>>16)
			}
		}
		f.Rects = append(f.Rects, r)
	}
	return f
}

// Whatever a worker copies and paints, viewers of all kinds and paces show the memory exactly once they rest: those that skip frames,
// ask for parts, have pages and cursors drawn over what is copied, have another size, or cannot copy.
func TestCopiesAgainstMemory(t *testing.T) {
	size := image.Pt(300, 220) // cells cut at both edges
	copies := map[string]int{}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p, _ := bench(t, size, 0)
			d := p.desk
			first := ipc.Frame{Rects: []image.Rectangle{p.image.Rect}}
			if err := p.took(first.AppendTo(nil)); err != nil {
				t.Fatal(err)
			}
			clients := []*replica{
				newReplica(t, "Tight and JPEG", d, size, true, rfb.Tight, rfb.CopyRect, rfb.PseudoQuality0+6, rfb.PseudoCursor),
				newReplica(t, "the cursor drawn", d, size, false, rfb.ZRLE, rfb.CopyRect, rfb.PseudoCursor),
				newReplica(t, "JPEG, the cursor drawn", d, size, true, rfb.Tight, rfb.CopyRect, rfb.PseudoQuality0+3),
				newReplica(t, "no CopyRect", d, size, true, rfb.Hextile, rfb.PseudoCursor),
				newReplica(t, "another size", d, image.Pt(333, 190), true, rfb.Zlib, rfb.CopyRect),
				newReplica(t, "another size at first", d, image.Pt(250, 333), true, rfb.Zlib, rfb.CopyRect, rfb.PseudoDesktopSize),
				newReplica(t, "parts", d, size, false, rfb.Raw, rfb.CopyRect),
				newReplica(t, "slow", d, size, true, rfb.ZRLE, rfb.CopyRect, rfb.PseudoCursor),
			}
			clock := time.Unix(1e9, 0)
			for range 5 {
				for range 25 {
					packet := []byte(nil)
					if rnd.IntN(2) == 0 {
						held := rnd.IntN(3) == 0 // viewers look while the memory is the worker's
						p.readable = !held
						if !held {
							f := randomFrame(rnd, p.image)
							packet = f.AppendTo(nil)
						}
					}
					if packet != nil {
						if err := p.took(packet); err != nil {
							t.Fatal(err)
						}
					}
					if rnd.IntN(4) == 0 {
						d.setPointer(p, image.Pt(rnd.IntN(size.X), rnd.IntN(size.Y)))
					}
					for i, c := range clients {
						if i == 7 && rnd.IntN(12) > 0 {
							continue
						}
						c.act(rnd, &clock)
					}
				}
				p.readable = true
				for _, c := range clients {
					c.rest(d, &clock)
					c.exact(p)
				}
			}
			for _, c := range clients {
				copies[c.name] += c.rects[rfb.CopyRect]
			}
		})
	}
	for name, n := range copies {
		if able := name != "no CopyRect" && name != "another size"; able != (n > 0) {
			t.Errorf("%s: %d copies", name, n)
		}
	}
}

// A cursor that moves while the whole picture changes goes before that, in an update of its own, but not before all that follows. The picture is
// still encoded once for the watcher and for who controls.
func TestCursorWaitsForNoPixels(t *testing.T) {
	size := image.Pt(640, 400)
	p, _ := bench(t, size, 0)
	d := p.desk
	whole := ipc.Frame{Rects: []image.Rectangle{p.image.Rect}}
	rnd := rand.New(rand.NewPCG(3, 4))
	change := func() {
		for i := range p.image.Pix {
			p.image.Pix[i] = byte(rnd.Uint32())
		}
		if err := p.took(whole.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	change()
	d.setCursor(p, arrow())
	d.setPointer(p, image.Pt(100, 100))
	clock := time.Unix(1e9, 0)
	for _, going := range []bool{true, false} {
		c := newReplica(t, fmt.Sprintf("a watcher, continuous updates: %v", going), d, size, false, rfb.Raw, rfb.CopyRect, rfb.PseudoCursor)
		c.rest(d, &clock)
		c.v.going, c.v.goes = going, p.image.Rect
		controls := newReplica(t, "who controls", d, size, true, rfb.Raw, rfb.CopyRect, rfb.PseudoCursor)
		controls.rest(d, &clock)
		for i, at := range []image.Point{{300, 200}, {302, 203}, {630, 395}, {20, 390}} {
			change()
			d.setPointer(p, at)
			c.v.request(true, p.image.Rect)
			clock = clock.Add(time.Second)
			controls.v.request(true, p.image.Rect)
			controls.step(clock)
			before, encodes := c.updates, d.cache.stats.encodes.Load()
			c.step(clock)
			cur := arrow()
			drawn := drawnCursor{cursor: cur, at: at, box: image.Rectangle{Min: at, Max: at.Add(cur.Size)}.Intersect(p.image.Rect)}
			drawn.draw(p.image)
			if diff := differ(drawn.image.Part(drawn.box), c.picture.Part(drawn.box), nil); diff != "" {
				t.Errorf("%s, move %d: the cursor is not in the first update: %s", c.name, i, diff)
			}
			if early := differ(p.image.Part(image.Rect(400, 0, 500, 100)), c.picture.Part(image.Rect(400, 0, 500, 100)), nil) != ""; early != going {
				t.Errorf("%s, move %d: the cursor goes alone: %v", c.name, i, early)
			}
			d.setPointer(p, at.Add(image.Pt(-5, -7))) // and once more
			c.v.request(true, p.image.Rect)
			c.step(clock)
			c.exact(p)
			if n := d.cache.stats.encodes.Load() - encodes; n > 2 { // where the cursor was, twice
				t.Errorf("%s, move %d: %d regions are encoded for the watcher alone", c.name, i, n)
			}
			if c.updates != before+2 {
				t.Errorf("%s, move %d: %d updates", c.name, i, c.updates-before)
			}
		}
	}
}

// act does something that a client, or its session, may do.
func (c *replica) act(rnd *rand.Rand, clock *time.Time) {
	whole := image.Rectangle{Max: c.v.bounds()}
	area := whole
	if c.name == "parts" && rnd.IntN(3) > 0 {
		area = image.Rect(rnd.IntN(300), rnd.IntN(220), rnd.IntN(300), rnd.IntN(220)).Intersect(whole)
	}
	switch rnd.IntN(40) {
	case 0:
		c.v.request(false, area)
	case 1, 2: // a page comes, changes or goes
		s := *c.v.scene
		s.pages = [][]*form.Page{
			nil, {form.Notice("Alice is watching.", "")}, {form.Question("bob@example.com", rnd.IntN(10))},
			{form.Question("bob@example.com", 7), form.Notice("Alice is watching.", "She may ask for control.")},
		}[rnd.IntN(4)]
		c.v.show(&s)
	case 3: // the desktop goes and comes again
		s := *c.v.scene
		hidden := s
		hidden.desk = nil
		c.v.show(&hidden)
		c.v.request(true, area)
		c.step(*clock)
		c.v.show(&s)
	case 4:
		c.v.setEncodings(slices.DeleteFunc(slices.Clone(c.list), func(e int32) bool { return e == rfb.CopyRect }))
	case 5, 6:
		c.v.setEncodings(c.list)
	case 7:
		c.v.scene.desk.beat()
	}
	if rnd.IntN(3) > 0 {
		c.v.request(true, area)
	}
	*clock = clock.Add(time.Duration(rnd.IntN(100)) * time.Millisecond)
	c.step(*clock)
}

// A slow viewer of what goes on scrolling gets one copy in the end, not all of it as pixels.
func TestCopiesOfASlowViewer(t *testing.T) {
	size := image.Pt(640, 480)
	for _, tt := range []struct {
		name  string
		copy  func(i int) frame.Copy
		most  int // pixels dirty
		least int // pixels copied
	}{
		{"scrolls", func(int) frame.Copy { return frame.Copy{From: image.Pt(0, 10), To: image.Rect(0, 0, 640, 470)} }, 640 * 320, 640 * 270},
		{"drags", func(i int) frame.Copy {
			to := image.Rect(0, 0, 200, 100).Add(image.Pt(i*5+5, i*3+3))
			return frame.Copy{From: to.Min.Sub(image.Pt(5, 3)), To: to}
		}, 400 * 200, 200 * 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, viewers := bench(t, size, 1, rfb.ZRLE, rfb.CopyRect)
			v := viewers[0]
			oneFrame(t, p, (&ipc.Frame{Rects: []image.Rectangle{p.image.Rect}}).AppendTo(nil), viewers)
			for i := range 20 {
				c := tt.copy(i)
				new := image.Rect(0, 470, 640, 480)
				if tt.name == "drags" {
					new = image.Rectangle{Min: c.From, Max: c.From.Add(image.Pt(200, 4))}
				}
				if err := p.took((&ipc.Frame{Copies: []frame.Copy{c}, Rects: []image.Rectangle{new}}).AppendTo(nil)); err != nil {
					t.Fatal(err)
				}
			}
			copied := 0
			for _, c := range v.copies {
				copied += c.To.Dx() * c.To.Dy()
			}
			if len(v.copies) > maxCopies || copied < tt.least || v.dirty.Area() > tt.most {
				t.Errorf("%d copies of %d pixels, %d pixels dirty", len(v.copies), copied, v.dirty.Area())
			}
		})
	}
}

// move copies on the screen, as a program that scrolls does.
func (w *fakeWorker) move(c frame.Copy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.screen.Move(c)
	w.copies = append(w.copies, c)
	if !w.told {
		w.told = true
		w.conn.SendPacket([]byte{byte(ipc.TypeDamaged)})
	}
}

// Viewers of all kinds over real connections show the screen after it was scrolled, dragged and painted for a while.
func TestCopiesReachEveryViewer(t *testing.T) {
	s, h := start(t, small)
	w := h.worker()
	lists := [][]int32{
		{rfb.Tight, rfb.CopyRect, rfb.PseudoQuality0 + 5}, {rfb.ZRLE, rfb.CopyRect}, {rfb.Hextile}, {rfb.Raw, rfb.CopyRect, rfb.PseudoCursor},
		{rfb.ZRLE, rfb.CopyRect},
	}
	var viewers []*rfbtest.Client
	for i, list := range lists {
		who := fmt.Sprintf("v%d", i)
		c := view(t, s, who, tunnel.RoleWatch, rfbtest.Config{Encodings: list})
		logIn(t, s, who, c)
		viewers = append(viewers, c)
	}
	rests(t, s, len(viewers))
	rnd := rand.New(rand.NewPCG(8, 8))
	for round := range 3 {
		var work sync.WaitGroup
		work.Go(func() { // who asks for everything again and again
			for range 5 {
				viewers[4].RequestRect(false, image.Rect(0, 0, 300, 300))
			}
		})
		tick := time.NewTicker(2 * time.Millisecond)
		for i := range 60 {
			<-tick.C
			at := image.Pt(rnd.IntN(400), rnd.IntN(300))
			r := image.Rectangle{Min: at, Max: at.Add(image.Pt(1+rnd.IntN(200), 1+rnd.IntN(150)))}
			switch rnd.IntN(4) {
			case 0:
				w.noise(r, uint64(i*round))
			case 1:
				w.paint(r, rnd.Uint32N(1<<24))
			case 2:
				w.move(frame.Copy{From: image.Pt(20, 30), To: image.Rect(20, 11, 500, 401)})
			default:
				w.move(frame.Copy{From: at.Add(image.Pt(rnd.IntN(30), rnd.IntN(30))), To: r})
			}
		}
		tick.Stop()
		work.Wait()
		for i, c := range viewers {
			w.shows(t, c, pointer)
			if copies := c.Rects(rfb.CopyRect); slices.Contains(lists[i], rfb.CopyRect) != (copies > 0) {
				t.Errorf("viewer %d has got %d copies", i, copies)
			}
		}
	}
}

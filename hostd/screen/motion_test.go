package screen

import (
	"encoding/binary"
	"fmt"
	"image"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// lines draws text as a terminal does, as far as rows of pixels go: lines of blocks of which no two are the same, on white.
func lines(img frame.Image, r image.Rectangle, pitch int, seed uint64) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		line, row := y/pitch, y%pitch
		out := img.Row(y, r.Min.X, r.Max.X)
		for i := range out {
			out[i] = 0xff
		}
		if row >= pitch*3/4 {
			continue
		}
		rnd := rand.New(rand.NewPCG(seed, uint64(line*pitch+row)))
		for x, n := 8, 40+line*37%(max(r.Dx()-60, 1)); x < min(n, r.Dx()-8); x += 8 {
			if rnd.IntN(3) > 0 {
				binary.LittleEndian.PutUint32(out[x*4:], 0x202020)
				binary.LittleEndian.PutUint32(out[x*4+8:], 0x404040)
			}
		}
	}
}

// repeated is lines of which every fifteenth is the same.
func repeated(img frame.Image, r image.Rectangle, _ uint64) {
	all := frame.New(image.Rect(r.Min.X, 0, r.Max.X, 300))
	lines(all, all.Rect, 20, 9)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		copy(img.Row(y, r.Min.X, r.Max.X), all.Row(y%300, r.Min.X, r.Max.X))
	}
}

// photo fills a rectangle with something that is nowhere the same.
func photo(img frame.Image, r image.Rectangle, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := img.Row(y, r.Min.X, r.Max.X)
		for i := 0; i < len(row); i += 4 {
			binary.LittleEndian.PutUint32(row[i:], rnd.Uint32()) // with the unused byte
		}
	}
}

// capturing brings img up to what now shows in the areas, without an X server, and gives what differs beside the copies.
func capturing(m *motion, img, now frame.Image, windows []moved, areas ...image.Rectangle) (rects []image.Rectangle) {
	m.begin(img)
	var parts []frame.Image
	for _, a := range areas {
		parts = append(parts, part(now, a))
	}
	for _, w := range windows {
		m.window(w, parts)
	}
	for _, p := range parts {
		m.scroll(p)
	}
	var d differ
	d.begin(img, nil)
	for _, p := range parts {
		d.area(p, m.compared(p.Rect), &m.wrong)
	}
	return d.end()
}

func part(m frame.Image, r image.Rectangle) frame.Image {
	m.Pix = m.Pix[(r.Min.Y-m.Rect.Min.Y)*m.Stride+(r.Min.X-m.Rect.Min.X)*frame.BytesPerPixel:]
	m.Rect = r
	return m
}

func pixels(rects []image.Rectangle) int {
	n := 0
	for _, r := range rects {
		n += r.Dx() * r.Dy()
	}
	return n
}

func clone(m frame.Image) frame.Image {
	m.Pix = append([]byte(nil), m.Pix...)
	return m
}

func (m frameImage) sameAs(o frame.Image) bool {
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		if !alike(frame.Image(m).Row(y, m.Rect.Min.X, m.Rect.Max.X), o.Row(y, m.Rect.Min.X, m.Rect.Max.X)) {
			return false
		}
	}
	return true
}

type frameImage frame.Image

// What scrolls is found, by how much and where, and little else is left to be sent.
func TestMotionFindsScrolling(t *testing.T) {
	screen := image.Rect(0, 0, 1000, 800)
	for _, tt := range []struct {
		name  string
		pane  image.Rectangle // what scrolls
		area  image.Rectangle // what is damaged
		by    int             // downwards
		fills func(img frame.Image, r image.Rectangle, seed uint64)
		most  int // pixels that differ beside the copies
	}{
		{"a terminal by a line", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), -20, nil, 640 * 20},
		{"a terminal by a line, down", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), 20, nil, 640 * 20},
		{"a terminal by seven lines", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), -140, nil, 640 * 140},
		{"a terminal whose lines are repeated", image.Rect(37, 51, 677, 751), image.Rect(37, 51, 677, 751), -20, repeated, 640 * 20},
		{"a page by one row", screen, screen, -1, photo, 1000},
		{"a page by most of its height", screen, screen, -700, photo, 1000 * 700},
		{"a page, down", screen, screen, 333, photo, 1000 * 333},
		{"a pane of a window that is drawn anew", image.Rect(203, 101, 903, 701), image.Rect(1, 1, 999, 799), -48, photo, 700*48 + 4096},
		{"a narrow pane", image.Rect(600, 100, 800, 700), image.Rect(0, 0, 1000, 800), -48, photo, 200*48 + 4096},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := frame.New(screen)
			photo(img, screen, 1)
			fills := tt.fills
			if fills == nil {
				fills = func(img frame.Image, r image.Rectangle, seed uint64) { lines(img, r, 20, seed) }
			}
			fills(img, tt.pane, 2)
			now := clone(img)
			to := tt.pane.Add(image.Pt(0, tt.by)).Intersect(tt.pane)
			now.Move(frame.Copy{From: to.Min.Sub(image.Pt(0, tt.by)), To: to})
			gap := tt.pane
			if gap.Min.Y = to.Max.Y; tt.by > 0 {
				gap.Min.Y, gap.Max.Y = tt.pane.Min.Y, to.Min.Y
			}
			fills(now, gap, 3)
			var m motion
			rects := capturing(&m, img, now, nil, tt.area)
			if !frameImage(now).sameAs(img) {
				t.Fatal("the picture is wrong")
			}
			if len(m.copies) != 1 || m.copies[0].To.Min.Y-m.copies[0].From.Y != tt.by || pixels(rects) > tt.most {
				t.Errorf("%+v, and %d pixels differ, more than %d", m.copies, pixels(rects), tt.most)
			}
		})
	}
}

// sheet draws a table, from its column of pixels left on: cells with something written in each, and lines between them.
func sheet(img frame.Image, r image.Rectangle, left int) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		out := img.Row(y, r.Min.X, r.Max.X)
		for i := range r.Dx() {
			x, c := left+i, uint32(0xffffff)
			switch dot := bits.ReverseBytes32((uint32(x/2)*2654435761^uint32(y/5)*2246822519)*3266489917) * 668265263 >> 30; {
			case x%80 == 0 || y%20 == 0:
				c = 0xc0c0c0
			case dot == 0 && x%80 < 64 && y%20 > 4 && y%20 < 15:
				c = 0x202020
			}
			binary.LittleEndian.PutUint32(out[i*4:], c)
		}
	}
}

// What scrolls sideways is found, too.
func TestMotionFindsScrollingSideways(t *testing.T) {
	screen := image.Rect(0, 0, 1000, 800)
	for _, tt := range []struct {
		name string
		pane image.Rectangle // what scrolls
		area image.Rectangle // what is damaged
		by   int             // to the right
		most int             // pixels that differ beside the copies
	}{
		{"a table by a column", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), -80, 480 * 80},
		{"a table back by a column", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), 80, 480 * 80},
		{"by one pixel", image.Rect(37, 51, 677, 531), image.Rect(37, 51, 677, 531), -1, 480 * 24}, // with cells' margins
		{"by a third of its width", screen, screen, -333, 800 * 333},
		{"by most of its width", screen, screen, 700, 800 * 700},
		{"in a window that is drawn anew", image.Rect(203, 101, 903, 701), image.Rect(1, 1, 999, 799), -48, 600 * 96},
		{"a low pane", image.Rect(100, 560, 900, 720), image.Rect(0, 400, 1000, 800), -48, 160 * 96},
		{"a narrow pane", image.Rect(600, 100, 800, 700), screen, 23, 600 * 46},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := frame.New(screen)
			photo(img, screen, 1)
			now := clone(img)
			sheet(img, tt.pane, 2000)
			sheet(now, tt.pane, 2000-tt.by)
			var m motion
			rects := capturing(&m, img, now, nil, tt.area)
			if !frameImage(now).sameAs(img) {
				t.Fatal("the picture is wrong")
			}
			if len(m.copies) != 1 || m.copies[0].To.Min.X-m.copies[0].From.X != tt.by || m.copies[0].To.Min.Y != m.copies[0].From.Y ||
				pixels(rects) > tt.most {
				t.Errorf("%+v, and %d pixels differ, more than %d", m.copies, pixels(rects), tt.most)
			}
			before := m.vain
			sheet(now, tt.pane, 2000-2*tt.by)
			if rects := capturing(&m, img, now, nil, tt.area); !frameImage(now).sameAs(img) || len(m.copies) != 1 || m.vain != before || pixels(rects) > tt.most {
				t.Errorf("once more: %+v, and %d pixels differ, more than %d", m.copies, pixels(rects), tt.most)
			}
		})
	}
}

// A page is moved with its margins, which are the same all over, so that whole rows are read, and without what stands beside it.
func TestMotionTakesMarginsAlong(t *testing.T) {
	page := image.Rect(100, 50, 900, 700)
	for _, tt := range []struct {
		name string
		bar  image.Rectangle // does not move
		to   image.Rectangle // moved, as wide as this
	}{
		{"margins", image.Rectangle{}, page},
		{"a scroll bar", image.Rect(885, 50, 900, 700), image.Rect(100, 50, 640, 700)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := frame.New(image.Rect(0, 0, 1000, 800))
			photo(img, img.Rect, 1)
			for y := page.Min.Y; y < page.Max.Y; y++ {
				clear(img.Row(y, page.Min.X, page.Max.X))
			}
			photo(img, image.Rect(300, 50, 640, 700), 2)
			for y := tt.bar.Min.Y; y < tt.bar.Max.Y; y++ { // another colour in each row
				row := img.Row(y, tt.bar.Min.X, tt.bar.Max.X)
				for i := range row {
					row[i] = byte(y)
				}
			}
			now := clone(img)
			now.Move(frame.Copy{From: image.Pt(100, 98), To: image.Rect(100, 50, 885, 652)})
			if tt.bar.Empty() {
				now.Move(frame.Copy{From: image.Pt(885, 98), To: image.Rect(885, 50, 900, 652)})
			}
			photo(now, image.Rect(300, 652, 640, 700), 3)
			binary.LittleEndian.PutUint32(now.Row(400, 150, 151), 0x123456) // in the margin, which is moved
			var m motion
			rects := capturing(&m, img, now, nil, page)
			if !frameImage(now).sameAs(img) {
				t.Fatal("the picture is wrong")
			}
			if len(m.copies) != 1 || m.copies[0].To.Min.X != tt.to.Min.X || m.copies[0].To.Max.X != tt.to.Max.X {
				t.Errorf("%+v, not from column %d to %d", m.copies, tt.to.Min.X, tt.to.Max.X)
			}
			if most := 340*48 + 1; pixels(rects) > most {
				t.Errorf("%d pixels differ, more than %d: %v", pixels(rects), most, rects)
			}
		})
	}
}

// A film is not searched in each frame, and what scrolls in its place is found soon.
func TestMotionIsNotSoughtInVain(t *testing.T) {
	r := image.Rect(0, 0, 256, 256)
	img := frame.New(r)
	var m motion
	searched := 0
	for i := range 100 {
		now := frame.New(r)
		photo(now, r, uint64(i))
		before := m.vain
		capturing(&m, img, now, nil, r)
		if m.vain != before {
			searched++
		}
	}
	if searched > 40 {
		t.Errorf("%d of 100 frames of a film are searched", searched)
	}
	long := frame.New(image.Rect(0, 0, 256, 2000))
	lines(long, long.Rect, 20, 1)
	for i := range 12 {
		now := frame.New(r)
		for y := range 256 {
			copy(now.Row(y, 0, 256), long.Row(y+i*20, 0, 256))
		}
		if capturing(&m, img, now, nil, r); len(m.copies) > 0 {
			return
		}
	}
	t.Error("text that scrolls where a film was is not found to")
}

// Where nothing moves, nothing is copied.
func TestMotionLeavesTheRestAlone(t *testing.T) {
	screen := image.Rect(0, 0, 640, 480)
	for _, tt := range []struct {
		name    string
		was, is func(m frame.Image)
		window  []moved
	}{
		{"another photo", func(m frame.Image) { photo(m, screen, 1) }, func(m frame.Image) { photo(m, screen, 2) }, nil},
		{"another text", func(m frame.Image) { lines(m, screen, 20, 1) }, func(m frame.Image) { lines(m, screen, 20, 2) }, nil},
		{"one colour, then another", func(frame.Image) {}, func(m frame.Image) { clear(m.Pix); m.Pix[0] = 1 }, nil},
		{"a window that is not seen", func(m frame.Image) { photo(m, screen, 1) }, func(m frame.Image) { photo(m, screen, 2) },
			[]moved{{image.Rect(0, 0, 300, 200), image.Rect(10, 5, 310, 205)}}},
		{"a window off the screen", func(m frame.Image) { photo(m, screen, 1) }, func(m frame.Image) { photo(m, screen, 2) },
			[]moved{{image.Rect(-9000, -9000, 9000, 9000), image.Rect(-30000, 5, -12000, 18005)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img, now := frame.New(screen), frame.New(screen)
			tt.was(img)
			tt.is(now)
			var m motion
			capturing(&m, img, now, tt.window, screen)
			if !frameImage(now).sameAs(img) {
				t.Fatal("the picture is wrong")
			}
			if len(m.copies) > 0 {
				t.Errorf("%+v", m.copies)
			}
		})
	}
}

// Whatever moves, is painted and is said to have moved: picture and copies agree with the screen, if only all that changed is damaged.
func TestMotionAgainstPixels(t *testing.T) {
	screen := image.Rect(0, 0, 300, 260)
	rnd := rand.New(rand.NewPCG(1, 1))
	rect := func() image.Rectangle {
		at := image.Pt(rnd.IntN(200), rnd.IntN(180))
		return image.Rectangle{Min: at, Max: at.Add(image.Pt(1+rnd.IntN(100), 1+rnd.IntN(80)))}
	}
	var m motion
	img := frame.New(screen)
	photo(img, screen, 1)
	copies := 0
	for i := range 600 {
		shown, now := clone(img), clone(img)
		areas := []image.Rectangle{screen}
		if rnd.IntN(2) == 0 {
			y := rnd.IntN(200) + 30
			areas = []image.Rectangle{image.Rect(0, 0, 300, y), image.Rect(0, y, 300, 260)}
		}
		var windows []moved
		for range rnd.IntN(3) {
			switch r := rect(); rnd.IntN(5) {
			case 0:
				dy := rnd.IntN(30) + 1
				now.Move(frame.Copy{From: image.Pt(10, dy+3), To: image.Rect(10, 3, 290, 257-dy)})
			case 4:
				dx := rnd.IntN(30) + 1
				now.Move(frame.Copy{From: image.Pt(dx+3, 10), To: image.Rect(3, 10, 297-dx, 250)})
			case 1:
				photo(now, r, uint64(i))
			case 2:
				lines(now, r, 12, uint64(i))
			default:
				to := r.Add(image.Pt(rnd.IntN(20)-10, rnd.IntN(20)-10))
				if to.In(screen) {
					now.Move(frame.Copy{From: r.Min, To: to})
				}
				windows = append(windows, moved{r, to})
			}
		}
		capturing(&m, img, now, windows, areas...)
		rects := pixels(areas)
		if !frameImage(now).sameAs(img) || rects == 0 {
			t.Fatalf("%d: the picture is wrong after %+v", i, m.copies)
		}
		for _, c := range m.copies {
			if !c.To.In(screen) || !c.Source().In(screen) {
				t.Fatalf("%+v", c)
			}
			shown.Move(c)
			copies++
		}
	}
	if copies < 100 {
		t.Errorf("only %d copies", copies)
	}
}

func TestStack(t *testing.T) {
	r := image.Rect
	got := stack([]image.Rectangle{r(0, 0, 60, 10), r(0, 10, 60, 12), r(80, 10, 90, 12), r(0, 12, 60, 40), r(0, 40, 61, 50)})
	want := []image.Rectangle{r(0, 0, 60, 40), r(80, 10, 90, 12), r(0, 40, 61, 50)}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}

// Moves of windows add up until the picture is read.
func TestWindows(t *testing.T) {
	event := func(code byte, id uint32, r image.Rectangle) []byte {
		e := make([]byte, 32)
		le := binary.LittleEndian
		e[0] = code
		le.PutUint32(e[8:], id)
		le.PutUint16(e[16:], uint16(r.Min.X))
		le.PutUint16(e[18:], uint16(r.Min.Y))
		le.PutUint16(e[20:], uint16(r.Dx()-4))
		le.PutUint16(e[22:], uint16(r.Dy()-4))
		le.PutUint16(e[24:], 2) // border
		return e
	}
	a := image.Rect(-5, -7, 95, 43)
	b, c := a.Add(image.Pt(3, 4)), a.Add(image.Pt(9, 9))
	var w windows
	reads := func(name string, want ...moved) {
		t.Helper()
		if got := w.read(nil); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	w.event(event(configureNotify, 7, a))
	reads("seen first")
	w.event(event(configureNotify, 7, b))
	w.event(event(configureNotify, 7, c))
	reads("moved twice", moved{a, c})
	reads("at rest")
	w.event(event(configureNotify, 7, b))
	w.event(event(configureNotify, 7, c))
	reads("there and back")
	w.event(event(configureNotify, 7, image.Rect(0, 0, 50, 50)))
	reads("resized")
	w.event(event(destroyNotify, 7, a))
	w.event(event(configureNotify, 7, a))
	reads("another of the same number")
	for id := range uint32(100) {
		w.event(event(configureNotify, id+100, a))
	}
	w.event(event(configureNotify, 7, c))
	reads("long forgotten")
}

// put draws an image on a drawable.
func (p *painter) put(d xproto.Drawable, gc xproto.Gcontext, img frame.Image, at image.Point) {
	p.t.Helper()
	w := img.Rect.Dx()
	for y := img.Rect.Min.Y; y < img.Rect.Max.Y; y += 16 {
		n := min(16, img.Rect.Max.Y-y)
		data := make([]byte, 0, w*n*4)
		for i := range n {
			data = append(data, img.Row(y+i, img.Rect.Min.X, img.Rect.Max.X)...)
		}
		p.check(xproto.PutImageChecked(p.x, xproto.ImageFormatZPixmap, d, gc, uint16(w), uint16(n),
			int16(at.X), int16(at.Y+y-img.Rect.Min.Y), 0, p.screen.RootDepth, data).Check())
	}
}

// onWindow makes a window that keeps what is drawn into it, and draws an image there.
func (p *painter) onWindow(img frame.Image, at image.Point) xproto.Window {
	p.t.Helper()
	id, err := xproto.NewWindowId(p.x)
	p.check(err)
	size := img.Rect.Size()
	p.check(xproto.CreateWindowChecked(p.x, 0, id, p.root, int16(at.X), int16(at.Y), uint16(size.X), uint16(size.Y), 0,
		xproto.WindowClassInputOutput, p.screen.RootVisual, xproto.CwOverrideRedirect, []uint32{1}).Check())
	p.check(xproto.MapWindowChecked(p.x, id).Check())
	gc, err := xproto.NewGcontextId(p.x)
	p.check(err)
	p.check(xproto.CreateGCChecked(p.x, gc, xproto.Drawable(id), 0, nil).Check())
	p.put(xproto.Drawable(id), gc, img, image.Point{})
	return id
}

func (p *painter) moveWindow(id xproto.Window, to image.Point) {
	p.t.Helper()
	p.check(xproto.ConfigureWindowChecked(p.x, id, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{uint32(int32(to.X)), uint32(int32(to.Y))}).Check())
}

// On a real screen: a terminal that scrolls by CopyArea, a page that is drawn anew from elsewhere, and a window that is dragged. The
// memory is the screen after every step, and the frames name the copies, and little else.
func TestMotionOfAScreen(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "900x700x24")
	p := x.painter(t)
	page := frame.New(image.Rect(0, 0, 400, 2000))
	photo(page, page.Rect, 5)
	text := frame.New(image.Rect(0, 0, 600, 4000))
	lines(text, text.Rect, 16, 6)
	wide := frame.New(image.Rect(0, 0, 1000, 400))
	sheet(wide, wide.Rect, 0)
	p.noise(image.Rect(0, 0, 900, 700), 3)
	picture := frame.New(image.Rect(0, 0, 220, 180))
	photo(picture, picture.Rect, 7)
	window := p.onWindow(picture, image.Pt(100, 80))
	_, s := x.watch(t)
	s.settle()
	root := xproto.Drawable(p.root)
	pane := image.Rect(250, 60, 850, 460)
	for _, tt := range []struct {
		name  string
		first func()
		step  func(i int)
		most  int // pixels beside copies, a step
		mixed bool
	}{
		{"a terminal scrolls", func() { p.put(root, p.gc, part(text, image.Rect(0, 0, 600, 400)), pane.Min) }, func(i int) {
			p.check(xproto.CopyAreaChecked(p.x, root, root, p.gc, int16(pane.Min.X), int16(pane.Min.Y+16), int16(pane.Min.X), int16(pane.Min.Y), 600, 384).Check())
			p.put(root, p.gc, part(text, image.Rect(0, 400+i*16, 600, 416+i*16)), image.Pt(pane.Min.X, pane.Max.Y-16))
		}, 600 * 32, false},
		{"a page scrolls", func() { p.put(root, p.gc, part(page, image.Rect(0, 0, 400, 600)), image.Pt(450, 50)) }, func(i int) {
			p.put(root, p.gc, part(page, image.Rect(0, i*23+23, 400, i*23+623)), image.Pt(450, 50))
		}, 400 * 25, false},
		{"a page scrolls back", func() { p.put(root, p.gc, part(page, image.Rect(0, 489, 400, 1089)), image.Pt(450, 50)) }, func(i int) {
			p.put(root, p.gc, part(page, image.Rect(0, 460-i*29, 400, 1060-i*29)), image.Pt(450, 50))
		}, 400 * 30, false},
		{"a table scrolls sideways", func() { p.put(root, p.gc, part(wide, image.Rect(0, 0, 500, 400)), image.Pt(300, 60)) }, func(i int) {
			p.put(root, p.gc, part(wide, image.Rect(i*37+37, 0, i*37+537, 400)), image.Pt(300, 60))
		}, 400 * 40, false},
		{"a window is dragged", func() { p.moveWindow(window, image.Pt(101, 81)) }, func(i int) {
			p.moveWindow(window, image.Pt(101+i*5, 81+i*7))
		}, 220*9 + 180*7, false},
		{"a window is dragged up and left", func() {}, func(i int) {
			p.moveWindow(window, image.Pt(180-i*11, 200-i*17))
		}, 220*20 + 180*14, false},
		{"a window is dragged over the edge", func() {}, func(i int) {
			p.moveWindow(window, image.Pt(10-i*9, 10-i*5))
		}, 220*12 + 180*12, false},
		{"all at once, and more", func() {}, func(i int) {
			p.moveWindow(window, image.Pt(10+i*9, 10+i*5))
			p.fill(image.Rect(i*3, 600, i*3+50, 640), uint32(i)*77777)
			p.put(root, p.gc, part(page, image.Rect(0, i*23+23, 400, i*23+423)), image.Pt(450, 50))
			p.noise(image.Rect(460+i, 100, 470+i, 105), uint32(i))
		}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.first()
			s.settle()
			s.equal(p.shot())
			shown := append([]byte(nil), s.mem...)
			steps, copies, rest := 12, 0, 0
			for i := range steps {
				tt.step(i)
				f := s.grab(false)
				s.equal(p.shot())
				copies += len(f.Copies)
				rest += pixels(f.Rects)
				s.replay(shown, f)
			}
			if copies < steps-1 {
				t.Errorf("%d copies", copies)
			}
			if rest > tt.most*steps+220*180 && !tt.mixed { // a first place may be unknown
				t.Errorf("%d pixels a step", rest/steps)
			}
		})
	}
	s.grab(true)
	if f := s.grab(true); len(f.Copies) > 0 {
		t.Errorf("a full frame with copies: %+v", f.Copies)
	}
}

// replay makes of what was shown what the memory is, by what a frame says alone.
func (s *spectator) replay(shown []byte, f *ipc.Frame) {
	s.t.Helper()
	bounds := image.Rectangle{Max: s.size}
	was := frame.Image{Pix: shown, Stride: s.size.X * frame.BytesPerPixel, Rect: bounds}
	is := frame.Image{Pix: s.mem, Stride: was.Stride, Rect: bounds}
	for _, c := range f.Copies {
		was.Move(c)
	}
	for _, r := range f.Rects {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			copy(was.Row(y, r.Min.X, r.Max.X), is.Row(y, r.Min.X, r.Max.X))
		}
	}
	if !frameImage(was).sameAs(is) {
		s.t.Fatalf("the frame does not say all that changed: %+v", f.Copies)
	}
}

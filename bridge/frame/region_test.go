package frame

import (
	"image"
	"math/rand/v2"
	"testing"
)

// covered is the cells of a region, the slow way.
func covered(r *Region) map[image.Point]bool {
	m := map[image.Point]bool{}
	for _, rect := range r.AppendRects(nil) {
		for y := rect.Min.Y; y < rect.Max.Y; y++ {
			for x := rect.Min.X; x < rect.Max.X; x++ {
				p := image.Pt(x, y)
				if m[p] {
					panic("rectangles overlap")
				}
				m[p] = true
			}
		}
	}
	return m
}

func TestRegionAddsTheCellsARectangleTouches(t *testing.T) {
	for _, c := range []struct {
		name string
		size image.Point
		add  image.Rectangle
		want image.Rectangle
	}{
		{"one pixel", image.Pt(100, 100), image.Rect(17, 17, 18, 18), image.Rect(16, 16, 32, 32)},
		{"a cell, exactly", image.Pt(100, 100), image.Rect(16, 16, 32, 32), image.Rect(16, 16, 32, 32)},
		{"one pixel more than a cell", image.Pt(100, 100), image.Rect(16, 16, 33, 32), image.Rect(16, 16, 48, 32)},
		{"cut at the picture's edge", image.Pt(100, 50), image.Rect(90, 40, 200, 200), image.Rect(80, 32, 100, 50)},
		{"outside", image.Pt(100, 50), image.Rect(100, 50, 200, 200), image.Rectangle{}},
		{"across a word", image.Pt(4096, 64), image.Rect(1000, 0, 1100, 16), image.Rect(992, 0, 1104, 16)},
		{"all of it", image.Pt(1920, 1080), image.Rect(0, 0, 1920, 1080), image.Rect(0, 0, 1920, 1080)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRegion(c.size)
			r.Add(c.add)
			rects := r.AppendRects(nil)
			switch {
			case c.want.Empty() && len(rects) != 0, !c.want.Empty() && (len(rects) != 1 || rects[0] != c.want):
				t.Fatalf("got %v, want %v", rects, c.want)
			case r.Area() != c.want.Dx()*c.want.Dy():
				t.Fatalf("area %d, want %d", r.Area(), c.want.Dx()*c.want.Dy())
			case r.Empty() != c.want.Empty():
				t.Fatalf("empty is %v", r.Empty())
			}
			r.Sub(c.want)
			if !r.Empty() {
				t.Fatalf("left after Sub: %v", r.AppendRects(nil))
			}
		})
	}
}

func TestRegionSubKeepsCellsThatAreCoveredInPart(t *testing.T) {
	r := NewRegion(image.Pt(100, 100))
	r.Add(image.Rect(0, 0, 100, 100))
	r.Sub(image.Rect(1, 0, 33, 16))
	if !r.Touches(image.Rect(0, 0, 1, 1)) || r.Touches(image.Rect(16, 0, 32, 16)) || !r.Touches(image.Rect(32, 0, 33, 1)) {
		t.Fatalf("left: %v", r.AppendRects(nil))
	}
}

// Random adds, cuts and splits agree with a map of pixels, and rectangles never overlap.
func TestRegionAgainstPixels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	size := image.Pt(1100, 70) // two words a row, edges inside a cell
	for range 60 {
		r, want := NewRegion(size), map[image.Point]bool{}
		for range 4 {
			a := image.Rect(rnd.IntN(1100), rnd.IntN(70), rnd.IntN(1101), rnd.IntN(71))
			r.Add(a)
			out := image.Rect(a.Min.X/Tile*Tile, a.Min.Y/Tile*Tile, (a.Max.X+Tile-1)/Tile*Tile, (a.Max.Y+Tile-1)/Tile*Tile)
			if a.Empty() {
				continue
			}
			out = out.Intersect(r.Bounds())
			for y := out.Min.Y; y < out.Max.Y; y++ {
				for x := out.Min.X; x < out.Max.X; x++ {
					want[image.Pt(x, y)] = true
				}
			}
		}
		got := covered(r)
		if len(got) != len(want) || r.Area() != len(want) {
			t.Fatalf("%d pixels, area %d, want %d", len(got), r.Area(), len(want))
		}
		var cut, whole Region
		whole.Set(r)
		r.Split(image.Rect(200, 16, 700, 48), &cut)
		for p := range covered(&cut) {
			if !p.In(image.Rect(192, 16, 704, 48)) || !want[p] {
				t.Fatalf("split gave %v", p)
			}
		}
		if r.Area()+cut.Area() != whole.Area() {
			t.Fatal("split lost pixels")
		}
		r.Union(&cut)
		if !r.Equal(&whole) || r.Hash() != whole.Hash() {
			t.Fatal("the parts do not make the whole")
		}
		r.Without(&cut)
		if r.Area() != whole.Area()-cut.Area() {
			t.Fatal("Without took the wrong cells")
		}
	}
}

func TestRegionTakesNoMemory(t *testing.T) {
	r := NewRegion(image.Pt(1920, 1080))
	var rects []image.Rectangle
	work := func() {
		r.Reset(image.Pt(1920, 1080))
		for i := range 50 {
			r.Add(image.Rect(i*30, i*20, i*30+40, i*20+30))
		}
		rects = r.AppendRects(rects[:0])
	}
	work()
	if n := testing.AllocsPerRun(20, work); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkRegionCheckerboard(b *testing.B) {
	r := NewRegion(image.Pt(1920, 1080))
	for y := 0; y < 1080; y += Tile {
		for x := y % (2 * Tile); x < 1920; x += 2 * Tile {
			r.Add(image.Rect(x, y, x+1, y+1))
		}
	}
	var rects []image.Rectangle
	for b.Loop() {
		rects = r.AppendRects(rects[:0])
	}
}

func TestCheckSize(t *testing.T) {
	for _, c := range []struct {
		size image.Point
		ok   bool
	}{
		{image.Pt(0, 1), false}, {image.Pt(1, 1), true}, {image.Pt(16384, 4096), true}, {image.Pt(16384, 4097), false},
		{image.Pt(16385, 1), false}, {image.Pt(-1, 5), false},
	} {
		if err := CheckSize(c.size); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.size, err)
		}
	}
}

func TestSolidRepeatsOneRow(t *testing.T) {
	m := Solid(image.Rect(10, 20, 14, 1000), 0x112233)
	if got := m.Row(999, 12, 14); string(got) != "\x33\x22\x11\x00\x33\x22\x11\x00" {
		t.Fatalf("% x", got)
	}
}

// What is copied is found again where it comes to, for copies of every direction and place.
func TestRegionAddCopiedAgainstPixels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, size := range []image.Point{{1100, 70}, {2100, 40}, {50, 90}} {
		for range 100 {
			src := NewRegion(size)
			for range 1 + rnd.IntN(3) {
				at := image.Pt(rnd.IntN(size.X), rnd.IntN(size.Y))
				src.Add(image.Rectangle{Min: at, Max: at.Add(image.Pt(1+rnd.IntN(100), 1+rnd.IntN(20)))})
			}
			c := randomCopy(rnd, size)
			got, want := NewRegion(size), NewRegion(size)
			got.AddCopied(src, c)
			d := c.To.Min.Sub(c.From)
			for p := range covered(src) {
				if q := p.Add(d); p.In(c.Source()) {
					want.Add(image.Rectangle{Min: q, Max: q.Add(image.Pt(1, 1))})
				}
			}
			missing := NewRegion(size)
			missing.Set(want)
			missing.Without(got)
			if !missing.Empty() {
				t.Fatalf("%+v of %v: %v are missing", c, src.AppendRects(nil), missing.AppendRects(nil))
			}
			// No more than a cell beside what is meant, where a cell of the source lies only partly in it.
			for _, r := range want.AppendRects(nil) {
				want.Add(r.Inset(-Tile))
			}
			got.Without(want)
			if !got.Empty() {
				t.Fatalf("%+v of %v: %v are too many", c, src.AppendRects(nil), got.AppendRects(nil))
			}
		}
	}
	r := NewRegion(image.Pt(100, 100))
	s := NewRegion(image.Pt(100, 100))
	s.Add(s.Bounds())
	for _, c := range []Copy{{}, {image.Pt(0, 0), image.Rect(90, 0, 101, 10)}, {image.Pt(-1, 0), image.Rect(10, 0, 20, 10)}, {image.Pt(0, 95), image.Rect(10, 0, 20, 10)}} {
		if r.AddCopied(s, c); !r.Empty() {
			t.Errorf("%+v, which is none, copies", c)
		}
	}
}

// randomCopy is a copy within a picture of that size; its ends often overlap.
func randomCopy(rnd *rand.Rand, size image.Point) Copy {
	w, h := 1+rnd.IntN(size.X), 1+rnd.IntN(size.Y)
	at := func() image.Point { return image.Pt(rnd.IntN(size.X-w+1), rnd.IntN(size.Y-h+1)) }
	to := at()
	return Copy{From: at(), To: image.Rectangle{Min: to, Max: to.Add(image.Pt(w, h))}}
}

func TestMoveOverlaps(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	m := New(image.Rect(0, 0, 40, 30))
	for i := range m.Pix {
		m.Pix[i] = byte(rnd.Uint32())
	}
	for range 200 {
		c := randomCopy(rnd, m.Rect.Max)
		want := New(m.Rect)
		copy(want.Pix, m.Pix)
		for y := range c.To.Dy() {
			copy(want.Row(c.To.Min.Y+y, c.To.Min.X, c.To.Max.X), m.Row(c.From.Y+y, c.From.X, c.From.X+c.To.Dx()))
		}
		before := m.Pix
		m.Pix = append([]byte(nil), m.Pix...)
		m.Move(c)
		if string(m.Pix) != string(want.Pix) {
			t.Fatalf("%+v", c)
		}
		m.Pix = append(before[:0], m.Pix...)
	}
}

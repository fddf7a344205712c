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

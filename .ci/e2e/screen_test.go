package e2e

import (
	"image"
	"slices"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
)

func TestFind(t *testing.T) {
	part := photograph(image.Pt(60, 50))
	for _, c := range []struct {
		name   string
		change image.Rectangle // of the copy, in its own coordinates
		but    image.Point
		found  bool
	}{
		{name: "the same", found: true},
		{name: "one pixel", change: image.Rect(3, 4, 4, 5)},
		{name: "the last pixel", change: image.Rect(59, 49, 60, 50)},
		{name: "a pointer", change: image.Rect(10, 10, 18, 18), but: image.Pt(8, 8), found: true},
		{name: "wider than a pointer", change: image.Rect(10, 10, 19, 18), but: image.Pt(8, 8)},
		{name: "higher than a pointer", change: image.Rect(10, 10, 18, 19), but: image.Pt(8, 8)},
	} {
		for y := range 2 { // wherever the busiest row is, one of these is not on it
			m := frame.New(image.Rect(0, 0, 100, 90))
			at := image.Pt(31, 17)
			for r := range 50 {
				copy(m.Row(at.Y+r, at.X, at.X+60), part.Row(r, 0, 60))
			}
			change := c.change.Add(at)
			if !c.change.Empty() && y == 1 && c.but != (image.Point{}) {
				change = change.Add(image.Pt(0, 20))
			}
			for r := change.Min.Y; r < change.Max.Y; r++ {
				for _, i := range slices.Compact([]int{change.Min.X, change.Max.X - 1}) {
					m.Row(r, i, i+1)[1] ^= 0x80
				}
			}
			got, ok := Find(m, part, c.but)
			if ok != c.found || ok && got != at {
				t.Errorf("%s: found %v at %v, want %v at %v", c.name, ok, got, c.found, at)
			}
		}
	}
}

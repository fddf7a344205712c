package frame_test

import (
	"image"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
)

func TestCheckLayout(t *testing.T) {
	screen := func(id uint32, x, y, w, h int) frame.Screen {
		return frame.Screen{ID: id, Rect: image.Rect(x, y, x+w, y+h)}
	}
	for _, c := range []struct {
		name    string
		size    image.Point
		screens []frame.Screen
		err     string
	}{
		{"two side by side", image.Pt(200, 100), []frame.Screen{screen(1, 0, 0, 100, 100), screen(2, 100, 0, 100, 100)}, ""},
		{"none", image.Pt(200, 100), nil, "0 screens"},
		{"the same number", image.Pt(200, 100), []frame.Screen{screen(1, 0, 0, 100, 100), screen(1, 100, 0, 100, 100)}, "two screens with the number 1"},
		{"outside", image.Pt(200, 100), []frame.Screen{screen(1, 101, 0, 100, 100)}, "does not lie on the desktop"},
		{"empty", image.Pt(200, 100), []frame.Screen{screen(1, 100, 0, 0, 100)}, "does not lie on the desktop"},
		{"no size", image.Pt(0, 100), []frame.Screen{screen(1, 0, 0, 1, 1)}, "outside 1×1"},
		{"limit - 1", image.Pt(frame.MaxSide-1, 1), []frame.Screen{screen(1, 0, 0, 1, 1)}, ""},
		{"limit", image.Pt(frame.MaxSide, 1), []frame.Screen{screen(1, 0, 0, 1, 1)}, ""},
		{"limit + 1", image.Pt(frame.MaxSide+1, 1), []frame.Screen{screen(1, 0, 0, 1, 1)}, "outside 1×1"},
		{"pixels, limit", image.Pt(16384, 4096), []frame.Screen{screen(1, 0, 0, 1, 1)}, ""},
		{"pixels, limit + 1 row", image.Pt(16384, 4097), []frame.Screen{screen(1, 0, 0, 1, 1)}, "outside 1×1"},
	} {
		if err := frame.CheckLayout(c.size, c.screens); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, not %q", c.name, err, c.err)
		}
	}
}

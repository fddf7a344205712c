package main

import (
	"image"
	"math"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
)

func TestJudge(t *testing.T) {
	size := image.Pt(640, 480) // 1200 blocks
	want, next := scene(size, 1, 1), scene(size, 2, 1)
	for _, c := range []struct {
		name   string
		change func(m frame.Image)
		near   bool // its PSNR is enough
		off    int  // blocks
	}{
		{"the same", func(frame.Image) {}, true, 0},
		{"one level", func(m frame.Image) { m.Pix[0] ^= 1 }, true, 0},
		{"a byte that is no colour", func(m frame.Image) { m.Pix[3] ^= 255 }, true, 0},
		{"the lower half is already the next one", func(m frame.Image) {
			put(m, image.Pt(0, 240), next, image.Rect(0, 240, 640, 480))
		}, true, 0},
		{"a block that was forgotten", func(m frame.Image) { paint(m, image.Rect(16, 16, 32, 32), 0xff0000) }, false, 1},
		{"two of them", func(m frame.Image) { paint(m, image.Rect(16, 16, 48, 32), 0xff0000) }, false, 2},
		{"colours a little off", func(m frame.Image) {
			for i := range m.Pix {
				m.Pix[i] &= 0xf8
			}
		}, false, 0},
	} {
		got := scene(size, 1, 1)
		c.change(got)
		v := judge(good, got, want, next)
		if off := int(math.Round(v.off * 1200)); off != c.off || (v.psnr >= good.psnr) != c.near {
			t.Errorf("%s: %.1f dB, %d blocks off", c.name, v.psnr, off)
		}
	}
}

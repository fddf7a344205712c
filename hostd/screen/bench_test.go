package screen

import (
	"image"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// A grab is all that lies between a request for the picture and its answer: through the socket, the X server and the
// comparison. Drawing is part of the time, not of the allocations of the worker's own code.
func BenchmarkGrab(b *testing.B) {
	x := startX(b, "Xvfb", "-screen", "0", "1920x1080x24")
	p := x.painter(b)
	_, s := x.watch(b)
	grab := func() {
		if err := s.conn.SendPacket(ipc.Grab{}.AppendTo(nil)); err != nil {
			b.Fatal(err)
		}
		for m := range s.msgs {
			if m.t == ipc.TypeFrame {
				return
			}
		}
	}
	for _, c := range []struct {
		name string
		area image.Rectangle
	}{
		{"nothing", image.Rectangle{}},
		{"a letter", image.Rect(100, 100, 108, 116)},
		{"a line", image.Rect(0, 100, 1920, 120)},
		{"everything", image.Rect(0, 0, 1920, 1080)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			pixel := uint32(1)
			for b.Loop() {
				if !c.area.Empty() {
					b.StopTimer()
					pixel = pixel*7 + 1
					p.fill(c.area, pixel)
					b.StartTimer()
				}
				grab()
			}
		})
	}
}

// The search alone, in all of a large screen: where nothing has changed, where everything has and nothing has moved, and where a page
// has scrolled, up and down or sideways, and is moved back.
func BenchmarkMotion(b *testing.B) {
	bounds := image.Rect(0, 0, 1920, 1080)
	was, other, film := frame.New(bounds), frame.New(bounds), frame.New(bounds)
	photo(was, bounds, 1)
	photo(other, bounds, 2)
	photo(film, bounds, 1)
	photo(film, image.Rect(300, 200, 1580, 920), 3)
	down, up := clone(was), clone(was)
	down.Move(frame.Copy{To: image.Rect(0, 48, 1920, 1080)})
	up.Move(frame.Copy{From: image.Pt(0, 48), To: image.Rect(0, 0, 1920, 1032)})
	right, left := clone(was), clone(was)
	right.Move(frame.Copy{To: image.Rect(48, 0, 1920, 1080)})
	left.Move(frame.Copy{From: image.Pt(48, 0), To: image.Rect(0, 0, 1872, 1080)})
	for _, c := range []struct {
		name string
		now  []frame.Image
	}{
		{"nothing changed", []frame.Image{was}},
		{"a film", []frame.Image{part(film, image.Rect(300, 200, 1580, 920))}},
		{"everything changed", []frame.Image{other}},
		{"scrolled", []frame.Image{down, up}},
		{"scrolled sideways", []frame.Image{right, left}},
	} {
		b.Run(c.name, func(b *testing.B) {
			img := clone(was)
			var m motion
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.begin(img)
				m.scroll(c.now[i%len(c.now)])
			}
			if moves := len(m.copies) > 0; moves != (len(c.now) > 1) {
				b.Errorf("%+v", m.copies)
			}
		})
	}
}

// The comparison alone: pictures that are the same, and pictures that are not.
func BenchmarkDiff(b *testing.B) {
	bounds := image.Rect(0, 0, 1920, 1080)
	shown, drawn := frame.New(bounds), frame.New(bounds)
	for _, c := range []struct {
		name string
		step byte
	}{{"same", 0}, {"different", 1}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(drawn.Pix)))
			var d differ
			var rects []image.Rectangle
			for b.Loop() {
				if c.step != 0 {
					b.StopTimer()
					for i := range drawn.Pix {
						drawn.Pix[i] += c.step
					}
					b.StartTimer()
				}
				d.begin(shown, rects[:0])
				d.area(drawn, image.Rectangle{}, nil)
				rects = d.end()
			}
		})
	}
}

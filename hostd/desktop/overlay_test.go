package desktop

import (
	"image"
	"runtime"
	"testing"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
)

// Ten people who log in one after the other took 2 to 3 MiB each, which stayed until much else was garbage.
func TestPagesUseTheirMemoryAgain(t *testing.T) {
	painter, size := form.NewPainter(), image.Pt(1920, 1080)
	changed := frame.NewRegion(size)
	show := func() (bytes int) {
		var o overlay
		for range 4 { // an image and a spare one, used in turn
			o.draw(painter, form.Wait("desk", "a moment"), size, changed)
			bytes = len(o.image.Pix)
		}
		o.draw(painter, nil, size, changed)
		return bytes
	}
	one := show()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const people = 10
	for range people {
		show()
	}
	runtime.ReadMemStats(&after)
	if got := int(after.TotalAlloc - before.TotalAlloc); got > people*one {
		t.Errorf("%d people took %d KiB, a page has %d", people, got>>10, one>>10)
	}
}

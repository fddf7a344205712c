package desktop

import (
	"image"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// Ten people who logged in took 2 to 3 MiB each, which stayed until much else was garbage.
func TestPagesLeaveNoMemory(t *testing.T) {
	painter, size := form.NewPainter(), image.Pt(1920, 1080)
	changed := frame.NewRegion(size)
	show := func(people int) (bytes int) {
		all := make([]overlay, people)
		for i := range all {
			for range 4 { // an image and a spare one, used in turn
				all[i].draw(painter, form.Wait("desk", "a moment"), size, changed)
				bytes = len(all[i].image.Pix)
			}
		}
		for i := range all {
			all[i].draw(painter, nil, size, changed)
		}
		return bytes
	}
	one := show(1)
	before := residentBytes(t)
	show(10)
	if left := residentBytes(t) - before; left > 10*one {
		t.Errorf("10 people left %d KiB, a page has %d", left>>10, one>>10)
	}
}

// residentBytes is the memory of this process.
func residentBytes(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Who leaves while a page shows leaves no memory either.
func TestPagesOfOneWhoLeaves(t *testing.T) {
	s, _ := start(t, small)
	const who = "alice@example.com"
	c := view(t, s, who, tunnel.RoleControl, rfbtest.Config{})
	says(t, s, who, c, "Log in to this computer")
	sees(t, c, 1, 1, form.Background)
	se := s.session(who)
	c.Close()
	<-se.talk.over
	for _, o := range se.view.send.overlays {
		if o.image.Pix != nil || o.spare.Pix != nil {
			t.Error("pixels are left")
		}
	}
}

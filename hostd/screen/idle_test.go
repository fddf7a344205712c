package screen

import (
	"runtime"
	"testing"
	"time"
)

// A worker takes no memory while nothing changes on its screen.
func TestIdleMemory(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m, s := x.watch(t)
	m.listen(true)
	s.settle()
	var n uint64
	for range 3 { // it may still have to do with its beginning
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		<-time.After(time.Second)
		runtime.ReadMemStats(&after)
		if n = after.Mallocs - before.Mallocs; n <= 50 { // the runtime makes a few
			return
		}
	}
	t.Errorf("%d allocations in an idle second", n)
}

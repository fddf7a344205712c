package desktop

import (
	"runtime"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// A viewer of a screen on which nothing changes takes no more memory from hour to hour: 1,000 looks of its session, which are 10 s apart
// then, leave nothing, and between them nothing is made.
func TestIdleMemory(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, "a", tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, "a", c)
	h.worker().shows(t, c, pointer)
	rests(t, s, 1)
	s.mu.Lock()
	var only *session
	for _, only = range s.sessions {
	}
	s.mu.Unlock()
	look := func(times int) {
		for range times {
			only.note <- struct{}{} // which is taken before the next one fits
		}
	}
	memory := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	look(10)
	before := memory()
	look(1000)
	if n := int(memory().HeapAlloc) - int(before.HeapAlloc); n > 16<<10 {
		t.Errorf("%d bytes more after 1,000 looks", n)
	}
	before = memory()
	<-time.After(time.Second)
	if n := memory().Mallocs - before.Mallocs; n > 50 { // the runtime makes a few
		t.Errorf("%d allocations in an idle second", n)
	}
}

package screen

import (
	"log/slog"
	"runtime"
	"testing"
	"time"
)

// memory is what is in use, and what was made.
func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// A worker makes nothing while nothing changes on its screen.
func TestIdleMemory(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	m, s := x.watch(t)
	m.listen(true)
	s.settle()
	var n uint64
	for range 3 { // it may still have to do with its beginning
		before := memory()
		<-time.After(time.Second)
		if n = memory().Mallocs - before.Mallocs; n <= 50 { // the runtime makes a few
			return
		}
	}
	t.Errorf("%d allocations in an idle second", n)
}

// Looks at whose the screen is, one a second where no logind tells, leave nothing.
func TestIdleMemoryOfSeat(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	number, err := displayNumber(x.name)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &seat{log: log, display: x.name, number: number, logind: newLogind(log)}
	look := func(times int) {
		for range times {
			s.look(t.Context())
		}
	}
	look(10)
	before := memory()
	look(1000)
	if n := int(memory().HeapAlloc) - int(before.HeapAlloc); n > 64<<10 {
		t.Errorf("%d bytes more after 1,000 looks", n)
	}
}

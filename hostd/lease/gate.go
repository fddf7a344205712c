package lease

import (
	"sync"

	"github.com/helmline/helmline/hostd/ipc"
)

// A Gate lets input through while it carries the session and the epoch that control.
type Gate struct {
	mu      sync.Mutex // guards all, and is held while input is handed on
	session uint32
	epoch   uint64 // 0: shut
	sink    func(ipc.Input)
	passed  uint64
	dropped uint64
}

// Open lets input of that session and epoch, which is not 0, through to sink. The sink must not wait.
func (g *Gate) Open(session uint32, epoch uint64, sink func(ipc.Input)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.session, g.epoch, g.sink = session, epoch, sink
}

// Shut drops whatever comes from now on. When it returns, nothing is being handed on any more.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.session, g.epoch, g.sink = 0, 0, nil
}

// Pass hands in on or drops it, and says which.
func (g *Gate) Pass(in ipc.Input) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.controls(in.Session, in.Epoch) {
		g.dropped++
		return false
	}
	g.passed++
	g.sink(in)
	return true
}

// Controls says whether input of that session and epoch is let through.
func (g *Gate) Controls(session uint32, epoch uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.controls(session, epoch)
}

func (g *Gate) controls(session uint32, epoch uint64) bool {
	return g.epoch != 0 && epoch == g.epoch && session == g.session
}

// Counts gives the numbers of input events let through and dropped so far.
func (g *Gate) Counts() (passed, dropped uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed, g.dropped
}

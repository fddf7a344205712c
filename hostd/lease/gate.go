package lease

import (
	"sync"

	"github.com/helmline/helmline/hostd/ipc"
)

// A Sink takes what a Gate lets through. It must not wait.
type Sink interface {
	Input(ipc.Input)
	Paste(text []byte) // valid during the call
}

// A Gate lets input through while it carries the session and the epoch that control.
type Gate struct {
	mu      sync.Mutex // guards all, and is held while input is handed on
	session uint32
	epoch   uint64 // 0: shut
	sink    Sink
	passed  uint64
	dropped uint64
}

// Open lets input of that session and epoch, which is not 0, through to sink.
func (g *Gate) Open(session uint32, epoch uint64, sink Sink) {
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
	if !g.open(in.Session, in.Epoch) {
		return false
	}
	g.sink.Input(in)
	return true
}

// Paste hands the text of a clipboard on or drops it, and says which.
func (g *Gate) Paste(c ipc.Clip) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open(c.Session, c.Epoch) {
		return false
	}
	g.sink.Paste(c.Text)
	return true
}

// open counts one thing of that session and epoch, and says whether it passes. mu is held.
func (g *Gate) open(session uint32, epoch uint64) bool {
	if !g.controls(session, epoch) {
		g.dropped++
		return false
	}
	g.passed++
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

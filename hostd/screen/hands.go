package screen

import (
	"sync"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// maxWaiting is the largest number of input events that wait to be injected. A person never gets near it.
const maxWaiting = 4096

// A keyboard, with its pointer, is what input.Injector is.
type keyboard interface {
	Key(sym, scan uint32, down bool) (wait time.Duration)
	Pointer(mask uint16, x, y int)
	Locks() (state uint8, changed bool)
	Release()
	Close()
}

// kindPaste is an event beside those of ipc: the clipboard gets what was pasted last, in its turn.
const kindPaste ipc.InputKind = 255

// hands inject what has been received, in order, and at their own pace: some symbols take a moment. A Release does away with
// what still waits.
type hands struct {
	keys     keyboard      // owned by work
	released func() error  // tells that all keys are up
	still    func() error  // is asked before each event; an error is the end
	paste    func()        // does kindPaste
	locked   func(uint8)   // gets the state of the lock keys when nothing is to be injected: in between it may be another for a moment
	wake     chan struct{} // holds one when there is something to do

	mu      sync.Mutex
	waiting []ipc.Input
	done    int // of waiting, from its start
	release int // Releases not answered yet
}

func newHands(keys keyboard, released, still func() error, paste func(), locked func(uint8)) *hands {
	return &hands{keys: keys, released: released, still: still, paste: paste, locked: locked, wake: make(chan struct{}, 1)}
}

// add takes one event. Where too many wait, it is dropped unless it lets something go; of moves that wait only the last
// counts.
func (h *hands) add(in ipc.Input) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.put(in)
}

// put is add while mu is held.
func (h *hands) put(in ipc.Input) {
	if h.done > 0 && h.done >= len(h.waiting)/2 {
		h.waiting, h.done = h.waiting[:copy(h.waiting, h.waiting[h.done:])], 0
	}
	n := len(h.waiting) - h.done
	if in.Kind == ipc.InputPointer && n > 0 {
		if last := &h.waiting[len(h.waiting)-1]; last.Kind == ipc.InputPointer && last.A == in.A {
			*last = in
			return
		}
	}
	if n >= maxWaiting {
		if in.Kind == ipc.InputKey && in.B != 0 || n >= 2*maxWaiting {
			return
		}
	}
	h.waiting = append(h.waiting, in)
	h.nudge()
}

// letGo asks for a Release.
func (h *hands) letGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting, h.done = h.waiting[:0], 0
	h.release++
	h.nudge()
}

func (h *hands) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// next is what to do now.
func (h *hands) next() (in ipc.Input, some bool, release int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if release, h.release = h.release, 0; release > 0 {
		return in, false, release
	}
	if h.done == len(h.waiting) {
		return in, false, 0
	}
	h.done++
	return h.waiting[h.done-1], true, 0
}

// work injects until stop is closed or nobody can be told any more; then everything is let go.
func (h *hands) work(stop <-chan struct{}) error {
	defer h.keys.Close()
	for {
		in, some, release := h.next()
		switch {
		case some:
			if err := h.still(); err != nil {
				return err
			}
			h.inject(in, stop)
		case release > 0:
			h.keys.Release()
			for range release {
				if err := h.released(); err != nil {
					return err
				}
			}
		default:
			if state, changed := h.keys.Locks(); changed {
				h.locked(state)
			}
			select {
			case <-h.wake:
			case <-stop:
				return nil
			}
		}
	}
}

// inject injects one event. While its key must rest only a Release or the end goes first.
func (h *hands) inject(in ipc.Input, stop <-chan struct{}) {
	switch in.Kind {
	case ipc.InputPointer:
		h.keys.Pointer(uint16(in.A), int(in.X), int(in.Y))
	case kindPaste:
		h.paste()
	case ipc.InputKey:
		for wait := h.keys.Key(in.A, in.C, in.B != 0); wait > 0; wait = h.keys.Key(in.A, in.C, in.B != 0) {
			if !h.rest(wait, stop) {
				return
			}
		}
	}
}

// rest waits and says whether it was for that long.
func (h *hands) rest(wait time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-stop:
			return false
		case <-h.wake:
			h.mu.Lock()
			release := h.release > 0
			h.mu.Unlock()
			if release {
				return false
			}
		}
	}
}

package screen

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// A fakeKeyboard writes down what is done with it. Keysym 'w' has to wait for a second, once.
type fakeKeyboard struct {
	strings.Builder
	rested bool
}

func (k *fakeKeyboard) Key(sym, _ uint32, down bool) time.Duration {
	if sym == 'w' && down && !k.rested {
		k.rested = true
		return time.Second
	}
	sign := "-"
	if down {
		sign = "+"
	}
	fmt.Fprintf(k, "%s%c ", sign, rune(sym))
	return 0
}

func (k *fakeKeyboard) Pointer(mask uint16, x, y int) { fmt.Fprintf(k, "%d@%d,%d ", mask, x, y) }
func (k *fakeKeyboard) Locks() (uint8, bool)          { return 0, false }
func (k *fakeKeyboard) Release()                      { k.WriteString("release ") }
func (k *fakeKeyboard) Close()                        { k.WriteString("close") }

func press(sym rune, down bool) ipc.Input {
	in := ipc.Input{Kind: ipc.InputKey, A: uint32(sym)}
	if down {
		in.B = 1
	}
	return in
}

func point(mask uint32, x, y uint16) ipc.Input {
	return ipc.Input{Kind: ipc.InputPointer, A: mask, X: x, Y: y}
}

func TestHands(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *hands)
		want string
		took time.Duration
	}{
		{"in order", func(h *hands) {
			for _, in := range []ipc.Input{press('a', true), point(0, 1, 2), press('a', false)} {
				h.add(in)
			}
		}, "+a 0@1,2 -a close", 0},
		{"pasted in its turn", func(h *hands) {
			for _, in := range []ipc.Input{press('a', true), {Kind: kindPaste}, press('v', true)} {
				h.add(in)
			}
		}, "+a paste +v close", 0},
		{"of moves that wait the last counts", func(h *hands) {
			h.mu.Lock() // so that all of them wait
			defer h.mu.Unlock()
			for _, in := range []ipc.Input{point(0, 1, 1), point(0, 2, 2), point(1, 2, 2), point(1, 3, 3), point(0, 3, 3), press('a', true), point(0, 4, 4)} {
				h.put(in)
			}
		}, "0@2,2 1@3,3 0@3,3 +a 0@4,4 close", 0},
		{"a key that must rest", func(h *hands) {
			h.add(press('w', true))
			h.add(press('w', false))
			h.add(press('a', true))
			synctest.Wait()
			time.Sleep(2 * time.Second)
		}, "+w -w +a close", 2 * time.Second},
		{"a Release does not wait for it", func(h *hands) {
			h.add(press('b', true))
			h.add(press('w', true))
			h.add(press('a', true))
			synctest.Wait()
			h.letGo()
			synctest.Wait()
			h.add(press('c', true))
		}, "+b release told +c close", 0},
		{"nor does the end", func(h *hands) {
			h.add(press('w', true))
			synctest.Wait()
		}, "close", 0},
		{"two Releases have two answers", func(h *hands) {
			h.letGo()
			h.letGo()
		}, "release told told close", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				k := &fakeKeyboard{}
				h := newHands(k, func() error {
					k.WriteString("told ")
					return nil
				}, func() error { return nil }, func() { k.WriteString("paste ") }, nil)
				stop, done := make(chan struct{}), make(chan error)
				go func() { done <- h.work(stop) }()
				synctest.Wait()
				c.do(h)
				synctest.Wait()
				close(stop)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if got := k.String(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %v, not %v", took, c.took)
				}
			})
		})
	}
}

// What waits is bounded; what lets go is dropped last.
func TestHandsBound(t *testing.T) {
	h := newHands(&fakeKeyboard{}, nil, nil, nil, nil)
	for range 3 * maxWaiting {
		h.add(press('a', true))
	}
	if len(h.waiting) != maxWaiting {
		t.Errorf("%d presses wait", len(h.waiting))
	}
	for range 3 * maxWaiting {
		h.add(press('a', false))
	}
	if len(h.waiting) != 2*maxWaiting {
		t.Errorf("%d events wait", len(h.waiting))
	}
	for range 2 * maxWaiting {
		if _, some, _ := h.next(); !some {
			t.Fatal("too few")
		}
	}
	if _, some, _ := h.next(); some {
		t.Fatal("too many")
	}
	for i := range 100_000 { // the queue does not grow by being used
		h.add(press('a', i%2 == 0))
		h.next()
	}
	if cap(h.waiting) > 4*maxWaiting {
		t.Errorf("room for %d events", cap(h.waiting))
	}
}

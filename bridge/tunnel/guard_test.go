package tunnel

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A guardTest drives a guard of a relay by hand.
type guardTest struct {
	*guard
	t     *testing.T
	clock time.Time
}

func newGuardTest(t *testing.T, l Limits) *guardTest {
	g := &guardTest{t: t, clock: time.Unix(1e9, 0)}
	g.guard = newGuard(l, false, func() time.Time { return g.clock })
	return g
}

// repeat gives how many of n frames are let through and the error of the next.
func (g *guardTest) repeat(n int, f func(i int) frame) (int, error) {
	for i := range n {
		if _, _, err := g.in(f(i)); err != nil {
			return i, err
		}
	}
	return n, nil
}

func peerOpen(i int) frame {
	return frame{kind: frameUpdate, flags: flagSYN, stream: uint32(2*i + 1)}
}
func ping(int) frame { return frame{kind: framePing, flags: flagSYN} }

func TestGuardLimits(t *testing.T) {
	opened := func(l Limits) func(*testing.T) *guardTest {
		return func(t *testing.T) *guardTest {
			g := newGuardTest(t, l)
			g.repeat(1, peerOpen)
			return g
		}
	}
	fresh := func(l Limits) func(*testing.T) *guardTest {
		return func(t *testing.T) *guardTest { return newGuardTest(t, l) }
	}
	for _, c := range []struct {
		name  string
		start func(*testing.T) *guardTest
		f     func(i int) frame
		limit int
		err   string
	}{
		{"streams", fresh(Limits{}), peerOpen, 64, "more than 64 streams at once"},
		{"streams, as configured", fresh(Limits{Streams: 100, Opens: 1000}), peerOpen, 100, "more than 100 streams at once"},
		{"streams, the most there can be", fresh(Limits{Streams: 9999, Opens: 1000}), peerOpen, 256, "more than 256 streams at once"},
		{"streams, none", fresh(Limits{Streams: -1}), peerOpen, 0, "more than 0 streams at once"},
		{"opens", fresh(Limits{Streams: 256}), peerOpen, 100, "more than 50 streams opened a second"},
		{"pings", fresh(Limits{}), ping, 20, "more than 10 pings a second"},
		{"frames without data", opened(Limits{}), func(int) frame { return frame{stream: 1} }, 1999, "more than 1000 frames without data a second"},
		{"bytes for no stream", fresh(Limits{}), func(int) frame { return frame{stream: 7, length: 1 << 10} }, 1 << 10, "more than 1048576 bytes for streams that do not exist"},
		{"bytes in a window", opened(Limits{}), func(int) frame { return frame{stream: 1, length: 1 << 10} }, 256, "1024 bytes more than the window of stream 1"},
		{"windows", opened(Limits{}), func(int) frame { return frame{kind: frameUpdate, stream: 1, length: 256 << 10} }, 255, "a window of more than 67108864 bytes"},
		{"ends", opened(Limits{}), func(int) frame { return frame{kind: frameUpdate, flags: flagFIN, stream: 1} }, 1, "stream 1 ended twice"},
	} {
		for _, n := range []int{c.limit - 1, c.limit, c.limit + 1} {
			t.Run(fmt.Sprint(c.name, " ", n), func(t *testing.T) {
				passed, err := c.start(t).repeat(max(n, 0), c.f)
				if want := min(max(n, 0), c.limit); passed != want {
					t.Fatalf("%d let through, not %d: %v", passed, want, err)
				}
				if (n > c.limit) != (err != nil) || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, not %q", err, c.err)
				}
			})
		}
	}
}

func TestGuardRates(t *testing.T) {
	g := newGuardTest(t, Limits{Streams: 256})
	for second := range 60 { // what is allowed a second, each second
		for i := range 50 {
			id := uint32(2*(50*second+i) + 1)
			for _, f := range []frame{{kind: frameUpdate, flags: flagSYN, stream: id}, {kind: frameUpdate, flags: flagRST, stream: id}} {
				if _, _, err := g.in(f); err != nil {
					t.Fatal(second, i, err)
				}
			}
		}
		for range 10 {
			if _, _, err := g.in(ping(0)); err != nil {
				t.Fatal(second, err)
			}
		}
		g.clock = g.clock.Add(time.Second)
	}
	g.clock = g.clock.Add(time.Hour)
	if n, _ := g.repeat(200, ping); n != 20 {
		t.Fatalf("%d pings at once after an hour", n)
	}
	if own, peers := g.counts(); own+peers != 0 || len(g.flows) != 0 {
		t.Fatalf("%d, %d, %d streams are left", own, peers, len(g.flows))
	}
}

// What is on the way when this side resets a stream is no fault of the other one's.
func TestGuardKnowsWhatWasOnTheWay(t *testing.T) {
	g := newGuardTest(t, Limits{})
	g.repeat(1, peerOpen)
	g.in(frame{stream: 1, length: 100})
	g.out(frame{kind: frameUpdate, flags: flagRST, stream: 1})
	for _, c := range []struct {
		length uint32
		stray  int64
	}{{1000, 0}, {firstWindow - 1100, 0}, {1, 1}, {10, 11}} {
		if to, pass, err := g.in(frame{stream: 1, length: c.length}); to != nil || pass || err != nil || g.stray != c.stray {
			t.Fatalf("%v: %v, %v, %v, %d stray", c, to, pass, err, g.stray)
		}
	}
	// The other side has ended its direction before: nothing is on the way.
	g.in(peerOpen(1))
	g.in(frame{kind: frameUpdate, flags: flagFIN, stream: 3})
	g.out(frame{kind: frameUpdate, flags: flagRST, stream: 3})
	if g.in(frame{stream: 3, length: 5}); g.stray != 16 {
		t.Fatal(g.stray)
	}
}

func TestGuardHoldsBackWhatItMust(t *testing.T) {
	g := newGuardTest(t, Limits{})
	g.repeat(2, peerOpen)
	fin := func(id uint32) frame { return frame{kind: frameUpdate, flags: flagFIN, stream: id} }
	for _, c := range []struct {
		name string
		f    frame
		send bool
	}{
		{"the first end", fin(1), true},
		{"the second end", fin(1), false},
		{"a window after the end", frame{kind: frameUpdate, stream: 1, length: 5}, true},
		{"the end of a stream that is gone", fin(77), false},
		{"a window of one", frame{kind: frameUpdate, stream: 77, length: 5}, false},
		{"the reset of one", frame{kind: frameUpdate, flags: flagRST, stream: 77}, true},
		{"a ping", frame{kind: framePing, flags: flagSYN}, true},
		{"a go-away", frame{kind: frameGoAway}, true},
		{"a new stream", frame{kind: frameUpdate, flags: flagSYN, stream: 2}, true},
	} {
		if send := g.out(c.f); send != c.send {
			t.Errorf("%s: %v", c.name, send)
		}
	}
	if _, pass, err := g.in(fin(1)); !pass || err != nil || g.find(1) != nil {
		t.Fatal("a stream ended both ways is not gone")
	}
	if own, peers := g.counts(); own != 1 || peers != 1 {
		t.Fatal(own, peers)
	}
}

func TestWindowGrowsForAQuickReader(t *testing.T) {
	g := newGuardTest(t, Limits{})
	g.repeat(2, peerOpen)
	g.setRTT(40 * time.Millisecond)
	g.setRTT(90 * time.Millisecond) // longer because of what is under way
	s := g.flows[1]
	read := func(s *flow, n int, took time.Duration) uint32 {
		g.clock = g.clock.Add(took)
		return g.ate(s, n)
	}
	if more := read(s, firstWindow/2-1, 0); more != 0 {
		t.Fatalf("an update of %d bytes for less than half a window", more)
	}
	if more := read(s, 1, time.Second); more != firstWindow/2 || s.window != firstWindow {
		t.Fatalf("a slow reader: %d more, window %d", more, s.window)
	}
	if read(s, firstWindow/2, 80*time.Millisecond); s.window != firstWindow {
		t.Fatalf("half a window in two round trips: window %d", s.window)
	}
	if more := read(s, firstWindow/2, 79*time.Millisecond); s.window != 2*firstWindow || more != firstWindow/2+firstWindow {
		t.Fatalf("a quick reader: %d more, window %d", more, s.window)
	}
	for range 10 {
		read(s, s.window/2, 0)
	}
	if s.window != maxWindow {
		t.Fatalf("window %d, not %d", s.window, maxWindow)
	}
	other := g.flows[3]
	for range 10 {
		read(other, other.window/2, 0)
	}
	if other.window != 2*firstWindow { // the first one's first window is not part of the share
		t.Fatalf("the second window has grown to %d beyond the share of the session", other.window)
	}
	g.out(frame{kind: frameUpdate, flags: flagRST, stream: 1})
	if more := read(s, s.window, 0); more != 0 || g.grown != firstWindow {
		t.Fatalf("%d more for a stream that is gone, %d still shared out", more, g.grown)
	}
	for range 10 {
		read(other, other.window/2, 0)
	}
	if other.window != maxWindow {
		t.Fatalf("window %d after the other one is gone", other.window)
	}
}

func TestTurn(t *testing.T) {
	var turn turn
	got := make(chan string, 100)
	waiting := 0
	wait := func(name string, favoured bool) chan struct{} {
		late := make(chan struct{})
		go func() {
			if turn.take(make(chan struct{}, 1), favoured, nil, late) {
				got <- name
			} else {
				got <- name + " gave up"
			}
		}()
		for waiting++; ; { // until it is in its queue
			turn.mu.Lock()
			n := len(turn.first) + len(turn.rest)
			turn.mu.Unlock()
			if n == waiting {
				return late
			}
		}
	}
	next := func(want string) {
		t.Helper()
		waiting--
		if b := turn.left(nil); b != nil {
			t.Fatalf("%d bytes aside", len(b))
		}
		if s := <-got; s != want {
			t.Fatalf("%s, not %s", s, want)
		}
	}
	if !turn.leave(frame{}) {
		t.Fatal("a free turn was not given")
	}
	wait("bulk 1", false)
	wait("bulk 2", false)
	wait("key 1", true)
	wait("key 2", true)
	close(wait("key 3", true))
	if s := <-got; s != "key 3 gave up" {
		t.Fatal(s)
	}
	waiting--
	next("key 1")
	next("key 2")
	next("bulk 1")
	for range maxAhead + 1 {
		wait("key", true)
	}
	if turn.leave(frame{kind: framePing}) {
		t.Fatal("a turn that is taken was given")
	}
	if b := turn.left(nil); len(b) != frameHeader {
		t.Fatalf("%d bytes aside", len(b))
	}
	for range maxAhead {
		next("key")
	}
	next("bulk 2")
	next("key")
	if turn.left(nil) != nil || turn.taken {
		t.Fatal("the turn is not free in the end")
	}
}

func TestPace(t *testing.T) {
	var p pace
	if p.piece() != smallPiece || p.fast() {
		t.Fatal("the first piece is not small")
	}
	for range 10 {
		p.took(p.piece(), 100*time.Microsecond)
	}
	if p.piece() != largePiece || !p.fast() {
		t.Fatalf("a fast path has pieces of %d", p.piece())
	}
	p.took(100, 0)               // a small message says nothing
	p.took(p.piece(), slowPiece) // in time
	if p.piece() != largePiece {
		t.Fatal(p.piece())
	}
	for range 10 {
		p.took(p.piece(), 10*time.Millisecond)
	}
	if p.piece() != smallPiece {
		t.Fatalf("a slow path has pieces of %d", p.piece())
	}
	for size := smallPiece; size <= largePiece; size = (size+frameHeader)*2 - frameHeader {
		if (size+frameHeader)%sshPacket != 0 && size != smallPiece {
			t.Errorf("a piece of %d does not fill its packets", size)
		}
	}
}

package tunnel

import (
	"sync"
	"time"
)

// A guard knows the streams of one session from the frames of both directions, and ends the session when the other side
// breaks a limit. yamux has hardly any of its own: it keeps every stream that it is sent and starts a goroutine for
// every ping.
type guard struct {
	limits Limits
	odd    bool // this side's streams have odd numbers
	now    func() time.Time

	mu       sync.Mutex // guards what follows, and the windows of the flows
	flows    map[uint32]*flow
	own      int           // flows that this side opened
	reserved int           // places of flows that this side is about to open
	peers    int           // flows that the other side opened
	grown    int           // bytes of all windows beyond their first size
	rtt      time.Duration // the shortest round trip yet; 0 before the first
	opens    bucket
	pings    bucket
	controls bucket
	pongs    int   // answers to pings that are still to come
	stray    int64 // bytes of data for streams that do not exist
	late     [64]lateFlow
	lateNext int
}

// A lateFlow is a stream that this side has reset while data for it may be on the way.
type lateFlow struct {
	stream uint32
	may    int64 // bytes
}

func newGuard(limits Limits, odd bool, now func() time.Time) *guard {
	l, t := limits.fill(), now()
	return &guard{
		limits: l, odd: odd, now: now,
		flows: make(map[uint32]*flow),
		opens: newBucket(l.Opens, t), pings: newBucket(l.Pings, t), controls: newBucket(maxControls, t),
	}
}

func (g *guard) isOwn(stream uint32) bool { return stream&1 == 1 == g.odd }

// in judges the header of a frame that has arrived. It gives the stream that its data is for, nil when there is none,
// and whether yamux must see the frame: it keeps the books on opening and closing; data and windows are the flows'.
func (g *guard) in(f frame) (to *flow, pass bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.version != 0 || f.kind > frameGoAway {
		return nil, false, overLimit("a frame of version %d and type %d, which yamux does not have", f.version, f.kind)
	}
	// An update that pays for much data is bounded by the window that it opens.
	if f.data() == 0 && (f.kind != frameUpdate || f.length < firstWindow/4) && !g.controls.take(g.now()) {
		return nil, false, overLimit("more than %d frames without data a second", maxControls)
	}
	switch f.kind {
	case framePing:
		return nil, true, g.inPing(f)
	case frameGoAway:
		return nil, true, nil
	}
	if f.flags&flagSYN != 0 {
		if err := g.inOpen(f.stream); err != nil {
			return nil, false, err
		}
	}
	s := g.flows[f.stream]
	if s == nil {
		return nil, false, g.inStray(f)
	}
	return s, f.flags != 0, g.inFlow(s, f)
}

func (g *guard) inPing(f frame) error {
	if f.flags&flagSYN != 0 {
		if !g.pings.take(g.now()) {
			return overLimit("more than %d pings a second", g.limits.Pings)
		}
		return nil
	}
	if g.pongs--; g.pongs < 0 {
		return overLimit("an answer to a ping that was not sent")
	}
	return nil
}

func (g *guard) inOpen(stream uint32) error {
	switch {
	case stream == 0 || g.isOwn(stream):
		return overLimit("stream %d opened, which is not the other side's to open", stream)
	case g.flows[stream] != nil:
		return overLimit("stream %d opened twice", stream)
	case g.peers >= g.limits.Streams:
		return overLimit("more than %d streams at once", g.limits.Streams)
	case !g.opens.take(g.now()):
		return overLimit("more than %d streams opened a second", g.limits.Opens)
	}
	g.add(stream)
	return nil
}

// inStray judges a frame for a stream that does not exist, or not any more. What was on the way when this side reset
// the stream is no fault; its window bounds it.
func (g *guard) inStray(f frame) error {
	n := int64(f.data())
	for i := range g.late {
		if l := &g.late[i]; l.stream == f.stream {
			known := min(n, l.may)
			n, l.may = n-known, l.may-known
		}
	}
	if g.stray += n; g.stray > maxStray {
		return overLimit("more than %d bytes for streams that do not exist", maxStray)
	}
	return nil
}

func (g *guard) inFlow(s *flow, f frame) error {
	if f.flags&flagACK != 0 {
		if s.acked || !g.isOwn(f.stream) {
			return overLimit("stream %d acknowledged twice", f.stream)
		}
		s.acked = true
	}
	if f.kind == frameUpdate {
		if s.ownMay += int64(f.length); s.ownMay > maxCredit {
			return overLimit("a window of more than %d bytes", maxCredit)
		}
		notify(s.writable)
	} else if s.peerMay -= int64(f.length); s.peerMay < 0 {
		return overLimit("%d bytes more than the window of stream %d", -s.peerMay, f.stream)
	}
	switch {
	case f.flags&flagRST != 0:
		g.drop(s)
		s.breakOff()
	case f.flags&flagFIN != 0:
		if s.peerFIN {
			return overLimit("stream %d ended twice", f.stream)
		}
		if s.peerFIN = true; s.ownFIN {
			g.drop(s)
		}
	}
	return nil
}

// out follows a frame that this side sends. It reports false for one that must not be sent: the second end of a stream
// that CloseWrite has ended already, or a word about a stream that is gone.
func (g *guard) out(f frame) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch f.kind {
	case framePing:
		if f.flags&flagSYN != 0 {
			g.pongs++
		}
		return true
	case frameGoAway:
		return true
	}
	if f.flags&flagSYN != 0 {
		g.reserved = max(0, g.reserved-1) // the place is taken
		g.add(f.stream)
	}
	s := g.flows[f.stream]
	if s == nil {
		return f.flags&flagRST != 0
	}
	switch {
	case f.flags&flagRST != 0:
		if !s.peerFIN {
			g.late[g.lateNext] = lateFlow{s.id, s.peerMay}
			g.lateNext = (g.lateNext + 1) % len(g.late)
		}
		g.drop(s)
		s.breakOff()
	case f.flags&flagFIN != 0:
		if s.ownFIN {
			return false
		}
		if s.ownFIN = true; s.peerFIN {
			g.drop(s)
		}
	}
	return true
}

func (g *guard) add(stream uint32) {
	g.flows[stream] = newFlow(stream)
	if g.isOwn(stream) {
		g.own++
	} else {
		g.peers++
	}
}

// drop forgets a stream that has ended in both directions or was reset. What it has received can still be read.
func (g *guard) drop(s *flow) {
	delete(g.flows, s.id)
	g.grown -= s.window - firstWindow
	s.window = firstWindow
	s.dropped = true
	if g.isOwn(s.id) {
		g.own--
	} else {
		g.peers--
	}
}

// reserve keeps a place for a stream that this side is about to open, when fewer than most are open or about to be. The
// place is taken by the frame that opens the stream, or given back by release.
func (g *guard) reserve(most int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.own+g.reserved >= most {
		return false
	}
	g.reserved++
	return true
}

// release gives back a place of a stream that is not opened.
func (g *guard) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reserved = max(0, g.reserved-1)
}

// find gives a stream that has not ended.
func (g *guard) find(stream uint32) *flow {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flows[stream]
}

// counts gives how many streams this side and the other one have open.
func (g *guard) counts() (own, peers int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own, g.peers
}

// setRTT tells how long a round trip has taken.
func (g *guard) setRTT(d time.Duration) {
	g.mu.Lock()
	if g.rtt == 0 || d < g.rtt {
		g.rtt = d
	}
	g.mu.Unlock()
}

// ate notes that the reader of s has taken n bytes. It gives how much more the other side may send, when that is worth
// a frame. A window of which half is read within two round trips, or at once, is too small for the path and grows, as long as the
// session's share lasts. One that is large enough stays as it is, and so does one whose reader is slow: what is under
// way or waits for a reader stands before what other streams send.
func (g *guard) ate(s *flow, n int) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.eaten += n; s.eaten < s.window/2 || s.dropped || s.peerFIN {
		return 0
	}
	more := s.eaten
	now := g.now()
	if took := now.Sub(s.updated); took < max(2*g.rtt, quickRead) {
		grow := min(s.window, maxWindow-s.window, windowShare-g.grown)
		s.window, g.grown, more = s.window+grow, g.grown+grow, more+grow
	}
	s.updated, s.eaten = now, 0
	s.peerMay += int64(more)
	return uint32(more)
}

// spend takes up to n bytes of what may be sent in s.
func (g *guard) spend(s *flow, n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n = int(min(int64(n), s.ownMay))
	s.ownMay -= int64(n)
	return n
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

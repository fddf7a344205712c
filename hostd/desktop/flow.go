package desktop

import (
	"encoding/binary"
	"time"
)

// Limits of a flow. Sizes are bytes.
const (
	firstWindow = 128 << 10
	minWindow   = 16 << 10
	maxWindow   = 4 << 20
	maxPings    = 64                    // on the way at once
	queueTime   = 25 * time.Millisecond // what may wait in queues on the path, beyond its own round trip
	baseTime    = 10 * time.Second      // for how long the shortest round trip stands
)

// A flow is what is known of the path to a viewer that answers fences: how long its round trip is, and how much may be on the way so
// that the path is busy but what comes next does not queue behind it. After each update goes a ping, a fence that the viewer sends back.
//
// The window is measured, not guessed: a round trip that took longer than the shortest one by more than queueTime says by how much too
// much was on the way. One that did not, while the window was full, lets it grow.
type flow struct {
	sent   uint64 // position in the stream, of what was written last
	acked  uint64 // position that the last pong answered
	window uint64
	next   uint32 // number of the next ping
	oldest uint32 // number of the oldest ping that is on the way
	pings  [maxPings]ping
	base   time.Duration // the shortest round trip of this baseTime and the one before; 0: none yet
	young  time.Duration // the shortest of this baseTime alone
	since  time.Time     // when this baseTime began
	mark   uint64        // position up to which pings tell of the window before
	slow   bool          // the window was too large once: it grows by steps, not by doubling
	full   bool          // something waited for the window since it was adjusted
}

// A ping is a fence on its way.
type ping struct {
	position uint64
	at       time.Time
}

// flight is how much is on the way.
func (f *flow) flight() uint64 { return f.sent - f.acked }

// congested says that nothing more should be sent before the next pong.
func (f *flow) congested() bool {
	if f.next-f.oldest >= maxPings || f.next != f.oldest && f.flight() > f.window {
		f.full = true
		return true
	}
	return false
}

// ping notes that size bytes were sent with a ping behind them, and gives the ping's number.
func (f *flow) ping(size uint64, now time.Time) uint32 {
	f.sent += size
	n := f.next
	f.pings[n%maxPings] = ping{f.sent, now}
	f.next++
	return n
}

// pong takes in that ping n has come back. Viewers answer in order, so those before it are answered too. Any number may come.
func (f *flow) pong(n uint32, now time.Time) {
	if n-f.oldest >= f.next-f.oldest {
		return
	}
	p := f.pings[n%maxPings]
	f.oldest, f.acked = n+1, p.position
	trip := max(now.Sub(p.at), 50*time.Microsecond)
	f.measure(trip, now)
	if p.position <= f.mark {
		return
	}
	switch extra := trip - f.base; {
	case extra > 2*queueTime:
		size := float64(f.window) * float64(f.base+queueTime) / float64(trip)
		f.adjust(uint64(size))
		f.slow = true
	case extra < queueTime && f.full && !f.slow:
		f.adjust(2 * f.window)
	case extra < queueTime && f.full:
		f.adjust(f.window + max(f.window/8, 8<<10))
	}
}

// measure keeps the shortest round trip.
func (f *flow) measure(trip time.Duration, now time.Time) {
	switch {
	case f.base == 0:
		f.base, f.young, f.since = trip, trip, now
	case now.Sub(f.since) > baseTime:
		f.base, f.young, f.since = min(f.young, trip), trip, now
	}
	f.young, f.base = min(f.young, trip), min(f.base, trip)
}

func (f *flow) adjust(window uint64) {
	f.window = min(max(window, minWindow), maxWindow)
	f.mark, f.full = max(f.sent, f.acked+f.window), false
}

// Payloads of fences. The first one only tells the viewer that there are fences.
var fenceHello = []byte{0}

const fencePing = 1

func appendPing(dst []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, fencePing), n)
}

func parsePing(payload []byte) (n uint32, ok bool) {
	if len(payload) != 5 || payload[0] != fencePing {
		return 0, false
	}
	return binary.BigEndian.Uint32(payload[1:]), true
}

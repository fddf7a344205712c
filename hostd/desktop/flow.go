package desktop

import (
	"encoding/binary"
	"time"

	"github.com/helmline/helmline/bridge/rfb"
)

// Limits of a flow. Sizes are bytes.
const (
	firstWindow = 128 << 10
	minWindow   = 16 << 10
	maxWindow   = 4 << 20
	maxPings    = 128                   // on the way at once
	queueTime   = 25 * time.Millisecond // for what an update may queue behind those before it
	baseTime    = 10 * time.Second      // after which the path's own round trip is measured anew
)

// A flow is what is known of the path to a viewer: of one that answers fences, how long its round trip is, and how much may be on the way so
// that the path is busy but what comes next does not queue for long. Around each update go pings, fences that the viewer sends back. The one
// before it tells how long the update queued, the time between the two how long it was carried.
//
// The window is measured, not guessed: when an update queued for longer than queueTime, the round trip says by how much too much was on the
// way; when it did not, and something had to wait for the window, that grows. Every baseTime the path is let run empty once, so that
// what stands in a queue is never taken for the path's own length.
type flow struct {
	sent   uint64 // position in the stream, of what was written last
	acked  uint64 // position that the last pong answered
	window uint64
	next   uint32 // number of the next ping
	oldest uint32 // number of the oldest ping that is on the way
	pings  [maxPings]ping
	base   time.Duration // round trip of the path when it is empty; 0: not known
	tried  time.Time     // when base was measured on the empty path
	mark   uint64        // position up to which pings tell of the window before
	slow   bool          // the window was too large once: it grows by steps, not by doubling
	full   bool          // something waited for the window since it was adjusted
	begun  time.Time     // when the viewer answered the ping before the update that it is getting
	alone  bool          // the update that is being sent has no ping before it

	plain lastUpdate // of a viewer without fences

	coarser int // levels of JPEG quality below what the viewer asks for
	easy    int // updates with photographs in a row that the path carried quickly
}

// A ping is a fence on its way.
type ping struct {
	position uint64
	at       time.Time
	kind     pingKind
}

type pingKind uint8

const (
	pingBefore pingKind = iota // an update
	pingEmpty                  // an update, and nothing was on the way
	pingAfter                  // an update
	pingPhotos                 // an update with photographs
	pingAlone                  // the same, and nothing was on the way when it began
)

// flight is how much is on the way.
func (f *flow) flight() uint64 { return f.sent - f.acked }

// congested says that nothing more should be sent before the next pong.
func (f *flow) congested(now time.Time) bool {
	flight := f.flight()
	switch {
	case f.next == f.oldest || flight == 0:
		return false
	case f.next-f.oldest > maxPings-2 || flight > f.window:
		f.full = true
		return true
	}
	return now.Sub(f.tried) > baseTime
}

// before gives the number of the ping to send before an update. ok is false when that would tell nothing: the path is empty, and known.
func (f *flow) before(now time.Time) (n uint32, ok bool) {
	empty := f.flight() == 0
	if f.alone = empty && f.base > 0 && now.Sub(f.tried) <= baseTime; f.alone {
		return 0, false
	}
	if empty {
		return f.ping(pingEmpty, now), true
	}
	return f.ping(pingBefore, now), true
}

// after notes that an update of size bytes was sent, and gives the number of the ping to send behind it. began is when the sending did.
func (f *flow) after(size uint64, photos bool, began time.Time) uint32 {
	f.sent += size
	switch {
	case !photos || size < smallPicture:
		return f.ping(pingAfter, began)
	case f.alone:
		return f.ping(pingAlone, began)
	}
	return f.ping(pingPhotos, began)
}

func (f *flow) ping(kind pingKind, now time.Time) uint32 {
	n := f.next
	f.pings[n%maxPings] = ping{f.sent, now, kind}
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
	if f.base == 0 || trip < f.base {
		f.base = trip
	}
	switch p.kind {
	case pingEmpty:
		if now.Sub(f.tried) > baseTime {
			f.base, f.tried = trip, now
		}
		f.begun = now
	case pingBefore:
		f.begun = now
		f.queued(p.position, trip)
	case pingPhotos:
		f.carried(now.Sub(f.begun))
	case pingAlone:
		f.carried(trip - f.base)
	}
}

// queued adjusts the window to how long an update queued.
func (f *flow) queued(position uint64, trip time.Duration) {
	if position <= f.mark {
		return
	}
	switch extra := trip - f.base; {
	case extra > 2*queueTime:
		f.adjust(uint64(float64(f.window) * float64(f.base+queueTime) / float64(trip)))
		f.slow = true
	case extra < queueTime && f.full && !f.slow:
		f.adjust(2 * f.window)
	case extra < queueTime && f.full:
		f.adjust(f.window + max(f.window/8, 8<<10))
	}
}

func (f *flow) adjust(window uint64) {
	f.window = min(max(window, minWindow), maxWindow)
	f.mark, f.full = max(f.sent, f.acked+f.window), false
}

// A lastUpdate is an update that a viewer without fences has not answered by its next request.
type lastUpdate struct {
	at     time.Time // when it began; zero: there is none
	photos bool      // it had photographs, and enough to tell something
}

// plainly notes an update of size bytes to a viewer without fences. Its next request, which comes when it has read that, takes the place of a
// pong.
func (f *flow) plainly(size uint64, photos bool, began time.Time) {
	f.plain = lastUpdate{began, photos && size >= smallPicture}
}

// requested is the request of a viewer without fences.
func (f *flow) requested(now time.Time) {
	last := f.plain
	if f.plain = (lastUpdate{}); last.at.IsZero() {
		return
	}
	trip := max(now.Sub(last.at), 50*time.Microsecond)
	if f.base == 0 || trip < f.base {
		f.base = trip
	}
	if last.photos {
		f.carried(trip - f.base)
	}
}

// Photographs that the path carries for longer than slowPicture are sent coarser the next time, and finer after enoughEasy that it carried
// in less than quickPicture. On a path shorter than localTrip, what is slow is a viewer that decodes, and it would gain little.
const (
	localTrip    = 3 * time.Millisecond
	slowPicture  = 45 * time.Millisecond
	quickPicture = 20 * time.Millisecond
	maxCoarser   = 8       // levels
	enoughEasy   = 30      // updates
	smallPicture = 8 << 10 // bytes: tells nothing of what a film takes
)

// carried adjusts the quality to how long the path has carried an update with photographs.
func (f *flow) carried(took time.Duration) {
	switch {
	case f.base < localTrip:
		f.coarser, f.easy = 0, 0
	case took > 2*slowPicture:
		f.coarser, f.easy = min(f.coarser+2, maxCoarser), 0
	case took > slowPicture:
		f.coarser, f.easy = min(f.coarser+1, maxCoarser), 0
	case took > quickPicture:
		f.easy = 0
	default:
		if f.easy++; f.easy >= enoughEasy {
			f.coarser, f.easy = max(f.coarser-1, 0), 0
		}
	}
}

// Payloads of fences. The first one only tells the viewer that there are fences.
var fenceHello = []byte{0}

const fencePing = 1

// appendPing appends ping n as a message.
func appendPing(dst []byte, n uint32) []byte {
	var payload [5]byte
	payload[0] = fencePing
	binary.BigEndian.PutUint32(payload[1:], n)
	return rfb.AppendFence(dst, rfb.FenceRequest, payload[:])
}

func parsePing(payload []byte) (n uint32, ok bool) {
	if len(payload) != 5 || payload[0] != fencePing {
		return 0, false
	}
	return binary.BigEndian.Uint32(payload[1:]), true
}

package tunnel

import (
	"fmt"
	"time"
)

// Limits bound what the other side of a session may ask for. Zero values take the default.
type Limits struct {
	Streams int // open at once, of those that the other side opened; at most MaxStreams, below zero none
	Opens   int // streams opened each second; twice as many at once
	Pings   int // each second; twice as many at once
}

// The limits of a session.
const (
	DefaultStreams = 64
	MaxStreams     = 256
	defaultOpens   = 50
	defaultPings   = 10

	maxStray    = 1 << 20  // bytes of data for streams that do not exist
	maxControls = 1000     // frames without data each second, but updates that open much of a window; twice as many at once
	maxSSH      = 10       // SSH requests and channels each second beside the one; twice as many at once
	maxCredit   = 64 << 20 // bytes of window that the other side may hand out for one stream
)

func (l Limits) fill() Limits {
	or := func(v *int, def, most int) {
		if *v == 0 {
			*v = def
		}
		*v = min(max(*v, 0), most)
	}
	or(&l.Streams, DefaultStreams, MaxStreams)
	or(&l.Opens, defaultOpens, 1<<20)
	or(&l.Pings, defaultPings, 1<<20)
	return l
}

// A LimitError says which limit the other side broke. It ends the session.
type LimitError struct{ What string }

func (e *LimitError) Error() string { return "the other side of the tunnel broke a limit: " + e.What }

func overLimit(format string, args ...any) error { return &LimitError{fmt.Sprintf(format, args...)} }

// A bucket lets rate things happen each second and burst at once.
type bucket struct {
	rate, burst float64
	have        float64
	at          time.Time
}

func newBucket(rate int, now time.Time) bucket {
	return bucket{rate: float64(rate), burst: 2 * float64(rate), have: 2 * float64(rate), at: now}
}

func (b *bucket) take(now time.Time) bool {
	b.have = min(b.burst, b.have+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.have < 1 {
		return false
	}
	b.have--
	return true
}

// Package tunnel joins a computer to its relay: one SSH connection that the computer dials, one channel in it, one
// yamux session in that, in which either side opens streams. A guard stands before yamux on both sides and bounds what
// the other one may ask for. A computer has a main tunnel and, while it is needed, a second one for bulk, so that files
// never stand in front of keys.
package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/wire"
)

// The SSH user names of a computer. A relay accepts for them ed25519 keys only, by publickey.
const (
	UserTunnel = "host"  // a computer that is enrolled
	UserEnroll = "enrol" // one that brings a token; any key, since the token decides
)

// Names that only computers and relays know.
const (
	channelTunnel = "tunnel@helmline" // channel: a yamux session; its extra data is a Hello
	channelEnroll = "enrol@helmline"  // channel: one enrolment; its extra data is the token
	requestEnd    = "end@helmline"    // global request: why the other side ends the session
)

// Times of a tunnel.
const (
	KeepAlive      = 5 * time.Second  // between pings
	Silence        = 15 * time.Second // without a byte from the other side: it is gone
	HeaderTimeout  = 10 * time.Second // for the header of a stream, from its opening
	linger         = 10 * time.Second // how long a closed stream waits for the other side's end
	writeTimeout   = 15 * time.Second // one frame that takes longer ends the session
	lastWords      = time.Second      // for telling or hearing why a session ends
	channelTimeout = 10 * time.Second // for the tunnel channel after the SSH handshake
)

// A Kind tells apart the tunnels of one computer.
type Kind uint8

// The kinds. A new tunnel takes the place of an older one of its kind; a new Main of another Instance ends the Bulk too.
const (
	Main Kind = 1 // always up: desktops, log-ins, terminals
	Bulk Kind = 2 // up while needed: files, recordings
)

func (k Kind) String() string {
	switch k {
	case Main:
		return "main"
	case Bulk:
		return "bulk"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Limits of a Hello, bytes.
const (
	MaxInstance = 64
	MaxVersion  = 64
	MaxOS       = 128
	maxHello    = 1024
)

// Hello is what a computer says of itself when it opens a tunnel.
type Hello struct {
	Kind     Kind
	Instance string // of this run of hostd; the same on its main and bulk tunnel
	Version  string // of hostd
	OS       string // for people to read
	Streams  uint16 // how many streams the relay may have open at once; 0: DefaultStreams
}

// helloVersion is the version of this protocol. A relay that knows only older ones refuses the channel.
const helloVersion = 1

// AppendTo appends the hello: version, kind, streams, instance, version of hostd, system.
func (h Hello) AppendTo(dst []byte) []byte {
	dst = append(dst, helloVersion, byte(h.Kind), byte(h.Streams>>8), byte(h.Streams))
	dst = wire.AppendString8(dst, cut(h.Instance, MaxInstance))
	dst = wire.AppendString8(dst, cut(h.Version, MaxVersion))
	return wire.AppendString8(dst, cut(h.OS, MaxOS))
}

// ErrVersion is what parseHello gives for a version it does not know.
var ErrVersion = errors.New("the other side speaks a newer version of the tunnel")

// parseHello reads what AppendTo wrote; what a later version adds at the end is skipped.
func parseHello(b []byte) (Hello, error) {
	if len(b) > maxHello {
		return Hello{}, fmt.Errorf("hello of %d bytes, more than %d", len(b), maxHello)
	}
	r := wire.NewReader(bytes.NewReader(b))
	if v := r.U8(); r.Err() == nil && v != helloVersion {
		return Hello{}, ErrVersion
	}
	h := Hello{Kind: Kind(r.U8()), Streams: r.U16()}
	h.Instance = text(r, "instance", MaxInstance)
	h.Version = text(r, "version", MaxVersion)
	h.OS = text(r, "system", MaxOS)
	if r.Err() == nil && h.Kind != Main && h.Kind != Bulk {
		r.Failf("a tunnel of %v; it is 1 (main) or 2 (bulk)", h.Kind)
	}
	if r.Err() == nil && h.Instance == "" {
		r.Failf("the hello names no instance")
	}
	return h, r.Err()
}

// text reads a string that people may come to see: one line of printable characters.
func text(r *wire.Reader, what string, max int) string {
	s := r.String8(what, max)
	if r.Err() == nil && refuse.Printable(s, max) != s {
		r.Failf("%s holds characters that cannot be shown", what)
	}
	return s
}

// cut makes s what text accepts.
func cut(s string, max int) string { return refuse.Printable(s, max) }

package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What one frame holds, so that it and its header fill whole SSH packets of 32 KiB, or half of one.
const (
	sshPacket  = 32 << 10
	smallPiece = sshPacket/2 - frameHeader
	largePiece = 8*sshPacket - frameHeader
)

// A link carries the frames of a session in its SSH channel. Read and Write are for yamux, which opens, closes and
// pings; the data of the streams passes it by: what arrives goes from Read into the flows, and streams write theirs
// with send. So nothing is copied or handed from goroutine to goroutine that need not be, and the guard sees every
// frame of both directions.
type link struct {
	ch    io.ReadWriter // the SSH channel
	conn  io.Closer     // the SSH connection
	sock  *socket       // under it; nil when it was not made by Wrap
	guard *guard
	local net.Addr
	peer  net.Addr
	turn  turn // to write to ch
	pace  pace
	order sync.Mutex // held from the guard's word on a frame to the frame's place in line: see control

	// Owned by Read.
	small    [512]byte // what ch gave beyond the frame that was read
	from, to int       // what of small is still to be read

	heard atomic.Int64 // when the last byte came, in nanoseconds since 1970
	began atomic.Int64 // when the write that is going on began, likewise; 0 when there is none

	last func()        // closes the connection and hears the other side's last words
	down chan struct{} // closed when the link has failed
	mu   sync.Mutex    // guards what follows
	self []byte        // frames for the own yamux
	err  error         // why the link failed
}

func newLink(ch io.ReadWriter, conn io.Closer, g *guard) *link {
	l := &link{ch: ch, conn: conn, guard: g, down: make(chan struct{}), last: func() {}}
	l.heard.Store(g.now().UnixNano())
	return l
}

// fail keeps the first error, which is never nil, and returns it.
func (l *link) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.down)
	}
	return l.err
}

// readFailed is fail for an error of Read. When the connection has ended, the other side's last words say why.
func (l *link) readFailed(err error) error {
	if _, broken := errors.AsType[*LimitError](err); !broken {
		l.last()
	}
	return l.fail(err)
}

// writeFailed is fail for an error of writing. Read most likely fails too, and knows better why.
func (l *link) writeFailed(err error) error {
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-l.down:
	case <-t.C:
	}
	return l.fail(err)
}

// Read reads frames until there is one for yamux. A frame that makes this code panic ends the session.
func (l *link) Read(p []byte) (_ int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = l.fail(panicked(r))
		}
	}()
	for {
		if n := l.own(p); n > 0 {
			return n, nil
		}
		n, err := l.readFrame(p)
		if err != nil {
			return 0, l.readFailed(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// own gives frames that this side sends to its own yamux.
func (l *link) own(p []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := copy(p[:len(p)-len(p)%frameHeader], l.self)
	l.self = l.self[n:]
	return n
}

// readFrame reads one frame and gives the part of it that is yamux's.
func (l *link) readFrame(p []byte) (int, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull((*linkReader)(l), head[:]); err != nil {
		return 0, err
	}
	f := parseFrame(head[:])
	s, pass, err := l.guard.in(f)
	if err != nil {
		return 0, err
	}
	n := f.data()
	if s != nil && n > 0 {
		if err = s.fill((*linkReader)(l), n); s.wasted() {
			l.reset(s.id) // the other side need not go on
		}
	} else if n > 0 {
		_, err = io.CopyN(io.Discard, (*linkReader)(l), int64(n))
	}
	if err != nil {
		return 0, err
	}
	if s != nil && f.flags&flagFIN != 0 {
		s.end()
	}
	if !pass {
		return 0, nil
	}
	if f.kind <= frameUpdate { // yamux sees the flags only
		f.kind, f.length = frameUpdate, 0
	}
	return len(f.appendTo(p[:0])), nil
}

// A linkReader reads the bytes of a link's channel. Short reads go through a small buffer.
type linkReader link

func (l *linkReader) Read(p []byte) (int, error) {
	if l.from == l.to {
		if len(p) >= len(l.small) {
			n, err := l.ch.Read(p)
			(*link)(l).hear(n)
			return n, err
		}
		n, err := l.ch.Read(l.small[:])
		(*link)(l).hear(n)
		if l.from, l.to = 0, n; n == 0 {
			return 0, err
		}
	}
	n := copy(p, l.small[l.from:l.to])
	l.from += n
	return n, nil
}

func (l *link) hear(n int) {
	if n > 0 {
		l.heard.Store(l.guard.now().UnixNano())
	}
}

// silent is how long nothing has come.
func (l *link) silent() time.Duration { return l.guard.now().Sub(time.Unix(0, l.heard.Load())) }

// stuck is for how long the write that is going on has been going on.
func (l *link) stuck() time.Duration {
	began := l.began.Load()
	if began == 0 {
		return 0
	}
	return l.guard.now().Sub(time.Unix(0, began))
}

var errFrame = errors.New("yamux wrote something that is not a frame without data")

// Write sends a frame of yamux's.
func (l *link) Write(p []byte) (int, error) {
	if len(p) != frameHeader || parseFrame(p).data() > 0 {
		return 0, errFrame
	}
	return len(p), l.control(parseFrame(p))
}

// control sends a frame without data, now or, when another goroutine is writing, right after its piece. Frames go out
// in the order in which the guard has seen them: a stream that it opens in the place of one that has ended must not
// reach the other side before that one's end.
func (l *link) control(f frame) error {
	if !l.line(f) {
		return nil
	}
	var b [frameHeader]byte
	if err := l.write(f.appendTo(b[:0]), nil); err != nil {
		return err
	}
	return l.finish()
}

// line puts a frame in its place. It reports whether the turn is the caller's, and the frame still to be sent.
func (l *link) line(f frame) (mine bool) {
	l.order.Lock()
	defer l.order.Unlock()
	return l.guard.out(f) && l.turn.leave(f)
}

// send sends data of a stream as one frame; the caller has the turn and gives it away by finish.
func (l *link) send(stream uint32, data []byte) error {
	var b [frameHeader]byte
	f := frame{kind: frameData, stream: stream, length: uint32(len(data))}
	return l.write(f.appendTo(b[:0]), data)
}

var packets = sync.Pool{New: func() any { return new([sshPacket]byte) }}

// write writes a header and its data as if they were one. Only the first SSH packet is put together; the rest of the
// data is written from where it is.
func (l *link) write(head, data []byte) error {
	buf := packets.Get().(*[sshPacket]byte)
	defer packets.Put(buf)
	n := copy(buf[len(head):], data)
	copy(buf[:], head)
	l.began.Store(l.guard.now().UnixNano())
	defer l.began.Store(0)
	large := n < len(data) && l.sock != nil
	if large {
		l.sock.cork()
	}
	_, err := l.ch.Write(buf[:len(head)+n])
	if err == nil && n < len(data) {
		_, err = l.ch.Write(data[n:])
	}
	if large {
		if e := l.sock.uncork(); err == nil {
			err = e
		}
	}
	if err != nil {
		return l.writeFailed(err)
	}
	return nil
}

// finish sends what was put aside and gives the turn to the next.
func (l *link) finish() error {
	var buf [8 * frameHeader]byte
	for b := l.turn.left(buf[:0]); b != nil; b = l.turn.left(b) {
		if err := l.write(nil, b); err != nil {
			return err // nobody needs the turn any more
		}
	}
	return nil
}

// reset ends a stream at once, on both sides.
func (l *link) reset(stream uint32) {
	f := frame{kind: frameUpdate, flags: flagRST, stream: stream}
	l.mu.Lock()
	l.self = f.appendTo(l.self)
	l.mu.Unlock()
	_ = l.control(f) // fails only with the session
}

// Close closes the SSH connection.
func (l *link) Close() error {
	l.fail(net.ErrClosed)
	return l.conn.Close()
}

// LocalAddr is this end of the connection.
func (l *link) LocalAddr() net.Addr { return l.local }

// RemoteAddr is the other end of the connection.
func (l *link) RemoteAddr() net.Addr { return l.peer }

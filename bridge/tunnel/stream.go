package tunnel

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// A stream is one stream of a session: a net.Conn whose two directions end apart. yamux opened it and closes it; data
// and windows are its flow's.
type stream struct {
	yamux   *yamux.Stream
	flow    *flow
	session *Session
	header  Header
	facts   Facts // from the reply to it

	reading  sync.Mutex // one Read or WriteTo at a time
	readBy   deadline
	writeBy  deadline
	finished atomic.Bool // CloseWrite or Close was called
	writing  sync.Mutex  // one Write or CloseWrite at a time; guards what follows
	turn     chan struct{}
	recent   int // bytes sent since quiet
	quiet    time.Time
	once     sync.Once // Close
	closed   chan struct{}
}

// Facts are those that came with the reply.
func (s *stream) Facts() Facts { return s.facts }

// favour is how much a stream may send in a fifth of a second and still go before those that send more, bytes.
const favour = 64 << 10

func newStream(s *Session, y *yamux.Stream, f *flow) *stream {
	return &stream{
		yamux: y, flow: f, session: s, readBy: newDeadline(), writeBy: newDeadline(),
		turn: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// wait returns data that can be read, or why none will come.
func (st *stream) wait() ([]byte, error) {
	for {
		b, err := st.flow.look()
		if b != nil || err != nil {
			return b, err
		}
		select {
		case <-st.readBy.passed():
			return nil, os.ErrDeadlineExceeded
		default:
		}
		select {
		case <-st.flow.readable:
		case <-st.readBy.passed():
			return nil, os.ErrDeadlineExceeded
		case <-st.closed:
			return nil, net.ErrClosed
		case <-st.session.link.down:
			if b, err := st.flow.look(); b != nil || err != nil {
				return b, err
			}
			return nil, st.session.Err()
		}
	}
}

// took gives n bytes back that were read, and the other side more to send.
func (st *stream) took(n int) error {
	st.flow.took(n)
	if more := st.session.link.guard.ate(st.flow, n); more > 0 {
		return st.session.link.control(frame{kind: frameUpdate, stream: st.flow.id, length: more})
	}
	return nil
}

// Read reads what the other side wrote; io.EOF after its CloseWrite or Close.
func (st *stream) Read(p []byte) (int, error) {
	st.reading.Lock()
	defer st.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	b, err := st.wait()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	_ = st.took(n) // the next Read tells when the session has ended
	return n, nil
}

// WriteTo reads to the end and writes all to w, without a copy in between.
func (st *stream) WriteTo(w io.Writer) (sum int64, err error) {
	st.reading.Lock()
	defer st.reading.Unlock()
	for {
		b, err := st.wait()
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err := w.Write(b)
		_ = st.took(n) // the next wait tells when the session has ended
		if sum += int64(n); err != nil {
			return sum, err
		}
	}
}

// Write sends p in pieces as the path allows, so that other streams get their turn.
func (st *stream) Write(p []byte) (sent int, err error) {
	st.writing.Lock()
	defer st.writing.Unlock()
	for len(p) > sent {
		n, err := st.writePiece(p[sent:])
		if sent += n; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func (st *stream) writePiece(p []byte) (int, error) {
	l, f := st.session.link, st.flow
	if st.finished.Load() {
		return 0, net.ErrClosed
	}
	n, err := st.credit(min(len(p), l.pace.piece()))
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if now.Sub(st.quiet) > time.Second/5 {
		st.quiet, st.recent = now, 0
	}
	if !l.turn.take(st.turn, st.recent < favour, l.down, st.writeBy.passed()) {
		select {
		case <-l.down:
			return 0, st.session.Err()
		default:
			l.guard.spend(f, -n)
			return 0, os.ErrDeadlineExceeded
		}
	}
	start := time.Now()
	if err := l.send(f.id, p[:n]); err != nil {
		return 0, st.session.Err()
	}
	if l.pace.took(n, time.Since(start)) && l.sock != nil {
		l.sock.fast(l.pace.fast())
	}
	st.recent += n
	return n, l.finish()
}

// credit waits until at least a byte may be sent and gives how many, at most n.
func (st *stream) credit(n int) (int, error) {
	for {
		select {
		case <-st.flow.broken:
			return 0, yamux.ErrConnectionReset
		case <-st.session.link.down:
			return 0, st.session.Err()
		case <-st.writeBy.passed():
			return 0, os.ErrDeadlineExceeded
		default:
		}
		if got := st.session.link.guard.spend(st.flow, n); got > 0 {
			return got, nil
		}
		select {
		case <-st.flow.writable:
		case <-st.flow.broken:
		case <-st.session.link.down:
		case <-st.writeBy.passed():
		}
	}
}

// CloseWrite ends this side's direction; the other one goes on.
func (st *stream) CloseWrite() error {
	st.writing.Lock()
	defer st.writing.Unlock()
	if st.finished.Swap(true) {
		return nil
	}
	// yamux can only close both directions. The end is sent in its place, and the guard holds back the second one.
	return st.session.link.control(frame{kind: frameUpdate, flags: flagFIN, stream: st.flow.id})
}

// Close ends both directions. What was written before still arrives. The stream is reset when the other side has sent
// what was not read, goes on sending, or does not end its direction within some seconds.
func (st *stream) Close() error {
	st.shut(false)
	return nil
}

// Abort resets the stream at once: to the other side it is cut off, where Close is an end in good order.
func (st *stream) Abort() { st.shut(true) }

func (st *stream) shut(abort bool) {
	st.once.Do(func() {
		close(st.closed)
		st.finished.Store(true)
		st.writeBy.set(time.Unix(1, 0)) // a Write that waits ends
		l, id := st.session.link, st.flow.id
		if abort && l.guard.find(id) != nil {
			l.reset(id) // before an end in good order can go out
		}
		_ = st.yamux.Close() // always nil
		st.flow.deafen()
		if st.flow.wasted() {
			l.reset(id)
		} else if l.guard.find(id) != nil {
			time.AfterFunc(linger, func() {
				if l.guard.find(id) != nil {
					l.reset(id)
				}
			})
		}
	})
}

// LocalAddr is this end of the tunnel.
func (st *stream) LocalAddr() net.Addr { return st.session.link.local }

// RemoteAddr is the other end of the tunnel.
func (st *stream) RemoteAddr() net.Addr { return st.session.link.peer }

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (st *stream) SetDeadline(t time.Time) error {
	st.readBy.set(t)
	st.writeBy.set(t)
	return nil
}

// SetReadDeadline bounds Read and WriteTo; zero is no bound.
func (st *stream) SetReadDeadline(t time.Time) error {
	st.readBy.set(t)
	return nil
}

// SetWriteDeadline bounds how long Write waits for the other side to read; zero is no bound. A piece that is being
// written goes out whole.
func (st *stream) SetWriteDeadline(t time.Time) error {
	st.writeBy.set(t)
	return nil
}

// A deadline is a channel that is closed when its time has come.
type deadline struct{ *deadlineState }

type deadlineState struct {
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	done  chan struct{}
}

func newDeadline() deadline { return deadline{&deadlineState{done: make(chan struct{})}} }

// passed gives the channel, which is another one after set.
func (d deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // its function is closing it
	}
	d.timer = nil
	over := isClosed(d.done)
	if t.IsZero() || time.Until(t) > 0 {
		if over {
			d.done = make(chan struct{})
		}
		if !t.IsZero() {
			done := d.done
			d.timer = time.AfterFunc(time.Until(t), func() { close(done) })
		}
		return
	}
	if !over {
		close(d.done)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

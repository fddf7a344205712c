package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

// Why a session ended, when it was neither a LimitError nor an EndError nor an error of the network.
var (
	ErrClosed = errors.New("the tunnel is closed")
	ErrStuck  = fmt.Errorf("the other side has taken nothing from the tunnel for %v", writeTimeout)
	ErrSilent = fmt.Errorf("nothing heard through the tunnel for %v", Silence)
)

// A Session is one tunnel. Its methods may be called by any goroutine.
type Session struct {
	conn  ssh.Conn
	link  *link
	mux   *yamux.Session
	hello Hello
	since time.Time
	opens *limiter // streams opened by this side, within what the other side bears
	pings bool     // this side keeps the session alive: the computer
	most  int      // streams this side may have open at once

	work      sync.WaitGroup // goroutines of this session
	accepting sync.Once
	accepted  chan *stream // unbuffered; streams whose header is read

	rtt atomic.Int64 // of the last ping, nanoseconds

	mu    sync.Mutex  // guards what follows
	beats *time.Timer // the next keepalive
	ended bool
}

// A channel is the tunnel's channel in an SSH connection, and all else that the other side may send in that.
type channel struct {
	conn  ssh.Conn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	ssh.Channel
	own <-chan *ssh.Request
}

// newSession starts yamux in a channel. The computer is yamux's client, the relay its server.
func newSession(ch channel, hello Hello, limits Limits, client bool) (*Session, error) {
	conn := ch.conn
	l := newLink(ch, conn, newGuard(limits, client, time.Now))
	if a, ok := conn.LocalAddr().(socketAddr); ok {
		l.sock = a.socket
	}
	l.local, l.peer = conn.LocalAddr(), conn.RemoteAddr()
	cfg := &yamux.Config{
		AcceptBacklog:          MaxStreams,
		ConnectionWriteTimeout: writeTimeout,
		KeepAliveInterval:      KeepAlive,   // not used: the session's own beats notice silence in bulk traffic too
		MaxStreamWindowSize:    firstWindow, // yamux sees no data; the flows' windows are the guard's
		LogOutput:              io.Discard,  // one line for each odd frame would be the peer's to write
	}
	s := &Session{conn: conn, link: l, hello: hello, pings: client, since: time.Now(), accepted: make(chan *stream)}
	s.most, s.opens = DefaultStreams, newLimiter(defaultOpens, time.Now())
	if !client && hello.Streams > 0 {
		s.most = min(int(hello.Streams), MaxStreams)
	}
	policed := make(chan struct{})
	l.last = func() {
		_ = conn.Close()
		<-policed
	}
	var err error
	if client {
		s.mux, err = yamux.Client(l, cfg)
	} else {
		s.mux, err = yamux.Server(l, cfg)
	}
	if err != nil {
		return nil, err
	}
	s.work.Go(func() {
		s.police(ch)
		close(policed)
	})
	s.mu.Lock()
	s.beats = time.AfterFunc(0, s.beat) // at once: the first ping tells how long a round trip is
	s.mu.Unlock()
	return s, nil
}

// Hello is what the computer said of itself.
func (s *Session) Hello() Hello { return s.hello }

// Since is when the tunnel came up.
func (s *Session) Since() time.Time { return s.since }

// RemoteAddr is the other end of the connection.
func (s *Session) RemoteAddr() net.Addr { return s.link.peer }

// RTT is the round trip that the last ping took; 0 before the first. The computer pings all the time, the relay once and
// when it hears nothing.
func (s *Session) RTT() time.Duration { return time.Duration(s.rtt.Load()) }

// Streams is how many streams are open, whoever opened them.
func (s *Session) Streams() int {
	own, peers := s.link.guard.counts()
	return own + peers
}

// Most is how many streams this side may have open at once.
func (s *Session) Most() int { return s.most }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.link.down }

// Err is why the session ended: a *LimitError, an *EndError, ErrSilent, ErrStuck, ErrClosed, or what the network said.
// It is nil while the session lives.
func (s *Session) Err() error {
	select {
	case <-s.link.down:
	default:
		return nil
	}
	switch err := s.link.fail(ErrClosed); {
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the other side closed the tunnel: %w", io.ErrUnexpectedEOF)
	default:
		return err
	}
}

// Close ends the session and its streams, and returns when its goroutines have ended.
func (s *Session) Close() error {
	s.end(ErrClosed)
	s.work.Wait()
	_ = s.conn.Wait() // how the connection ended is known: it was closed
	return nil
}

// end closes the session for a cause; the first one stands.
func (s *Session) end(cause error) {
	_ = s.link.fail(cause)
	s.mu.Lock()
	s.ended = true
	s.beats.Stop()
	s.mu.Unlock()
	_ = s.mux.Close() // always nil
}

// beat sends a ping and ends a session from which nothing has come for too long, or to which nothing can be sent.
func (s *Session) beat() {
	silent := s.link.silent()
	switch {
	case silent >= Silence:
		s.end(ErrSilent)
		return
	case s.link.stuck() >= writeTimeout:
		s.end(ErrStuck)
		return
	}
	s.mu.Lock()
	if !s.ended {
		s.beats = time.AfterFunc(min(KeepAlive, Silence-silent), s.beat)
	}
	s.mu.Unlock()
	if !s.pings && silent < 3*KeepAlive/2 && s.rtt.Load() > 0 {
		return // the other side pings, and is heard
	}
	if d, err := s.mux.Ping(); err == nil {
		s.rtt.Store(int64(d))
		s.link.guard.setRTT(d)
	}
}

// Open opens a stream, sends its header and waits for the reply, all within ctx. A refusal of the other side is
// returned as *refuse.Refusal; too many streams are one too, number 40016.
func (s *Session) Open(ctx context.Context, h Header) (net.Conn, error) {
	if !s.link.guard.reserve(s.most) {
		return nil, refuse.TooMany.Of("the computer")
	}
	if err := s.opens.wait(ctx); err != nil {
		s.link.guard.release()
		return nil, err
	}
	type result struct {
		stream *stream
		err    error
	}
	done := make(chan result)
	s.work.Go(func() {
		var r result
		if err := s.safely(func() { r.stream, r.err = s.open(ctx, h) }); err != nil {
			r = result{err: err}
		}
		select {
		case done <- r:
		case <-ctx.Done():
			if r.stream != nil {
				_ = r.stream.Close()
			}
		}
	})
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return r.stream, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open is Open with a place reserved.
func (s *Session) open(ctx context.Context, h Header) (*stream, error) {
	y, err := s.mux.OpenStream()
	if err != nil {
		s.link.guard.release() // or the stream is open for nobody, and the session at its end
		return nil, s.fault(err)
	}
	st := s.stream(y)
	if st == nil {
		return nil, yamux.ErrConnectionReset
	}
	stop := context.AfterFunc(ctx, func() { _ = st.SetDeadline(time.Unix(1, 0)) })
	_, err = st.Write(h.AppendTo(nil))
	if err == nil {
		st.facts, err = ReadReply(st)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = st.Close()
		return nil, err
	}
	return st, nil
}

// stream joins a stream of yamux to its flow. It gives nil when the other side has reset it already.
func (s *Session) stream(y *yamux.Stream) *stream {
	f := s.link.guard.find(y.StreamID())
	if f == nil {
		_ = y.Close() // always nil
		return nil
	}
	return newStream(s, y, f)
}

// Accept waits for a stream that the other side opens and has sent the header of within HeaderTimeout. The acceptor
// calls WriteReply and owns the stream. After the session's end Accept returns its Err.
func (s *Session) Accept() (net.Conn, Header, error) {
	s.accepting.Do(func() { s.work.Go(s.acceptLoop) })
	select {
	case st := <-s.accepted:
		return st, st.header, nil
	case <-s.Done():
		return nil, Header{}, s.Err()
	}
}

func (s *Session) acceptLoop() {
	for {
		y, err := s.mux.AcceptStream()
		if err != nil {
			s.fault(err)
			return
		}
		if st := s.stream(y); st != nil {
			s.work.Go(func() { _ = s.safely(func() { s.greet(st) }) })
		}
	}
}

// greet reads the header of a stream and hands the stream to Accept. The guard bounds how many run at once.
func (s *Session) greet(st *stream) {
	_ = st.SetReadDeadline(time.Now().Add(HeaderTimeout)) // fails never
	h, err := ReadHeader(st)
	if err != nil {
		_ = st.Close()
		return
	}
	_ = st.SetReadDeadline(time.Time{})
	st.header = h
	select {
	case s.accepted <- st:
	case <-s.Done():
		_ = st.Close()
	}
}

// safely runs what reads the other side's bytes. When they make it panic, the session ends, and no other with it.
func (s *Session) safely(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
			s.end(err)
		}
	}()
	f()
	return nil
}

// panicked is the error of a session that ends by a panic.
func panicked(r any) error {
	return fmt.Errorf("a fault of the tunnel: %v\n%s", r, debug.Stack())
}

// fault gives the error of yamux as the caller should see it. When yamux could not write in time its books are not
// reliable any more, and the session ends.
func (s *Session) fault(err error) error {
	if errors.Is(err, yamux.ErrConnectionWriteTimeout) {
		s.end(ErrStuck)
	}
	if e := s.Err(); e != nil {
		return e
	}
	return err
}

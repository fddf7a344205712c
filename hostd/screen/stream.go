package screen

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// badImplementation is the code of an X error that every client knows.
const badImplementation = 17

// maxReply is the longest reply taken from an X server, bytes: a GetImage of one band is far below.
const maxReply = 64 << 20

// maxHeld is how many bytes of requests are kept to be written together.
const maxHeld = 16 << 10

var errReply = errors.New("the X server sent a reply that is too long")

// A stream is the connection that xgb reads from. It hands events to a function as they come, without xgb: that knows no
// generic event (it would lose its place in the stream), reads the names of events from a map that other connections
// write, and stops reading when 5,000 events wait. Errors that extensions add get a code that xgb has, since it would
// leave the one who waits for the answer waiting.
//
// Requests that go together are written together, between hold and flush: nothing that is answered may be waited for there.
type stream struct {
	net.Conn // nil: xgb does nothing with a connection but what follows
	c        io.ReadWriteCloser
	r        *bufio.Reader

	mu      sync.Mutex // held while writing
	holding int        // calls of hold without their flush
	held    []byte

	event  func(e []byte) // in xgb's reading goroutine: must not wait; e is valid during the call
	closed chan struct{}  // closed at the end of the connection
	once   sync.Once

	bare    bool // take the cookie out of the set-up request, which xgb cannot make without
	setup   bool // the answer to the connection's set-up has been read up to pending
	pending int  // bytes that belong to what is being passed on
}

func newStream(c io.ReadWriteCloser, event func([]byte)) *stream {
	return &stream{c: c, r: bufio.NewReaderSize(c, 16<<10), event: event, closed: make(chan struct{})}
}

// Read passes on replies and errors.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if err != nil {
		s.end()
	}
	return n, err
}

// Write passes on requests.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	if s.bare {
		s.bare = false
		p = append(p[:6:6], 0, 0, 0, 0, 0, 0)
	}
	if s.holding > 0 && len(s.held) < maxHeld {
		s.held = append(s.held, p...)
		return n, nil
	}
	if len(s.held) > 0 {
		s.held = append(s.held, p...)
		p = s.held
		s.held = s.held[:0]
	}
	if _, err := s.c.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

// hold keeps what is written from now on until flush is called as often as hold.
func (s *stream) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding++
}

// flush writes what was kept. An error shows where xgb reads.
func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holding--; s.holding == 0 && len(s.held) > 0 {
		_, _ = s.c.Write(s.held)
		s.held = s.held[:0]
	}
}

func (s *stream) read(p []byte) (int, error) {
	for s.pending == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(p[:min(len(p), s.pending)])
	s.pending -= n
	return n, err
}

// next looks at what comes next, deals with it when it is an event and else says how much of it to pass on.
func (s *stream) next() error {
	if !s.setup { // X protocol, section 8
		head, err := s.r.Peek(8)
		if err != nil {
			return err
		}
		s.setup, s.pending = true, 8+4*int(binary.LittleEndian.Uint16(head[6:]))
		return nil
	}
	head, err := s.r.Peek(32)
	if err != nil {
		return err
	}
	extra := 4 * int64(binary.LittleEndian.Uint32(head[4:]))
	switch head[0] & 0x7f {
	case 0:
		if head[1] > badImplementation {
			head[1] = badImplementation
		}
		s.pending = 32
		return nil
	case 1:
		if extra > maxReply {
			return errReply
		}
		s.pending = 32 + int(extra)
		return nil
	case genericEvent:
		s.event(head)
		s.r.Discard(32)
		_, err = io.CopyN(io.Discard, s.r, extra)
		return err
	}
	s.event(head)
	_, err = s.r.Discard(32)
	return err
}

// Close closes the connection.
func (s *stream) Close() error {
	s.end()
	return s.c.Close()
}

func (s *stream) end() { s.once.Do(func() { close(s.closed) }) }

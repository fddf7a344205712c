package tunnel

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Windows: how much of a stream the other side may send before it is read, bytes.
const (
	maxWindow   = 16 << 20
	windowShare = 16 << 20 // what all windows of a session may grow by together
	quickRead   = 500 * time.Microsecond
)

// A flow is one stream as the guard knows it: what each side may send, and what has come and is not read.
type flow struct {
	id uint32

	// Guarded by the guard's mutex.
	ownFIN, peerFIN bool
	acked           bool
	dropped         bool
	ownMay, peerMay int64     // bytes that this side and the other one may send
	window          int       // what the other side may send at most
	eaten           int       // bytes read since the last update
	updated         time.Time // when that was

	writable chan struct{} // holds one when ownMay has grown
	readable chan struct{} // holds one when in, ended or broken has changed
	broken   chan struct{} // closed by a reset

	mu      sync.Mutex // guards what follows
	in      *chunk     // first of a list, oldest data first
	last    *chunk     // of the list; data is added to it without the mutex, behind what full says
	filling bool       // data is being added to last
	lent    bool       // data of in is in the hands of a reader, from look to took
	ended   bool       // the other side has ended its direction and all of it is in the list
	deaf    bool       // nobody is going to read; what comes is thrown away
	dumped  int        // bytes thrown away that nobody had in hand
	reset   bool
}

// A chunk is received data.
type chunk struct {
	next *chunk
	read int // bytes of data that were read
	full int // bytes of data that are there
	data []byte
}

// Sizes of chunks: one for keys and pointers, one for a frame of the largest piece.
const (
	smallChunk = 2 << 10
	largeChunk = largePiece
)

var smallChunks = sync.Pool{New: func() any { return &chunk{data: make([]byte, smallChunk)} }}
var largeChunks = sync.Pool{New: func() any { return &chunk{data: make([]byte, largeChunk)} }}

func newChunk(size int) *chunk {
	if size <= smallChunk {
		return smallChunks.Get().(*chunk)
	}
	return largeChunks.Get().(*chunk)
}

func (c *chunk) release() {
	c.next, c.read, c.full = nil, 0, 0
	if len(c.data) == smallChunk {
		smallChunks.Put(c)
	} else {
		largeChunks.Put(c)
	}
}

func newFlow(id uint32) *flow {
	return &flow{
		id: id, ownMay: firstWindow, peerMay: firstWindow, window: firstWindow,
		writable: make(chan struct{}, 1), readable: make(chan struct{}, 1), broken: make(chan struct{}),
	}
}

// breakOff ends both directions at once. Data that has come can still be read.
func (s *flow) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reset {
		s.reset = true
		close(s.broken)
		notify(s.readable)
	}
}

// end marks the end of the other side's direction.
func (s *flow) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	notify(s.readable)
}

// fill takes n bytes from src. It is called by the session's reader alone.
func (s *flow) fill(src io.Reader, n int) error {
	for n > 0 {
		to := s.room(n)
		m, err := src.Read(to[:min(n, len(to))])
		s.filled(m, m == n || m == len(to)) // the reader is not woken for each packet of a frame
		if n -= m; err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// room gives where data may be put, until filled is called.
func (s *flow) room(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.full == len(s.last.data) {
		c := newChunk(n)
		if s.last == nil {
			s.in = c
		} else {
			s.last.next = c
		}
		s.last = c
	}
	s.filling = true
	return s.last.data[s.last.full:]
}

func (s *flow) filled(n int, tell bool) {
	s.mu.Lock()
	s.filling = false
	if s.deaf {
		s.dumped += n
	} else {
		s.last.full += n
	}
	s.mu.Unlock()
	if tell {
		notify(s.readable)
	}
}

// look gives data that can be read, or the error that stands behind all of it; neither when it has not come yet. The
// data is good until took is called.
func (s *flow) look() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.in
	switch {
	case c != nil && c.read < c.full:
		s.lent = true
		return c.data[c.read:c.full], nil
	case s.ended:
		return nil, io.EOF
	case s.reset:
		return nil, yamux.ErrConnectionReset
	}
	return nil, nil
}

// took notes that n bytes of what look gave were read.
func (s *flow) took(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.in
	c.read += n
	if s.lent = false; s.deaf {
		s.drop()
		return
	}
	if c.read < c.full || c == s.last && s.filling {
		return
	}
	if s.in = c.next; s.in == nil {
		s.last = nil
	}
	c.release()
}

// deafen throws away what has come and what is still to come, but for what a reader has in its hands until took.
func (s *flow) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf = true; !s.lent {
		s.drop()
	}
}

// drop throws away what is in the list.
func (s *flow) drop() {
	for c := s.in; c != nil && !(c == s.last && s.filling); c = s.in {
		s.dumped += c.full - c.read
		if s.in = c.next; s.in == nil {
			s.last = nil
		}
		c.release()
	}
}

// wasted says whether anything was thrown away.
func (s *flow) wasted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dumped > 0
}

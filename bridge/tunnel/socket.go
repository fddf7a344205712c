package tunnel

import (
	"net"
	"sync"
	"time"
)

// writeBuffer holds a frame of the largest piece and what SSH adds to it.
const writeBuffer = largePiece + sshPacket

// corkTime bounds how long a piece is held back when the rest of it is long in coming.
const corkTime = time.Millisecond

var writeBuffers = sync.Pool{New: func() any { return new([writeBuffer]byte) }}

// readBuffer is how much is read ahead while data comes without end, bytes.
const readBuffer = 4 * sshPacket

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// A socket is a TCP connection under SSH. x/crypto/ssh makes two system calls for each packet of 32 KiB, both ways; a
// link gathers the writes of one piece into one call, and reads are gathered while they come without end. Where nothing
// is gathered it holds no buffer.
type socket struct {
	net.Conn

	// Owned by Read.
	in       *[readBuffer]byte
	from, to int  // what of in is still to be read
	endless  bool // the last read got all that it had room for

	mu     sync.Mutex // guards what follows, and the order of bytes on the wire
	corked bool
	timer  *time.Timer // flushes when SSH waits for the other side amid a piece
	out    *[writeBuffer]byte
	filled int
	lowat  int // TCP_NOTSENT_LOWAT as it is set, bytes
}

// Wrap makes a connection ready to carry SSH for a tunnel: it is tuned as by TuneTCP, and large writes reach it in one
// piece. Both sides pass it to x/crypto/ssh in place of the connection itself.
func Wrap(c net.Conn) net.Conn {
	TuneTCP(c)
	return &socket{Conn: c, lowat: notSentLowat}
}

// A socketAddr leads from an ssh.Conn, which hides its connection, back to the socket.
type socketAddr struct {
	net.Addr
	socket *socket
}

// LocalAddr is this end of the connection.
func (s *socket) LocalAddr() net.Addr { return socketAddr{s.Conn.LocalAddr(), s} }

// Read reads into p what has come. It is called by one goroutine at a time, SSH's reader.
func (s *socket) Read(p []byte) (n int, err error) {
	if s.in == nil && !s.endless {
		n, err = s.Conn.Read(p)
		s.endless = n == len(p)
		return n, err
	}
	if s.in == nil {
		s.in = readBuffers.Get().(*[readBuffer]byte)
		s.to, err = s.Conn.Read(s.in[:])
		s.endless = s.to >= sshPacket
	}
	n = copy(p, s.in[s.from:s.to])
	if s.from += n; s.from == s.to {
		readBuffers.Put(s.in)
		s.in, s.from, s.to = nil, 0, 0
	}
	return n, err
}

// Write writes p, or holds it back between cork and uncork.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filled+len(p) > writeBuffer {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	if !s.corked || len(p) > writeBuffer {
		return s.Conn.Write(p) // nothing is held back
	}
	if s.out == nil {
		s.out = writeBuffers.Get().(*[writeBuffer]byte)
	}
	s.filled += copy(s.out[s.filled:], p)
	return len(p), nil
}

// cork begins to hold back what is written.
func (s *socket) cork() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.corked = true
	if s.timer == nil {
		s.timer = time.AfterFunc(corkTime, s.late)
	} else {
		s.timer.Reset(corkTime)
	}
}

// uncork sends what was held back.
func (s *socket) uncork() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
	s.corked = false
	return s.flush()
}

// late sends what is held back before its time: the rest waits for the other side, which may wait for this.
func (s *socket) late() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.flush() // the next write fails likewise
}

func (s *socket) flush() error {
	if s.out == nil {
		return nil
	}
	_, err := s.Conn.Write(s.out[:s.filled])
	writeBuffers.Put(s.out)
	s.out, s.filled = nil, 0
	return err
}

// fast tells whether the path takes large pieces at once. The kernel then may hold more that is not sent yet, which
// saves wake-ups and delays nothing.
func (s *socket) fast(yes bool) {
	lowat := notSentLowat
	if yes {
		lowat = fastNotSentLowat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lowat != lowat {
		s.lowat = lowat
		setNotSentLowat(s.Conn, lowat)
	}
}

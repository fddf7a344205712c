package rfb

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// Sizes of RA2's messages, bytes. Each is a length of two bytes, that many bytes of ciphertext, and a tag.
const (
	maxMessage  = 65535 // that are read
	sentMessage = 8192  // that are written, as TigerVNC does
	messageMore = 2 + eaxBlock
	atOnce      = 4       // messages in one write
	firstBuffer = 4 << 10 // for reading; it grows if a viewer sends longer messages, which none is known to do
)

// An RA2Conn is a connection on which all is encrypted and authenticated by AES in EAX mode, each direction with a key and a
// counter of its own. The messages that carry it are no boundaries. One goroutine may read while another writes; deadlines, Close and
// addresses are those of the connection below. Nothing says that the other side has ended on purpose: a connection that is cut
// between two messages is io.EOF.
type RA2Conn struct {
	net.Conn
	bare bool // only the security handshake is encrypted, and not a byte is read ahead
	max  int  // bytes of a message that is read

	// Owned by the reader.
	opens    *eax
	opened   [eaxBlock]byte // counts messages
	received []byte
	from, to int    // where in received stands what is not yet opened
	text     []byte // within received: opened and not yet read
	broken   error

	// Owned by the writer.
	seals  *eax
	sealed [eaxBlock]byte // counts messages
	send   []byte
	failed error
}

// newRA2Conn makes one that opens what comes with key up and seals what goes with key down.
func newRA2Conn(conn net.Conn, up, down []byte, max int) (*RA2Conn, error) {
	opens, err := newEAX(up)
	if err != nil {
		return nil, err
	}
	seals, err := newEAX(down)
	return &RA2Conn{Conn: conn, max: max, opens: opens, seals: seals, received: make([]byte, firstBuffer)}, err
}

// Read reads what messages carry. After a deadline it may be called again; after a message that is not right it never gives more.
func (c *RA2Conn) Read(p []byte) (int, error) {
	for len(c.text) == 0 && len(p) > 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.text)
	c.text = c.text[n:]
	return n, nil
}

// next opens the next message, once the text of the last was read.
func (c *RA2Conn) next() error {
	if c.broken != nil {
		return c.broken
	}
	if err := c.fill(2); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(c.received[c.from:]))
	if n > c.max {
		c.broken = fmt.Errorf("a message of %d bytes, more than %d", n, c.max)
		return c.broken
	}
	if err := c.fill(n + messageMore); err != nil {
		return err
	}
	m := c.received[c.from : c.from+n+messageMore]
	c.text, c.broken = c.opens.open(m[2:], &c.opened, m[:2])
	count(&c.opened)
	c.from += len(m)
	return c.broken
}

// fill reads until n bytes stand there.
func (c *RA2Conn) fill(n int) error {
	have := c.to - c.from
	if have >= n {
		return nil
	}
	if have == 0 {
		c.from, c.to = 0, 0
	}
	if c.from+n > len(c.received) {
		b := c.received
		if n > len(b) {
			b = make([]byte, maxMessage+messageMore)
		}
		copy(b, c.received[c.from:c.to])
		c.received, c.from, c.to = b, 0, have
	}
	room := c.received[c.to:]
	if c.bare {
		room = room[:n-have]
	}
	m, err := io.ReadAtLeast(c.Conn, room, n-have)
	c.to += m
	if have > 0 {
		err = inside(err)
	}
	return err
}

// Write sends p in messages. After an error nobody knows how much of a message has gone, so that it stays.
func (c *RA2Conn) Write(p []byte) (n int, err error) {
	for len(p) > 0 && c.failed == nil {
		part := p[:min(len(p), atOnce*sentMessage)]
		b := c.room(len(part))
		for rest := part; len(rest) > 0; {
			m := min(len(rest), sentMessage)
			binary.BigEndian.PutUint16(b, uint16(m))
			c.seals.seal(b[2:m+messageMore], rest[:m], &c.sealed, b[:2])
			count(&c.sealed)
			b, rest = b[m+messageMore:], rest[m:]
		}
		if _, c.failed = c.Conn.Write(c.send); c.failed == nil {
			n, p = n+len(part), p[len(part):]
		}
	}
	return n, c.failed
}

// room makes send as long as the messages for n bytes.
func (c *RA2Conn) room(n int) []byte {
	n += (n + sentMessage - 1) / sentMessage * messageMore
	if n > cap(c.send) {
		c.send = make([]byte, n)
	}
	c.send = c.send[:n]
	return c.send
}

// count adds one to a number that begins with its lowest byte.
func count(n *[eaxBlock]byte) {
	for i := range n {
		if n[i]++; n[i] != 0 {
			return
		}
	}
}

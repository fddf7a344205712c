package rfb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A fakeConn reads from in and keeps what is written.
type fakeConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
	err error // of Write
}

func (c *fakeConn) Read(p []byte) (int, error) { return c.in.Read(p) }
func (c *fakeConn) Write(p []byte) (int, error) {
	if c.err != nil {
		return len(p) / 2, c.err
	}
	return c.out.Write(p)
}

var upKey, downKey = bytes.Repeat([]byte("u"), 32), bytes.Repeat([]byte("d"), 32)

func conn(t testing.TB, under net.Conn, max int) *RA2Conn {
	t.Helper()
	c, err := newRA2Conn(under, upKey, downKey, max)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// messages are what the other side sends, one for each text.
func messages(t testing.TB, texts ...[]byte) []byte {
	t.Helper()
	e, err := newEAX(upKey)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	var counter [eaxBlock]byte
	for _, text := range texts {
		b := make([]byte, len(text)+messageMore)
		binary.BigEndian.PutUint16(b, uint16(len(text)))
		e.seal(b[2:], text, &counter, b[:2])
		count(&counter)
		all = append(all, b...)
	}
	return all
}

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Messages of any length come out as one stream, however they come in.
func TestRA2Read(t *testing.T) {
	var texts [][]byte
	for _, n := range []int{1, 0, 15, 16, 17, 255, 256, 257, firstBuffer, 0, 0, sentMessage - 1, sentMessage, sentMessage + 1, 3, maxMessage, 1, maxMessage - 1, 5} {
		texts = append(texts, random(n))
	}
	sent, want := messages(t, texts...), bytes.Join(texts, nil)
	for _, bare := range []bool{false, true} {
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewReader(sent), "halves": iotest.HalfReader(bytes.NewReader(sent)),
			"bytes": iotest.OneByteReader(bytes.NewReader(sent)), "the end with the data": iotest.DataErrReader(bytes.NewReader(sent)),
		} {
			c := conn(t, &fakeConn{in: in}, maxMessage)
			c.bare = bare
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(want), err)
			}
			if n, err := c.Read(nil); n != 0 || err != nil {
				t.Errorf("%s: nothing was read with %d, %v", name, n, err)
			}
		}
	}
}

// Where only the handshake is encrypted, what follows a message is left alone.
func TestRA2ReadsNothingAhead(t *testing.T) {
	in := strings.NewReader(string(messages(t, []byte("log-in"))) + "\x01")
	c := conn(t, &fakeConn{in: in}, maxLogin)
	c.bare = true
	if _, err := io.ReadFull(c, make([]byte, 6)); err != nil || in.Len() != 1 {
		t.Errorf("%d bytes are left, %v", in.Len(), err)
	}
}

// Every cut, and every bit that is another, is an error; nothing that was not authentic comes out.
func TestRA2ReadRefuses(t *testing.T) {
	texts := [][]byte{random(5), random(0), random(20)}
	sent, want := messages(t, texts...), bytes.Join(texts, nil)
	ends := map[int]bool{0: true, 23: true, 41: true}
	for i := range sent {
		got, err := io.ReadAll(conn(t, &fakeConn{in: bytes.NewReader(sent[:i])}, maxMessage))
		if !bytes.HasPrefix(want, got) || (err == nil) != ends[i] || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %x, %v", i, got, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(sent)
			bad[i] ^= 1 << bit
			c := conn(t, &fakeConn{in: bytes.NewReader(bad)}, maxMessage)
			got, err := io.ReadAll(c)
			if err == nil || !bytes.HasPrefix(want, got) || len(got) == len(want) {
				t.Errorf("bit %d of byte %d: %x, %v", bit, i, got, err)
			}
			if n, again := c.Read(make([]byte, 1)); again == nil || n > 0 {
				t.Errorf("bit %d of byte %d: read on after %v", bit, i, err)
			}
		}
	}
	// Messages left out, repeated, exchanged.
	m := [][]byte{sent[:23], sent[23:41], sent[41:]}
	for _, order := range [][]int{{1, 2}, {0, 2}, {0, 0}, {1, 0, 2}, {0, 1, 2, 2}} {
		var b []byte
		for _, i := range order {
			b = append(b, m[i]...)
		}
		if got, err := io.ReadAll(conn(t, &fakeConn{in: bytes.NewReader(b)}, maxMessage)); !errors.Is(err, errTag) || !bytes.HasPrefix(want, got) {
			t.Errorf("messages %d: %x, %v", order, got, err)
		}
	}
}

// A length above the limit takes no memory and waits for nothing.
func TestRA2ReadLimit(t *testing.T) {
	for _, n := range []int{maxLogin - 1, maxLogin, maxLogin + 1} {
		c := conn(t, &fakeConn{in: bytes.NewReader(messages(t, random(n)))}, maxLogin)
		_, err := io.ReadFull(c, make([]byte, n))
		if (err == nil) != (n <= maxLogin) || err != nil && !strings.Contains(err.Error(), "1025 bytes, more than 1024") {
			t.Errorf("%d bytes: %v", n, err)
		}
		if len(c.received) != firstBuffer {
			t.Errorf("%d bytes: a buffer of %d", n, len(c.received))
		}
	}
}

// A deadline in the midst of a message does not spoil it.
func TestRA2ReadGoesOnAfterDeadline(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c, sent := conn(t, a, maxMessage), messages(t, []byte("hello"))
	got := make([]byte, 5)
	for _, at := range []int{1, 2, len(sent) - 1} {
		part := sent[c.to:at]
		c.SetReadDeadline(time.Time{})
		wrote := make(chan struct{})
		go func() {
			b.Write(part)
			c.SetReadDeadline(time.Now().Add(-time.Second)) // now that Read has taken them
			close(wrote)
		}()
		if _, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		<-wrote
	}
	c.SetReadDeadline(time.Time{})
	go b.Write(sent[len(sent)-1:])
	if n, err := c.Read(got); err != nil || string(got[:n]) != "hello" {
		t.Errorf("%q, %v", got[:n], err)
	}
}

// What is written is read by whoever has the key, in messages of at most 8 KiB, at most four in one write.
func TestRA2Write(t *testing.T) {
	under := &fakeConn{}
	c := conn(t, under, maxMessage)
	reads := conn(t, &fakeConn{in: &under.out}, sentMessage)
	var err error
	if reads.opens, err = newEAX(downKey); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, sentMessage - 1, sentMessage, sentMessage + 1, atOnce*sentMessage - 1, atOnce * sentMessage, atOnce*sentMessage + 1, 300000, 1} {
		text := random(n)
		if m, err := c.Write(text); m != n || err != nil {
			t.Fatalf("%d of %d bytes, %v", m, n, err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(reads, got); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if got := cap(c.send); got > atOnce*(sentMessage+messageMore)+1024 {
		t.Errorf("a buffer of %d bytes", got)
	}
	under.err = os.ErrDeadlineExceeded
	if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
	under.err = nil
	if n, err := c.Write([]byte("x")); n != 0 || err == nil || under.out.Len() > 0 {
		t.Errorf("written on after an error: %d, %v", n, err)
	}
}

func TestCount(t *testing.T) {
	n := [eaxBlock]byte{0: 0xff, 1: 0xff, 2: 7}
	if count(&n); n != [eaxBlock]byte{2: 8} {
		t.Errorf("%x", n)
	}
}

// In its steady state it takes no memory but what the library's counter mode does, half a KiB for a long message.
func TestRA2Allocations(t *testing.T) {
	const runs = 20
	under := &fakeConn{}
	under.out.Grow(1 << 20)
	c := conn(t, under, maxMessage)
	text, buf := random(sentMessage), make([]byte, sentMessage)
	c.Write(text)
	for n, most := range map[int]float64{longText - 1: 0, sentMessage: 1} {
		if got := testing.AllocsPerRun(runs, func() { c.Write(text[:n]); under.out.Reset() }); got > most {
			t.Errorf("%v allocations to write %d bytes", got, n)
		}
		var texts [][]byte
		for range runs + 2 {
			texts = append(texts, text[:n])
		}
		reads := conn(t, &fakeConn{in: bytes.NewReader(messages(t, append([][]byte{random(maxMessage)}, texts...)...))}, maxMessage)
		io.ReadFull(reads, make([]byte, maxMessage)) // makes the buffer grow
		if got := testing.AllocsPerRun(runs, func() { io.ReadFull(reads, buf[:n]) }); got > most {
			t.Errorf("%v allocations to read %d bytes", got, n)
		}
		if !bytes.Equal(buf[:n], text[:n]) {
			t.Error("something else was read")
		}
	}
}

// The reader of messages: what was sealed in pieces of any length comes out whole, and altered bytes never do.
func FuzzRA2Conn(f *testing.F) {
	f.Add([]byte("a log-in"), []byte{3, 0, 200}, uint16(9), byte(1))
	f.Add(random(400), []byte{0, 255, 1}, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, text, pieces []byte, at uint16, change byte) {
		var texts [][]byte
		rest := text
		for _, n := range pieces {
			n := min(int(n)*37, len(rest))
			texts, rest = append(texts, rest[:n]), rest[n:]
		}
		want := text[:len(text)-len(rest)]
		sent := messages(t, texts...)
		altered := int(at) < len(sent) && change != 0
		if altered {
			sent[at] ^= change
		}
		c := conn(t, &fakeConn{in: bytes.NewReader(sent)}, maxMessage)
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(want, got) || !altered && (err != nil || len(got) < len(want)) || altered && err == nil {
			t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
		}
		raw := conn(t, &fakeConn{in: bytes.NewReader(text)}, maxLogin) // and what nobody has sealed
		if got, err := io.ReadAll(raw); len(got) > 0 || err == nil && len(text) > 0 {
			t.Fatalf("%x, %v", got, err)
		}
	})
}

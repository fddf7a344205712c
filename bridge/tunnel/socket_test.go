package tunnel

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// What is read ahead arrives whole and in order, however it is asked for, and no buffer is kept when all of it is read.
func TestSocketReadsAhead(t *testing.T) {
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(i * i >> 7)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(200_000))
			if _, err := c.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := Wrap(c).(*socket)
	var got []byte
	ahead := false
	for {
		p := make([]byte, 1+rand.IntN(2*sshPacket))
		n, err := s.Read(p)
		got = append(got, p[:n]...)
		ahead = ahead || s.in != nil
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived that differ from the %d sent", len(got), len(sent))
	}
	if !ahead {
		t.Error("nothing was read ahead")
	}
	if s.in != nil {
		t.Error("a buffer is kept after the end")
	}
}

package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// ends gives three connections in a row: a client, what Splice joins, a server. Kind names what they are.
func ends(t *testing.T, kind string) (client, a, b, server net.Conn) {
	switch kind {
	case "TCP to TCP":
		client, a = plainTCP(t)
		b, server = plainTCP(t)
	case "TCP to stream", "stream to TCP":
		host, relay := pair(t)
		client, a = plainTCP(t)
		b, server = accepted(t, relay, host)
		if kind == "stream to TCP" {
			return server, b, a, client
		}
	case "stream to stream":
		host, relay := pair(t)
		a, client = accepted(t, relay, host)
		b, server = accepted(t, relay, host)
	case "pipe to stream":
		host, relay := pair(t)
		client, a = net.Pipe()
		b, server = accepted(t, relay, host)
	}
	return client, a, b, server
}

func closeWrite(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
}

// A faulty connection panics where it is told to.
type faulty struct {
	net.Conn
	read, write bool
}

func (f faulty) Read(p []byte) (int, error) {
	if f.read {
		panic("boo")
	}
	return f.Conn.Read(p)
}

func (f faulty) Write(p []byte) (int, error) {
	if f.write {
		panic("boo")
	}
	return f.Conn.Write(p)
}

// A panic of either direction ends the two connections, and comes to whoever has joined them.
func TestSplicePanics(t *testing.T) {
	for name, f := range map[string]faulty{"reading": {read: true}, "writing": {write: true}} {
		t.Run(name, func(t *testing.T) {
			client, a := net.Pipe()
			b, server := net.Pipe()
			f.Conn = a
			go func() { _, _ = server.Write([]byte("answer")) }()
			func() {
				defer func() {
					if r := recover(); !strings.Contains(fmt.Sprint(r), "boo") {
						t.Errorf("recovered %v", r)
					}
				}()
				_, _, _ = Splice(f, b)
			}()
			for _, c := range []net.Conn{client, server} {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Error("a connection is still open")
				}
			}
		})
	}
}

func TestSplice(t *testing.T) {
	for _, kind := range []string{"TCP to TCP", "TCP to stream", "stream to TCP", "stream to stream"} {
		t.Run(kind, func(t *testing.T) {
			client, a, b, server := ends(t, kind)
			done := make(chan error, 1)
			question, answer := bytes.Repeat([]byte("question"), 100_000), bytes.Repeat([]byte("answer"), 100_000)
			go func() {
				to, from, err := Splice(a, b)
				if err == nil && (to != int64(len(question)) || from != int64(len(answer))) {
					err = errors.New("the counts are wrong")
				}
				done <- err
			}()
			go func() {
				for i := 0; i < len(question); i += 800 { // small reads first, large ones as it fills up
					_, _ = client.Write(question[i : i+800])
				}
				closeWrite(t, client)
			}()
			if got, err := io.ReadAll(server); err != nil || !bytes.Equal(got, question) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			// The other direction outlives the first.
			go func() {
				_, _ = server.Write(answer)
				closeWrite(t, server)
			}()
			if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for _, c := range []net.Conn{a, b} {
				if _, err := c.Write([]byte("x")); err == nil {
					t.Error("a connection is open after Splice")
				}
			}
		})
	}
}

func TestSpliceEndsWhenOneSideBreaks(t *testing.T) {
	for _, kind := range []string{"TCP to stream", "stream to TCP", "pipe to stream"} {
		t.Run(kind, func(t *testing.T) {
			client, a, b, server := ends(t, kind)
			done := make(chan struct{})
			go func() {
				_, _, _ = Splice(a, b)
				close(done)
			}()
			if _, err := client.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			go func() { // a server that sends without end
				for {
					if _, err := server.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			}()
			_, _ = io.ReadFull(client, make([]byte, 1000))
			if c, ok := client.(*net.TCPConn); ok {
				_ = c.SetLinger(0) // a reset
			}
			_ = client.Close()
			<-done
		})
	}
}

func TestSpliceWithoutHalfClose(t *testing.T) {
	client, a, b, server := ends(t, "pipe to stream")
	done := make(chan error, 1)
	go func() {
		_, _, err := Splice(a, b)
		done <- err
	}()
	closeWrite(t, server) // the pipe cannot pass it on, so all ends
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Fatal("the pipe is open")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// A socket may hold back what SSH waits to be answered.
func TestCorkedSocket(t *testing.T) {
	a, b := plainTCP(t)
	s := Wrap(a).(*socket)
	read := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(b, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	write := func(p string) {
		t.Helper()
		if n, err := s.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("plain ")
	read("plain ")
	s.cork()
	write("held ")
	write("back ")
	read("held back ") // by the timer
	write("again ")
	if err := s.uncork(); err != nil {
		t.Fatal(err)
	}
	read("again ")
	s.cork()
	large := string(make([]byte, writeBuffer+1))
	go func() {
		write("x")
		write(large[:writeBuffer-1])
		write("y")
		write(large)
		_ = s.uncork()
	}()
	read("x" + large[:writeBuffer-1] + "y" + large)
	s.fast(true)
	s.fast(false)
	_ = b.Close()
	_ = s.SetWriteDeadline(time.Now().Add(-time.Second))
	s.cork()
	write("lost")
	if err := s.uncork(); err == nil {
		t.Fatal("a write that failed was not told")
	}
}

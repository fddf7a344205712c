package tunnel

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in a bubble of testing/synctest, in a process of its own: yamux keeps timers in a pool for the
// whole process, and no timer may leave its bubble.
func bubble(t *testing.T, test func(*testing.T)) {
	const name = "TUNNEL_TEST_BUBBLE"
	if os.Getenv(name) == t.Name() {
		synctest.Test(t, test)
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=5m")
	c.Env = append(os.Environ(), name+"="+t.Name())
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A testRelay is the SSH server of a relay.
type testRelay struct {
	key    ssh.Signer
	config *ssh.ServerConfig
}

func newTestRelay(t testing.TB) *testRelay {
	r := &testRelay{key: newKey(t)}
	r.config = &ssh.ServerConfig{
		Config: Algorithms(),
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return KeyPermissions(key), nil
		},
	}
	r.config.AddHostKey(r.key)
	return r
}

func (r *testRelay) fingerprint() string { return ssh.FingerprintSHA256(r.key.PublicKey()) }

// dialer dials into one given connection.
func (r *testRelay) dialer(t testing.TB, c net.Conn) *Dialer {
	return &Dialer{
		Addr: "relay.example:2222", Key: newKey(t), RelayKey: r.fingerprint(), Hello: Hello{Kind: Main, Instance: "one"},
		Connect: func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
}

// serve takes one tunnel from c.
func (r *testRelay) serve(c net.Conn, limits Limits) (*Session, error) {
	conn, chans, reqs, err := ssh.NewServerConn(c, r.config)
	if err != nil {
		return nil, err
	}
	return ServeTunnelWith(limits, conn, chans, reqs)
}

// sessions joins a computer and a relay, each with its limits on the other.
func sessions(t testing.TB, a, b net.Conn, host, relay Limits) (*Session, *Session) {
	t.Helper()
	r := newTestRelay(t)
	var other *Session
	var otherErr error
	var work sync.WaitGroup
	work.Go(func() { other, otherErr = r.serve(b, relay) })
	d := r.dialer(t, a)
	d.Limits = host
	s, err := d.Dial(t.Context())
	work.Wait()
	if err != nil || otherErr != nil {
		t.Fatal(err, otherErr)
	}
	t.Cleanup(func() {
		_ = s.Close()
		_ = other.Close()
	})
	return s, other
}

// pair is sessions over a pipe.
func pair(t testing.TB) (host, relay *Session) {
	a, b := bufferedPipe()
	return sessions(t, a, b, Limits{}, Limits{})
}

// tcp is two ends of a connection, as Wrap makes them.
func tcp(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	a, b := plainTCP(t)
	return Wrap(a), Wrap(b)
}

func plainTCP(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBoth(a, b) })
	return a, b
}

// bufferedPipe is net.Pipe with room for what is written: SSH writes from both sides at once.
func bufferedPipe() (net.Conn, net.Conn) {
	a, b := net.Pipe()
	c, d := net.Pipe()
	go forward(b, c)
	go forward(c, b)
	return a, d
}

func forward(dst, src net.Conn) {
	var mu sync.Mutex
	more := sync.NewCond(&mu)
	var queue bytes.Buffer
	ended := false
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := src.Read(b)
			mu.Lock()
			queue.Write(b[:n])
			ended = err != nil
			more.Signal()
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		mu.Lock()
		for queue.Len() == 0 && !ended {
			more.Wait()
		}
		n, err := queue.Read(b)
		mu.Unlock()
		if err != nil {
			_ = dst.Close()
			return
		}
		_, _ = dst.Write(b[:n]) // lost when nobody reads any more, which the other direction may tell first
	}
}

// echo accepts streams and gives back what comes in them.
func echo(s *Session) {
	for {
		c, _, err := s.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if WriteReply(c, nil) == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

// open opens a stream that the other side accepts.
func open(t testing.TB, s *Session) net.Conn {
	t.Helper()
	c, err := s.Open(t.Context(), Header{Purpose: RFB})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// accepted opens a stream at one side and accepts it at the other.
func accepted(t testing.TB, from, to *Session) (a, b net.Conn) {
	t.Helper()
	done := make(chan net.Conn, 1)
	go func() {
		c, _, err := to.Accept()
		if err == nil {
			err = WriteReply(c, nil)
		}
		if err != nil {
			t.Error(err)
		}
		done <- c
	}()
	return open(t, from), <-done
}

func TestStreamsBothWays(t *testing.T) {
	host, relay := pair(t)
	for name, side := range map[string][2]*Session{"relay opens": {relay, host}, "computer opens": {host, relay}} {
		t.Run(name, func(t *testing.T) {
			want := Header{Purpose: RFB, Role: RoleWatch, Minor: 8, Session: "s1", Account: "alice@example.com", Viewer: "192.0.2.1:999", Code: "23456789"}
			go func() {
				c, h, err := side[1].Accept()
				if err != nil || h != want {
					t.Errorf("accepted %v, %v", h, err)
					return
				}
				_ = WriteReply(c, nil)
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
			c, err := side[0].Open(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			out := bytes.Repeat([]byte("helmline"), 1<<17)
			go func() {
				_, _ = c.Write(out)
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
			}()
			in, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(in, out) {
				t.Fatalf("%d bytes came back, %v", len(in), err)
			}
		})
	}
}

func TestManyStreamsAtOnce(t *testing.T) {
	a, b := tcp(t)
	host, relay := sessions(t, a, b, Limits{}, Limits{})
	go echo(host)
	var work sync.WaitGroup
	for i := range 32 {
		work.Go(func() {
			c := open(t, relay)
			defer c.Close()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			out := crc32.NewIEEE()
			go func() {
				for range 10 {
					piece := bytes.Repeat([]byte{byte(i), byte(random.Uint32()), 3}, random.IntN(20_000))
					out.Write(piece)
					if _, err := c.Write(piece); err != nil {
						t.Error(err)
						return
					}
				}
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
			}()
			in := crc32.NewIEEE()
			if _, err := io.Copy(in, c); err != nil {
				t.Error(err)
			}
			if in.Sum32() != out.Sum32() {
				t.Errorf("stream %d came back changed", i)
			}
		})
	}
	work.Wait()
}

func TestRefusal(t *testing.T) {
	host, relay := pair(t)
	go func() {
		c, _, err := host.Accept()
		if err == nil {
			_ = WriteReply(c, refuse.Held.Of("bob@example.com", "10:04"))
			_ = c.Close()
		}
	}()
	_, err := relay.Open(t.Context(), Header{Purpose: RFB})
	if !refuse.Held.Is(err) {
		t.Fatal(err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) { bubble(t, testOpenEndsWithItsContext) }

func testOpenEndsWithItsContext(t *testing.T) {
	_, relay := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := relay.Open(ctx, Header{Purpose: RFB}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestStreamsThatAreOpenAtOnce(t *testing.T) { bubble(t, testStreamsThatAreOpenAtOnce) }

func testStreamsThatAreOpenAtOnce(t *testing.T) {
	a, b := bufferedPipe()
	host, relay := sessions(t, a, b, Limits{Streams: 3}, Limits{})
	go echo(host)
	var last net.Conn
	for i := range 4 {
		c, err := relay.Open(t.Context(), Header{Purpose: RFB})
		switch {
		case i < 3 && err != nil:
			t.Fatal(err)
		case i == 3 && !refuse.TooMany.Is(err):
			t.Fatalf("the fourth stream: %v", err)
		}
		if err == nil {
			last = c
		}
	}
	if n := relay.Streams(); n != 3 {
		t.Fatalf("%d streams", n)
	}
	_ = last.Close()
	_, _ = io.ReadAll(last) // the echo has ended its half
	synctest.Wait()
	if !(relay.Streams() == 2) {
		t.Fatal("it never came that the stream is gone")
	}
	open(t, relay)
	if err := relay.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenedAllAtOnce(t *testing.T) { bubble(t, testOpenedAllAtOnce) }

// More streams than the other side bears, opened by as many goroutines: those too many are refused, and the session
// lives.
func testOpenedAllAtOnce(t *testing.T) {
	host, relay := pair(t)
	go echo(host)
	const more = 21
	errs := make(chan error)
	for range DefaultStreams + more {
		go func() {
			_, err := relay.Open(t.Context(), Header{Purpose: RFB})
			errs <- err
		}()
	}
	refused := 0
	for range DefaultStreams + more {
		switch err := <-errs; {
		case refuse.TooMany.Is(err):
			refused++
		case err != nil:
			t.Error(err)
		}
	}
	synctest.Wait()
	if refused != more || relay.Streams() != DefaultStreams || host.Err() != nil {
		t.Fatalf("%d refused, %d open, %v", refused, relay.Streams(), host.Err())
	}
}

func TestPlacesOfStreamsAreGivenBack(t *testing.T) { bubble(t, testPlacesOfStreamsAreGivenBack) }

// At the limit all the time: each stream that ends makes room for one, and the other side never sees one too many.
func testPlacesOfStreamsAreGivenBack(t *testing.T) {
	a, b := bufferedPipe()
	host, relay := sessions(t, a, b, Limits{Streams: 4}, Limits{})
	go echo(host)
	over, stop := context.WithCancel(t.Context())
	stop()
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 100 {
				c, err := relay.Open(t.Context(), Header{Purpose: RFB})
				if refuse.TooMany.Is(err) {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.Close()
				if _, err := relay.Open(over, Header{Purpose: RFB}); err == nil {
					t.Error("opened when it was over already")
				}
			}
		})
	}
	work.Wait()
	time.Sleep(linger)
	synctest.Wait()
	if host.Err() != nil || relay.Streams() != 0 || relay.link.guard.reserved != 0 {
		t.Fatalf("%v; %d open, %d reserved", host.Err(), relay.Streams(), relay.link.guard.reserved)
	}
}

func TestDirectionsEndApart(t *testing.T) { bubble(t, testDirectionsEndApart) }

func testDirectionsEndApart(t *testing.T) {
	host, relay := pair(t)
	a, b := accepted(t, relay, host)
	if _, err := a.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	_ = a.(*stream).CloseWrite()
	if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("a write after the end: %v", err)
	}
	if _, err := b.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	_ = a.Close()
	synctest.Wait()
	if !(relay.Streams()+host.Streams() == 0) {
		t.Fatal("it never came that both sides forget the stream")
	}
	a, _ = accepted(t, relay, host) // and the session lives
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAClosedStreamIsSentIsThrownAway(t *testing.T) {
	bubble(t, testWhatAClosedStreamIsSentIsThrownAway)
}

func testWhatAClosedStreamIsSentIsThrownAway(t *testing.T) {
	host, relay := pair(t)
	a, b := accepted(t, relay, host)
	other, _ := accepted(t, relay, host)
	_ = a.Close()
	piece := make([]byte, 64<<10)
	var err error
	for range 64 { // much more than a window: the relay resets the stream
		if _, err = b.Write(piece); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("4 MiB went into a closed stream")
	}
	synctest.Wait()
	if !(relay.Streams() == 1 && host.Streams() == 1) {
		t.Fatal("it never came that both sides forget the stream")
	}
	if _, err := other.Write(piece); err != nil {
		t.Fatal(err)
	}
}

func TestSlowReaderHoldsOneWindow(t *testing.T) { bubble(t, testSlowReaderHoldsOneWindow) }

func testSlowReaderHoldsOneWindow(t *testing.T) {
	host, relay := pair(t)
	slow, b := accepted(t, relay, host)
	quick, c := accepted(t, relay, host)
	_ = b.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := b.Write(make([]byte, 4<<20))
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if n != firstWindow-1 { // the answer to the header was one
		t.Fatalf("%d bytes wait for a reader that does not read", n)
	}
	go func() { _, _ = c.Write([]byte("hello")) }()
	got := make([]byte, 5)
	if _, err := io.ReadFull(quick, got); err != nil {
		t.Fatal(err)
	}
	_ = b.SetWriteDeadline(time.Time{})
	go func() { _, _ = b.Write(make([]byte, 1<<20)) }()
	if _, err := io.ReadFull(slow, make([]byte, n+1<<20)); err != nil {
		t.Fatal(err)
	}
}

func TestReadDeadline(t *testing.T) { bubble(t, testReadDeadline) }

func testReadDeadline(t *testing.T) {
	host, relay := pair(t)
	a, b := accepted(t, relay, host)
	_ = a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatal(err)
	}
	_ = a.SetReadDeadline(time.Time{})
	go func() { _, _ = b.Write([]byte("x")) }()
	if _, err := a.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	_ = a.SetReadDeadline(time.Now())
	if err := <-done; !isTimeout(err) {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// What makes one session panic ends that session and nothing else.
func TestPanicEndsTheSession(t *testing.T) {
	host, relay := pair(t)
	if err := relay.safely(func() { panic("boo") }); err == nil {
		t.Error("no panic is told")
	}
	if err := relay.Err(); err == nil || !strings.Contains(err.Error(), "a fault of the tunnel: boo") {
		t.Errorf("ended with %v", err)
	}
	<-host.Done()

	a, b := net.Pipe()
	defer b.Close()
	l := newLink(faulty{Conn: a, read: true}, a, newGuard(Limits{}, false, time.Now))
	if _, err := l.Read(make([]byte, frameHeader)); err == nil || !strings.Contains(err.Error(), "boo") {
		t.Errorf("read: %v", err)
	}
	if !isClosed(l.down) {
		t.Error("the link lives on")
	}
}

func TestEndOfASession(t *testing.T) {
	for name, c := range map[string]struct {
		end         func(*Session)
		here, there string
	}{
		"closed":     {func(s *Session) { _ = s.Close() }, "the tunnel is closed", "the other side closed the tunnel: unexpected EOF"},
		"replaced":   {func(s *Session) { _ = s.CloseFor(Replaced) }, "another hostd with the same key", "another hostd with the same key"},
		"restarting": {func(s *Session) { _ = s.CloseFor(Restarting) }, "the relay is restarting", "the relay is restarting"},
	} {
		t.Run(name, func(t *testing.T) {
			host, relay := pair(t)
			a, b := accepted(t, relay, host)
			if relay.Err() != nil {
				t.Fatal("an error before the end")
			}
			c.end(relay)
			<-host.Done()
			for _, e := range []struct {
				err  error
				want string
			}{{relay.Err(), c.here}, {host.Err(), c.there}} {
				if e.err == nil || !bytes.Contains([]byte(e.err.Error()), []byte(e.want)) {
					t.Errorf("ended with %v, not %q", e.err, e.want)
				}
			}
			for _, conn := range []net.Conn{a, b} {
				if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("a read after the end: %v", err)
				}
				if _, err := conn.Write(make([]byte, 1)); err == nil {
					t.Error("a write after the end succeeded")
				}
			}
			if _, err := relay.Open(t.Context(), Header{Purpose: RFB}); err == nil {
				t.Error("a stream was opened after the end")
			}
			if _, _, err := host.Accept(); err == nil {
				t.Error("a stream was accepted after the end")
			}
		})
	}
}

func TestHello(t *testing.T) {
	a, b := bufferedPipe()
	r := newTestRelay(t)
	want := Hello{Kind: Bulk, Instance: "i", Version: "1.0", OS: "Debian 12", Streams: 7}
	d := r.dialer(t, a)
	d.Hello, d.Limits.Streams = want, 7
	done := make(chan *Session)
	go func() {
		s, err := r.serve(b, Limits{})
		if err != nil {
			t.Error(err)
		}
		done <- s
	}()
	host, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	relay := <-done
	if relay.Hello() != want || host.Hello() != want {
		t.Fatalf("%v, %v", relay.Hello(), host.Hello())
	}
	if s := fmt.Sprint(relay.Hello().Kind, Main, Kind(9), RoleControl, RoleWatch, RoleTake, Role(9)); s != "bulk main kind 9 control watch take role 9" {
		t.Fatal(s)
	}
	_ = host.Close()
	_ = relay.Close()
}

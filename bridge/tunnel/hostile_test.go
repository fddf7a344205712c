package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// hostile gives the channel of a computer that writes its frames by hand, and the relay's session with it.
func hostile(t testing.TB, limits Limits) (ssh.Channel, *Session) {
	t.Helper()
	a, b := bufferedPipe()
	r := newTestRelay(t)
	var relay *Session
	var relayErr error
	var work sync.WaitGroup
	work.Go(func() { relay, relayErr = r.serve(b, limits) })
	conn, chans, reqs, err := ssh.NewClientConn(a, "", &ssh.ClientConfig{
		Config: Algorithms(), User: UserTunnel, Auth: []ssh.AuthMethod{ssh.PublicKeys(newKey(t))}, HostKeyCallback: pin(r.fingerprint()),
	})
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	go func() {
		for range chans {
		}
	}()
	ch, chReqs, err := conn.OpenChannel(channelTunnel, Hello{Kind: Main, Instance: "evil"}.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(chReqs)
	work.Wait()
	if relayErr != nil {
		t.Fatal(relayErr)
	}
	go func() { _, _ = io.Copy(io.Discard, ch) }()
	t.Cleanup(func() {
		_ = relay.Close()
		_ = conn.Close()
	})
	return ch, relay
}

func frames(f ...frame) []byte {
	var b []byte
	for _, f := range f {
		b = append(f.appendTo(b), make([]byte, f.data())...)
	}
	return b
}

func TestFloods(t *testing.T) {
	var opens bytes.Buffer
	for i := range uint32(400_000) {
		opens.Write(frames(frame{kind: frameUpdate, flags: flagSYN, stream: 2*i + 1}))
	}
	var closed bytes.Buffer
	for i := range uint32(100_000) {
		closed.Write(frames(frame{kind: frameUpdate, flags: flagSYN, stream: 2*i + 1}, frame{kind: frameUpdate, flags: flagRST, stream: 2*i + 1}))
	}
	ping := frames(frame{kind: framePing, flags: flagSYN, length: 1})
	open := frames(frame{kind: frameUpdate, flags: flagSYN, stream: 1})
	for _, c := range []struct {
		name, err   string
		first, then []byte
		times       int
	}{
		{name: "14 MB of pings", then: ping, times: 1_200_000, err: "more than 10 pings a second"},
		{name: "answers to no ping", then: frames(frame{kind: framePing, flags: flagACK}), times: 10, err: "an answer to a ping that was not sent"},
		{name: "400,000 streams", then: opens.Bytes(), times: 1, err: "more than 64 streams at once"},
		{name: "100,000 streams opened and reset", then: closed.Bytes(), times: 1, err: "more than 50 streams opened a second"},
		{name: "data for streams that do not exist", then: frames(frame{stream: 99, length: 64 << 10}), times: 1000, err: "more than 1048576 bytes for streams that do not exist"},
		{name: "4 GB announced for a stream that does not exist", then: frame{stream: 99, length: 1<<32 - 1}.appendTo(nil), times: 1, err: "bytes for streams that do not exist"},
		{name: "updates of no window", first: open, then: frames(frame{kind: frameUpdate, stream: 1, length: 1}), times: 100_000, err: "more than 1000 frames without data a second"},
		{name: "empty data", first: open, then: frames(frame{stream: 1}), times: 100_000, err: "more than 1000 frames without data a second"},
		{name: "a window without end", first: open, then: frames(frame{kind: frameUpdate, stream: 1, length: 1 << 31}), times: 2, err: "a window of more than 67108864 bytes"},
		{name: "more than the window", first: open, then: frames(frame{stream: 1, length: 64 << 10}), times: 5, err: "65536 bytes more than the window of stream 1"},
		{name: "a stream of the relay's", then: frames(frame{kind: frameUpdate, flags: flagSYN, stream: 2}), times: 1, err: "stream 2 opened, which is not the other side's to open"},
		{name: "stream 0", then: frames(frame{kind: frameUpdate, flags: flagSYN}), times: 1, err: "stream 0 opened"},
		{name: "a stream opened twice", first: open, then: open, times: 1, err: "stream 1 opened twice"},
		{name: "a stream ended twice", first: open, then: frames(frame{kind: frameUpdate, flags: flagFIN, stream: 1}), times: 2, err: "stream 1 ended twice"},
		{name: "a stream acknowledged that is not the relay's", first: open, then: frames(frame{kind: frameUpdate, flags: flagACK, stream: 1}), times: 1, err: "stream 1 acknowledged twice"},
		{name: "not yamux", then: []byte("GET / HTTP/1.1\r\n"), times: 1, err: "a frame of version 71"},
		{name: "a type that does not exist", then: frames(frame{kind: 9}), times: 1, err: "type 9"},
		{name: "a go-away that is an error", then: frames(frame{kind: frameGoAway, length: 1}), times: 1, err: "the tunnel is closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch, relay := hostile(t, Limits{})
			before := runtime.NumGoroutine()
			most := 0
			if _, err := ch.Write(c.first); err != nil {
				t.Fatal(err)
			}
			batch := bytes.Repeat(c.then, min(c.times, max(1, 32<<10/len(c.then))))
			for sent := 0; sent < c.times*len(c.then); {
				n, err := ch.Write(batch[:min(len(batch), c.times*len(c.then)-sent)])
				if sent += n; err != nil {
					break
				}
				most = max(most, runtime.NumGoroutine()-before)
			}
			<-relay.Done()
			if err := relay.Err(); !strings.Contains(err.Error(), c.err) {
				t.Errorf("the session ended with %q, not %q", err, c.err)
			}
			if most > 100 {
				t.Errorf("%d goroutines more", most)
			}
		})
	}
}

func TestStreamsOfAComputerAreNotWanted(t *testing.T) {
	ch, relay := hostile(t, Limits{Streams: -1})
	if _, err := ch.Write(frames(frame{kind: frameUpdate, flags: flagSYN, stream: 1})); err != nil {
		t.Fatal(err)
	}
	<-relay.Done()
	if err := relay.Err(); !strings.Contains(err.Error(), "more than 0 streams") {
		t.Fatal(err)
	}
}

// What a computer sends beside the tunnel.
func TestRequestsAndChannels(t *testing.T) {
	flood := func(send func(ssh.Conn) error) func(t *testing.T) {
		return func(t *testing.T) {
			host, relay := pair(t)
			for range 10_000 {
				if send(host.conn) != nil {
					break
				}
			}
			<-relay.Done()
			if err := relay.Err(); !strings.Contains(err.Error(), "more than 10 SSH requests a second") {
				t.Fatal(err)
			}
		}
	}
	t.Run("requests", flood(func(c ssh.Conn) error {
		_, _, err := c.SendRequest("tcpip-forward", false, nil)
		return err
	}))
	t.Run("channels", flood(func(c ssh.Conn) error {
		_, _, err := c.OpenChannel(channelTunnel, nil)
		if no, ok := errors.AsType[*ssh.OpenChannelError](err); ok && no.Reason == ssh.Prohibited {
			return nil
		}
		return err
	}))
	t.Run("a few are refused only", func(t *testing.T) {
		host, relay := pair(t)
		ok, _, err := host.conn.SendRequest("tcpip-forward", true, nil)
		if ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := relay.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHelloThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, kind, there, here string
		extra                   []byte
	}{
		{name: "another channel", kind: "session", there: "only tunnel@helmline", here: `opened a channel "session"`},
		{name: "a later version", kind: channelTunnel, extra: []byte{9}, there: "40006: this relay runs a version", here: "newer version of the tunnel"},
		{name: "no instance", kind: channelTunnel, extra: Hello{Kind: Main}.AppendTo(nil), there: "names no instance", here: "names no instance"},
		{name: "no kind", kind: channelTunnel, extra: Hello{Kind: 3, Instance: "x"}.AppendTo(nil), there: "a tunnel of kind 3", here: "a tunnel of kind 3"},
		{name: "half of it", kind: channelTunnel, extra: Hello{Kind: Main, Instance: "xyz"}.AppendTo(nil)[:5], there: "unexpected EOF", here: "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := bufferedPipe()
			r := newTestRelay(t)
			var relayErr error
			var work sync.WaitGroup
			work.Go(func() { _, relayErr = r.serve(b, Limits{}) })
			conn, _, _, err := ssh.NewClientConn(a, "", &ssh.ClientConfig{
				Config: Algorithms(), User: UserTunnel, Auth: []ssh.AuthMethod{ssh.PublicKeys(newKey(t))}, HostKeyCallback: pin(r.fingerprint()),
			})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = conn.OpenChannel(c.kind, c.extra)
			_ = conn.Close()
			work.Wait()
			if err == nil || !strings.Contains(err.Error(), c.there) {
				t.Errorf("the computer sees %v, not %q", err, c.there)
			}
			if relayErr == nil || !strings.Contains(relayErr.Error(), c.here) {
				t.Errorf("the relay sees %v, not %q", relayErr, c.here)
			}
		})
	}
}

func TestHeaderThatDoesNotCome(t *testing.T) { bubble(t, testHeaderThatDoesNotCome) }

func testHeaderThatDoesNotCome(t *testing.T) {
	ch, relay := hostile(t, Limits{})
	header := Header{Purpose: SSH, Session: "s"}.AppendTo(nil)
	for i, b := range [][]byte{nil, header[:5], {0xff, 0xff}, {0, 1, 9}} {
		id := uint32(2*i + 1)
		b = append(frames(frame{kind: frameUpdate, flags: flagSYN, stream: id}), append(frame{stream: id, length: uint32(len(b))}.appendTo(nil), b...)...)
		if _, err := ch.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	good := append(frames(frame{kind: frameUpdate, flags: flagSYN, stream: 99}), frame{stream: 99, length: uint32(len(header))}.appendTo(nil)...)
	go func() { _, _ = ch.Write(append(good, header...)) }()
	c, h, err := relay.Accept()
	if err != nil || h.Purpose != SSH {
		t.Fatal(h, err)
	}
	_ = c.Close()
	stop := make(chan struct{})
	go func() { // the computer lives all the while
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				_, _ = ch.Write(frames(frame{kind: frameGoAway}))
			}
		}
	}()
	time.Sleep(HeaderTimeout + linger + time.Second)
	close(stop)
	if n := relay.Streams(); n != 0 || relay.Err() != nil {
		t.Fatalf("%d streams are left, %v", n, relay.Err())
	}
}

func TestSilence(t *testing.T) { bubble(t, testSilence) }

func testSilence(t *testing.T) {
	a, b := bufferedPipe()
	cut := &cutConn{Conn: a}
	host, relay := sessions(t, cut, b, Limits{}, Limits{})
	time.Sleep(time.Minute) // pings keep an idle session up
	if host.Err() != nil || relay.Err() != nil {
		t.Fatal(host.Err(), relay.Err())
	}
	cut.on.Lock() // nothing gets through from here on, in either direction, and nobody says so
	start := time.Now()
	<-host.Done()
	<-relay.Done() // by the close of the first, which no cut holds back here, or by itself
	if !errors.Is(host.Err(), ErrSilent) && !errors.Is(relay.Err(), ErrSilent) {
		t.Error(host.Err(), relay.Err())
	}
	if d := time.Since(start); d < Silence-KeepAlive || d > Silence+KeepAlive {
		t.Errorf("silence was noticed after %v", d)
	}
	cut.on.Unlock()
}

// A cutConn loses what is written and hears nothing while it is cut.
type cutConn struct {
	net.Conn
	on sync.RWMutex
}

func (c *cutConn) Write(p []byte) (int, error) {
	if !c.on.TryRLock() {
		return len(p), nil
	}
	defer c.on.RUnlock()
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil {
			return n, err
		}
		if c.on.TryRLock() {
			c.on.RUnlock()
			return n, nil
		}
	}
}

func TestPeerThatTakesNothing(t *testing.T) { bubble(t, testPeerThatTakesNothing) }

// The other side answers pings, as far as they reach it, but never opens its SSH window again.
func testPeerThatTakesNothing(t *testing.T) {
	a, b := bufferedPipe()
	r := newTestRelay(t)
	var relay *Session
	var work sync.WaitGroup
	work.Go(func() { relay, _ = r.serve(b, Limits{}) })
	conn, _, _, err := ssh.NewClientConn(a, "", &ssh.ClientConfig{
		Config: Algorithms(), User: UserTunnel, Auth: []ssh.AuthMethod{ssh.PublicKeys(newKey(t))}, HostKeyCallback: pin(r.fingerprint()),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, _, err := conn.OpenChannel(channelTunnel, Hello{Kind: Main, Instance: "deaf"}.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	work.Wait()
	defer func() { _ = relay.Close() }()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // it speaks, so it is not silent, and lets the relay send without end
		_, _ = ch.Write(frames(frame{kind: frameUpdate, flags: flagSYN, stream: 1}, frame{kind: frameUpdate, stream: 1, length: 32 << 20}))
		h := Header{Purpose: SSH}.AppendTo(nil)
		_, _ = ch.Write(append(frame{stream: 1, length: uint32(len(h))}.appendTo(nil), h...))
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				_, _ = ch.Write(frames(frame{kind: frameGoAway}))
			}
		}
	}()
	c, _, err := relay.Accept()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := c.Write(make([]byte, 8<<20)); !errors.Is(err, ErrStuck) {
		t.Fatal(err)
	}
	if d := time.Since(start); d < writeTimeout || d > writeTimeout+2*KeepAlive {
		t.Errorf("it took %v", d)
	}
}

func TestWrongRelayKey(t *testing.T) {
	a, b := bufferedPipe()
	seen := &seenConn{Conn: b}
	right, wrong := newTestRelay(t), newTestRelay(t)
	var work sync.WaitGroup
	work.Go(func() {
		if _, err := wrong.serve(seen, Limits{}); err == nil {
			t.Error("the relay got a tunnel")
		}
		_ = seen.Close()
	})
	_, err := right.dialer(t, a).Dial(t.Context())
	work.Wait()
	if e, ok := errors.AsType[*KeyError](err); !ok || e.Got != wrong.fingerprint() || e.Want != right.fingerprint() {
		t.Fatal(err)
	}
	for _, secret := range []string{UserTunnel, "ssh-userauth"} {
		if bytes.Contains(seen.bytes(), []byte(secret)) {
			t.Errorf("%q was sent", secret)
		}
	}
}

// A seenConn keeps what it reads.
type seenConn struct {
	net.Conn
	mu  sync.Mutex
	all []byte
}

func (c *seenConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.all = append(c.all, p[:n]...)
	c.mu.Unlock()
	return n, err
}

func (c *seenConn) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.all)
}

func TestDialThatFails(t *testing.T) {
	r := newTestRelay(t)
	r.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, errors.New("unknown key")
	}
	t.Run("unknown key", func(t *testing.T) {
		a, b := bufferedPipe()
		go func() {
			_, _ = r.serve(b, Limits{})
			_ = b.Close()
		}()
		if _, err := r.dialer(t, a).Dial(t.Context()); !errors.Is(err, ErrNotAccepted) {
			t.Fatal(err)
		}
	})
	t.Run("not SSH", func(t *testing.T) {
		a, b := bufferedPipe()
		go func() {
			_, _ = io.WriteString(b, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = b.Close()
		}()
		if _, err := r.dialer(t, a).Dial(t.Context()); err == nil || errors.Is(err, ErrNotAccepted) {
			t.Fatal(err)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		a, b := bufferedPipe()
		defer b.Close()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = io.ReadFull(b, make([]byte, 10))
			cancel()
		}()
		_, err := r.dialer(t, a).Dial(ctx)
		if err == nil || !strings.Contains(err.Error(), "does not answer as an SSH server") {
			t.Fatal(err)
		}
	})
}

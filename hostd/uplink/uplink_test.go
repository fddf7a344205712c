package uplink

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in a bubble of testing/synctest, in a process of its own: yamux keeps timers in a pool for the
// whole process, and no timer may leave its bubble.
func bubble(t *testing.T, test func(*testing.T)) {
	const name = "UPLINK_TEST_BUBBLE"
	if os.Getenv(name) == t.Name() {
		synctest.Test(t, test)
		return
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=1m")
	c.Env = append(os.Environ(), name+"="+t.Name())
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func newKey(t *testing.T) ssh.Signer {
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

// A relay is what a computer dials: nothing while it is down.
type relay struct {
	t        *testing.T
	down     atomic.Bool
	sessions chan *tunnel.Session
	work     sync.WaitGroup

	mu    sync.Mutex // guards what follows
	key   ssh.Signer
	dials []time.Time
}

func newRelay(t *testing.T) *relay {
	return &relay{t: t, key: newKey(t), sessions: make(chan *tunnel.Session, 100)}
}

var errRefused = errors.New("connection refused")

func (r *relay) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	r.mu.Lock()
	r.dials = append(r.dials, time.Now())
	r.mu.Unlock()
	if r.down.Load() {
		return nil, errRefused
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	a, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	b, err := l.Accept()
	if err != nil {
		return nil, err
	}
	r.work.Go(func() { r.serve(b) })
	return a, nil
}

func (r *relay) serve(c net.Conn) {
	config := &ssh.ServerConfig{
		Config: tunnel.Algorithms(),
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return tunnel.KeyPermissions(key), nil
		},
	}
	r.mu.Lock()
	config.AddHostKey(r.key)
	r.mu.Unlock()
	conn, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		_ = c.Close()
		return
	}
	s, err := tunnel.ServeTunnel(conn, chans, reqs)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.sessions <- s
}

// attempts gives when the computer dialled, from the first attempt on.
func (r *relay) attempts() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []time.Duration
	for _, d := range r.dials {
		all = append(all, d.Sub(r.dials[0]))
	}
	return all
}

// A host is a running uplink.
type host struct {
	cancel   context.CancelFunc
	ended    chan error
	statuses chan Status
}

// start runs an uplink to r.
func (r *relay) start(streams int, handle Handler, network func() string) *host {
	ctx, cancel := context.WithCancel(r.t.Context())
	h := &host{cancel, make(chan error, 1), make(chan Status, 10_000)}
	cfg := Config{
		Dialer: tunnel.Dialer{
			Addr: "relay.example:2222", Key: newKey(r.t), RelayKey: ssh.FingerprintSHA256(r.key.PublicKey()), Connect: r.connect,
		},
		Streams: streams,
		Status:  func(s Status) { h.statuses <- s },
		Log:     slog.New(slog.DiscardHandler),
	}
	go func() { h.ended <- run(ctx, cfg, handle, network) }()
	r.t.Cleanup(func() {
		cancel()
		r.work.Wait()
		close(r.sessions)
		for s := range r.sessions {
			_ = s.Close()
		}
	})
	return h
}

func (h *host) stop(t *testing.T) {
	t.Helper()
	h.cancel()
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
}

// until waits for a status.
func (h *host) until(online bool) Status {
	for s := range h.statuses {
		if s.Online == online && (online || s.Err != nil) {
			return s
		}
	}
	return Status{}
}

func noNetwork() string { return "" }

func echo(_ context.Context, stream net.Conn, _ tunnel.Header) {
	defer stream.Close()
	if tunnel.WriteReply(stream, nil) == nil {
		_, _ = io.Copy(stream, stream)
	}
}

func TestStreamsAreServed(t *testing.T) {
	r := newRelay(t)
	h := r.start(2, echo, noNetwork)
	s := <-r.sessions
	if hello := s.Hello(); hello.Kind != tunnel.Main || hello.Instance == "" {
		t.Fatal(hello)
	}
	var open []net.Conn
	for range 2 {
		c, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.RFB})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.RFB}); !refuse.TooMany.Is(err) {
		t.Fatal(err)
	}
	if _, err := open[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open[0], make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h.stop(t) // ends the streams, and returns after the handlers
	if _, err := open[1].Read(make([]byte, 1)); err == nil {
		t.Fatal("a stream lives on")
	}
	_ = s.Close()
}

func TestHandlerEndsWithTheTunnel(t *testing.T) {
	r := newRelay(t)
	over := make(chan error, 1)
	h := r.start(0, func(ctx context.Context, stream net.Conn, hd tunnel.Header) {
		defer stream.Close()
		_ = tunnel.WriteReply(stream, nil)
		<-ctx.Done()
		over <- ctx.Err()
	}, noNetwork)
	s := <-r.sessions
	if _, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.SSH}); err != nil {
		t.Fatal(err)
	}
	_ = s.CloseFor(tunnel.Restarting)
	<-over
	if st := h.until(false); st.Err == nil || !errors.As(st.Err, new(*tunnel.EndError)) {
		t.Fatal(st)
	}
	again := <-r.sessions // at once
	if !h.until(true).Online {
		t.Fatal("offline")
	}
	h.stop(t)
	_ = again.Close()
}

func TestBulk(t *testing.T) {
	r := newRelay(t)
	h := r.start(0, echo, noNetwork)
	first := <-r.sessions
	ask := func(s *tunnel.Session) error {
		c, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.DialBulk})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	for range 3 { // one is enough
		if err := ask(first); err != nil {
			t.Fatal(err)
		}
	}
	bulk := <-r.sessions
	if hello := bulk.Hello(); hello.Kind != tunnel.Bulk || hello.Instance != first.Hello().Instance {
		t.Fatal(hello)
	}
	c, err := bulk.Open(t.Context(), tunnel.Header{Purpose: tunnel.SSH})
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close() // the bulk tunnel does not care
	second := <-r.sessions
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = bulk.Close()
	_ = ask(second) // this one may still find the old tunnel up
	for {
		if err := ask(second); err != nil {
			t.Fatal(err)
		}
		select {
		case bulk = <-r.sessions:
		default:
			continue
		}
		break
	}
	if bulk.Hello().Kind != tunnel.Bulk {
		t.Fatal("not a bulk tunnel")
	}
	h.stop(t)
	_ = bulk.Close()
	_ = second.Close()
}

func TestBulkThatCannotBeDialled(t *testing.T) {
	r := newRelay(t)
	h := r.start(0, echo, noNetwork)
	s := <-r.sessions
	r.down.Store(true)
	if _, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.DialBulk}); !refuse.NotRunning.Is(err) {
		t.Fatal(err)
	}
	r.down.Store(false)
	if _, err := s.Open(t.Context(), tunnel.Header{Purpose: tunnel.DialBulk}); err != nil {
		t.Fatal(err)
	}
	bulk := <-r.sessions
	h.stop(t)
	_ = s.Close()
	_ = bulk.Close()
}

func TestChangedRelayKey(t *testing.T) {
	r := newRelay(t)
	h := r.start(0, echo, noNetwork)
	_ = (<-r.sessions).Close()
	_ = (<-r.sessions).Close()
	r.mu.Lock()
	r.key = newKey(t)
	r.mu.Unlock()
	for len(r.sessions) > 0 { // dialled before the key changed
		_ = (<-r.sessions).Close()
	}
	err := <-h.ended
	if _, ok := errors.AsType[*tunnel.KeyError](err); !ok {
		t.Fatal(err)
	}
	if st := h.until(false); st.Err == nil {
		t.Fatal(st)
	}
}

func TestDialling(t *testing.T) { bubble(t, testDialling) }

// The relay is down for ten minutes.
func testDialling(t *testing.T) {
	r := newRelay(t)
	r.down.Store(true)
	h := r.start(0, echo, noNetwork)
	time.Sleep(10 * time.Minute)
	h.stop(t)
	at := r.attempts()
	early, late := 0, 0
	for i := range len(at) - 1 {
		gap, bound := at[i+1]-at[i], lateWait
		if at[i] < soon {
			bound = soonWait
			early++
		} else {
			late++
		}
		if gap > bound+time.Microsecond {
			t.Errorf("a pause of %v after %v", gap, at[i])
		}
	}
	if early < 30 || early > 200 || late < 15 || late > 100 {
		t.Errorf("%d attempts in the first minute, %d in the nine after it", early, late)
	}
	if at[len(at)-1] < 9*time.Minute {
		t.Errorf("it gave up after %v", at[len(at)-1])
	}
	var last Status
	for s := range h.drain() {
		if s.Online || s.Err != nil && !errors.Is(s.Err, errRefused) {
			t.Fatal(s)
		}
		if last.Err != nil && s.Since != last.Since {
			t.Fatal("the time of going offline moves")
		}
		last = s
	}
}

func (h *host) drain() func(func(Status) bool) {
	close(h.statuses)
	return func(yield func(Status) bool) {
		for s := range h.statuses {
			if !yield(s) {
				return
			}
		}
	}
}

func TestNetworkComesBack(t *testing.T) { bubble(t, testNetworkComesBack) }

func testNetworkComesBack(t *testing.T) {
	r := newRelay(t)
	r.down.Store(true)
	var table atomic.Value
	table.Store("no route")
	h := r.start(0, echo, func() string { return table.Load().(string) })
	time.Sleep(10 * time.Minute)
	before := len(r.attempts())
	for range 20 { // each time it is tried again within two seconds, and not more often than that
		table.Store(time.Now().String())
		time.Sleep(1500 * time.Millisecond)
	}
	if n := len(r.attempts()) - before; n < 15 || n > 200 {
		t.Errorf("%d attempts for 20 changes", n)
	}
	h.stop(t)
}

func TestBackoff(t *testing.T) {
	start := time.Unix(1e9, 0)
	b := newBackoff(start)
	var got []time.Duration
	for range 10 {
		got = append(got, b.next(start, errRefused).Round(time.Millisecond))
	}
	ms := time.Millisecond
	if want := []time.Duration{100 * ms, 150 * ms, 225 * ms, 338 * ms, 506 * ms, 759 * ms, 1139 * ms, 1709 * ms, 2000 * ms, 2000 * ms}; !slices.Equal(got, want) {
		t.Error(got)
	}
	for _, c := range []struct {
		after time.Duration
		want  time.Duration
	}{{soon - 1, 2 * time.Second}, {soon, 2 * time.Second}, {soon + 1, 3 * time.Second}, {soon + 2, 4500 * ms}} {
		if d := b.next(start.Add(c.after), errRefused); d != c.want {
			t.Errorf("%v after the loss: %v, not %v", c.after, d, c.want)
		}
	}
	for range 20 {
		b.next(start.Add(time.Hour), errRefused)
	}
	if d := b.next(start.Add(time.Hour), errRefused); d != lateWait {
		t.Error(d)
	}
	if d := b.next(start.Add(soon-1), errRefused); d != soonWait {
		t.Error(d)
	}
	for _, err := range []error{tunnel.ErrNotAccepted, &tunnel.EndError{Reason: tunnel.Replaced}, &tunnel.EndError{Reason: tunnel.Removed}} {
		if d := newBackoff(start).next(start, err); d != lateWait {
			t.Errorf("%v: %v", err, d)
		}
	}
	if d := newBackoff(start).next(start, &tunnel.EndError{Reason: tunnel.Restarting}); d != firstWait {
		t.Error(d)
	}
}

// A computer that goes says so, does not dial while it is about to go, and is back at once when it is here again.
func TestAway(t *testing.T) {
	r := newRelay(t)
	away := make(chan tunnel.Reason)
	stopped := make(chan tunnel.Reason, 1)
	online := make(chan bool, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Dialer: tunnel.Dialer{Addr: "relay:2222", Key: newKey(t), RelayKey: ssh.FingerprintSHA256(r.key.PublicKey()), Connect: r.connect},
			Status: func(st Status) {
				if st.Online {
					online <- true
				}
			},
			Away: away, Log: slog.New(slog.DiscardHandler),
			Bye: func() tunnel.Reason { return <-stopped },
		}, func(_ context.Context, stream net.Conn, _ tunnel.Header) { stream.Close() })
	}()
	ended := func(why tunnel.Reason) {
		t.Helper()
		s := <-r.sessions
		<-online
		if why == tunnel.Stopped {
			stopped <- why
			cancel()
		} else {
			away <- why
		}
		<-s.Done()
		if end, ok := errors.AsType[*tunnel.EndError](s.Err()); !ok || end.Reason != why {
			t.Errorf("the relay heard %v, not %v", s.Err(), why)
		}
	}
	ended(tunnel.Asleep)
	select {
	case <-r.sessions:
		t.Error("dialled while it is about to sleep")
	case <-time.After(5 * firstWait):
	}
	away <- 0
	ended(tunnel.Rebooting)
	away <- 0
	ended(tunnel.Stopped)
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.work.Wait()
}

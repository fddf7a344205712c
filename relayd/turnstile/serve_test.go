package turnstile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// newDoor serves handle on a free port until the test ends.
func newDoor(t *testing.T, d *Door) (address string, stop context.CancelFunc, done <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.Name = "test"
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Turnstile == nil {
		d.Turnstile = New(Standard())
	}
	d.Counts = NewCounts(prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, l) }()
	t.Cleanup(stop)
	return l.Addr().String(), stop, ended
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// hello reads the byte that the tests' doors send to those who came in.
func hello(t *testing.T, c net.Conn) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return n == 1
}

func TestDoorBoundsStrangers(t *testing.T) {
	sign := make(chan struct{}, 1)
	d := &Door{Turnstile: New(Limits{PerSource: 3, DropFrom: 100, Max: 200})}
	d.Handle = func(_ context.Context, c net.Conn, at *Place) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		select {
		case <-sign:
			at.Leave()
			_, err := c.Write([]byte("y"))
			if err != nil {
				return err
			}
		case <-closed(c):
		}
		<-closed(c)
		return nil
	}
	address, stop, done := newDoor(t, d)
	var in []net.Conn
	for i := 1; i <= 4; i++ {
		c := dial(t, address)
		if got := hello(t, c); got != (i <= 3) {
			t.Errorf("connection %d came in: %v", i, got)
		}
		in = append(in, c)
	}
	if n := testutil.ToFloat64(d.Counts.dropped.WithLabelValues("test", "source")); n != 1 {
		t.Errorf("%v dropped, want 1", n)
	}
	sign <- struct{}{} // one of the three is no stranger any more
	signed := make(chan bool)
	for _, c := range in[:3] {
		go func() {
			if n, _ := c.Read(make([]byte, 1)); n == 1 {
				signed <- true
			}
		}()
	}
	<-signed
	if !hello(t, dial(t, address)) {
		t.Error("no place although one has signed in")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := d.Turnstile.Inside(); n != 0 {
		t.Errorf("%d inside after the end", n)
	}
}

// closed is closed when the peer or the door has closed the connection.
func closed(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c)
	}()
	return done
}

func TestDoorRefusesBlockedSources(t *testing.T) {
	d := &Door{Penalties: NewPenalties()}
	d.Handle = func(_ context.Context, c net.Conn, _ *Place) error {
		_, err := c.Write([]byte("x"))
		return err
	}
	address, _, _ := newDoor(t, d)
	d.Penalties.Add(addr("127.0.0.1"), Broken)
	if hello(t, dial(t, address)) {
		t.Error("a blocked source came in")
	}
	done := d.Penalties.Trust(addr("127.0.0.1"))
	defer done()
	if !hello(t, dial(t, address)) {
		t.Error("a trusted source did not come in")
	}
}

func TestDoorSurvivesAPanic(t *testing.T) {
	var log bytes.Buffer
	d := &Door{Penalties: NewPenalties(), Log: slog.New(slog.NewTextHandler(&locked{w: &log}, nil))}
	d.Handle = func(context.Context, net.Conn, *Place) error { panic("boo") }
	address, stop, done := newDoor(t, d)
	if hello(t, dial(t, address)) {
		t.Error("the panicking connection went on")
	}
	stop()
	<-done
	if d.Penalties.Blocked(addr("127.0.0.1")) == 0 || d.Turnstile.Inside() != 0 || !strings.Contains(log.String(), "err=boo") {
		t.Errorf("blocked for %v, %d inside, log %q", d.Penalties.Blocked(addr("127.0.0.1")), d.Turnstile.Inside(), log.String())
	}
}

func TestStrangersDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	out := &locked{w: &log}
	d := &Door{Log: slog.New(slog.NewTextHandler(out, nil))}
	d.Handle = func(context.Context, net.Conn, *Place) error { return errors.New("no key exchange") }
	address, stop, done := newDoor(t, d)
	for range 300 {
		hello(t, dial(t, address))
	}
	stop()
	<-done
	if n := strings.Count(log.String(), "\n"); n < 50 || n > 200 {
		t.Errorf("300 connections gave %d lines", n)
	}
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

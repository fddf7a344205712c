package part

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tiredListener cannot accept at first.
type tiredListener struct {
	*net.UnixListener
	failures atomic.Int32
}

func (l *tiredListener) AcceptUnix() (*net.UnixConn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: unix.EMFILE}
	}
	return l.UnixListener.AcceptUnix()
}

// socketStage serves the control socket of a stage. Its peers are whom uid says.
func socketStage(t *testing.T, failures int32) (path string, uid *atomic.Uint32) {
	t.Helper()
	s := newStage(t, SeatState{}, nil)
	path = filepath.Join(t.TempDir(), "hostd.sock")
	l, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	tired := &tiredListener{UnixListener: l}
	tired.failures.Store(failures)
	uid = &atomic.Uint32{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.m.serveControl(ctx, tired, func(*net.UnixConn) (uint32, error) { return uid.Load(), nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := recv(t, done); err != nil {
			t.Error(err)
		}
	})
	return path, uid
}

// A socket that cannot accept for want of descriptors accepts again later; hostd goes on.
func TestSocketTired(t *testing.T) {
	path, _ := socketStage(t, 2)
	if r, err := Ask(t.Context(), path, Request{Op: OpStatus}); err != nil || r.Status == nil {
		t.Fatalf("%+v, %v", r, err)
	}
}

// One user's connections, which say nothing, keep neither root nor another user from the socket, nor that user for long.
func TestSocketCrowd(t *testing.T) {
	path, uid := socketStage(t, 0)
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(waitTime))
		_, err := c.Read(make([]byte, 1))
		return err != nil && !isTimeout(err)
	}
	const crowd = 54321
	uid.Store(crowd)
	var held []net.Conn
	for range maxUserAskers {
		held = append(held, dial())
	}
	for range 2 * maxAskers {
		if !ended(dial()) {
			t.Fatal("one connection too many is kept")
		}
	}
	for _, other := range []uint32{0, crowd + 1} {
		uid.Store(other)
		if _, err := Ask(t.Context(), path, Request{Op: OpStatus}); err != nil {
			t.Fatalf("user %d is not answered: %v", other, err)
		}
	}
	for _, c := range held {
		if !ended(c) {
			t.Fatal("a connection that says nothing is kept")
		}
	}
	uid.Store(crowd)
	if _, err := Ask(t.Context(), path, Request{Op: OpStatus}); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func TestAskers(t *testing.T) {
	a := &askers{users: map[uint32]int{}}
	const first = 54321
	for i := range uint32(maxAskers) {
		if !a.enter(first + i/maxUserAskers) {
			t.Fatalf("connection %d", i+1)
		}
	}
	if a.enter(first + maxAskers) {
		t.Fatal("all users together have one too many")
	}
	for i := range maxAskers {
		if !a.enter(0) {
			t.Fatalf("connection %d of root", i+1)
		}
	}
	if a.enter(0) {
		t.Fatal("root has one too many")
	}
	a.leave(first)
	if !a.enter(first+maxAskers) || a.enter(first) {
		t.Fatal("the place that came free")
	}
}

// Who is sent away is told what to do.
func TestAskSentAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostd.sock")
	l, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		json.NewDecoder(c).Decode(&Request{})
		c.Close()
	}()
	if _, err := Ask(t.Context(), path, Request{Op: OpStatus}); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Fatal(err)
	}
}

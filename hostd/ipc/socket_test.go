package ipc

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// streams are two ends of a stream.
func streams(t *testing.T) (a, b *Socket) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := Take(c)
	b, err2 := Take(d)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Far more than the kernel keeps arrives whole, in both directions at once.
func TestSocketCarries(t *testing.T) {
	a, b := streams(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	sum := func(s *Socket) chan [sha256.Size]byte {
		c := make(chan [sha256.Size]byte, 1)
		go func() {
			got, _ := io.ReadAll(io.LimitReader(s, int64(len(sent))))
			c <- sha256.Sum256(got)
		}()
		return c
	}
	atA, atB := sum(a), sum(b)
	written := make(chan error, 1)
	go func() {
		_, err := b.Write(sent)
		written <- err
	}()
	if _, err := a.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(sent); <-atA != want || <-atB != want {
		t.Error("what arrived is not what was sent")
	}
	a.Close()
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the other's end: %d, %v", n, err)
	}
}

// Closing ends both who waits for something and who waits for room.
func TestSocketCloses(t *testing.T) {
	a, _ := streams(t)
	read, written := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := a.Read(make([]byte, 1))
		read <- err
	}()
	go func() {
		_, err := a.Write(make([]byte, 64<<20)) // nobody reads
		written <- err
	}()
	for full := false; !full; { // the kernel takes no more
		_ = a.control(func(fd int) error {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
			full = n == 0 && err == nil
			return nil
		})
	}
	a.Close()
	for _, c := range []chan error{read, written} {
		if err := <-c; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want net.ErrClosed", err)
		}
	}
	if _, err := a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
}

func TestSocketDeadline(t *testing.T) {
	a, b := streams(t)
	a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	a.SetReadDeadline(time.Time{})
	b.Write([]byte{7})
	if p := make([]byte, 1); true {
		if n, err := a.Read(p); n != 1 || err != nil || p[0] != 7 {
			t.Fatal(n, err, p)
		}
	}
}

// Nobody is woken because the other end has read something, nor is one who only keeps a pair.
func TestSocketIsQuiet(t *testing.T) {
	a, b := joined(t)
	buf := make([]byte, MaxMessage)
	for range 3 {
		if err := a.SendPacket([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Receive(buf); err != nil {
			t.Fatal(err)
		}
		raw, err := a.s.set.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(set uintptr) {
			if n, err := unix.EpollWait(int(set), make([]unix.EpollEvent, 4), 0); n != 0 || err != nil {
				t.Errorf("%d events, %v", n, err)
			}
		})
	}
	f, g, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer CloseFiles([]*os.File{f, g})
	for _, f := range []*os.File{f, g} {
		if err := f.SetReadDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
			t.Errorf("the poller has the pair: %v", err)
		}
	}
}

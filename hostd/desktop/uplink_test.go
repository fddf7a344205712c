package desktop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// hostd-net says why it has no tunnel, and looks again when it is told that the enrolment has changed.
func TestReload(t *testing.T) {
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ca, err1 := ipc.FileConn(a)
	cb, err2 := ipc.FileConn(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer cb.Close()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Monitor: ca, StateDir: dir, Version: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	}()
	buf := make([]byte, ipc.MaxMessage)
	next := func(want ipc.Type) []byte {
		t.Helper()
		cb.SetReadDeadline(time.Now().Add(patience))
		p, _, err := cb.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		if got := ipc.Type(p[0]); got != want {
			t.Fatalf("message %d, not %d", got, want)
		}
		return p
	}
	next(ipc.TypeHello)
	if err := cb.Send(ipc.TypeWelcome, ipc.Welcome{Name: "vm", BootID: "1"}); err != nil {
		t.Fatal(err)
	}
	o, err := ipc.Decode[ipc.Online](next(ipc.TypeOnline))
	if err != nil || o.Online || o.Err == "" || o.Relay != "" {
		t.Fatalf("%+v, %v", o, err)
	}
	if err := (Enrolment{Addr: "127.0.0.1:1", RelayKey: "SHA256:x", Name: "desk7"}).Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := cb.Send(ipc.TypeReload, nil); err != nil {
		t.Fatal(err)
	}
	if o, err = ipc.Decode[ipc.Online](next(ipc.TypeOnline)); err != nil || o.Online || o.Relay != "127.0.0.1:1" {
		t.Fatalf("%+v, %v", o, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// When hostd is gone, hostd-net ends with an error, to be started again.
func TestHostdGone(t *testing.T) {
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ipc.FileConn(a)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	err = Run(t.Context(), Config{Monitor: ca, StateDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err == nil {
		t.Fatal("no error")
	}
}

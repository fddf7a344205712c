package part

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"io"
	"log/slog"
	"testing"

	"github.com/helmline/helmline/hostd/ipc"
)

// FuzzFromNet sends the monitor any packet as hostd-net could. It must not crash, and nobody must be logged in or control by it.
func FuzzFromNet(f *testing.F) {
	for _, t := range []ipc.Type{ipc.TypeHello, ipc.TypeOpen, ipc.TypeLogin, ipc.TypeControl, ipc.TypeAnswer, ipc.TypeAtEnd, ipc.TypeClose, ipc.TypeOnline} {
		f.Add(append([]byte{byte(t)}, `{"ID":1,"Session":1,"Role":1,"Method":2,"Secret":"eA==","Take":true,"Force":true,"Asker":1,"Grant":true}`...))
	}
	f.Add(ipc.Input{Session: 1, Epoch: 7<<32 + 1, Kind: ipc.InputKey, A: 97, B: 1}.AppendTo(nil))
	f.Add(ipc.Clip{Session: 1, Epoch: 7<<32 + 1, Text: []byte("text")}.AppendTo(nil, ipc.TypePaste))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 || len(p) > ipc.MaxMessage {
			return
		}
		m, n := idleMonitor(t)
		if m.fromNet(n, p) != nil {
			return
		}
		select {
		case f := <-m.events:
			f()
		default:
		}
		m.wg.Wait()
		select {
		case f := <-m.events:
			f()
		default:
		}
		for _, s := range m.sessions {
			if s.user != nil || s.desktop != nil {
				t.Fatalf("%q logged a session in: %+v", p, s)
			}
		}
		if s := m.lease.State(); s.Holder != "" || s.Session != 0 {
			t.Fatalf("%q has control: %+v", p, s)
		}
		if passed, _ := m.gate.Counts(); passed != 0 {
			t.Fatalf("%q passed as input", p)
		}
	})
}

// idleMonitor is a monitor whose Run does not run, with hostd-net there and one session open.
func idleMonitor(t *testing.T) (*Monitor, *netPart) {
	t.Helper()
	m := New(Config{
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "test", Name: "desk7", Epoch: 7 << 32,
		Seat: &fakeSeat{}, Login: &fakeLogin{}, CodeFirst: func(bool) bool { return true }, MaxSessions: 2, Size: image.Pt(64, 48),
		Clipboard: ipc.Clipboard{ToHost: true, ToViewer: true},
	})
	m.ctx = context.Background()
	ours, theirs, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	conn, err := ipc.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	n := &netPart{link: newLink(conn, nil)}
	t.Cleanup(n.close)
	m.net = n
	if err := m.open(n, ipc.Open{Session: 1, Role: ipc.RoleControl}); err != nil {
		t.Fatal(err)
	}
	return m, n
}

// FuzzFromWorker sends the monitor any packet as a worker could.
func FuzzFromWorker(f *testing.F) {
	for _, t := range []ipc.Type{ipc.TypeReady, ipc.TypeSize, ipc.TypeFailed, ipc.TypeReleased} {
		f.Add(append([]byte{byte(t)}, `{"Display":":0","Size":{"X":64,"Y":48},"Name":"x","Cause":"y"}`...))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 || len(p) > ipc.MaxMessage {
			return
		}
		m, n := idleMonitor(t)
		d := &desktop{}
		w := newWorkerPart(n.conn, nil)
		if m.fromWorker(d, w, p) != nil {
			return
		}
		select {
		case <-m.events: // a size that was accepted is not tried here: it takes memory
		default:
		}
	})
}

// FuzzRequest reads any request of the control socket and has it asked by somebody who is not root.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"end","id":1}`))
	f.Add([]byte(`{"op":"unlock","user":"alice","code":true}`))
	f.Add([]byte(`{"op":"reload","x":1}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := readRequest(bytes.NewReader(in))
		if err != nil {
			return
		}
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if q2, err := readRequest(bytes.NewReader(again)); err != nil || q2 != q {
			t.Fatalf("wrote %s, read back %+v, %v", again, q2, err)
		}
		if q.Op == OpStatus || q.Op == OpEnd {
			return
		}
		if r := (&Monitor{}).serveOp(t.Context(), q, 54321); r.Error == "" {
			t.Fatalf("user 54321 may %+v", q)
		}
	})
}

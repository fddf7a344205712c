package desktop

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// lone is a server without hostd, and a session of it without a viewer.
func lone(t testing.TB) (*server, *session) {
	t.Helper()
	s := &server{painter: form.NewPainter(), stats: &stats{}, sessions: map[uint32]*session{}, welcome: ipc.Welcome{Name: "desk7", OSLogin: true}}
	s.cache = newCache(s.stats)
	se, r := s.newSession("", alice, ipc.RoleControl, false)
	if r != nil {
		t.Fatal(r)
	}
	se.view = newViewer(sink{}, small, s.cache, s.painter)
	return s, se
}

// Keys and pointer beyond the limit: moves are dropped but for the last one, keys and buttons wait.
func TestInputLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, se := lone(t)
		r := &reader{s: se, ctx: t.Context(), limit: rate.NewLimiter(inputRate, inputBurst)}
		for i := range 5 * inputBurst {
			if err := r.Pointer(0, i%600, 1); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.stats.dropped.Load(); n != inputBurst { // without control, what passes the limit is dropped behind it
			t.Errorf("%d moves passed, not %d", n, inputBurst)
		}
		if !r.moves || int(r.move.X) != (5*inputBurst-1)%600 {
			t.Errorf("held back %v at %d", r.moves, r.move.X)
		}
		began := time.Now()
		for i := range 2000 {
			if err := errors.Join(r.Key(true, uint32('a'+i%26), 0), r.Key(false, uint32('a'+i%26), 0)); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < 3900*time.Millisecond || d > 4100*time.Millisecond {
			t.Errorf("4000 events took %v", d)
		}
		if n := s.stats.dropped.Load(); n != inputBurst+4000 {
			t.Errorf("%d events passed", n)
		}
		if err := r.UpdateRequest(true, image.Rect(0, 0, 1, 1)); err != nil || r.moves {
			t.Errorf("the last move is still held back: %v", err)
		}
	})
}

// A key that went down in a page, and whose end never came under its name (Shift was let go first), is let go on the desktop.
func TestKeyHeldSinceThePage(t *testing.T) {
	s, se := lone(t)
	r := &reader{s: se, ctx: t.Context(), limit: rate.NewLimiter(inputRate, inputBurst), held: []uint32{'A'}}
	for i, down := range []bool{true, false} {
		if err := r.Key(down, 'A', 0); err != nil {
			t.Fatal(err)
		}
		if n := s.stats.dropped.Load(); n != uint64(i+1) { // without control, what goes to the desktop is dropped
			t.Errorf("down %v: %d events went to the desktop", down, n)
		}
	}
}

// Pasting puts the client's clipboard into a field, its first line, and nowhere else.
func TestPaste(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	says(t, s, alice, c, "User name")
	control := func(sym uint32) error {
		return errors.Join(c.Key(true, form.KeyControlL), c.Press(sym), c.Key(false, form.KeyControlL))
	}
	err := errors.Join(c.CutText("al\xefce\nsecond line"), control('v'), control('x'), c.Press(form.KeyTab),
		c.CutText("pass word"), c.Key(true, form.KeyShiftL), c.Press(form.KeyInsert), c.Key(false, form.KeyShiftL), c.Press(form.KeyReturn))
	if err != nil {
		t.Fatal(err)
	}
	sees(t, c, 1, 1, canary)
	h.with(func() {
		if l := h.logins[0]; l.User != "alïce" || string(l.Secret) != "pass word" {
			t.Errorf("logged in as %q with %q", l.User, l.Secret)
		}
	})
}

// A held control key that the viewer repeats, with the other one beside it, is up when it is released.
func TestRepeatedModifiers(t *testing.T) {
	tests := []struct {
		name        string
		do          func(key func(down bool, sym uint32))
		ctrl, shift bool
	}{
		{"repeated, then up", func(key func(bool, uint32)) {
			for range 5 {
				key(true, form.KeyControlL)
				key(true, form.KeyShiftR)
			}
			key(false, form.KeyControlL)
			key(false, form.KeyShiftR)
		}, false, false},
		{"repeated, still down", func(key func(bool, uint32)) { key(true, form.KeyControlR); key(true, form.KeyControlR) }, true, false},
		{"one of two up", func(key func(bool, uint32)) {
			key(true, form.KeyShiftL)
			key(true, form.KeyShiftR)
			key(false, form.KeyShiftL)
		}, false, true},
		{"up without down", func(key func(bool, uint32)) { key(false, form.KeyControlL); key(true, form.KeyControlL) }, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, se := lone(t)
			se.showForm()
			se.publish()
			r := &reader{s: se, ctx: t.Context(), limit: rate.NewLimiter(inputRate, inputBurst)}
			key := func(down bool, sym uint32) {
				if err := r.Key(down, sym, 0); err != nil {
					t.Fatal(err)
				}
			}
			tt.do(key)
			for len(se.events) > 0 {
				<-se.events
			}
			key(true, 'x')
			if tt.ctrl {
				if len(se.events) != 0 {
					t.Fatal("a shortcut went into the form")
				}
				return
			}
			select {
			case e := <-se.events:
				if e.kind != eventKey || e.sym != 'x' || e.shift != tt.shift {
					t.Fatalf("%+v", e)
				}
			default:
				t.Fatal("the form's keyboard is dead")
			}
		})
	}
}

// F9 and F10 answer a question only when they go down after it could be read. What was down on the desktop before comes up there.
func TestAnswerKeys(t *testing.T) {
	type step struct {
		after time.Duration // since the question came up
		down  bool
		sym   uint32
	}
	tests := []struct {
		name    string
		before  []step
		steps   []step
		answers []uint32
		desktop []step
	}{
		{"pressed in time", nil, []step{{heedTime, true, keyHandOver}, {heedTime, false, keyHandOver}}, []uint32{keyHandOver}, nil},
		{"too early", nil, []step{{heedTime - 1, true, keyHandOver}, {heedTime, false, keyHandOver}}, nil,
			[]step{{0, true, keyHandOver}, {0, false, keyHandOver}}},
		{"down before, up while it shows", []step{{0, true, keyKeep}}, []step{{heedTime, false, keyKeep}}, nil,
			[]step{{0, true, keyKeep}, {0, false, keyKeep}}},
		{"down before, repeated all the time", []step{{0, true, keyHandOver}},
			[]step{{0, true, keyHandOver}, {2 * heedTime, true, keyHandOver}, {2 * heedTime, false, keyHandOver}}, nil,
			[]step{{0, true, keyHandOver}, {0, true, keyHandOver}, {0, true, keyHandOver}, {0, false, keyHandOver}}},
		{"down before, up, and down again", []step{{0, true, keyHandOver}},
			[]step{{0, false, keyHandOver}, {heedTime, true, keyHandOver}, {heedTime, false, keyHandOver}}, []uint32{keyHandOver},
			[]step{{0, true, keyHandOver}, {0, false, keyHandOver}}},
		{"another key", []step{{0, true, 'a'}}, []step{{0, false, 'a'}, {heedTime, true, 'b'}, {heedTime, false, 'b'}}, nil,
			[]step{{0, true, 'a'}, {0, false, 'a'}, {0, true, 'b'}, {0, false, 'b'}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, se := lone(t)
				ours, theirs, err := ipc.Pair()
				if err != nil {
					t.Fatal(err)
				}
				conn, err1 := ipc.FileConn(ours)
				host, err2 := ipc.FileConn(theirs)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				defer host.Close()
				s.monitor, s.heed = newMonitor(conn), heedTime
				se.state, se.control = shows, true
				se.epoch.Store(1)
				r := &reader{s: se, ctx: t.Context(), limit: rate.NewLimiter(inputRate, inputBurst)}
				key := func(k step) {
					if err := r.Key(k.down, k.sym, 0); err != nil {
						t.Fatal(err)
					}
				}
				for _, k := range tt.before {
					key(k)
				}
				se.news.asks = &ipc.Ask{Session: se.number, Asker: 9, Account: bob, Until: time.Now().Add(askTime)}
				se.look(t.Context())
				se.publish()
				began := time.Now()
				for _, k := range tt.steps {
					time.Sleep(k.after - time.Since(began))
					key(k)
				}
				var answers []uint32
				for len(se.events) > 0 {
					answers = append(answers, (<-se.events).sym)
				}
				if !slices.Equal(answers, tt.answers) {
					t.Errorf("answers %x, not %x", answers, tt.answers)
				}
				if err := conn.Send(ipc.TypeOnline, ipc.Online{}); err != nil { // the end
					t.Fatal(err)
				}
				var desktop []step
				for buf := make([]byte, ipc.MaxMessage); ; {
					p, _, err := host.Receive(buf)
					if err != nil {
						t.Fatal(err)
					}
					in, err := ipc.ParseInput(p)
					if err != nil {
						break
					}
					desktop = append(desktop, step{0, in.B == 1, in.A})
				}
				if !slices.Equal(desktop, tt.desktop) {
					t.Errorf("the desktop got %v, not %v", desktop, tt.desktop)
				}
			})
		})
	}
}

// A key meant for one question does not answer the next, which came in its place at the same moment.
func TestAnswerOfTheQuestionBefore(t *testing.T) {
	_, se := lone(t)
	se.state, se.control = shows, true
	now := time.Now()
	se.ask, se.heeds = ipc.Ask{Session: se.number, Asker: 9, Account: bob, Until: now.Add(time.Hour)}, now.Add(time.Hour)
	se.showQuestion(now)
	se.answer(event{kind: eventKey, sym: keyHandOver})
	if se.question == nil {
		t.Fatal("answered")
	}
}

// A client that sends half a message and no more is closed.
func TestHalfMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, se := lone(t)
		a, b := net.Pipe()
		defer b.Close()
		se.conn = a
		se.idle = time.Time{}
		read := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { read <- se.readLoop(ctx) }()
		ended := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			se.run(ctx)
			ended <- time.Now()
		}()
		if _, err := b.Write([]byte{4, 1, 0}); err != nil { // a key's first bytes
			t.Fatal(err)
		}
		if d := (<-ended).Sub(began); d < messageTime || d > messageTime+watchBeat {
			t.Errorf("closed after %v", d)
		}
		a.Close()
		if err := <-read; err == nil {
			t.Error("no error")
		}
	})
}

// One session too many is refused, and each place is free again after its session.
func TestSessionLimit(t *testing.T) {
	s, se := lone(t)
	for i := range maxSessions - 1 {
		if _, r := s.newSession("", fmt.Sprint(i), ipc.RoleWatch, true); r != nil {
			t.Fatalf("session %d: %v", i+2, r)
		}
	}
	if _, r := s.newSession("", "x", ipc.RoleWatch, true); !refuse.TooMany.Is(r) {
		t.Fatal(r)
	}
	s.forget(se)
	if _, r := s.newSession("", "x", ipc.RoleWatch, true); r != nil {
		t.Fatal(r)
	}
}

// What a stream's header does not say, or says wrongly, narrows.
func TestRoles(t *testing.T) {
	for in, want := range map[ipc.Role]ipc.Role{0: ipc.RoleWatch, ipc.RoleControl: ipc.RoleControl, ipc.RoleWatch: ipc.RoleWatch, ipc.RoleTake: ipc.RoleTake, 9: ipc.RoleWatch} {
		s, _ := lone(t)
		if se, _ := s.newSession("", "x", in, false); se.role != want {
			t.Errorf("role %d: %v, not %v", in, se.role, want)
		}
	}
}

// A script is a client's input.
type script struct {
	net.Conn
	io.Reader
}

func (s script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// FuzzInput lets a client without control send anything, to a form and to a desktop: nothing reaches hostd, which is not even
// there, and all of it is taken or refused in bounded memory.
func FuzzInput(f *testing.F) {
	key := func(down byte, sym uint32) []byte { return binary.BigEndian.AppendUint32([]byte{4, down, 0, 0}, sym) }
	f.Add(append(key(1, 'a'), key(0, 'a')...), true)
	f.Add([]byte{5, 1, 1, 0, 0, 200, 5, 0, 1, 0, 0, 200}, true)
	f.Add([]byte{6, 0, 0, 0, 0, 0, 0, 2, 'h', 'i', 3, 0, 0, 0, 0, 0, 9, 9, 9, 9}, false)
	f.Add(append([]byte{2, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0x11, 0, 0, 0, 0}, rfb.Native.AppendTo(nil)...), false)
	f.Fuzz(func(t *testing.T, in []byte, inForm bool) {
		_, se := lone(t)
		if inForm {
			se.showForm()
			se.publish()
		}
		done := make(chan struct{})
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			for {
				select {
				case e := <-se.events:
					se.input(t.Context(), event{kind: e.kind, sym: e.sym &^ 0xff00, shift: e.shift, at: e.at, text: e.text})
				case <-done:
					return
				}
			}
		}()
		se.conn = script{Reader: bytes.NewReader(in)}
		if err := se.readLoop(t.Context()); err == nil {
			t.Error("no end")
		}
		close(done)
		<-taken
	})
}

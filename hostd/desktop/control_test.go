package desktop

import (
	"context"
	"crypto/x509"
	"errors"
	"image"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

const (
	alice = "alice@example.com"
	bob   = "bob@example.com"
)

// keys counts what of a session's input reached the host.
func (h *fakeHost) keys(session uint32) (n int) {
	h.with(func() { n = len(h.inputs[session]) })
	return n
}

// clickOn clicks on the item of the page that a session shows for keys and clicks.
func clickOn(t *testing.T, s *server, account string, c *rfbtest.Client, id int) {
	t.Helper()
	at := s.painter.Where(s.session(account).prompt.Load().page, small, id).Min.Add(image.Pt(3, 3))
	if err := errors.Join(c.Pointer(1, at.X, at.Y), c.Pointer(0, at.X, at.Y)); err != nil {
		t.Fatal(err)
	}
}

// Asking the holder: kept, run out, handed over; the one who loses control goes on watching.
func TestTake(t *testing.T) {
	s, h := start(t, small)
	s.heed = 0
	a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, alice, a)
	sees(t, a, 1, 1, canary)
	b := view(t, s, bob, tunnel.RoleTake, rfbtest.Config{})
	logIn(t, s, bob, b)
	says(t, s, alice, a, bob+" asks for control.")
	says(t, s, bob, b, "Asking "+alice+" for control.")
	if hasCanary(b) {
		t.Error("the desktop shows while the holder is asked")
	}
	if err := a.Press('x', 0xff0d); err != nil { // types on, and answers nothing
		t.Fatal(err)
	}
	h.await("the holder's keys", func() bool { return len(h.inputs[1]) == 4 })
	clickOn(t, s, alice, a, form.Keep)
	says(t, s, bob, b, "Error 40011: Request denied")
	clickOn(t, s, bob, b, form.Ask)
	says(t, s, alice, a, bob+" asks for control.")
	if err := a.Press(keyHandOver); err != nil {
		t.Fatal(err)
	}
	says(t, s, alice, a, "40013: "+bob+" has taken control")
	sees(t, b, 1, 200, canary)
	if err := errors.Join(a.Press('y'), b.Press('z')); err != nil {
		t.Fatal(err)
	}
	h.await("the taker's key", func() bool { return len(h.inputs[2]) == 2 })
	if n := h.keys(1); n != 4 {
		t.Errorf("%d events of the one who lost control, not 4", n)
	}
	h.with(func() {
		if h.stray > 0 {
			t.Errorf("%d events without control were sent", h.stray)
		}
	})
	a.Close()
	b.Close()
	h.await("the end of both", func() bool { return len(h.closed) == 2 })
}

// Whoever may take control without asking has a button for it, beside the refusal and while the holder is asked. The one who
// loses control is told by whom.
func TestTakeNow(t *testing.T) {
	tests := []struct {
		name string
		role tunnel.Role
		want string
		take func(t *testing.T, s *server, c *rfbtest.Client)
	}{
		{"beside the refusal", tunnel.RoleControl, "Error 40010: Controlled", func(t *testing.T, s *server, c *rfbtest.Client) {
			clickOn(t, s, bob, c, form.TakeNow)
		}},
		{"while the holder is asked", tunnel.RoleTake, "Asking " + alice + " for control.", func(t *testing.T, s *server, c *rfbtest.Client) {
			clickOn(t, s, bob, c, form.TakeNow)
		}},
		{"while the holder is asked, by keys", tunnel.RoleTake, "Asking " + alice + " for control.", func(t *testing.T, s *server, c *rfbtest.Client) {
			if err := c.Press(form.KeyReturn, ' ', form.KeyTab, form.KeyReturn); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, h := start(t, small)
			h.with(func() { h.force = true })
			a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
			logIn(t, s, alice, a)
			sees(t, a, 1, 1, canary)
			b := view(t, s, bob, tt.role, rfbtest.Config{})
			logIn(t, s, bob, b)
			says(t, s, bob, b, tt.want)
			says(t, s, bob, b, "Take control now")
			tt.take(t, s, b)
			sees(t, b, 1, 300, canary)
			says(t, s, alice, a, "40013: "+bob+" has taken control")
			if err := b.Press('z'); err != nil {
				t.Fatal(err)
			}
			h.await("the taker's key", func() bool { return len(h.inputs[2]) == 2 })
		})
	}
	t.Run("without the right", func(t *testing.T) {
		s, _ := start(t, small)
		a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
		logIn(t, s, alice, a)
		sees(t, a, 1, 1, canary)
		b := view(t, s, bob, tunnel.RoleControl, rfbtest.Config{})
		logIn(t, s, bob, b)
		says(t, s, bob, b, "Ask for control")
		if slices.Contains(s.texts(bob), "Take control now") {
			t.Error("the button is there")
		}
	})
}

// A question whose asker has left is withdrawn.
func TestWithdrawn(t *testing.T) {
	s, h := start(t, small)
	a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, alice, a)
	sees(t, a, 1, 1, canary)
	h.with(func() {
		h.send(ipc.TypeAsk, ipc.Ask{Session: 1, Asker: 2, Account: bob, Until: time.Now().Add(time.Hour)})
	})
	says(t, s, alice, a, bob+" asks for control.")
	h.with(func() { h.send(ipc.TypeAsk, ipc.Ask{Session: 1}) })
	eventually(t, "the question is withdrawn", func() bool { return len(s.texts(alice)) == 0 })
}

// Whoever types on while the page comes up that control is another's does not choose its button by that.
func TestTypingIntoTaken(t *testing.T) {
	key := func(sym uint32) event { return event{kind: eventKey, sym: sym} }
	tests := []struct {
		name  string
		after time.Duration
		do    event
		state state
		ended bool
	}{
		{"Enter at once", 0, key(form.KeyReturn), asksRole, false},
		{"the keypad's Enter just before", heedTime - 1, key(form.KeyEnter), asksRole, false},
		{"space just before", heedTime - 1, key(' '), asksRole, false},
		{"Enter in time", heedTime, key(form.KeyReturn), shows, false},
		{"space in time", heedTime, key(' '), shows, false},
		{"Escape at once", 0, key(form.KeyEscape), asksRole, true},
		{"a click at once", 0, event{kind: eventClick}, shows, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, se := lone(t)
				s.heed = heedTime
				se.loggedIn, se.desk = true, newDesk(1, s.cache)
				se.showTaken(refuse.Held.Of(bob, "10:04"))
				if tt.do.kind == eventClick {
					tt.do.at = s.painter.Where(se.page.View(), small, form.Watch).Min.Add(image.Pt(3, 3))
				}
				time.Sleep(tt.after)
				se.input(t.Context(), tt.do)
				if se.state != tt.state || (se.cause != "") != tt.ended {
					t.Fatalf("state %d, %q", se.state, se.cause)
				}
			})
		})
	}
}

// Who takes control from oneself, at another viewer, leaves that one watching: it does not ask for control by itself again.
func TestLostToOneself(t *testing.T) {
	_, se := lone(t)
	se.state, se.control, se.holder = shows, true, "\x00"
	now := time.Now()
	se.leased(ipc.Lease{Epoch: 2, Holder: alice}, now) // between the two
	if se.role != ipc.RoleControl || se.notice != nil {
		t.Fatalf("%v, %v", se.role, se.notice)
	}
	se.leased(ipc.Lease{Epoch: 2, Holder: alice, Session: se.number + 1}, now)
	if se.role != ipc.RoleWatch || se.notice == nil || se.notice.Items[0].Text != "40013: "+alice+" has taken control" || !refuse.TakenOver.Is(se.denied) {
		t.Fatalf("%v, %+v, %v", se.role, se.notice, se.denied)
	}
	se.holder, se.denied, se.gives = "\x00", nil, true // it has handed control over, and need not be told on its page
	se.leased(ipc.Lease{Epoch: 3, Holder: bob, Session: se.number + 2}, now)
	if se.denied != nil {
		t.Fatal(se.denied)
	}
}

// Control that was free at Open and is taken after the log-in: the form offers to watch, which then works.
func TestTakenMeanwhile(t *testing.T) {
	s, h := start(t, small)
	a := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	b := view(t, s, bob, tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, alice, a)
	sees(t, a, 1, 1, canary)
	logIn(t, s, bob, b)
	says(t, s, bob, b, "Error 40010: Controlled")
	if hasCanary(b) {
		t.Error("the desktop shows beside the refusal")
	}
	clickOn(t, s, bob, b, form.Watch)
	sees(t, b, 1, 300, canary)
	says(t, s, bob, b, alice+" is in control")
	if err := errors.Join(b.Press('x'), b.Pointer(1, 2, 3), b.CutText("x"), b.SetDesktopSize(small)); err != nil {
		t.Fatal(err)
	}
	b.WaitFor(func(c *rfbtest.Client) bool { return c.Layout().Result == 1 }, patience)
	if n := h.keys(2); n != 0 {
		t.Errorf("%d events of a watcher", n)
	}
}

// The desktop is taken away and comes back: the form between, and not one pixel.
func TestDetach(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, alice, c)
	sees(t, c, 1, 1, canary)
	h.with(func() {
		h.holder = 0
		h.epoch++
		h.lease()
		delete(h.users, 1)
		h.send(ipc.TypeDetach, ipc.Detach{Session: 1, Refusal: refuse.NoRight.Of("alice")})
	})
	says(t, s, alice, c, "Error 5: No right")
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return !hasCanary(c) }, patience); err != nil {
		t.Fatal("the desktop still shows")
	}
	before := s.counts()
	h.worker().paint(image.Rect(0, 0, 640, 480), canary)
	if err := c.Press('x'); err != nil {
		t.Fatal(err)
	}
	typed := func(*rfbtest.Client) bool { return s.session(alice).prompt.Load().page.Dots(form.SecretField) == 1 }
	if err := c.WaitFor(typed, patience); err != nil {
		t.Fatal(err)
	}
	if got := s.counts().since(before); got.captures != 0 {
		t.Error("captured, though nobody looks")
	}
	if err := errors.Join(c.Press(form.KeyBackSpace), c.Type("pass word\n")); err != nil {
		t.Fatal(err)
	}
	sees(t, c, 1, 1, canary)
	if err := c.Press('x'); err != nil {
		t.Fatal(err)
	}
	h.await("keys again", func() bool { return len(h.inputs[1]) == 2 })
}

// A session that is ended shows why and closes.
func TestEnd(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, rfbtest.Config{})
	logIn(t, s, alice, c)
	sees(t, c, 1, 1, canary)
	h.with(func() {
		h.send(ipc.TypeEnd, ipc.End{Session: 1, Refusal: refuse.Ended.Of("root")})
	})
	says(t, s, alice, c, "Error 40014: Session ended")
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return !hasCanary(c) }, patience); err != nil {
		t.Fatal("the desktop still shows")
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("not closed")
	}
}

// How a viewer went decides whether its control is kept for it.
func TestVanished(t *testing.T) {
	for _, tt := range []struct {
		name     string
		vanished bool
		leave    func(c *rfbtest.Client, end context.CancelCauseFunc)
	}{
		{"the viewer closes", false, func(c *rfbtest.Client, _ context.CancelCauseFunc) { c.Close() }},
		{"a message that is none", false, func(c *rfbtest.Client, _ context.CancelCauseFunc) { c.Send([]byte{77}) }},
		{"inside a message", false, func(c *rfbtest.Client, _ context.CancelCauseFunc) { c.Send([]byte{4, 1}); c.Close() }},
		{"the tunnel ends", true, func(_ *rfbtest.Client, end context.CancelCauseFunc) { end(tunnel.ErrSilent) }},
		{"the computer is removed", false, func(_ *rfbtest.Client, end context.CancelCauseFunc) { end(&tunnel.EndError{Reason: tunnel.Removed}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, h := start(t, small)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			c := viewIn(ctx, t, s, alice, tunnel.RoleControl, rfbtest.Config{})
			logIn(t, s, alice, c)
			sees(t, c, 1, 1, canary)
			rests(t, s, 1) // closing with something unread would reset the connection
			tt.leave(c, cancel)
			h.await("close", func() bool { return len(h.closed) == 1 })
			h.with(func() {
				if h.closed[1].Vanished != tt.vanished {
					t.Errorf("vanished: %v", h.closed[1].Vanished)
				}
			})
		})
	}
}

// roots trusts a server's certificate, as a viewer does that was given it as CA file.
func roots(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, CertificateFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// From the first byte: the log-in of RFB is the host login.
func TestEndToEnd(t *testing.T) {
	s, h := start(t, small)
	tests := []struct{ name, user, password, reason string }{
		{"password", "alice", "pass word", ""},
		{"access code", "", "12345678", ""},
		{"a space for no user", " ", "12345678", ""},
		{"wrong password", "alice", "wrong", "1326: "},
		{"wrong code", "", "wrong", "1326: "},
		{"no code", "", "", "1326: "},
		{"no right", "mallory", "pass word", "5: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleControl, Session: "s", Account: alice})
			if err != nil {
				t.Fatal(err)
			}
			c, err := rfbtest.Handshake(conn, rfbtest.Config{
				Roots: roots(t, h.dir), ServerName: "localhost", User: tt.user, Password: tt.password,
			})
			var refused *rfbtest.RefusedError
			if tt.reason != "" {
				if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, tt.reason) {
					t.Fatalf("%v, not %s", err, tt.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sees(t, c, 1, 1, canary)
			c.Close()
			h.await("close", func() bool { return h.holder == 0 })
		})
	}
	h.with(func() { h.opened = refuse.Held.Of(bob, "10:04") })
	conn, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleControl, Session: "s", Account: alice})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rfbtest.Handshake(conn, rfbtest.Config{Roots: roots(t, h.dir), ServerName: "localhost", User: "alice", Password: "pass word"})
	var refused *rfbtest.RefusedError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, "40010: ") || !strings.HasSuffix(refused.Reason, ": bob@example.com has been in control since 10:04") {
		t.Fatal(err)
	}
}

// A form that nobody types into says so and closes; what is typed puts that off.
func TestIdleForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{painter: form.NewPainter(), stats: &stats{}, sessions: map[uint32]*session{}, welcome: ipc.Welcome{Name: "desk7", OSLogin: true}}
		s.cache = newCache(s.stats)
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		se, r := s.newSession("", alice, ipc.RoleControl, false)
		if r != nil {
			t.Fatal(r)
		}
		se.view = newViewer(a, small, s.cache, s.painter)
		began := time.Now()
		done := make(chan time.Time, 1)
		go func() {
			se.begin(t.Context())
			se.run(t.Context())
			done <- time.Now()
		}()
		time.Sleep(time.Minute)
		se.events <- event{kind: eventKey, sym: 'x'}
		synctest.Wait()
		if p := se.prompt.Load(); string(p.page.Value(form.UserField)) != "x" {
			t.Error("the key is not in the form")
		}
		end := <-done
		if got, want := end.Sub(began), time.Minute+idleForm+closingTime; got != want {
			t.Errorf("closed after %v, not %v", got, want)
		}
		p := se.prompt.Load().page
		if said := p.Items[2].Text; p.Items[0].Text != "Session ended" || said != "Error 40014: Session ended\nNobody typed into the form of desk7. Sign in again." {
			t.Errorf("shows %q, %q", p.Items[0].Text, said)
		}
	})
}

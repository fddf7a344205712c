package desktop

import (
	"errors"
	"image"
	"slices"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

var small = image.Pt(640, 480)

// hasCanary says whether a pixel of the desktop is in a viewer's picture.
func hasCanary(c *rfbtest.Client) bool {
	m := c.Picture()
	for i := 0; i < len(m.Pix); i += 4 {
		if m.Pix[i] == 0xee && m.Pix[i+1] == 0xff && m.Pix[i+2] == 0xc0 {
			return true
		}
	}
	return false
}

// The form by keys: wrong, then right. Not one pixel of the desktop before that.
func TestLogOnByKeys(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, "alice@example.com", tunnel.RoleControl, rfbtest.Config{})
	if c.Size() != small || c.Name() != "desk7" {
		t.Errorf("%v, %q", c.Size(), c.Name())
	}
	says(t, s, "alice@example.com", c, "Not your account password.")
	sees(t, c, 1, 1, form.Background)
	if err := c.Type("alice\twrong\n"); err != nil {
		t.Fatal(err)
	}
	says(t, s, "alice@example.com", c, "Error 1326: Wrong log-in")
	says(t, s, "alice@example.com", c, "2 attempts left")
	if hasCanary(c) || c.Cursor().Size == (image.Point{}) {
		t.Fatal("the desktop shows before the log-in, or there is no cursor")
	}
	if err := c.Type("pass word\n"); err != nil { // the user name is still there
		t.Fatal(err)
	}
	sees(t, c, 1, 1, canary)
	sees(t, c, 639, 479, canary)
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Name() == "alice@desk7" }, patience); err != nil {
		t.Error(err, c.Name())
	}
	h.with(func() {
		if len(h.logins) != 2 || h.logins[1].User != "alice" || string(h.logins[1].Secret) != "pass word" {
			t.Errorf("log-ins %v", h.logins)
		}
	})
	if err := errors.Join(c.Press('x'), c.Pointer(1, 5, 7)); err != nil {
		t.Fatal(err)
	}
	h.await("input", func() bool { return len(h.inputs[1]) == 3 })
	h.with(func() {
		if in := h.inputs[1]; in[0].A != 'x' || in[0].B != 1 || in[1].B != 0 || in[2].A != 1 || in[2].X != 5 || in[2].Y != 7 {
			t.Errorf("input %v", in)
		}
	})
	rests(t, s, 1) // closing with something unread would reset the connection
	c.Close()
	h.await("close", func() bool { return len(h.closed) == 1 })
	h.with(func() {
		if h.closed[1].Vanished {
			t.Error("a viewer that closes has not vanished")
		}
	})
}

func TestRefusedLogIns(t *testing.T) {
	tests := []struct{ name, typed, want string }{
		{"no right", "mallory\tpass word\n", "Error 5: No right"},
		{"locked out", "locked\tx\n", "Error 1909: Locked out"},
	}
	s, _ := start(t, small)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := view(t, s, tt.name, tunnel.RoleControl, rfbtest.Config{})
			says(t, s, tt.name, c, "Log in to this computer")
			if err := c.Type(tt.typed); err != nil {
				t.Fatal(err)
			}
			says(t, s, tt.name, c, tt.want)
			if hasCanary(c) {
				t.Error("the desktop shows")
			}
		})
	}
}

// The access code by its link, with a click on the button.
func TestAccessCode(t *testing.T) {
	s, _ := start(t, small)
	const who = "alice@example.com"
	c := view(t, s, who, tunnel.RoleControl, rfbtest.Config{})
	click := func(id int) {
		t.Helper()
		at := s.painter.Where(s.session(who).prompt.Load().page, small, id).Min.Add(image.Pt(3, 3))
		if err := errors.Join(c.Pointer(1, at.X, at.Y), c.Pointer(0, at.X, at.Y)); err != nil {
			t.Fatal(err)
		}
	}
	says(t, s, who, c, "Use the access code instead")
	click(form.Switch)
	says(t, s, who, c, "Forgotten? It can be changed only at the computer itself: hostd code set")
	if err := c.Type("12345678"); err != nil {
		t.Fatal(err)
	}
	typed := func(*rfbtest.Client) bool { return s.session(who).prompt.Load().page.Dots(form.SecretField) == 8 }
	if err := c.WaitFor(typed, patience); err != nil {
		t.Fatal(err)
	}
	click(form.LogIn)
	sees(t, c, 1, 1, canary)
}

// The form says when it is the log-on screen that will be seen.
func TestFormTellsOfTheLogOnScreen(t *testing.T) {
	for _, greeter := range []bool{false, true} {
		s, se := lone(t)
		s.welcome.Greeter = greeter
		se.showForm()
		says := slices.ContainsFunc(se.page.Items, func(it form.Item) bool { return strings.Contains(it.Text, "you will see its log-on screen") })
		if says != greeter {
			t.Errorf("with the log-on screen %v: said %v", greeter, says)
		}
	}
}

// Refusals at Open are told before the stream is accepted.
func TestRefusedAtOpen(t *testing.T) {
	s, h := start(t, small)
	h.with(func() { h.opened = refuse.Held.Of("bob@example.com", "10:04") })
	_, err := join(t.Context(), t, s, fromInit("alice@example.com", tunnel.RoleControl))
	if !refuse.Held.Is(err) {
		t.Fatal(err)
	}
	_, err = join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.SSH, Role: tunnel.RoleControl, Account: "a", Session: "s"})
	if !refuse.NotRunning.Is(err) {
		t.Fatal(err)
	}
}

// What a watcher sends does not reach the host.
func TestWatcher(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, "bob@example.com", tunnel.RoleWatch, rfbtest.Config{})
	logIn(t, s, "bob@example.com", c)
	sees(t, c, 1, 200, canary)
	err := errors.Join(c.Press('x'), c.Pointer(1, 5, 7), c.Pointer(0, 5, 7), c.CutText("text"), c.SetDesktopSize(image.Pt(800, 600)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Layout().Result == 1 }, patience); err != nil {
		t.Fatal(err) // the refusal of the size comes last
	}
	h.with(func() {
		if len(h.inputs) > 0 || h.stray > 0 {
			t.Errorf("input %v, %d stray", h.inputs, h.stray)
		}
	})
	if n := s.stats.dropped.Load(); n != 4 {
		t.Errorf("dropped %d", n)
	}
}

// What a viewer types before it has seen the form goes into it: the form is there before the first key is read.
func TestTypingAtOnceFindsTheForm(t *testing.T) {
	s, h := start(t, small)
	for i := range 20 {
		c := view(t, s, "alice@example.com", tunnel.RoleWatch, rfbtest.Config{Manual: true})
		if err := c.Type("alice\tpass word\n"); err != nil {
			t.Fatal(err)
		}
		h.await("the log-in", func() bool { return len(h.logins) == i+1 && h.logins[i].User == "alice" })
		c.Close()
	}
}

// The desktop is taken away right after the log-in, and run hears of that first: the form is back, and stays when the log-in's
// answer comes.
func TestDetachBeforeTheAnswer(t *testing.T) {
	_, se := lone(t)
	se.showForm()
	se.state, se.asked = checks, 1
	se.news.detached, se.news.refusal = true, refuse.NoScreen.Of("desk7", "its worker ended")
	se.look(t.Context())
	formShows := func(when string) {
		t.Helper()
		if se.state != asksLogin || se.loggedIn || !refuse.NoScreen.Is(se.form.Refusal) || se.page == nil || se.page.Busy {
			t.Fatalf("%s: state %d, logged in %v, %v", when, se.state, se.loggedIn, se.form.Refusal)
		}
	}
	formShows("after the loss")
	se.result(t.Context(), result{number: 1, answer: ipc.LoggedIn{Left: -1, User: "alice"}})
	formShows("after the answer")
	se.state, se.asked = checks, se.asked+1 // and it works again
	se.result(t.Context(), result{number: se.asked, answer: ipc.LoggedIn{Left: -1, User: "alice"}})
	if se.state != waits || !se.loggedIn {
		t.Fatalf("state %d", se.state)
	}
}

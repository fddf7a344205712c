package desktop

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// extended is what a viewer with the clipboard extension can do.
func extended() rfbtest.Config {
	return rfbtest.Config{Encodings: append(rfbtest.DefaultEncodings(), rfb.PseudoExtendedClipboard)}
}

// clipTexts are what goes both ways.
func clipTexts() []string {
	return []string{"plain", "ÄΩ€中😀\nand\n", strings.Repeat("0123456789abcdé\n", 200<<10/17)}
}

// got waits for a text.
func got(t *testing.T, c *rfbtest.Client, want string) {
	t.Helper()
	if err := c.WaitFor(func(c *rfbtest.Client) bool { text, _ := c.Text(); return text == want }, patience); err != nil {
		text, n := c.Text()
		t.Fatalf("%d bytes: %v; %d texts, the last of %d bytes", len(want), err, n, len(text))
	}
}

// Text goes both ways between the desktop and who controls, with the extension and without.
func TestClipboardBothWays(t *testing.T) {
	s, h := start(t, small)
	for _, ext := range []bool{true, false} {
		cfg := rfbtest.Config{}
		if ext {
			cfg = extended()
		}
		c := view(t, s, alice, tunnel.RoleControl, cfg)
		logIn(t, s, alice, c)
		sees(t, c, 1, 1, canary)
		h.await("control", func() bool { return h.holder != 0 })
		var session uint32
		var epoch uint64
		h.with(func() { session, epoch = h.holder, h.epoch })
		for _, text := range clipTexts() {
			h.copied(session, epoch, text)
			latin := string(rfb.Latin1(text))
			if ext {
				got(t, c, text)
			} else {
				got(t, c, latin)
			}
			var err error
			want := text
			if ext {
				err = c.Copy(text)
			} else {
				err = c.CutText(latin)
				want = string(rfb.FromLatin1([]byte(latin)))
			}
			if err != nil {
				t.Fatal(err)
			}
			h.await("the text", func() bool { return slices.Contains(h.pastes, want) })
		}
		if n := c.ClipboardCaps(); ext != (n > 0) {
			t.Errorf("extension %v: %d caps", ext, n)
		}
		h.copied(session, epoch-1, "of a control before")
		h.copied(session, epoch, "last")
		got(t, c, "last")
		if _, n := c.Text(); n != len(clipTexts())+1 {
			t.Errorf("%d texts", n)
		}
		c.Close()
		h.await("the end", func() bool { return len(h.sessions) == 0 })
	}
	h.with(func() {
		if h.stray > 0 {
			t.Errorf("%d stray", h.stray)
		}
	})
}

// The caps are sent for each list of encodings, and a peek is answered by what there is.
func TestClipboardCapsAndPeek(t *testing.T) {
	s, h := start(t, small)
	c := view(t, s, alice, tunnel.RoleControl, extended())
	logIn(t, s, alice, c)
	sees(t, c, 1, 1, canary)
	for n := 1; n <= 3; n++ {
		if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.ClipboardCaps() == n }, patience); err != nil {
			t.Fatal(n, err)
		}
		if err := c.SetEncodings(extended().Encodings...); err != nil {
			t.Fatal(err)
		}
	}
	h.await("control", func() bool { return h.holder != 0 })
	h.with(func() { h.copied(h.holder, h.epoch, "x") })
	got(t, c, "x")
	if err := c.Clip(rfb.ClipPeek, nil); err != nil { // answered by a notify, after which the client asks
		t.Fatal(err)
	}
	if err := c.WaitFor(func(c *rfbtest.Client) bool { _, n := c.Text(); return n == 2 }, patience); err != nil {
		t.Fatal(err)
	}
}

// Who watches gets nothing and gives nothing, whatever is asked for. A text offered before control is taken with it.
func TestClipboardOfWatchers(t *testing.T) {
	s, h := start(t, small)
	a := view(t, s, alice, tunnel.RoleControl, extended())
	logIn(t, s, alice, a)
	sees(t, a, 1, 1, canary)
	b := view(t, s, bob, tunnel.RoleWatch, extended())
	logIn(t, s, bob, b)
	sees(t, b, 1, 300, canary)
	h.await("control", func() bool { return h.holder != 0 })
	h.with(func() { h.copied(h.holder, h.epoch, "for alice") })
	got(t, a, "for alice")
	err := errors.Join(b.Copy("of bob"), b.CutText("of bob"), b.Clip(rfb.ClipProvide|rfb.ClipText, rfbtest.Pack("of bob")),
		b.Clip(rfb.ClipRequest|rfb.ClipText, nil), b.Clip(rfb.ClipPeek, nil), b.Fence(rfb.FenceRequest, []byte("done")))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.WaitFor(func(c *rfbtest.Client) bool { return c.Answered() == "done" }, patience); err != nil {
		t.Fatal(err)
	}
	if text, n := b.Text(); n > 0 {
		t.Errorf("a watcher got %q", text)
	}
	h.with(func() {
		if len(h.pastes) > 0 || h.stray > 0 {
			t.Errorf("pasted %q, %d stray", h.pastes, h.stray)
		}
		h.copied(2, h.epoch, "as the session of a watcher")
		h.grant(ipc.Control{Session: 2})
	})
	h.await("what bob had announced", func() bool { return slices.Contains(h.pastes, "of bob") })
	if text, n := b.Text(); n > 0 {
		t.Errorf("a watcher got %q", text)
	}
	// Alice, who has lost control, has no text any more either.
	if err := errors.Join(a.Clip(rfb.ClipRequest|rfb.ClipText, nil), a.Fence(rfb.FenceRequest, []byte("done"))); err != nil {
		t.Fatal(err)
	}
	if err := a.WaitFor(func(c *rfbtest.Client) bool { return c.Answered() == "done" }, patience); err != nil {
		t.Fatal(err)
	}
	if _, n := a.Text(); n != 1 {
		t.Errorf("%d texts", n)
	}
}

// Where the policy has no way to the computer, a viewer's text is not even asked for; it can be pasted into the form all the same.
func TestClipboardPolicy(t *testing.T) {
	s, h := start(t, small, func(w *ipc.Welcome) { w.Clipboard = ipc.Clipboard{} })
	c := view(t, s, alice, tunnel.RoleControl, extended())
	says(t, s, alice, c, "User name")
	if err := c.Copy("alice\nsecond line"); err != nil {
		t.Fatal(err)
	}
	// The answer to the request is on its way before this one's.
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.ClipboardCaps() > 0 }, patience); err != nil {
		t.Fatal(err)
	}
	paste := func() error {
		return errors.Join(c.Key(true, form.KeyControlL), c.Press('v'), c.Key(false, form.KeyControlL))
	}
	err := errors.Join(c.Clip(rfb.ClipProvide|rfb.ClipText, rfbtest.Pack("älice\nsecond line")), paste(), c.Press(form.KeyTab), c.Type("pass word\n"))
	if err != nil {
		t.Fatal(err)
	}
	h.await("the log-in", func() bool { return len(h.logins) == 1 && h.logins[0].User == "älice" })
	sees(t, c, 1, 1, canary)
	err = errors.Join(c.Copy("secret"), c.CutText("secret"), c.Press('x'))
	if err != nil {
		t.Fatal(err)
	}
	h.await("the key", func() bool { return len(h.inputs[1]) > 0 })
	h.with(func() {
		if len(h.pastes) > 0 || h.stray > 0 {
			t.Errorf("pasted %q, %d stray", h.pastes, h.stray)
		}
	})
}

// A client's texts and announcements are taken at clipRate.
func TestClipboardRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, se := lone(t)
		r := &reader{s: se, ctx: t.Context(), clips: rate.NewLimiter(clipRate, clipRate)}
		began := time.Now()
		for range clipRate + 10 {
			if err := r.Clipboard(rfb.ClipMessage{Action: rfb.ClipPeek}); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d < 1900*time.Millisecond || d > 2100*time.Millisecond {
			t.Errorf("10 messages beyond the burst took %v", d)
		}
	})
}

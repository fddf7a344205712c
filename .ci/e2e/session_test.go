package e2e

import (
	"testing"
	"time"
)

// open signs in and logs in to the computer, in a tab of a browser.
func (b *Chromium) open(page int) {
	b.w.T.Helper()
	b.Do(step{"page": page, "go": "/computers", "click": "a.name"}, step{"page": page, "code": b.w.Code, "see": "You control it"})
}

// When relayd is restarted under a session, or the browser's or the computer's network is cut for 15 seconds, the page says so, keeps the
// last picture and comes back by itself, in control and without another log-in.
func TestBrowserComesBack(t *testing.T) {
	w := NewWorld(t, Options{Time: 2 * time.Minute})
	d := w.Furnish()
	b := w.Chromium(false)
	b.SignIn("", Account, w.Password)
	b.open(0)
	b.Do(step{"type": "first\n"})
	d.WaitTyped("first\n")

	w.RelayProc.End()
	b.Do(step{"see": "Connection lost", "shot": "lost", "axe": true})
	w.RestartRelay()
	b.Do(step{"gone": "#lost", "see": "You control it", "type": "second\n"})
	d.WaitTyped("first\nsecond\n")

	for _, other := range []string{"viewer", "host"} {
		w.Check(w.Net.Cut(w.Ctx, other, "relay", true))
		cut := time.Now()
		says := "Connection lost"
		if other == "host" {
			says = "The computer does not answer"
		}
		b.Do(step{"see": says})
		w.Until("15 seconds are over", func() (bool, error) { return time.Since(cut) >= 15*time.Second, nil })
		w.Check(w.Net.Cut(w.Ctx, other, "relay", false))
		b.Do(step{"gone": "#lost", "see": "You control it", "type": other + "\n"})
	}
	d.WaitTyped("first\nsecond\nviewer\nhost\n")
	if n := w.logged("viewer logged in"); n != 1 {
		t.Errorf("%d log-ins", n)
	}
	b.Do(step{"click": "#leave", "see": "You ended it."})
}

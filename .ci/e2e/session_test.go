package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
)

// open signs in and logs in to the computer, in a tab of a browser.
func (b *Chromium) open(page int) {
	b.w.T.Helper()
	b.Do(step{"page": page, "go": "/computers", "click": "a.name"}, step{"page": page, "code": b.w.Code, "see": "You control it"})
}

// When relayd is restarted under a session, or the browser's network is cut for 15 seconds, or the computer's, the page says so, keeps the last
// picture and comes back by itself, in control and without another log-in. A hostd that has ended knows of no session: then it asks for one.
func TestBrowserComesBack(t *testing.T) {
	w := NewWorld(t, Options{Time: 2 * time.Minute})
	d := w.Furnish()
	b := w.Chromium(false)
	b.SignIn("", Account, w.Password)
	b.open(0)
	b.Do(step{"type": "first\n"})
	d.WaitTyped("first\n")

	b.Do(step{"page": 1, "go": "/computers", "see": "In use"}, step{"see": "You control it"})
	w.RelayProc.End()
	b.Do(step{"see": "Connection lost", "shot": "lost", "axe": true}, step{"page": 1, "see": "The relay does not answer", "axe": true})
	w.RestartRelay()
	b.Do(step{"page": 1, "gone": "#stale"}, step{"gone": "#lost", "see": "You control it", "type": "second\n"})
	d.WaitTyped("first\nsecond\n")

	for _, c := range []struct {
		party, says string
		least       time.Duration
	}{{"viewer", "Connection lost", 15 * time.Second}, {"host", "The computer does not answer", 0}} {
		w.Check(w.Net.Cut(w.Ctx, c.party, "relay", true))
		cut := time.Now()
		b.Do(step{"see": c.says})
		w.Until("the cut is long enough", func() (bool, error) { return time.Since(cut) >= c.least, nil })
		w.Check(w.Net.Cut(w.Ctx, c.party, "relay", false))
		b.Do(step{"gone": "#lost", "see": "You control it", "type": c.party + "\n"})
	}
	d.WaitTyped("first\nsecond\nviewer\nhost\n")
	if n := w.logged("viewer logged in"); n != 1 {
		t.Errorf("%d log-ins", n)
	}
	w.HostProc.Kill()
	b.Do(step{"see": "Connection lost"})
	w.RestartHost()
	b.Do(step{"see": "40019", "shot": "again", "axe": true})
	b.Do(step{"code": w.Code, "see": "You control it", "type": "again\n"})
	d.WaitTyped("first\nsecond\nviewer\nhost\nagain\n")
	_, err := w.Hostd.Do(w.Ctx, "", "end", "--all")
	w.Check(err)
	b.Do(step{"see": "40014: the session was ended by", "axe": true}, step{"click": ".again", "see": "Log in to this computer"}, step{"code": w.Code, "see": "You control it"},
		step{"click": "#leave", "see": "You ended it."})
}

// oneController checks that of those joined to the computer no more than one has control.
func (w *World) oneController() {
	w.T.Helper()
	sessions, err := w.hostSessions()
	w.Check(err)
	n := 0
	for _, s := range sessions {
		if s.Control {
			n++
		}
	}
	if n > 1 {
		w.T.Errorf("%d of %d sessions are in control", n, len(sessions))
	}
}

// Two people and a VNC viewer at one computer: one controls at any moment, and everybody sees who. Control is asked for, kept, handed
// over, taken by right and given up without another log-in.
func TestBrowserSharesControl(t *testing.T) {
	const bob = "bob@example.com"
	w := NewWorld(t, Options{Time: 150 * time.Second})
	d := w.Furnish()
	w.AddAccount(bob, w.Password)
	_, err := w.Relayd.Do(w.Ctx, "", "host", "share", Computer, bob, "control")
	w.Check(err)
	b := w.Chromium(false)
	b.SignIn("alice", Account, w.Password)
	b.SignIn("bob", bob, w.Password)
	do := func(steps ...step) {
		t.Helper()
		b.Do(steps...)
		w.oneController()
	}
	do(step{"who": "bob", "go": "/computers", "click": "a.name"}, step{"who": "bob", "see": "Log in to this computer"}) // control is taken meanwhile
	do(step{"who": "alice", "go": "/computers", "click": "a.name"}, step{"who": "alice", "code": w.Code, "see": "You control it"})
	do(step{"who": "bob", "code": w.Code, "see": "40010: Controlled"},
		step{"who": "bob", "see": Account + " has been in control", "axe": true},
		step{"who": "bob", "click": "#look", "see": Account + " controls it", "axe": true, "shot": "watches"},
		step{"who": "bob", "click": "#people-open", "see": Account + " controls it, here since"}, step{"who": "bob", "press": []string{"Escape"}}, step{"who": "bob", "click": "#leave", "see": "It lasted"},
		step{"who": "bob", "go": "/computers", "click": "a.name"}, step{"who": "bob", "code": w.Code, "see": "40010: Controlled"},
		step{"who": "bob", "click": "#ask", "see": "Asking " + Account}, step{"who": "alice", "click": "#keep"}, step{"who": "bob", "see": "40011"}, step{"who": "bob", "click": "#told-close"})

	do(step{"who": "bob", "click": "#take"}, step{"who": "alice", "see": "asks for control", "axe": true, "shot": "asked"},
		step{"who": "alice", "click": "#keep"}, step{"who": "bob", "see": "40011", "axe": true, "shot": "denied"})
	do(step{"who": "alice", "type": "alice\n"}, step{"who": "bob", "click": "#told-close"}, step{"who": "bob", "click": "#take"}, step{"who": "alice", "click": "#hand-over"},
		step{"who": "bob", "see": "You control it"}, step{"who": "alice", "see": bob + " controls it"})
	do(step{"who": "bob", "type": "bob\n"}, step{"who": "alice", "click": "#force"}, step{"who": "alice", "see": "You control it"},
		step{"who": "bob", "see": Account + " controls it"}, step{"who": "bob", "see": "40013: " + Account + " has taken control"}, step{"who": "alice", "type": "by right\n"})

	do(step{"who": "bob", "click": "#force"}, step{"who": "bob", "see": "You control it"})
	v := w.TigerVNC("/take")
	v.LogIn()
	do(step{"who": "bob", "see": Account + " asks for control"}, step{"who": "bob", "click": "#hand-over"}, step{"who": "bob", "see": Account + " controls it"},
		step{"who": "alice", "see": "Another of your viewers controls it"}, step{"who": "bob", "click": "#people-open"},
		step{"who": "bob", "see": Account + " controls it, here since"}, step{"who": "bob", "see": Account + " watches, here since"}, step{"who": "bob", "see": "You watch, here since", "axe": true, "shot": "people"}, step{"who": "bob", "press": []string{"Escape"}})
	v.WaitEqual(w.Desk)
	v.Type("tiger\n")
	d.WaitTyped("alice\nbob\nby right\ntiger\n")
	v.Proc.End()
	do(step{"who": "bob", "see": "Nobody controls it"}, step{"who": "bob", "click": "#take"}, step{"who": "bob", "see": "You control it"},
		step{"who": "bob", "choose": step{"#keys": "Esc"}}, step{"who": "bob", "click": "#watch"}, step{"who": "alice", "see": "Nobody controls it"})
	if n, refused := w.logged("viewer logged in"), w.logged("control refused"); n != 2 || refused != 2 {
		t.Errorf("%d log-ins, and %d where another controlled", n, refused)
	}
}

// A computer opened with the control key or the middle button comes in a tab of its own; two tabs hold two computers, and the end of
// one leaves the other.
func TestBrowserTabs(t *testing.T) {
	const other = "other"
	w := NewWorld(t, Options{Server: rig.Xtigervnc, Time: 3 * time.Minute})
	d := w.Furnish()
	w.secondHost(other)
	b := w.Chromium(false)
	b.SignIn("", Account, w.Password)
	w.Run("S5", func() {
		b.Do(step{"click": "a.name >> text=" + Computer, "how": "ctrl"}, step{"click": "a.name >> text=" + other, "how": "middle"})
		title := func(computer string) string { return w.Owner.Name + "@" + computer }
		b.Do(step{"page": 1, "title": Computer}, step{"page": 2, "title": other},
			step{"page": 1, "code": w.Code, "see": "You control it"}, step{"page": 1, "title": title(Computer)},
			step{"page": 2, "code": w.Code, "see": "You control it"}, step{"page": 2, "title": title(other)},
			step{"page": 1, "type": "one\n"}, step{"page": 2, "see": "You control it"}, step{"page": 2, "close": true},
			step{"page": 1, "type": "two\n"}, step{"see": "Computers"})
		d.WaitTyped("one\ntwo\n")
		b.swapTexts(1, "ÄΩ€中😀\nsecond line\n")
		w.Until("the other session is over", func() (bool, error) {
			sessions, err := w.Sessions()
			return len(sessions) == 1, err
		})
	})
	w.Run("monitors", func() { b.showMonitors(1) })
	b.Do(step{"page": 1, "click": "#leave", "see": "It lasted"})
	w.Run("phone", func() { b.phone(d, "one\ntwo\n") })
}

// secondHost starts and enrols another computer, with a desktop of its own and the same access code.
func (w *World) secondHost(name string) {
	w.T.Helper()
	desk, err := w.Set.StartDesktop(w.Ctx, w.Owner, rig.Xvfb, "800x600", w.folder("desktop2", w.Owner), w.file("desktop2.log"))
	w.Check(err)
	config := fmt.Sprintf("state_dir = %q\n[display]\nsource = %q\nxauthority = %q\n[login]\naccess_account = %q\n[net]\nuser = %q\n",
		w.file("hostd2"), desk.Display, desk.Xauthority, w.Owner.Name, w.NetUser.Name)
	w.Check(os.WriteFile(w.file("hostd2.toml"), []byte(config), 0o644))
	h := w.Set.Host(binaries, w.file("hostd2.toml"), w.log("hostd2"))
	h.Network = w.Net.Name("host")
	_, err = h.Serve(w.Ctx)
	w.Check(err)
	w.Check(rig.Enrol(w.Ctx, w.Relayd, h, Account, name))
	_, err = h.Do(w.Ctx, w.Code+"\n", "code", "set", "--stdin")
	w.Check(err)
	w.Until("both computers are online", func() (bool, error) {
		computers, err := w.Computers()
		return len(computers) == 2 && computers[0].Online && computers[1].Online, err
	})
}

package screen

import (
	"image"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/hostd/ipc"
)

// texts are what goes through clipboards. The long one goes in pieces.
var texts = []string{"plain", "ÄΩ€中😀\nsecond line\n", strings.Repeat("0123456789abcdé\n", 12000)}

// copy has a program copy a text: it owns the selection until the test ends or another does.
func (s *xserver) copy(t *testing.T, selection, text string) {
	t.Helper()
	cmd := exec.Command("xclip", "-quiet", "-i", "-selection", selection, "-t", "UTF8_STRING")
	cmd.Env, cmd.Stdin = s.env(), strings.NewReader(text)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

func (m *monitor) paste(text string) {
	m.t.Helper()
	if err := m.conn.SendPacket(ipc.Clip{Text: []byte(text)}.AppendTo(nil, ipc.TypePaste)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *monitor) listen(on bool) {
	m.t.Helper()
	if err := m.conn.Send(ipc.TypeListen, ipc.Listen{Clipboard: on}); err != nil {
		m.t.Fatal(err)
	}
}

// told waits for the next text that was copied on the desktop.
func (m *monitor) told() string {
	m.t.Helper()
	c, err := ipc.ParseClip(await(m.t, m.msgs, ipc.TypeCopy))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(c.Text)
}

// until waits until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !so(); {
		if time.Now().After(late) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func brief(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// What a viewer copied is pasted by programs, whichever way they ask.
func TestPasteOnTheDesktop(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	owner := func(selection string) xproto.Window {
		atom, err := xproto.InternAtom(p.x, false, uint16(len(selection)), selection).Reply()
		p.check(err)
		r, err := xproto.GetSelectionOwner(p.x, atom.Atom).Reply()
		p.check(err)
		return r.Owner
	}
	m.listen(true) // what was pasted is never told
	for _, text := range texts {
		x.copy(t, "clipboard", "another's")
		if got := m.told(); got != "another's" {
			t.Fatalf("told %q", got)
		}
		before := owner("CLIPBOARD")
		m.paste(text)
		until(t, "another owner", func() bool { return owner("CLIPBOARD") != before && owner("PRIMARY") == owner("CLIPBOARD") })
		for _, selection := range []string{"primary", "clipboard"} {
			for _, target := range []string{"UTF8_STRING", "TEXT", "text/plain;charset=utf-8"} {
				if got := x.run(t, "xclip", "-o", "-selection", selection, "-t", target); got != text {
					t.Errorf("%s as %s: %d bytes %q, not %d %q", selection, target, len(got), brief(got), len(text), brief(text))
				}
			}
			if got := x.run(t, "xsel", "--output", "--"+selection); got != text {
				t.Errorf("%s by xsel: %d bytes %q, not %d %q", selection, len(got), brief(got), len(text), brief(text))
			}
		}
		latin := strings.NewReplacer("Ω", "?", "€", "?", "中", "?", "😀", "?", "Ä", "\xc4", "é", "\xe9").Replace(text)
		if got := x.run(t, "xclip", "-o", "-selection", "clipboard", "-t", "STRING"); got != latin {
			t.Errorf("as STRING: %d bytes %q, not %q", len(got), brief(got), brief(latin))
		}
	}
	targets := x.run(t, "xclip", "-o", "-selection", "clipboard", "-t", "TARGETS")
	for _, want := range []string{"TARGETS", "TIMESTAMP", "MULTIPLE", "UTF8_STRING", "STRING", "TEXT", "text/plain;charset=utf-8"} {
		if !strings.Contains(targets, want+"\n") {
			t.Errorf("no %s in %q", want, targets)
		}
	}
}

// What a program copies is told, from either selection, and only while somebody listens.
func TestCopyOnTheDesktop(t *testing.T) {
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	p := x.painter(t)
	m := startWorker(t, ipc.Start{Display: x.name, Cookie: x.cookie})
	m.ready(ipc.TypeReady)
	owned := func() (owner xproto.Window) {
		r, err := xproto.GetSelectionOwner(p.x, xproto.AtomPrimary).Reply()
		p.check(err)
		return r.Owner
	}
	x.copy(t, "primary", "before")
	until(t, "an owner", func() bool { return owned() != 0 })
	m.listen(true)
	if got := m.told(); got != "before" {
		t.Fatalf("told %q", got)
	}
	for _, selection := range []string{"primary", "clipboard"} {
		for _, text := range texts {
			x.copy(t, selection, text)
			if got := m.told(); got != text {
				t.Errorf("%s: told %d bytes %q, not %d %q", selection, len(got), brief(got), len(text), brief(text))
			}
		}
	}
	before := owned()
	x.copy(t, "primary", strings.Repeat("x", ipc.MaxClip+1)) // too long
	until(t, "another owner", func() bool { return owned() != before && owned() != 0 })
	x.copy(t, "primary", strings.Repeat("x", ipc.MaxClip))
	if got := m.told(); len(got) != ipc.MaxClip {
		t.Errorf("told %d bytes", len(got))
	}
	m.listen(false)
	before = owned()
	x.copy(t, "primary", "in private")
	until(t, "another owner", func() bool { return owned() != before && owned() != 0 })
	x.copy(t, "clipboard", "and this")
	x.copy(t, "primary", "in public")
	until(t, "the owner", func() bool {
		return x.run(t, "xclip", "-o") == "in public" && strings.Contains(x.run(t, "xclip", "-o", "-selection", "clipboard"), "this")
	})
	m.listen(true) // what can be pasted now, no more
	if got := m.told(); got != "and this" {
		t.Errorf("told %q", got)
	}
	// What was told and comes back changes nothing.
	before = owned()
	m.paste("and this")
	m.pointer(0, 123, 45)
	until(t, "the pointer moves", func() bool {
		at, err := p.pointer()
		p.check(err)
		return at == image.Pt(123, 45)
	})
	if owned() != before {
		t.Error("an echo took the selection")
	}
}

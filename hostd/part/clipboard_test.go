package part

import (
	"testing"

	"github.com/helmline/helmline/hostd/ipc"
)

// clip has a part say a text.
func (a *actor) clip(t ipc.Type, c ipc.Clip) {
	a.t.Helper()
	if err := a.conn.SendPacket(c.AppendTo(nil, t)); err != nil {
		a.t.Fatal(err)
	}
}

// text waits for one.
func (a *actor) text(t ipc.Type) ipc.Clip {
	a.t.Helper()
	c, err := ipc.ParseClip(a.next(t).data)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// Text passes both ways for who controls, with the epoch of now, and only then.
func TestClipboard(t *testing.T) {
	s := newStage(t, bobsSeat, func(c *Config) { c.Clipboard = ipc.Clipboard{ToHost: true, ToViewer: true} })
	a := s.enter("bob@example.com", "bob", ipc.RoleControl)
	w := s.worker()
	s.attach(a)
	b := s.enter("root@example.com", "root", ipc.RoleTake)
	w.clip(ipc.TypeCopy, ipc.Clip{Text: []byte("while nobody controls")})
	w.send(ipc.TypeReleased, nil) // of nothing: when that is received, the text has been dealt with
	w.received()
	s.net.clip(ipc.TypePaste, ipc.Clip{Session: a, Text: []byte("without control")})
	first, _ := s.control(a, false, false)
	if !get[ipc.Listen](w, ipc.TypeListen).Clipboard {
		t.Error("the worker is told not to listen")
	}
	for _, c := range []ipc.Clip{{Session: b, Epoch: first}, {Session: a, Epoch: first - 1}, {Session: a, Epoch: first + 1}, {Session: a}} {
		c.Text = []byte("not in control")
		s.net.clip(ipc.TypePaste, c)
	}
	s.net.clip(ipc.TypePaste, ipc.Clip{Session: a, Epoch: first, Text: []byte("Ω")})
	same(t, "what is pasted", string(w.text(ipc.TypePaste).Text), "Ω")
	w.clip(ipc.TypeCopy, ipc.Clip{Session: b, Text: []byte("€")}) // its word of whom it is for does not count
	c := s.net.text(ipc.TypeCopy)
	if c.Session != a || c.Epoch != first || string(c.Text) != "€" {
		t.Errorf("told %+v", c)
	}

	// Control goes: the worker is told to be silent, and what it still says is for nobody.
	s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b, Take: true})
	get[ipc.Ask](s.net, ipc.TypeAsk)
	s.net.send(ipc.TypeAnswer, ipc.Answer{Session: a, Asker: b, Grant: true})
	w.next(ipc.TypeRelease)
	if get[ipc.Listen](w, ipc.TypeListen).Clipboard {
		t.Error("the worker goes on listening")
	}
	w.clip(ipc.TypeCopy, ipc.Clip{Text: []byte("between two")})
	s.net.clip(ipc.TypePaste, ipc.Clip{Session: a, Epoch: first, Text: []byte("too late")})
	w.send(ipc.TypeReleased, nil)
	second := s.holds(b, first)
	if !get[ipc.Listen](w, ipc.TypeListen).Clipboard {
		t.Error("the worker is not told to listen again")
	}
	s.net.clip(ipc.TypePaste, ipc.Clip{Session: b, Epoch: second, Text: []byte("root's")})
	same(t, "what is pasted", string(w.text(ipc.TypePaste).Text), "root's")
	w.clip(ipc.TypeCopy, ipc.Clip{Text: []byte("for root")})
	if c := s.net.text(ipc.TypeCopy); c.Session != b || c.Epoch != second || string(c.Text) != "for root" {
		t.Errorf("told %+v", c)
	}
}

// Each way is closed by the policy, and both on the log-on screen, where whoever types is not a user of it yet.
func TestClipboardClosed(t *testing.T) {
	both := ipc.Clipboard{ToHost: true, ToViewer: true}
	for _, c := range []struct {
		name             string
		seat             SeatState
		policy           ipc.Clipboard
		toHost, toViewer bool
	}{
		{"off", bobsSeat, ipc.Clipboard{}, false, false},
		{"to the viewer", bobsSeat, ipc.Clipboard{ToViewer: true}, false, true},
		{"to the host", bobsSeat, ipc.Clipboard{ToHost: true}, true, false},
		{"the log-on screen", SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"}, both, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, c.seat, func(cfg *Config) { cfg.Clipboard = c.policy })
			a := s.enter("bob@example.com", "bob", ipc.RoleControl)
			w := s.worker()
			s.attach(a)
			epoch, _ := s.control(a, false, false)
			s.net.clip(ipc.TypePaste, ipc.Clip{Session: a, Epoch: epoch, Text: []byte("x")})
			s.key(a, epoch, 'k')
			pasted, listens := false, false
			for m := range w.inbox { // up to the key
				pasted = pasted || m.kind == ipc.TypePaste
				listens = listens || m.kind == ipc.TypeListen
				ipc.CloseFiles(m.files)
				if m.kind == ipc.TypeInput {
					break
				}
			}
			w.clip(ipc.TypeCopy, ipc.Clip{Text: []byte("y")})
			w.send(ipc.TypeSize, ipc.Ready{Size: screenSize.Add(screenSize)}) // answered after it
			told := false
			for m := range s.net.inbox {
				told = told || m.kind == ipc.TypeCopy
				ipc.CloseFiles(m.files)
				if m.kind == ipc.TypeDesktop {
					break
				}
			}
			if pasted != c.toHost || told != c.toViewer || listens != c.toViewer {
				t.Errorf("pasted %v, told %v, listens %v", pasted, told, listens)
			}
		})
	}
}

// Of texts that a part does not take only the newest waits, and what is not taken when control goes is dropped.
func TestClipboardWaits(t *testing.T) {
	l := newLink(nil, nil)
	for _, text := range []string{"a", "b", "c"} {
		l.sendClip(ipc.TypePaste, ipc.Clip{Text: []byte(text)})
	}
	l.input(ipc.Input{Kind: ipc.InputKey, A: 'v'})
	l.send(ipc.TypeStop, nil)
	if n := len(l.queue); n != 3 {
		t.Fatalf("%d packets wait", n)
	}
	if c, _ := ipc.ParseClip(l.queue[0].data); string(c.Text) != "c" || l.queue[1].input.A != 'v' {
		t.Fatalf("%+v", l.queue)
	}
	l.dropInput()
	if len(l.queue) != 1 || ipc.Type(l.queue[0].data[0]) != ipc.TypeStop {
		t.Fatalf("%+v", l.queue)
	}
}

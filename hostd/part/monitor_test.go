package part

import (
	"fmt"
	"image"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

var bobsSeat = SeatState{Kind: SeatUser, UID: 1002, Session: "2", Display: ":0", Cookie: []byte("cookie")}

// attach waits for the messages that show a desktop to a session.
func (s *stage) attach(session uint32) (ipc.Desktop, []*os.File) {
	s.t.Helper()
	m := s.net.next(ipc.TypeDesktop)
	d, err := ipc.Decode[ipc.Desktop](m.data)
	if err != nil || len(m.files) != 2 {
		s.t.Fatalf("%d files, %v", len(m.files), err)
	}
	s.t.Cleanup(func() { ipc.CloseFiles(m.files) })
	a := get[ipc.Attach](s.net, ipc.TypeAttach)
	if a.Session != session || a.Desktop != d.Number {
		s.t.Fatalf("attached %+v to desktop %d, want session %d", a, d.Number, session)
	}
	return d, m.files
}

func TestSession(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n, r := s.open("alice@example.com", ipc.RoleControl)
	wantCode(t, r, 0)
	_, r = s.control(n, false, false)
	wantCode(t, r, 5) // not logged in
	wantCode(t, s.logIn(n, "alice", "wrong"), 1326)
	wantCode(t, s.logIn(n, "alice", "alice"), 0)
	w := s.worker()
	same(t, "the worker's user", w.who, alice)
	memory := w.next(ipc.TypeMemory)
	defer ipc.CloseFiles(memory.files)
	d, files := s.attach(n)
	same(t, "the size", d.Size, screenSize)
	epoch, r := s.control(n, false, false)
	wantCode(t, r, 0)
	same(t, "the epoch", epoch, uint64(7<<32+1))
	l := get[ipc.Lease](s.net, ipc.TypeLease)
	same(t, "the holder", l.Holder, "alice@example.com")

	s.key(n, epoch-1, 'x')
	s.key(n+1, epoch, 'y')
	s.key(n, 0, 'z')
	s.key(n, epoch, 'a')
	s.wantKey(w, 'a')
	passed, dropped := s.m.gate.Counts()
	same(t, "passed", passed, uint64(1))
	same(t, "dropped", dropped, uint64(3))

	// The memory: the worker writes it, hostd-net only reads it, and its size is fixed.
	if _, err := memory.files[0].WriteAt([]byte("pixel"), 10); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := files[0].ReadAt(got, 10); err != nil || string(got) != "pixel" {
		t.Fatalf("hostd-net reads %q, %v", got, err)
	}
	if _, err := files[0].Write(got); err == nil {
		t.Fatal("hostd-net can write the memory")
	}
	for _, f := range []*os.File{memory.files[0], files[0]} {
		if err := unix.Ftruncate(int(f.Fd()), 1); err == nil {
			t.Fatal("the memory can be cut")
		}
	}
	st, err := files[0].Stat()
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}

	// The viewer leaves: keys go up, and hostd-net loses the picture.
	s.net.send(ipc.TypeClose, ipc.Close{Session: n})
	w.next(ipc.TypeRelease)
	w.send(ipc.TypeReleased, nil)
	next := w.next(ipc.TypeMemory)
	defer ipc.CloseFiles(next.files)
	if _, err := next.files[0].WriteAt([]byte("other"), 10); err != nil {
		t.Fatal(err)
	}
	files[0].ReadAt(got, 10)
	same(t, "what hostd-net still reads", string(got), "pixel")
	s.key(n, epoch, 'b')
	s.settle()
	if _, dropped := s.m.gate.Counts(); dropped != 4 {
		t.Fatalf("%d dropped, want 4", dropped)
	}
}

func TestHeld(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	a := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	first, _ := s.control(a, false, false)
	_, r := s.open("carol@example.com", ipc.RoleControl)
	wantCode(t, r, 40010)
	if !strings.Contains(r.Error(), "alice@example.com has been in control") {
		t.Fatal(r)
	}
	b := s.enter("carol@example.com", "alice", ipc.RoleTake)
	_, r = s.control(b, false, false)
	wantCode(t, r, 40010)
	watcher := s.enter("dora@example.com", "alice", ipc.RoleWatch)
	_, r = s.control(watcher, true, true)
	wantCode(t, r, 40015)
	s.net.send(ipc.TypeOnline, ipc.Online{Online: true, Name: "desk<"})
	if _, r = s.control(watcher, true, true); !strings.Contains(r.Error(), "you may watch desk ,") {
		t.Fatalf("not by its name at the relay: %v", r)
	}

	t.Run("asked, and denied", func(t *testing.T) {
		s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b, Take: true})
		ask := get[ipc.Ask](s.net, ipc.TypeAsk)
		same(t, "who asks", ask.Account, "carol@example.com")
		s.net.send(ipc.TypeAnswer, ipc.Answer{Session: b, Asker: b, Grant: true}) // not the holder's
		s.net.send(ipc.TypeAnswer, ipc.Answer{Session: a, Asker: watcher, Grant: true})
		s.net.send(ipc.TypeAnswer, ipc.Answer{Session: a, Asker: b})
		wantCode(t, get[ipc.Controlled](s.net, ipc.TypeControlled).Refusal, 40011)
	})
	t.Run("forced by the desktop's owner", func(t *testing.T) {
		s.key(a, first, 'a')
		s.wantKey(w, 'a')
		s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b, Force: true})
		w.next(ipc.TypeRelease)
		same(t, "the lease between two holders", get[ipc.Lease](s.net, ipc.TypeLease).Session, uint32(0))
		s.key(a, first, 'b')
		w.send(ipc.TypeReleased, nil)
		c := get[ipc.Controlled](s.net, ipc.TypeControlled)
		wantCode(t, c.Refusal, 0)
		s.key(a, first, 'c')
		s.key(b, first, 'd')
		s.key(a, c.Epoch, 'e')
		s.key(b, c.Epoch, 'f')
		s.wantKey(w, 'f')
	})
}

// Who may take control without asking, how hostd-net is told, and what it is answered.
func TestForce(t *testing.T) {
	named := func(c *Config) { c.TakeForce = []string{"root"} }
	claimed := func(c *Config) { c.TakeForce = []string{"root@example.com"} }
	greeter := SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"}
	tests := []struct {
		name          string
		seat          SeatState
		change        func(*Config)
		holder, taker string // OS users
		told          bool   // of the right to force
		take          string // "": at once; else who is asked
		force         string
	}{
		{"oneself, on one's own desktop", bobsSeat, nil, "bob", "bob", true, "", ""},
		{"oneself, on another's desktop", bobsSeat, nil, "root", "root", false, "", ""},
		{"oneself, on the log-on screen", greeter, nil, "bob", "bob", false, "", ""},
		{"the owner", bobsSeat, nil, "root", "bob", true, "root@example.com", ""},
		{"not the owner", bobsSeat, nil, "bob", "root", false, "bob@example.com", "bob@example.com"},
		{"named", bobsSeat, named, "bob", "root", true, "", ""},
		{"named as an account, in the relay's words", bobsSeat, claimed, "bob", "root", false, "bob@example.com", "bob@example.com"},
		{"nobody owns the log-on screen", greeter, nil, "alice", "bob", false, "alice@example.com", "alice@example.com"},
	}
	for _, tt := range tests {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", by force ", force), func(t *testing.T) {
				s := newStage(t, tt.seat, tt.change)
				a := s.enter(tt.holder+"@example.com", tt.holder, ipc.RoleControl)
				w := s.worker()
				s.attach(a)
				_, r := s.control(a, false, false)
				wantCode(t, r, 0)
				b := s.enter(tt.taker+"@example.com", tt.taker, ipc.RoleTake)
				same(t, "the right to force", get[ipc.Attach](s.net, ipc.TypeAttach).Force, tt.told)
				asked := tt.take
				if force {
					asked = tt.force
				}
				s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b, Take: !force, Force: force})
				if asked != "" {
					same(t, "who is asked", get[ipc.Ask](s.net, ipc.TypeAsk).Session, a)
					s.net.send(ipc.TypeAnswer, ipc.Answer{Session: a, Asker: b})
					wantCode(t, get[ipc.Controlled](s.net, ipc.TypeControlled).Refusal, 40011)
					return
				}
				w.next(ipc.TypeRelease)
				w.send(ipc.TypeReleased, nil)
				s.holds(b, 0)
			})
		}
	}
	t.Run("the asker leaves", func(t *testing.T) {
		s := newStage(t, bobsSeat, nil)
		a := s.enter("bob@example.com", "bob", ipc.RoleControl)
		s.worker()
		s.attach(a)
		s.control(a, false, false)
		b := s.enter("root@example.com", "root", ipc.RoleTake)
		s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b, Take: true})
		same(t, "who asks", get[ipc.Ask](s.net, ipc.TypeAsk).Asker, b)
		s.net.send(ipc.TypeClose, ipc.Close{Session: b})
		same(t, "the question afterwards", get[ipc.Ask](s.net, ipc.TypeAsk), ipc.Ask{Session: a})
	})
	t.Run("while asking", func(t *testing.T) {
		s := newStage(t, bobsSeat, nil)
		a := s.enter("root@example.com", "root", ipc.RoleControl)
		w := s.worker()
		s.attach(a)
		s.control(a, false, false)
		b := s.enter("bob@example.com", "bob", ipc.RoleTake)
		s.net.send(ipc.TypeControl, ipc.Control{ID: 101, Session: b, Take: true})
		get[ipc.Ask](s.net, ipc.TypeAsk)
		s.net.send(ipc.TypeControl, ipc.Control{ID: 102, Session: b, Take: true})
		s.net.send(ipc.TypeControl, ipc.Control{ID: 103, Session: b, Take: true, Force: true})
		w.next(ipc.TypeRelease)
		w.send(ipc.TypeReleased, nil)
		for _, want := range []struct {
			id   uint32
			code int
		}{{102, 40052}, {101, 40052}, {103, 0}} {
			c := get[ipc.Controlled](s.net, ipc.TypeControlled)
			same(t, "the answered question", c.ID, want.id)
			wantCode(t, c.Refusal, want.code)
		}
	})
}

func TestWhoseDesktop(t *testing.T) {
	s := newStage(t, bobsSeat, nil)
	n, _ := s.open("alice@example.com", ipc.RoleControl)
	wantCode(t, s.logIn(n, "alice", "alice"), 5)
	b := s.enter("bob@example.com", "bob", ipc.RoleControl)
	w := s.worker()
	same(t, "the worker's user", w.who, bob)
	s.attach(b)
	r := s.enter("root@example.com", "root", ipc.RoleWatch)
	same(t, "root's desktop", get[ipc.Attach](s.net, ipc.TypeAttach).Session, r)
	first, _ := s.control(b, false, false)
	s.key(b, first, 'a')
	s.wantKey(w, 'a')

	// Bob logs out: the log-on screen is for everybody.
	s.seat.set(SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"})
	w.ended()
	second := s.holds(b, first)
	g := s.worker()
	same(t, "the greeter's user", g.who, gdm)
	s.net.next(ipc.TypeDesktop)
	s.key(b, first, 'b') // meant for the desktop before
	wantCode(t, s.logIn(n, "alice", "alice"), 0)
	s.key(b, second, 'c')
	s.wantKey(g, 'c')

	// Alice logs in at the screen: bob gets the form, root goes on.
	s.seat.set(SeatState{Kind: SeatUser, UID: 1001, Session: "3", Display: ":0"})
	d := get[ipc.Detach](s.net, ipc.TypeDetach)
	same(t, "who lost the desktop", d.Session, b)
	wantCode(t, d.Refusal, 5)
	g.ended()
	s.key(b, second, 'd')
	v := s.worker()
	same(t, "the worker's user", v.who, alice)
	s.net.next(ipc.TypeDesktop)
	got := map[uint32]bool{get[ipc.Attach](s.net, ipc.TypeAttach).Session: true, get[ipc.Attach](s.net, ipc.TypeAttach).Session: true}
	same(t, "who sees alice's desktop", got, map[uint32]bool{n: true, r: true})
	wantCode(t, s.logIn(b, "bob", "bob"), 5)
	epoch, ref := s.control(n, false, false)
	wantCode(t, ref, 0)
	s.key(n, epoch, 'e')
	s.wantKey(v, 'e')
}

// hostd-net is told whether its forms lead to the log-on screen.
func TestGreeterTold(t *testing.T) {
	s := newStage(t, bobsSeat, nil)
	s.seat.set(SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"})
	for !get[ipc.Welcome](s.net, ipc.TypeWelcome).Greeter {
	}
	s.seat.set(bobsSeat)
	for get[ipc.Welcome](s.net, ipc.TypeWelcome).Greeter {
	}
	s = newStage(t, SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"}, nil)
	s.net.proc.Kill()
	s.net = recv(t, s.parts.nets)
	s.net.send(ipc.TypeHello, ipc.Hello{Version: "test"})
	if !get[ipc.Welcome](s.net, ipc.TypeWelcome).Greeter {
		t.Fatal("not told at first")
	}
}

func TestWorkerEnds(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	d, _ := s.attach(n)
	epoch, _ := s.control(n, false, false)
	w.proc.Kill()
	w = s.worker()
	m := s.net.next(ipc.TypeDesktop)
	defer ipc.CloseFiles(m.files)
	again, _ := ipc.Decode[ipc.Desktop](m.data)
	same(t, "the desktop's number", again.Number, d.Number)
	s.key(n, epoch, 'a')
	s.wantKey(w, 'a')

	w.send(ipc.TypeSize, ipc.Ready{Display: ":9", Size: screenSize.Mul(2), Name: "desk"})
	m = s.net.next(ipc.TypeDesktop)
	defer ipc.CloseFiles(m.files)
	again, _ = ipc.Decode[ipc.Desktop](m.data)
	same(t, "the size", again.Size, screenSize.Mul(2))

	w.send(ipc.TypeSize, ipc.Ready{Size: screenSize.Mul(10000)})
	w.ended()
}

// Who controls may resize, with the epoch of now; a display that has to be started again has its last size.
func TestResize(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	s.attach(n)
	watcher := s.enter("dora@example.com", "alice", ipc.RoleWatch)
	size := image.Pt(100, 80)
	resize := func(session uint32, epoch uint64, number uint32) {
		s.net.send(ipc.TypeResize, ipc.Resize{Session: session, Epoch: epoch, Number: number, Size: size, Screens: []frame.Screen{{Rect: image.Rectangle{Max: size}}}})
	}
	resize(n, 0, 1)
	epoch, _ := s.control(n, false, false)
	resize(n, epoch-1, 2)
	resize(watcher, epoch, 3)
	resize(n, epoch, 4)
	r := get[ipc.Resize](w, ipc.TypeResize)
	if r.Number != 4 || r.Size != size || len(r.Screens) != 1 {
		t.Fatalf("%+v", r)
	}
	w.send(ipc.TypeSize, ipc.Ready{Display: ":9", Size: size, Name: "desk"})
	ipc.CloseFiles(s.net.next(ipc.TypeDesktop).files)
	w.proc.Kill()
	w = recv(t, s.parts.workers)
	same(t, "the size at the next start", get[ipc.Start](w, ipc.TypeStart).Size, size)
	w.send(ipc.TypeFailed, ipc.Failed{Cause: "no X server of that size"})
	w = recv(t, s.parts.workers)
	same(t, "the size after that has failed", get[ipc.Start](w, ipc.TypeStart).Size, image.Pt(1280, 800))
}

func TestNoDisplay(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	for range maxFails {
		w := recv(t, s.parts.workers)
		w.next(ipc.TypeStart)
		w.send(ipc.TypeFailed, ipc.Failed{Cause: "no X server"})
	}
	d := get[ipc.Detach](s.net, ipc.TypeDetach)
	same(t, "the session", d.Session, n)
	wantCode(t, d.Refusal, 40040)
	if !strings.Contains(d.Refusal.Error(), "no X server") {
		t.Fatal(d.Refusal)
	}
	s.worker()
	wantCode(t, s.logIn(n, "alice", "alice"), 0) // the form works again
}

func TestNetEnds(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	w.next(ipc.TypeMemory)
	s.attach(n)
	first, _ := s.control(n, false, false)
	s.net.proc.Kill()
	w.next(ipc.TypeRelease)
	w.send(ipc.TypeReleased, nil)
	ipc.CloseFiles(w.next(ipc.TypeMemory).files)
	s.hello()
	s.lastSes = 0 // another hostd-net counts anew

	// Its session is gone, and the number says nothing.
	_, r := s.control(n, false, false)
	wantCode(t, r, 40014)
	s.key(n, first, 'a')

	// Another person waits for the grace; the same one goes on at once.
	_, r = s.open("bob@example.com", ipc.RoleControl)
	wantCode(t, r, 40010)
	n = s.enter("alice@example.com", "alice", ipc.RoleControl)
	s.attach(n)
	epoch, r := s.control(n, false, false)
	wantCode(t, r, 0)
	if epoch <= first {
		t.Fatalf("the epoch went from %d to %d", first, epoch)
	}
	s.key(n, epoch, 'b')
	s.wantKey(w, 'b')
}

func TestAbuse(t *testing.T) {
	tests := []struct {
		name string
		do   func(*stage)
	}{
		{"a type that is none", func(s *stage) { s.net.conn.SendPacket([]byte{200}) }},
		{"a message for the worker", func(s *stage) { s.net.send(ipc.TypeRelease, nil) }},
		{"no JSON", func(s *stage) { s.net.conn.SendPacket([]byte{byte(ipc.TypeOpen), '{'}) }},
		{"half an input", func(s *stage) { s.net.conn.SendPacket(ipc.Input{}.AppendTo(nil)[:12]) }},
		{"an input of no kind", func(s *stage) { s.net.conn.SendPacket(ipc.Input{Session: 1, Epoch: 1, Kind: 9}.AppendTo(nil)) }},
		{"a role that is none", func(s *stage) { s.net.send(ipc.TypeOpen, ipc.Open{Session: 9, Role: 7}) }},
		{"a layout that cannot be", func(s *stage) { s.net.send(ipc.TypeResize, ipc.Resize{Session: 1, Number: 1, Size: image.Pt(9, 9)}) }},
		{"session 0", func(s *stage) { s.net.send(ipc.TypeOpen, ipc.Open{Session: 0, Role: ipc.RoleWatch}) }},
		{"a number twice", func(s *stage) { s.net.send(ipc.TypeOpen, ipc.Open{Session: 1, Role: ipc.RoleWatch}) }},
		{"a number twice, after its end", func(s *stage) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: 1})
			s.net.send(ipc.TypeOpen, ipc.Open{Session: 1, Role: ipc.RoleWatch})
		}},
		{"a second hello", func(s *stage) { s.net.send(ipc.TypeHello, ipc.Hello{Version: "test"}) }},
		{"a method that is none", func(s *stage) { s.net.send(ipc.TypeLogin, ipc.Login{Session: 1, Method: ipc.MethodResume + 1}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage(t, SeatState{}, nil)
			s.open("alice@example.com", ipc.RoleControl)
			broken := s.net
			tt.do(s)
			broken.ended()
			s.hello() // and it is back
			s.settle()
			if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d lines about it, want 1", n)
			}
		})
	}
}

func TestTooMany(t *testing.T) {
	s := newStage(t, SeatState{}, func(c *Config) { c.MaxSessions = 2; c.RequireE2E = true })
	for i, want := range []int{0, 0, 40016} {
		s.lastSes++
		s.net.send(ipc.TypeOpen, ipc.Open{ID: s.id(), Session: s.lastSes, Role: ipc.RoleWatch, E2E: true})
		r := get[ipc.Opened](s.net, ipc.TypeOpened).Refusal
		t.Log(i, r)
		wantCode(t, r, want)
	}
	_, r := s.open("alice@example.com", ipc.RoleWatch)
	wantCode(t, r, 40017)
}

func TestEnd(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	s.attach(n)
	epoch, _ := s.control(n, false, false)
	r := s.m.serveOp(t.Context(), Request{Op: OpSessions}, 0)
	if len(r.Sessions) != 1 || !r.Sessions[0].Control || r.Sessions[0].User != "alice" {
		t.Fatalf("%+v", r.Sessions)
	}
	for _, q := range []struct {
		op    string
		uid   uint32
		error string
	}{
		{OpSessions, 1002, "only root"},
		{OpUnlock, 1002, "only root"},
		{OpEnd, 1002, "no session 1 of yours"},
		{OpStatus, 1002, ""},
		{"dance", 0, "is no request"},
	} {
		r := s.m.serveOp(t.Context(), Request{Op: q.op, ID: n}, q.uid)
		if q.error == "" && r.Error != "" || !strings.Contains(r.Error, q.error) {
			t.Errorf("%s of user %d: %q, want %q", q.op, q.uid, r.Error, q.error)
		}
	}
	if r := s.m.serveOp(t.Context(), Request{Op: OpEnd, ID: n}, 1001); r.Count != 1 { // it is alice's desktop
		t.Fatalf("%+v", r)
	}
	e := get[ipc.End](s.net, ipc.TypeEnd)
	wantCode(t, e.Refusal, refuse.Ended.Code)
	s.key(n, epoch, 'a')
	w.next(ipc.TypeRelease)
	w.send(ipc.TypeReleased, nil)
	s.settle()
	if passed, _ := s.m.gate.Counts(); passed != 0 {
		t.Fatalf("%d keys passed after the end", passed)
	}
}

// TestFifty has 50 viewers ask for control at once: one gets it, the others are told by whom, and only the one's keys arrive.
func TestFifty(t *testing.T) {
	s := newStage(t, SeatState{}, func(c *Config) { c.MaxSessions = 64 })
	var all []uint32
	for range 50 {
		all = append(all, s.enter("alice@example.com", "alice", ipc.RoleControl))
	}
	w := s.worker()
	for _, n := range all {
		s.net.send(ipc.TypeControl, ipc.Control{ID: n, Session: n})
	}
	var holder uint32
	var epoch uint64
	for range all {
		c := get[ipc.Controlled](s.net, ipc.TypeControlled)
		if c.Refusal != nil {
			wantCode(t, c.Refusal, 40010)
			continue
		}
		if holder != 0 {
			t.Fatalf("both %d and %d have control", holder, c.ID)
		}
		holder, epoch = c.ID, c.Epoch
	}
	for _, n := range all {
		s.key(n, epoch, n)
	}
	s.wantKey(w, holder)
	s.settle()
	same(t, "keys that passed", s.m.serveOp(t.Context(), Request{Op: OpStatus}, 0).Status.Passed, uint64(1))
}

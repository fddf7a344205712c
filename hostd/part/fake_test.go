package part

import (
	"bytes"
	"context"
	"errors"
	"image"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

// waitTime bounds every wait of a test.
const waitTime = 60 * time.Second

// An actor plays a part: it sends what the test says and keeps what the monitor sends.
type actor struct {
	t     *testing.T
	conn  *ipc.Conn
	proc  *fakeProcess
	who   *login.Account // of a worker
	inbox chan message
}

type message struct {
	kind  ipc.Type
	data  []byte
	files []*os.File
}

func newActor(t *testing.T, slow *slowKill) (*actor, *ipc.Conn) {
	t.Helper()
	ours, theirs, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	a, err := ipc.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ipc.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	p := &actor{t: t, conn: a, proc: &fakeProcess{done: make(chan struct{}), slow: slow}, inbox: make(chan message, 1024)}
	p.proc.end = func() { a.Close() }
	go func() {
		defer close(p.inbox)
		buf := make([]byte, ipc.MaxMessage)
		for {
			data, files, err := a.Receive(buf)
			if err != nil {
				p.proc.Kill()
				return
			}
			p.inbox <- message{ipc.Type(data[0]), bytes.Clone(data), files}
		}
	}()
	t.Cleanup(func() {
		p.proc.Kill()
		for m := range p.inbox {
			ipc.CloseFiles(m.files)
		}
	})
	return p, b
}

type fakeProcess struct {
	once sync.Once
	end  func()
	done chan struct{}
	slow *slowKill // nil: Kill does not wait
}

// A slowKill holds up those who kill.
type slowKill struct {
	begun chan struct{} // 1
	wait  chan struct{}
}

func (p *fakeProcess) Kill() {
	if p.slow != nil {
		select {
		case p.slow.begun <- struct{}{}:
		default:
		}
		<-p.slow.wait
	}
	p.once.Do(func() { p.end(); close(p.done) })
}
func (p *fakeProcess) Done() <-chan struct{} { return p.done }

func (a *actor) send(kind ipc.Type, body any) {
	a.t.Helper()
	if err := a.conn.Send(kind, body); err != nil {
		a.t.Fatalf("send %d: %v", kind, err)
	}
}

// received waits until the monitor has received all that was sent.
func (a *actor) received() {
	a.t.Helper()
	for late := time.Now().Add(waitTime); ; runtime.Gosched() {
		unread, err := a.conn.Unread()
		if err != nil || time.Now().After(late) {
			a.t.Fatal("the monitor does not receive:", err)
		}
		if !unread {
			return
		}
	}
}

// next waits for a message of that kind and throws those before it away.
func (a *actor) next(kind ipc.Type) message {
	a.t.Helper()
	late := time.After(waitTime)
	for {
		select {
		case m, ok := <-a.inbox:
			if !ok {
				a.t.Fatalf("the monitor closed the socket before message %d", kind)
			}
			if m.kind == kind {
				return m
			}
			ipc.CloseFiles(m.files)
		case <-late:
			a.t.Fatalf("no message %d", kind)
		}
	}
}

// ended waits until the monitor has ended the part.
func (a *actor) ended() {
	a.t.Helper()
	select {
	case <-a.proc.done:
	case <-time.After(waitTime):
		a.t.Fatal("the monitor did not end the part")
	}
}

func get[T any](a *actor, kind ipc.Type) T {
	a.t.Helper()
	m := a.next(kind)
	defer ipc.CloseFiles(m.files)
	v, err := ipc.Decode[T](m.data)
	if err != nil {
		a.t.Fatal(err)
	}
	return v
}

// fakeParts starts actors.
type fakeParts struct {
	t       *testing.T
	nets    chan *actor
	workers chan *actor
	fail    func(*login.Account) error // of Worker
	slow    *slowKill                  // of workers
}

func (p *fakeParts) Net(context.Context) (*ipc.Conn, Process, error) {
	a, c := newActor(p.t, nil)
	p.nets <- a
	return c, a.proc, nil
}

func (p *fakeParts) Worker(_ context.Context, who *login.Account, _ bool) (*ipc.Conn, Process, error) {
	if p.fail != nil {
		if err := p.fail(who); err != nil {
			return nil, nil, err
		}
	}
	a, c := newActor(p.t, p.slow)
	a.who = who
	p.workers <- a
	return c, a.proc, nil
}

type fakeSeat struct {
	mu      sync.Mutex
	state   SeatState
	changes chan struct{}
}

func (s *fakeSeat) Current() SeatState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
func (s *fakeSeat) Changes() <-chan struct{} { return s.changes }
func (s *fakeSeat) set(st SeatState) {
	s.mu.Lock()
	s.state = st
	s.mu.Unlock()
	s.changes <- struct{}{}
}

// fakeLogin lets users in whose secret is their name.
type fakeLogin struct {
	users map[string]*login.Account
	hold  chan struct{} // when not nil, an attempt waits for it
}

func (l *fakeLogin) Login(ctx context.Context, _ ipc.Method, user string, secret []byte) login.Result {
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
		}
	}
	a := l.users[user]
	if a == nil || string(secret) != user {
		return login.Result{Refusal: refuse.WrongLogin.Of(), Left: 2}
	}
	return login.Result{Account: a, Left: -1}
}
func (l *fakeLogin) CodeSet(context.Context) bool     { return true }
func (l *fakeLogin) OSLogin() bool                    { return true }
func (l *fakeLogin) Unlock(string, bool) (int, error) { return 1, nil }
func (l *fakeLogin) Locked() []time.Time              { return nil }

// A stage is a monitor with actors around it.
type stage struct {
	t       *testing.T
	m       *Monitor
	parts   *fakeParts
	seat    *fakeSeat
	login   *fakeLogin
	log     *syncBuffer
	net     *actor
	lastID  uint32
	lastSes uint32
}

var (
	alice = &login.Account{Name: "alice", UID: 1001, GID: 1001, Groups: []uint32{1001}}
	bob   = &login.Account{Name: "bob", UID: 1002, GID: 1002, Groups: []uint32{1002}}
	root  = &login.Account{Name: "root"}
	gdm   = &login.Account{Name: "gdm", UID: 120, GID: 120}
)

var screenSize = image.Pt(64, 48)

// A syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func newStage(t *testing.T, state SeatState, change func(*Config)) *stage {
	t.Helper()
	return newStageTimes(t, state, change, longTimes())
}

func newStageTimes(t *testing.T, state SeatState, change func(*Config), times times) *stage {
	t.Helper()
	s := &stage{
		t:     t,
		parts: &fakeParts{t: t, nets: make(chan *actor, 16), workers: make(chan *actor, 16)},
		seat:  &fakeSeat{state: state, changes: make(chan struct{}, 1)},
		login: &fakeLogin{users: map[string]*login.Account{"alice": alice, "bob": bob, "root": root}},
		log:   &syncBuffer{},
	}
	c := Config{
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Version: "test", Name: "desk7", Epoch: 7 << 32,
		Parts: s.parts, Seat: s.seat, Login: s.login,
		Lookup: func(_ context.Context, uid uint32) (*login.Account, error) {
			for _, a := range []*login.Account{alice, bob, root, gdm} {
				if a.UID == uid {
					return a, nil
				}
			}
			return nil, errors.New("no such user")
		},
		CodeFirst: func(set bool) bool { return set }, MaxSessions: 8, Size: image.Pt(1280, 800),
	}
	if change != nil {
		change(&c)
	}
	s.m = New(c)
	s.m.times = times
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(waitTime):
			t.Error("Run does not return")
		}
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	s.hello()
	return s
}

// hello waits for the next hostd-net and says its hello.
func (s *stage) hello() {
	s.t.Helper()
	s.net = recv(s.t, s.parts.nets)
	s.net.send(ipc.TypeHello, ipc.Hello{Version: "test"})
	s.net.next(ipc.TypeWelcome)
}

func recv[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(waitTime):
		t.Fatal("nothing came")
	}
	panic("not reached")
}

func (s *stage) id() uint32 { s.lastID++; return s.lastID }

// open opens a session and gives its number.
func (s *stage) open(account string, role ipc.Role) (uint32, *refuse.Refusal) {
	s.t.Helper()
	s.lastSes++
	n := s.lastSes
	s.net.send(ipc.TypeOpen, ipc.Open{ID: s.id(), Session: n, Account: account, Viewer: "192.0.2.7:1", Role: role})
	return n, get[ipc.Opened](s.net, ipc.TypeOpened).Refusal
}

func (s *stage) logIn(session uint32, user, secret string) *refuse.Refusal {
	s.t.Helper()
	s.net.send(ipc.TypeLogin, ipc.Login{ID: s.id(), Session: session, Method: ipc.MethodPassword, User: user, Secret: []byte(secret)})
	return get[ipc.LoggedIn](s.net, ipc.TypeLoggedIn).Refusal
}

// enter opens a session and logs it in.
func (s *stage) enter(account, user string, role ipc.Role) uint32 {
	s.t.Helper()
	n, r := s.open(account, role)
	if r == nil {
		r = s.logIn(n, user, user)
	}
	if r != nil {
		s.t.Fatal(r)
	}
	return n
}

// worker waits for the next worker and has it open its display.
func (s *stage) worker() *actor {
	s.t.Helper()
	w := recv(s.t, s.parts.workers)
	w.next(ipc.TypeStart)
	w.send(ipc.TypeReady, ipc.Ready{Display: ":9", Size: screenSize, Name: "desk"})
	return w
}

func (s *stage) control(session uint32, take, force bool) (uint64, *refuse.Refusal) {
	s.t.Helper()
	s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: session, Take: take, Force: force})
	c := get[ipc.Controlled](s.net, ipc.TypeControlled)
	return c.Epoch, c.Refusal
}

// holds waits until the session may type with a later epoch and gives that.
func (s *stage) holds(session uint32, after uint64) uint64 {
	s.t.Helper()
	for {
		if l := get[ipc.Lease](s.net, ipc.TypeLease); l.Session == session && l.Epoch > after {
			return l.Epoch
		}
	}
}

func (s *stage) key(session uint32, epoch uint64, sym uint32) {
	s.t.Helper()
	if err := s.net.conn.SendPacket(ipc.Input{Session: session, Epoch: epoch, Kind: ipc.InputKey, A: sym, B: 1}.AppendTo(nil)); err != nil {
		s.t.Fatal(err)
	}
}

// settle waits until the monitor has seen all that hostd-net has sent.
func (s *stage) settle() {
	s.t.Helper()
	s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: 1 << 30})
	get[ipc.Controlled](s.net, ipc.TypeControlled)
}

func (s *stage) wantKey(w *actor, sym uint32) {
	s.t.Helper()
	in, err := ipc.ParseInput(w.next(ipc.TypeInput).data)
	if err != nil || in.A != sym {
		s.t.Fatalf("the worker got the key %#x, %v; want %#x", in.A, err, sym)
	}
}

func wantCode(t *testing.T, r *refuse.Refusal, code int) {
	t.Helper()
	if code == 0 && r == nil {
		return
	}
	if r == nil || r.Code != code {
		t.Fatalf("got %v, want %d", r, code)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}

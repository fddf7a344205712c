package desktop

import (
	"bytes"
	"context"
	"errors"
	"image"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// canary is the colour of the fake desktop, found nowhere else.
const canary = 0xc0ffee

// A fakeHost is hostd with one desktop, for hostd-net to talk to.
type fakeHost struct {
	t    testing.TB
	conn *ipc.Conn
	dir  string // hostd-net's

	mu       sync.Mutex // guards what follows
	welcome  ipc.Welcome
	opened   *refuse.Refusal // answer to every Open
	ends     []ipc.AtEnd
	manual   bool                   // no Attach after a log-in
	sessions map[uint32]ipc.Open    // open ones
	users    map[uint32]string      // of logged-in ones
	closed   map[uint32]ipc.Close   // of the others
	inputs   map[uint32][]ipc.Input // that carried the epoch
	pastes   []string               // texts that carried the epoch
	stray    int                    // what did not
	logins   []ipc.Login            // secrets included
	recorded []ipc.Recorded
	holder   uint32
	epoch    uint64
	since    time.Time
	asking   *ipc.Control
	force    bool // everybody may take control without asking
	screen   *fakeWorker
	resizes  []ipc.Resize     // that carried the epoch
	resize   func(ipc.Resize) // gets them; may be nil
	changed  chan struct{}    // closed and made anew at each change
}

// A fakeWorker has a screen and the other end of the picture socket.
type fakeWorker struct {
	conn *ipc.Conn
	mem  []byte
	size image.Point

	mu       sync.Mutex // guards what follows
	screen   frame.Image
	copies   []frame.Copy
	damage   []image.Rectangle
	told     bool
	grabs    int
	sequence uint32
	hold     bool // answer no Grab
	held     bool // one waits
}

// start runs hostd-net against a fake host with a desktop of that size.
func start(t testing.TB, size image.Point, change ...func(*ipc.Welcome)) (*server, *fakeHost) {
	t.Helper()
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ca, err1 := ipc.FileConn(a)
	cb, err2 := ipc.FileConn(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{
		t: t, conn: cb, sessions: map[uint32]ipc.Open{}, users: map[uint32]string{}, closed: map[uint32]ipc.Close{},
		inputs: map[uint32][]ipc.Input{}, changed: make(chan struct{}),
		welcome: ipc.Welcome{Name: "desk7", Size: size, CodeSet: true, OSLogin: true, BootID: "1", Clipboard: ipc.Clipboard{ToHost: true, ToViewer: true}},
	}
	for _, f := range change {
		f(&h.welcome)
	}
	cfg := Config{Monitor: ca, StateDir: t.TempDir(), Version: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	h.dir = cfg.StateDir
	if err := os.WriteFile(filepath.Join(h.dir, RSAKeyFile), rsaPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s, err := newServer(cfg)
	if err == nil {
		err = s.enrolled(cfg, Enrolment{Addr: "relay.example:2222", Name: "desk7"})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	host := make(chan struct{})
	go func() { defer close(host); h.serve() }()
	go func() {
		done <- s.run(ctx, cfg, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("hostd-net: %v", err)
		}
		cb.Close()
		<-host
		h.mu.Lock()
		if h.screen != nil {
			h.screen.conn.Close()
		}
		h.mu.Unlock()
	})
	select {
	case <-s.greeted:
	case <-time.After(patience):
		t.Fatal("no welcome")
	}
	return s, h
}

// rsaPEM is the RSA key of every test's computer: making one takes long.
var rsaPEM = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "helmline-rsa-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, RSAKeyFile)
	err = newRSAKey(name)
	b, err2 := os.ReadFile(name)
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return b
})

func (h *fakeHost) send(t ipc.Type, body any, files ...*os.File) {
	if err := h.conn.Send(t, body, files...); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EPIPE) {
		h.t.Errorf("send: %v", err)
	}
}

func (h *fakeHost) serve() {
	buf := make([]byte, ipc.MaxMessage)
	for {
		p, files, err := h.conn.Receive(buf)
		if err != nil {
			return
		}
		ipc.CloseFiles(files)
		h.mu.Lock()
		h.message(p)
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
	}
}

func decode[T any](h *fakeHost, p []byte) T {
	m, err := ipc.Decode[T](p)
	if err != nil {
		h.t.Errorf("message %d: %v", p[0], err)
	}
	return m
}

func (h *fakeHost) message(p []byte) {
	switch ipc.Type(p[0]) {
	case ipc.TypeHello:
		h.send(ipc.TypeWelcome, h.welcome)
		if h.screen == nil {
			h.desktop(h.welcome.Size)
		}
	case ipc.TypeOpen:
		m := decode[ipc.Open](h, p)
		h.sessions[m.Session] = m
		h.send(ipc.TypeOpened, ipc.Opened{ID: m.ID, Refusal: h.opened})
	case ipc.TypeLogin:
		h.login(decode[ipc.Login](h, p))
	case ipc.TypeControl:
		h.control(decode[ipc.Control](h, p))
	case ipc.TypeAnswer:
		m := decode[ipc.Answer](h, p)
		if h.asking != nil && m.Session == h.holder && m.Asker == h.asking.Session {
			c := *h.asking
			h.asking = nil
			if m.Grant {
				h.grant(c)
			} else {
				h.send(ipc.TypeControlled, ipc.Controlled{ID: c.ID, Refusal: refuse.Denied.Of(h.account(h.holder))})
			}
		}
	case ipc.TypeAtEnd:
		h.ends = append(h.ends, decode[ipc.AtEnd](h, p))
	case ipc.TypeClose:
		m := decode[ipc.Close](h, p)
		h.closed[m.Session] = m
		delete(h.sessions, m.Session)
		delete(h.users, m.Session)
		if h.holder == m.Session {
			h.holder = 0
			h.epoch++
			h.lease()
		}
	case ipc.TypeInput:
		in, err := ipc.ParseInput(p)
		if err != nil {
			h.t.Error(err)
		}
		if in.Session != h.holder || in.Epoch != h.epoch {
			h.stray++
			return
		}
		h.inputs[in.Session] = append(h.inputs[in.Session], in)
	case ipc.TypeResize:
		m := decode[ipc.Resize](h, p)
		if m.Session != h.holder || m.Epoch != h.epoch {
			h.stray++
			return
		}
		if h.resizes = append(h.resizes, m); h.resize != nil {
			h.resize(m)
		}
	case ipc.TypePaste:
		c, err := ipc.ParseClip(p)
		if err != nil {
			h.t.Error(err)
		}
		if c.Session != h.holder || c.Epoch != h.epoch {
			h.stray++
			return
		}
		h.pastes = append(h.pastes, string(c.Text))
	case ipc.TypeYield:
		if m := decode[ipc.Yield](h, p); m.Session == h.holder {
			h.holder = 0
			h.lease()
		}
	case ipc.TypeRecorded:
		h.recorded = append(h.recorded, decode[ipc.Recorded](h, p))
	case ipc.TypeOnline:
	default:
		h.t.Errorf("unexpected message %d", p[0])
	}
}

func (h *fakeHost) account(session uint32) string { return h.sessions[session].Account }

// login knows alice with the password "pass word", mallory who may not log in, and the code "12345678".
func (h *fakeHost) login(m ipc.Login) {
	h.logins = append(h.logins, m)
	answer := ipc.LoggedIn{ID: m.ID, Left: -1}
	switch {
	case m.Method == ipc.MethodCode && string(m.Secret) == "12345678":
		answer.User = "alice"
	case m.Method == ipc.MethodCode:
		answer.Refusal, answer.Left = refuse.WrongCode.Of(), 2
	case m.User == "mallory" && string(m.Secret) == "pass word":
		answer.Refusal = refuse.NoRight.Of(m.User)
	case m.User == "locked":
		answer.Refusal, answer.Until = refuse.LockedOut.Of("10:04"), time.Now().Add(time.Minute)
	case string(m.Secret) == "pass word":
		answer.User = m.User
	default:
		answer.Refusal, answer.Left = refuse.WrongLogin.Of(), 2
	}
	h.send(ipc.TypeLoggedIn, answer)
	if answer.Refusal == nil {
		h.users[m.Session] = answer.User
		if !h.manual {
			h.send(ipc.TypeAttach, ipc.Attach{Session: m.Session, Desktop: 1, User: answer.User, Force: h.force})
		}
	}
}

func (h *fakeHost) control(m ipc.Control) {
	switch {
	case h.users[m.Session] == "":
		h.t.Errorf("session %d asks for control without a log-in", m.Session)
	case h.holder == 0 || h.holder == m.Session:
		h.grant(m)
	case m.Force && h.force:
		if h.asking != nil {
			h.send(ipc.TypeControlled, ipc.Controlled{ID: h.asking.ID, Refusal: refuse.Busy.Of()})
			h.asking = nil
		}
		h.grant(m)
	case m.Take:
		h.asking = &m
		h.send(ipc.TypeAsk, ipc.Ask{Session: h.holder, Asker: m.Session, Account: h.account(m.Session), Until: time.Now().Add(10 * time.Second)})
	default:
		h.send(ipc.TypeControlled, ipc.Controlled{ID: m.ID, Refusal: refuse.Held.Of(h.account(h.holder), h.since.Format("15:04"))})
	}
}

func (h *fakeHost) grant(m ipc.Control) {
	h.epoch++
	h.holder, h.since = m.Session, time.Now()
	h.send(ipc.TypeControlled, ipc.Controlled{ID: m.ID, Epoch: h.epoch})
	h.lease()
}

func (h *fakeHost) lease() {
	h.send(ipc.TypeLease, ipc.Lease{Epoch: h.epoch, Session: h.holder, Holder: h.account(h.holder), Since: h.since})
}

// copied is a text that was copied on the desktop.
func (h *fakeHost) copied(session uint32, epoch uint64, text string) {
	p := ipc.Clip{Session: session, Epoch: epoch, Text: []byte(text)}.AppendTo(nil, ipc.TypeCopy)
	if err := h.conn.SendPacket(p); err != nil {
		h.t.Error(err)
	}
}

// desktop gives out a new memory and picture socket.
func (h *fakeHost) desktop(size image.Point) {
	stride := size.X * frame.BytesPerPixel
	f, mem, err := memory(stride * size.Y)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	a, b, err := ipc.Pair()
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := ipc.FileConn(a)
	if err != nil {
		h.t.Fatal(err)
	}
	w := &fakeWorker{conn: conn, mem: mem, size: size, screen: frame.New(image.Rectangle{Max: size})}
	w.fill(w.screen.Rect, canary)
	if h.screen != nil {
		h.screen.conn.Close()
	}
	h.screen = w
	w.conn.SendPacket((&ipc.Layout{Screens: whole(size)}).AppendTo(nil))
	go w.serve()
	h.send(ipc.TypeDesktop, ipc.Desktop{Number: 1, Size: size, Stride: stride, Name: "the desktop"}, f, b)
	b.Close()
}

// memory makes a frame memory and maps it.
func memory(size int) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("frame", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "frame")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, nil, err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	return f, mem, err
}

// with runs f under the host's lock.
func (h *fakeHost) with(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// await waits until cond, called under the lock, is true.
func (h *fakeHost) await(what string, cond func() bool) {
	h.t.Helper()
	late := time.After(patience)
	for {
		h.mu.Lock()
		ok, changed := cond(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			h.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// worker is that of now.
func (h *fakeHost) worker() *fakeWorker {
	h.t.Helper()
	var w *fakeWorker
	h.await("a desktop", func() bool { w = h.screen; return w != nil })
	return w
}

func (w *fakeWorker) serve() {
	buf := make([]byte, ipc.MaxMessage)
	for {
		p, _, err := w.conn.Receive(buf)
		if err != nil {
			return
		}
		g, err := ipc.ParseGrab(p)
		if err != nil {
			panic(err)
		}
		w.mu.Lock()
		w.grabs++
		if g.Full {
			w.damage = append(w.damage[:0], w.screen.Rect)
		}
		if w.hold {
			w.held = true
		} else {
			w.frame()
		}
		w.mu.Unlock()
	}
}

// frame answers a Grab. w.mu is held.
func (w *fakeWorker) frame() {
	if len(w.copies) > 0 {
		w.copy()
	}
	f := ipc.Frame{Sequence: w.sequence, Copies: w.copies, Rects: w.damage}
	w.sequence++
	for _, r := range w.damage {
		f.Captured += uint32(r.Dx() * r.Dy())
		for y := r.Min.Y; y < r.Max.Y; y++ {
			copy(w.mem[(y*w.size.X+r.Min.X)*frame.BytesPerPixel:], w.screen.Row(y, r.Min.X, r.Max.X))
		}
	}
	w.conn.SendPacket(f.AppendTo(nil)) // nobody hears it when the test is over
	w.copies, w.damage, w.told = w.copies[:0], w.damage[:0], false
}

// copy makes the copies in the memory, and damage of what is still not the screen.
func (w *fakeWorker) copy() {
	mem := frame.Image{Pix: w.mem, Stride: w.size.X * frame.BytesPerPixel, Rect: image.Rectangle{Max: w.size}}
	for _, c := range w.copies {
		mem.Move(c)
	}
	for y := range w.size.Y {
		for x := 0; x < w.size.X; x += 32 {
			end := min(x+32, w.size.X)
			if !bytes.Equal(mem.Row(y, x, end), w.screen.Row(y, x, end)) {
				w.damage = append(w.damage, image.Rect(x, y, end, y+1))
			}
		}
	}
	if most := ipc.MaxRects - len(w.copies); len(w.damage) > most {
		w.damage = append(w.damage[:0], w.screen.Rect)
	}
}

// fill is for the screen before anybody sees it.
func (w *fakeWorker) fill(r image.Rectangle, rgb uint32) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := w.screen.Row(y, r.Min.X, r.Max.X)
		for i := 0; i < len(row); i += frame.BytesPerPixel {
			row[i], row[i+1], row[i+2] = byte(rgb), byte(rgb>>8), byte(rgb>>16)
		}
	}
}

// paint changes the screen and says so.
func (w *fakeWorker) paint(r image.Rectangle, rgb uint32) {
	w.draw(r, func() { w.fill(r, rgb) })
}

func (w *fakeWorker) draw(r image.Rectangle, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.damage = append(w.damage, r)
	if !w.told {
		w.told = true
		w.conn.SendPacket([]byte{byte(ipc.TypeDamaged)})
	}
}

// pipe is a pair of TCP connections.
func pipe(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type dialled struct {
		c   net.Conn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		done <- dialled{c, err}
	}()
	a, err = l.Accept()
	d := <-done
	if err := errors.Join(err, d.err); err != nil {
		t.Fatal(err)
	}
	return a, d.c
}

// join opens a stream as the relay would. ctx is the tunnel's.
func join(ctx context.Context, t testing.TB, s *server, h tunnel.Header) (net.Conn, error) {
	t.Helper()
	a, b := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(ctx, a, h)
	}()
	t.Cleanup(func() {
		b.Close()
		<-done
	})
	b.SetReadDeadline(time.Now().Add(patience))
	if _, err := tunnel.ReadReply(b); err != nil {
		return nil, err
	}
	b.SetReadDeadline(time.Time{})
	return b, nil
}

// fromInit is a header of the RFB door.
func fromInit(account string, role tunnel.Role) tunnel.Header {
	return tunnel.Header{Purpose: tunnel.RFBInit, Role: role, Minor: 8, Session: "s", Account: account, Viewer: "192.0.2.1:5"}
}

// view joins a viewer through the RFB door.
func view(t testing.TB, s *server, account string, role tunnel.Role, cfg rfbtest.Config) *rfbtest.Client {
	t.Helper()
	return viewIn(context.Background(), t, s, account, role, cfg)
}

func viewIn(ctx context.Context, t testing.TB, s *server, account string, role tunnel.Role, cfg rfbtest.Config) *rfbtest.Client {
	t.Helper()
	conn, err := join(ctx, t, s, fromInit(account, role))
	if err != nil {
		t.Fatal(err)
	}
	cfg.FromInit = true
	c, err := rfbtest.Handshake(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// session is the only session of an account.
func (s *server) session(account string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, se := range s.sessions {
		if se.account == account {
			return se
		}
	}
	return nil
}

// texts are those of the pages that a session shows.
func (s *server) texts(account string) []string {
	se := s.session(account)
	if se == nil {
		return nil
	}
	se.mu.Lock()
	ready := se.ready
	se.mu.Unlock()
	if !ready {
		return nil
	}
	se.view.mu.Lock()
	defer se.view.mu.Unlock()
	var all []string
	for _, p := range se.view.scene.pages {
		for _, it := range p.Items {
			all = append(all, it.Text)
		}
	}
	return all
}

// says waits until a viewer's pages hold a text. Whatever is shown reaches the viewer, so its messages tell when to look.
func says(t testing.TB, s *server, account string, c *rfbtest.Client, text string) {
	t.Helper()
	shows := func(*rfbtest.Client) bool {
		return slices.ContainsFunc(s.texts(account), func(have string) bool { return strings.Contains(have, text) })
	}
	if err := c.WaitFor(shows, patience); err != nil {
		t.Fatalf("%s is not shown %q but %q: %v", account, text, s.texts(account), err)
	}
}

// sees waits until a viewer's pixel has a colour.
func sees(t testing.TB, c *rfbtest.Client, x, y int, rgb uint32) {
	t.Helper()
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.At(x, y) == rgb }, patience); err != nil {
		t.Fatalf("pixel %d,%d is %06x, not %06x: %v", x, y, c.At(x, y), rgb, err)
	}
}

// logIn types what the form asks for.
func logIn(t testing.TB, s *server, account string, c *rfbtest.Client) {
	t.Helper()
	says(t, s, account, c, "Log in to this computer")
	typed := "12345678\n"
	if slices.Contains(s.texts(account), "User name") {
		typed = "alice\tpass word\n"
	}
	if err := c.Type(typed); err != nil {
		t.Fatal(err)
	}
}

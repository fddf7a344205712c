package screen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"github.com/helmline/helmline/hostd/ipc"
)

// startBus starts a bus that is the system's for this test.
func startBus(t *testing.T) (address string, stop func()) {
	t.Helper()
	cmd := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1", "--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(stop)
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	return address, stop
}

// A fakeLogind is org.freedesktop.login1 on a bus.
type fakeLogind struct {
	t    *testing.T
	conn *dbus.Conn
	seat *prop.Properties

	vt       uint32 // of the sessions that are made known
	mu       sync.Mutex
	sessions map[string]map[string]any
}

type activeSession struct {
	ID   string
	Path dbus.ObjectPath
}

type sessionUser struct {
	UID  uint32
	Path dbus.ObjectPath
}

type listedSession struct {
	ID         string
	UID        uint32
	User, Seat string
	Path       dbus.ObjectPath
}

const fakeSeatPath = dbus.ObjectPath("/org/freedesktop/login1/seat/seat0")

func fakeSessionPath(id string) dbus.ObjectPath {
	if id == "" {
		return "/"
	}
	return dbus.ObjectPath("/org/freedesktop/login1/session/_" + id)
}

func startLogind(t *testing.T, address string) *fakeLogind {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &fakeLogind{t: t, conn: conn, sessions: map[string]map[string]any{}}
	if err := conn.Export(l, login1Path, login1Manager); err != nil {
		t.Fatal(err)
	}
	l.seat, err = prop.Export(conn, fakeSeatPath, prop.Map{login1Seat: {
		"ActiveSession": {Value: activeSession{"", "/"}, Emit: prop.EmitTrue},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName(login1, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(r, err)
	}
	return l
}

func (l *fakeLogind) GetSeat(string) (dbus.ObjectPath, *dbus.Error) { return fakeSeatPath, nil }

func (l *fakeLogind) ListSessions() ([]listedSession, *dbus.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []listedSession
	for id, s := range l.sessions {
		list = append(list, listedSession{id, s["User"].(sessionUser).UID, s["Name"].(string), "seat0", fakeSessionPath(id)})
	}
	return list, nil
}

// session makes a session known.
func (l *fakeLogind) session(id string, uid int, class, kind, display string, active bool) {
	l.t.Helper()
	p := map[string]any{
		"Class": class, "Type": kind, "Display": display, "State": "active", "Active": active,
		"VTNr": l.vt, "Name": userName(uid), "User": sessionUser{uint32(uid), "/org/freedesktop/login1/user/_0"},
	}
	props := map[string]*prop.Prop{}
	for k, v := range p {
		props[k] = &prop.Prop{Value: v}
	}
	if _, err := prop.Export(l.conn, fakeSessionPath(id), prop.Map{login1Session: props}); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.sessions[id] = p
	l.mu.Unlock()
	l.emit("SessionNew", id)
}

func (l *fakeLogind) remove(id string) {
	l.mu.Lock()
	delete(l.sessions, id)
	l.mu.Unlock()
	l.emit("SessionRemoved", id)
}

func (l *fakeLogind) emit(name, id string) {
	if err := l.conn.Emit(login1Path, login1Manager+"."+name, id, fakeSessionPath(id)); err != nil {
		l.t.Fatal(err)
	}
}

// switchTo makes a session the seat's.
func (l *fakeLogind) switchTo(id string) {
	l.seat.SetMust(login1Seat, "ActiveSession", activeSession{id, fakeSessionPath(id)})
}

func newTestSeat(t *testing.T, source string) Seat {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s, err := NewSeat(ctx, source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// becomes waits for a state.
func becomes(t *testing.T, s Seat, kind SeatKind, uid int, display string) SeatState {
	t.Helper()
	late := time.After(patience)
	for {
		now := s.Current()
		if now.Kind == kind && (kind == SeatNone || now.UID == uid && now.Display == display) {
			return now
		}
		select {
		case <-s.Changes():
		case <-late:
			t.Fatalf("the seat is %v, uid %d, %q; not %v, uid %d, %q", now.Kind, now.UID, now.Display, kind, uid, display)
		}
	}
}

// The tests run as root: only then is there a seat to find out about. As anybody else the own display is all there is.
func root() bool { return os.Geteuid() == 0 }

func TestSeatByLogind(t *testing.T) {
	if !root() {
		return
	}
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	address, _ := startBus(t)
	l := startLogind(t, address)
	const carol, bob, greeter = 4001, 4002, 4003
	l.session("c1", greeter, "greeter", "x11", x.name, true)
	l.switchTo("c1")
	for _, source := range []string{SourceAuto, x.name} {
		t.Run(source, func(t *testing.T) {
			s := newTestSeat(t, source)
			st := becomes(t, s, SeatGreeter, greeter, x.name)
			if !bytes.Equal(st.Cookie, x.cookie) || st.Session != "c1" {
				t.Fatalf("%+v", st)
			}
			l.session("2", carol, "user", "x11", x.name, true)
			l.remove("c1")
			l.switchTo("2")
			becomes(t, s, SeatUser, carol, x.name)
			l.session("3", bob, "user", "x11", x.name, true)
			l.remove("2")
			l.switchTo("3")
			if st := becomes(t, s, SeatUser, bob, x.name); st.Session != "3" {
				t.Fatalf("%+v", st)
			}
			l.session("c1", greeter, "greeter", "x11", x.name, true)
			l.remove("3")
			l.switchTo("c1")
			becomes(t, s, SeatGreeter, greeter, x.name)
		})
	}
	t.Run("not X11", func(t *testing.T) {
		s := newTestSeat(t, SourceAuto)
		becomes(t, s, SeatGreeter, greeter, x.name)
		l.session("4", bob, "user", "wayland", "", true)
		l.switchTo("4")
		becomes(t, s, SeatNone, 0, "")
		l.session("5", bob, "user", "tty", "", true)
		l.switchTo("5")
		l.session("6", carol, "user", "x11", x.name+".0", true)
		l.switchTo("6")
		becomes(t, s, SeatUser, carol, x.name)
		l.session("7", carol, "user", "x11", ":64999", true) // has no server
		l.switchTo("7")
		becomes(t, s, SeatNone, 0, "")
		l.session("8", carol, "background", "x11", x.name, true)
		l.switchTo("8")
		l.switchTo("c1")
		becomes(t, s, SeatGreeter, greeter, x.name)
	})
	l.remove("6")
	t.Run("a user's session is preferred to a log-on screen of the same display", func(t *testing.T) {
		l.session("9", bob, "user", "x11", x.name, true)
		becomes(t, newTestSeat(t, x.name), SeatUser, bob, x.name)
		l.remove("9")
	})
}

// Whoever says of their session that it has the display of another, on whose terminal it is not, is not believed.
func TestSeatOfAnothersDisplay(t *testing.T) {
	if !root() {
		return
	}
	address, _ := startBus(t)
	l := startLogind(t, address)
	server := exec.Command("sh", "-c", "read line", ":64998", "-seat", "seat0", "vt7") // an X server as root sees it
	stdin, err := server.StdinPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer stdin.Close()
	x := xserverProcess{number: 64998, pid: process(server.Process.Pid), root: true}
	known := newLogind(slog.New(slog.DiscardHandler))
	if !known.connect(t.Context()) {
		t.Fatal("no bus")
	}
	defer known.close()
	const carol, mallory = 4001, 4002
	for _, c := range []struct {
		name string
		vt   uint32
		uid  int
		ok   bool
	}{
		{"on another terminal", 2, mallory, false},
		{"on none, as by ssh", 0, mallory, false},
		{"on its terminal", 7, carol, true},
	} {
		l.vt = c.vt
		l.session("5", c.uid, "user", "x11", x.display(), true)
		l.switchTo("5")
		if s, ok := known.onDisplay(t.Context(), x); ok != c.ok || ok && s.uid != c.uid {
			t.Errorf("%s: %+v, %v", c.name, s, ok)
		}
		if s, ok := known.active(t.Context(), "seat0"); !ok || x.serves(s) != c.ok {
			t.Errorf("%s: the active session, %+v, %v", c.name, s, ok)
		}
	}
	x.root = false // its cookie is not root's to give
	if s, ok := known.active(t.Context(), "seat0"); !ok || !x.serves(session{uid: s.uid}) {
		t.Errorf("a server without root's rights: %+v, %v", s, ok)
	}
}

// A session that has not told logind its display is found by its programs.
func TestSeatOfQuietSession(t *testing.T) {
	if !root() {
		return
	}
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	address, _ := startBus(t)
	l := startLogind(t, address)
	program := exec.Command("cat")
	program.Env = []string{"DISPLAY=" + x.name, "XDG_SESSION_ID=77"}
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer program.Wait()
	defer stdin.Close()
	l.session("77", 0, "user", "x11", "", true)
	l.switchTo("77")
	becomes(t, newTestSeat(t, SourceAuto), SeatUser, 0, x.name)
}

// logind may come late, go and come again; the seat is told all the same.
func TestSeatWithoutBus(t *testing.T) {
	if !root() {
		return
	}
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	s := newTestSeat(t, x.name)
	st := becomes(t, s, SeatUser, 0, x.name) // whoever runs the server
	if !bytes.Equal(st.Cookie, x.cookie) {
		t.Fatalf("%+v", st)
	}
	for range 2 {
		address, stop := startBus(t)
		l := startLogind(t, address)
		l.session("1", 4001, "user", "x11", x.name, true)
		becomes(t, s, SeatUser, 4001, x.name)
		stop()
		becomes(t, s, SeatUser, 0, x.name)
	}
	x.kill()
	os.Remove(socketPath(mustNumber(t, x.name)))
	becomes(t, s, SeatNone, 0, "")
}

func mustNumber(t *testing.T, name string) int {
	t.Helper()
	n, err := displayNumber(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// xdm does not tell logind of its log-on screen, and perhaps not of sessions.
func TestSeatOfXDM(t *testing.T) {
	if !root() {
		return
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	x := startX(t, "Xvfb", "-screen", "0", "640x480x24") // takes a number
	x.kill()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"servers": x.name + " local /usr/bin/Xvfb " + x.name + " -screen 0 640x480x24 -nolisten tcp\n",
		"config": "DisplayManager.servers: " + dir + "/servers\nDisplayManager.authDir: " + dir + "\nDisplayManager.pidFile: " + dir +
			"/pid\nDisplayManager.errorLogFile: " + dir + "/log\nDisplayManager.requestPort: 0\nDisplayManager*authorize: true\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newTestSeat(t, x.name)
	becomes(t, s, SeatNone, 0, "")
	xdm := exec.Command("xdm", "-nodaemon", "-config", filepath.Join(dir, "config"))
	if err := xdm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		xdm.Process.Signal(os.Interrupt)
		xdm.Wait()
	}()
	st := becomes(t, s, SeatGreeter, 0, x.name)
	for len(st.Cookie) == 0 {
		<-s.Changes()
		st = s.Current()
	}
	m := startWorker(t, ipc.Start{Display: st.Display, Cookie: st.Cookie})
	sp := m.memory(m.ready(ipc.TypeReady).Size)
	for { // until something is drawn
		sp.grab(false)
		if slices.ContainsFunc(sp.mem, func(b byte) bool { return b != 0 }) {
			break
		}
		await(t, sp.msgs, ipc.TypeDamaged)
	}
}

// Below a display manager, the first user is the session's.
func TestSeatByProcesses(t *testing.T) {
	if !root() {
		return
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	dir := t.TempDir()
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "xdm"), shell, 0o700); err != nil {
		t.Fatal(err)
	}
	auth := filepath.Join(dir, "auth")
	cookie := bytes.Repeat([]byte{9}, cookieSize)
	if err := os.WriteFile(auth, appendXauthority(nil, -1, cookie), 0o600); err != nil {
		t.Fatal(err)
	}
	manager := exec.Command(filepath.Join(dir, "xdm"), "-c", `while read line; do eval "$line"; done; kill $server $session; wait`)
	out, err := manager.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := manager.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	defer manager.Wait()
	defer in.Close()
	do := func(format string, args ...any) { fmt.Fprintf(in, format+"\n", args...) }
	do(`Xvfb -displayfd 3 -auth %s -nolisten tcp -noreset 3>&1 >/dev/null & server=$!`, auth)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	display := ":" + strings.TrimSpace(line)
	const nobody = 65534
	forger := exec.Command("cat") // of somebody who would like to be the session's user
	forger.Env = []string{"DISPLAY=" + display}
	forger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody - 1, Gid: nobody}}
	held, err := forger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forger.Start(); err != nil {
		t.Fatal(err)
	}
	defer forger.Wait()
	defer held.Close()

	s := newTestSeat(t, display)
	if st := becomes(t, s, SeatGreeter, 0, display); !bytes.Equal(st.Cookie, cookie) {
		t.Fatalf("%+v", st)
	}
	becomes(t, newTestSeat(t, SourceAuto), SeatGreeter, 0, display)
	for _, ask := range []func(*monitor, *spectator){
		func(_ *monitor, sp *spectator) { sp.conn.SendPacket(ipc.Grab{Full: true}.AppendTo(nil)) },
		func(m *monitor, _ *spectator) { m.key('a', true) },
	} {
		// The worker of the log-on screen serves it until there is a session, and then ends by itself before one more picture or key.
		m := startWorker(t, ipc.Start{Display: display, Cookie: cookie, Greeter: true})
		sp := m.memory(m.ready(ipc.TypeReady).Size)
		sp.grab(true)
		do(`setpriv --reuid %d --regid %d --clear-groups env -i DISPLAY=%s sleep 1000 >/dev/null & session=$!`, nobody, nobody, display)
		if st := becomes(t, s, SeatUser, nobody, display); st.User != "nobody" || !bytes.Equal(st.Cookie, cookie) {
			t.Fatalf("%+v", st)
		}
		ask(m, sp)
		if err := <-m.done; !errors.Is(err, errTaken) {
			t.Fatalf("the worker of the log-on screen: %v", err)
		}
		for msg := range sp.msgs {
			if msg.t == ipc.TypeFrame {
				t.Fatal("a picture of a user's session")
			}
		}
		m = startWorker(t, ipc.Start{Display: display, Cookie: cookie, Greeter: true})
		if err := <-m.done; !errors.Is(err, errTaken) {
			t.Fatalf("a worker of the log-on screen that comes late: %v", err)
		}
		do(`kill $session`)
		becomes(t, s, SeatGreeter, 0, display)
	}
}

func TestSeatSources(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if st := newTestSeat(t, SourceVirtual).Current(); !st.Equal(SeatState{}) {
		t.Fatalf("%+v", st)
	}
	if st := newTestSeat(t, ":64998").Current(); !st.Equal(SeatState{}) {
		t.Fatalf("%+v", st)
	}
	for _, source := range []string{"desk7:0", "0", ":x", ":-1", ":65536"} {
		if _, err := NewSeat(t.Context(), source, slog.New(slog.DiscardHandler)); err == nil ||
			err.Error() != fmt.Sprintf(`display %q is not one of this computer; write ":0"`, source) {
			t.Errorf("%s: %v", source, err)
		}
	}
}

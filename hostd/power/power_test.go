package power

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// A logind is org.freedesktop.login1 on a bus of the test's own.
type logind struct {
	t     *testing.T
	conn  *dbus.Conn
	delay chan lock   // that were given out
	ended chan string // method and session
}

// A lock is a pipe: that its writing end is closed everywhere shows at the other.
type lock struct{ r, w *os.File }

func startLogind(t *testing.T) *logind {
	t.Helper()
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1", "--address=unix:path="+filepath.Join(t.TempDir(), "bus"))
	out, err := bus.StdoutPipe()
	if err == nil {
		err = bus.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bus.Process.Kill()
		bus.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.TrimSpace(address))
	conn, err := dbus.Connect(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &logind{t, conn, make(chan lock, 4), make(chan string, 1)}
	if err := conn.Export(l, path, manager); err != nil {
		t.Fatal(err)
	}
	if r, err := conn.RequestName(login1, 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(r, err)
	}
	return l
}

// Inhibit is the method of logind.
func (l *logind) Inhibit(what, _, _, mode string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil || what != "sleep:shutdown" || mode != "delay" {
		return 0, dbus.MakeFailedError(err)
	}
	fd := dbus.UnixFD(w.Fd())
	l.delay <- lock{r, w}
	return fd, nil
}

// LockSession is the method of logind.
func (l *logind) LockSession(id string) *dbus.Error {
	if id != "3" {
		return dbus.NewError(login1+".NoSuchSession", nil)
	}
	l.ended <- "lock " + id
	return nil
}

// session3 is the session that there is.
const session3 = dbus.ObjectPath(path + "/session/_33")

// GetSession is the method of logind.
func (l *logind) GetSession(string) (dbus.ObjectPath, *dbus.Error) { return session3, nil }

// TerminateSession is the method of logind.
func (l *logind) TerminateSession(id string) *dbus.Error {
	l.ended <- "terminate " + id
	return nil
}

func (l *logind) say(signal string, args ...any) {
	l.t.Helper()
	if err := l.conn.Emit(path, manager+"."+signal, args...); err != nil {
		l.t.Fatal(err)
	}
}

// plan sets the shutdown that is planned.
func (l *logind) plan(kind string) {
	l.t.Helper()
	_, err := prop.Export(l.conn, path, prop.Map{manager: {"ScheduledShutdown": {Value: struct {
		Kind string
		At   uint64
	}{kind, 1}}}})
	if err != nil {
		l.t.Fatal(err)
	}
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s within 10 s", what)
		panic("not reached")
	}
}

// The relay is told before the computer sleeps, reboots or is shut down, and again when it does not or is awake.
func TestWatch(t *testing.T) {
	l := startLogind(t)
	ctx, cancel := context.WithCancel(t.Context())
	said, done := make(chan tunnel.Reason), make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, slog.New(slog.DiscardHandler), func(_ context.Context, why tunnel.Reason) { said <- why })
	}()
	held := within(t, l.delay, "lock")
	for _, c := range []struct {
		name  string
		say   func(begins bool)
		wants tunnel.Reason
	}{
		{"sleep", func(b bool) { l.say("PrepareForSleep", b) }, tunnel.Asleep},
		{"power off", func(b bool) { l.say("PrepareForShutdown", b) }, tunnel.ShutDown},
		{"reboot, systemd 255", func(b bool) {
			l.say("PrepareForShutdownWithMetadata", b, map[string]dbus.Variant{"type": dbus.MakeVariant("reboot")})
			l.say("PrepareForShutdown", b)
		}, tunnel.Rebooting},
		{"planned reboot", func(b bool) {
			l.plan("reboot")
			l.say("PrepareForShutdown", b)
		}, tunnel.Rebooting},
	} {
		c.say(true)
		if why := within(t, said, c.name); why != c.wants {
			t.Errorf("%s: %v", c.name, why)
		}
		held.w.Close()                                          // it has got there
		if _, err := held.r.Read(make([]byte, 1)); err == nil { // EOF: the other end is closed
			t.Errorf("%s is still delayed", c.name)
		}
		c.say(false)
		if why := within(t, said, "end of "+c.name); why != 0 {
			t.Errorf("%s is over: %v", c.name, why)
		}
		held.r.Close()
		held = within(t, l.delay, "lock after "+c.name)
	}
	cancel()
	within(t, done, "end")
}

// Logind is told; that a screen is locked is believed when its desktop says so.
func TestEnd(t *testing.T) {
	l := startLogind(t)
	for _, c := range []struct {
		how     ipc.Ending
		hint    bool
		told    string
		outcome ipc.Outcome
	}{
		{ipc.EndLocks, false, "lock 3", ipc.OutcomeAsked},
		{ipc.EndLocks, true, "lock 3", ipc.OutcomeDone},
		{ipc.EndLogsOff, false, "terminate 3", ipc.OutcomeDone},
	} {
		if _, err := prop.Export(l.conn, session3, prop.Map{login1 + ".Session": {"LockedHint": {Value: c.hint}}}); err != nil {
			t.Fatal(err)
		}
		o, err := End(t.Context(), "3", c.how)
		if err != nil || o != c.outcome {
			t.Errorf("%s, locked %v: %v, %v", c.told, c.hint, o, err)
		}
		if got := within(t, l.ended, c.told); got != c.told {
			t.Errorf("%s, want %s", got, c.told)
		}
	}
	if _, err := End(t.Context(), "4", ipc.EndLocks); err == nil {
		t.Error("a session that there is not was locked")
	}
}

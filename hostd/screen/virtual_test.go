package screen

import (
	"context"
	"fmt"
	"image"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"
	"go.uber.org/goleak"

	"github.com/helmline/helmline/hostd/ipc"
)

// workerVariable makes the test's own program a worker, one that can be killed.
const workerVariable = "HELMLINE_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) == "" {
		code := m.Run()
		if err := goleak.Find(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	conn, err := ipc.FileConn(os.NewFile(3, "hostd"))
	if err == nil {
		err = RunWorker(context.Background(), conn, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	if err != nil {
		os.Exit(1)
	}
}

// join opens a worker's virtual display as one of its programs would.
func join(t *testing.T, stateDir, name string) *xserver {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(stateDir, "display-*", "Xauthority"))
	if len(files) != 1 {
		t.Fatalf("authority files: %q", files)
	}
	st, err := os.Stat(files[0])
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the authority file: %v, %v", st.Mode(), err)
	}
	n, err := displayNumber(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := readXauthority(files[0], n)
	if err != nil {
		t.Fatal(err)
	}
	return &xserver{name: name, auth: files[0], cookie: c[0]}
}

// ended waits until an X server ends that a painter is connected to.
func (p *painter) ended() {
	p.t.Helper()
	select {
	case <-p.stream.closed:
	case <-time.After(patience):
		p.t.Fatal("the X server does not end")
	}
}

// managed waits for a window manager.
func (p *painter) managed() {
	p.t.Helper()
	p.check(xproto.ChangeWindowAttributesChecked(p.x, p.root, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange}).Check())
	atom, err := xproto.InternAtom(p.x, false, uint16(len(clientList)), clientList).Reply()
	p.check(err)
	late := time.After(patience)
	for {
		r, err := xproto.GetProperty(p.x, false, p.root, atom.Atom, xproto.AtomAny, 0, 0).Reply()
		p.check(err)
		if r.Type != xproto.AtomNone {
			return
		}
		select {
		case <-p.events:
		case <-late:
			p.t.Fatal("no window manager")
		}
	}
}

func TestVirtual(t *testing.T) {
	dir := t.TempDir()
	m := startWorker(t, ipc.Start{Size: image.Pt(1000, 700), StateDir: dir})
	r := m.ready(ipc.TypeReady)
	if r.Size != image.Pt(1000, 700) {
		t.Fatalf("%+v", r)
	}
	x := join(t, dir, r.Display)
	p := x.painter(t)
	s := m.memory(r.Size)
	s.grab(true)
	window := x.run(t, "xdotool", "search", "--sync", "--onlyvisible", "--class", "xterm")
	p.managed()
	if window == "" {
		t.Fatal("no terminal")
	}
	s.grab(false)
	s.equal(p.shot())

	// A terminal that is closed is there again; the display goes with the worker, and so do its files.
	if err := m.conn.Send(ipc.TypeStop, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-m.done; err != nil {
		t.Fatal(err)
	}
	p.ended()
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Fatalf("left behind: %v", files)
	}
}

func TestVirtualServerGone(t *testing.T) {
	dir := t.TempDir()
	m := startWorker(t, ipc.Start{Size: image.Pt(400, 300), StateDir: dir})
	r := m.ready(ipc.TypeReady)
	n, _ := displayNumber(r.Display)
	x, err := askServer(n)
	if err != nil {
		t.Fatal(err)
	}
	server, err := os.FindProcess(int(x.pid))
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	awaitRaw(t, m.msgs, ipc.TypeFailed)
	if err := <-m.done; err == nil {
		t.Fatal("no error")
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Fatalf("left behind: %v", files)
	}
}

// The X server and the programs of a virtual desktop end with a worker that was killed.
func TestVirtualKilled(t *testing.T) {
	a, b, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVariable+"=1")
	cmd.ExtraFiles = []*os.File{b}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.Close()
	conn, err := ipc.FileConn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	msgs := receiver(conn)
	dir := t.TempDir()
	if err := conn.Send(ipc.TypeStart, ipc.Start{Size: image.Pt(400, 300), StateDir: dir}); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.Decode[ipc.Ready](await(t, msgs, ipc.TypeReady))
	if err != nil {
		t.Fatal(err)
	}
	p := join(t, dir, r.Display).painter(t)
	cmd.Process.Kill()
	cmd.Wait()
	p.ended()
}

// An Xvfb will do, or another server that starts; its size stays.
func TestVirtualXvfb(t *testing.T) {
	xvfb, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if err := os.Symlink(xvfb, filepath.Join(bin, "Xvfb")); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []bool{false, true} {
		if broken {
			if err := os.Symlink("/bin/false", filepath.Join(bin, "Xtigervnc")); err != nil {
				t.Fatal(err)
			}
		}
		m := startWorker(t, ipc.Start{Size: image.Pt(400, 300), StateDir: t.TempDir()})
		s := m.memory(m.ready(ipc.TypeReady).Size)
		m.resize(7, image.Pt(300, 200))
		l := s.layout()
		for l.Number == 0 {
			l = s.layout()
		}
		if l.Result != ipc.ResizeProhibited || s.size != image.Pt(400, 300) {
			t.Errorf("Xtigervnc does not start %v: %+v of %v", broken, l, s.size)
		}
	}
}

func TestVirtualWithoutServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	m := startWorker(t, ipc.Start{StateDir: t.TempDir()})
	f, _ := ipc.Decode[ipc.Failed](awaitRaw(t, m.msgs, ipc.TypeFailed))
	if f.Cause != "there is no display, and a virtual one needs Xtigervnc or Xvfb; install the package tigervnc-standalone-server or xvfb" {
		t.Fatal(f.Cause)
	}
}

package screen

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
)

// Programs of a virtual desktop, the first that is installed.
var (
	windowManagers = []string{"openbox", "x-window-manager"}
	terminals      = []string{"x-terminal-emulator", "xterm"}
)

// An xServer is a kind of X server without a screen.
type xServer struct {
	program string
	args    func(size image.Point) []string
}

// xServers are tried in this order. Only an Xtigervnc can change its size; its own VNC server has no port and no socket.
var xServers = []xServer{
	{"Xtigervnc", func(size image.Point) []string {
		return []string{"-geometry", fmt.Sprintf("%dx%d", size.X, size.Y), "-depth", "24", "-rfbport", "-1", "-SecurityTypes", "VncAuth"}
	}},
	{"Xvfb", func(size image.Point) []string {
		return []string{"-screen", "0", fmt.Sprintf("%dx%dx24", size.X, size.Y)}
	}},
}

// virtualStart bounds the start of a virtual X server.
const virtualStart = 20 * time.Second

// again is the least time between two starts of one program of a virtual desktop.
const again = 2 * time.Second

// clientList is the property of the root window that a window manager sets when it has started.
const clientList = "_NET_CLIENT_LIST"

// How often and how many times it is looked for.
const (
	managerEvery = 50 * time.Millisecond
	managerTries = 100
)

// virtualColour is the background: 0xRRGGBB.
const virtualColour = 0x2b4a5e

// A virtual is a display without a screen: an X server of the worker's own, with a window manager and a terminal. All of
// it ends with the worker, however that ends.
type virtual struct {
	log     *slog.Logger
	display string
	cookie  []byte
	dir     string // of the authority file
	server  *exec.Cmd
	starts  chan start // to starter
	stop    context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup
}

// A start asks for one program to be started.
type start struct {
	cmd *exec.Cmd
	err chan error
}

// startVirtual starts the X server on a display that is free.
func startVirtual(ctx context.Context, size image.Point, stateDir string, log *slog.Logger) (_ *virtual, err error) {
	if size == (image.Point{}) {
		size = image.Pt(1280, 800)
	}
	if err := frame.CheckSize(size); err != nil {
		return nil, err
	}
	v := &virtual{log: log, cookie: make([]byte, cookieSize), starts: make(chan start)}
	rand.Read(v.cookie)
	v.ctx, v.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.dir, err = os.MkdirTemp(stateDir, "display-"); err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.authority(), appendXauthority(nil, -1, v.cookie), 0o600); err != nil {
		return nil, err
	}
	v.wg.Go(v.starter)
	none := true
	for _, x := range xServers {
		path, err := exec.LookPath(x.program)
		if err != nil {
			continue
		}
		none = false
		if err = v.serve(ctx, path, x.args(size)); err == nil || ctx.Err() != nil {
			return v, err
		}
		log.Warn("a virtual display does not start", "program", path, "err", err)
	}
	if none {
		return nil, errors.New("there is no display, and a virtual one needs Xtigervnc or Xvfb; install the package tigervnc-standalone-server or xvfb")
	}
	return nil, errors.New("the virtual display does not start; run its X server by hand to see why: Xtigervnc :99, or Xvfb :99")
}

// serve starts an X server on a display that is free, and waits until it takes connections.
func (v *virtual) serve(ctx context.Context, path string, args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	v.server = exec.Command(path, append([]string{"-displayfd", "3", "-nolisten", "tcp", "-auth", v.authority(), "-noreset",
		"-s", "0", "-dpi", "96"}, args...)...)
	v.server.ExtraFiles = []*os.File{w}
	err = v.start(v.server)
	w.Close()
	if err != nil {
		v.server = nil
		return err
	}
	r.SetReadDeadline(time.Now().Add(virtualStart))
	defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })()
	line, err := io.ReadAll(io.LimitReader(r, 16))
	number, err2 := strconv.Atoi(strings.TrimSpace(string(line)))
	if err == nil {
		err = err2
	}
	if err != nil {
		v.endServer()
		return err
	}
	v.display = ":" + strconv.Itoa(number)
	return nil
}

// endServer ends the X server.
func (v *virtual) endServer() {
	if v.server != nil {
		v.server.Process.Kill()
		v.server.Wait()
		v.server = nil
	}
}

func (v *virtual) authority() string { return filepath.Join(v.dir, "Xauthority") }

// starter starts programs from one thread that lives as long as they may: the kernel ends them with the thread that
// started them.
func (v *virtual) starter() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(50*time.Microsecond), 0, 0, 0) // the kernel's own, not the worker's
	for {
		select {
		case <-v.ctx.Done():
			return
		case s := <-v.starts:
			s.err <- s.cmd.Start()
		}
	}
}

// start starts a program as one of the desktop.
func (v *virtual) start(cmd *exec.Cmd) error {
	cmd.Env = v.environ()
	cmd.Dir = home()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	s := start{cmd, make(chan error, 1)}
	select {
	case v.starts <- s:
		return <-s.err
	case <-v.ctx.Done():
		return v.ctx.Err()
	}
}

// environ is a log-in's, with the display. Nothing of hostd's own is handed on but what belongs to the user's session.
func (v *virtual) environ() []string {
	env := []string{"DISPLAY=" + v.display, "XAUTHORITY=" + v.authority(), "HOME=" + home()}
	if u := userName(os.Getuid()); u != "" {
		env = append(env, "USER="+u, "LOGNAME="+u)
	}
	for _, k := range []string{"PATH", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"} {
		if x, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+x)
		}
	}
	if os.Getenv("PATH") == "" {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games")
	}
	if os.Getenv("LANG") == "" && os.Getenv("LC_ALL") == "" {
		env = append(env, "LANG=C.UTF-8")
	}
	return env
}

func home() string {
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil && u.HomeDir != "" {
		if st, err := os.Stat(u.HomeDir); err == nil && st.IsDir() {
			return u.HomeDir
		}
	}
	return "/"
}

// populate starts the window manager and a terminal, and starts them again when they end: a desktop with nothing on it
// is of no use.
func (v *virtual) populate(d *display) {
	manager, terminal := installed(windowManagers), installed(terminals)
	v.wg.Go(func() {
		if manager != "" {
			v.wg.Go(func() { v.keep(manager) })
			v.awaitManager(d)
		}
		if terminal != "" {
			v.keep(terminal)
		}
	})
}

// installed is the first of some programs that there is.
func installed(names []string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// awaitManager waits, not for long, until the window manager has a list of windows: openbox leaves one alone for many
// seconds that comes while it starts.
func (v *virtual) awaitManager(d *display) {
	atom, err := xproto.InternAtom(d.x, false, uint16(len(clientList)), clientList).Reply()
	if err != nil {
		return
	}
	for range managerTries {
		r, err := xproto.GetProperty(d.x, false, d.root, atom.Atom, xproto.AtomAny, 0, 0).Reply()
		if err != nil || r.Type != xproto.AtomNone {
			return
		}
		select {
		case <-v.ctx.Done():
			return
		case <-time.After(managerEvery):
		}
	}
}

// keep keeps a program running until the desktop ends.
func (v *virtual) keep(path string) {
	for {
		began := time.Now()
		cmd := exec.CommandContext(v.ctx, path)
		err := v.start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if v.ctx.Err() != nil {
			return
		}
		v.log.Info("a program of the virtual desktop has ended; it is started again", "program", path, "err", err)
		select {
		case <-v.ctx.Done():
			return
		case <-time.After(max(again-time.Since(began), 0)):
		}
	}
}

// close ends everything and takes the files away.
func (v *virtual) close() {
	v.stop()
	v.endServer()
	v.wg.Wait()
	if v.dir != "" {
		os.RemoveAll(v.dir)
	}
}

// paintRoot gives the background a colour.
func (d *display) paintRoot() {
	xproto.ChangeWindowAttributes(d.x, d.root, xproto.CwBackPixel, []uint32{virtualColour})
	xproto.ClearArea(d.x, false, d.root, 0, 0, 0, 0)
}

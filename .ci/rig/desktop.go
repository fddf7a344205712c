package rig

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

// Servers that a desktop can have. Only an Xtigervnc can change its size as a viewer wishes; its VNC server is off.
const (
	Xvfb      = "Xvfb"
	Xtigervnc = "Xtigervnc"
)

// A Desktop is an X server without a screen, started for one user.
type Desktop struct {
	Display    string // as in ":100"
	Xauthority string // its cookie file, readable by User
	User       *User
	Server     *Process
	set        *Set
	args       []string // of Server
	log        string
}

// Background is the colour of a desktop without windows, 0xRRGGBB.
const Background = 0x2f4f66

// firstDisplay is the lowest display number that is tried; those below are left to the machine's own.
const firstDisplay = 100

// StartDesktop starts an X server, Xvfb or Xtigervnc, of the size, as in "1280x800", for a user, nil being this process's. Besides the cookie the user and
// root are let in by their uid alone. dir must be a folder that the user can reach; what the server says goes to log.
func (s *Set) StartDesktop(ctx context.Context, u *User, server, size, dir, log string) (*Desktop, error) {
	if err := os.Mkdir("/tmp/.X11-unix", 0o1777); err == nil { // at best it is there; only root may make it
		_ = os.Chmod("/tmp/.X11-unix", 0o1777|os.ModeSticky)
	}
	var last error
	for n, failed := firstDisplay, 0; n < firstDisplay+800 && failed < 5 && ctx.Err() == nil; n++ {
		if taken(fmt.Sprintf("/tmp/.X%d-lock", n)) || taken(fmt.Sprintf("/tmp/.X11-unix/X%d", n)) {
			continue // or it was, by a server of another user that was killed
		}
		d, err := s.startX(ctx, u, n, server, size, dir, log)
		if err == nil {
			return d, nil
		}
		last = err // perhaps another took that number at the same moment
		failed++
	}
	return nil, fmt.Errorf("no X server: %w", last)
}

func taken(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (s *Set) startX(ctx context.Context, u *User, number int, server, size, dir, log string) (*Desktop, error) {
	cookie := make([]byte, 16)
	rand.Read(cookie)
	d := &Desktop{Display: ":" + strconv.Itoa(number), User: u, set: s, log: log,
		Xauthority: filepath.Join(dir, fmt.Sprintf("Xauthority.%d", number))}
	if err := os.WriteFile(d.Xauthority, xauthority(number, cookie), 0o600); err != nil {
		return nil, err
	}
	if u != nil {
		if err := os.Chown(d.Xauthority, u.UID, u.GID); err != nil {
			return nil, err
		}
	}
	d.args = []string{server, d.Display, "-displayfd", "3", "-nolisten", "tcp", "-auth", d.Xauthority, "-noreset"}
	if server == Xtigervnc {
		d.args = append(d.args, "-geometry", size, "-depth", "24", "-rfbport", "-1")
	} else {
		d.args = append(d.args, "-screen", "0", size+"x24")
	}
	return d, d.Start(ctx)
}

// Start starts the X server, again after its end; nothing is on it then.
func (d *Desktop) Start(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	d.Server, err = d.set.Start(ctx, Program{Args: d.args, User: d.User, Files: []*os.File{w}, Log: d.log})
	w.Close()
	if err != nil {
		return err
	}
	ready := make(chan error, 1)
	go func() { // ends with the pipe: the server writes its number, or its end closes it
		_, err := io.ReadFull(r, make([]byte, 2))
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		d.Server.End()
		return fmt.Errorf("start %s %s: %w\n%s", d.args[0], d.Display, err, Tail(d.log, 5))
	}
	return d.admit("root", d.User)
}

// admit lets users in by their uid, and paints the background.
func (d *Desktop) admit(name string, u *User) error {
	conn, err := d.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	names := []string{name}
	if u != nil {
		names = append(names, u.Name)
	}
	for _, n := range names {
		address := "localuser\x00" + n
		if err := xproto.ChangeHostsChecked(conn, xproto.HostModeInsert, xproto.FamilyServerInterpreted, uint16(len(address)), []byte(address)).Check(); err != nil {
			return err
		}
	}
	root := xproto.Setup(conn).DefaultScreen(conn).Root
	if err := xproto.ChangeWindowAttributesChecked(conn, root, xproto.CwBackPixel, []uint32{Background}).Check(); err != nil {
		return err
	}
	return xproto.ClearAreaChecked(conn, false, root, 0, 0, 0, 0).Check()
}

// Dial opens a connection to the display.
func (d *Desktop) Dial() (*xgb.Conn, error) {
	text, err := os.ReadFile(d.Xauthority)
	if err != nil {
		return nil, err
	}
	socket, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(d.Display, ":"))
	if err != nil {
		return nil, err
	}
	conn, err := xgb.NewConnNetWithCookieHex(socket, hex.EncodeToString(text[len(text)-16:]))
	if err != nil {
		return nil, fmt.Errorf("display %s: %w", d.Display, err)
	}
	return conn, nil
}

// Run starts a program on the desktop as its user.
func (d *Desktop) Run(ctx context.Context, args ...string) (*Process, error) {
	return d.set.Start(ctx, Program{Args: args, Env: d.Env(), User: d.User, Log: d.log, Dir: d.home()})
}

// Output runs a program on the desktop to its end, as its user.
func (d *Desktop) Output(ctx context.Context, args ...string) (string, error) {
	return d.set.Output(ctx, Program{Args: args, Env: d.Env(), User: d.User, Dir: d.home()})
}

// Env is what a program needs to reach the display.
func (d *Desktop) Env() []string {
	return []string{"DISPLAY=" + d.Display, "XAUTHORITY=" + d.Xauthority, "WAYLAND_DISPLAY=", "LANG=C.UTF-8", "LC_ALL="}
}

func (d *Desktop) home() string {
	if d.User == nil {
		return ""
	}
	return d.User.Home
}

// WindowManager starts openbox and returns when it manages the display.
func (d *Desktop) WindowManager(ctx context.Context) (*Process, error) {
	p, err := d.Run(ctx, "openbox", "--sm-disable")
	if err != nil {
		return nil, err
	}
	conn, err := d.Dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return p, Until(ctx, "openbox", func() (bool, error) {
		select {
		case <-p.Done():
			return false, p.Err()
		default:
		}
		return managed(conn)
	})
}

// managed says whether a new window is put on the screen by a window manager. That one has begun, as its properties say, is not enough:
// openbox forgets the windows that come while it still starts.
func managed(conn *xgb.Conn) (bool, error) {
	root := xproto.Setup(conn).DefaultScreen(conn).Root
	window, err := xproto.NewWindowId(conn)
	if err != nil {
		return false, err
	}
	err = xproto.CreateWindowChecked(conn, 0, window, root, 0, 0, 8, 8, 0, xproto.WindowClassInputOutput, 0, 0, nil).Check()
	if err == nil {
		err = xproto.MapWindowChecked(conn, window).Check()
	}
	if err != nil {
		return false, err
	}
	defer xproto.DestroyWindow(conn, window)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		tree, err := xproto.QueryTree(conn, window).Reply()
		if err != nil {
			return false, err
		}
		look, err := xproto.GetWindowAttributes(conn, window).Reply()
		if err != nil {
			return false, err
		}
		if tree.Parent != root && look.MapState == xproto.MapStateViewable {
			return true, nil
		}
	}
	return false, nil
}

// Terminal starts an xterm of the size in characters at a place, as in "80x24+40+40".
func (d *Desktop) Terminal(ctx context.Context, geometry, title string, command ...string) (*Process, error) {
	args := []string{"xterm", "-fa", "DejaVu Sans Mono", "-fs", "11", "-u8", "-geometry", geometry, "-T", title}
	if len(command) > 0 {
		args = append(append(args, "-e"), command...)
	}
	return d.Run(ctx, args...)
}

// xauthority is a cookie file with one entry that holds for every address of the display: family 0xffff, then address, number, name and
// data, each with its length, as Xau has it.
func xauthority(display int, cookie []byte) []byte {
	out := []byte{0xff, 0xff}
	for _, field := range []string{"", strconv.Itoa(display), "MIT-MAGIC-COOKIE-1", string(cookie)} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(field)))
		out = append(out, field...)
	}
	return out
}

package screen

import (
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/damage"
	"github.com/jezek/xgb/shm"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

func init() {
	xgb.Logger = log.New(io.Discard, "", 0) // it would write to stderr; what matters comes back as errors
}

// connectTime bounds the connection to a display: a server may be stopped or taken by a program for itself.
const connectTime = 10 * time.Second

// A display is an open X display with what capture needs: DAMAGE, XFIXES and XTEST, and MIT-SHM where it works.
type display struct {
	x      *xgb.Conn
	stream *stream
	name   string // ":0"
	root   xproto.Window
	screen *xproto.ScreenInfo
	format format
	shm    bool // the server has MIT-SHM; attaching a segment may fail all the same
	size   image.Point
	first  map[string]byte // extension's first event; read only after open
	major  map[string]byte // and its opcode

	randr bool                   // the server has RandR's monitors
	names map[xproto.Atom]uint32 // numbers of screens by the names of their monitors
}

// displayNumber takes ":7" or ":7.0" apart. Only displays of this machine are meant: a seat's, or one made here.
func displayNumber(name string) (int, error) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "unix"), ":")
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf(`display %q is not one of this computer; write ":0"`, name)
	}
	return n, nil
}

// socketPath is where an X server of this machine listens.
func socketPath(number int) string { return "/tmp/.X11-unix/X" + strconv.Itoa(number) }

// dialX connects to the server's socket, or to its abstract twin where the file system is another.
func dialX(number int) (*ipc.Socket, error) {
	d := net.Dialer{Timeout: connectTime}
	c, err := d.Dial("unix", socketPath(number))
	if err != nil {
		a, err2 := d.Dial("unix", "@"+socketPath(number))
		if err2 != nil {
			return nil, err
		}
		c = a
	}
	return ipc.Take(c.(*net.UnixConn))
}

// openDisplay opens a display with the first of the cookies that is let in; a nil cookie is none. event gets every event.
func openDisplay(name string, cookies [][]byte, event func([]byte), log *slog.Logger) (*display, error) {
	number, err := displayNumber(name)
	if err != nil {
		return nil, err
	}
	var first error
	for _, cookie := range append(cookies, nil) {
		d, err := tryDisplay(number, cookie, event)
		if err == nil {
			d.name = name
			if err := d.prepare(log); err != nil {
				d.close()
				return nil, fmt.Errorf("display %s: %w", name, err)
			}
			return d, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("display %s cannot be opened: %w", name, first)
}

func tryDisplay(number int, cookie []byte, event func([]byte)) (*display, error) {
	c, err := dialX(number)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest repeats the path
		}
		return nil, err
	}
	s := newStream(c, event)
	if s.bare = cookie == nil; s.bare {
		cookie = make([]byte, cookieSize)
	}
	c.SetReadDeadline(time.Now().Add(connectTime))
	x, err := xgb.NewConnNetWithCookieHex(s, hex.EncodeToString(cookie))
	if err != nil {
		c.Close()
		return nil, errors.New(strings.TrimSpace(err.Error()))
	}
	c.SetReadDeadline(time.Time{})
	go func() { // errors of requests nobody waits for; ends with the connection
		for {
			if e, err := x.WaitForEvent(); e == nil && err == nil {
				return
			}
		}
	}()
	return &display{x: x, stream: s}, nil
}

// prepare looks at the screen and sets up the extensions.
func (d *display) prepare(log *slog.Logger) error {
	setup := xproto.Setup(d.x)
	if len(setup.Roots) == 0 {
		return errors.New("it has no screen")
	}
	d.screen = &setup.Roots[0]
	d.root = d.screen.Root
	d.size = image.Pt(int(d.screen.WidthInPixels), int(d.screen.HeightInPixels))
	if err := d.askSize(); err != nil {
		return err
	}
	var err error
	if d.format, err = newFormat(d.x, setup, d.screen); err != nil {
		return err
	}
	d.first, d.major = map[string]byte{}, map[string]byte{}
	for _, ext := range []string{"XFIXES", "DAMAGE", "XTEST"} {
		if ok, err := d.extension(ext); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("the X server has no %s extension, which Helmline needs", ext)
		}
	}
	if _, err := xfixes.QueryVersion(d.x, 5, 0).Reply(); err != nil {
		return fmt.Errorf("XFIXES: %w", err)
	}
	if _, err := damage.QueryVersion(d.x, 1, 1).Reply(); err != nil {
		return fmt.Errorf("DAMAGE: %w", err)
	}
	if d.shm, err = d.extension("MIT-SHM"); err != nil {
		return err
	}
	if d.shm {
		if _, err := shm.QueryVersion(d.x).Reply(); err != nil {
			log.Info("MIT-SHM does not answer", "err", err)
			d.shm = false
		}
	}
	if _, err := d.extension("XInputExtension"); err != nil {
		return err
	}
	if err := d.watchLayout(); err != nil {
		return err
	}
	// A program that grabs the server, as menus and screen lockers do, must not stop the picture.
	xtest.GrabControl(d.x, true)
	return d.listen()
}

// extension readies an extension without xgb's Init, which writes maps that other connections read.
func (d *display) extension(name string) (bool, error) {
	r, err := xproto.QueryExtension(d.x, uint16(len(name)), name).Reply()
	if err != nil {
		return false, err
	}
	if r.Present {
		d.x.ExtLock.Lock()
		d.x.Extensions[name] = r.MajorOpcode
		d.x.ExtLock.Unlock()
		d.first[name], d.major[name] = r.FirstEvent, r.MajorOpcode
	}
	return r.Present, nil
}

// listen asks for the events of the root window.
func (d *display) listen() error {
	err := xproto.ChangeWindowAttributesChecked(d.x, d.root, xproto.CwEventMask,
		[]uint32{xproto.EventMaskStructureNotify | xproto.EventMaskSubstructureNotify}).Check()
	if err != nil {
		return err
	}
	return xfixes.SelectCursorInputChecked(d.x, d.root, xfixes.CursorNotifyMaskDisplayCursor).Check()
}

// askSize reads the size from the server.
func (d *display) askSize() error {
	g, err := xproto.GetGeometry(d.x, xproto.Drawable(d.root)).Reply()
	if err != nil {
		return err
	}
	d.size = image.Pt(int(g.Width), int(g.Height))
	return frame.CheckSize(d.size)
}

// gone says whether the connection has ended.
func (d *display) gone() bool {
	select {
	case <-d.stream.closed:
		return true
	default:
		return false
	}
}

func (d *display) close() {
	d.x.Close()
	d.stream.Close()
}

// title is a name for the desktop: user@host.
func title() string {
	host, _ := os.Hostname()
	if u := userName(os.Getuid()); u != "" {
		return u + "@" + host
	}
	return host
}

package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"image"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// A Viewer is a stock VNC viewer that runs on a screen of its own, in the network of a party.
type Viewer struct {
	Name   string
	Screen *rig.Desktop
	Proc   *rig.Process
	// Paints is the size of the pointer, where the viewer paints that into its picture; the zero Point: it does not.
	Paints image.Point
	// Wants is the size that the viewer asks for at once; the zero Point: it does not.
	Wants image.Point
	w     *World
	title string // regular expression that its window's title matches once it shows the desktop
}

// viewerScreen has room for the largest desktop of a test and a viewer's bars around it.
const viewerScreen = "1600x1200"

// screen makes a screen for one more viewer, with a German keyboard that has Ω and 中 as well. For a character that is not on the keyboard
// xdotool would make up a key and take it back at once: old viewers never learn of it, and slow ones come too late.
func (w *World) screen() *rig.Desktop {
	w.T.Helper()
	id := w.next()
	d, err := w.Set.StartDesktop(w.Ctx, w.Viewer, rig.Xvfb, viewerScreen, w.folder(id, w.Viewer), w.log(id+"-screen"))
	w.Check(err)
	_, err = d.Output(w.Ctx, "setxkbmap", "de")
	w.Check(err)
	w.Check(addKeys(d, 0x7d9, 0x1004e2d))        // Greek_OMEGA and U4E2D
	_, err = d.Output(w.Ctx, "xset", "r", "off") // on a busy machine xdotool lets go so late that the screen would repeat the key
	w.Check(err)
	_, err = d.WindowManager(w.Ctx)
	w.Check(err)
	return d
}

// next is the name of the next viewer's folder.
func (w *World) next() string { return fmt.Sprintf("viewer%d", len(w.viewers)+1) }

// start runs a viewer in a party's network, on a screen of its own. Its home is that of w.Viewer.
func (w *World) start(name, party, title string, env []string, args ...string) *Viewer {
	w.T.Helper()
	id := w.next()
	screen := w.screen()
	v := &Viewer{Name: name, Screen: screen, w: w, title: title}
	w.viewers = append(w.viewers, v)
	var err error
	v.Proc, err = w.Set.Start(w.Ctx, rig.Program{
		Args: args, User: w.Viewer, Network: w.Net.Name(party), Dir: w.Viewer.Home, Log: w.log(id + "-" + name),
		Env: append(append(screen.Env(), "LANG=C.UTF-8", "XDG_RUNTIME_DIR="+w.file(id)), env...),
	})
	w.Check(err)
	return v
}

// TigerVNC starts vncviewer at the RFB door. mode is "", "/watch" or "/take"; more are further arguments.
func (w *World) TigerVNC(mode string, more ...string) *Viewer {
	w.T.Helper()
	return w.TigerVNCAs(Account, w.Password, mode, more...)
}

// TigerVNCAs is TigerVNC for any account.
func (w *World) TigerVNCAs(account, password, mode string, more ...string) *Viewer {
	w.T.Helper()
	args := append([]string{"xtigervncviewer", "-X509CA=" + w.CA, "-SecurityTypes=X509Plain"}, more...)
	return w.start("tigervnc", "viewer", " - TigerVNC$", []string{"VNC_USERNAME=" + account + "/" + Computer + mode, "VNC_PASSWORD=" + password},
		append(args, RelayName+"::"+PortRFB)...)
}

// GVncViewer starts gvncviewer (gtk-vnc) at the RFB door and signs in through its dialogue.
func (w *World) GVncViewer() *Viewer {
	w.T.Helper()
	pki := filepath.Join(w.Viewer.Home, ".pki", "CA")
	w.Check(os.MkdirAll(pki, 0o755))
	w.Check(rig.CopyFile(w.CA, filepath.Join(pki, "cacert.pem"), 0o644))
	v := w.start("gvncviewer", "viewer", "GVncViewer$", nil, "gvncviewer", RelayName+":0") // display 0 is port 5900
	v.window("^Authentication required$")
	v.xdotool("type", "--delay", "20", Account+"/"+Computer)
	v.xdotool("key", "Tab")
	v.xdotool("type", "--delay", "20", w.Password)
	v.xdotool("key", "Tab", "Tab", "Return") // over Cancel to Ok
	return v
}

// Remmina starts Remmina at the RFB door with a profile, as its window for a new connection writes one.
// quality is 0 (poor), 1, 2 or 9 (best).
func (w *World) Remmina(quality int) *Viewer {
	w.T.Helper()
	return w.RemminaAs(Account, w.Password, quality)
}

// RemminaAs is Remmina for any account.
func (w *World) RemminaAs(account, password string, quality int) *Viewer {
	w.T.Helper()
	profile, err := w.remminaProfile(account, password, quality)
	w.Check(err)
	return w.start("remmina", "viewer", "^"+Computer+"$", nil, "dbus-run-session", "--", "remmina", "-c", profile)
}

// XTightVNC starts xtightvncviewer at the code door. It has no TLS, so it runs beside the relay, as through a tunnel of the operator's.
func (w *World) XTightVNC(more ...string) *Viewer {
	w.T.Helper()
	return w.codeViewer("xtightvncviewer", "^TightVNC: ", more...)
}

// SSVNC starts ssvncviewer at the code door, as XTightVNC does.
func (w *World) SSVNC(more ...string) *Viewer {
	w.T.Helper()
	return w.codeViewer("ssvncviewer", "^SSVNC: ", more...)
}

func (w *World) codeViewer(program, title string, more ...string) *Viewer {
	w.T.Helper()
	args := append([]string{program, "-passwd", w.passwordFile(program)}, more...)
	v := w.start(program, "relay", title, nil, append(args, "127.0.0.1::"+PortClear)...)
	v.Paints = image.Pt(32, 32)
	return v
}

// passwordFile has the relay make a one-time code and writes it as VNC viewers want their password file.
func (w *World) passwordFile(program string) string {
	w.T.Helper()
	path := filepath.Join(w.Viewer.Home, program+".passwd")
	w.Check(os.WriteFile(path, hide(w.OneTimeCode()), 0o600))
	w.Check(os.Chown(path, w.Viewer.UID, w.Viewer.GID))
	return path
}

// WaitForm returns when the viewer shows the log-on form, whole, and nothing of the desktop.
func (v *Viewer) WaitForm() {
	v.w.T.Helper()
	want := v.w.FormPicture(v.Wants)
	v.wait("the log-on form", func() (bool, error) { return v.shows(want) })
}

// LogIn waits for the form, types the access code and Return. Remmina has the keyboard a while before it heeds it, so that comes after a
// character that is seen in the form and taken back.
func (v *Viewer) LogIn() {
	v.w.T.Helper()
	v.WaitForm()
	empty := v.w.FormPicture(v.Wants)
	v.enter()
	v.wait("what is typed comes into the form", func() (bool, error) {
		v.xdotool("key", "x")
		same, err := v.shows(empty)
		return !same, err
	})
	v.wait("what was typed is taken back", func() (bool, error) {
		v.xdotool("key", "BackSpace")
		return v.shows(empty)
	})
	v.Type(v.w.Code + "\n")
}

// Type types a text into the viewer, any character and "\n".
func (v *Viewer) Type(text string) {
	v.w.T.Helper()
	v.enter()
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			v.xdotool("key", "Return")
		}
		if line != "" {
			v.xdotool("type", "--delay", "40", line)
		}
	}
}

// Key presses and releases keys by their X names, as in "Tab" or "ctrl+c".
func (v *Viewer) Key(names ...string) {
	v.w.T.Helper()
	v.enter()
	v.xdotool(append([]string{"key"}, names...)...)
}

// WaitEqual returns when the viewer shows exactly what the desktop does. The pointer is taken out of its window before.
func (v *Viewer) WaitEqual(d *rig.Desktop) {
	v.w.T.Helper()
	v.xdotool("mousemove", "0", "0")
	v.wait("the viewer shows the desktop exactly", func() (bool, error) {
		want, err := Shot(d)
		if err != nil {
			return false, err
		}
		got, err := Shot(v.Screen)
		if err != nil {
			return false, err
		}
		_, ok := Find(got, want, v.Paints)
		return ok, nil
	})
}

// Shows says whether a picture stands anywhere on the viewer's screen.
func (v *Viewer) Shows(part frame.Image) bool {
	v.w.T.Helper()
	ok, err := v.shows(part)
	v.w.Check(err)
	return ok
}

func (v *Viewer) shows(part frame.Image) (bool, error) {
	m, err := Shot(v.Screen)
	if err != nil {
		return false, err
	}
	_, ok := Find(m, part, v.Paints)
	return ok, nil
}

// enter moves the pointer into the viewer's window and waits until that has the keyboard.
func (v *Viewer) enter() {
	v.w.T.Helper()
	id := v.window(v.title)
	v.xdotool("mousemove", "--window", id, "300", "200")
	v.wait("the viewer has the keyboard", func() (bool, error) {
		out, err := v.Screen.Output(v.w.Ctx, "xdotool", "getwindowfocus")
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(out) == id {
			return true, nil
		}
		_, err = v.Screen.Output(v.w.Ctx, "xdotool", "windowfocus", id)
		return false, err
	})
}

// window waits for a window by its title and gives its id.
func (v *Viewer) window(title string) (id string) {
	v.w.T.Helper()
	v.wait("the window "+title, func() (bool, error) {
		out, err := v.Screen.Output(v.w.Ctx, "xdotool", "search", "--onlyvisible", "--name", title)
		lines := strings.Fields(out)
		if err != nil || len(lines) == 0 {
			return false, err
		}
		id = lines[len(lines)-1]
		return true, nil
	})
	return id
}

// wait is Until, but for a viewer that has ended it does not go on waiting.
func (v *Viewer) wait(what string, come func() (bool, error)) {
	v.w.T.Helper()
	ctx, cancel := context.WithTimeout(v.w.Ctx, 40*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() { // ends with the viewer or the wait
		select {
		case <-v.Proc.Done():
			close(ended)
			cancel()
		case <-ctx.Done():
		}
	}()
	err := rig.Until(ctx, v.Name+": "+what, come)
	if err == nil {
		return
	}
	select {
	case <-ended:
		err = fmt.Errorf("%w; the viewer has ended: %v", err, v.Proc.Err())
	default:
	}
	v.w.T.Fatal(err)
}

func (v *Viewer) xdotool(args ...string) {
	v.w.T.Helper()
	_, err := v.Screen.Output(v.w.Ctx, append([]string{"xdotool"}, args...)...)
	v.w.Check(err)
}

// Client connects a viewer of our own to the RFB door, from the viewer's network, and signs in as the account.
func (w *World) Client(account, password, mode string) (*rfbtest.Client, error) {
	return w.ClientAs(account+"/"+Computer+mode, password)
}

// ClientAs is Client with a whole user name.
func (w *World) ClientAs(user, password string) (*rfbtest.Client, error) {
	conn, err := w.Net.Dial(w.Ctx, "viewer", net.JoinHostPort(relayFront, PortRFB))
	if err != nil {
		return nil, err
	}
	return w.handshake(conn, rfbtest.Config{ServerName: RelayName, User: user, Password: password})
}

// handshake is RFB's at a door of the relay, inside TLS.
func (w *World) handshake(conn net.Conn, c rfbtest.Config) (*rfbtest.Client, error) {
	roots, err := w.roots()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.Security, c.Roots = uint8(rfb.SecVeNCrypt), roots
	return rfbtest.Handshake(conn, c)
}

func (w *World) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(w.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + w.CA)
	}
	return roots, nil
}

// FormPicture is the log-on form as the computer draws it for the account, seen by a viewer of our own that wants to watch, at a size that it
// asks for; the zero Point: at the desktop's.
func (w *World) FormPicture(size image.Point) frame.Image {
	w.T.Helper()
	c, err := w.Client(Account, w.Password, "/watch")
	w.Check(err)
	defer c.Close()
	if size == (image.Point{}) {
		size = c.Size()
	} else {
		for _, size := range []image.Point{{1, 1}, size} { // what does not fit is black afterwards, until it comes
			w.Check(c.SetDesktopSize(size, frame.Screen{Rect: image.Rectangle{Max: size}}))
			w.Check(c.WaitFor(func(c *rfbtest.Client) bool { return c.Size() == size }, 20*time.Second))
		}
	}
	// The form may come in several updates. It has no black, and a picture of which nothing has come has nothing else.
	w.Check(c.WaitFor(func(c *rfbtest.Client) bool { return c.Size() == size && Count(c.Picture(), 0) == 0 }, 20*time.Second))
	return c.Picture()
}

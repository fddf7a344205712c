package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// A seat is an X server with xdm's log-on screen, on which users log in and out.
type seat struct {
	w       *World
	dir     string
	display string
}

// A person may sit at the seat.
type person struct {
	*rig.User
	secret string
	colour uint32 // fills the person's desktop, 0xRRGGBB
}

// typed is what the person's desktop has got from the keyboard.
func (p *person) typed() string {
	b, _ := os.ReadFile(filepath.Join(p.Home, "typed")) // none: nothing
	return string(b)
}

// person makes a user with a password, who administers nothing.
func (w *World) person(name string, colour uint32) *person {
	w.T.Helper()
	u, err := w.Set.MakeUser(w.Ctx, name, false)
	w.Check(err)
	p := &person{u, rig.Secret(12), colour}
	w.Check(w.Set.SetPassword(w.Ctx, u, p.secret))
	return p
}

// freeDisplay is a display below those that the rig takes.
func freeDisplay(t *testing.T) string {
	t.Helper()
	for n := 60; n < 100; n++ {
		_, err1 := os.Lstat(fmt.Sprintf("/tmp/.X%d-lock", n))
		_, err2 := os.Lstat(fmt.Sprintf("/tmp/.X11-unix/X%d", n))
		if os.IsNotExist(err1) && os.IsNotExist(err2) {
			return fmt.Sprintf(":%d", n)
		}
	}
	t.Fatal("no display is free")
	return ""
}

// startSeat starts xdm. The session of each person is one terminal that covers the screen in the person's colour and writes what is
// typed to the file typed; it ends with Ctrl-D.
func (w *World) startSeat(display string, people ...*person) *seat {
	w.T.Helper()
	s := &seat{w, w.folder("xdm", nil), display}
	session := w.file("xsession")
	script := "#!/bin/sh\ncase $USER in\n"
	for _, p := range people {
		script += fmt.Sprintf("%s) colour=#%06x ;;\n", p.Name, p.colour)
	}
	script += "esac\nexec xterm -geometry 250x90+0+0 -bg $colour -e sh -c 'exec cat >>$HOME/typed'\n"
	w.Check(os.WriteFile(session, []byte(script), 0o755))
	config := ""
	for _, line := range []string{
		".servers: " + s.dir + "/servers", ".authDir: " + s.dir, ".pidFile: " + s.dir + "/pid", ".errorLogFile: " + w.log("xdm"),
		".requestPort: 0", "*authorize: true", "*authName: MIT-MAGIC-COOKIE-1", "*session: " + session,
		"*setup:", "*startup:", "*reset:",
	} {
		config += "DisplayManager" + line + "\n"
	}
	w.Check(os.WriteFile(filepath.Join(s.dir, "config"), []byte(config), 0o600))
	server := display + " local /usr/bin/Xvfb " + display + " -screen 0 1024x768x24 -nolisten tcp\n"
	w.Check(os.WriteFile(filepath.Join(s.dir, "servers"), []byte(server), 0o600))
	_, err := w.Set.Start(w.Ctx, rig.Program{
		Args: []string{"xdm", "-nodaemon", "-config", filepath.Join(s.dir, "config")}, Log: w.log("xdm-output"),
	})
	w.Check(err)
	return s
}

// desktop is the seat's X server as root reaches it now.
func (s *seat) desktop() (*rig.Desktop, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "authdir", "authfiles", "A"+s.display+"-*"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("xdm has no cookie for %s", s.display)
	}
	if err != nil {
		return nil, err
	}
	return &rig.Desktop{Display: s.display, Xauthority: files[len(files)-1]}, nil
}

// picture is what the seat shows.
func (s *seat) picture() (frame.Image, error) {
	d, err := s.desktop()
	if err != nil {
		return frame.Image{}, err
	}
	return Shot(d)
}

// waitGreeter returns when the log-on screen is drawn. Then it has the keyboard.
func (s *seat) waitGreeter() {
	s.w.T.Helper()
	s.w.Until("the log-on screen", func() (bool, error) {
		m, err := s.picture()
		return err == nil && m.Rect.Dx() > 0 && colours(m) > 2, err
	})
}

// waitGreeter returns when the viewer shows what the seat does, which is the log-on screen.
func (v *osViewer) waitGreeter(s *seat) {
	v.w.T.Helper()
	v.w.Until("the viewer shows the log-on screen", func() (bool, error) {
		want, err := s.picture()
		if err != nil {
			return false, err
		}
		_, ok := Find(v.Picture(), want, image.Point{})
		return ok, nil
	})
}

// colours counts the colours of a picture, up to 16.
func colours(m frame.Image) int {
	seen := make(map[[3]byte]bool)
	for i := 0; i+4 <= len(m.Pix) && len(seen) < 16; i += 4 {
		seen[[3]byte(m.Pix[i:])] = true
	}
	return len(seen)
}

// waitOf returns when the seat shows the person's desktop.
func (s *seat) waitOf(p *person) {
	s.w.T.Helper()
	s.w.Until("the desktop of "+p.Name, func() (bool, error) {
		m, err := s.picture()
		return err == nil && Count(m, p.colour) > 100000, err
	})
}

// keys presses keys at the seat's own keyboard: xdotool's commands, as in "type", "hello".
func (s *seat) keys(commands ...string) {
	s.w.T.Helper()
	d, err := s.desktop()
	s.w.Check(err)
	_, err = s.w.Set.Output(s.w.Ctx, rig.Program{Args: append([]string{"xdotool"}, commands...), Env: d.Env()})
	s.w.Check(err)
}

// logIn is the person at the log-on screen, sitting at the computer.
func (s *seat) logIn(p *person) {
	s.w.T.Helper()
	s.waitGreeter()
	s.enter(p, func(text string) {
		if text == "\n" {
			s.keys("key", "Return")
			return
		}
		s.keys("type", "--delay", "20", text)
	})
	s.waitOf(p)
}

// enter types name and password at the log-on screen. xdm loses what is typed while it does not ask, so each key of the name, and the
// Return behind it, has to show before the next.
func (s *seat) enter(p *person, press func(text string)) {
	s.w.T.Helper()
	for _, letter := range p.Name + "\n" {
		before, err := s.picture()
		s.w.Check(err)
		press(string(letter))
		s.w.Until("the log-on screen takes a key", func() (bool, error) {
			now, err := s.picture()
			return err == nil && !bytes.Equal(now.Pix, before.Pix), err
		})
	}
	press(p.secret)
	press("\n")
}

// logOut ends a session by its terminal's Ctrl-D, and returns when hostd has taken that in and the log-on screen is drawn.
func (s *seat) logOut(press func()) {
	s.w.T.Helper()
	before := s.handed(`"log-on screen"`)
	press()
	s.w.Until("hostd knows that it is the log-on screen", func() (bool, error) { return s.handed(`"log-on screen"`) > before, nil })
	s.waitGreeter()
}

// handed counts how often hostd has taken in that the seat belongs to this kind of session.
func (s *seat) handed(kind string) int {
	n := 0
	for line := range strings.Lines(string(must(os.ReadFile(s.w.log("hostd"))))) {
		if strings.Contains(line, "has changed hands") && strings.Contains(line, "kind="+kind) {
			n++
		}
	}
	return n
}

// Whose desktop a user may see is asked at the log-in and again whenever the seat changes hands: nobody sees or touches another's.
func TestWhoseDesktop(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus") // sessions are told by their processes, as where there is no logind
	pamService(t, "", "")
	display := freeDisplay(t)
	w := NewWorld(t, Options{Seat: display, Login: pamLogin, Time: 5 * time.Minute})
	carol := w.person("hl-e2e-carol", 0x1fbf3d)
	bob := w.person("hl-e2e-bob", 0xb0521e)
	s := w.startSeat(display, carol, bob)
	s.logIn(carol)
	w.Until("hostd knows that it is carol's", func() (bool, error) { return s.handed("user") > 0, nil })

	// Carol's session is on the seat: bob's password is right, and this is not his desktop.
	v := w.osViewer("", carol.colour)
	v.refused(bob.Name, bob.secret, "5")
	w.Check(v.Type("xyz"))
	// Carol herself may see it, and is at the seat all the same.
	own := w.osViewer("", bob.colour)
	own.logIn(carol.Name, carol.secret)
	w.Check(own.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), carol.colour) > 100000 }, 20*time.Second))
	w.Check(own.Type("carol far away\n"))
	w.Until("carol's text", func() (bool, error) { return carol.typed() == "carol far away\n", nil })
	s.keys("type", "carol at the seat\n")
	w.Until("carol's text", func() (bool, error) { return carol.typed() == "carol far away\ncarol at the seat\n", nil })

	// She logs out: the log-on screen is for anybody who may log in.
	s.logOut(func() {
		d, err := s.desktop()
		w.Check(err)
		// The end of the session may cut xdotool off, which takes that for an error.
		_, _ = w.Set.Output(w.Ctx, rig.Program{Args: []string{"xdotool", "key", "ctrl+d"}, Env: d.Env()})
	})
	own.end()
	b := w.Chromium(false) // a page says so before the log-in
	b.SignIn("", Account, w.Password)
	b.Do(step{"click": "a.name", "see": "Nobody is logged in there"}, step{"leave": true})
	again := w.osViewer("", carol.colour)
	again.logIn(bob.Name, bob.secret)
	again.waitGreeter(s)
	v.end()

	// He logs in there: his own desktop.
	w.Until("bob is in control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
	s.enter(bob, func(text string) { w.Check(again.Type(text)) })
	w.Check(again.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), bob.colour) > 100000 }, 40*time.Second))
	w.Check(again.Type("bob\n"))
	w.Until("bob's text", func() (bool, error) { return bob.typed() == "bob\n", nil })

	// And now it is carol who has to stay outside.
	other := w.osViewer("/watch", bob.colour)
	other.refused(carol.Name, carol.secret, "5")
	w.Check(other.Type("uvw\n"))
	other.end()

	// He logs out and stays at the log-on screen. When carol logs in there, at the computer, he is outside before her first pixel.
	s.logOut(func() {
		const control = 0xffe3
		w.Check(errors.Join(again.Key(true, control), again.Press('d'), again.Key(false, control)))
	})
	again.waitGreeter(s)
	s.logIn(carol)
	w.Check(again.Type("bob again\n"))
	w.Until("bob has lost the desktop", func() (bool, error) {
		return w.logged("viewer lost the desktop") == 1 && w.logged("code=5") == 3, nil
	})
	w.Check(again.WaitFor(func(c *rfbtest.Client) bool {
		m := c.Picture()
		return Count(m, bob.colour) == 0 && colours(m) > 2
	}, 20*time.Second))
	s.keys("type", "carol again\n")
	w.Until("carol's text", func() (bool, error) { return strings.HasSuffix(carol.typed(), "carol again\n"), nil })
	again.end()
	if got := carol.typed(); got != "carol far away\ncarol at the seat\ncarol again\n" {
		t.Errorf("carol's desktop got %q", got)
	}
	if got := bob.typed(); got != "bob\n" {
		t.Errorf("bob's desktop got %q", got)
	}
}

package e2e

import (
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
)

// waitSize returns when a desktop has a size.
func (w *World) waitSize(d *rig.Desktop, size image.Point) {
	w.T.Helper()
	w.Until(fmt.Sprintf("the desktop has the size %v", size), func() (bool, error) {
		m, err := Shot(d)
		if err == nil && m.Rect.Max != size {
			err = fmt.Errorf("it has %v", m.Rect.Max)
		}
		return err == nil, err
	})
}

// Resize gives the viewer's window a size.
func (v *Viewer) Resize(size image.Point) {
	v.w.T.Helper()
	v.xdotool("windowsize", v.window(v.title), strconv.Itoa(size.X), strconv.Itoa(size.Y))
}

// wantTigerVNC is TigerVNC that asks for a size.
func (w *World) wantTigerVNC(size image.Point) *Viewer {
	w.T.Helper()
	v := w.TigerVNC("", fmt.Sprintf("-DesktopSize=%dx%d", size.X, size.Y))
	v.Wants = size
	return v
}

// The desktop gets the size that TigerVNC is started with, and follows its window.
func TestDesktopFollowsTheWindow(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc})
	d := w.Furnish()
	v := w.wantTigerVNC(image.Pt(1100, 750))
	v.LogIn()
	w.waitSize(w.Desk, image.Pt(1100, 750))
	v.WaitEqual(w.Desk)
	for _, size := range []image.Point{{900, 701}, {1203, 799}, {1024, 768}} {
		v.Resize(size)
		w.waitSize(w.Desk, size)
		v.WaitEqual(w.Desk)
	}
	v.Type("sized\n")
	d.WaitTyped("sized\n")
}

// A computer's display changes its size 200 times in 10 seconds, by itself, while one viewer controls and another watches; then the first's
// window does. Both stay connected and see what is there.
func TestSizeStorm(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc, Time: 4 * time.Minute})
	d := w.Furnish()
	v := w.TigerVNC("")
	v.LogIn()
	v.WaitEqual(w.Desk)
	watcher := w.TigerVNC("/watch")
	watcher.LogIn()
	watcher.Paints = image.Pt(32, 32) // the desktop's pointer, which it does not move
	watcher.WaitEqual(w.Desk)
	_, err := w.Desk.Output(w.Ctx, "sh", "-c",
		`for i in $(seq 50); do for s in 800x600 1280x960 640x480 1024x768; do xrandr -s $s || exit; sleep 0.03; done; done`)
	w.Check(err)
	w.waitSize(w.Desk, image.Pt(1024, 768))
	v.WaitEqual(w.Desk)
	watcher.WaitEqual(w.Desk)

	id := v.window(v.title)
	_, err = v.Screen.Output(w.Ctx, "sh", "-c",
		`i=0; while [ $i -lt 200 ]; do xdotool windowsize `+id+` $((700 + i * 37 % 400)) $((600 + i * 53 % 300)); sleep 0.03; i=$((i+1)); done`)
	w.Check(err)
	v.Resize(image.Pt(1111, 777))
	w.waitSize(w.Desk, image.Pt(1111, 777))
	v.WaitEqual(w.Desk)
	watcher.WaitEqual(w.Desk)
	v.Type("after the storm\n")
	d.WaitTyped("after the storm\n")
}

// The X server ends and is started again: a viewer that is connected sees the new one and types into it. While it stays away the viewer has
// a virtual display.
func TestDisplayLost(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc, Time: 4 * time.Minute})
	d := w.Furnish()
	v := w.TigerVNC("")
	v.LogIn()
	v.WaitEqual(w.Desk)
	again := func() {
		w.Check(w.Desk.Start(w.Ctx))
		_, err := w.Desk.WindowManager(w.Ctx)
		w.Check(err)
		d = w.Furnish()
	}
	w.Desk.Server.Kill()
	again()
	v.WaitEqual(w.Desk)
	v.Type("new\n")
	d.WaitTyped("new\n")

	w.Desk.Server.Kill()
	virtual, _ := w.virtual()
	v.WaitEqual(virtual)
	again()
	v.WaitEqual(w.Desk)
	v.Type("newer\n")
	d.WaitTyped("newer\n")
}

// A virtual display follows the viewer's window; when its X server ends, there is another of that size.
func TestVirtualDisplay(t *testing.T) {
	w := NewWorld(t, Options{Seat: "virtual"})
	v := w.wantTigerVNC(image.Pt(901, 702))
	v.LogIn()
	d, server := w.virtual()
	w.waitSize(d, image.Pt(901, 702))
	v.WaitEqual(d)
	v.Resize(image.Pt(1200, 700))
	w.waitSize(d, image.Pt(1200, 700))
	v.WaitEqual(d)

	p, err := os.FindProcess(server)
	w.Check(err)
	w.Check(p.Kill())
	w.Until("another display", func() (bool, error) {
		_, err := os.Stat(d.Xauthority)
		return os.IsNotExist(err), nil
	})
	d, _ = w.virtual()
	w.waitSize(d, image.Pt(1200, 700))
	v.WaitEqual(d)
}

// virtual waits for the display that the worker has made, with its terminal, and gives the number of its X server's process.
func (w *World) virtual() (d *rig.Desktop, server int) {
	w.T.Helper()
	w.Until("a virtual display", func() (bool, error) {
		for _, pid := range rig.Children(w.hostPart("worker")) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err != nil {
				return false, nil // it has ended
			}
			d = &rig.Desktop{User: w.Owner}
			for env := range strings.SplitSeq(string(b), "\x00") {
				if x, ok := strings.CutPrefix(env, "DISPLAY="); ok && x != "" {
					d.Display = x
				} else if x, ok := strings.CutPrefix(env, "XAUTHORITY="); ok {
					d.Xauthority = x
				}
			}
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); filepath.Base(exe) == rig.Xtigervnc {
				server = pid
			}
			if d.Display != "" && server != 0 {
				return true, nil
			}
		}
		return false, nil
	})
	return d, server
}

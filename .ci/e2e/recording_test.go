package e2e

import (
	"bytes"
	"image"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
)

// recordedPointer is the size of the pointer, which is in the picture of a recording.
var recordedPointer = image.Pt(32, 32)

// Replay plays a recording of the computer, paused at its end, beside the relay, and points TigerVNC at it.
func (w *World) Replay(recording string) *Viewer {
	w.T.Helper()
	file := filepath.Join(w.Viewer.Home, filepath.Base(recording))
	for _, end := range []string{".fbs", ".idx"} {
		from, to := strings.TrimSuffix(recording, ".fbs")+end, strings.TrimSuffix(file, ".fbs")+end
		w.Check(rig.CopyFile(from, to, 0o600))
		w.Check(os.Chown(to, w.Viewer.UID, w.Viewer.GID))
	}
	log := w.log("replay")
	_, err := w.Set.Start(w.Ctx, rig.Program{
		Args: []string{w.Relayd.Program, "replay", file, "--at", "23h", "--paused", "--config", w.Relayd.Config},
		User: w.Viewer, Network: w.Net.Name("relay"), Log: log,
	})
	w.Check(err)
	password := ""
	w.Until("the recording is shown", func() (bool, error) {
		b, err := os.ReadFile(log)
		if m := regexp.MustCompile(`at 127\.0\.0\.1:5999, password (\S+)`).FindSubmatch(b); m != nil {
			password = string(m[1])
		}
		return password != "", err
	})
	v := w.start("tigervnc", "relay", " - TigerVNC$", []string{"VNC_PASSWORD=" + password},
		"xtigervncviewer", "-SecurityTypes=VncAuth", "127.0.0.1::5999")
	v.Paints = recordedPointer
	return v
}

// waitShows returns when a picture stands on the viewer's screen.
func (v *Viewer) waitShows(what string, m frame.Image) {
	v.w.T.Helper()
	v.wait(what, func() (bool, error) {
		screen, err := Shot(v.Screen)
		if err != nil {
			return false, err
		}
		_, ok := Find(screen, m, v.Paints)
		return ok, nil
	})
}

// recordings are the computer's, in order.
func (w *World) recordings() []string {
	w.T.Helper()
	all, err := filepath.Glob(filepath.Join(w.Dir, "hostd-net", "recordings", "*.fbs"))
	w.Check(err)
	slices.Sort(all)
	return all
}

// lastOf is the last picture of a recording, which may be being written.
func lastOf(w *World, path string) frame.Image {
	w.T.Helper()
	b, err := os.ReadFile(path)
	w.Check(err)
	f, err := record.Open(bytes.NewReader(b), int64(len(b)), nil)
	w.Check(err)
	p := f.NewPlayer()
	p.Seek(f.Duration)
	return p.Picture()
}

// A computer that records every session: what TigerVNC plays of it is what was on the screen, to the pixel, although hostd-net was killed
// in the middle. When it cannot record, nobody gets in.
func TestRecording(t *testing.T) {
	w := NewWorld(t, Options{Host: "[policy]\nrecording = \"required\"\n", Time: 5 * time.Minute})
	d := w.Furnish()
	first, err := Shot(w.Desk)
	w.Check(err)
	v := w.TigerVNC("")
	takeTheHelm(w, d, v, "a session that is recorded")
	last, err := Shot(w.Desk)
	w.Check(err)
	all := w.recordings()
	if len(all) != 1 {
		t.Fatalf("%d recordings of one session", len(all))
	}
	w.Until("the recording has what is on the screen", func() (bool, error) {
		_, ok := Find(lastOf(w, all[0]), last, recordedPointer)
		return ok, nil
	})
	w.killPart("net")
	v.Proc.End()

	played := w.Replay(all[0])
	played.waitShows("the end of the recording", last)
	played.Key("Home")
	played.waitShows("its beginning", first)
	played.Key("End")
	played.waitShows("its end again", last)

	w.WaitOnline()
	dir := filepath.Join(w.Dir, "hostd-net", "recordings")
	w.Check(os.Rename(dir, dir+".old"))
	w.Check(os.WriteFile(dir, nil, 0o600))
	c, err := w.Client(Account, w.Password, "/watch")
	w.Check(err)
	defer c.Close()
	w.Check(c.Type(w.Code + "\n"))
	select {
	case <-c.Done():
	case <-w.Ctx.Done():
		t.Fatal("a session goes on that cannot be recorded")
	}
	if n := Count(c.Picture(), background); n > 0 {
		t.Fatalf("%d pixels of a desktop that cannot be recorded", n)
	}
}

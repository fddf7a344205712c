package e2e

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// recordedPointer is the size of the pointer, which is in the picture of a recording.
var recordedPointer = image.Pt(32, 32)

// recordKey makes a key pair for recordings, and gives the private key and its file, and the settings that seal them.
func recordKey(t *testing.T) (key *ecdh.PrivateKey, file, settings string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key.pem")
	out, err := exec.Command(filepath.Join(string(binaries), "relayd"), "record-key", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.(*ecdh.PrivateKey), file, string(out)
}

// Replay plays a recording of the computer, paused at its end, beside the relay, and points TigerVNC at it.
func (w *World) Replay(recording, key string) *Viewer {
	w.T.Helper()
	file := filepath.Join(w.Viewer.Home, filepath.Base(recording))
	for from, to := range map[string]string{
		recording: file, key: filepath.Join(w.Viewer.Home, "key.pem"),
		strings.TrimSuffix(recording, ".fbs") + ".idx": strings.TrimSuffix(file, ".fbs") + ".idx",
	} {
		w.Check(rig.CopyFile(from, to, 0o600))
		w.Check(os.Chown(to, w.Viewer.UID, w.Viewer.GID))
	}
	log := w.log("replay")
	_, err := w.Set.Start(w.Ctx, rig.Program{
		Args: []string{w.Relayd.Program, "replay", file, "--key", filepath.Join(w.Viewer.Home, "key.pem"), "--at", "23h", "--paused", "--config", w.Relayd.Config},
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

// openRecording opens a recording, which may be being written.
func (w *World) openRecording(path string, key *ecdh.PrivateKey) *record.File {
	w.T.Helper()
	b, err := os.ReadFile(path)
	w.Check(err)
	in, size, err := record.Unseal(bytes.NewReader(b), int64(len(b)), key)
	w.Check(err)
	f, err := record.Open(in, size, nil)
	w.Check(err)
	return f
}

// recorded returns what is on the computer's screen, once a recording has it.
func (w *World) recorded(path string, key *ecdh.PrivateKey) frame.Image {
	w.T.Helper()
	live, err := Shot(w.Desk)
	w.Check(err)
	w.Until("the recording has what is on the screen", func() (bool, error) {
		f := w.openRecording(path, key)
		p := f.NewPlayer()
		p.Seek(f.Duration)
		_, ok := Find(p.Picture(), live, recordedPointer)
		return ok, nil
	})
	return live
}

// seek has TigerVNC go to each tenth of a recording, at random, and what it shows is to the pixel what was on the computer's screen. live
// are all the pictures that the screen has had while it was recorded.
func (v *Viewer) seek(f *record.File, live []frame.Image) {
	v.w.T.Helper()
	p := f.NewPlayer()
	seen := map[int]bool{}
	for _, tenth := range rand.Perm(10) {
		p.Seek(f.Duration * time.Duration(tenth) / 10)
		n := slices.IndexFunc(live, func(m frame.Image) bool { _, ok := Find(p.Picture(), m, recordedPointer); return ok })
		if n < 0 {
			v.w.T.Fatalf("what was recorded at %d/10 of %v has never been on the screen", tenth, f.Duration)
		}
		seen[n] = true
		v.Key(fmt.Sprint(tenth), "Escape")
		v.waitShows(fmt.Sprintf("the recording at %d/10", tenth), live[n])
	}
	if len(seen) < 3 {
		v.w.T.Errorf("ten places in %v have shown %d pictures of %d", f.Duration, len(seen), len(live))
	}
}

// A computer that records every session, sealed: what TigerVNC plays of it is what was on the screen, to the pixel, wherever it goes in it,
// although hostd-net was killed in the middle. When it cannot record, nobody gets in.
func TestRecording(t *testing.T) {
	key, keyFile, settings := recordKey(t)
	w := NewWorld(t, Options{Host: settings + "recording = \"required\"\n", Time: 5 * time.Minute})
	root := func(args ...string) {
		_, err := w.Desk.Output(w.Ctx, append([]string{"xsetroot"}, args...)...)
		w.Check(err)
	}
	root("-solid", fmt.Sprintf("#%06x", background))
	v := w.TigerVNC("")
	v.LogIn()
	w.Until("the session is recorded", func() (bool, error) { return len(w.recordings()) > 0, nil })
	all := w.recordings()
	live := []frame.Image{w.recorded(all[0], key)}
	for n := range 12 { // patterns: each is drawn at once and has few colours, so that it is recorded exactly from the first moment on
		root("-fg", fmt.Sprintf("#%02x40c0", 20*n), "-bg", fmt.Sprintf("#30%02x60", 250-20*n), "-mod", fmt.Sprint(5+n), "7")
		live = append(live, w.recorded(all[0], key))
	}
	root("-solid", fmt.Sprintf("#%06x", background))
	live = append(live, w.recorded(all[0], key))
	if all = w.recordings(); len(all) != 1 {
		t.Fatalf("%d recordings of one session", len(all))
	}
	last := live[len(live)-1]
	w.killPart("net")
	v.Proc.End()

	played := w.Replay(all[0], keyFile)
	played.Key("Escape")
	played.waitShows("the end of the recording", last)
	played.seek(w.openRecording(all[0], key), live)
	played.Key("End", "Escape")
	played.waitShows("its end again", last)

	w.WaitOnline()
	dir := filepath.Join(w.Dir, "hostd-net", "recordings")
	w.Check(os.Rename(dir, dir+".old"))
	w.Check(os.WriteFile(dir, nil, 0o600))
	if _, err := w.Client(Account, w.Password, "/watch"); err == nil || !strings.Contains(err.Error(), "40043") {
		t.Fatalf("a viewer of a desktop that cannot be recorded: %v", err)
	}

	// And who is in is shown out when the disk is full. That of this folder has 10 MiB more than recordings leave free.
	w.Check(os.Remove(dir))
	w.Check(os.Mkdir(dir, 0o700))
	net := fmt.Sprint(w.hostPart("net")) // it has mounts of its own
	_, err := w.Set.Output(w.Ctx, rig.Program{Args: []string{"nsenter", "-t", net, "-m", "mount", "-t", "tmpfs",
		"-o", fmt.Sprintf("size=138m,mode=700,uid=%d,gid=%d", w.NetUser.UID, w.NetUser.GID), "helmline-e2e", dir}})
	w.Check(err)
	c := w.watch()
	w.Check(c.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), background) > 0 }, 20*time.Second))
	w.Check(os.WriteFile(filepath.Join("/proc", net, "root", dir, "full"), make([]byte, 20<<20), 0o600))
	_, err = w.Desk.Output(w.Ctx, "xdotool", "type", "something to record")
	w.Check(err)
	w.ended(c)
}

// watch logs a watcher of our own in.
func (w *World) watch() *rfbtest.Client {
	w.T.Helper()
	c, err := w.Client(Account, w.Password, "/watch")
	w.Check(err)
	w.T.Cleanup(c.Close)
	w.Check(c.Type(w.Code + "\n"))
	return c
}

// ended waits until the computer has ended a session.
func (w *World) ended(c *rfbtest.Client) {
	w.T.Helper()
	select {
	case <-c.Done():
	case <-w.Ctx.Done():
		w.T.Fatal("a session goes on that is not recorded")
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// sshHome gives the viewer's user a key that the relay knows, the relay's host key, and "relay" as a name for its SSH door.
func (w *World) sshHome() {
	w.T.Helper()
	dir := filepath.Join(w.Viewer.Home, ".ssh")
	w.Check(os.Mkdir(dir, 0o700))
	w.Check(os.Chown(dir, w.Viewer.UID, w.Viewer.GID))
	key := filepath.Join(dir, "id_ed25519")
	_, err := w.Set.Output(w.Ctx, rig.Program{Args: []string{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key}, User: w.Viewer})
	w.Check(err)
	public, err := os.ReadFile(key + ".pub")
	w.Check(err)
	_, err = w.Relayd.Do(w.Ctx, string(public), "account", "key", "add", Account)
	w.Check(err)
	config := fmt.Sprintf("Host relay\n\tHostName %s\n\tPort %s\n\tUser %s\n\tIdentityFile %s\n\tUserKnownHostsFile %s\n\tBatchMode yes\n",
		RelayName, PortSSH, Account, key, filepath.Join(dir, "known"))
	w.Check(os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	w.Check(os.Chown(filepath.Join(dir, "config"), w.Viewer.UID, w.Viewer.GID))
	// Once, as people do: take the relay's key and compare it with what the relay says of itself.
	_, err = w.ssh("-o", "StrictHostKeyChecking=accept-new", "relay", "sleep", "0")
	w.Check(err)
	hash, err := w.Set.Output(w.Ctx, rig.Program{Args: []string{"ssh-keygen", "-l", "-f", filepath.Join(dir, "known")}})
	w.Check(err)
	told, err := w.Relayd.Do(w.Ctx, "", "fingerprint")
	w.Check(err)
	if fields := strings.Fields(hash); len(fields) < 2 || !strings.Contains(told, fields[1]) {
		w.T.Fatalf("the relay's key is %s, it says %s", hash, told)
	}
}

// ssh runs the viewer's ssh to its end.
func (w *World) ssh(args ...string) (string, error) {
	return w.Set.Output(w.Ctx, rig.Program{Args: append([]string{"ssh"}, args...), User: w.Viewer, Network: w.Net.Name("viewer"), Dir: w.Viewer.Home})
}

// forward has ssh forward a port in the viewer's network to a computer, and gives the port.
func (w *World) forward(computer string) string {
	w.T.Helper()
	const port = "5999"
	_, err := w.Set.Start(w.Ctx, rig.Program{Args: []string{"ssh", "-N", "-L", port + ":" + computer + ":5900", "relay"},
		User: w.Viewer, Network: w.Net.Name("viewer"), Log: w.log("ssh")})
	w.Check(err)
	w.Until("ssh listens", func() (bool, error) {
		out, err := w.Set.Output(w.Ctx, rig.Program{Args: []string{"ss", "-Hltn", "sport = :" + port}, Network: w.Net.Name("viewer")})
		return err == nil && strings.Contains(out, port), err
	})
	return port
}

// onlyCode has TigerVNC log in to the computer by the access code alone, as soon as it asks.
func (w *World) onlyCode() []string { return []string{"VNC_USERNAME=", "VNC_PASSWORD=" + w.Code} }

// Stock vncviewer opens and closes the tunnel by itself. It trusts the computer's certificate and no other.
func TestVia(t *testing.T) {
	w := NewWorld(t, Options{})
	w.sshHome()
	d := w.Furnish()
	v := w.start("tigervnc", "viewer", " - TigerVNC$", w.onlyCode(),
		"xtigervncviewer", "-X509CA="+w.HostCA, "-SecurityTypes=X509Plain", "-via", "relay", Computer+":0")
	v.WaitEqual(w.Desk)
	v.Type("helm ÄΩ€中\n")
	d.WaitTyped("helm ÄΩ€中\n")
	v.WaitEqual(w.Desk)
	sessions, err := w.Sessions()
	w.Check(err)
	if len(sessions) != 1 || sessions[0].Account != Account || sessions[0].Role != "control" {
		t.Errorf("the relay has the sessions %+v", sessions)
	}
}

// Through ssh -L the relay passes on what it cannot read: neither the desktop nor the host login. What it passes on goes over the
// loopback between ssh and the viewer, byte for byte, and is captured there. The same session in clear shows that the
// capture would find both.
func TestForwardIsSealed(t *testing.T) {
	w := NewWorld(t, Options{})
	w.sshHome()
	w.Furnish()
	port := w.forward(Computer)
	// Hextile sends tiles of a photograph as they are.
	plain := []string{"-AutoSelect=0", "-PreferredEncoding=Hextile", "-FullColor"}
	sealed := w.capture("viewer", port, func() {
		v := w.start("tigervnc", "viewer", " - TigerVNC$", w.onlyCode(),
			append([]string{"xtigervncviewer", "-X509CA=" + w.HostCA, "-SecurityTypes=X509Plain", "localhost::" + port}, plain...)...)
		v.WaitEqual(w.Desk)
		v.Proc.Kill()
	})
	if !bytes.Contains(sealed, []byte("RFB 003.008\n")) {
		t.Error("the capture does not hold the session")
	}
	if holdsPhotograph(sealed) {
		t.Error("the desktop passes through the relay in clear")
	}
	if bytes.Contains(sealed, []byte(w.Code)) || holdsKeys(sealed, w.Code) > 0 {
		t.Error("the host login passes through the relay in clear")
	}

	// The same by RSA-AES. Behind its types that end in "ne" the session is in clear, and only the log-in is not.
	for _, c := range []struct {
		security rfb.SecurityType
		open     bool
	}{{rfb.SecRA2256, false}, {rfb.SecRA2, false}, {rfb.SecRA2ne256, true}, {rfb.SecRA2ne, true}} {
		passed := w.capture("viewer", port, func() {
			conn, err := w.Net.Dial(w.Ctx, "viewer", "127.0.0.1:"+port)
			w.Check(err)
			v, err := rfbtest.Handshake(conn, rfbtest.Config{Security: uint8(c.security), Password: w.Code, Encodings: []int32{rfb.Raw}})
			w.Check(err)
			defer v.Close()
			w.Check(v.WaitFor(func(v *rfbtest.Client) bool { return holdsPhotograph(v.Picture().Pix) }, 20*time.Second))
		})
		if !bytes.Contains(passed, []byte("RFB 003.008\n")) || holdsPhotograph(passed) != c.open {
			t.Errorf("%v: the capture holds the desktop: %v", c.security, !c.open)
		}
		if bytes.Contains(passed, []byte(w.Code)) || holdsKeys(passed, w.Code) > 0 {
			t.Errorf("%v: the host login passes through the relay in clear", c.security)
		}
	}

	clear := w.capture("relay", PortClear, func() {
		v := w.start("tigervnc", "relay", " - TigerVNC$", nil,
			append([]string{"xtigervncviewer", "-SecurityTypes=VncAuth", "-passwd=" + w.passwordFile("tigervnc"), "127.0.0.1::" + PortClear}, plain...)...)
		v.LogIn()
		v.WaitEqual(w.Desk)
		v.Proc.Kill()
	})
	if !holdsPhotograph(clear) {
		t.Error("a session in clear does not show the photograph either, so this test proves nothing")
	}
	if holdsKeys(clear, w.Code) != len(w.Code) {
		t.Error("a session in clear does not show the keys of the access code, so this test proves nothing")
	}
}

// A viewer that can do nothing but VncAuth comes through ssh -L with a one-time code, which stands for no log-in; so does one that speaks RFB 3.3.
func TestForwardWithCode(t *testing.T) {
	w := NewWorld(t, Options{})
	w.sshHome()
	d := w.Furnish()
	port := w.forward(Computer)
	w.passwordFile("vncsnapshot")
	out := filepath.Join(w.folder("snapshot", w.Viewer), "picture.jpg")
	snapshot := rig.Program{
		Args: []string{"vncsnapshot", "-passwd", filepath.Join(w.Viewer.Home, "vncsnapshot.passwd"), "-quality", "100", "127.0.0.1:99", out}, // display 99 is the port
		User: w.Viewer, Network: w.Net.Name("viewer"), Dir: w.Viewer.Home,
	}
	_, err := w.Set.Output(w.Ctx, snapshot)
	w.Check(err)
	got, err := readJPEG(out)
	w.Check(err)
	if want := w.FormPicture(image.Point{}); got.Rect != want.Rect || psnr(got, want) < 35 {
		t.Errorf("the picture of %v is not the form", got.Rect)
	}
	if _, err := w.Set.Output(w.Ctx, snapshot); err == nil {
		t.Error("the same code let in twice")
	}
	v := w.start("xtightvncviewer", "viewer", "^TightVNC: ", nil, "xtightvncviewer", "-passwd", w.passwordFile("xtightvncviewer"), "127.0.0.1::"+port)
	v.Paints = image.Pt(32, 32)
	takeTheHelm(w, d, v, "helm Ä€")
}

// holdsKeys counts the characters of a text whose key-down message stands in the capture (RFC 6143, section 7.5.4, or QEMU's with a scan
// code).
func holdsKeys(capture []byte, text string) int {
	n := 0
	for _, c := range []byte(text) {
		if bytes.Contains(capture, []byte{4, 1, 0, 0, 0, 0, 0, c}) || bytes.Contains(capture, []byte{255, 0, 0, 1, 0, 0, 0, c}) {
			n++
		}
	}
	return n
}

// holdsPhotograph looks for pieces of four pixels of the photograph on the desktop.
func holdsPhotograph(capture []byte) bool {
	photo := photograph(image.Pt(420, 300))
	for x := 100; x < 132; x++ {
		if bytes.Contains(capture, photo.Row(150, x, x+4)) {
			return true
		}
	}
	return false
}

// capture records a TCP port on a party's loopback while f runs.
func (w *World) capture(party, port string, f func()) []byte {
	w.T.Helper()
	w.captures++
	path := w.file(fmt.Sprint("capture", w.captures))
	log := w.log(fmt.Sprint("tcpdump", w.captures))
	p, err := w.Set.Start(w.Ctx, rig.Program{Args: []string{"tcpdump", "-i", "lo", "-U", "-B", "65536", "-s", "0", "-Z", "root", "-w", path, "tcp port " + port},
		Network: w.Net.Name(party), Log: log})
	w.Check(err)
	w.Until("tcpdump listens", func() (bool, error) { return strings.Contains(rig.Tail(log, 5), "listening on"), nil })
	f()
	// What was sent last has been written once the file no longer grows.
	size := int64(-1)
	w.Within(20*time.Second, "the capture is written", func() (bool, error) {
		st, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		done := st.Size() == size
		size = st.Size()
		return done, nil
	})
	p.End()
	out, err := os.ReadFile(path)
	w.Check(err)
	return out
}

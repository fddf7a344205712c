package desktop

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// noVNC is the folder with the browser viewer and the program that logs in with it.
const noVNC = "../../.ci/novnc"

// The browser viewer's own client logs in, and chooses by itself the one type that it can do.
func TestNoVNC(t *testing.T) {
	s, h := start(t, small)
	codeOnly, _ := start(t, small, func(w *ipc.Welcome) { w.OSLogin = false })
	key, err := RSAKey(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		server         *server
		user, password string
		want           string
	}{
		{"password", s, "zoë", "pass word", "connected desk7\nconnected zoë@desk7\npixel 192,255,238\n"},
		{"access code", s, "", "12345678", "connected desk7\nconnected alice@desk7\npixel 192,255,238\n"},
		{"the code where only that works", codeOnly, "", "12345678", "connected desk7\nconnected alice@desk7\npixel 192,255,238\n"},
		{"wrong password", s, "alice", "wrong", "refused " + refuse.WrongLogin.Text() + ". 2 attempts left before a lock-out\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, told := runNoVNC(t, tt.server, tt.user, tt.password, "login.mjs")
			if want := "key " + key.Fingerprint() + "\n" + tt.want; out != want {
				t.Errorf("%q, not %q; %s", out, want, told)
			}
		})
	}
}

// The desktop follows the browser's window.
func TestNoVNCResizes(t *testing.T) {
	x := startServer(t, "Xtigervnc", "-geometry", "640x480", "-depth", "24", "-rfbport", "-1")
	s, h := start(t, familySize)
	h.real(x)
	out, told := runNoVNC(t, s, "", "12345678", "resize.mjs", "801x603", "500x400")
	if !strings.HasSuffix(out, "801x603\n500x400\n") {
		t.Errorf("%q; %s", out, told)
	}
	g, err := xproto.GetGeometry(x.x, xproto.Drawable(x.root.Root)).Reply()
	x.check(err)
	if g.Width != 500 || g.Height != 400 {
		t.Errorf("the display has %d×%d", g.Width, g.Height)
	}
}

// runNoVNC runs a program with noVNC's client against a server and gives what it writes, to standard output and to standard error.
func runNoVNC(t *testing.T, s *server, user, password, program string, args ...string) (out, told string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(noVNC, "node_modules"))
	}
	if err != nil {
		t.Fatal("run .ci/install test: ", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience) // it makes a key of its own, which takes long on a busy machine
	defer cancel()
	carried := make(chan struct{})
	go func() {
		defer close(carried)
		passOn(l, func() net.Conn { return fromVersion(t, s, alice) })
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	in, err := json.Marshal(map[string]string{"username": user, "password": password})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, node, append([]string{filepath.Join(noVNC, program), port}, args...)...)
	c.Stdin = strings.NewReader(string(in))
	var stderr strings.Builder
	c.Stderr = &stderr
	b, err := c.Output()
	l.Close()
	<-carried
	if err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	return string(b), stderr.String()
}

// passOn joins the first who connects with a stream.
func passOn(l net.Listener, join func() net.Conn) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	stream := join()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(stream, c)
		stream.Close()
	}()
	io.Copy(c, stream)
	c.Close()
	<-done
}

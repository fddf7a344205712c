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

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// noVNC is the folder with the browser viewer and the program that logs in with it.
const noVNC = "../../.ci/novnc"

// The browser viewer's own client logs in, and chooses by itself the one type that it can do.
func TestNoVNC(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(noVNC, "node_modules"))
	}
	if err != nil {
		t.Fatal("run .ci/install test: ", err)
	}
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
		{"wrong password", s, "alice", "wrong", "refused " + refuse.WrongLogin.Of().Error() + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
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
				passOn(l, func() net.Conn { return fromVersion(t, tt.server, alice) })
			}()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			in, err := json.Marshal(map[string]string{"username": tt.user, "password": tt.password})
			if err != nil {
				t.Fatal(err)
			}
			c := exec.CommandContext(ctx, node, filepath.Join(noVNC, "login.mjs"), port)
			c.Stdin = strings.NewReader(string(in))
			var told strings.Builder
			c.Stderr = &told
			out, err := c.Output()
			l.Close()
			<-carried
			if want := "key " + key.Fingerprint() + "\n" + tt.want; string(out) != want || err != nil {
				t.Errorf("%q, not %q; %v, %s", out, want, err, told.String())
			}
		})
	}
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

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
)

// What lets somebody in can be withdrawn at any time, and then ends what is under way within 2 s.
func TestSessionsEndWhenTheRightIsWithdrawn(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name     string
		withdraw func(a *admin.Client, session string) error
		bob      bool // bob's session ends
		watcher  bool // alice's other session, a watcher, ends
		conn     bool // bob's SSH connection itself ends
	}{
		{"session ended", func(a *admin.Client, id string) error { return a.EndSession(ctx, id) }, true, false, false},
		{"account disabled", func(a *admin.Client, _ string) error { return a.DisableAccount(ctx, "bob@example.com") }, true, false, true},
		{"password changed", func(a *admin.Client, _ string) error {
			return a.SetPassword(ctx, "bob@example.com", []byte(password+"!"))
		}, true, false, true},
		{"share withdrawn", func(a *admin.Client, _ string) error {
			_, err := a.ShareHost(ctx, "desk7", "bob@example.com", registry.RightNone, time.Time{})
			return err
		}, true, false, false},
		{"share cut to watching", func(a *admin.Client, _ string) error {
			_, err := a.ShareHost(ctx, "desk7", "bob@example.com", registry.RightWatch, time.Time{})
			return err
		}, true, false, false},
		{"share that will end", func(a *admin.Client, _ string) error {
			_, err := a.ShareHost(ctx, "desk7", "bob@example.com", registry.RightControl, time.Now().Add(time.Hour))
			return err
		}, false, false, false},
		{"computer removed", func(a *admin.Client, _ string) error {
			_, err := a.RemoveHost(ctx, "desk7")
			return err
		}, true, true, false},
		{"other account disabled", func(a *admin.Client, _ string) error { return a.DisableAccount(ctx, "carol@example.com") }, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRelay(t)
			for _, a := range []string{"alice@example.com", "bob@example.com", "carol@example.com"} {
				r.account(a)
			}
			desk := r.computer("alice@example.com", "desk7", echo)
			if _, err := r.admin.ShareHost(ctx, "desk7", "bob@example.com", registry.RightControl, time.Time{}); err != nil {
				t.Fatal(err)
			}
			alice := r.jump("alice@example.com", "watch.desk7")
			within(t, desk.headers, "stream of alice")
			bob := r.jump("bob@example.com", "desk7")
			h := within(t, desk.headers, "stream of bob")
			if err := c.withdraw(r.admin, h.Session); err != nil {
				t.Fatal(err)
			}
			bob.check(c.bob)
			alice.check(c.watcher)
			bob.checkConn(c.conn)
			alice.checkConn(false)
		})
	}
}

func TestShareThatExpiresEndsTheSession(t *testing.T) {
	ctx := context.Background()
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	if _, err := r.admin.ShareHost(ctx, "desk7", "bob@example.com", registry.RightControl, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	bob := r.jump("bob@example.com", "desk7")
	within(t, desk.headers, "stream")
	if _, err := r.admin.ShareHost(ctx, "desk7", "bob@example.com", registry.RightControl, time.Now().Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	within(t, desk.ended, "end of the stream")
	bob.check(true)
	if _, err := bob.client.Dial("tcp", "desk7:5900"); err == nil || !strings.Contains(err.Error(), "40008") {
		t.Errorf("after it: %v", err)
	}
}

// A jump is an SSH connection of a person with one channel to a computer that echoes.
type jump struct {
	t      *testing.T
	client *ssh.Client
	conn   net.Conn
	closed chan struct{} // the connection has ended
}

func (r *relay) jump(email, target string) *jump {
	r.t.Helper()
	client, _, err := r.dial(email, ssh.Password(password))
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := client.Dial("tcp", target+":5900")
	if err != nil {
		r.t.Fatal(err)
	}
	j := &jump{r.t, client, conn, make(chan struct{})}
	go func() { client.Wait(); close(j.closed) }()
	r.t.Cleanup(func() { client.Close(); <-j.closed })
	return j
}

// check says whether the channel still echoes.
func (j *jump) check(ended bool) {
	j.t.Helper()
	if ended {
		done := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, j.conn); done <- err }()
		if err := within(j.t, done, "end of the session"); err != nil && !errors.Is(err, io.EOF) {
			j.t.Logf("the session ended with %v", err)
		}
		return
	}
	b := make([]byte, 2)
	if _, err := j.conn.Write([]byte("hi")); err != nil {
		j.t.Errorf("the session has ended: %v", err)
	} else if _, err := io.ReadFull(j.conn, b); err != nil || string(b) != "hi" {
		j.t.Errorf("the session has ended: %q, %v", b, err)
	}
}

func (j *jump) checkConn(ended bool) {
	j.t.Helper()
	if ended {
		within(j.t, j.closed, "end of the SSH connection")
		return
	}
	if _, _, err := j.client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		j.t.Errorf("the SSH connection has ended: %v", err)
	}
}

func TestStopDrains(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", nil)
	v, err := r.viewer("alice@example.com/desk7", password)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := r.ready(); err != "ok\n" {
		t.Errorf("readyz: %q", err)
	}
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	ws, no := b.reach("desk7", "watch")
	if no != nil {
		t.Fatal(no)
	}
	r.stop()
	var last greeting
	for err = nil; err == nil; {
		kind, word, e := ws.Read(t.Context())
		if err = e; kind == websocket.MessageText && err == nil {
			err = json.Unmarshal(word, &last)
		}
	}
	if last.Refusal == nil || !refuse.Restarting.Is(last.Refusal) {
		t.Errorf("the page hears %v last, and %v", last.Refusal, err)
	}
	var end *tunnel.EndError
	for range 2 { // the page's is cut off, so that the computer keeps its session; the end of the tunnel may reach either first
		if err := within(t, desk.ended, "end"); err != nil && !errors.Is(err, yamux.ErrConnectionReset) && (!errors.As(err, &end) || end.Reason != tunnel.Restarting) {
			t.Errorf("the computer's stream ended with: %v", err)
		}
	}
	within(t, v.Done(), "end of the viewer's connection")
	within(t, r.stopped, "end of relayd")
	within(t, desk.Done(), "end of the tunnel")
	if !errors.As(desk.Err(), &end) || end.Reason != tunnel.Restarting {
		t.Errorf("the computer is told: %v", desk.Err())
	}
	if _, err := net.Dial("tcp", r.ports["rfb"]); err == nil {
		t.Error("the door is still open")
	}
	trail, err := audit.Verify(filepath.Join(r.dir, auditDir))
	if err != nil || len(trail.Problems) > 0 || trail.Sealed != trail.Last {
		t.Errorf("the audit log is not sealed: %+v, %v", trail, err)
	}
}

// ready is what /readyz answers.
func (r *relay) ready() string { return r.get("/readyz") }

func (r *relay) get(path string) string {
	resp, err := http.Get("http://" + r.ports["metrics"] + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestMetricsNameNobody(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	j := r.jump("alice@example.com", "desk7")
	within(t, desk.headers, "stream")
	j.check(false)
	if _, err := r.viewer("alice@example.com/desk1", password); err == nil {
		t.Error("reached a computer that is not there")
	}
	if _, err := r.viewer("alice@example.com/desk7", "wrong"); err == nil {
		t.Error("signed in with a wrong password")
	}
	m := r.get("/metrics")
	for _, want := range []string{
		`relayd_sessions{door="ssh"} 1`, `relayd_session_bytes_total{direction="to_host"} 2`,
		`relayd_session_bytes_total{direction="to_viewer"} 2`, `relayd_refusals_total{code="40008"} 1`,
		`relayd_door_waiting{door="ssh"} 0`, `relayd_hosts_online 1`,
	} {
		if !strings.Contains(m, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, secret := range []string{"alice", "desk7", "desk1", "127.0.0.1"} {
		if strings.Contains(m, secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
	problems, err := promlint.New(strings.NewReader(m)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "relayd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(m) {
			if strings.HasPrefix(line, "relayd_") {
				t.Log(line)
			}
		}
	}
}

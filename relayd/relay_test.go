package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/admin"
)

// A relay is a whole relayd inside the test.
type relay struct {
	t       *testing.T
	dir     string
	log     *lockedBuffer
	admin   *admin.Client
	roots   *x509.CertPool
	ports   map[string]string // address by door
	stop    context.CancelFunc
	stopped chan struct{}
	reload  chan os.Signal
}

const password = "verdigris-ninepins-42"

// startRelay starts relayd on free ports of 127.0.0.1, and ends it with the test.
func startRelay(t *testing.T, change ...func(c *conf.Relay)) *relay {
	t.Helper()
	c := conf.DefaultRelay()
	c.Name = "localhost"
	c.StateDir = filepath.Join(t.TempDir(), "state")
	c.SSH.Listen, c.RFB.Listen, c.RFBCode.Listen, c.Metrics.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Web.Listen = "127.0.0.1:0"
	for _, f := range change {
		f(c)
	}
	return startRelayWith(t, c)
}

func startRelayWith(t *testing.T, c *conf.Relay) *relay {
	t.Helper()
	r := &relay{t: t, dir: c.StateDir, log: newLockedBuffer(), stopped: make(chan struct{}), reload: make(chan os.Signal), ports: map[string]string{}}
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var failed error
	go func() {
		defer close(r.stopped)
		failed = run(ctx, c, slog.New(slog.NewTextHandler(r.log, nil)), r.reload)
	}()
	t.Cleanup(func() {
		stop()
		<-r.stopped
		if failed != nil {
			t.Errorf("relayd ended with: %v", failed)
		}
		http.DefaultClient.CloseIdleConnections()
		if err := goleak.Find(before); err != nil {
			t.Errorf("after relayd's end: %v", err)
		}
		if t.Failed() {
			t.Logf("log of relayd:\n%s", r.log)
		}
	})
	select {
	case <-r.log.seen("msg=ready"):
	case <-r.stopped:
		t.Fatalf("relayd ended at once: %v", failed)
	}
	for _, m := range regexp.MustCompile(`msg=listening door=(\S+) address=(\S+)`).FindAllStringSubmatch(r.log.String(), -1) {
		r.ports[m[1]] = m[2]
	}
	ca := filepath.Join(r.dir, tlsCertFile)
	if c.TLS.Cert != "" {
		ca = c.TLS.Cert
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	r.roots = x509.NewCertPool()
	r.roots.AppendCertsFromPEM(pem)
	r.admin = admin.NewClient(c.Socket())
	return r
}

// account makes an account with the password of all.
func (r *relay) account(email string) {
	r.t.Helper()
	if _, err := r.admin.AddAccount(context.Background(), email, []byte(password), false); err != nil {
		r.t.Fatal(err)
	}
}

// A computer is what the tests join viewers to: the far end of a tunnel.
type computer struct {
	*tunnel.Session
	headers chan tunnel.Header
	ended   chan error // how each stream ended: nil for a clean end
	streams sync.WaitGroup
}

// enrolled enrols a computer and gives how it dials.
func (r *relay) enrolled(owner, name string) *tunnel.Dialer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	v, err := r.admin.Invite(ctx, owner, name)
	if err != nil {
		r.t.Fatal(err)
	}
	token, err := tunnel.ParseToken(v.Token)
	if err != nil {
		r.t.Fatal(err)
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewSignerFromKey(private)
	if _, err := tunnel.Enroll(ctx, token, key, name); err != nil {
		r.t.Fatal(err)
	}
	return &tunnel.Dialer{Addr: token.Relay, Key: key, RelayKey: token.Fingerprint, Hello: tunnel.Hello{Kind: tunnel.Main, Instance: "test", Version: "test"}}
}

// computer enrols a computer and keeps it online until the test ends. handle serves its streams; nil is desktop.
func (r *relay) computer(owner, name string, handle func(c net.Conn, h tunnel.Header) error) *computer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := r.enrolled(owner, name).Dial(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &computer{Session: s, headers: make(chan tunnel.Header, 100), ended: make(chan error, 100)}
	if handle == nil {
		handle = desktop
	}
	c.streams.Go(func() {
		for {
			stream, h, err := s.Accept()
			if err != nil {
				return
			}
			c.headers <- h
			c.streams.Go(func() {
				err := handle(stream, h)
				stream.Close()
				c.ended <- err
			})
		}
	})
	r.t.Cleanup(func() {
		s.Close()
		c.streams.Wait()
	})
	all, err := r.admin.Hosts(ctx, owner+"/"+name)
	if err != nil || len(all) != 1 {
		r.t.Fatal(all, err)
	}
	within(r.t, r.log.seen(`"computer online" host=`+all[0].ID), "computer coming online")
	return c
}

// desktop is a computer's RFB server that shows a black picture and answers nothing.
func desktop(c net.Conn, h tunnel.Header) error {
	if err := tunnel.WriteReply(c, nil); err != nil {
		return err
	}
	if h.Purpose == tunnel.RFBInit {
		if _, err := rfb.ReadClientInit(c); err != nil {
			return err
		}
		if _, err := c.Write(rfb.AppendServerInit(nil, image.Pt(64, 48), rfb.Native, "desk of "+h.Account)); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// echo is a computer that sends back what it gets.
func echo(c net.Conn, _ tunnel.Header) error {
	if err := tunnel.WriteReply(c, nil); err != nil {
		return err
	}
	_, err := io.Copy(c, c)
	return err
}

// refusing is a computer that refuses every stream.
func refusing(no *refuse.Refusal) func(net.Conn, tunnel.Header) error {
	return func(c net.Conn, _ tunnel.Header) error { return tunnel.WriteReply(c, no) }
}

// viewer connects to the RFB door.
func (r *relay) viewer(user, password string) (*rfbtest.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return rfbtest.Dial(ctx, r.ports["rfb"], rfbtest.Config{
		User: user, Password: password, Roots: r.roots, ServerName: "localhost", Manual: true,
	})
}

// reason is what a viewer shows of err.
func reason(err error) string {
	var refused *rfbtest.RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return fmt.Sprintf("not refused, but: %v", err)
}

// within waits for something, for as long as a slow machine may take.
func within[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s", what)
	}
	return v
}

// A lockedBuffer is a log that can be waited on.
type lockedBuffer struct {
	mu      sync.Mutex // guards what follows
	b       bytes.Buffer
	waiting map[string]chan struct{}
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{waiting: map[string]chan struct{}{}} }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.b.Write(p)
	for text, c := range l.waiting {
		if strings.Contains(l.b.String(), text) {
			close(c)
			delete(l.waiting, text)
		}
	}
	return n, err
}

// seen is closed once the log holds text.
func (l *lockedBuffer) seen(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{})
	if strings.Contains(l.b.String(), text) {
		close(c)
	} else if old := l.waiting[text]; old != nil {
		return old
	} else {
		l.waiting[text] = c
	}
	return c
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

package broker

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var alice = &account.Account{ID: 1, Email: "alice@example.com"}

// world is everybody that a broker asks: alice, who owns desk7, which is online.
type world struct {
	mu       sync.Mutex // guards what follows
	disabled bool
	right    registry.Right
	find     func(times int) // called by the times-th Find
	finds    int
	full     bool // the audit log
	events   []audit.Event
	live     *tunnel.Session // nil: offline
	code     string          // of alice's for control of desk7
}

func (w *world) Holds(context.Context, *account.Account) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.disabled {
		return refuse.SignIn.Of()
	}
	return nil
}

func (w *world) Find(_ context.Context, _ *account.Account, name string) (*registry.Computer, error) {
	w.mu.Lock()
	w.finds++
	n, find := w.finds, w.find
	w.mu.Unlock()
	if find != nil {
		find(n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.right == registry.RightNone || !strings.EqualFold(name, "desk7") && name != "id7" {
		return nil, refuse.NoComputer.Of()
	}
	return &registry.Computer{ID: "id7", Name: "desk7", Owner: alice.Email, Right: w.right, Online: w.live != nil}, nil
}

func (w *world) ForAccount(context.Context, *account.Account) ([]registry.Computer, error) {
	return []registry.Computer{{Name: "desk6"}, {Name: "desk7", Online: true}, {Name: "desk8"}}, nil
}

func (w *world) Tunnel(string, tunnel.Kind) (*tunnel.Session, bool) { return w.live, w.live != nil }

func (w *world) Take(account int64, computer string, role tunnel.Role) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if account != alice.ID || computer != "id7" || role != tunnel.RoleControl {
		return ""
	}
	code := w.code
	w.code = ""
	return code
}

func (w *world) Write(_ context.Context, e audit.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return refuse.StorageOut.Of()
	}
	w.events = append(w.events, e)
	return nil
}

// kinds are the events so far, each with its number.
func (w *world) kinds() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, e := range w.events {
		all = append(all, e.Kind)
	}
	return strings.Join(all, " ")
}

// newBroker makes a broker and a world in which handle serves the streams of desk7; nil: it is offline.
func newBroker(t *testing.T, handle func(c net.Conn, h tunnel.Header)) (*Broker, *world) {
	t.Helper()
	w := &world{right: registry.RightControl}
	if handle != nil {
		far, near := newTunnel(t)
		w.live = near
		var work sync.WaitGroup
		work.Go(func() {
			for {
				c, h, err := far.Accept()
				if err != nil {
					return
				}
				work.Go(func() { handle(c, h); c.Close() })
			}
		})
		t.Cleanup(func() { near.Close(); far.Close(); work.Wait() })
	}
	return New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), w, w, w, w), w
}

// newTunnel is a tunnel over loopback: the computer's end and the relay's.
func newTunnel(t *testing.T) (far, near *tunnel.Session) {
	t.Helper()
	key := func() ssh.Signer {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		k, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	host := key()
	config := &ssh.ServerConfig{Config: tunnel.Algorithms(), PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		return tunnel.KeyPermissions(k), nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan *tunnel.Session, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		conn, chans, reqs, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		if s, err := tunnel.ServeTunnel(conn, chans, reqs); err == nil {
			got <- s
		}
	}()
	d := &tunnel.Dialer{Addr: l.Addr().String(), Key: key(), RelayKey: ssh.FingerprintSHA256(host.PublicKey()), Hello: tunnel.Hello{Kind: tunnel.Main, Instance: "test"}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if far, err = d.Dial(ctx); err != nil {
		t.Fatal(err)
	}
	if near = <-got; near == nil {
		t.Fatal("no tunnel at the relay's side")
	}
	return far, near
}

func request(role tunnel.Role) Request {
	return Request{
		Account: alice, Computer: "desk7", Role: role, Door: "rfb", Viewer: netip.MustParseAddrPort("192.0.2.1:40000"),
		Purpose: tunnel.RFBInit, Minor: 8,
	}
}

func echo(c net.Conn, _ tunnel.Header) {
	if tunnel.WriteReply(c, nil) == nil {
		_, _ = io.Copy(c, c)
	}
}

// viewer is a viewer's connection: TCP, as at the doors.
func viewer(t *testing.T) (far, near *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

func TestJoin(t *testing.T) {
	b, w := newBroker(t, echo)
	s, err := b.Open(context.Background(), request(tunnel.RoleControl))
	if err != nil {
		t.Fatal(err)
	}
	far, near := viewer(t)
	joined := make(chan error, 1)
	go func() { joined <- s.Join(near) }()
	const text = "what the viewer says"
	if _, err := io.WriteString(far, text); err != nil {
		t.Fatal(err)
	}
	if list := b.List(); len(list) != 1 || list[0].ID != s.ID || list[0].Computer != "desk7" || list[0].Role != "control" {
		t.Errorf("sessions: %+v", list)
	}
	if n := testutil.ToFloat64(b.count.sessions.WithLabelValues("rfb")); n != 1 {
		t.Errorf("relayd_sessions is %v", n)
	}
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(far) // the computer answers to the end, though the viewer has ended its side
	if err != nil || string(back) != text {
		t.Errorf("%q, %v", back, err)
	}
	if err := <-joined; err != nil {
		t.Errorf("a clean end gives %v", err)
	}
	for name, n := range map[string]float64{
		"sessions":  testutil.ToFloat64(b.count.sessions.WithLabelValues("rfb")),
		"to viewer": testutil.ToFloat64(b.count.toViewer) - float64(len(text)), "from viewer": testutil.ToFloat64(b.count.fromViewer) - float64(len(text)),
	} {
		if n != 0 {
			t.Errorf("%s: off by %v", name, n)
		}
	}
	if len(b.List()) != 0 || w.kinds() != "session.start session.end" {
		t.Errorf("sessions %+v, events %q", b.List(), w.kinds())
	}
	e := w.events[0]
	if e.Account != alice.Email || e.Computer != "alice@example.com/desk7" || e.ComputerID != "id7" || e.Role != "control" || e.Session != s.ID || e.Door != "rfb" || e.Source != "192.0.2.1" || w.events[1].Code != 0 {
		t.Errorf("events: %+v", w.events)
	}
}

// A computer that takes the stream and says nothing does not keep a person waiting for longer than reachTime.
func TestSilentComputer(t *testing.T) {
	t.Parallel()
	b, _ := newBroker(t, func(c net.Conn, _ tunnel.Header) { _, _ = io.Copy(io.Discard, c) })
	began := time.Now()
	_, err := b.Open(t.Context(), request(tunnel.RoleControl))
	if took := time.Since(began); !refuse.NotRunning.Is(err) || took < reachTime || took > reachTime+5*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

// A one-time code goes along where the door wants it, once, and for nothing but what it is for.
func TestCodeGoesAlong(t *testing.T) {
	told := make(chan string, 1)
	b, w := newBroker(t, func(c net.Conn, h tunnel.Header) {
		told <- h.Code
		tunnel.WriteReply(c, nil)
	})
	w.code = "23456789"
	for _, c := range []struct {
		name string
		with bool
		role tunnel.Role
		want string
	}{
		{"a door that does not want it", false, tunnel.RoleControl, ""},
		{"another role", true, tunnel.RoleWatch, ""},
		{"what it is for", true, tunnel.RoleControl, "23456789"},
		{"again", true, tunnel.RoleControl, ""},
	} {
		req := request(c.role)
		req.Purpose, req.WithCode = tunnel.RFB, c.with
		s, err := b.Open(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := <-told; got != c.want {
			t.Errorf("%s: the computer is told %q", c.name, got)
		}
	}
	for i, want := range []string{"", "", "a one-time code went along", ""} {
		if e := w.events[2*i]; e.Kind != "session.start" || e.Detail != want {
			t.Errorf("recorded %+v, not %q", e, want)
		}
	}
}

// A faulty connection panics when it is read or written.
type faulty struct {
	net.Conn
	read bool
}

func (f faulty) Read(p []byte) (int, error) {
	if f.read {
		panic("boo")
	}
	return f.Conn.Read(p)
}

func (f faulty) Write([]byte) (int, error) { panic("boo") }

// A viewer that makes the relay panic leaves no session behind.
func TestPanicEndsTheSession(t *testing.T) {
	for name, read := range map[string]bool{"reading": true, "writing": false} {
		t.Run(name, func(t *testing.T) {
			b, w := newBroker(t, func(c net.Conn, h tunnel.Header) {
				if tunnel.WriteReply(c, nil) == nil {
					_, _ = io.WriteString(c, "hello")
					_, _ = io.Copy(io.Discard, c)
				}
			})
			s, err := b.Open(t.Context(), request(tunnel.RoleControl))
			if err != nil {
				t.Fatal(err)
			}
			_, near := viewer(t)
			func() {
				defer func() {
					if r := recover(); r == nil {
						t.Error("no panic")
					}
				}()
				defer s.Close()
				_ = s.Join(faulty{near, read})
			}()
			if n := testutil.ToFloat64(b.count.sessions.WithLabelValues("rfb")); n != 0 || len(b.sessions) != 0 {
				t.Errorf("relayd_sessions is %v, %d sessions are left over", n, len(b.sessions))
			}
			if w.kinds() != "session.start session.end" || w.events[1].Detail != "broken off" {
				t.Errorf("events: %+v", w.events)
			}
			b.Shutdown(t.Context())
		})
	}
}

func TestEndedSessionGivesTheRefusal(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *Broker, id string)
		code int
	}{
		{"by an administrator", func(b *Broker, id string) { _ = b.End(id) }, refuse.Ended.Code},
		{"with the account", func(b *Broker, _ string) { b.EndAccount(1, "a change of the account's password") }, refuse.Ended.Code},
		{"with the computer", func(b *Broker, _ string) { b.RightChanged("id7", 0, registry.RightNone) }, refuse.Ended.Code},
		{"with the right", func(b *Broker, _ string) { b.RightChanged("id7", 1, registry.RightWatch) }, refuse.Ended.Code},
		{"with the relay", func(b *Broker, _ string) { b.Shutdown(context.Background()) }, refuse.Restarting.Code},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBroker(t, echo)
			s, err := b.Open(context.Background(), request(tunnel.RoleControl))
			if err != nil {
				t.Fatal(err)
			}
			far, near := viewer(t)
			joined := make(chan error, 1)
			go func() { joined <- s.Join(near) }()
			b.EndAccount(2, "somebody")
			b.RightChanged("id8", 0, registry.RightNone)
			b.RightChanged("id7", 2, registry.RightNone)
			if err := b.End("nosuch"); err == nil {
				t.Error("ended a session that is not there")
			}
			c.end(b, s.ID)
			var r *refuse.Refusal
			if err := <-joined; !errors.As(err, &r) || r.Code != c.code {
				t.Errorf("joined until %v", err)
			}
			if _, err := io.ReadAll(far); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Error(err)
			}
			if w.events[1].Code != c.code {
				t.Errorf("events: %+v", w.events)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	held := refuse.Held.Of("bob@example.com", "10:04")
	for _, c := range []struct {
		name    string
		set     func(w *world)
		handle  func(net.Conn, tunnel.Header)
		request Request
		want    string // beginning of the refusal
	}{
		{"disabled meanwhile", func(w *world) { w.disabled = true }, echo, request(tunnel.RoleControl), "40050"},
		{"unknown computer", nil, echo, Request{Account: alice, Computer: "desk1", Role: tunnel.RoleWatch}, "40008"},
		{"no computer named", nil, echo, Request{Account: alice, Role: tunnel.RoleWatch}, "40009: add /COMPUTER to the user name, as in alice@example.com/NAME; your computers: desk7, desk6, desk8"},
		{"offline", nil, nil, request(tunnel.RoleControl), "40001: desk7 is offline, last seen never"},
		{"control with the right to watch", func(w *world) { w.right = registry.RightWatch }, echo, request(tunnel.RoleControl), "40015"},
		{"take with the right to watch", func(w *world) { w.right = registry.RightWatch }, echo, request(tunnel.RoleTake), "40015"},
		{"refused by the computer", nil, func(c net.Conn, _ tunnel.Header) { _ = tunnel.WriteReply(c, held) }, request(tunnel.RoleControl), held.Error()},
		{"broken off by the computer", nil, func(c net.Conn, _ tunnel.Header) {}, request(tunnel.RoleControl), "40003"},
		{"garbage from the computer", nil, func(c net.Conn, _ tunnel.Header) { _, _ = c.Write([]byte("garbage")) }, request(tunnel.RoleControl), "40003"},
		{"right withdrawn while it is looked up", func(w *world) {
			w.find = func(n int) {
				if n == 2 {
					w.mu.Lock()
					w.right = registry.RightNone
					w.mu.Unlock()
				}
			}
		}, echo, request(tunnel.RoleControl), "40008"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, w := newBroker(t, c.handle)
			if c.set != nil {
				c.set(w)
			}
			s, err := b.Open(context.Background(), c.request)
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			var r *refuse.Refusal
			if !errors.As(err, &r) || !strings.HasPrefix(r.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if w.kinds() != "session.refused" || w.events[0].Code != r.Code {
				t.Errorf("events: %+v", w.events)
			}
			if len(b.sessions) != 0 {
				t.Error("a session is left over")
			}
		})
	}
}

// An account that is refused all the time leaves a few records, which say how many there are not.
func TestRefusalsAreRecordedWithinALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := newBroker(t, nil)
		refused := func(times int, acct *account.Account) {
			for range times {
				r := request(tunnel.RoleControl)
				r.Account = acct
				if _, err := b.Open(t.Context(), r); !refuse.Offline.Is(err) {
					t.Fatal(err)
				}
			}
		}
		refused(1000, alice)
		if len(w.events) != refusalBurst {
			t.Errorf("%d records of 1000 refusals", len(w.events))
		}
		refused(1, &account.Account{ID: 2})
		if len(w.events) != refusalBurst+1 {
			t.Error("another account's refusal is not recorded")
		}
		time.Sleep(refusalEvery)
		refused(2, alice)
		if n := len(w.events); n != refusalBurst+2 || w.events[n-1].Detail != "Offline (980 before it not recorded)" {
			t.Errorf("%d records, the last is %+v", n, w.events[n-1])
		}
		if n := testutil.ToFloat64(b.count.refusals.WithLabelValues("40001")); n != 1003 {
			t.Errorf("relayd_refusals_total is %v", n)
		}
	})
}

// A guest has few sessions on a computer, and all guests together leave some for its owner.
func TestGuestsLeavePlacesForTheOwner(t *testing.T) {
	b, w := newBroker(t, echo)
	open := func(acct *account.Account) (*Session, error) {
		r := request(tunnel.RoleWatch)
		r.Account = acct
		return b.Open(t.Context(), r)
	}
	most := w.live.Most()
	var last *Session
	guests := 0
	for id := int64(2); guests < most-ownerPlaces; id++ {
		guest := &account.Account{ID: id, Email: fmt.Sprintf("guest%d@example.com", id)}
		for i := range guestSessions + 1 {
			s, err := open(guest)
			switch {
			case i < guestSessions && err != nil:
				t.Fatalf("guest %d, session %d: %v", id, i+1, err)
			case i == guestSessions && !refuse.YourLimit.Is(err):
				t.Fatalf("guest %d, one too many: %v", id, err)
			}
			if err == nil {
				last = s
				guests++
			}
		}
	}
	late := &account.Account{ID: 1000, Email: "late@example.com"}
	if _, err := open(late); !refuse.TooMany.Is(err) {
		t.Errorf("a place of the owner's: %v", err)
	}
	for i := range ownerPlaces - 1 {
		if _, err := open(alice); err != nil {
			t.Errorf("the owner's session %d: %v", i+1, err)
		}
	}
	last.Close()
	if _, err := open(late); err != nil {
		t.Errorf("a place that a guest has left: %v", err)
	}
	for _, s := range b.all() {
		s.Close()
	}
}

// An account that opens sessions all the time leaves as many records as the disk bears, and keeps no other account out.
func TestSessionsOfOneAccountAreBounded(t *testing.T) {
	b, w := newBroker(t, echo)
	open := func(acct *account.Account) error {
		r := request(tunnel.RoleWatch)
		r.Account = acct
		s, err := b.Open(t.Context(), r)
		if err == nil {
			s.Close()
		}
		return err
	}
	const few = 20
	began, n := time.Now(), 0
	b.begins.Pass(alice.ID, sessionBurst-few) // as if those had been opened
	var err error
	for ; err == nil; n++ {
		err = open(alice)
	}
	if more := n - 1 - few; !refuse.TooOften.Is(err) || more < 0 || more > 1+int(time.Since(began)/sessionEvery) {
		t.Errorf("session %d: %v", n, err)
	}
	if !strings.HasSuffix(w.kinds(), "session.start session.end session.refused") {
		t.Errorf("events %q", w.kinds())
	}
	if err := open(&account.Account{ID: 2, Email: "bob@example.com"}); err != nil {
		t.Errorf("another account: %v", err)
	}
}

// An owner has as many sessions as the computer serves.
func TestOwnerIsNoGuest(t *testing.T) {
	b, w := newBroker(t, echo)
	for i := range w.live.Most() {
		if _, err := b.Open(t.Context(), request(tunnel.RoleWatch)); err != nil {
			t.Fatalf("session %d: %v", i+1, err)
		}
	}
	for _, s := range b.all() {
		s.Close()
	}
}

func TestNobodyIsLetInUnrecorded(t *testing.T) {
	b, w := newBroker(t, echo)
	w.full = true
	if _, err := b.Open(context.Background(), request(tunnel.RoleControl)); !refuse.StorageOut.Is(err) {
		t.Errorf("%v", err)
	}
	if len(b.sessions) != 0 || w.live.Streams() > 1 {
		t.Errorf("%d sessions, %d streams are left over", len(b.sessions), w.live.Streams())
	}
}

func TestEndedWhileItIsReached(t *testing.T) {
	reached, ended := make(chan struct{}), make(chan struct{})
	b, w := newBroker(t, func(c net.Conn, _ tunnel.Header) {
		close(reached)
		<-ended
		_ = tunnel.WriteReply(c, nil)
	})
	done := make(chan error, 1)
	go func() {
		_, err := b.Open(context.Background(), request(tunnel.RoleControl))
		done <- err
	}()
	<-reached
	b.EndAccount(1, "somebody")
	if err := <-done; !refuse.Ended.Is(err) {
		t.Errorf("%v", err)
	}
	close(ended)
	if w.kinds() != "session.refused" {
		t.Errorf("events %q", w.kinds())
	}
}

func TestViewerLeavesWhileTheComputerIsReached(t *testing.T) {
	reached, ended := make(chan struct{}), make(chan struct{})
	b, _ := newBroker(t, func(net.Conn, tunnel.Header) { close(reached); <-ended })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := b.Open(ctx, request(tunnel.RoleControl))
		done <- err
	}()
	<-reached
	cancel()
	if err := <-done; err == nil || len(b.sessions) != 0 {
		t.Errorf("%v, %d sessions", err, len(b.sessions))
	}
	close(ended)
}

func TestHostileRefusalIsOneOtherInTheMetrics(t *testing.T) {
	n := 0
	b, _ := newBroker(t, func(c net.Conn, _ tunnel.Header) {
		n++
		_ = tunnel.WriteReply(c, &refuse.Refusal{Code: 100_000 + n, Title: "<b>", Detail: "a\nb", Remedy: strings.Repeat("x", 300)})
	})
	for range 5 {
		_, err := b.Open(context.Background(), request(tunnel.RoleControl))
		if err == nil || bytes.ContainsAny([]byte(err.Error()), "\n<") || len(err.Error()) > refuse.MaxText {
			t.Errorf("%q", err)
		}
	}
	if got := testutil.CollectAndCount(b.count.refusals); got != 1 || testutil.ToFloat64(b.count.refusals.WithLabelValues("other")) != 5 {
		t.Errorf("%d labels", got)
	}
}

// The second direction of a session does not outlive the first for long, whatever either side does.
func TestHalfAnEndBecomesAWholeOne(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(viewer, computer *half)
	}{
		{"the viewer's", func(v, _ *half) { v.end() }},
		{"the computer's", func(_, c *half) { c.end() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil, nil, nil, &world{})
				v, computer := newHalf(), newHalf()
				s := &Session{ID: "s", Request: request(tunnel.RoleWatch), broker: b, stream: computer}
				s.ctx, s.cancel = context.WithCancelCause(context.Background())
				if err := b.add(s); err != nil {
					t.Fatal(err)
				}
				c.end(v, computer)
				began := time.Now()
				err := s.Join(v)
				if took := time.Since(began); err != nil || took != lingerTime {
					t.Errorf("%v after %v, want nil after %v", err, took, lingerTime)
				}
			})
		})
	}
}

// A half is a connection that says nothing and ends when it is told to; CloseWrite does not end it.
type half struct {
	net.Conn
	ended, closed     chan struct{}
	endOnce, closeOne sync.Once
}

func newHalf() *half { return &half{ended: make(chan struct{}), closed: make(chan struct{})} }

func (h *half) end() { h.endOnce.Do(func() { close(h.ended) }) }
func (h *half) Read([]byte) (int, error) {
	select {
	case <-h.ended:
		return 0, io.EOF
	case <-h.closed:
		return 0, net.ErrClosed
	}
}
func (h *half) CloseWrite() error { return nil }
func (h *half) Close() error      { h.closeOne.Do(func() { close(h.closed) }); return nil }

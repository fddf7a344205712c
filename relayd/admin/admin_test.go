package admin

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
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

const (
	alice    = "alice@example.com"
	bob      = "bob@example.com"
	password = "a long enough word"
)

type trail struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (l *trail) Write(_ context.Context, e audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.events = append(l.events, e)
	}
	return l.err
}

// kinds are the kinds of what was recorded since the last call.
func (l *trail) kinds() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, e := range l.events {
		all = append(all, e.Kind)
		if e.Source != fmt.Sprintf("uid %d", os.Geteuid()) && e.Kind != "host.enrol" {
			all = append(all, "from", e.Source)
		}
	}
	l.events = nil
	return strings.Join(all, " ")
}

type sessions struct{ ended []string }

func (s *sessions) List() []SessionInfo {
	return []SessionInfo{{ID: "s1", Account: alice, Computer: "desk", Role: "control", Door: "rfb", Viewer: "192.0.2.1:5", Since: time.UnixMilli(0)}}
}

func (s *sessions) End(id string) error {
	if id != "s1" {
		return errors.New("no session " + id)
	}
	s.ended = append(s.ended, id)
	return nil
}

type relay struct {
	*Client
	server   *Server
	trail    *trail
	sessions *sessions
}

func newRelay(t *testing.T) relay {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	l, reg := &trail{}, prometheus.NewRegistry()
	people, err := account.New(t.Context(), dir, st, l, quiet, reg)
	if err != nil {
		t.Fatal(err)
	}
	live := &sessions{}
	s := &Server{
		People: people, Computers: registry.New(st, people, l, quiet, reg), Sessions: live, Trail: l, Log: quiet,
		Relay: "relay.example:2222", HostKey: "SHA256:" + strings.Repeat("A", 43),
		Fingerprints: func() []Fingerprint { return []Fingerprint{{"ssh", "ED25519", "SHA256:x"}} },
	}
	path := filepath.Join(dir, "relayd.sock")
	socket, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, socket) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return relay{NewClient(path), s, l, live}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t *testing.T) ssh.PublicKey {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return must(ssh.NewPublicKey(public))(t)
}

func TestAccounts(t *testing.T) {
	r, ctx := newRelay(t), t.Context()
	if list := must(r.Accounts(ctx))(t); list == nil || len(list) != 0 {
		t.Errorf("no accounts: %v", list)
	}
	if a := must(r.AddAccount(ctx, alice, []byte(password), true))(t); a.Email != alice || !a.Admin || a.Created.IsZero() {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{only(r.AddAccount(ctx, alice, []byte(password), false)), "there is an account"},
		{only(r.AddAccount(ctx, bob, []byte("short"), false)), "5 characters"},
		{r.DisableAccount(ctx, bob), "there is no account"},
		{r.EnableAccount(ctx, bob), "see: relayd account list"},
		{r.SetPassword(ctx, bob, []byte(password)), "there is no account"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%v; want %q", c.err, c.want)
		}
	}
	if err := errors.Join(r.DisableAccount(ctx, alice), r.SetPassword(ctx, alice, []byte("another long word"))); err != nil {
		t.Error(err)
	}
	if list := must(r.Accounts(ctx))(t); len(list) != 1 || !list[0].Disabled {
		t.Errorf("%+v", list)
	}
	if err := r.EnableAccount(ctx, alice); err != nil {
		t.Error(err)
	}
	want := "account.add account.add account.add.failed account.add account.add.failed account.disable account.disable.failed " +
		"account.enable account.enable.failed account.password account.password.failed account.disable account.password account.enable"
	if got := r.trail.kinds(); got != want {
		t.Errorf("recorded %s", got)
	}
}

func only[T any](_ T, err error) error { return err }

func TestKeys(t *testing.T) {
	r, ctx := newRelay(t), t.Context()
	must(r.AddAccount(ctx, alice, []byte(password), false))(t)
	key := newKey(t)
	line := string(ssh.MarshalAuthorizedKey(key))
	if k := must(r.AddKey(ctx, alice, line))(t); k.Fingerprint != ssh.FingerprintSHA256(key) {
		t.Errorf("%+v", k)
	}
	r.trail.kinds()
	secret := "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET"
	if _, err := r.AddKey(ctx, alice, secret); err == nil {
		t.Error("a private key was taken")
	}
	if text := fmt.Sprint(r.trail.events); strings.Contains(text, "SECRET") {
		t.Errorf("recorded %s", text)
	}
	if list := must(r.Keys(ctx, alice))(t); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if err := r.RemoveKey(ctx, alice, ssh.FingerprintSHA256(key)); err != nil {
		t.Error(err)
	}
	if list := must(r.Keys(ctx, alice))(t); list == nil || len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestHosts(t *testing.T) {
	r, ctx := newRelay(t), t.Context()
	must(r.AddAccount(ctx, alice, []byte(password), false))(t)
	must(r.AddAccount(ctx, bob, []byte(password), false))(t)
	v := must(r.Invite(ctx, alice, "desk"))(t)
	token, err := tunnel.ParseToken(v.Token)
	if err != nil || token.Relay != r.server.Relay || token.Fingerprint != r.server.HostKey {
		t.Fatalf("%+v, %v", token, err)
	}
	c := must(r.server.Computers.Enroll(ctx, token.ID, token.Secret, "x", newKey(t), netip.Addr{}))(t)
	must(r.ShareHost(ctx, "desk", bob, registry.RightWatch, time.Time{}))(t)
	list := must(r.Hosts(ctx, ""))(t)
	if len(list) != 1 || list[0].ID != c.ID || list[0].LastSeen != nil || len(list[0].Shares) != 1 || list[0].Shares[0].Right != registry.RightWatch {
		t.Errorf("%+v", list)
	}
	if _, err := r.MakeCode(ctx, bob, "desk", false); err == nil || !strings.Contains(err.Error(), "may only watch desk; make a code with --watch") {
		t.Errorf("a code for more than the right: %v", err)
	}
	if _, err := r.MakeCode(ctx, bob, "attic", true); err == nil || !strings.Contains(err.Error(), "has no computer") {
		t.Errorf("a code for nothing: %v", err)
	}
	if code := must(r.MakeCode(ctx, bob, "desk", true))(t); len(code.Code) != registry.CodeLen || code.Role != "watch" || code.Computer != "desk" {
		t.Errorf("%+v", code)
	}
	if text := fmt.Sprint(r.trail.events); strings.Contains(text, token.Secret) {
		t.Error("the token is recorded")
	}
	must(r.RenameHost(ctx, "desk", "cellar"))(t)
	must(r.Hosts(ctx, "alice@example.com/cellar"))(t)
	if _, err := r.Hosts(ctx, "desk"); err == nil || !strings.Contains(err.Error(), `there is no computer "desk"`) {
		t.Errorf("the old name: %v", err)
	}
	must(r.RemoveHost(ctx, c.ID))(t)
	if list := must(r.Hosts(ctx, ""))(t); list == nil || len(list) != 0 {
		t.Errorf("%+v", list)
	}
	want := "account.add account.add host.invite host.enrol host.share code.make code.make.failed code.make code.make.failed code.make host.rename host.remove"
	if got := r.trail.kinds(); got != want {
		t.Errorf("recorded %s", got)
	}
	if err := r.DisableAccount(ctx, bob); err != nil {
		t.Fatal(err)
	}
	if _, err := r.MakeCode(ctx, bob, "x", true); err == nil || !strings.Contains(err.Error(), "is disabled") {
		t.Errorf("a code of a disabled account: %v", err)
	}
	if _, err := r.Invite(ctx, bob, ""); err == nil || !strings.Contains(err.Error(), "is disabled") {
		t.Errorf("an invitation of a disabled account: %v", err)
	}
}

func TestSessionsAndFingerprints(t *testing.T) {
	r, ctx := newRelay(t), t.Context()
	if list := must(r.Sessions(ctx))(t); len(list) != 1 || list[0].Viewer != "192.0.2.1:5" {
		t.Errorf("%+v", list)
	}
	if err := r.EndSession(ctx, "s1"); err != nil || len(r.sessions.ended) != 1 {
		t.Errorf("%v", err)
	}
	if err := r.EndSession(ctx, "s2"); err == nil || err.Error() != "no session s2" {
		t.Errorf("%v", err)
	}
	if list := must(r.Fingerprints(ctx))(t); len(list) != 1 || list[0].What != "ssh" {
		t.Errorf("%+v", list)
	}
	if got := r.trail.kinds(); got != "session.end session.end session.end.failed" {
		t.Errorf("recorded %s", got)
	}
}

func TestNotRecordedNotDone(t *testing.T) {
	r, ctx := newRelay(t), t.Context()
	r.trail.err = refuse.StorageOut.Of()
	if _, err := r.AddAccount(ctx, alice, []byte(password), false); err == nil || !strings.HasPrefix(err.Error(), "40053") {
		t.Errorf("%v", err)
	}
	if list := must(r.Accounts(ctx))(t); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestWhoMayAsk(t *testing.T) {
	r := newRelay(t)
	for _, c := range []struct {
		name string
		ctx  context.Context
		want int
	}{
		{"root", context.WithValue(t.Context(), peerKey{}, peer{0, 1}), 200},
		{"relayd's user", context.WithValue(t.Context(), peerKey{}, peer{uint32(os.Geteuid()), 1}), 200},
		{"another user", context.WithValue(t.Context(), peerKey{}, peer{65534, 1}), 403},
		{"not a Unix socket", t.Context(), 403},
	} {
		w := httptest.NewRecorder()
		r.server.handler().ServeHTTP(w, httptest.NewRequestWithContext(c.ctx, "POST", "/v1/account.list", strings.NewReader("{}")))
		if w.Code != c.want {
			t.Errorf("%s: %d, %s", c.name, w.Code, w.Body)
		}
	}
	if st, err := os.Stat(r.path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRelay(t)
	for _, c := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"no JSON", "POST", "account.add", "", 400},
		{"unknown field", "POST", "account.add", `{"emial":"x"}`, 400},
		{"two values", "POST", "account.add", `{} {}`, 400},
		{"wrong type", "POST", "account.add", `{"email":5}`, 400},
		{"too long", "POST", "account.add", `{"email":"` + strings.Repeat("x", maxBody) + `"}`, 400},
		{"not a right", "POST", "host.share", `{"right":"root"}`, 400},
		{"GET", "GET", "account.list", "", 405},
		{"unknown operation", "POST", "account.own", "{}", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://relayd/v1/"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s, %s", c.name, resp.Status, text)
		}
	}
	if got := r.trail.kinds(); got != "" {
		t.Errorf("recorded %s", got)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run", "relayd.sock")
	_, err := NewClient(path).Accounts(t.Context())
	if err == nil || !strings.Contains(err.Error(), `relayd is not running`) || !strings.Contains(err.Error(), `start it with "relayd serve"`) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another relayd answers there") {
		t.Errorf("twice: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // killed
	l.Close()
	if _, err := NewClient(path).Accounts(t.Context()); err == nil || !strings.Contains(err.Error(), `relayd is not running`) {
		t.Errorf("a socket that is left over: %v", err)
	}
	if l, err = Listen(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file in its place: %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"host":"desk","email":"a@b","right":"watch","expires":"2026-01-02T15:04:05Z"}`))
	f.Add([]byte(`{"email":"a@b","password":"x","admin":true}`))
	f.Add(bytes.Repeat([]byte("["), 10000))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = parse[passwordArg](body)
		if a, err := parse[shareArg](body); err == nil && a.Right > registry.RightControl {
			t.Errorf("%q gives the right %d", body, a.Right)
		}
	})
}

package login

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// helperDir is where buildHelper puts hostd-pam, for all tests.
var helperDir string

func TestMain(m *testing.M) {
	var err error
	if helperDir, err = os.MkdirTemp("", "hostd-pam-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(helperDir)
	os.Exit(code)
}

// buildHelper builds hostd-pam once, as cgo takes its time.
var buildHelper = sync.OnceValues(func() (string, error) {
	helper := filepath.Join(helperDir, "hostd-pam")
	cmd := exec.Command("go", "build", "-o", helper, "github.com/helmline/helmline/hostd/pam")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return helper, nil
})

// pamHelper sets up PAM services, each a pair of lines for auth and account, for a hostd-pam that it builds.
func pamHelper(t *testing.T, services map[string][2]string, passdb string) func(service string) PAM {
	t.Helper()
	modules, err := filepath.Glob("/usr/lib/*/pam_wrapper/pam_matrix.so")
	if err != nil || len(modules) != 1 {
		t.Fatalf("pam_matrix.so: %q, %v; apt install libpam-wrapper", modules, err)
	}
	dir := t.TempDir()
	helper, err := buildHelper()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("passdb", passdb)
	for name, s := range services {
		text := "auth required " + s[0] + "\naccount required " + s[1] + "\n"
		write(name, strings.ReplaceAll(text, "pam_matrix", modules[0]+" passdb="+filepath.Join(dir, "passdb")))
	}
	return func(service string) PAM {
		return PAM{Helper: helper, Service: service, Args: []string{"-confdir", dir}}
	}
}

// TestVerdicts is every answer of PAM as a person sees it.
func TestVerdicts(t *testing.T) {
	me := currentUser(t)
	services := map[string][2]string{
		"matrix":   {"pam_matrix", "pam_matrix"},
		"denied":   {"pam_matrix", "pam_debug.so acct=perm_denied"},
		"newpass":  {"pam_matrix", "pam_debug.so acct=new_authtok_reqd"},
		"expired":  {"pam_matrix", "pam_debug.so acct=acct_expired"},
		"tries":    {"pam_matrix", "pam_debug.so acct=maxtries"},
		"authtry":  {"pam_debug.so auth=maxtries", "pam_permit.so"},
		"authexp":  {"pam_debug.so auth=acct_expired", "pam_permit.so"},
		"authperm": {"pam_debug.so auth=perm_denied", "pam_permit.so"},
		"authbad":  {"pam_debug.so auth=cred_err", "pam_permit.so"},
		"broken":   {"pam_there_is_no_such_module.so", "pam_permit.so"},
	}
	service := pamHelper(t, services, me+":right-secret:matrix\nbob:bobs-secret:elsewhere\n")
	tests := []struct {
		name, service, user, secret string
		code                        int
		right                       bool
	}{
		{"right", "matrix", me, "right-secret", 0, true},
		{"wrong password", "matrix", me, "wrong", 1326, false},
		{"no password", "matrix", me, "", 1326, false},
		{"unknown user", "matrix", "nobody-here", "right-secret", 1326, false},
		{"a name that is none", "matrix", "a\nb", "right-secret", 1326, false},
		{"permission denied", "matrix", "bob", "bobs-secret", 5, true}, // for another service
		{"permission denied, wrong password", "matrix", "bob", "wrong", 1326, false},
		{"permission denied by a rule", "denied", me, "right-secret", 5, true},
		{"new password required", "newpass", me, "right-secret", 1330, true},
		{"new password required, wrong password", "newpass", me, "wrong", 1326, false},
		{"account expired", "expired", me, "right-secret", 1331, true},
		{"account expired, wrong password", "expired", me, "wrong", 1326, false},
		{"too many tries", "tries", me, "right-secret", 1909, false},
		{"too many tries, before the secret was right", "authtry", me, "right-secret", 1909, false},
		{"expired, before the secret was right", "authexp", me, "right-secret", 1326, false},
		{"denied, before the secret was right", "authperm", me, "right-secret", 1326, false},
		{"trouble in PAM", "authbad", me, "right-secret", 1326, false},
		{"a module that is not there", "broken", me, "right-secret", 1326, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			s := &Service{c: Config{PAM: service(tt.service), Log: slog.New(slog.NewTextHandler(&log, nil))}, slots: make(chan struct{}, 1)}
			r, right := s.check(t.Context(), ipc.MethodPassword, tt.user, []byte(tt.secret))
			code := 0
			if r.Refusal != nil {
				code = r.Refusal.Code
			}
			if code != tt.code || right != tt.right {
				t.Fatalf("%v, right: %v; want %d, %v (%s)", r.Refusal, right, tt.code, tt.right, log.String())
			}
			if code == 0 && r.Account.Name != tt.user {
				t.Fatalf("logged in as %s", r.Account.Name)
			}
			if code == 1326 && r.Refusal.Error() != refuse.WrongLogin.Of().Error() {
				t.Fatalf("the text tells more: %v", r.Refusal)
			}
			if strings.Contains(log.String(), tt.secret) && tt.secret != "" {
				t.Fatalf("the log tells the secret: %s", log.String())
			}
		})
	}
}

// TestUmask is that a module's files stay open to its group, as pam_faillock needs it, whatever hostd's umask.
func TestUmask(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	service := pamHelper(t, map[string][2]string{"touch": {"pam_exec.so /usr/bin/touch " + file, "pam_permit.so"}}, "")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	p := service("touch")
	if v, _, err := p.Authenticate(t.Context(), currentUser(t), []byte("x")); err != nil {
		t.Fatal(v, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Fatal(info, err)
	}
}

func currentUser(t *testing.T) string {
	t.Helper()
	a, err := LookupID(t.Context(), uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	return a.Name
}

// fakePAM is a helper in shell that answers by itself.
func fakePAM(t *testing.T, script string) PAM {
	t.Helper()
	p := filepath.Join(t.TempDir(), "hostd-pam")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return PAM{Helper: p, Service: "hostd"}
}

func TestHelper(t *testing.T) {
	tests := []struct {
		name, script string
		want         Verdict
		err          string
	}{
		{"right", "cat >/dev/null; echo ok alice", VerdictOK, ""},
		{"does not read", "echo wrong", VerdictWrong, ""},
		{"dies", "echo some trouble >&2; exit 3", VerdictError, "some trouble"},
		{"says nothing", "exit 0", VerdictError, "hostd-pam"},
		{"says nonsense", "echo okay alice", VerdictError, "hostd-pam"},
		{"says much", "cat >/dev/null; yes ok", VerdictError, "hostd-pam"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			limit := 20 * time.Second
			if tt.name == "says much" { // and never ends
				limit = time.Second / 2
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			p := fakePAM(t, tt.script)
			v, _, err := p.Authenticate(ctx, "alice", []byte("secret"))
			if v != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("%q, %v; want %q, %q", v, err, tt.want, tt.err)
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		p := PAM{}
		if v, _, err := p.Authenticate(t.Context(), "alice", nil); v != VerdictError || err == nil || p.Available() {
			t.Fatal(v, err)
		}
	})
	t.Run("hangs, with a child that holds its output", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		p := fakePAM(t, "sleep 60 & sleep 60")
		start := time.Now()
		if v, _, err := p.Authenticate(ctx, "alice", []byte("x")); v != VerdictError || err == nil || time.Since(start) > 20*time.Second {
			t.Fatalf("%q, %v after %v", v, err, time.Since(start))
		}
	})
}

func newService(t *testing.T, p PAM) (*Service, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := New(t.Context(), Config{StateDir: t.TempDir(), PAM: p, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s, &log
}

// TestLockout is what the form shows: attempts left, then the end of the lock-out, the same for a user who does not exist.
func TestLockout(t *testing.T) {
	s, _ := newService(t, fakePAM(t, "cat >/dev/null; echo wrong"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a failure is not delayed for somebody who has left
	s.slots = make(chan struct{}, 1)
	for _, user := range []string{"root", "nobody-here"} {
		for i, left := range []int{2, 1, 0} {
			r := s.Login(ctx, ipc.MethodPassword, user, []byte("x"))
			if r.Refusal.Code != 1326 || r.Left != left || r.Until.IsZero() != (i < 2) {
				t.Fatalf("%s, failure %d: %+v", user, i+1, r)
			}
		}
		r := s.Login(ctx, ipc.MethodPassword, user, []byte("x"))
		if r.Refusal.Code != 1909 || time.Until(r.Until) > FirstLock || !strings.Contains(r.Refusal.Error(), r.Until.Local().Format(time.TimeOnly)) {
			t.Fatalf("%s: %+v", user, r)
		}
	}
}

// TestSameTime says that failures take the same time to the moment, whatever is wrong, and the same multiple when they had to wait.
// What the helper and the hash take is none of the time here.
func TestSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, fakePAM(t, "cat >/dev/null; echo wrong"))
		for _, line := range []struct{ wait, want time.Duration }{{0, step}, {step / 2, step}, {3 * step / 2, 2 * step}} {
			for _, user := range []string{"root", "nobody-here", "a:b", ""} {
				for range maxAttempts {
					s.slots <- struct{}{}
				}
				go func() {
					time.Sleep(line.wait)
					for range maxAttempts {
						<-s.slots
					}
				}()
				method := ipc.MethodPassword
				if user == "" {
					method = ipc.MethodCode
				}
				start := time.Now()
				s.Login(t.Context(), method, user, []byte("x"))
				if d := time.Since(start); d != line.want {
					t.Errorf("after %v in line, %q was refused after %v, not %v", line.wait, user, d, line.want)
				}
				if _, err := s.Unlock("", false); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestSecretIsWiped(t *testing.T) {
	s, _ := newService(t, fakePAM(t, "cat >/dev/null; echo ok root"))
	secret := []byte("correct horse")
	s.Login(t.Context(), ipc.MethodPassword, "root", secret)
	if !bytes.Equal(secret, make([]byte, len(secret))) {
		t.Fatalf("still there: %q", secret)
	}
}

func TestOnlyOneself(t *testing.T) {
	s, _ := newService(t, fakePAM(t, "cat >/dev/null; echo ok root"))
	s.only = &Account{Name: "alice", UID: 54321}
	r := s.Login(t.Context(), ipc.MethodPassword, "root", []byte("x"))
	if r.Refusal == nil || r.Refusal.Code != 5 {
		t.Fatalf("%+v", r)
	}
}

func TestDiskFull(t *testing.T) {
	s, log := newService(t, fakePAM(t, "cat >/dev/null; echo ok root"))
	s.budget.path = filepath.Join(t.TempDir(), "gone", "failures")
	r := s.Login(t.Context(), ipc.MethodPassword, "root", []byte("x"))
	if r.Account != nil || r.Refusal == nil || r.Refusal.Code != 112 || !strings.Contains(log.String(), "nobody can log in") {
		t.Fatalf("%+v %s", r, log)
	}
}

func TestCode(t *testing.T) {
	good := "cat >/dev/null; echo ok"
	me := currentUser(t)
	set := func(t *testing.T, s *Service) {
		a, err := Lookup(t.Context(), me)
		if err == nil {
			err = SetCode(s.c.StateDir, []byte("access code 1"), a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change := func(t *testing.T, s *Service, f func(*Code)) {
		c, err := LoadCode(s.c.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		f(c)
		data, _ := json.Marshal(c)
		if err := WriteFile(filepath.Join(s.c.StateDir, CodeFile), data); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		pam   string
		code  string
		setup func(*testing.T, *Service)
		want  int
	}{
		{"right", good, "access code 1", set, 0},
		{"wrong", good, "access code 2", set, 1326},
		{"empty", good, "", set, 1326},
		{"very long", good, strings.Repeat("x", 400), set, 1326},
		{"none set", good, "access code 1", func(*testing.T, *Service) {}, 1326},
		{"removed", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			if ok, err := ClearCode(s.c.StateDir); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}, 1326},
		{"its user is gone", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			change(t, s, func(c *Code) { c.User = "nobody-here" })
		}, 1326},
		{"its user is another of the same name", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			change(t, s, func(c *Code) { c.UID++ })
		}, 1326},
		{"another user is chosen now", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			s.c.AccessAccount = "daemon"
		}, 1326},
		{"root, whom nobody has chosen", good, "access code 1", func(t *testing.T, s *Service) {
			a, err := Lookup(t.Context(), "root")
			if err == nil {
				err = SetCode(s.c.StateDir, []byte("access code 1"), a)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.c.AccessAccount = ""
		}, 1326},
		{"readable by others", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			if err := os.Chmod(filepath.Join(s.c.StateDir, CodeFile), 0o640); err != nil {
				t.Fatal(err)
			}
		}, 1326},
		{"damaged", good, "access code 1", func(t *testing.T, s *Service) {
			set(t, s)
			change(t, s, func(c *Code) { c.Tag = c.Tag[1:] })
		}, 1326},
		{"its user has expired", "cat >/dev/null; echo expired", "access code 1", set, 1331},
		{"its user is denied", "cat >/dev/null; echo denied", "access code 1", set, 5},
		{"its user is denied, and it is wrong", "cat >/dev/null; echo denied", "access code 2", set, 1326},
		{"PAM has a problem", "exit 1", "access code 1", set, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, log := newService(t, fakePAM(t, tt.pam))
			s.c.AccessAccount = me
			tt.setup(t, s)
			r, _ := s.check(t.Context(), ipc.MethodCode, "", []byte(tt.code))
			code := 0
			if r.Refusal != nil {
				code = r.Refusal.Code
			}
			if code != tt.want {
				t.Fatalf("%v, want %d (%s)", r.Refusal, tt.want, log)
			}
			if code == 1326 && r.Refusal.Error() != refuse.WrongCode.Of().Error() {
				t.Fatalf("the text tells more: %v", r.Refusal)
			}
			if code == 0 && r.Account.Name != me {
				t.Fatal(r.Account)
			}
			usable := code != 1326 || tt.name == "wrong" || tt.name == "empty" || tt.name == "very long" || strings.Contains(tt.name, "it is wrong")
			if s.CodeSet(t.Context()) != usable {
				t.Fatalf("CodeSet is %v", !usable)
			}
		})
	}
}

func TestSetCode(t *testing.T) {
	dir := t.TempDir()
	a := &Account{Name: "alice", UID: 1000}
	for code, want := range map[string]string{
		"1234567":                "7 characters; it needs at least 8",
		"ÄÖÜäöü7":                "7 characters",
		"12345678":               "",
		"123456789":              "",
		strings.Repeat("x", 255): "",
		strings.Repeat("x", 256): "longer than 255 bytes",
	} {
		secret := []byte(code)
		err := SetCode(dir, secret, a)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", code, err, want)
		}
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Errorf("%q was not wiped", code)
		}
	}
	info, err := os.Stat(filepath.Join(dir, CodeFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, CodeFile))
	if err != nil || strings.Contains(string(text), "xxxxxxxx") {
		t.Fatalf("the file holds the code: %s %v", text, err)
	}
}

func TestShadow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shadow")
	text := "alice:$y$x:19000:0:99999:7::20000:\nbob:!:19000:0:99999:7:::\nshort:x\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	day := func(n int64) time.Time { return time.Unix(n*24*60*60, 0) }
	for _, tt := range []struct {
		user string
		now  time.Time
		want Verdict
	}{
		{"alice", day(19999), VerdictOK}, {"alice", day(20000), VerdictExpired}, {"alice", day(20001), VerdictExpired},
		{"bob", day(20001), VerdictOK}, {"short", day(20001), VerdictOK}, {"carol", day(20001), VerdictOK},
	} {
		if v, err := judgeShadow(path, tt.user, tt.now); v != tt.want || err != nil {
			t.Errorf("%s on day %d: %q, %v", tt.user, tt.now.Unix()/86400, v, err)
		}
	}
}

func TestLookup(t *testing.T) {
	a, err := Lookup(t.Context(), "root")
	if err != nil || a.UID != 0 || a.Home != "/root" {
		t.Fatalf("%+v, %v", a, err)
	}
	if !Administers(a, nil) {
		t.Error("root does not administer")
	}
	b, err := Lookup(t.Context(), "daemon")
	if err != nil || Administers(b, []string{"sudo", "no-such-group"}) || !Administers(b, []string{"no-such-group", "daemon"}) {
		t.Errorf("%+v, %v", b, err)
	}
	for _, name := range []string{"", "-x", "a:b", "a/b", "a\x00", "\xff", strings.Repeat("x", 300), "no-such-user", "0"} {
		if a, err := Lookup(t.Context(), name); err == nil {
			t.Errorf("%q is %+v", name, a)
		}
	}
}

func FuzzPasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash")
	f.Fuzz(func(t *testing.T, line string) {
		if a, err := parsePasswd(line); err == nil && !strings.HasPrefix(line, fmt.Sprintf("%s:", a.Name)) {
			t.Fatalf("%q gave %+v", line, a)
		}
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/login"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hostd": main, "offer": offer})
}

// offer is what "hostd enroll" does after an enrolment, on a computer whose settings are under a folder: offer CONFIG FOLDER.
func offer() {
	c, err := conf.LoadHost(os.Args[1])
	if err == nil {
		err = offerCode(context.Background(), c, openUser(context.Background(), os.Args[2]), "hostd code set --config "+os.Args[1], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts runs the scripts in testdata, in a folder that hostd-net's user can reach. $ME is who runs them, $OPEN a user other
// than root. Beside testscript's own commands they have:
//
//	start hostd serve …   runs it until the script ends, and returns when it is ready
//	stop [-KILL]          ends it by SIGTERM or SIGKILL, and returns when it is gone
//	exits N command …     runs a command that must end with exit code N
func TestScripts(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": scriptStart, "stop": scriptStop, "exits": scriptExits,
		},
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "hostd-test-")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Values[daemonKey{}] = &scriptDaemon{}
			e.Setenv("TZ", "UTC")
			e.Setenv("ME", me.Username)
			e.Setenv("OPEN", me.Username)
			if me.Uid == "0" {
				e.Setenv("OPEN", "daemon")
			}
			e.Setenv("STATE", filepath.Join(dir, "hostd"))
			settings := "state_dir = \"" + filepath.Join(dir, "hostd") + "\"\n" +
				"[display]\nsource = \"virtual\"\n[login]\naccess_account = \"" + me.Username + "\"\n[net]\nuser = \"nobody\"\n"
			return errors.Join(
				os.Chmod(dir, 0o755),
				os.WriteFile(filepath.Join(e.WorkDir, "default.toml"), []byte("state_dir = \""+filepath.Join(dir, "hostd")+"\"\n[net]\nuser = \"nobody\"\n"), 0o600),
				os.MkdirAll(filepath.Join(e.WorkDir, "open/etc/lightdm"), 0o755),
				os.WriteFile(filepath.Join(e.WorkDir, "open/etc/lightdm/lightdm.conf"),
					[]byte("[Seat:*]\nautologin-user="+e.Getenv("OPEN")+"\n"), 0o600),
				os.WriteFile(filepath.Join(e.WorkDir, "hostd.toml"), []byte(settings), 0o600))
		},
	})
}

type daemonKey struct{}

// A scriptDaemon is the hostd that a script has started.
type scriptDaemon struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// readyTimeout is for a start or an end on a busy machine.
const readyTimeout = 30 * time.Second

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	d := ts.Value(daemonKey{}).(*scriptDaemon)
	if neg || len(args) == 0 || d.cmd != nil {
		ts.Fatalf("usage: start command …, once")
	}
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[0]); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	notify := filepath.Join(ts.Getenv("WORK"), "notify")
	os.Remove(notify)
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	ts.Check(err)
	defer told.Close()
	log, err := os.OpenFile(ts.MkAbs("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TZ=UTC", "NOTIFY_SOCKET=" + notify, "HOME=" + ts.Getenv("WORK")}
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	d.cmd, d.done = cmd, make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { cmd.Wait(); close(done) }(cmd, d.done)
	ts.Defer(func() {
		cmd.Process.Kill()
		if d.done != nil {
			<-d.done
		}
	})
	told.SetReadDeadline(time.Now().Add(readyTimeout))
	buf := make([]byte, 64)
	n, err := told.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "READY=1") {
		text, _ := os.ReadFile(ts.MkAbs("log"))
		ts.Fatalf("not ready: %q, %v\n%s", buf[:n], err, text)
	}
}

func scriptStop(ts *testscript.TestScript, neg bool, args []string) {
	d := ts.Value(daemonKey{}).(*scriptDaemon)
	if neg || d.cmd == nil {
		ts.Fatalf("nothing runs")
	}
	sig := syscall.SIGTERM
	if len(args) == 1 && args[0] == "-KILL" {
		sig = syscall.SIGKILL
	}
	ts.Check(d.cmd.Process.Signal(sig))
	select {
	case <-d.done:
	case <-time.After(readyTimeout):
		ts.Fatalf("it does not end")
	}
	if code := d.cmd.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 0 {
		text, _ := os.ReadFile(ts.MkAbs("log"))
		ts.Fatalf("it ended with %d\n%s", code, text)
	}
	d.cmd, d.done = nil, nil
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N command …")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := "0"
	if errors.As(err, &exit) {
		code = string('0' + rune(exit.ExitCode()))
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

func TestAutologin(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, ""},
		{"lightdm", map[string]string{"etc/lightdm/lightdm.conf": "[LightDM]\nx=1\n[Seat:*]\n#autologin-user=bob\nautologin-user = alice\n"}, "alice"},
		{"lightdm, in another section", map[string]string{"etc/lightdm/lightdm.conf": "[Remote]\nautologin-user=alice\n"}, ""},
		{"lightdm, switched off later", map[string]string{
			"etc/lightdm/lightdm.conf.d/10.conf": "[Seat:*]\nautologin-user=alice\n",
			"etc/lightdm/lightdm.conf":           "[Seat:*]\nautologin-user=\n"}, ""},
		{"gdm", map[string]string{"etc/gdm3/daemon.conf": "[daemon]\nAutomaticLoginEnable=True\nAutomaticLogin=alice\n"}, "alice"},
		{"gdm, not enabled", map[string]string{"etc/gdm3/daemon.conf": "[daemon]\nAutomaticLoginEnable=false\nAutomaticLogin=alice\n"}, ""},
		{"gdm, timed", map[string]string{"etc/gdm/custom.conf": "[daemon]\nTimedLoginEnable=true\nTimedLogin=alice\n"}, "alice"},
		{"sddm", map[string]string{"etc/sddm.conf.d/a.conf": "[Autologin]\nUser=alice\nSession=x\n"}, "alice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				p := filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if got := autologin(root); got != tt.want {
				t.Fatalf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Whom an access code stands for where the settings do not say.
func TestAccessAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("without root it is always who runs hostd")
	}
	tests := []struct{ name, set, open, want string }{
		{"in the settings", "daemon", "nobody", "daemon"},
		{"let in without a password", "", "daemon", "daemon"},
		{"nobody", "", "", ""},
		{"one who does not exist", "", "no-such-user", ""},
		{"root, with an empty password", "", "root", ""},
		{"root, in the settings", "root", "", "root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := conf.DefaultHost()
			c.Login.AccessAccount = tt.set
			a, err := accessAccount(t.Context(), c, tt.open)
			if a == nil {
				a = &login.Account{}
			}
			if a.Name != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("%q, %v; want %q", a.Name, err, tt.want)
			}
		})
	}
}

func TestEmptyPassword(t *testing.T) {
	root := t.TempDir()
	if got := emptyPassword(root); got != "" {
		t.Fatal(got)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"root:*:1\nalice:$y$x:1\n":        "",
		"root:*:1\nalice::1\nbob:!:1":     "alice",
		"root:*:1\n::1\nshort\nbob:!:1\n": "",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc/shadow"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := emptyPassword(root); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMakeDir(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b", "c")
	for range 2 {
		if err := makeDir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]os.FileMode{"a": 0o755, "a/b": 0o755, "a/b/c": 0o700} {
		info, err := os.Stat(filepath.Join(top, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(filepath.Join(file, "x"), 0o700); err == nil {
		t.Error("a folder was made in a file")
	}
}

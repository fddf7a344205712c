package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"relayd": main})
}

// TestScripts runs the scripts in testdata. Beside testscript's own commands they have:
//
//	start relayd serve …     runs it until the script ends, and returns when it is ready
//	stop [-KILL]             ends it by SIGTERM or SIGKILL, and returns when it is gone
//	exits N command …        runs a command that must end with exit code N
//	enroll NAME FILE         enrols a computer by the line in FILE
//	flip FILE N              changes the N-th byte of FILE
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": scriptStart, "stop": scriptStop, "exits": scriptExits, "enroll": scriptEnroll, "flip": scriptFlip,
		},
		Setup: func(e *testscript.Env) error {
			e.Values[daemonKey{}] = &scriptDaemon{}
			e.Setenv("TZ", "UTC")
			return os.Chmod(e.WorkDir, 0o700)
		},
	})
}

type daemonKey struct{}

// A scriptDaemon is the relayd that a script has started.
type scriptDaemon struct {
	cmd  *exec.Cmd
	done chan error // how it ended
}

// readyTimeout is for a start on a busy machine.
const readyTimeout = 30 * time.Second

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: start command …")
	}
	d := ts.Value(daemonKey{}).(*scriptDaemon)
	if d.cmd != nil {
		ts.Fatalf("a daemon runs already")
	}
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[0]); path == "" {
			if _, err := os.Stat(p); err == nil {
				path = p
			}
		}
	}
	notifyPath := filepath.Join(ts.Getenv("WORK"), "notify")
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notifyPath, Net: "unixgram"})
	ts.Check(err)
	defer told.Close()
	log, err := os.OpenFile(ts.MkAbs("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close()
	d.cmd = exec.Command(path, args[1:]...)
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = ts.MkAbs("."), log, log
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notifyPath)
	ts.Check(d.cmd.Start())
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan error) {
		done <- cmd.Wait()
		told.Close()
	}(d.cmd, d.done)
	ts.Defer(func() { d.end(syscall.SIGKILL) })
	ts.Check(told.SetReadDeadline(time.Now().Add(readyTimeout)))
	for state := make([]byte, 4096); ; {
		n, err := told.Read(state)
		if err != nil {
			ts.Fatalf("%v did not become ready: %v\n%s", args, err, ts.ReadFile("log"))
		}
		if strings.Contains(string(state[:n]), "READY=1") {
			return
		}
	}
}

// end ends the daemon and says how it ended.
func (d *scriptDaemon) end(by syscall.Signal) error {
	if d.cmd == nil {
		return nil
	}
	_ = d.cmd.Process.Signal(by) // it may have ended by itself
	err := <-d.done
	d.cmd = nil
	return err
}

func scriptStop(ts *testscript.TestScript, neg bool, args []string) {
	by := syscall.SIGTERM
	if len(args) == 1 && args[0] == "-KILL" {
		by = syscall.SIGKILL
	}
	err := ts.Value(daemonKey{}).(*scriptDaemon).end(by)
	if by == syscall.SIGTERM && err != nil {
		ts.Fatalf("the daemon ended with %v\n%s", err, ts.ReadFile("log"))
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N command …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

func scriptEnroll(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: enroll NAME FILE")
	}
	words := strings.Fields(ts.ReadFile(args[1]))
	if len(words) != 3 || words[0] != "hostd" || words[1] != "enroll" {
		ts.Fatalf("%q is not a line to run on a computer", words)
	}
	token, err := tunnel.ParseToken(words[2])
	ts.Check(err)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	key, err := ssh.NewSignerFromKey(private)
	ts.Check(err)
	ctx, stop := context.WithTimeout(context.Background(), readyTimeout)
	defer stop()
	if _, err = tunnel.Enroll(ctx, token, key, args[0]); neg == (err == nil) {
		ts.Fatalf("enrolment of %s: %v", args[0], err)
	} else if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
}

func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: flip FILE N")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	text[n] ^= 1
	ts.Check(os.WriteFile(path, text, 0o600))
}

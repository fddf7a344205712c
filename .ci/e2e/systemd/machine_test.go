// Package systemd runs the installed units under a real systemd, in namespaces of its own. It needs root and the
// programs in bin/.
package systemd

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// A machine is a systemd with namespaces of its own.
type machine struct {
	t   *testing.T
	ctx context.Context
	pid int // of its process 1, seen from here
	log string
}

// boot starts one and waits until its units are up.
func boot(t *testing.T) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	repository, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, ctx: ctx, log: filepath.Join(t.TempDir(), "console")}
	console, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command("unshare", "--fork", "--kill-child", "--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup",
		filepath.Join(repository, ".ci/e2e/systemd/boot"), repository)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the parent of Pdeathsig is a thread
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && m.pid != 0 {
			m.ctx = context.Background()
			journal, err := m.try("journalctl", "--no-pager", "--lines=80", "--output=short-monotonic")
			t.Logf("journal: %v\n%s", err, journal)
		}
		if m.pid != 0 {
			_ = syscall.Kill(m.pid, syscall.SIGKILL) // process 1: the kernel ends the rest
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("console:\n%s", rig.Tail(m.log, 120))
		}
	})
	m.until("systemd to be up", func() (bool, error) {
		children := rig.Children(cmd.Process.Pid)
		if len(children) != 1 {
			return false, nil
		}
		m.pid = children[0]
		state, _ := m.try("systemctl", "is-system-running")
		return state == "running" || state == "degraded", nil
	})
	return m
}

func (m *machine) until(what string, come func() (bool, error)) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.ctx, time.Minute)
	defer cancel()
	if err := rig.Until(ctx, what, come); err != nil {
		m.t.Fatal(err)
	}
}

// try runs a command inside and gives what it printed, trimmed.
func (m *machine) try(args ...string) (string, error) { return m.tell("", args...) }

// tell does, with something to read.
func (m *machine) tell(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(m.ctx, "nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--all", "--"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), err
}

// run is try for what must succeed.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// say is tell for what must succeed.
func (m *machine) say(stdin string, args ...string) string {
	m.t.Helper()
	out, err := m.tell(stdin, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// main is the process of a unit, as the machine numbers it; 0: not running.
func (m *machine) main(unit string) int {
	out, err := m.try("systemctl", "show", "--property=MainPID", "--value", unit)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(out)
	return pid
}

// status is a field of /proc/PID/status.
func (m *machine) status(pid int, field string) string {
	m.t.Helper()
	for line := range strings.Lines(m.run("cat", fmt.Sprintf("/proc/%d/status", pid))) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			return strings.TrimSpace(value)
		}
	}
	m.t.Fatalf("/proc/%d/status has no %s", pid, field)
	return ""
}

// dial connects to an address inside: the thread enters the machine's network for the time of the dialling, and ends with it.
func (m *machine) dial(address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// view signs in at the RFB door.
func (m *machine) view(user, password string) (*rfbtest.Client, error) {
	pem := m.run("cat", "/var/lib/helmline/relayd/tls.pem")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		m.t.Fatalf("no certificate in %q", pem)
	}
	conn, err := m.dial("127.0.0.1:5900")
	if err != nil {
		return nil, err
	}
	c, err := rfbtest.Handshake(conn, rfbtest.Config{Roots: roots, ServerName: "localhost", User: user, Password: password})
	if err != nil {
		conn.Close()
	}
	return c, err
}

// Package rig starts what a demonstration and the end-to-end tests need: the two daemons, a desktop on a virtual display,
// users, networks. Whatever it starts is known by its process id and ended by Close, in the reverse order.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Grace is how long a program may take to end after SIGTERM before it is killed.
const Grace = 10 * time.Second

// A Program is what can be started.
type Program struct {
	Args    []string   // the program and its arguments
	Env     []string   // in addition to those of this process
	Dir     string     // working folder; empty: this process's
	User    *User      // nil: the user of this process
	Network string     // network namespace; empty: this process's
	Stdin   io.Reader  // nil: /dev/null
	Files   []*os.File // descriptors from 3 on
	Log     string     // file that its output is added to; empty: none
	Notify  bool       // Start waits for READY=1 as systemd does (sd_notify)
}

// A Process is a program that was started. It leads a process group of its own.
type Process struct {
	Name string
	Pid  int
	set  *Set
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended; it may be called after Done.
func (p *Process) Err() error { return p.err }

// Kill kills the process alone, as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// Clear ends what the process has left behind when it ended.
func (p *Process) Clear() {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	p.set.reap()
}

// End ends the process and all of its group, with SIGTERM and after Grace with SIGKILL.
func (p *Process) End() {
	_ = syscall.Kill(-p.Pid, syscall.SIGTERM)
	_ = syscall.Kill(-p.Pid, syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(Grace):
	}
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	<-p.done
}

// A Set is processes that end together. Its zero value is ready for use. It makes this process the reaper of what its children
// leave behind, so that a daemon's orphans are found as well. So there is one Set at a time in a process, and every child
// of the process is started through it.
type Set struct {
	mu      sync.Mutex
	all     []*Process   // guarded by mu; in order of their start
	ours    map[int]bool // guarded by mu: children that were started here; all others are orphans
	cleanup []func()     // guarded by mu
	closed  bool         // guarded by mu
}

// Start starts a program. With Notify it returns when the program says that it is ready; if it ends before, or ctx does, the end
// of its log is part of the error.
func (s *Set) Start(ctx context.Context, p Program) (*Process, error) {
	name := filepath.Base(p.Args[0])
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	args, err := p.arguments()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = p.Dir, p.Stdin, p.Files
	cmd.Env = slices.Concat(os.Environ(), p.User.environment(), p.Env)
	// If this process is killed, its children are told.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if p.Network == "" {
		cmd.SysProcAttr.Credential = p.User.credential()
	}
	if p.Log != "" {
		f, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
	}
	var ready *notifySocket
	if p.Notify {
		if ready, err = newNotifySocket(p.User); err != nil {
			return nil, err
		}
		defer ready.Close()
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+ready.path)
	}
	proc := &Process{Name: name, set: s, cmd: cmd, done: make(chan struct{})}
	if err := s.start(proc); err != nil {
		return nil, err
	}
	if p.Notify {
		if err := ready.wait(ctx, proc); err != nil {
			proc.End()
			return nil, fmt.Errorf("%s did not become ready: %w\n%s", name, err, Tail(p.Log, 20))
		}
	}
	return proc, nil
}

func (s *Set) start(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("everything is being ended")
	}
	if err := s.fork(p.cmd); err != nil {
		return err
	}
	p.Pid = p.cmd.Process.Pid
	s.all = append(s.all, p)
	go func() { // ends with the process, which Close sees to
		p.err = s.wait(p.cmd)
		if p.err == nil {
			p.err = errors.New("it ended by itself")
		}
		close(p.done)
	}()
	return nil
}

// fork starts a child. The caller holds mu, so that reap never sees a child that is not yet known.
func (s *Set) fork(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	if s.ours == nil {
		s.ours = make(map[int]bool)
	}
	s.ours[cmd.Process.Pid] = true
	return nil
}

// wait waits for the end of a child and forgets it.
func (s *Set) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ours, cmd.Process.Pid)
	return err
}

// Cleanup has f called by Close, after every process has ended, the last given first.
func (s *Set) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanup = append(s.cleanup, f)
}

// Close ends every process of the set, the last started first, then what they left behind, and cleans up.
func (s *Set) Close() {
	s.mu.Lock()
	all, cleanup := s.all, s.cleanup
	s.closed, s.all, s.cleanup = true, nil, nil
	s.mu.Unlock()
	for _, p := range slices.Backward(all) {
		p.End()
	}
	s.reap()
	for _, f := range slices.Backward(cleanup) {
		f()
	}
}

// reap kills what processes have left behind: children of this process that it did not start. Each may have children of its
// own, which come up the same way, so it looks until there is none.
func (s *Set) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for found := true; found; {
		found = false
		for _, pid := range Children(os.Getpid()) {
			if s.ours[pid] {
				continue
			}
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
			if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil && !errors.Is(err, syscall.EINTR) {
				return // it is no child of ours after all
			}
		}
	}
}

// Children lists the processes whose parent is pid.
func Children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var children []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid ...; the name may hold anything
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			children = append(children, child)
		}
	}
	return children
}

// arguments puts the programs that enter a namespace and become another user before the program. Without a namespace the
// kernel does the second by itself at the start.
func (p *Program) arguments() ([]string, error) {
	if p.Network == "" {
		return p.Args, nil
	}
	args := []string{"ip", "netns", "exec", p.Network}
	if p.User != nil {
		args = append(args, "setpriv", "--reuid", strconv.Itoa(p.User.UID), "--regid", strconv.Itoa(p.User.GID), "--clear-groups")
	}
	path, err := exec.LookPath(p.Args[0])
	if err != nil {
		return nil, err
	}
	return slices.Concat(args, []string{path}, p.Args[1:]), nil
}

// Output runs a program to its end and gives what it printed. Its errors are part of the error.
func (s *Set) Output(ctx context.Context, p Program) (string, error) {
	args, err := p.arguments()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = p.Dir, p.Stdin, p.Files
	cmd.Env = slices.Concat(os.Environ(), p.User.environment(), p.Env)
	if p.Network == "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.User.credential()}
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = Grace // for what goes to the background and keeps the pipes
	s.mu.Lock()
	err = s.fork(cmd)
	s.mu.Unlock()
	if err == nil {
		err = s.wait(cmd)
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(p.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Until tries again and again whether what is waited for has come, and gives up with ctx.
func Until(ctx context.Context, what string, come func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := come()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %v)", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// Tail is the last lines of a file.
func Tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// A notifySocket is the socket on which a daemon says that it is ready (sd_notify).
type notifySocket struct {
	path string
	conn *net.UnixConn
}

func newNotifySocket(u *User) (*notifySocket, error) {
	dir, err := os.MkdirTemp("", "helmline-notify-")
	if err != nil {
		return nil, err
	}
	n := &notifySocket{path: filepath.Join(dir, "notify")}
	n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err == nil && u != nil {
		err = errors.Join(os.Chown(dir, u.UID, u.GID), os.Chown(n.path, u.UID, u.GID))
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return n, nil
}

func (n *notifySocket) Close() {
	n.conn.Close()
	os.RemoveAll(filepath.Dir(n.path))
}

// wait returns when READY=1 has come, the process has ended or ctx has.
func (n *notifySocket) wait(ctx context.Context, p *Process) error {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-ctx.Done():
		case <-p.done:
		case <-stop:
		}
		_ = n.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the read below
	}()
	buf := make([]byte, 4096)
	for {
		k, err := n.conn.Read(buf)
		switch {
		case err == nil && slices.Contains(strings.Split(string(buf[:k]), "\n"), "READY=1"):
			return nil
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			<-p.done
			return p.err
		}
	}
}

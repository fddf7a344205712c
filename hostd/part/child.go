package part

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

// self is the running binary, even when the file it was started from has been replaced or may not be read by others.
const self = "/proc/self/exe"

// Children starts the parts as child processes, which end with the monitor.
type Children struct {
	NetArgs    []string       // of hostd-net
	NetUser    *login.Account // nil: the monitor's own user
	WorkerArgs []string
	Env        []string // added to every part's environment, for tests

	once  sync.Once
	start chan startRequest
}

type startRequest struct {
	cmd   *exec.Cmd
	slack time.Duration
	reply chan error
}

// How late the kernel may wake a part whose timers run out; its own choice is 50 µs. Go's runtime looks after the threads of a process
// every 20 µs while it is busy, and for some time after. A worker has one that works, and nothing to look after; it spent a tenth of its
// time on that. The units have the same.
const (
	workerSlack = time.Millisecond
	netSlack    = 500 * time.Microsecond
)

// Net starts hostd-net.
func (c *Children) Net(context.Context) (*ipc.Conn, Process, error) {
	cmd := exec.Command(self, c.NetArgs...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	if c.NetUser != nil {
		setUser(cmd, c.NetUser)
	}
	return c.run(cmd, netSlack)
}

// Worker starts a worker as who.
func (c *Children) Worker(_ context.Context, who *login.Account, _ bool) (*ipc.Conn, Process, error) {
	cmd := exec.Command(self, c.WorkerArgs...)
	switch uid := os.Geteuid(); {
	case uid == 0:
		setUser(cmd, who)
	case uint32(uid) != who.UID:
		return nil, nil, fmt.Errorf("hostd runs as user %d and cannot show the desktop of %s", uid, who.Name)
	}
	cmd.Env = cleanEnv(who)
	return c.run(cmd, workerSlack)
}

func setUser(cmd *exec.Cmd, who *login.Account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: who.Groups}}
}

// cleanEnv is the environment of a fresh log-in.
func cleanEnv(who *login.Account) []string {
	env := []string{"HOME=" + who.Home, "USER=" + who.Name, "LOGNAME=" + who.Name, "SHELL=" + who.Shell,
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"}
	if lang := os.Getenv("LANG"); lang != "" {
		env = append(env, "LANG="+lang)
	}
	dir := filepath.Join("/run/user", strconv.FormatUint(uint64(who.UID), 10))
	if info, err := os.Stat(dir); err == nil && info.Sys().(*syscall.Stat_t).Uid == who.UID {
		env = append(env, "XDG_RUNTIME_DIR="+dir)
	}
	return env
}

// run starts a part with its socket as descriptor 3.
func (c *Children) run(cmd *exec.Cmd, slack time.Duration) (*ipc.Conn, Process, error) {
	ours, theirs, err := ipc.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	conn, err := ipc.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	cmd.Args[0] = "hostd"
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := c.startFromThread(cmd, slack); err != nil {
		conn.Close()
		return nil, nil, err
	}
	p := &child{pid: cmd.Process.Pid, done: make(chan struct{})}
	go p.wait(cmd)
	return conn, p, nil
}

// startFromThread starts cmd from a thread that lives as long as the monitor: the kernel ends a child with the thread that
// started it. All of its threads inherit the slack.
func (c *Children) startFromThread(cmd *exec.Cmd, slack time.Duration) error {
	c.once.Do(func() {
		c.start = make(chan startRequest)
		go func() {
			runtime.LockOSThread()
			for r := range c.start {
				_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(r.slack), 0, 0, 0) // without it the part is only dearer
				r.reply <- r.cmd.Start()
			}
		}()
	})
	r := startRequest{cmd, slack, make(chan error, 1)}
	c.start <- r
	return <-r.reply
}

// Close has nothing to close: children end with their sockets, and with the monitor.
func (c *Children) Close() error { return nil }

// A child is a child process that leads a session of its own.
type child struct {
	pid  int
	done chan struct{}
	mu   sync.Mutex // guards gone, and the pid's being ours
	gone bool
}

func (p *child) Done() <-chan struct{} { return p.done }

// Kill ends the process and those it has started that are still in its group.
func (p *child) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		unix.Kill(-p.pid, unix.SIGKILL)
	}
}

// wait ends what the process leaves behind before its number can become another's.
func (p *child) wait(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.Kill()
	p.mu.Lock()
	p.gone = true
	cmd.Wait()
	p.mu.Unlock()
	close(p.done)
}

// NetUser finds the OS user that hostd-net is to run as. It must have no privilege.
func NetUser(ctx context.Context, name string) (*login.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a, err := login.Lookup(ctx, name)
	if errors.Is(err, login.ErrNoAccount) {
		return nil, fmt.Errorf("net.user %q does not exist; make it: useradd --system --no-create-home --shell /usr/sbin/nologin %s", name, name)
	}
	if err != nil {
		return nil, fmt.Errorf("net.user %q: %w", name, err)
	}
	if a.UID == 0 {
		return nil, fmt.Errorf("net.user %q is root; hostd-net must run as a user without privilege", name)
	}
	a.Groups = []uint32{a.GID}
	return a, nil
}

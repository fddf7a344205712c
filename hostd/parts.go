package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/desktop"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/screen"
)

// isPart says whether a word names a part that hostd or systemd starts, or hostd-net's share of an enrolment.
func isPart(word string) bool { return word == "net" || word == "worker" || word == "net-enroll" }

// runPart is one of the other processes of hostd.
func runPart(ctx context.Context, name string, args []string) int {
	fs := flag.NewFlagSet("hostd "+name, flag.ExitOnError)
	fd := fs.Int("fd", -1, "descriptor of the socket to the monitor")
	state := fs.String("state", "", "folder of hostd-net")
	config := fs.String("config", "", "settings file")
	var l conf.Log
	fs.StringVar(&l.Level, "log-level", "info", "")
	fs.StringVar(&l.Format, "log-format", "text", "")
	fs.Parse(args)
	if name == "net" {
		if err := noNewPrivileges(); err != nil {
			fmt.Fprintf(os.Stderr, "hostd: give up new privileges: %v\n", err)
			return 1
		}
	}
	if *state == "" && name == "net" { // under systemd
		c, err := conf.LoadHost(*config)
		if err != nil {
			fmt.Fprintf(os.Stderr, "hostd: %v\n", err)
			return 1
		}
		*state, l = c.NetStateDir(), c.Log
		return exitCode(ctx, newLog(l, name, os.Stderr), func(log *slog.Logger) error {
			conn, err := dialMonitor(ctx, c.NetSocket())
			if err != nil {
				return err
			}
			return runNet(ctx, conn, *state, log)
		})
	}
	return exitCode(ctx, newLog(l, name, os.Stderr), func(log *slog.Logger) error {
		if name == "net-enroll" {
			return netEnroll(ctx, *state, os.Stdin, os.Stdout)
		}
		conn, err := inherited(*fd)
		if err != nil {
			return err
		}
		if name == "worker" {
			return runWorker(ctx, conn, log)
		}
		return runNet(ctx, conn, *state, log)
	})
}

func exitCode(ctx context.Context, log *slog.Logger, f func(*slog.Logger) error) int {
	if err := f(log); err != nil && ctx.Err() == nil {
		log.Error("ends", "err", err)
		return 1
	}
	return 0
}

// inherited is the socket that whoever started this process has left open for it.
func inherited(fd int) (*ipc.Conn, error) {
	if fd < 0 {
		return nil, errors.New("this is a part of hostd, which hostd starts by itself; run \"hostd serve\"")
	}
	unix.CloseOnExec(fd)
	return ipc.FileConn(os.NewFile(uintptr(fd), "the socket to hostd"))
}

// dialMonitor waits for the monitor's socket.
func dialMonitor(ctx context.Context, path string) (*ipc.Conn, error) {
	for {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err == nil {
			return ipc.NewConn(c)
		}
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// noNewPrivileges closes every way to more privilege, for good. A program with cgo (TURBO=1) cannot reach all of its threads for that, so
// there one of them does it and starts the program anew, in which all have it.
func noNewPrivileges() error {
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 {
		return nil
	}
	_, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == 0 {
		return nil
	}
	if errno != syscall.ENOTSUP {
		return errno
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// runNet is hostd-net.
func runNet(ctx context.Context, conn *ipc.Conn, state string, log *slog.Logger) error {
	defer conn.Close()
	defer runtime.KeepAlive(tunnel.Ballast())
	unix.Umask(0o077)
	setName("hostd-net")
	return desktop.Run(ctx, desktop.Config{Monitor: conn, StateDir: state, Version: versionText(), OS: osName(), Log: log})
}

// runWorker is a worker. It begins where a log-in of its user would.
func runWorker(ctx context.Context, conn *ipc.Conn, log *slog.Logger) error {
	defer conn.Close()
	unix.Umask(0o022)
	setName("hostd-worker")
	if home := os.Getenv("HOME"); home == "" || os.Chdir(home) != nil {
		os.Chdir("/")
	}
	runtime.GOMAXPROCS(1) // it mostly waits for one of two others; a second thread takes longer to wake than it saves
	return screen.RunWorker(ctx, conn, log)
}

// osName is what the operating system calls itself.
func osName() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return refuse.Printable(strings.Trim(strings.TrimSpace(v), `"'`), 60)
		}
	}
	return "Linux"
}

// setName is the process's name as ps shows it, which is "exe" otherwise. It is of no other use, so it may fail.
func setName(name string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
}

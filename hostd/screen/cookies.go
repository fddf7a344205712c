package screen

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/hostd/ipc"
)

// maxEnviron is the longest environment read of a process, bytes.
const maxEnviron = 256 << 10

// findCookies gathers the cookies for a display as a program of the user would find them, most likely first: the one
// given, those of the file given, of the files that the user's own programs on that display use, of ~/.Xauthority.
func findCookies(start ipc.Start) [][]byte {
	var cookies [][]byte
	if len(start.Cookie) == cookieSize {
		cookies = append(cookies, start.Cookie)
	}
	number, err := displayNumber(start.Display)
	if err != nil {
		return cookies
	}
	seen := map[string]bool{"": true}
	look := func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		more, err := readXauthority(file, number)
		if err != nil {
			return
		}
		for _, c := range more {
			if !containsCookie(cookies, c) && len(cookies) < maxCookies {
				cookies = append(cookies, c)
			}
		}
	}
	look(start.Xauthority)
	for _, p := range processes() {
		if p.uid() != os.Getuid() {
			continue
		}
		env := p.environ()
		if n, err := displayNumber(env["DISPLAY"]); err == nil && n == number {
			look(env["XAUTHORITY"])
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		look(filepath.Join(home, ".Xauthority"))
	}
	return cookies
}

// maxCookies is how many cookies are tried, each with a connection.
const maxCookies = 16

func containsCookie(list [][]byte, c []byte) bool {
	for _, l := range list {
		if bytes.Equal(l, c) {
			return true
		}
	}
	return false
}

// A process is its number, as in /proc. It may have ended; then there is nothing to be learned of it.
type process int

// processes lists all.
func processes() []process {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var list []process
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			list = append(list, process(pid))
		}
	}
	return list
}

func (p process) file(name string) string {
	return "/proc/" + strconv.Itoa(int(p)) + "/" + name
}

// uid is the owner of the process, -1: it has ended.
func (p process) uid() int {
	st, err := os.Stat(p.file(""))
	if err != nil {
		return -1
	}
	return int(st.Sys().(*syscall.Stat_t).Uid)
}

// environ is what the process was started with; empty where it may not be read.
func (p process) environ() map[string]string {
	b, err := readSmall(p.file("environ"), maxEnviron)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0 {
		b, err = p.environAsOwner()
	}
	if err != nil {
		return nil
	}
	env := map[string]string{}
	for _, kv := range strings.Split(string(b), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	return env
}

// environAsOwner reads the environment with the rights of the process's owner. That takes CAP_SETUID and CAP_SETGID, which hostd has
// for its workers; reading it as root would take CAP_SYS_PTRACE, which its unit denies it.
func (p process) environAsOwner() ([]byte, error) {
	st, err := os.Stat(p.file(""))
	if err != nil {
		return nil, err
	}
	owner := st.Sys().(*syscall.Stat_t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// These hold for the thread alone, and the way back to one's own effective ids is always open. setfsuid(2).
	defer unix.Setfsgid(os.Getegid())
	defer unix.Setfsuid(os.Geteuid())
	if err := errors.Join(unix.Setfsgid(int(owner.Gid)), unix.Setfsuid(int(owner.Uid))); err != nil {
		return nil, err
	}
	return readSmall(p.file("environ"), maxEnviron)
}

// args is its command line.
func (p process) args() []string {
	b, err := readSmall(p.file("cmdline"), maxEnviron)
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// userName is the name of a user, empty: there is none with that number.
func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

package screen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// displayManagers are the programs, by their process name, that run a log-on screen as root and start an X server for it.
var displayManagers = []string{"xdm", "lightdm", "sddm", "gdm", "gdm3", "slim", "lxdm", "wdm", "nodm", "ly", "lxdm-binary"}

// greeters are the users that a log-on screen runs as where it is not root's.
var greeters = []string{"lightdm", "sddm", "gdm", "Debian-gdm", "lxdm", "slim", "xdm", "wdm"}

// authFiles is where display managers keep the cookie of display %d, for those whose X server does not say.
var authFiles = []string{
	"/run/lightdm/root/:%d", "/var/run/lightdm/root/:%d", "/var/lib/xdm/authdir/authfiles/A:%d-*", "/run/sddm/*", "/var/run/sddm/*",
}

// A xserverProcess is an X server of this machine.
type xserverProcess struct {
	number  int
	pid     process // 0: it is not of this process name space
	uid     int     // whom it runs for; the user it was started by when it runs as root by itself
	root    bool    // it has root's rights, so its command line can be believed
	manager process // the display manager that started it, 0: none

	started string // tells the process from a later one with its number
	socket  uint64 // and its socket likewise
}

// serverListens says whether there is a socket for a display.
func serverListens(number int) bool {
	st, err := os.Stat(socketPath(number))
	return err == nil && st.Mode()&os.ModeSocket != 0
}

// findServers finds the X server that is wanted, or all. Those known from before are not bothered again.
func (s *seat) findServers() map[int]xserverProcess {
	var numbers []int
	if s.display != "" {
		numbers = append(numbers, s.number)
	} else {
		names, _ := filepath.Glob(socketPath(0)[:len(socketPath(0))-1] + "*")
		for _, name := range names {
			if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(name), "X")); err == nil && len(numbers) < 64 {
				numbers = append(numbers, n)
			}
		}
	}
	found := map[int]xserverProcess{}
	for _, n := range numbers {
		st, err := os.Stat(socketPath(n))
		if err != nil {
			continue
		}
		inode := st.Sys().(*syscall.Stat_t).Ino
		x, known := s.servers[n]
		if !known || x.socket != inode || x.pid != 0 && x.started != x.pid.started() {
			if x, err = askServer(n); err != nil {
				continue
			}
			x.socket = inode
		}
		found[n] = x
	}
	s.servers = found
	return found
}

// askServer connects to an X server's socket and asks the kernel who listens there.
func askServer(number int) (xserverProcess, error) {
	c, err := dialX(number)
	if err != nil {
		return xserverProcess{}, err
	}
	defer c.Close()
	cred, err := c.Peer()
	if err != nil {
		return xserverProcess{}, err
	}
	x := xserverProcess{number: number, pid: process(cred.Pid), uid: int(cred.Uid), root: cred.Uid == 0}
	if x.pid == 0 {
		return x, nil
	}
	x.started = x.pid.started()
	if real, ok := x.pid.realUID(); ok && x.root {
		x.uid = real
	}
	for p := x.pid.parent(); p > 1 && x.root; p = p.parent() {
		if p.uid() == 0 && slices.Contains(displayManagers, p.name()) {
			x.manager = p
			break
		}
	}
	return x, nil
}

// serves says whether an X server can be that of a session. Which display a session has, and that it is one of X at all, its own user
// can tell logind, and so be shown what another has left on another virtual terminal, whose cookie root would hand over. On which terminal
// a session was begun nobody can.
func (x xserverProcess) serves(s session) bool {
	vt := x.vt()
	return vt == 0 || vt == s.vt
}

// vt is the virtual terminal of an X server with root's rights, as it was told by whoever started it; 0: none.
func (x xserverProcess) vt() int {
	if !x.root {
		return 0
	}
	for _, a := range x.pid.args() {
		if number, found := strings.CutPrefix(a, "vt"); found {
			if n, err := strconv.Atoi(number); err == nil {
				return n
			}
		}
	}
	return 0
}

// state is that of a session which logind knows.
func (x xserverProcess) state(session session) SeatState {
	st := SeatState{Kind: SeatUser, UID: session.uid, User: session.user, Session: session.id, Display: x.display()}
	switch {
	case session.class == "greeter":
		st.Kind = SeatGreeter
	case !strings.HasPrefix(session.class, "user"):
		return SeatState{}
	}
	x.authority(&st)
	return st
}

// judge tells from processes alone whose desktop it is: the first user below a display manager is the session's, for
// nobody else can put a process there; a display manager without one shows its log-on screen; and a server that no
// display manager has started belongs to the one who runs it.
func (x xserverProcess) judge() SeatState {
	st := SeatState{Kind: SeatUser, UID: x.uid, Display: x.display()}
	if x.manager != 0 {
		st.Kind, st.UID = SeatGreeter, 0
		if uid, ok := x.sessionUser(); ok {
			st.UID = uid
			if !slices.Contains(greeters, userName(uid)) {
				st.Kind = SeatUser
			}
		}
	}
	st.User = userName(st.UID)
	x.authority(&st)
	return st
}

// sessionUser is the owner of the topmost process of a user that the display manager has started for this display.
func (x xserverProcess) sessionUser() (uid int, ok bool) {
	return x.below(false, func(int) bool { return true })
}

// below is the owner of the topmost process of a user whom is says something of, among those that the display manager has started
// for this display. A process that does not tell its display, as while it becomes another program, counts when unknown is set.
func (x xserverProcess) below(unknown bool, is func(uid int) bool) (uid int, ok bool) {
	level := []process{x.manager}
	for depth := 0; depth < 16 && len(level) > 0; depth++ {
		var below []process
		for _, p := range level {
			for _, c := range p.children() {
				if c == x.pid {
					continue
				}
				if u := c.uid(); u > 0 && is(u) {
					env := c.environ()
					if n, err := displayNumber(env["DISPLAY"]); err == nil && n == x.number || unknown && len(env) == 0 && c.lives() {
						return u, true
					}
				}
				below = append(below, c)
			}
		}
		level = below
	}
	return 0, false
}

// authority fills in how a worker gets into the display.
func (x xserverProcess) authority(st *SeatState) {
	var file string
	args := x.pid.args()
	for i, a := range args {
		if a == "-auth" && i+1 < len(args) {
			file = args[i+1]
		}
	}
	if file != "" && !filepath.IsAbs(file) {
		file = filepath.Join(x.pid.file("cwd"), file)
	}
	if !x.root { // the file is the user's: read by the worker, with the user's rights
		st.Xauthority = file
		return
	}
	if file != "" {
		if c, err := readXauthority(file, x.number); err == nil {
			st.Cookie = c[0]
			return
		}
	}
	if st.Kind != SeatGreeter {
		return
	}
	for _, pattern := range authFiles {
		if strings.Contains(pattern, "%d") {
			pattern = fmt.Sprintf(pattern, x.number)
		}
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if c, err := readXauthority(name, x.number); err == nil {
				st.Cookie = c[0]
				return
			}
		}
	}
}

func (x xserverProcess) display() string { return ":" + strconv.Itoa(x.number) }

// displayOf finds the display of a session that has not told logind, as those of GDM: by the session's programs.
func displayOf(s session) (int, error) {
	for _, p := range processes() {
		if p.uid() != s.uid {
			continue
		}
		if env := p.environ(); env["XDG_SESSION_ID"] == s.id {
			if n, err := displayNumber(env["DISPLAY"]); err == nil {
				return n, nil
			}
		}
	}
	return 0, errors.New("no program of the session has a display")
}

// stat is the fields of /proc/<pid>/stat behind the name, which may hold anything; nil: it has ended.
func (p process) stat() []string {
	b, err := os.ReadFile(p.file("stat"))
	if err != nil {
		return nil
	}
	i := strings.LastIndexByte(string(b), ')')
	if f := strings.Fields(string(b[i+1:])); len(f) > 19 {
		return f
	}
	return nil
}

// parent is the parent's number, 0: unknown.
func (p process) parent() process {
	f := p.stat()
	if f == nil {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return process(n)
}

// lives says that the process has not ended, nor waits to be forgotten.
func (p process) lives() bool {
	f := p.stat()
	return f != nil && f[0] != "Z" && f[0] != "X"
}

// started is when the process was started.
func (p process) started() string {
	if f := p.stat(); f != nil {
		return f[19]
	}
	return ""
}

// name is the name the kernel has for the process.
func (p process) name() string {
	b, _ := os.ReadFile(p.file("comm"))
	return strings.TrimSpace(string(b))
}

// realUID is who started a process that has another's rights now.
func (p process) realUID() (int, bool) {
	b, err := os.ReadFile(p.file("status"))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(b), "\nUid:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0, false
	}
	uid, err := strconv.Atoi(f[0])
	return uid, err == nil
}

// children lists the child processes.
func (p process) children() []process {
	tasks, _ := filepath.Glob(p.file("task/*/children"))
	var list []process
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				list = append(list, process(n))
			}
		}
	}
	return list
}

package part

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

// playVar makes the test binary play a part, as it is what /proc/self/exe is here.
const playVar = "HOSTD_TEST_PART"

func TestMain(m *testing.M) {
	switch os.Getenv(playVar) {
	case "part":
		playPart()
	case "monitor":
		playMonitor()
	default:
		os.Exit(m.Run())
	}
}

// report is what a part sees of itself.
type report struct {
	UID, GID  int
	Groups    []int
	Env       []string
	Dir       string
	PID, PPID int
	Child     int // a process it has started
	Files     []string
}

// playPart reports, and waits for its end with a child that would outlive it.
func playPart() {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	conn, err := ipc.FileConn(os.NewFile(3, "socket"))
	if err != nil {
		panic(err)
	}
	r := report{UID: os.Geteuid(), GID: os.Getegid(), Env: os.Environ(), PID: os.Getpid(), PPID: os.Getppid()}
	r.Groups, _ = os.Getgroups()
	r.Dir, _ = os.Getwd()
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		panic(err)
	}
	r.Child = child.Process.Pid
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		r.Files = append(r.Files, fd.Name()+" "+to)
	}
	conn.Send(ipc.TypeHello, r)
	select {}
}

// playMonitor starts a part, tells its process and waits to be killed.
func playMonitor() {
	c := &Children{NetArgs: []string{"x"}, Env: []string{playVar + "=part"}}
	conn, _, err := c.Net(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(receiveReport(conn).PID)
	select {}
}

func receiveReport(conn *ipc.Conn) report {
	p, _, err := conn.Receive(make([]byte, ipc.MaxMessage))
	if err != nil {
		panic(err)
	}
	var r report
	if err := json.Unmarshal(p[1:], &r); err != nil {
		panic(err)
	}
	return r
}

// gone waits until a process, which need not be a child, has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(20*time.Second/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			t.Errorf("process %d still runs (%v)", pid, err)
		}
		return
	}
}

func TestChildren(t *testing.T) {
	t.Setenv("HELMLINE_SECRET", "token")
	who, err := login.LookupID(t.Context(), uint32(os.Geteuid()))
	if err != nil {
		t.Fatal(err)
	}
	if who.UID == 0 { // root's parts are others
		if who, err = NetUser(t.Context(), "nobody"); err != nil {
			t.Fatal(err)
		}
	}
	c := &Children{NetArgs: []string{"x"}, WorkerArgs: []string{"y"}, Env: []string{playVar + "=part"}}
	if os.Geteuid() == 0 {
		c.NetUser = who
	}
	starts := map[string]func() (*ipc.Conn, Process, error){
		"hostd-net": func() (*ipc.Conn, Process, error) { return c.Net(t.Context()) },
		"worker":    func() (*ipc.Conn, Process, error) { return c.Worker(t.Context(), who, true) },
	}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			conn, p, err := start()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			defer p.Kill()
			r := receiveReport(conn)
			if r.UID != int(who.UID) || r.GID != int(who.GID) {
				t.Errorf("runs as %d:%d, want %d:%d", r.UID, r.GID, who.UID, who.GID)
			}
			for _, g := range r.Groups {
				if !slices.Contains(who.Groups, uint32(g)) {
					t.Errorf("is in the group %d", g)
				}
			}
			if r.Dir != "/" {
				t.Errorf("begins in %s", r.Dir)
			}
			for _, v := range r.Env {
				if strings.Contains(v, "token") {
					t.Errorf("inherited %s", v)
				}
			}
			if name == "worker" && !slices.Contains(r.Env, "HOME="+who.Home) {
				t.Errorf("HOME is not set: %q", r.Env)
			}
			for _, f := range r.Files { // sockets, pipes and memories of the monitor stay its own
				fd, to, _ := strings.Cut(f, " ")
				if fd > "3" && (strings.HasPrefix(to, "socket:") || strings.Contains(to, "memfd:") || strings.HasPrefix(to, "/tmp")) {
					t.Errorf("inherited %s", f)
				}
			}
			p.Kill()
			p.Kill()
			select {
			case <-p.Done():
			case <-time.After(waitTime):
				t.Fatal("it does not end")
			}
			gone(t, r.PID)
			gone(t, r.Child)
			p.Kill() // no process of that number any more
			if _, _, err := conn.Receive(make([]byte, ipc.MaxMessage)); !errors.Is(err, io.EOF) {
				t.Errorf("its socket: %v", err)
			}
		})
	}
}

// TestParentDies kills a monitor: its parts end.
func TestParentDies(t *testing.T) {
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), playVar+"=monitor")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

func TestNetUser(t *testing.T) {
	for name, want := range map[string]string{
		"nobody":       "",
		"no-such-user": `net.user "no-such-user" does not exist; make it: useradd`,
		"root":         "is root",
	} {
		_, err := NetUser(t.Context(), name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestNextEpoch(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	for range 3 {
		e, err := NextEpoch(dir)
		if err != nil || e < last+1<<31 {
			t.Fatalf("%d after %d, %v", e, last, err)
		}
		last = e
	}
	if err := os.WriteFile(dir+"/"+EpochFile, []byte("many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := NextEpoch(dir)
	if err == nil || !strings.Contains(err.Error(), "damaged") || strings.Contains(err.Error(), "log in") || e <= last {
		t.Fatalf("%d after %d, %v", e, last, err)
	}
	if again, err := NextEpoch(dir); err != nil || again != e+1<<32 {
		t.Fatalf("%d after %d, %v", again, e, err)
	}
	if _, err := NextEpoch(dir + "/gone"); err == nil || !strings.Contains(err.Error(), "nobody can log in while") {
		t.Fatal(err)
	}
}

package screen

import (
	"errors"
	"io/fs"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hostd's unit leaves it few capabilities. They must do to tell whose session a display is: were a user's environment not readable, the
// session would pass for the log-on screen, which is anybody's.
func TestEnvironWithTheUnitsRights(t *testing.T) {
	if !root() {
		return
	}
	const nobody = 65534
	program := exec.Command("cat")
	program.Env = []string{"DISPLAY=:77"}
	program.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	held, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer program.Wait()
	defer held.Close()

	p := process(program.Process.Pid)
	var plain, dropped error
	var display string
	var uid int
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with what it has dropped
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		caps := uint32(1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_CHOWN)
		sets := [2]unix.CapUserData{{Effective: caps, Permitted: caps}}
		if dropped = unix.Capset(&header, &sets[0]); dropped != nil {
			return
		}
		_, plain = readSmall(p.file("environ"), maxEnviron)
		display = p.environ()["DISPLAY"]
		uid, _ = unix.SetfsuidRetUid(-1)
	}()
	<-done
	switch {
	case dropped != nil:
		t.Fatal(dropped)
	case !errors.Is(plain, fs.ErrPermission):
		t.Fatalf("the environment can be read without more ado, so the test tests nothing: %v", plain)
	case display != ":77":
		t.Fatalf("DISPLAY is %q", display)
	case uid != 0:
		t.Fatalf("the thread goes on with the rights of user %d", uid)
	}
}

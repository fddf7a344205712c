package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/helmline/helmline/.ci/rig"
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the end-to-end tests make network namespaces and users, so they need root")
		return 1
	}
	lock, err := os.OpenFile("/tmp/helmline-e2e.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil { // the machine's users and namespaces are used by one run at a time; the end of the process gives the lock back
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lock.Close()
	dir, err := os.MkdirTemp("/tmp", "helmline-e2e-bin-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, b := range []struct{ name, out, cgo, tags string }{
		{"relayd", "relayd", "0", ""}, {"hostd", "hostd", "0", ""}, {"hostd/pam", "hostd-pam", "1", ""},
		{"hostd", "turbo/hostd", "1", "turbo,netgo,osusergo"}, {"hostd/pam", "turbo/hostd-pam", "1", ""},
	} {
		cmd := exec.Command("go", "build", "-tags", b.tags, "-o", filepath.Join(dir, b.out), "../../"+b.name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+b.cgo)
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", b.out, err, text)
			return 1
		}
	}
	binaries, turbo = rig.Binaries(dir), rig.Binaries(filepath.Join(dir, "turbo"))
	return m.Run()
}

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/helmline/helmline/.ci/rig"
)

// A place is the folders of one demonstration. Facts, settings and logs lie in .demo of the tree, state and programs too,
// unless other users could not reach them there.
type place struct {
	dir   string // .demo, absolute
	state string // of the daemons and the desktop
	bin   rig.Binaries
	lock  *os.File
	temp  string // to remove at the end; empty: none
}

// maxState keeps the sockets in the state folder short enough for the kernel: 107 bytes.
const maxState = 80

// newPlace empties .demo and takes it for this run alone.
func newPlace() (*place, error) {
	top, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	p := &place{dir: filepath.Join(top, ".demo"), bin: rig.Binaries(filepath.Join(top, "bin"))}
	p.state = filepath.Join(p.dir, "state")
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	p.lock, err = os.OpenFile(filepath.Join(p.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(p.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.New("a demonstration runs in this tree already; end it first")
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "demo" { // demo is this program
			if err := os.RemoveAll(filepath.Join(p.dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	if len(p.state) > maxState || os.Geteuid() == 0 && !open(top) {
		return p, p.move(top)
	}
	return p, os.MkdirAll(p.state, 0o711)
}

// move puts state and programs into a folder that every user can reach: as root, parts of hostd run as other users.
func (p *place) move(top string) (err error) {
	if p.temp, err = os.MkdirTemp("/tmp", "helmline-demo-"); err != nil {
		return err
	}
	p.state = p.temp
	p.bin = rig.Binaries(filepath.Join(p.temp, "bin"))
	err = os.Mkdir(string(p.bin), 0o755)
	for _, name := range []string{"relayd", "hostd", "hostd-pam"} {
		text, rerr := os.ReadFile(filepath.Join(top, "bin", name))
		if errors.Is(rerr, os.ErrNotExist) {
			continue // hostd-pam is not everywhere
		}
		err = errors.Join(err, rerr, os.WriteFile(filepath.Join(string(p.bin), name), text, 0o755))
	}
	if err = errors.Join(err, os.Chmod(p.temp, 0o711)); err != nil {
		os.RemoveAll(p.temp)
		return err
	}
	say("state lies in %s, as other users cannot reach this tree", p.temp)
	return nil
}

// open says whether every user may pass through dir and all above it.
func open(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

func (p *place) file(name string) string { return filepath.Join(p.dir, name) }

// folder makes a folder among the state that belongs to a user, nil being this process's.
func (p *place) folder(name string, u *rig.User) (string, error) {
	dir := filepath.Join(p.state, name)
	err := os.Mkdir(dir, 0o700)
	if u != nil {
		err = errors.Join(err, os.Chown(dir, u.UID, u.GID))
	}
	return dir, err
}

// close takes back what must not outlive the run: the facts, which are no longer true, and the state with its secrets.
func (p *place) close() {
	for _, path := range []string{p.file("env"), filepath.Join(p.dir, "state"), p.temp} {
		if path != "" {
			if err := os.RemoveAll(path); err != nil {
				fmt.Fprintln(os.Stderr, "demo:", err)
			}
		}
	}
	p.lock.Close()
}

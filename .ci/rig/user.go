package rig

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// A User is an OS user. A nil User stands for the one who runs this process.
type User struct {
	Name     string
	UID, GID int
	Home     string
	Groups   []uint32
}

// comment marks the users that the rig makes, so that those of a run that was cut off are known again.
const comment = "Helmline throw-away user"

// LookupUser finds an existing user.
func LookupUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &User{Name: name, UID: uid, GID: gid, Home: u.HomeDir}, errors.Join(err1, err2)
}

// MakeUser makes a user, or takes the one that an earlier run has left, and has it removed by Close. A system user has no home and no
// shell. A user of that name who is somebody else's is an error.
func (s *Set) MakeUser(ctx context.Context, name string, system bool) (*User, error) {
	remove := []string{"userdel", "--force", name}
	if !system {
		remove = []string{"userdel", "--force", "--remove", name}
	}
	old, err := user.Lookup(name)
	var unknown user.UnknownUserError
	switch {
	case errors.As(err, &unknown):
	case err != nil:
		return nil, err
	case old.Name != comment:
		return nil, fmt.Errorf("there is a user %s already who was not made for this; remove or rename it", name)
	default: // of a run that was killed before it could clean up
		_, _ = s.Output(ctx, Program{Args: remove}) // userdel complains when there was no mail to remove
	}
	args := []string{"useradd", "--comment", comment, "--user-group"}
	if system {
		args = append(args, "--system", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin")
	} else {
		args = append(args, "--create-home", "--shell", "/bin/bash")
	}
	if _, err := s.Output(ctx, Program{Args: append(args, name)}); err != nil {
		return nil, err
	}
	s.Cleanup(func() { _, _ = s.Output(context.Background(), Program{Args: remove}) })
	return LookupUser(name)
}

// SetPassword gives the user a password, through chpasswd's standard input.
func (s *Set) SetPassword(ctx context.Context, u *User, password string) error {
	_, err := s.Output(ctx, Program{Args: []string{"chpasswd"}, Stdin: strings.NewReader(u.Name + ":" + password + "\n")})
	return err
}

func (u *User) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID), Groups: u.Groups}
}

func (u *User) environment() []string {
	if u == nil {
		return nil
	}
	return []string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "XDG_RUNTIME_DIR=", "DBUS_SESSION_BUS_ADDRESS="}
}

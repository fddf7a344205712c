// Package login decides who may log in to this computer: OS users, whom PAM judges in a process of its own, and the Computer
// Access Code, which stands for one OS user. Failures are counted per target and survive restarts.
package login

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// An Account is an OS user.
type Account struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // all of them, GID included
	Home   string
	Shell  string
}

// ErrNoAccount is an OS user that does not exist.
var ErrNoAccount = errors.New("no such user on this computer")

// MaxName is the longest user name, bytes.
const MaxName = 255

// lookupTime bounds a question to the name service.
const lookupTime = 5 * time.Second

func checkName(name string) error {
	bad := name == "" || len(name) > MaxName || !utf8.ValidString(name) || name[0] == '-' ||
		strings.ContainsFunc(name, func(c rune) bool { return c == ':' || c == '/' || !unicode.IsGraphic(c) })
	if bad {
		return ErrNoAccount
	}
	return nil
}

// Lookup finds an OS user by name, in /etc/passwd or, through getent(1), wherever this computer keeps its users.
func Lookup(ctx context.Context, name string) (*Account, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return lookup(ctx, name, false)
}

// LookupID finds an OS user by number.
func LookupID(ctx context.Context, uid uint32) (*Account, error) {
	return lookup(ctx, strconv.FormatUint(uint64(uid), 10), true)
}

func lookup(ctx context.Context, key string, byID bool) (*Account, error) {
	is := func(a *Account) bool { return a.Name == key }
	if byID {
		is = func(a *Account) bool { return strconv.FormatUint(uint64(a.UID), 10) == key }
	}
	a, err := scanPasswd("/etc/passwd", is)
	if errors.Is(err, ErrNoAccount) {
		if a, err = getent(ctx, key); err == nil && !is(a) { // it takes numbers for names
			err = ErrNoAccount
		}
	}
	if err != nil {
		return nil, err
	}
	if a.Groups, err = groups(ctx, a); err != nil {
		return nil, err
	}
	return a, nil
}

// scanPasswd finds the first user of which is says so. Lines that are none are left out.
func scanPasswd(path string, is func(*Account) bool) (*Account, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if a, err := parsePasswd(s.Text()); err == nil && is(a) {
			return a, nil
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return nil, ErrNoAccount
}

// parsePasswd reads one line as /etc/passwd has it.
func parsePasswd(line string) (*Account, error) {
	f := strings.Split(line, ":")
	if len(f) < 7 {
		return nil, fmt.Errorf("%q is no line of passwd", line)
	}
	uid, err := strconv.ParseUint(f[2], 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(f[3], 10, 32)
	if err != nil {
		return nil, err
	}
	return &Account{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}, nil
}

func getent(ctx context.Context, key string) (*Account, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/bin/getent", "passwd", "--", key).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoAccount
	}
	if err != nil {
		return nil, fmt.Errorf("look up a user: getent: %w", err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return parsePasswd(string(line))
}

// groups lists the groups of a, its own first.
func groups(ctx context.Context, a *Account) ([]uint32, error) {
	var ids []string
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/bin/id", "-G", "--", a.Name).Output()
	if err == nil {
		ids = strings.Fields(string(out))
	} else {
		u := &user.User{Username: a.Name, Gid: fmt.Sprint(a.GID)}
		if ids, err = u.GroupIds(); err != nil {
			return nil, fmt.Errorf("groups of %s: %w", a.Name, err)
		}
	}
	list := []uint32{a.GID}
	for _, s := range ids {
		if id, err := strconv.ParseUint(s, 10, 32); err == nil && !slices.Contains(list, uint32(id)) {
			list = append(list, uint32(id))
		}
	}
	return list, nil
}

// Administers says whether a may see any user's desktop: root, and the members of the named groups. A group that does not
// exist has no members.
func Administers(a *Account, admins []string) bool {
	if a.UID == 0 {
		return true
	}
	return slices.ContainsFunc(admins, func(name string) bool {
		g, err := user.LookupGroup(name)
		if err != nil {
			return false
		}
		id, err := strconv.ParseUint(g.Gid, 10, 32)
		return err == nil && slices.Contains(a.Groups, uint32(id))
	})
}

// WriteFile replaces a file of state by one of mode 0600, whole or not at all.
func WriteFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

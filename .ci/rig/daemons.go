package rig

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

// Binaries is the folder with relayd, hostd and hostd-pam.
type Binaries string

func (b Binaries) path(name string) string { return filepath.Join(string(b), name) }

// A Daemon is relayd or hostd with its settings.
type Daemon struct {
	Program string // absolute path
	Config  string
	Log     string
	User    *User  // nil: this process's
	Network string // network namespace; empty: this process's
	set     *Set
}

// Relay is relayd with the settings in the file.
func (s *Set) Relay(b Binaries, config, log string) *Daemon {
	return &Daemon{Program: b.path("relayd"), Config: config, Log: log, set: s}
}

// Host is hostd with the settings in the file.
func (s *Set) Host(b Binaries, config, log string) *Daemon {
	return &Daemon{Program: b.path("hostd"), Config: config, Log: log, set: s}
}

// Serve starts the daemon and returns when it says that it is ready.
func (d *Daemon) Serve(ctx context.Context) (*Process, error) {
	return d.set.Start(ctx, Program{
		Args: []string{d.Program, "serve", "--config", d.Config}, User: d.User, Network: d.Network, Log: d.Log, Notify: true,
	})
}

// Do runs a command of the daemon, as in Do(ctx, "", "host", "list"). What it reads from its standard input is stdin.
func (d *Daemon) Do(ctx context.Context, stdin string, command ...string) (string, error) {
	return d.set.Output(ctx, Program{
		Args: append([]string{d.Program}, append(command, "--config", d.Config)...),
		User: d.User, Network: d.Network, Stdin: strings.NewReader(stdin),
	})
}

// Enrol has the host spend an invitation of the relay: the computer then belongs to the account under the name.
func Enrol(ctx context.Context, relay, host *Daemon, account, name string) error {
	line, err := relay.Do(ctx, "", "host", "invite", account, "--name", name)
	if err != nil {
		return err
	}
	token := ""
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "hl1.") {
			token = word
		}
	}
	if token == "" {
		return fmt.Errorf("no token in %q", line)
	}
	_, err = host.Do(ctx, token+"\n", "enroll", "--token-stdin")
	return err
}

// Secret is n random letters and digits without those that look alike: five bits and a half each.
func Secret(n int) string {
	const alphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	b := make([]byte, n)
	for i := range b {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		b[i] = alphabet[k.Int64()]
	}
	return string(b)
}

// WriteFile writes a file of mode 0600 whole: it is never seen half done.
func WriteFile(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// CopyFile copies a small file.
func CopyFile(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, mode)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/login"
	"github.com/helmline/helmline/hostd/part"
)

func codeSetCommand(out io.Writer) *command {
	stdin := false
	return &command{
		name:  "code set",
		flags: func(fs *flag.FlagSet) { fs.BoolVar(&stdin, "stdin", false, "read the code from standard input") },
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			if err := noArgs("code set", args); err != nil {
				return err
			}
			a, err := accessAccount(ctx, c, openUser(ctx, "/"))
			if err != nil {
				return err
			}
			var secret []byte
			if stdin {
				secret, err = readLine(os.Stdin, login.MaxCode)
			} else {
				secret, err = askTwice(ctx, out, a.Name)
			}
			if err != nil {
				return err
			}
			return setCode(ctx, c, a, secret, out)
		},
	}
}

// setCode stores the code and tells the running hostd.
func setCode(ctx context.Context, c *conf.Host, a *login.Account, secret []byte, out io.Writer) error {
	defer clear(secret)
	if err := ownDir(c.StateDir); err != nil {
		return err
	}
	if err := login.SetCode(c.StateDir, secret, a); err != nil {
		return err
	}
	fmt.Fprintf(out, "the access code is set; it opens this computer as %s\n", a.Name)
	return codeChanged(ctx, c)
}

func codeChanged(ctx context.Context, c *conf.Host) error {
	if _, err := part.Ask(ctx, c.Socket(), part.Request{Op: part.OpCode}); err != nil && !errors.Is(err, part.ErrNotRunning) {
		return fmt.Errorf("tell hostd: %w", err)
	}
	return nil
}

func codeClearCommand(out io.Writer) *command {
	return &command{name: "code clear", run: func(ctx context.Context, c *conf.Host, args []string) error {
		if err := noArgs("code clear", args); err != nil {
			return err
		}
		was, err := login.ClearCode(c.StateDir)
		if err != nil {
			return err
		}
		if !was {
			fmt.Fprintln(out, "there was no access code")
			return nil
		}
		fmt.Fprintln(out, "the access code is removed; log in with user name and password")
		return codeChanged(ctx, c)
	}}
}

// accessAccount is the OS user that an access code is to stand for: the one in the settings, without root who runs hostd, else open,
// whom this computer lets in without a password and who has nothing else to log in with from afar. Root must stand in the settings.
func accessAccount(ctx context.Context, c *conf.Host, open string) (*login.Account, error) {
	name := c.Login.AccessAccount
	if name == "" {
		if uid := os.Geteuid(); uid != 0 {
			return login.LookupID(ctx, uint32(uid))
		}
		if open != "" {
			if a, err := login.Lookup(ctx, open); err == nil && a.UID != 0 {
				return a, nil
			}
		}
		return nil, fmt.Errorf("no user is chosen that the access code opens this computer as; "+
			"write access_account = \"NAME\" under [login] in %s", conf.HostFile)
	}
	a, err := login.Lookup(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("login.access_account %q: %w", name, err)
	}
	if uid := os.Geteuid(); uid != 0 && a.UID != uint32(uid) {
		return nil, fmt.Errorf("login.access_account is %q, but without root the access code can only stand for the user who runs hostd", name)
	}
	return a, nil
}

// readLine reads a secret of one line.
func readLine(r io.Reader, most int) ([]byte, error) {
	b := bufio.NewReaderSize(r, 4096)
	line, err := b.ReadSlice('\n')
	defer clear(line)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) > most {
		return nil, fmt.Errorf("standard input: a line of more than %d bytes", most)
	}
	return bytes.Clone(line), nil
}

// errNoTerminal says how to go on without one.
var errNoTerminal = errors.New("standard input is no terminal; use --stdin to read the code from it")

// askTwice asks for a new code at the terminal, twice, until both are equal and long enough.
func askTwice(ctx context.Context, out io.Writer, user string) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, errNoTerminal
	}
	fmt.Fprintf(out, "Whoever knows the access code opens this computer as %s. It can only be changed here and read nowhere.\n", user)
	for {
		fmt.Fprintf(out, "Access code (%d characters or more): ", login.MinCode)
		first, err := readHidden(ctx, fd, out)
		if err != nil {
			return nil, err
		}
		if err := login.CheckCode(first); err != nil {
			clear(first)
			fmt.Fprintf(out, "%v\n", err)
			continue
		}
		fmt.Fprint(out, "The same again: ")
		second, err := readHidden(ctx, fd, out)
		if err != nil {
			return nil, err
		}
		same := bytes.Equal(first, second)
		clear(second)
		if same {
			return first, nil
		}
		clear(first)
		fmt.Fprintln(out, "the two are not the same")
	}
}

// readHidden reads a line that is not shown. An interrupt gives the terminal back as it was.
func readHidden(ctx context.Context, fd int, out io.Writer) ([]byte, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	defer term.Restore(fd, state)
	b, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(out)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return b, nil
}

// interruptible waits for f, which reads from the terminal, or until ctx ends. Then f goes on until the program ends, which is next.
func interruptible[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	c := make(chan answer, 1)
	go func() {
		v, err := f()
		c <- answer{v, err}
	}()
	select {
	case a := <-c:
		return a.v, a.err
	case <-ctx.Done():
		var none T
		return none, errors.New("interrupted")
	}
}

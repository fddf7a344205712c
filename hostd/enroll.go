package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/desktop"
	"github.com/helmline/helmline/hostd/login"
	"github.com/helmline/helmline/hostd/part"
)

func enrollCommand(out io.Writer) *command {
	stdin := false
	var config flag.Value
	return &command{
		name: "enroll", args: "TOKEN",
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&stdin, "token-stdin", false, "read the token from standard input")
			config = fs.Lookup("config").Value
		},
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			var token string
			switch {
			case stdin && len(args) == 0:
				line, err := readLine(os.Stdin, 2048)
				if err != nil {
					return err
				}
				token = string(line)
			case !stdin && len(args) == 1:
				token = args[0]
			default:
				return &usageError{"hostd enroll: give it the token that \"relayd host invite\" prints, or --token-stdin"}
			}
			return enroll(ctx, c, token, toRun("code set", config), out)
		},
	}
}

// toRun is the line that runs a command of hostd for the computer whose settings --config names.
func toRun(command string, config flag.Value) string {
	line := "hostd " + command
	if file := config.String(); file != "" {
		line += " --config " + file
	}
	return line
}

// enroll spends the token before anything else, so that nobody who answers a question slowly finds it expired. setLine is advice for
// later: the command that sets an access code.
func enroll(ctx context.Context, c *conf.Host, token, setLine string, out io.Writer) error {
	if _, err := tunnel.ParseToken(token); err != nil {
		return err
	}
	e, err := spend(ctx, c, token)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "this computer is enrolled at %s as %q\n", e.RelayName, e.Name)
	_, err = part.Ask(ctx, c.Socket(), part.Request{Op: part.OpReload})
	switch {
	case errors.Is(err, part.ErrNotRunning):
		fmt.Fprintln(out, err)
	case err != nil:
		return fmt.Errorf("tell hostd: %w", err)
	}
	return offerCode(ctx, c, openUser(ctx, "/"), setLine, out)
}

// spend runs the enrolment as the user of hostd-net: it alone talks to the network and owns what comes of it. The token goes
// through a pipe.
func spend(ctx context.Context, c *conf.Host, token string) (desktop.Enrolment, error) {
	var e desktop.Enrolment
	var user *login.Account
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "net-enroll", "-state", c.NetStateDir())
	if os.Geteuid() == 0 {
		var err error
		if user, err = part.NetUser(ctx, c.Net.User); err != nil {
			return e, err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}}
	}
	if err := ownDir(c.StateDir); err != nil {
		return e, err
	}
	if err := netDir(c.NetStateDir(), user); err != nil {
		return e, err
	}
	var answer, complaint bytes.Buffer
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(token)
	cmd.Stdout, cmd.Stderr = &answer, &complaint
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return e, errors.New(text)
		}
		return e, fmt.Errorf("enrol: %w", err)
	}
	if err := json.Unmarshal(answer.Bytes(), &e); err != nil {
		return e, fmt.Errorf("enrol: %w", err)
	}
	return e, nil
}

// netEnroll is the share of an enrolment that hostd-net's user does: it reads the token, spends it, stores what it gave and
// writes that.
func netEnroll(ctx context.Context, state string, in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return err
	}
	t, err := tunnel.ParseToken(string(text))
	if err != nil {
		return err
	}
	key, err := desktop.TunnelKey(state)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	got, err := tunnel.Enroll(ctx, t, key, host)
	if err != nil {
		return err
	}
	e := desktop.Enrolment{Addr: t.Relay, RelayKey: t.Fingerprint, ID: got.ID, Name: got.Name, RelayName: got.Relay}
	if err := e.Save(state); err != nil {
		return fmt.Errorf("the token is spent, but what it gave could not be stored: %w; free some space and enrol with a new token", err)
	}
	return json.NewEncoder(out).Encode(e)
}

// offerCode asks at a terminal for an access code where none is set: without asking whether, where this computer lets its user who
// in without a password, as then nobody knows one to log in with.
func offerCode(ctx context.Context, c *conf.Host, who, setLine string, out io.Writer) error {
	if code, err := login.LoadCode(c.StateDir); code != nil || err != nil {
		return err
	}
	a, err := accessAccount(ctx, c, who)
	if err != nil || !term.IsTerminal(int(os.Stdin.Fd())) {
		if who != "" {
			fmt.Fprintf(out, "%s gets into this computer without a password, so nobody can log in to it from afar; set an access code: %s\n", who, setLine)
		} else {
			fmt.Fprintf(out, "log in to it with user name and password, or set an access code: %s\n", setLine)
		}
		if err != nil {
			fmt.Fprintf(out, "(first: %v)\n", err)
		}
		return nil
	}
	if who == "" {
		fmt.Fprint(out, "Set an access code for this computer, beside user names and passwords? [y/N] ")
		line, err := interruptible(ctx, func() (string, error) { return bufio.NewReader(os.Stdin).ReadString('\n') })
		if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
			return nil
		}
	} else {
		fmt.Fprintf(out, "%s gets into this computer without a password, so choose an access code for those who come from afar.\n", who)
	}
	secret, err := askTwice(ctx, out, a.Name)
	if err != nil {
		return err
	}
	return setCode(ctx, c, a, secret, out)
}

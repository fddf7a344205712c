// Command hostd makes this computer reachable through a relay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/helmline/helmline/conf"
)

const usage = `hostd makes this computer reachable through a Helmline relay.

Set it up:
  hostd enroll TOKEN        join a relay; --token-stdin reads the token from standard input
  hostd code set            set the access code that opens this computer; --stdin reads it
  hostd code clear          remove it

Look after it:
  hostd status              what it does now; --json
  hostd doctor              find out what is missing
  hostd fingerprint         how viewers can recognise this computer; --json
  hostd sessions            who is here; --json
  hostd end ID              end a session; --all ends every one
  hostd record start|stop   record what sessions show, where [policy] recording allows it
  hostd unlock [USER]       forget failed log-ins: of a user, of the access code with --code, or all

Run it:
  hostd serve               run until interrupted; systemd does this
  hostd check               read the settings and say whether they are right
  hostd version

Every command takes --config FILE; without it, ` + conf.HostFile + ` holds if it exists, else the defaults.
`

// A command is one word behind hostd. run gets the settings, and what flags left of the arguments.
type command struct {
	name  string
	args  string // for the usage
	flags func(*flag.FlagSet)
	run   func(ctx context.Context, c *conf.Host, args []string) error
}

func main() {
	os.Exit(run(os.Args[1:]))
}

// run is main with an exit code: 0 done, 1 not done, 2 not understood.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends hostd at once
	if len(args) > 0 && len(args[0]) > 0 && isPart(args[0]) {
		return runPart(ctx, args[0], args[1:])
	}
	err := dispatch(ctx, args, os.Stdout)
	var u *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, u)
		return 2
	}
	fmt.Fprintf(os.Stderr, "hostd: %v\n", err)
	return 1
}

// A usageError is a command line that was not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		fmt.Fprint(out, usage)
		return nil
	}
	args = commandFirst(args)
	for _, c := range commands(out) {
		words := strings.Fields(c.name)
		if len(args) < len(words) || !slices.Equal(args[:len(words)], words) {
			continue
		}
		return c.call(ctx, args[len(words):], out)
	}
	if args[0] == "code" {
		return &usageError{`hostd code: write "hostd code set" or "hostd code clear"`}
	}
	return &usageError{fmt.Sprintf("hostd: %q is no command; \"hostd help\" lists them", args[0])}
}

// commandFirst puts --config FILE behind the command, if it stands before it.
func commandFirst(args []string) []string {
	name, _, one := strings.Cut(args[0], "=")
	n := 2
	if one {
		n = 1
	}
	if name != "--config" && name != "-config" || len(args) <= n {
		return args
	}
	return slices.Concat(args[n:], args[:n])
}

// call reads flags, which may stand before and behind other arguments, and the settings.
func (c *command) call(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("hostd "+c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	config := fs.String("config", "", "settings `file` (default "+conf.HostFile+")")
	if c.flags != nil {
		c.flags(fs)
	}
	var rest []string
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprintf(out, "usage: hostd %s [flags] %s\n", c.name, c.args)
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil
		case err != nil:
			return &usageError{fmt.Sprintf("hostd %s: %v; \"hostd %s -h\" lists what it takes", c.name, err, c.name)}
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	settings, err := conf.LoadHost(*config)
	if err != nil {
		return err
	}
	return c.run(ctx, settings, rest)
}

func commands(out io.Writer) []*command {
	return []*command{
		serveCommand(), checkCommand(out), versionCommand(out),
		enrollCommand(out), codeSetCommand(out), codeClearCommand(out),
		statusCommand(out), doctorCommand(out), fingerprintCommand(out),
		sessionsCommand(out), endCommand(out), recordCommand(out), unlockCommand(out),
	}
}

// noArgs refuses arguments where none are taken.
func noArgs(name string, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Sprintf("hostd %s: %q is too much; it takes no arguments", name, args[0])}
	}
	return nil
}

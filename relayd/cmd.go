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
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/admin"
)

// A command is one that acts on a running relayd, or reads what it has written.
type command struct {
	path     string                                  // "account add"
	args     string                                  // as the usage line has them
	about    string                                  // one line
	more     string                                  // what the usage text says besides
	min, max int                                     // number of arguments
	list     bool                                    // takes --json
	flags    func(f *flag.FlagSet) func(*call) error // declares flags, and gives what runs after they are read
}

// commands are all of them, in the order of the usage text.
func commands() []command {
	return slices.Concat(accountCommands(), keyCommands(), hostCommands(), sessionCommands(), []command{auditVerify(), replayCommand(), recordKeyCommand()})
}

// A call is one command that runs.
type call struct {
	context.Context
	args           []string
	settings       *conf.Relay
	json           bool
	stdin          io.Reader
	stdout, stderr io.Writer
}

// usageError is a wrong command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func wrongUsage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// maxPath is how many words name a command at most.
const maxPath = 3

// runCommand runs the command that args begin with, and gives the exit code: 0, 1 when it failed, 2 when the command
// line is wrong. Results go to stdout, the rest to stderr.
func runCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	c, rest, err := findCommand(args)
	if err != nil {
		fmt.Fprintf(stderr, "relayd: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = c.run(&call{Context: ctx, stdin: stdin, stdout: stdout, stderr: stderr}, rest)
	var wrong *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		c.usage(stdout)
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "relayd %s: %v\n", c.path, err)
		c.usage(stderr)
		return 2
	}
	fmt.Fprintf(stderr, "relayd: %v\n", err)
	return 1
}

// findCommand takes the command's words off args.
func findCommand(args []string) (command, []string, error) {
	all := commands()
	for n := min(maxPath, len(args)); n > 0; n-- {
		path := strings.Join(args[:n], " ")
		for _, c := range all {
			if c.path == path {
				return c, args[n:], nil
			}
		}
	}
	var near []string
	for _, c := range all {
		if len(args) > 0 && strings.HasPrefix(c.path, args[0]+" ") {
			near = append(near, "relayd "+c.path)
		}
	}
	if len(near) > 0 {
		return command{}, nil, fmt.Errorf("what to do is missing or unknown; one of:\n  %s", strings.Join(near, "\n  "))
	}
	return command{}, nil, fmt.Errorf("there is no command %q; see: relayd help", strings.Join(args, " "))
}

func (c command) usage(w io.Writer) {
	flags := " [--config FILE]"
	if c.list {
		flags = " [--json]" + flags
	}
	fmt.Fprintf(w, "usage: relayd %s\n%s\n", strings.Join(strings.Fields(c.path+" "+c.args+flags), " "), c.about)
	if c.more != "" {
		fmt.Fprintln(w, c.more)
	}
}

// run reads flags, which may stand before, between and behind the arguments, and the settings, and runs the command.
func (c command) run(k *call, rest []string) error {
	f := flag.NewFlagSet(c.path, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	path := f.String("config", "", "")
	if c.list {
		f.BoolVar(&k.json, "json", false, "")
	}
	do := c.flags(f)
	for len(rest) > 0 {
		if err := f.Parse(rest); errors.Is(err, flag.ErrHelp) {
			return err
		} else if err != nil {
			return wrongUsage("%v", err)
		}
		behind := f.Args()
		if n := len(rest) - len(behind); n > 0 && rest[n-1] == "--" {
			k.args, behind = append(k.args, behind...), nil
		}
		if len(behind) > 0 {
			k.args, behind = append(k.args, behind[0]), behind[1:]
		}
		rest = behind
	}
	switch n := len(k.args); {
	case n < c.min:
		return wrongUsage("an argument is missing")
	case n > c.max:
		return wrongUsage("there is one argument too many: %q", k.args[c.max])
	}
	var err error
	if k.settings, err = conf.LoadRelay(*path); err != nil {
		return err
	}
	return do(k)
}

// plain is a command without flags of its own.
func plain(do func(*call) error) func(*flag.FlagSet) func(*call) error {
	return func(*flag.FlagSet) func(*call) error { return do }
}

func (k *call) relay() *admin.Client { return admin.NewClient(k.settings.Socket()) }

// arg is the i-th argument, or "".
func (k *call) arg(i int) string {
	if i < len(k.args) {
		return k.args[i]
	}
	return ""
}

// note tells the person what is not the result.
func (k *call) note(format string, args ...any) { fmt.Fprintf(k.stderr, format+"\n", args...) }

// table prints a list: as JSON, or rows under a head.
func table[T any](k *call, all []T, head string, row func(T) []string) error {
	if k.json {
		if all == nil {
			all = []T{}
		}
		return k.printJSON(all)
	}
	w := tabwriter.NewWriter(k.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	for _, v := range all {
		cells := row(v)
		for i := range cells {
			if cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func (k *call) printJSON(v any) error {
	enc := json.NewEncoder(k.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// maxSecret is the longest line read as a password, bytes.
const maxSecret = 1024

// password reads a new password: the first line of standard input, or typed twice at a terminal.
func (k *call) password(fromStdin bool) ([]byte, error) {
	if fromStdin {
		line, err := bufio.NewReader(io.LimitReader(k.stdin, maxSecret+1)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return nil, errors.New("there is no password on standard input")
		}
		if len(line) > maxSecret {
			return nil, fmt.Errorf("the password on standard input has more than %d bytes", maxSecret)
		}
		return line, nil
	}
	tty, ok := k.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return nil, wrongUsage("standard input is not a terminal; give the password there with --password-stdin")
	}
	first, err := k.ask(tty, "New password: ")
	if err != nil {
		return nil, err
	}
	second, err := k.ask(tty, "Once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords are not the same; nothing was changed")
	}
	return first, nil
}

func (k *call) ask(tty *os.File, prompt string) ([]byte, error) {
	fmt.Fprint(k.stderr, prompt)
	b, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(k.stderr)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	return b, nil
}

// Relayd is the relay of Helmline: people point a viewer at it, sign in, and reach their own computers, which have
// dialled in from wherever they are.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/helmline/helmline/conf"
)

func main() { os.Exit(relayd(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// relayd runs one command and gives the exit code: 0, 1 when it failed, 2 when the command line is wrong.
func relayd(args []string, in io.Reader, out, errOut io.Writer) (code int) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	switch name {
	case "serve", "check":
		c, code := settings(name, args[1:], out, errOut)
		if c == nil {
			return code
		}
		var err error
		if name == "serve" {
			err = serve(c)
		} else {
			err = check(c, out)
		}
		if err != nil {
			fmt.Fprintf(errOut, "relayd: %v\n", err)
			return 1
		}
		return 0
	case "version", "--version", "-version":
		fmt.Fprintf(out, "relayd %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return 0
	case "help", "--help", "-help", "-h":
		usage(out)
		return 0
	case "":
		usage(errOut)
		return 2
	}
	return runCommand(args, in, out, errOut)
}

// settings reads --config, the only flag of serve and check, and the settings. Without them it gives the exit code.
func settings(name string, args []string, out, errOut io.Writer) (_ *conf.Relay, code int) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	path := f.String("config", "", "")
	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("there is one argument too many: %q", f.Arg(0))
	}
	if err != nil {
		code = 2
		if err == flag.ErrHelp {
			errOut, code = out, 0
		} else {
			fmt.Fprintf(errOut, "relayd %s: %v\n", name, err)
		}
		fmt.Fprintf(errOut, "usage: relayd %s [--config FILE]\n", name)
		return nil, code
	}
	c, err := conf.LoadRelay(*path)
	if err != nil {
		fmt.Fprintf(errOut, "relayd: %v\n", err)
		return nil, 1
	}
	return c, 0
}

// usage lists every command.
func usage(w io.Writer) {
	fmt.Fprint(w, "relayd is the relay of Helmline: computers dial in, people reach them with the viewer they have.\n\n")
	row := func(path, args, about string) {
		fmt.Fprintf(w, "  relayd %s\n        %s\n", strings.TrimSpace(path+" "+args), about)
	}
	row("serve", "", "Run the relay.")
	row("check", "", "Say what is wrong with the settings.")
	for _, c := range commands() {
		row(c.path, c.args, c.about)
	}
	row("version", "", "Print the version.")
	fmt.Fprintf(w, "\nEvery command takes --config FILE, else %s is read; every list takes --json. Where relayd\nruns, commands act on it through its local socket.\n", conf.RelayFile)
}

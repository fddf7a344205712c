package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/desktop"
	"github.com/helmline/helmline/hostd/login"
	"github.com/helmline/helmline/hostd/part"
)

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func statusCommand(out io.Writer) *command {
	asJSON := false
	var config flag.Value
	return &command{
		name: "status",
		flags: func(fs *flag.FlagSet) {
			jsonFlag(&asJSON)(fs)
			config = fs.Lookup("config").Value
		},
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			if err := noArgs("status", args); err != nil {
				return err
			}
			r, err := part.Ask(ctx, c.Socket(), part.Request{Op: part.OpStatus})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(out, r.Status)
			}
			printStatus(out, r.Status, config)
			return nil
		},
	}
}

// printStatus writes the status of the computer whose settings --config names.
func printStatus(out io.Writer, s *part.Status, config flag.Value) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	line("computer", "%s", s.Name)
	line("hostd", "%s, since %s", s.Version, when(s.Started))
	switch {
	case !s.Net:
		line("relay", "hostd-net is not running; it is started again by itself")
	case s.Online:
		line("relay", "online at %s since %s", s.Relay, when(s.OnlineSince))
	case s.OnlineError != "":
		line("relay", "offline: %s", s.OnlineError)
	default:
		line("relay", "connecting")
	}
	line("sessions", "%d", s.Sessions)
	if s.Holder != "" {
		line("in control", "%s since %s", s.Holder, when(s.HolderSince))
	} else {
		line("in control", "nobody")
	}
	line("screen", "%s", s.Seat)
	line("recording", "%s", s.Recording)
	line("log in by", "%s", loginWays(s, toRun("code set", config)))
	if n := len(s.Locked); n > 0 {
		line("locked out", "%d, the last until %s; \"%s\" ends it", n, when(s.Locked[0]), toRun("unlock", config))
	}
}

// loginWays advises setLine where there is no way.
func loginWays(s *part.Status, setLine string) string {
	switch {
	case s.CodeSet && s.OSLogin:
		return "access code, or user name and password"
	case s.CodeSet:
		return "access code"
	case s.OSLogin:
		return "user name and password"
	}
	return "nothing; set an access code: " + setLine
}

// when is a time as a person at the computer reads it.
func when(t time.Time) string {
	t = t.Local()
	if time.Since(t) < 24*time.Hour && time.Until(t) < 24*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func sessionsCommand(out io.Writer) *command {
	asJSON := false
	return &command{name: "sessions", flags: jsonFlag(&asJSON), run: func(ctx context.Context, c *conf.Host, args []string) error {
		if err := noArgs("sessions", args); err != nil {
			return err
		}
		r, err := part.Ask(ctx, c.Socket(), part.Request{Op: part.OpSessions})
		if err != nil {
			return err
		}
		if asJSON {
			if r.Sessions == nil {
				r.Sessions = []part.SessionInfo{}
			}
			return printJSON(out, r.Sessions)
		}
		if len(r.Sessions) == 0 {
			fmt.Fprintln(out, "nobody is here")
			return nil
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tACCOUNT\tUSER\tROLE\tFROM\tSINCE")
		for _, s := range r.Sessions {
			user, role := s.User, "watches"
			if s.Control {
				role = "controls"
			}
			if user == "" {
				user, role = "-", "logs in"
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Account, user, role, s.Viewer, when(s.Since))
		}
		return w.Flush()
	}}
}

func endCommand(out io.Writer) *command {
	all := false
	return &command{
		name: "end", args: "ID",
		flags: func(fs *flag.FlagSet) { fs.BoolVar(&all, "all", false, "end every session") },
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			q := part.Request{Op: part.OpEnd}
			switch {
			case all && len(args) == 0:
			case !all && len(args) == 1:
				id, err := strconv.ParseUint(args[0], 10, 32)
				if err != nil || id == 0 {
					return &usageError{fmt.Sprintf("hostd end: %q is no session; \"hostd sessions\" lists them", args[0])}
				}
				q.ID = uint32(id)
			default:
				return &usageError{"hostd end: give it the ID of one session, or --all; \"hostd sessions\" lists them"}
			}
			r, err := part.Ask(ctx, c.Socket(), q)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "ended: %d\n", r.Count)
			return nil
		},
	}
}

func recordCommand(out io.Writer) *command {
	return &command{
		name: "record", args: "start | stop",
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			if len(args) != 1 || args[0] != "start" && args[0] != "stop" {
				return &usageError{"hostd record: write \"hostd record start\" or \"hostd record stop\""}
			}
			r, err := part.Ask(ctx, c.Socket(), part.Request{Op: part.OpRecord, On: args[0] == "start"})
			if err != nil {
				return err
			}
			if args[0] == "start" {
				fmt.Fprintf(out, "recording is on, for %d sessions of now and those to come; the files are in %s\n", r.Count, desktop.RecordingsDir(c.NetStateDir()))
			} else {
				fmt.Fprintln(out, "recording is off")
			}
			return nil
		},
	}
}

func unlockCommand(out io.Writer) *command {
	code := false
	return &command{
		name: "unlock", args: "[USER]",
		flags: func(fs *flag.FlagSet) { fs.BoolVar(&code, "code", false, "of the access code") },
		run: func(ctx context.Context, c *conf.Host, args []string) error {
			if len(args) > 1 || len(args) == 1 && code {
				return &usageError{"hostd unlock: give it one user name, or --code, or nothing for all"}
			}
			q := part.Request{Op: part.OpUnlock, Code: code}
			if len(args) == 1 {
				q.User = args[0]
			}
			r, err := part.Ask(ctx, c.Socket(), q)
			if errors.Is(err, part.ErrNotRunning) {
				r.Count, err = login.Unlock(c.StateDir, q.User, q.Code)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "forgotten: the failures of %d\n", r.Count)
			return nil
		},
	}
}

// Fingerprints are how this computer can be recognised.
type Fingerprints struct {
	Certificate string `json:"certificate,omitempty"` // SHA-256 of the RFB server's, which viewers show
	Pin         string `json:"pin,omitempty"`         // SHA-256 of its public key, which TigerVNC shows
	RSA         string `json:"rsa,omitempty"`         // of the RFB server's key for RSA-AES, as viewers show it
	Tunnel      string `json:"tunnel,omitempty"`      // of the key that the relay knows
	Relay       string `json:"relay,omitempty"`       // of the relay's key that this computer insists on
	RelayAddr   string `json:"relay_address,omitempty"`
}

func fingerprintCommand(out io.Writer) *command {
	asJSON := false
	return &command{name: "fingerprint", flags: jsonFlag(&asJSON), run: func(_ context.Context, c *conf.Host, args []string) error {
		if err := noArgs("fingerprint", args); err != nil {
			return err
		}
		f, err := fingerprints(c.NetStateDir())
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(out, f)
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, l := range [][2]string{
			{"certificate of this computer (viewers through the SSH door show it)", f.Certificate},
			{"the same, as TigerVNC shows it (pin-sha256)", f.Pin},
			{"its RSA key (viewers with RSA-AES show it, browsers among them)", f.RSA},
			{"key of this computer's tunnel", f.Tunnel},
			{"key of the relay " + f.RelayAddr, f.Relay},
		} {
			if l[1] == "" {
				l[1] = "none yet"
			}
			fmt.Fprintf(w, "%s\t%s\n", l[0], l[1])
		}
		return w.Flush()
	}}
}

// fingerprints reads what is there and makes nothing.
func fingerprints(dir string) (Fingerprints, error) {
	var f Fingerprints
	have := func(name string) (bool, error) {
		_, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	ok, err := have(desktop.CertificateFile)
	if err != nil {
		return f, err
	}
	if ok {
		cert, err := desktop.Certificate(dir)
		if err != nil {
			return f, err
		}
		f.Certificate, f.Pin = desktop.Fingerprint(cert), desktop.Pin(cert)
	}
	if ok, err = have(desktop.RSAKeyFile); err != nil {
		return f, err
	}
	if ok {
		key, err := desktop.RSAKey(dir)
		if err != nil {
			return f, err
		}
		f.RSA = key.Fingerprint()
	}
	if ok, err = have(desktop.TunnelKeyFile); err != nil {
		return f, err
	}
	if ok {
		key, err := desktop.TunnelKey(dir)
		if err != nil {
			return f, err
		}
		f.Tunnel = ssh.FingerprintSHA256(key.PublicKey())
	}
	e, err := desktop.LoadEnrolment(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f.Relay, f.RelayAddr = e.RelayKey, e.Addr
	return f, nil
}

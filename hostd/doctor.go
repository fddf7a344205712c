package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/desktop"
	"github.com/helmline/helmline/hostd/login"
	"github.com/helmline/helmline/hostd/part"
)

// A finding is one line of the doctor: what was looked at, what was found, and what to do if it is not right.
type finding struct {
	what   string
	found  string
	remedy string // empty: all is well
}

var errSick = errors.New("see the lines with \"!\"")

func doctorCommand(out io.Writer) *command {
	var config flag.Value
	return &command{name: "doctor", flags: func(fs *flag.FlagSet) { config = fs.Lookup("config").Value }, run: func(ctx context.Context, c *conf.Host, args []string) error {
		if err := noArgs("doctor", args); err != nil {
			return err
		}
		sick := false
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range examine(ctx, c, toRun("code set", config)) {
			mark := "ok"
			if f.remedy != "" {
				mark, sick = "!", true
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.what, f.found)
			if f.remedy != "" {
				fmt.Fprintf(w, "\t\t→ %s\n", f.remedy)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if sick {
			return errSick
		}
		return nil
	}}
}

func examine(ctx context.Context, c *conf.Host, setLine string) []finding {
	status, daemon := examineDaemon(ctx, c)
	return []finding{
		{what: "settings", found: "right"},
		daemon,
		examineFolder(c),
		examineNet(ctx, c),
		examineRelay(ctx, c, status),
		examineScreen(c, status),
		examinePAM(c),
		examineCode(ctx, c, setLine),
		examineClock(),
	}
}

func examineDaemon(ctx context.Context, c *conf.Host) (*part.Status, finding) {
	f := finding{what: "hostd"}
	r, err := part.Ask(ctx, c.Socket(), part.Request{Op: part.OpStatus})
	switch {
	case errors.Is(err, part.ErrNotRunning):
		f.found, f.remedy = "not running", "systemctl start hostd, or hostd serve"
	case err != nil:
		f.found, f.remedy = err.Error(), "ask as root"
	case !r.Status.Net:
		f.found, f.remedy = "runs, without hostd-net", "systemctl status hostd-net, or see the log of hostd"
	default:
		f.found = fmt.Sprintf("runs, version %s, process %d", r.Status.Version, r.Status.PID)
	}
	return r.Status, f
}

func examineFolder(c *conf.Host) finding {
	f := finding{what: "state", found: c.StateDir}
	var st unix.Stat_t
	err := unix.Stat(c.StateDir, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.found += " does not exist yet"
		f.remedy = "start hostd"
	case err != nil:
		f.found, f.remedy = err.Error(), "ask as root"
	case st.Mode&0o077 != 0:
		f.found, f.remedy = fmt.Sprintf("%s is open to others (mode %04o)", c.StateDir, st.Mode&0o7777), "chmod 700 "+c.StateDir
	default:
		var room unix.Statfs_t
		if err := unix.Statfs(c.StateDir, &room); err == nil && room.Bavail*uint64(room.Bsize) < 1<<20 {
			f.found, f.remedy = c.StateDir+": the disk is full, so nobody can log in", "free some space"
		}
	}
	return f
}

func examineNet(ctx context.Context, c *conf.Host) finding {
	f := finding{what: "hostd-net", found: "runs as the same user"}
	if os.Geteuid() != 0 {
		return f
	}
	a, err := part.NetUser(ctx, c.Net.User)
	if err != nil {
		f.found, f.remedy, _ = strings.Cut(err.Error(), "; ")
		return f
	}
	f.found = fmt.Sprintf("runs as %s (%d)", a.Name, a.UID)
	var st unix.Stat_t
	if err := unix.Stat(c.NetStateDir(), &st); err == nil && (st.Uid != a.UID || st.Mode&0o077 != 0) {
		f.found = fmt.Sprintf("%s is not its own (user %d, mode %04o)", c.NetStateDir(), st.Uid, st.Mode&0o7777)
		f.remedy = fmt.Sprintf("chown -R %s %s && chmod 700 %s", a.Name, c.NetStateDir(), c.NetStateDir())
	}
	return f
}

func examineRelay(ctx context.Context, c *conf.Host, s *part.Status) finding {
	f := finding{what: "relay"}
	e, err := desktop.LoadEnrolment(c.NetStateDir())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.found, f.remedy = "not enrolled", "hostd enroll TOKEN, with the token that \"relayd host invite\" prints"
		return f
	case errors.Is(err, fs.ErrPermission):
		f.found, f.remedy = err.Error(), "ask as root"
		return f
	case err != nil:
		f.found, f.remedy = err.Error(), "hostd enroll TOKEN"
		return f
	case s != nil && s.Online:
		f.found = fmt.Sprintf("online at %s as %q", e.Addr, e.Name)
		return f
	}
	f.remedy = "see the log of hostd-net"
	if s != nil && s.OnlineError != "" {
		f.found = fmt.Sprintf("%s: %s", e.Addr, s.OnlineError)
		return f
	}
	d := net.Dialer{Timeout: 3 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", e.Addr)
	if err != nil {
		f.found, f.remedy = err.Error(), "check this computer's network, and that relayd runs there"
		return f
	}
	conn.Close()
	f.found = e.Addr + " answers, but there is no tunnel"
	if s == nil {
		f.remedy = "start hostd"
	}
	return f
}

func examineScreen(c *conf.Host, s *part.Status) finding {
	f := finding{what: "screen", found: "a virtual display for each user"}
	source := c.Display.Source
	if source == "virtual" || source == "auto" && (s == nil || s.Seat == part.SeatNone.String()) {
		for _, name := range []string{"Xtigervnc", "Xvfb"} {
			for _, dir := range []string{"/usr/bin", "/usr/local/bin"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
					f.found += " (" + name + ")"
					return f
				}
			}
		}
		f.found, f.remedy = "no screen, and no program for a virtual display", "apt install tigervnc-standalone-server"
		return f
	}
	if source == "auto" {
		f.found = s.Seat
		return f
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(source, ":"), ".")
	socket := "/tmp/.X11-unix/X" + number
	conn, err := net.DialTimeout("unix", socket, 3*time.Second)
	if err != nil {
		f.found, f.remedy = fmt.Sprintf("display %s: %v", source, err), "start the X server, or set [display] source = \"auto\""
		return f
	}
	conn.Close()
	f.found = "display " + source + " answers"
	return f
}

func examinePAM(c *conf.Host) finding {
	f := finding{what: "passwords"}
	p := findPAM(c)
	service := filepath.Join("/etc/pam.d", c.Login.PAMService)
	_, err := os.Stat(service)
	switch {
	case !p.Available():
		f.found, f.remedy = "hostd-pam is not installed, so only the access code opens this computer", "install hostd-pam beside hostd"
	case err != nil:
		f.found, f.remedy = service+" is missing, so the rules of /etc/pam.d/other hold", "install the file systemd/hostd.pam as "+service
	default:
		f.found = fmt.Sprintf("%s asks the PAM service %s", p.Helper, c.Login.PAMService)
	}
	return f
}

func examineCode(ctx context.Context, c *conf.Host, setLine string) finding {
	f := finding{what: "access code"}
	code, err := login.LoadCode(c.StateDir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		f.found, f.remedy = "not readable", "ask as root"
	case err != nil:
		f.found, f.remedy = err.Error(), setLine
	case code == nil:
		f.found = "none is set"
		if who := openUser(ctx, "/"); who != "" {
			f.found += ", and " + who + " gets in without a password"
			f.remedy = setLine
		}
	default:
		f.found = "opens this computer as " + code.User
		if _, err := code.Account(ctx); err != nil {
			f.found, f.remedy = err.Error(), setLine
		} else if want := c.Login.AccessAccount; want != "" && want != code.User {
			f.found, f.remedy = fmt.Sprintf("was set for %s, but login.access_account is %s", code.User, want), setLine
		}
	}
	return f
}

func examineClock() finding {
	f := finding{what: "clock", found: time.Now().Format(time.DateTime)}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		f.found += ", not synchronised"
		if time.Now().Year() < 2026 {
			f.remedy = "set it; certificates and lock-outs go by it"
		}
	}
	return f
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
	"github.com/helmline/helmline/hostd/part"
	"github.com/helmline/helmline/hostd/power"
	"github.com/helmline/helmline/hostd/screen"
)

func serveCommand() *command {
	return &command{name: "serve", run: func(ctx context.Context, c *conf.Host, args []string) error {
		if err := noArgs("serve", args); err != nil {
			return err
		}
		return serve(ctx, c, newLog(c.Log, "hostd", os.Stderr))
	}}
}

// serve is the monitor: it runs until ctx ends. It has no network; hostd-net has that.
func serve(ctx context.Context, c *conf.Host, log *slog.Logger) error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core files off: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := ownDir(c.StateDir); err != nil {
		return err
	}
	lock, err := lockDir(c.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	epoch, err := part.NextEpoch(c.StateDir)
	if err != nil {
		log.Error("count the starts of hostd", "err", err)
	}
	pam := findPAM(c)
	logins, err := login.New(ctx, login.Config{StateDir: c.StateDir, PAM: pam, AccessAccount: c.Login.AccessAccount, Log: log})
	if err != nil {
		return err
	}
	parts, err := findParts(ctx, c, log)
	if err != nil {
		return err
	}
	defer parts.Close()
	seat, err := screen.NewSeat(ctx, c.Display.Source, log)
	if err != nil {
		return err
	}
	socket, err := part.ListenControl(c.Socket())
	if err != nil {
		return err
	}
	m := part.New(part.Config{
		Log: log, Version: versionText(), Name: name, Epoch: epoch,
		Parts: parts, Seat: seatOf(seat, c.Display.Xauthority), Login: logins, Lookup: login.LookupID,
		Admins: c.Login.Admins, TakeForce: c.Policy.TakeForce, CodeFirst: codeFirst(c.Login.CodeFirst),
		RequireE2E: c.Policy.RequireE2E, MaxSessions: c.Policy.MaxSessions, Size: c.Display.Pixels(), Clipboard: clipboard(c.Policy.Clipboard),
		Ends: power.End,
		Recording: part.Recording{
			Allowed: c.Policy.Recording == conf.RecordAllowed, Required: c.Policy.Recording == conf.RecordRequired,
			Space: int64(c.Policy.RecordSpace) << 20, Keep: time.Duration(c.Policy.RecordDays) * 24 * time.Hour, Key: c.Policy.PublicRecordKey(),
		},
	})
	log.Info("hostd runs", "version", versionText(), "socket", c.Socket(), "root", os.Geteuid() == 0, "passwords", pam.Available())
	inner, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx until the relay knows
	defer stop()
	g, inner := errgroup.WithContext(inner)
	g.Go(func() error { return m.Run(inner) })
	g.Go(func() error { return m.ServeControl(inner, socket) })
	g.Go(func() error { return tellSystemd(inner, m) })
	g.Go(func() error {
		power.Watch(inner, log, m.Away)
		return nil
	})
	g.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
			bye, cancel := context.WithTimeout(inner, byeTime)
			defer cancel()
			m.Away(bye, tunnel.Stopped)
		case <-inner.Done():
		}
		return nil
	})
	return g.Wait()
}

// byeTime is how long hostd-net has to tell the relay that hostd stops.
const byeTime = 2 * time.Second

// tellSystemd says that hostd is ready, and from then on that it lives, if systemd wants to know.
func tellSystemd(ctx context.Context, m *part.Monitor) error {
	if err := m.Alive(ctx); err != nil {
		return err
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return err
	}
	t := time.NewTicker(interval / 3)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			daemon.SdNotify(false, daemon.SdNotifyStopping)
			return nil
		case <-t.C:
			if m.Alive(ctx) == nil {
				daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}
}

// parts are the ways to start the other parts of hostd.
type parts interface {
	part.Parts
	io.Closer
}

// findParts chooses them: systemd's units where systemd has started hostd, else children.
func findParts(ctx context.Context, c *conf.Host, log *slog.Logger) (parts, error) {
	root := os.Geteuid() == 0
	var user *login.Account
	if root {
		var err error
		if user, err = part.NetUser(ctx, c.Net.User); err != nil {
			return nil, err
		}
	}
	logFlags := []string{"-log-level", c.Log.Level, "-log-format", c.Log.Format}
	if root && part.UnderSystemd() {
		return part.NewUnits(c.NetSocket(), user.UID, logFlags, log)
	}
	if err := netDir(c.NetStateDir(), user); err != nil {
		return nil, err
	}
	return &part.Children{
		NetUser:    user,
		NetArgs:    append([]string{"net", "-fd", "3", "-state", c.NetStateDir()}, logFlags...),
		WorkerArgs: append([]string{"worker", "-fd", "3"}, logFlags...),
	}, nil
}

// findPAM finds hostd-pam beside hostd, or where distributions put helpers.
func findPAM(c *conf.Host) login.PAM {
	p := login.PAM{Service: c.Login.PAMService}
	dirs := []string{"/usr/libexec/helmline", "/usr/lib/helmline"}
	if exe, err := os.Executable(); err == nil {
		dirs = append([]string{filepath.Dir(exe)}, dirs...)
	}
	for _, dir := range dirs {
		if p.Helper = filepath.Join(dir, "hostd-pam"); p.Available() {
			return p
		}
	}
	p.Helper = ""
	return p
}

// codeFirst is the setting [login] code_first as a rule.
func codeFirst(setting string) func(codeSet bool) bool {
	return func(codeSet bool) bool {
		return setting == conf.AskCode || setting == conf.AskAuto && codeSet
	}
}

// clipboard is the setting [policy] clipboard as ways.
func clipboard(setting string) ipc.Clipboard {
	return ipc.Clipboard{
		ToHost:   setting == conf.ClipboardToHost || setting == conf.ClipboardBoth,
		ToViewer: setting == conf.ClipboardToViewer || setting == conf.ClipboardBoth,
	}
}

// A seat gives screen's view of the seat to the monitor.
type seat struct {
	screen.Seat
	xauthority string // from the settings; wins
}

func seatOf(s screen.Seat, xauthority string) part.Seat { return &seat{s, xauthority} }

// Current is what the monitor may show: without root only its own user's desktop.
func (s *seat) Current() part.SeatState {
	c := s.Seat.Current()
	if own := os.Geteuid(); own != 0 && c.Kind != screen.SeatNone && (c.Kind != screen.SeatUser || c.UID != own) {
		return part.SeatState{}
	}
	st := part.SeatState{UID: uint32(c.UID), Session: c.Session, Display: c.Display, Cookie: c.Cookie, Xauthority: c.Xauthority}
	switch c.Kind {
	case screen.SeatGreeter:
		st.Kind = part.SeatGreeter
	case screen.SeatUser:
		st.Kind = part.SeatUser
	}
	if s.xauthority != "" {
		st.Xauthority = s.xauthority
	}
	return st
}

// ownDir makes the folder of state, or checks that nobody else can change or read it.
func ownDir(dir string) error {
	if err := makeDir(dir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("state_dir %s: %w", dir, err)
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("state_dir %s belongs to user %d, not to %d as hostd does; give it a folder of its own", dir, st.Uid, os.Geteuid())
	case st.Mode&0o077 != 0:
		return fmt.Errorf("state_dir %s is open to others (mode %04o); close it: chmod 700 %s", dir, st.Mode&0o7777, dir)
	}
	return nil
}

// makeDir makes a folder, whatever the umask. Folders above it that are missing are made so that hostd-net gets through them.
func makeDir(dir string, mode os.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	switch {
	case errors.Is(err, os.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, mode)
}

// lockDir keeps a second hostd out of the folder of state, until the file is closed or hostd ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another hostd runs with the state_dir %s; stop it first", dir)
		}
		return nil, fmt.Errorf("state_dir %s: %w", dir, err)
	}
	return f, nil
}

// netDir makes the folder of hostd-net, which belongs to its user.
func netDir(dir string, user *login.Account) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, os.ErrExist):
	case err != nil:
		return fmt.Errorf("folder of hostd-net: %w", err)
	case user != nil:
		if err := os.Lchown(dir, int(user.UID), int(user.GID)); err != nil {
			return fmt.Errorf("folder of hostd-net: %w", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("folder of hostd-net: %s: %w", dir, err)
	}
	want := uint32(os.Geteuid())
	if user != nil {
		want = user.UID
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != want || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s must be a folder of user %d with mode 0700; mend it: chown %d %s && chmod 700 %s", dir, want, want, dir, dir)
	}
	if user == nil {
		return nil
	}
	return reachable(dir, user)
}

// reachable says whether a user without privilege gets to dir at all.
func reachable(dir string, user *login.Account) error {
	for d := filepath.Dir(dir); ; d = filepath.Dir(d) {
		var st unix.Stat_t
		if err := unix.Stat(d, &st); err != nil {
			return fmt.Errorf("folder of hostd-net: %s: %w", d, err)
		}
		bit := uint32(0o001)
		if st.Uid == user.UID {
			bit = 0o100
		} else if st.Gid == user.GID {
			bit = 0o010
		}
		if st.Mode&bit == 0 {
			return fmt.Errorf("%s, which runs as hostd-net, cannot reach %s, as %s is closed to it; "+
				"choose another state_dir or chmod o+x %s", user.Name, dir, d, d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

func checkCommand(out io.Writer) *command {
	return &command{name: "check", run: func(ctx context.Context, c *conf.Host, args []string) error {
		if err := noArgs("check", args); err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if _, err := part.NetUser(ctx, c.Net.User); err != nil {
				return err
			}
		}
		if a := c.Login.AccessAccount; a != "" {
			if _, err := login.Lookup(ctx, a); err != nil {
				fmt.Fprintf(out, "note: login.access_account %q: %v; the access code does not work until it exists\n", a, err)
			}
		}
		for _, a := range c.Policy.TakeForce {
			if _, err := login.Lookup(ctx, a); err != nil {
				fmt.Fprintf(out, "note: policy.take_force %q: %v; it names OS users, not accounts of the relay\n", a, err)
			}
		}
		fmt.Fprintln(out, "the settings are right")
		return nil
	}}
}

func versionCommand(out io.Writer) *command {
	return &command{name: "version", run: func(context.Context, *conf.Host, []string) error {
		fmt.Fprintln(out, "hostd", versionText())
		return nil
	}}
}

func jsonFlag(json *bool) func(*flag.FlagSet) {
	return func(fs *flag.FlagSet) { fs.BoolVar(json, "json", false, "print JSON") }
}

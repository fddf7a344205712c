package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/helmline/helmline/.ci/rig"
)

// tell writes .demo/env and prints where to point a viewer.
func (d *demo) tell(context.Context) error {
	if err := d.writeEnv(); err != nil {
		return err
	}
	fmt.Print(d.words())
	return nil
}

// writeEnv writes the facts as shell variables, whole or not at all.
func (d *demo) writeEnv() error {
	var b strings.Builder
	for _, v := range [][2]string{
		{"HELMLINE_RFB", d.reach("rfb")},
		{"HELMLINE_RFB_CODE", d.reach("rfb_code_clear")},
		{"HELMLINE_SSH", d.reach("ssh")},
		{"HELMLINE_WEB", d.site()},
		{"HELMLINE_RDP", ""}, // not built yet
		{"HELMLINE_METRICS", d.reach("metrics")},
		{"HELMLINE_ACCOUNT", account},
		{"HELMLINE_PASSWORD", d.password},
		{"HELMLINE_COMPUTER", computer},
		{"HELMLINE_CODE", d.code},
		{"HELMLINE_CA", d.place.file("ca.pem")},
		{"HELMLINE_DISPLAY", d.display},
		{"HELMLINE_RELAYD_CONFIG", d.place.file("relayd.toml")},
		{"HELMLINE_HOSTD_CONFIG", d.place.file("hostd.toml")},
		{"HELMLINE_RELAYD_PID", pids(d.relayProc)},
		{"HELMLINE_HOSTD_PID", pids(d.hostProc)},
	} {
		fmt.Fprintf(&b, "%s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return rig.WriteFile(d.place.file("env"), b.String())
}

// reach is the address of a door as a viewer on this machine dials it.
func (d *demo) reach(door string) string {
	host, port, _ := net.SplitHostPort(d.doors[door])
	if host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// site is the address of the pages. The relay's own certificate names localhost.
func (d *demo) site() string {
	_, port, _ := net.SplitHostPort(d.doors["web"])
	return "https://localhost:" + port
}

// pids is a daemon's process and those it has started, separated by spaces.
func pids(p *rig.Process) string {
	all := []string{strconv.Itoa(p.Pid)}
	children := rig.Children(p.Pid)
	slices.Sort(children)
	for _, c := range children {
		all = append(all, strconv.Itoa(c))
	}
	return strings.Join(all, " ")
}

func (d *demo) words() string {
	port := func(door string) string { _, p, _ := net.SplitHostPort(d.doors[door]); return p }
	b := &strings.Builder{}
	fmt.Fprintf(b, `
Helmline is up. Point a browser or a viewer at it:

  account   %s          password     %s
  computer  %s                       access code  %s   (type it into the log-on form)

  a browser           %s   (which will warn of the relay's own certificate)
  TigerVNC            VNC_USERNAME=%s/%s VNC_PASSWORD=%s \
                        vncviewer -X509CA=%s localhost::%s
  Remmina, gvncviewer server localhost:%s, user name %s/%s, CA file %s
  no user names       bin/relayd code %s %s --config %s
                        prints a one-time code; it is the VNC password at localhost::%s
  end to end, by SSH  ssh -p %s -N -L 5999:%s:5900 %s@localhost
                        and then vncviewer localhost::5999

  Add /watch behind the user name to look only, or /take to ask for control.
  Scripts: .demo/env. Logs: .demo/*.log. The relay's state and this text's secrets are thrown away at the end.
  Ctrl-C ends everything.

`, account, d.password, computer, d.code,
		d.site(), account, computer, d.password, d.place.file("ca.pem"), port("rfb"),
		port("rfb"), account, computer, d.place.file("ca.pem"),
		account, computer, d.place.file("relayd.toml"), port("rfb_code_clear"),
		port("ssh"), computer, account)
	return b.String()
}

// How often a daemon may end within restartTime before the demonstration gives up.
const (
	maxRestarts = 10
	restartTime = time.Minute
)

// watch waits for ctx. A daemon that ends meanwhile is started again, as systemd would; without its desktop the demonstration
// is over.
func (d *demo) watch(ctx context.Context) error {
	var screen <-chan struct{} // nil where the display is not ours
	if d.desktop != nil {
		screen = d.desktop.Server.Done()
	}
	var ends []time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-screen:
			return fmt.Errorf("the virtual display ended (%w)", d.desktop.Server.Err())
		case <-d.relayProc.Done():
			say("relayd ended (%v); starting it again", d.relayProc.Err())
			d.relayProc, err = d.again(ctx, d.relayd, d.relayProc)
		case <-d.hostProc.Done():
			say("hostd ended (%v); starting it again", d.hostProc.Err())
			d.hostProc, err = d.again(ctx, d.hostd, d.hostProc)
		}
		if err != nil {
			return err
		}
		if err := d.writeEnv(); err != nil {
			return err
		}
		ends = slices.DeleteFunc(append(ends, time.Now()), func(t time.Time) bool { return time.Since(t) > restartTime })
		if len(ends) > maxRestarts {
			return fmt.Errorf("%d ends within %v are too many; see .demo/relayd.log and .demo/hostd.log", len(ends), restartTime)
		}
	}
}

// again starts a daemon anew after what is left of the old one is gone.
func (d *demo) again(ctx context.Context, daemon *rig.Daemon, old *rig.Process) (*rig.Process, error) {
	old.Clear()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return daemon.Serve(ctx)
}

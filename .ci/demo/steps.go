package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jezek/xgb"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// Who and what the demonstration is about.
const (
	account     = "alice@example.com"
	computer    = "desk"
	desktopUser = "helmline-demo"
	networkUser = "helmline-demo-net"
	desktopSize = "1280x800"
)

// A demo is one run. Its steps are called in the order of run.
type demo struct {
	place   *place
	set     *rig.Set
	address string

	owner   *rig.User    // of the desktop; nil: who runs this
	net     *rig.User    // of hostd-net; nil: who runs this
	desktop *rig.Desktop // nil: this machine's own

	display, cookies string // what hostd is told
	doors            map[string]string
	password, code   string

	relayd, hostd       *rig.Daemon
	relayProc, hostProc *rig.Process
}

// packages installs what a virtual display needs, if one is needed. It may take as long as the downloads do.
func (d *demo) packages(context.Context) error {
	if d.ownDisplay() {
		return nil
	}
	install := exec.Command(".ci/install", "demo") // Ctrl-C reaches it as it does this program
	install.Stdout, install.Stderr = os.Stdout, os.Stderr
	if err := install.Run(); err != nil {
		return fmt.Errorf("install what a virtual display needs: %w", err)
	}
	return nil
}

// users makes, as root, one user for the desktop and one for the part of hostd that talks to the network.
func (d *demo) users(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return nil
	}
	if d.net, err = d.set.MakeUser(ctx, networkUser, true); err != nil {
		return err
	}
	if d.ownDisplay() {
		return nil
	}
	d.owner, err = d.set.MakeUser(ctx, desktopUser, false)
	return err
}

// ownDisplay says whether this machine has a display that can be shown, and whose it is: that of DISPLAY, if it belongs to an
// ordinary user.
func (d *demo) ownDisplay() bool {
	d.display, d.cookies = os.Getenv("DISPLAY"), os.Getenv("XAUTHORITY")
	if !strings.HasPrefix(d.display, ":") {
		return false
	}
	if d.cookies == "" {
		d.cookies = filepath.Join(os.Getenv("HOME"), ".Xauthority")
	}
	if os.Geteuid() == 0 {
		st, err := os.Stat(d.cookies)
		if err != nil || st.Sys().(*syscall.Stat_t).Uid == 0 {
			return false
		}
		u, err := user.LookupId(strconv.Itoa(int(st.Sys().(*syscall.Stat_t).Uid)))
		if err != nil {
			return false
		}
		if d.owner, err = rig.LookupUser(u.Username); err != nil {
			return false
		}
	}
	conn, err := xgb.NewConnDisplay(d.display)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// screen takes this machine's display or makes a virtual one with a window manager and a terminal.
func (d *demo) screen(ctx context.Context) error {
	if (d.owner == nil || d.owner.Name != desktopUser) && d.ownDisplay() {
		say("the desktop is this machine's display %s", d.display)
		return nil
	}
	dir, err := d.place.folder("desktop", d.owner)
	if err != nil {
		return err
	}
	if d.desktop, err = d.set.StartDesktop(ctx, d.owner, rig.Xtigervnc, desktopSize, dir, d.place.file("desktop.log")); err != nil {
		return err
	}
	d.display, d.cookies = d.desktop.Display, d.desktop.Xauthority
	if _, err := d.desktop.WindowManager(ctx); err != nil {
		return err
	}
	if _, err := d.desktop.Terminal(ctx, "90x28+60+60", "Terminal on "+computer); err != nil {
		return err
	}
	say("the desktop is a virtual display, %s, of %s", d.display, d.ownerName())
	return nil
}

// ownerName is the OS user whose desktop it is.
func (d *demo) ownerName() string {
	if d.owner != nil {
		return d.owner.Name
	}
	u, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

const loopback = "127.0.0.1"

// A door is a port that relayd opens, by default.
type door struct {
	name, address string
	port          int
}

// settings chooses the ports and writes both settings files.
func (d *demo) settings(context.Context) error {
	d.doors = make(map[string]string)
	// On loopback the code door takes viewers without TLS as well; where others can come, they have a door of their own.
	doors := []door{{"ssh", d.address, 2222}, {"rfb", d.address, 5900}, {"rfb_code_clear", loopback, 5901}, {"web", d.address, 8443}, {"metrics", loopback, 9590}}
	if !netip.MustParseAddr(d.address).IsLoopback() {
		doors[2].port = 5902
		doors = append(doors, door{"rfb_code", d.address, 5901})
	}
	for _, p := range doors {
		var err error
		if d.doors[p.name], err = d.free(p.address, p.port); err != nil {
			return err
		}
	}
	relay := fmt.Sprintf("# Written by make demo.\nname = \"127.0.0.1\"\nstate_dir = %q\n", filepath.Join(d.place.state, "relayd"))
	for _, door := range []string{"ssh", "rfb", "web", "metrics"} {
		relay += fmt.Sprintf("\n[%s]\nlisten = %q\n", door, d.doors[door])
	}
	relay += fmt.Sprintf("\n[rfb_code]\nlisten = %q\nclear_listen = %q\n", d.doors["rfb_code"], d.doors["rfb_code_clear"])
	host := fmt.Sprintf("# Written by make demo.\nstate_dir = %q\n\n[display]\nsource = %q\nsize = %q\nxauthority = %q\n\n[login]\naccess_account = %q\n",
		filepath.Join(d.place.state, "hostd"), d.display, desktopSize, d.cookies, d.ownerName())
	if d.net != nil {
		host += fmt.Sprintf("\n[net]\nuser = %q\n", d.net.Name)
	}
	for file, text := range map[string]string{"relayd.toml": relay, "hostd.toml": host} {
		if err := os.WriteFile(d.place.file(file), []byte(text), 0o644); err != nil { // no secret; every part of hostd reads it
			return err
		}
	}
	d.relayd = d.set.Relay(d.place.bin, d.place.file("relayd.toml"), d.place.file("relayd.log"))
	d.hostd = d.set.Host(d.place.bin, d.place.file("hostd.toml"), d.place.file("hostd.log"))
	return nil
}

// free gives the address with its default port, or with a free one where that is busy.
func (d *demo) free(address string, port int) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	for err != nil || d.taken(l.Addr().String()) {
		if l != nil {
			l.Close()
		}
		if l, err = net.Listen("tcp", net.JoinHostPort(address, "0")); err != nil {
			return "", err
		}
		say("port %d is busy; taking another", port)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (d *demo) taken(address string) bool {
	for _, other := range d.doors {
		if other == address {
			return true
		}
	}
	return false
}

func (d *demo) relay(ctx context.Context) (err error) {
	d.relayProc, err = d.relayd.Serve(ctx)
	return err
}

func (d *demo) host(ctx context.Context) (err error) {
	d.hostProc, err = d.hostd.Serve(ctx)
	return err
}

// people makes the account, enrols the computer and sets its access code, as README tells people to.
func (d *demo) people(ctx context.Context) error {
	d.password, d.code = rig.Secret(12), rig.Secret(10)
	if _, err := d.relayd.Do(ctx, d.password+"\n", "account", "add", account, "--admin", "--password-stdin"); err != nil {
		return err
	}
	if err := rig.Enrol(ctx, d.relayd, d.hostd, account, computer); err != nil {
		return err
	}
	_, err := d.hostd.Do(ctx, d.code+"\n", "code", "set", "--stdin")
	return err
}

// try opens a session as a viewer does, up to the first picture of the log-on form: only then everything is ready.
func (d *demo) try(ctx context.Context) error {
	if err := rig.CopyFile(d.caFile(), d.place.file("ca.pem"), 0o644); err != nil {
		return err
	}
	pem, err := os.ReadFile(d.place.file("ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return rig.Until(ctx, "no session can be opened", func() (bool, error) {
		c, err := rfbtest.Dial(ctx, d.doors["rfb"], rfbtest.Config{
			Security: uint8(rfb.SecVeNCrypt), Roots: roots, ServerName: "localhost", User: account + "/" + computer, Password: d.password})
		if err != nil {
			return false, err
		}
		defer c.Close()
		err = c.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > 0 }, 5*time.Second)
		return err == nil, err
	})
}

// caFile is the certificate that relayd has made itself.
func (d *demo) caFile() string { return filepath.Join(d.place.state, "relayd", "tls.pem") }

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
)

// Names and addresses of the parties.
const (
	RelayName  = "relay.helmline.test"
	relayFront = "10.78.1.1" // where viewers reach the relay
	relayBack  = "10.78.2.1" // where the computer does
	viewerAddr = "10.78.1.2"
	hostAddr   = "10.78.2.2"

	PortSSH     = "2222"
	PortRFB     = "5900"
	PortCode    = "5901" // X509Vnc
	PortClear   = "5902" // on the relay's loopback: VncAuth too
	PortMetrics = "9590"
	PortWeb     = "8443"

	Account  = "alice@example.com"
	Computer = "desk"
)

// Options of a World. The zero value is what most tests want.
type Options struct {
	Size   string        // of the desktop; "" is 1024x768
	Server string        // the desktop's; "" is rig.Xvfb, whose size does not change
	Relay  string        // more of relayd.toml
	Host   string        // more of hostd.toml; sections [display], [login] and [net] are there already
	Login  string        // more of its section [login]
	Seat   string        // display that hostd shows instead of Desk, as in ":90"; it need not be there yet. "virtual": one that hostd makes
	Turbo  bool          // hostd is one with libjpeg-turbo, as in packages
	Empty  bool          // no account yet, and no computer: hostd runs and has not been enrolled
	Time   time.Duration // for the whole test; 0 is three minutes
}

// A World is one relay, one computer with a desktop, and one account, all up and joined.
type World struct {
	T   *testing.T
	Ctx context.Context // ends with the test's time
	Set *rig.Set
	Dir string // of this test: state, logs; others may pass through
	Net *rig.Network

	Owner, NetUser, Viewer, RelayUser *rig.User

	Relayd, Hostd       *rig.Daemon
	RelayProc, HostProc *rig.Process
	Desk                *rig.Desktop // the computer's

	Password string // of Account
	Code     string // Computer Access Code, for Owner
	CA       string // the relay's certificate
	HostCA   string // the computer's own

	viewers  []*Viewer
	captures int // of networks
}

// binaries are built once, by TestMain, and not changed afterwards. turbo has a hostd with libjpeg-turbo.
var binaries, turbo rig.Binaries

// NewWorld starts everything and returns when the computer is online. The test's end takes it away again.
func NewWorld(t *testing.T, o Options) *World {
	t.Helper()
	if o.Size == "" {
		o.Size = "1024x768"
	}
	if o.Server == "" {
		o.Server = rig.Xvfb
	}
	if o.Time == 0 {
		o.Time = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), o.Time)
	w := &World{T: t, Ctx: ctx, Set: new(rig.Set), Password: rig.Secret(12), Code: rig.Secret(10)}
	var err error
	w.Dir, err = os.MkdirTemp("/tmp", "helmline-e2e-")
	w.Check(err)
	w.Check(os.Chmod(w.Dir, 0o711))
	t.Cleanup(func() {
		if t.Failed() {
			w.keep()
		}
		cancel()
		w.Set.Close()
		os.RemoveAll(w.Dir)
	})
	w.makeUsers()
	w.makeNetwork()
	w.startDesktop(o)
	w.startRelay(o)
	w.startHost(o)
	if o.Empty {
		return w
	}
	w.HostCA = w.file("host-ca.pem")
	w.Until("the computer has a certificate", func() (bool, error) {
		err := rig.CopyFile(filepath.Join(w.Dir, "hostd-net", "cert.pem"), w.HostCA, 0o644)
		return err == nil, err
	})
	return w
}

func (w *World) makeUsers() {
	for _, u := range []struct {
		user   **rig.User
		name   string
		system bool
	}{{&w.Owner, "helmline-e2e", false}, {&w.Viewer, "helmline-e2e-view", false}, {&w.NetUser, "helmline-e2e-net", true}, {&w.RelayUser, "helmline-e2e-relay", true}} {
		var err error
		*u.user, err = w.Set.MakeUser(w.Ctx, u.name, u.system)
		w.Check(err)
	}
}

func (w *World) makeNetwork() {
	w.Net = w.Set.NewNetwork("hl-e2e-")
	for _, party := range []string{"viewer", "relay", "host"} {
		w.Check(w.Net.Add(w.Ctx, party))
	}
	w.Check(w.Net.Join(w.Ctx, "viewer", viewerAddr+"/24", "relay", relayFront+"/24"))
	w.Check(w.Net.Join(w.Ctx, "host", hostAddr+"/24", "relay", relayBack+"/24"))
	w.Check(w.Net.Hosts("viewer", map[string]string{RelayName: relayFront}))
	w.Check(w.Net.Hosts("host", map[string]string{RelayName: relayBack}))
	w.Check(w.Net.Hosts("relay", map[string]string{RelayName: "127.0.0.1"}))
	w.Check(w.Net.DropInbound(w.Ctx, "host"))
}

func (w *World) startDesktop(o Options) {
	var err error
	w.Desk, err = w.Set.StartDesktop(w.Ctx, w.Owner, o.Server, o.Size, w.folder("desktop", w.Owner), w.file("desktop.log"))
	w.Check(err)
	_, err = w.Desk.WindowManager(w.Ctx)
	w.Check(err)
}

func (w *World) startRelay(o Options) {
	w.folder("relayd", w.RelayUser)
	config := fmt.Sprintf(`name = %q
state_dir = %q
[ssh]
listen = ":%s"
[rfb]
listen = ":%s"
[rfb_code]
listen = ":%s"
clear_listen = "127.0.0.1:%s"
[metrics]
listen = "127.0.0.1:%s"
[web]
listen = ":%s"
`, RelayName, w.file("relayd"), PortSSH, PortRFB, PortCode, PortClear, PortMetrics, PortWeb)
	w.Check(os.WriteFile(w.file("relayd.toml"), []byte(config+o.Relay), 0o644))
	w.Relayd = w.Set.Relay(binaries, w.file("relayd.toml"), w.log("relayd"))
	w.Relayd.User, w.Relayd.Network = w.RelayUser, w.Net.Name("relay")
	w.RestartRelay()
	if !o.Empty {
		w.AddAccount(Account, w.Password)
	}
	w.CA = w.file("ca.pem")
	w.Check(rig.CopyFile(filepath.Join(w.file("relayd"), "tls.pem"), w.CA, 0o644))
}

// RestartRelay starts relayd, again or for the first time, and returns when it is ready.
func (w *World) RestartRelay() {
	var err error
	w.RelayProc, err = w.Relayd.Serve(w.Ctx)
	w.Check(err)
}

// AddAccount makes an account.
func (w *World) AddAccount(email, password string) {
	_, err := w.Relayd.Do(w.Ctx, password+"\n", "account", "add", email, "--password-stdin")
	w.Check(err)
}

func (w *World) startHost(o Options) {
	source, xauthority := w.Desk.Display, w.Desk.Xauthority
	if o.Seat != "" {
		source, xauthority = o.Seat, ""
	}
	config := fmt.Sprintf(`state_dir = %q
[display]
source = %q
size = %q
xauthority = %q
[login]
access_account = %q
%s
[net]
user = %q
`, w.file("hostd"), source, o.Size, xauthority, w.Owner.Name, o.Login, w.NetUser.Name)
	w.Check(os.WriteFile(w.file("hostd.toml"), []byte(config+o.Host), 0o644))
	from := binaries
	if o.Turbo {
		from = turbo
	}
	w.Hostd = w.Set.Host(from, w.file("hostd.toml"), w.log("hostd"))
	w.Hostd.Network = w.Net.Name("host")
	w.RestartHost()
	if o.Empty {
		return
	}
	w.Check(rig.Enrol(w.Ctx, w.Relayd, w.Hostd, Account, Computer))
	_, err := w.Hostd.Do(w.Ctx, w.Code+"\n", "code", "set", "--stdin")
	w.Check(err)
	w.WaitOnline()
}

// RestartHost starts hostd, again or for the first time, and returns when it is ready; it need not be online yet.
func (w *World) RestartHost() {
	var err error
	w.HostProc, err = w.Hostd.Serve(w.Ctx)
	w.Check(err)
}

// WaitOnline returns when the relay says that the computer is online.
func (w *World) WaitOnline() {
	w.Until("the computer is online", func() (bool, error) {
		computers, err := w.Computers()
		return err == nil && len(computers) > 0 && computers[0].Online, err
	})
}

// Until waits for a condition, and fails the test when its time is over before.
func (w *World) Until(what string, come func() (bool, error)) {
	w.T.Helper()
	w.Check(rig.Until(w.Ctx, what, come))
}

// Within is Until with a limit of its own.
func (w *World) Within(limit time.Duration, what string, come func() (bool, error)) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.Ctx, limit)
	defer cancel()
	w.Check(rig.Until(ctx, what, come))
}

// Check ends the test with the error, if there is one.
func (w *World) Check(err error) {
	if err != nil {
		w.T.Helper()
		w.T.Fatal(err)
	}
}

// Run is a part of the test that has a name.
func (w *World) Run(name string, f func()) {
	outer := w.T
	outer.Run(name, func(t *testing.T) {
		w.T = t
		defer func() { w.T = outer }()
		f()
	})
}

func (w *World) file(name string) string { return filepath.Join(w.Dir, name) }

func (w *World) log(name string) string { return filepath.Join(w.Dir, name+".log") }

// folder makes a folder that belongs to a user.
func (w *World) folder(name string, u *rig.User) string {
	dir := w.file(name)
	w.Check(os.Mkdir(dir, 0o700))
	if u != nil {
		w.Check(os.Chown(dir, u.UID, u.GID))
	}
	return dir
}

// keep copies logs and takes pictures of the screens into .ci/artefacts.
func (w *World) keep() {
	dir := filepath.Join("..", "artefacts", strings.ReplaceAll(w.T.Name(), "/", "-"))
	os.RemoveAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.T.Log(err)
		return
	}
	logs, _ := filepath.Glob(filepath.Join(w.Dir, "*.log"))
	for _, l := range logs {
		if err := rig.CopyFile(l, filepath.Join(dir, filepath.Base(l)), 0o644); err != nil {
			w.T.Log(err)
		}
	}
	screens := map[string]*rig.Desktop{"desktop": w.Desk}
	for i, v := range w.viewers {
		screens[fmt.Sprintf("viewer%d-%s", i+1, v.Name)] = v.Screen
	}
	for name, d := range screens {
		if d == nil {
			continue
		}
		m, err := Shot(d)
		if err == nil {
			err = savePNG(filepath.Join(dir, name+".png"), m)
		}
		if err != nil {
			w.T.Log(err)
		}
		w.keepOutput(filepath.Join(dir, name+"-windows.txt"), d.Env(), "xwininfo", "-root", "-tree")
	}
	w.keepOutput(filepath.Join(dir, "processes.txt"), nil, "ps", "-eo", "pid,ppid,user,stat,wchan:20,lstart,args", "--forest")
	w.T.Logf("logs and pictures are in %s", dir)
	for _, l := range []string{"relayd", "hostd"} {
		w.T.Logf("%s:\n%s", l, rig.Tail(w.log(l), 15))
	}
}

// keepOutput writes what a program prints into a file.
func (w *World) keepOutput(path string, env []string, args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the test's own time may be over
	defer cancel()
	out, err := w.Set.Output(ctx, rig.Program{Args: args, Env: env})
	if err == nil {
		err = os.WriteFile(path, []byte(out), 0o644)
	}
	if err != nil {
		w.T.Log(err)
	}
}

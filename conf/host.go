package conf

import (
	"encoding/base64"
	"fmt"
	"image"
	"path/filepath"
	"slices"
)

// Host is what hostd can be told.
type Host struct {
	StateDir string  `toml:"state_dir"` // access code, failures, epoch; absolute, 0700, root's
	Display  Display `toml:"display"`
	Login    Login   `toml:"login"`
	Policy   Policy  `toml:"policy"`
	Net      Net     `toml:"net"`
	Log      Log     `toml:"log"`
}

// Display says which screen is served.
type Display struct {
	Source     string `toml:"source"`     // auto, virtual, or an X display as in ":0"
	Size       string `toml:"size"`       // of a virtual display, WIDTHxHEIGHT in pixels; see Pixels
	Xauthority string `toml:"xauthority"` // cookie file of the X display; empty: found by itself
}

// Pixels is Size as a point. It is zero when Size is not a size, which Validate refuses.
func (d Display) Pixels() image.Point {
	var p image.Point
	var rest string
	if n, _ := fmt.Sscanf(d.Size, "%dx%d%s", &p.X, &p.Y, &rest); n != 2 || fmt.Sprintf("%dx%d", p.X, p.Y) != d.Size {
		return image.Point{}
	}
	return p
}

// What a form to log in.
const (
	AskAuto     = "auto" // the access code where one is set, else user name and password
	AskCode     = "code"
	AskPassword = "password"
)

// Login says who may log in to the computer.
type Login struct {
	Admins        []string `toml:"admins"`         // groups whose members may see any user's desktop
	AccessAccount string   `toml:"access_account"` // OS user that the access code stands for; empty: found by "hostd code set"
	CodeFirst     string   `toml:"code_first"`     // AskAuto, AskCode or AskPassword: what the form asks for first
	PAMService    string   `toml:"pam_service"`    // file name under /etc/pam.d
}

// Which ways text may be copied between the clipboards of who controls and of the desktop.
const (
	ClipboardOff      = "off"
	ClipboardToViewer = "host-to-viewer"
	ClipboardToHost   = "viewer-to-host"
	ClipboardBoth     = "both"
)

// Policy narrows what a session may do.
type Policy struct {
	RequireE2E  bool     `toml:"require_e2e"`  // only sessions that the relay cannot read
	MaxSessions int      `toml:"max_sessions"` // at the same time
	TakeForce   []string `toml:"take_force"`   // OS users who may take control without asking
	Clipboard   string   `toml:"clipboard"`    // ClipboardOff to ClipboardBoth
	Recording   string   `toml:"recording"`    // RecordOff, RecordAllowed or RecordRequired
	RecordSpace int      `toml:"record_space"` // for all recordings, MiB
	RecordDays  int      `toml:"record_days"`  // that a recording is kept, from its end on; 0: while there is space
	RecordKey   string   `toml:"record_key"`   // public key that recordings are sealed for; empty: they are not sealed
}

// PublicRecordKey is record_key's 32 bytes, of X25519; nil: recordings are not sealed.
func (p *Policy) PublicRecordKey() []byte {
	key, err := base64.StdEncoding.DecodeString(p.RecordKey)
	if err != nil || len(key) != 32 {
		return nil
	}
	return key
}

// Whether what sessions show is recorded.
const (
	RecordOff      = "off"
	RecordAllowed  = "allowed"  // between "hostd record start" and "hostd record stop"
	RecordRequired = "required" // always: no session without a recording
)

// Net is the part that talks to the relay.
type Net struct {
	User string `toml:"user"` // OS user it runs as when hostd is started by root without systemd
}

// MaxSize is the largest virtual display, pixels a side.
const MaxSize = 16384

// MaxPixels is the largest virtual display, pixels in all.
const MaxPixels = 64 << 20

// Limits of Policy.RecordSpace, MiB, and of Policy.RecordDays.
const (
	MinRecordSpace = 256
	MaxRecordSpace = 1 << 30
	MaxRecordDays  = 36500
)

// DefaultHost is what holds when no file says otherwise.
func DefaultHost() *Host {
	return &Host{
		StateDir: "/var/lib/helmline/hostd",
		Display:  Display{Source: "auto", Size: "1280x800"},
		Login:    Login{Admins: []string{"sudo", "wheel"}, CodeFirst: AskAuto, PAMService: "hostd"},
		Policy: Policy{
			MaxSessions: 64, TakeForce: []string{}, Clipboard: ClipboardBoth, Recording: RecordOff, RecordSpace: 10 << 10,
		},
		Net: Net{"_helmline-net"},
		Log: Log{"info", "text"},
	}
}

// Socket is the path of the local socket that the commands of hostd talk to.
func (c *Host) Socket() string { return c.runtime("hostd.sock") }

// NetSocket is the path of the socket on which hostd waits for hostd-net when systemd starts both.
func (c *Host) NetSocket() string { return c.runtime("net.sock") }

func (c *Host) runtime(name string) string {
	if c.StateDir == DefaultHost().StateDir {
		return filepath.Join("/run/helmline", name)
	}
	return filepath.Join(c.StateDir, name)
}

// NetStateDir is the folder of hostd-net, owned by its user: the tunnel key, the relay's pinned key, the TLS key, recordings.
func (c *Host) NetStateDir() string { return filepath.Clean(c.StateDir) + "-net" }

// Validate reports every problem, each under the name of its key.
func (c *Host) Validate() error {
	var k checker
	k.absolute("state_dir", c.StateDir, "/var/lib/helmline/hostd")
	k.socket("state_dir", c.Socket())
	if s := c.Display.Source; s != "auto" && s != "virtual" && !isDisplay(s) {
		k.add("display.source", "%q is no screen; write \"auto\", \"virtual\" or an X display of this machine, as in \":0\"", s)
	}
	switch p := c.Display.Pixels(); {
	case p == image.Point{}:
		k.add("display.size", "%q is no size; write width and height in pixels, as in \"1280x800\"", c.Display.Size)
	case p.X < 64 || p.Y < 64 || p.X > MaxSize || p.Y > MaxSize || p.X*p.Y > MaxPixels:
		k.add("display.size", "%q is out of range; write 64 to %d pixels a side and at most %d million in all", c.Display.Size, MaxSize, MaxPixels>>20)
	}
	if c.Display.Xauthority != "" {
		k.absolute("display.xauthority", c.Display.Xauthority, "/home/alice/.Xauthority")
	}
	for _, g := range c.Login.Admins {
		if !isName(g) {
			k.add("login.admins", "%q is no group name; write names as /etc/group has them, as in [\"sudo\", \"wheel\"]", g)
		}
	}
	if a := c.Login.AccessAccount; a != "" && !isName(a) {
		k.add("login.access_account", "%q is no user name; write one as /etc/passwd has it", a)
	}
	k.oneOf("login.code_first", c.Login.CodeFirst, AskAuto, AskCode, AskPassword)
	if s := c.Login.PAMService; !isName(s) {
		k.add("login.pam_service", "%q is no PAM service; write the name of a file in /etc/pam.d, as in \"hostd\"", s)
	}
	if n := c.Policy.MaxSessions; n < 1 || n > 1000 {
		k.add("policy.max_sessions", "%d is out of range; write 1 to 1000", n)
	}
	for _, a := range c.Policy.TakeForce {
		if !isName(a) {
			k.add("policy.take_force", "%q is no user name; write OS users as /etc/passwd has them, as in [\"alice\"]", a)
		}
	}
	k.oneOf("policy.clipboard", c.Policy.Clipboard, ClipboardOff, ClipboardToViewer, ClipboardToHost, ClipboardBoth)
	k.oneOf("policy.recording", c.Policy.Recording, RecordOff, RecordAllowed, RecordRequired)
	if n := c.Policy.RecordSpace; n < MinRecordSpace || n > MaxRecordSpace {
		k.add("policy.record_space", "%d is out of range; write %d to %d (MiB)", n, MinRecordSpace, MaxRecordSpace)
	}
	if n := c.Policy.RecordDays; n < 0 || n > MaxRecordDays {
		k.add("policy.record_days", "%d is out of range; write 1 to %d (days), or 0 for no limit", n, MaxRecordDays)
	}
	if p := c.Policy; p.RecordKey != "" && p.PublicRecordKey() == nil {
		k.add("policy.record_key", "is no key for recordings; write what \"relayd record-key FILE\" has printed")
	}
	if !isName(c.Net.User) {
		k.add("net.user", "%q is no user name; write one as /etc/passwd has it", c.Net.User)
	}
	if slices.Contains([]string{"root", "0"}, c.Net.User) {
		k.add("net.user", "is %q, but what talks to the network must have no privilege; write a system user of its own, as in \"_helmline-net\"", c.Net.User)
	}
	c.Log.check(&k)
	return k.err()
}

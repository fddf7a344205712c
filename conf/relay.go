package conf

import "path/filepath"

// Relay is what relayd can be told.
type Relay struct {
	Name     string  `toml:"name"`      // how people and computers reach the relay: a host name or address
	StateDir string  `toml:"state_dir"` // database, keys, audit log; absolute, 0700
	SSH      Port    `toml:"ssh"`       // computers dial in; people jump through
	RFB      Port    `toml:"rfb"`       // VNC viewers with a user name
	RFBCode  RFBCode `toml:"rfb_code"`  // VNC viewers without one
	Web      Port    `toml:"web"`       // browsers
	RDP      Port    `toml:"rdp"`
	Metrics  Port    `toml:"metrics"` // /metrics, /healthz, /readyz
	TLS      TLS     `toml:"tls"`
	Log      Log     `toml:"log"`
}

// Port is a TCP port that the daemon opens.
type Port struct {
	Listen string `toml:"listen"` // host:port; empty: closed; port 0: any free one
}

// RFBCode is the door for viewers without user names.
type RFBCode struct {
	Listen           string `toml:"listen"`             // VeNCrypt X509Vnc: the code travels inside TLS
	ClearListen      string `toml:"clear_listen"`       // VncAuth without TLS; loopback, or see AllowClearPublic
	AllowClearPublic bool   `toml:"allow_clear_public"` // ClearListen may be an address that others reach
}

// TLS names a certificate chain and its key, PEM. Both are empty for the certificate that relayd makes at its first start.
type TLS struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// DefaultRelay is what holds when no file says otherwise. LoadRelay puts the machine's host name where Name is empty.
func DefaultRelay() *Relay {
	return &Relay{
		StateDir: "/var/lib/helmline/relayd",
		SSH:      Port{":2222"},
		RFB:      Port{":5900"},
		RFBCode:  RFBCode{Listen: ":5901"},
		Web:      Port{":8443"},
		Metrics:  Port{"127.0.0.1:9590"},
		Log:      Log{"info", "text"},
	}
}

// Socket is the path of the local socket that the commands of relayd talk to.
func (c *Relay) Socket() string {
	if c.StateDir == DefaultRelay().StateDir {
		return "/run/relayd/relayd.sock"
	}
	return filepath.Join(c.StateDir, "relayd.sock")
}

// Validate reports every problem, each under the name of its key.
func (c *Relay) Validate() error {
	var k checker
	if c.Name != "" && !isHost(c.Name) {
		k.add("name", "%q is neither a host name nor an address; write what people type to reach the relay, as in \"relay.example.org\"", c.Name)
	}
	k.absolute("state_dir", c.StateDir, "/var/lib/helmline/relayd")
	k.socket("state_dir", c.Socket())
	for _, p := range c.ports() {
		k.port(p.key, p.listen)
	}
	k.distinct(c.ports())
	if l := c.RFBCode.ClearListen; l != "" && !c.RFBCode.AllowClearPublic && isListen(l) && !isLoopback(l) {
		k.add("rfb_code.clear_listen", "%q can be reached from outside, and what is typed there is not encrypted; write a loopback address, as in \"127.0.0.1:5902\", or set allow_clear_public = true as well", l)
	}
	switch {
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		k.add("tls", "has one of cert and key; write both, or none for a certificate that relayd makes itself")
	case c.TLS.Cert != "":
		k.readable("tls.cert", c.TLS.Cert, false)
		k.readable("tls.key", c.TLS.Key, true)
	}
	c.Log.check(&k)
	return k.err()
}

// A door is a listening address and the key that sets it.
type door struct{ key, listen string }

func (c *Relay) ports() []door {
	return []door{
		{"ssh.listen", c.SSH.Listen},
		{"rfb.listen", c.RFB.Listen},
		{"rfb_code.listen", c.RFBCode.Listen},
		{"rfb_code.clear_listen", c.RFBCode.ClearListen},
		{"web.listen", c.Web.Listen},
		{"rdp.listen", c.RDP.Listen},
		{"metrics.listen", c.Metrics.Listen},
	}
}

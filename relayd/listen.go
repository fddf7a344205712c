package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/helmline/helmline/conf"
)

// ports are relayd's open ports; a door that is off has none.
type ports struct {
	ssh, rfb, rfbCode, rfbCodeClear, web net.Listener
	metrics                              net.Listener
}

// openPorts opens every port of the settings, or none.
func openPorts(c *conf.Relay, log *slog.Logger) (*ports, error) {
	inherited, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	o := &opener{log: log, inherited: inherited}
	return o.all(c)
}

// all opens every port of the settings, or none.
func (o *opener) all(c *conf.Relay) (_ *ports, err error) {
	p := &ports{}
	for _, d := range []struct {
		key, name, listen string
		to                *net.Listener
	}{
		{"ssh.listen", "ssh", c.SSH.Listen, &p.ssh},
		{"rfb.listen", "rfb", c.RFB.Listen, &p.rfb},
		{"rfb_code.listen", "rfb_code", c.RFBCode.Listen, &p.rfbCode},
		{"rfb_code.clear_listen", "rfb_code_clear", c.RFBCode.ClearListen, &p.rfbCodeClear},
		{"web.listen", "web", c.Web.Listen, &p.web},
		{"metrics.listen", "metrics", c.Metrics.Listen, &p.metrics},
	} {
		if *d.to, err = o.open(d.name, d.listen); err != nil {
			p.close()
			return nil, fmt.Errorf("%s: %w", d.key, err)
		}
	}
	// The settings were checked, but a socket of systemd is what its unit made it.
	if l := p.rfbCodeClear; l != nil && !isLoopback(l) && !c.RFBCode.AllowClearPublic {
		p.close()
		return nil, fmt.Errorf("rfb_code.clear_listen: %s can be reached from outside, and what is typed there is not encrypted; "+
			"give the socket unit a loopback address, or set allow_clear_public = true as well", l.Addr())
	}
	o.closeRest()
	return p, nil
}

// closeDoors closes the ports that people and computers use. What serves them returns.
func (p *ports) closeDoors() {
	for _, l := range []net.Listener{p.ssh, p.rfb, p.rfbCode, p.rfbCodeClear, p.web} {
		if l != nil {
			l.Close()
		}
	}
}

func (p *ports) close() {
	p.closeDoors()
	if p.metrics != nil {
		p.metrics.Close()
	}
}

// isLoopback says whether only this machine can reach l.
func isLoopback(l net.Listener) bool {
	if l == nil {
		return false
	}
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// port is the number of l's port, or 0 where the door is off.
func port(l net.Listener) string {
	if l == nil {
		return "0"
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // always host:port
	return port
}

// An opener opens ports. One that systemd has opened already is taken from it: by the name of its socket
// (FileDescriptorName=), or by its number, since all sockets of one unit share a name.
type opener struct {
	log       *slog.Logger
	inherited map[string][]net.Listener
}

// open opens the port of one door; nil where it is off.
func (o *opener) open(name, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := o.take(name, address)
	if l == nil && err == nil {
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, err
	}
	o.log.Info("listening", "door", name, "address", l.Addr())
	return l, nil
}

// take gives the socket of a door that systemd has opened, or nil.
func (o *opener) take(name, address string) (net.Listener, error) {
	if named := o.inherited[name]; len(named) == 1 {
		delete(o.inherited, name)
		return named[0], nil
	}
	_, want, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	for unit, all := range o.inherited {
		for i, l := range all {
			if l == nil {
				continue // not TCP
			}
			if _, port, err := net.SplitHostPort(l.Addr().String()); err == nil && port == want {
				o.inherited[unit] = append(all[:i:i], all[i+1:]...)
				return l, nil
			}
		}
	}
	return nil, nil
}

// closeRest closes the sockets of systemd that no door has taken.
func (o *opener) closeRest() {
	for name, all := range o.inherited {
		for _, l := range all {
			if l != nil {
				o.log.Warn("systemd passed a socket that no door uses", "name", name, "address", l.Addr())
				l.Close()
			}
		}
	}
}

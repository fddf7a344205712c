package web

import (
	"net"
	"strings"
)

// lines are what people type or paste to reach a computer by a viewer of their own.
type lines struct {
	User string // at the RFB door
	TigerVNC,
	VNC, // an address that a desktop opens its viewer for
	Config, // of ssh
	Via,
	Forward string
}

// linesOf are the lines for one account and computer; one that may only watch gets those for watching. Names of computers hold
// nothing that a shell heeds, addresses of people may.
func linesOf(w Ways, email, computer string, watch bool) (l lines) {
	l.User = email + "/" + computer
	if watch {
		l.User, computer = l.User+"/watch", "watch."+computer
	}
	if host, port, err := net.SplitHostPort(w.RFB); err == nil {
		l.TigerVNC = "vncviewer -SecurityTypes=X509Plain " + bracketed(host) + "::" + port
		l.VNC = "vnc://" + w.RFB
	}
	if host, port, err := net.SplitHostPort(w.SSH); err == nil {
		l.Config = "Host helmline\n    HostName " + host + "\n    Port " + port + "\n    User " + email
		l.Via = "vncviewer -via helmline " + computer + ":0"
		l.Forward = "ssh -N -p " + port + " -l " + quoted(email) + " -L 5999:" + computer + ":5900 " + host
	}
	return l
}

// bracketed is a host as it stands before a port.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// quoted is one word of a shell.
func quoted(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("@._+-", c)
	}
	if strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

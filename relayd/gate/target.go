package gate

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
)

// A target is the computer that a direct-tcpip channel names, and the role.
type target struct {
	computer string
	role     tunnel.Role
}

// Ports of a computer, as people write them. They are names: nothing is dialled.
const (
	portRFB = 5900
	portSSH = 22
	portRDP = 3389
)

// maxComputer is the longest name of a computer that is looked up, bytes.
const maxComputer = 255

// directTCPIP is the extra data of a direct-tcpip channel. RFC 4254, section 7.2.
type directTCPIP struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// parseTarget reads where a direct-tcpip channel is to go: NAME, watch.NAME or take.NAME, port 5900.
func parseTarget(extra []byte) (target, error) {
	var d directTCPIP
	if err := ssh.Unmarshal(extra, &d); err != nil {
		return target{}, errors.New("a direct-tcpip channel that names no host and port")
	}
	switch d.Port {
	case portRFB:
	case portSSH:
		return target{}, errors.New("the SSH server of a computer is not reached through this relay yet; forward to COMPUTER:5900 for its screen")
	case portRDP:
		return target{}, errors.New("RDP is not served by this relay yet; forward to COMPUTER:5900 for its screen by VNC")
	default:
		return target{}, fmt.Errorf("port %d of a computer is not served; forward to COMPUTER:5900 for its screen", d.Port)
	}
	if len(d.Host) > maxComputer {
		return target{}, fmt.Errorf("a computer's name of %d bytes, more than %d", len(d.Host), maxComputer)
	}
	t := target{computer: d.Host, role: tunnel.RoleControl}
	if role, name, ok := strings.Cut(d.Host, "."); ok {
		switch strings.ToLower(role) {
		case "watch":
			t = target{name, tunnel.RoleWatch}
		case "take":
			t = target{name, tunnel.RoleTake}
		}
	}
	return t, nil
}

package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// errNotStrict refuses a client that an attacker on the way could make lose the first messages (CVE-2023-48795).
var errNotStrict = errors.New("this SSH client does not know strict key exchange; update it (CVE-2023-48795)")

const (
	strictClient = "kex-strict-c-v00@openssh.com"
	maxVersion   = 255     // bytes up to the end of the version line; RFC 4253, section 4.2
	maxKexNames  = 8 << 10 // bytes of the first name list; OpenSSH sends some 300
)

// A strictConn reads along until it has seen which key exchanges the client offers, and fails unless strict key
// exchange is one of them. x/crypto/ssh uses it when it is offered but serves those who do not offer it.
type strictConn struct {
	net.Conn
	seen []byte // what the client sent so far, in clear; nil once done
	done bool

	writes atomic.Int32
	began  chan struct{} // closed when the server's version and KEXINIT were written, or could not be
}

// beginTime bounds the wait for the server's own KEXINIT.
const beginTime = time.Second

func newStrictConn(c net.Conn) *strictConn { return &strictConn{Conn: c, began: make(chan struct{})} }

// Write notes that the server has begun: x/crypto/ssh writes its version and its KEXINIT at once each.
func (c *strictConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.writes.Add(1) == 2 {
		close(c.began)
	}
	return n, err
}

func (c *strictConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.done || n == 0 {
		return n, err
	}
	c.seen = append(c.seen, p[:n]...)
	names, ok, kexErr := kexNames(c.seen)
	if kexErr == nil && ok && !slices.Contains(strings.Split(names, ","), strictClient) {
		kexErr = errNotStrict
	}
	if kexErr == errNotStrict {
		select { // a client that has no KEXINIT yet does not expect the end
		case <-c.began:
		case <-time.After(beginTime):
		}
		_, _ = c.Conn.Write(disconnect(kexErr.Error())) // the client may have gone
	}
	if kexErr != nil {
		return 0, kexErr
	}
	if ok {
		c.seen, c.done = nil, true
	}
	return n, err
}

// disconnect is a message that ends a connection before keys are exchanged; ssh prints its text. RFC 4253, sections 6
// and 11.1.
func disconnect(text string) []byte {
	const keyExchangeFailed = 3
	payload := ssh.Marshal(struct {
		Reason         uint32 `sshtype:"1"`
		Text, Language string
	}{keyExchangeFailed, text, ""})
	padding := 4 + (8-(4+1+len(payload)+4)%8)%8
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	return append(b, make([]byte, padding)...)
}

// kexNames is the list of key exchanges in a client's first bytes: version line, then the KEXINIT packet. It is not ok
// while bytes are missing. RFC 4253, sections 4.2, 6 and 7.1.
func kexNames(b []byte) (names string, ok bool, err error) {
	packet := b
	for version := false; !version; {
		end := bytes.IndexByte(packet, '\n')
		if end < 0 || len(b)-len(packet)+end > maxVersion {
			if len(b) > maxVersion {
				return "", false, errors.New("the first bytes are not SSH")
			}
			return "", false, nil
		}
		version = bytes.HasPrefix(packet, []byte("SSH-")) // lines before it are allowed
		packet = packet[end+1:]
	}
	const before = 4 + 1 + 1 + 16 + 4 // packet length, padding length, message number, cookie, length of the list
	if len(packet) < before {
		return "", false, nil
	}
	if packet[5] != 20 {
		return "", false, errors.New("the first SSH message is not KEXINIT")
	}
	n := binary.BigEndian.Uint32(packet[before-4:])
	if n > maxKexNames {
		return "", false, errors.New("the list of key exchanges is longer than 8 KiB")
	}
	if uint32(len(packet)-before) < n {
		return "", false, nil
	}
	return string(packet[before : before+int(n)]), true, nil
}

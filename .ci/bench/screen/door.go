package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
)

// Ways tells where a door's ports are.
type ways struct {
	SSH, Key       string // for hostd's enrolment
	Control, Watch string // for viewers
}

// door is the other end of hostd's tunnel with nothing else in it, so that hostd is measured without a relay's work: an SSH
// port for hostd, and a port for viewers in control and one for those who watch, both of security type None. It runs as a
// process of its own, listens at args[0] and writes its ways into the file args[1].
func door(args []string) error {
	defer runtime.KeepAlive(tunnel.Ballast()) // as relayd does
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	var listeners [3]net.Listener
	for i, host := range []string{args[0], "127.0.0.1", "127.0.0.1"} {
		if listeners[i], err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return err
		}
	}
	d := &joiner{}
	go d.accept(listeners[1], tunnel.RoleControl)
	go d.accept(listeners[2], tunnel.RoleWatch)
	w := ways{listeners[0].Addr().String(), ssh.FingerprintSHA256(key.PublicKey()), listeners[1].Addr().String(), listeners[2].Addr().String()}
	text, err := json.Marshal(w)
	if err == nil {
		err = os.WriteFile(args[1], text, 0o644)
	}
	if err != nil {
		return err
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	return d.serve(listeners[0], key)
}

// A joiner joins viewers to the computer that dialled in last.
type joiner struct {
	mu      sync.Mutex
	session *tunnel.Session // guarded by mu; nil: none has
}

// serve takes the tunnels of computers, whatever their key is: this door is on no network.
func (d *joiner) serve(l net.Listener, key ssh.Signer) error {
	config := &ssh.ServerConfig{
		Config: tunnel.Algorithms(),
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return tunnel.KeyPermissions(key), nil
		},
	}
	config.AddHostKey(key)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			conn, chans, reqs, err := ssh.NewServerConn(tunnel.Wrap(c), config)
			if err != nil {
				fmt.Fprintln(os.Stderr, "a computer's tunnel:", err)
				return
			}
			s, err := tunnel.ServeTunnel(conn, chans, reqs)
			if err != nil {
				fmt.Fprintln(os.Stderr, "a computer's tunnel:", err)
				return
			}
			d.mu.Lock()
			d.session = s
			d.mu.Unlock()
		}()
	}
}

func (d *joiner) accept(l net.Listener, role tunnel.Role) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if err := d.join(c, role); err != nil {
				fmt.Fprintln(os.Stderr, "a viewer:", err)
			}
		}()
	}
}

// join does RFB's security without any, and joins the viewer to the computer.
func (d *joiner) join(c net.Conn, role tunnel.Role) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	hello := make([]byte, 12)
	if _, err := io.WriteString(c, "RFB 003.008\n"); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, hello); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1, 1}); err != nil { // one type: None
		return err
	}
	if _, err := io.ReadFull(c, hello[:1]); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Time{})
	d.mu.Lock()
	s := d.session
	d.mu.Unlock()
	if s == nil {
		return fmt.Errorf("no computer has dialled in")
	}
	st, err := s.Open(context.Background(), tunnel.Header{
		Purpose: tunnel.RFBInit, Role: role, Minor: 8, Session: "bench", Account: account, Viewer: c.RemoteAddr().String(),
	})
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte{0, 0, 0, 0}); err != nil {
		_ = st.Close()
		return err
	}
	_, _, _ = tunnel.Splice(c, st) // the viewer sees what went wrong
	return nil
}

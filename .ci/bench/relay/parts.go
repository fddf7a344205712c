package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/uplink"
)

// The processes that a bench is made of.
var parts = map[string]func(args []string) error{
	"service": service, "relayd": relayd, "hostd": hostd, "client": client,
}

// service is what stands behind the tunnels. A connection begins with a letter and a count: D sends so many bytes,
// U takes so many and answers with one, E gives back what it gets.
func service(args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready", l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(c)
	}
}

func serve(c net.Conn) {
	defer c.Close()
	var head [9]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(head[1:]))
	switch head[0] {
	case 'D':
		b := make([]byte, 256<<10)
		for n > 0 {
			m, err := c.Write(b[:min(n, int64(len(b)))])
			if err != nil {
				return
			}
			n -= int64(m)
		}
	case 'U':
		b := make([]byte, 256<<10)
		for n > 0 {
			m, err := c.Read(b)
			if err != nil {
				return
			}
			n -= int64(m)
		}
		_, _ = c.Write([]byte{1})
	case 'E':
		b := make([]byte, 4096)
		for {
			m, err := c.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(b[:m]); err != nil {
				return
			}
		}
	}
}

// relayd is the relay's side with nothing in it but the tunnel: an SSH door for one computer and a port for viewers.
func relayd(args []string) error {
	defer runtime.KeepAlive(tunnel.Ballast()) // as the daemons do
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{
		Config: tunnel.Algorithms(),
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return tunnel.KeyPermissions(key), nil
		},
	}
	config.AddHostKey(key)
	door, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	viewers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var session atomic.Pointer[tunnel.Session]
	go func() {
		for {
			c, err := viewers.Accept()
			if err != nil {
				return
			}
			go func() {
				s := session.Load()
				if s == nil {
					_ = c.Close()
					return
				}
				st, err := s.Open(context.Background(), tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleControl, Session: "bench"})
				if err != nil {
					fmt.Fprintln(os.Stderr, "open a stream:", err)
					_ = c.Close()
					return
				}
				_, _, _ = tunnel.Splice(c, st) // the client sees what went wrong
			}()
		}
	}()
	fmt.Printf("ready %s,%s,%s\n", door.Addr(), viewers.Addr(), ssh.FingerprintSHA256(key.PublicKey()))
	for {
		c, err := door.Accept()
		if err != nil {
			return err
		}
		c = tunnel.Wrap(c)
		conn, chans, reqs, err := ssh.NewServerConn(c, config)
		if err != nil {
			return err
		}
		s, err := tunnel.ServeTunnel(conn, chans, reqs)
		if err != nil {
			return err
		}
		session.Store(s)
		go func() {
			<-s.Done()
			if e, ok := errors.AsType[*tunnel.LimitError](s.Err()); ok {
				fmt.Fprintln(os.Stderr, "the relay ended the tunnel:", e)
			}
		}()
	}
}

// hostd is the computer's side: every stream is joined to the service.
func hostd(args []string) error {
	defer runtime.KeepAlive(tunnel.Ballast()) // as the daemons do
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return err
	}
	up := make(chan struct{}, 1)
	go func() {
		<-up
		fmt.Println("ready", "hostd")
	}()
	return uplink.Run(context.Background(), uplink.Config{
		Dialer: tunnel.Dialer{Addr: args[0], RelayKey: args[1], Key: key},
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Status: func(s uplink.Status) {
			if s.Online {
				up <- struct{}{}
			}
		},
	}, func(_ context.Context, st net.Conn, _ tunnel.Header) {
		c, err := net.Dial("tcp", args[2])
		if err != nil {
			_ = st.Close()
			return
		}
		if err := tunnel.WriteReply(st, nil); err != nil {
			_ = st.Close()
			_ = c.Close()
			return
		}
		_, _, _ = tunnel.Splice(st, c) // the client sees what went wrong
	})
}

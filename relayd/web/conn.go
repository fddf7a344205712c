package web

import (
	"crypto/tls"
	"io"
	"net"
	"sync"

	"github.com/helmline/helmline/relayd/turnstile"
)

// maxConns is how many connections of an account are no stranger's. A browser has some six, and one for each session and each page that is
// told what changes.
const maxConns = 256

// connKey is of a connection, in the context of its requests.
type connKey struct{}

func heldOf(c net.Conn) *held {
	if t, ok := c.(*tls.Conn); ok {
		h, _ := t.NetConn().(*held)
		return h
	}
	return nil
}

// held is a connection that tells when it is closed.
type held struct {
	net.Conn
	at     *turnstile.Place
	closed chan struct{}

	mu    sync.Mutex // guards what follows
	over  bool       // closed is closed
	leave func()     // of the account that it counts as; nil: it is a stranger's
}

// known has the connection count as an account's, of which it was first shown to be. Where that has too many it stays a stranger's, of
// which there are few.
func (h *held) known(conns *slots, account int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.leave != nil || !conns.enter(account, maxConns) {
		return
	}
	h.leave = func() { conns.leave(account) }
	h.at.Leave()
}

func (h *held) Close() error {
	err := h.Conn.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return err
	}
	h.over = true
	close(h.closed)
	if h.leave != nil {
		h.leave()
	}
	return err
}

// single is a listener that accepts one connection and ends with it.
type single struct {
	conn *held
	tls  *tls.Config
	used bool // owned by Accept
}

func (l *single) Accept() (net.Conn, error) {
	if !l.used {
		l.used = true
		return tls.Server(l.conn, l.tls), nil
	}
	<-l.conn.closed
	return nil, io.EOF
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

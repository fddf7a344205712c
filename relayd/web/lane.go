package web

import (
	"errors"
	"net"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/helmline/helmline/bridge/refuse"
)

// A lane is a page's WebSocket as the stream of a session. What ends it from the relay's side is told to the page first.
type lane struct {
	net.Conn
	ws     *websocket.Conn
	ended  func() error // why the relay has ended the session; nil: it has not
	closed atomic.Bool
}

func (l *lane) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	return n, l.fault(err)
}

func (l *lane) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	return n, l.fault(err)
}

// fault is err as other connections give it: the WebSocket's own for a closed one say something else.
func (l *lane) fault(err error) error {
	if err != nil && l.closed.Load() {
		return net.ErrClosed
	}
	return err
}

func (l *lane) Close() error {
	if l.closed.Swap(true) {
		return net.ErrClosed
	}
	var r *refuse.Refusal
	if errors.As(l.ended(), &r) {
		_ = tell(l.ws, r)
	}
	return l.Conn.Close()
}

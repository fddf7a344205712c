package web

import (
	"errors"
	"net"
	"sync"

	"github.com/coder/websocket"

	"github.com/helmline/helmline/bridge/refuse"
)

// A lane is a page's WebSocket as the stream of a session. What ends it from the relay's side is told to the page first.
type lane struct {
	net.Conn
	ws    *websocket.Conn
	ended func() error // why the relay has ended the session; nil: it has not
	once  sync.Once
}

func (l *lane) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		var r *refuse.Refusal
		if errors.As(l.ended(), &r) {
			_ = tell(l.ws, r)
		}
		err = l.Conn.Close()
	})
	return err
}

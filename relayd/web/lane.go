package web

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/helmline/helmline/bridge/refuse"
)

// A lane is a page's WebSocket as the stream of a session: its binary messages. What ends it from the relay's side is told to the page
// first. When it is cut off, or the relay is restarting, the computer's stream is cut off, too: the page will come back.
type lane struct {
	net.Conn
	ctx    context.Context
	ws     *websocket.Conn
	ended  func() error            // why the relay has ended the session; nil: it has not
	vanish func()                  // cuts the computer's stream off
	hear   func(text []byte) error // takes a message that is text
	closed atomic.Bool

	message io.Reader // owned by Read: the rest of a binary message; nil: there is none
}

func (l *lane) Read(p []byte) (int, error) {
	for {
		if l.message == nil {
			if err := l.next(); err != nil {
				return 0, l.fault(err)
			}
		}
		n, err := l.message.Read(p)
		if err == io.EOF {
			l.message, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, l.fault(err)
		}
	}
}

// next waits for a binary message, and hears the text between.
func (l *lane) next() error {
	for {
		kind, r, err := l.ws.Reader(l.ctx)
		if err != nil {
			if s := websocket.CloseStatus(err); s == websocket.StatusNormalClosure || s == websocket.StatusGoingAway {
				return io.EOF
			}
			return err
		}
		if kind == websocket.MessageBinary {
			l.message = r
			return nil
		}
		text, err := io.ReadAll(io.LimitReader(r, maxText+1))
		if err == nil && len(text) > maxText {
			err = errors.New("a text too long")
		}
		if err == nil {
			err = l.hear(text)
		}
		if err != nil {
			return err
		}
	}
}

func (l *lane) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	return n, l.fault(err)
}

// fault is err as other connections give it: the WebSocket's own for a closed one say something else.
func (l *lane) fault(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case l.closed.Load():
		return net.ErrClosed
	}
	l.vanish()
	return err
}

func (l *lane) Close() error {
	if l.closed.Swap(true) {
		return net.ErrClosed
	}
	var r *refuse.Refusal
	if errors.As(l.ended(), &r) {
		if refuse.Restarting.Is(r) {
			l.vanish()
		}
		_ = tell(l.ws, r)
	}
	return l.Conn.Close()
}

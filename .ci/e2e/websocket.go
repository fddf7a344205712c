package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// webSocket takes over a page's WebSocket (RFC 6455) and passes on what is in its binary messages, both ways, until one side ends.
func webSocket(w http.ResponseWriter, r *http.Request, to net.Conn) error {
	defer to.Close()
	key := r.Header.Get("Sec-WebSocket-Key")
	hijacker, ok := w.(http.Hijacker)
	if !ok || key == "" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "no WebSocket", http.StatusBadRequest)
		return errors.New("no WebSocket")
	}
	conn, rw, err := hijacker.Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:])); err != nil {
		return err
	}
	down := make(chan error, 1)
	go func() {
		_, err := io.Copy(messages{conn}, to)
		conn.Close()
		down <- err
	}()
	up := fromMessages(to, rw.Reader)
	to.Close()
	return errors.Join(up, <-down)
}

// messages makes a binary message of each write.
type messages struct{ conn net.Conn }

func (m messages) Write(p []byte) (int, error) {
	frame := []byte{0x82} // final, binary
	switch n := len(p); {
	case n < 126:
		frame = append(frame, byte(n))
	case n < 1<<16:
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 127), uint64(n))
	}
	if _, err := m.conn.Write(append(frame, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fromMessages writes what is in a browser's frames, which are masked, until it closes.
func fromMessages(to io.Writer, from *bufio.Reader) error {
	for {
		var head [2]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return err
		}
		n := uint64(head[1] & 0x7f)
		if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
			var length [8]byte
			if _, err := io.ReadFull(from, length[8-more:]); err != nil {
				return err
			}
			n = binary.BigEndian.Uint64(length[:])
		}
		var mask [4]byte
		if _, err := io.ReadFull(from, mask[:]); err != nil || n > 1<<20 {
			return errors.Join(err, fmt.Errorf("a frame of %d bytes", n))
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		for i := range body {
			body[i] ^= mask[i%4]
		}
		switch head[0] & 0xf {
		case 0, 1, 2:
			if _, err := to.Write(body); err != nil {
				return err
			}
		case 8:
			return nil
		}
	}
}

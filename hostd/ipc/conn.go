package ipc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Conn carries messages. Send may be called by several goroutines, Receive by one.
type Conn struct {
	s   *Socket  // a packet is written whole by the kernel
	oob [64]byte // of Receive
}

// NewConn takes over c, a SOCK_SEQPACKET connection.
func NewConn(c *net.UnixConn) (*Conn, error) {
	s, err := Take(c)
	if err != nil {
		return nil, err
	}
	_ = s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20) }) // else Send waits sooner
	return &Conn{s: s}, nil
}

// FileConn takes over f, a SOCK_SEQPACKET socket that was inherited or received.
func FileConn(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is not a Unix socket", f.Name())
	}
	return NewConn(u)
}

// Pair makes two joined sockets, both close-on-exec. A process that only keeps them hears nothing of what others say over them.
func Pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "hostd-pair"), os.NewFile(uintptr(fds[1]), "hostd-pair"), nil
}

// Send sends body as JSON under t, with files beside it; they stay the caller's to close. A nil body sends the type
// alone.
func (c *Conn) Send(t Type, body any, files ...*os.File) error {
	p, err := Marshal(t, body)
	if err != nil {
		return err
	}
	defer clear(p)
	return c.SendPacket(p, files...)
}

// Marshal makes the packet that Send sends.
func Marshal(t Type, body any) ([]byte, error) {
	if body == nil {
		return []byte{byte(t)}, nil
	}
	j, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	defer clear(j)
	return append([]byte{byte(t)}, j...), nil
}

// SendPacket sends a whole packet, as the AppendTo methods make it.
func (c *Conn) SendPacket(p []byte, files ...*os.File) error {
	if len(p) > MaxMessage {
		return fmt.Errorf("a message of %d bytes between hostd's parts, more than %d", len(p), MaxMessage)
	}
	if len(files) == 0 {
		return c.s.send(p, nil)
	}
	fds := make([]int, len(files))
	for i, f := range files { // not f.Fd, which would make the shared description blocking
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds[i] = int(fd) })
		}
		if err != nil {
			return err
		}
	}
	err := c.s.send(p, unix.UnixRights(fds...))
	runtime.KeepAlive(files)
	return err
}

// Receive reads the next packet into buf (MaxMessage bytes) and gives the part of it that was filled and the files that
// came along, which are the caller's to close. io.EOF is the other part's end.
func (c *Conn) Receive(buf []byte) ([]byte, []*os.File, error) {
	n, oobn, flags, err := c.s.receive(buf, c.oob[:])
	if err != nil {
		if errors.Is(err, syscall.ECONNRESET) {
			err = io.EOF
		}
		return nil, nil, err
	}
	var files []*os.File
	if oobn > 0 {
		msgs, err := unix.ParseSocketControlMessage(c.oob[:oobn])
		if err != nil {
			return nil, nil, err
		}
		for i := range msgs {
			fds, err := unix.ParseUnixRights(&msgs[i])
			if err != nil {
				continue
			}
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "hostd-received"))
			}
		}
	}
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = ErrMalformed
	}
	if err != nil {
		CloseFiles(files)
		return nil, nil, err
	}
	return buf[:n], files, nil
}

// Decode reads the JSON body of packet p.
func Decode[T any](p []byte) (T, error) {
	var v T
	if err := json.Unmarshal(p[1:], &v); err != nil {
		return v, ErrMalformed
	}
	return v, nil
}

// CloseFiles closes files that were not wanted.
func CloseFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Unread says whether something that was sent has not been received yet.
func (c *Conn) Unread() (bool, error) {
	n := 0
	err := c.s.control(func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n > 0, err
}

// SetReadDeadline bounds the next Receive.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.s.SetReadDeadline(t) }

// Close closes the socket.
func (c *Conn) Close() error { return c.s.Close() }

// PeerUID is the user of the process at the other end.
func (c *Conn) PeerUID() (uint32, error) {
	cred, err := c.s.Peer()
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

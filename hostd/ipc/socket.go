package ipc

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Socket is a Unix socket that costs little where every message is short. Go's poller watches each socket for room to send, too, and
// for a Unix socket that is a wake-up, of a process that has nothing to do, whenever the other end has read something. A Socket is
// watched by an epoll set of its own, for what can be received, and the poller watches the set.
//
// It may be written to by several goroutines and read by one.
type Socket struct {
	file   *os.File // of the socket, which blocks and so is not the poller's
	set    *os.File
	closed atomic.Bool
}

// roomTime is how often one that waits for room to send looks whether the socket was closed meanwhile.
const roomTime = 100 * time.Millisecond

// Take makes c a Socket. c is closed in any case.
func Take(c *net.UnixConn) (*Socket, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return nil, errors.Join(e, os.NewSyscallError("fcntl", err))
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "socket")}
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		s.file.Close()
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	if err == nil {
		err = unix.SetNonblock(set, true)
	}
	s.set = os.NewFile(uintptr(set), "epoll")
	if err != nil {
		s.Close()
		return nil, os.NewSyscallError("epoll", err)
	}
	return s, nil
}

// control calls f with the descriptor.
func (s *Socket) control(f func(fd int) error) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// receive waits for something to be received: n bytes, with oobn bytes beside them.
func (s *Socket) receive(p, oob []byte) (n, oobn, flags int, err error) {
	raw, err := s.set.SyscallConn()
	if err != nil {
		return 0, 0, 0, err
	}
	e := raw.Read(func(uintptr) bool {
		err = s.control(func(fd int) (err error) {
			for {
				n, oobn, flags, _, err = unix.Recvmsg(fd, p, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
				if err != unix.EINTR {
					return err
				}
			}
		})
		return err != unix.EAGAIN
	})
	if err = cmp.Or(e, err); err != nil {
		return 0, 0, 0, s.ended(err) // n is -1
	}
	return n, oobn, flags, nil
}

// ended is the error of a call: net.ErrClosed, when the socket was closed.
func (s *Socket) ended(err error) error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// send sends all of p, with oob beside it.
func (s *Socket) send(p, oob []byte) error {
	for first := true; first || len(p) > 0; {
		n := 0
		err := s.control(func(fd int) (err error) {
			n, err = unix.SendmsgN(fd, p, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err == unix.EAGAIN {
				_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(roomTime/time.Millisecond))
				n = -1
			}
			return err
		})
		switch {
		case err == unix.EINTR:
		case err != nil:
			return s.ended(err)
		case n >= 0:
			first, p, oob = false, p[n:], nil
		case s.closed.Load():
			return net.ErrClosed
		}
	}
	return nil
}

// Read reads from a stream.
func (s *Socket) Read(p []byte) (int, error) {
	n, _, _, err := s.receive(p, nil)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Write writes to a stream.
func (s *Socket) Write(p []byte) (int, error) {
	if err := s.send(p, nil); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close closes the socket. Who waits in it gets net.ErrClosed.
func (s *Socket) Close() error {
	s.closed.Store(true)
	return errors.Join(s.set.Close(), s.file.Close())
}

// SetReadDeadline bounds the next Read.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.set.SetReadDeadline(t) }

// Peer is the process at the other end, as it was when it connected.
func (s *Socket) Peer() (cred *unix.Ucred, err error) {
	err = s.control(func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	return cred, err
}

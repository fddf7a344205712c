package tunnel

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Socket options of a tunnel and of what is joined to it.
const (
	notSentLowat     = 16 << 10         // bytes the kernel may hold that it has not sent: what a key press waits behind
	fastNotSentLowat = 256 << 10        // likewise where that is sent within a millisecond
	userTimeout      = 15 * time.Second // unanswered data for this long ends the connection
)

// TuneTCP sets TCP_NODELAY, TCP_NOTSENT_LOWAT of 16 KiB, TCP_USER_TIMEOUT of 15 s and keepalive probes that notice a
// vanished peer of an idle connection within 15 s. A connection that is not TCP is left as it is.
func TuneTCP(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	// An option that this kernel lacks costs speed, not safety: the tunnel has timeouts of its own.
	_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2})
	_ = t.SetNoDelay(true)
	_ = setTCP(t, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	setNotSentLowat(c, notSentLowat)
}

func setNotSentLowat(c net.Conn, bytes int) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = setTCP(t, unix.TCP_NOTSENT_LOWAT, bytes)
	}
}

func setTCP(c syscall.Conn, option, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value) })
	if err != nil {
		return err
	}
	return failed
}

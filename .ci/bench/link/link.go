// Package link makes network paths for tests and benchmarks: two network namespaces joined by a link whose delay, rate,
// loss and cuts are chosen. This kernel has no netem; packets pass through a TUN device on each side and through this
// process, and tbf limits the rate. It needs root, ip and tc.
package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Path is how a link behaves, the same in both directions.
type Path struct {
	Delay time.Duration // one way
	Rate  int           // bits a second; 0: as fast as this process copies
	Queue time.Duration // the longest that a packet waits for the rate before it is dropped; 0: 50 ms
	Loss  float64       // share of packets that are dropped, 0 to 1
}

// MTU of the link, bytes.
const MTU = 1500

// maxWaiting is how many bytes may be under way in one direction.
const maxWaiting = 64 << 20

// An End is one side of a link.
type End struct {
	Namespace string     // for "ip netns exec"
	Addr      netip.Addr // of this side
	device    string
	tun       *os.File
	path      *atomic.Pointer[Path]
	cut       *atomic.Bool
	out       chan packet // to the other side's device
	waiting   atomic.Int64
}

type packet struct {
	data []byte
	due  time.Time
}

// A Link joins two namespaces, in which nothing else is but the loopback device.
type Link struct {
	A, B End
	path atomic.Pointer[Path]
	cut  atomic.Bool
	work sync.WaitGroup
}

// New makes two namespaces named after name, which must be unique on this machine and at most 8 letters, and joins
// them. Addresses are 10.99.0.1 and 10.99.0.2, and fd99::1 and fd99::2 beside them.
func New(name string, p Path) (*Link, error) {
	l := &Link{}
	l.path.Store(&p)
	for i, e := range []*End{&l.A, &l.B} {
		side := string("ab"[i])
		e.Namespace, e.device = name+side, "hl"+name+side
		e.Addr = netip.AddrFrom4([4]byte{10, 99, 0, byte(i + 1)})
		e.path, e.cut, e.out = &l.path, &l.cut, make(chan packet, 1<<16)
		if err := e.open(i + 1); err != nil {
			l.Close()
			return nil, err
		}
	}
	if err := l.Set(p); err != nil {
		l.Close()
		return nil, err
	}
	for _, pair := range [][2]*End{{&l.A, &l.B}, {&l.B, &l.A}} {
		l.work.Go(func() { pair[0].read(pair[1]) })
		l.work.Go(pair[0].write)
	}
	return l, nil
}

// open makes the namespace and the device in it.
func (e *End) open(number int) error {
	if err := run("ip", "netns", "add", e.Namespace); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(e.device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("make the device %s: %w", e.device, err)
	}
	e.tun = os.NewFile(uintptr(fd), e.device)
	return errors.Join(
		run("ip", "link", "set", e.device, "netns", e.Namespace),
		run("ip", "-n", e.Namespace, "link", "set", "lo", "up"),
		run("ip", "-n", e.Namespace, "addr", "add", fmt.Sprintf("10.99.0.%d/24", number), "dev", e.device),
		run("ip", "-n", e.Namespace, "link", "set", e.device, "mtu", fmt.Sprint(MTU), "txqueuelen", "10000", "up"),
		run("ip", "-n", e.Namespace, "addr", "add", fmt.Sprintf("fd99::%d/64", number), "dev", e.device, "nodad"),
	)
}

// Set changes the path.
func (l *Link) Set(p Path) error {
	l.path.Store(&p)
	for _, e := range []*End{&l.A, &l.B} {
		args := []string{"tc", "-n", e.Namespace, "qdisc", "replace", "dev", e.device, "root"}
		if p.Rate > 0 {
			queue := p.Queue
			if queue <= 0 {
				queue = 50 * time.Millisecond
			}
			args = append(args, "tbf", "rate", fmt.Sprintf("%dbit", p.Rate), "burst", "16kb", "latency", fmt.Sprintf("%dus", queue.Microseconds()))
		} else {
			args = append(args, "pfifo", "limit", "10000")
		}
		if err := run(args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// Cut drops every packet, both ways, until it is undone.
func (l *Link) Cut(cut bool) { l.cut.Store(cut) }

// Command makes a command that runs in the namespace of this end.
func (e *End) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", e.Namespace, name}, args...)...)
}

// read takes packets from the device of e and hands them to the other side when their delay is over.
func (e *End) read(to *End) {
	defer close(to.out)
	for {
		b := make([]byte, MTU+4)
		n, err := e.tun.Read(b)
		if err != nil {
			return
		}
		p := e.path.Load()
		if e.cut.Load() || p.Loss > 0 && rand.Float64() < p.Loss || to.waiting.Load() > maxWaiting {
			continue
		}
		to.waiting.Add(int64(n))
		to.out <- packet{b[:n], time.Now().Add(p.Delay)}
	}
}

// write gives the device of e what is due.
func (e *End) write() {
	for p := range e.out {
		if d := time.Until(p.due); d > 0 {
			time.Sleep(d)
		}
		e.waiting.Add(-int64(len(p.data)))
		_, _ = e.tun.Write(p.data) // a device that is down or full drops it
	}
}

// Close removes the namespaces and what runs on the link.
func (l *Link) Close() error {
	var errs []error
	for _, e := range []*End{&l.A, &l.B} {
		if e.tun != nil {
			errs = append(errs, e.tun.Close())
		}
	}
	l.work.Wait()
	for _, e := range []*End{&l.A, &l.B} {
		if e.Namespace != "" {
			errs = append(errs, run("ip", "netns", "del", e.Namespace))
		}
	}
	return errors.Join(errs...)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

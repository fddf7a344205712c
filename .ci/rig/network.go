package rig

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Network is network namespaces joined by virtual cables, each removed by Close. It needs root and iproute2.
type Network struct {
	set    *Set
	prefix string // of the namespaces' names, so that two runs do not meet
	cables int
}

// NewNetwork makes an empty network. The prefix is put before each name and must be at most 8 characters, as must the names.
func (s *Set) NewNetwork(prefix string) *Network { return &Network{set: s, prefix: prefix} }

// Name is the namespace of a party, for Program.Network.
func (n *Network) Name(party string) string { return n.prefix + party }

// Add makes a namespace for a party, with its loopback interface up.
func (n *Network) Add(ctx context.Context, party string) error {
	name := n.Name(party)
	if _, err := os.Stat("/run/netns/" + name); err == nil { // of a run that was killed before it could clean up
		if err := n.ip(ctx, "netns", "delete", name); err != nil {
			return err
		}
	}
	if err := n.ip(ctx, "netns", "add", name); err != nil {
		return err
	}
	n.set.Cleanup(func() { _ = n.ip(context.Background(), "netns", "delete", name) })
	return n.ip(ctx, "-n", name, "link", "set", "lo", "up")
}

// Hosts gives a party names for addresses, as /etc/hosts does, besides localhost.
func (n *Network) Hosts(party string, names map[string]string) error {
	dir := filepath.Join("/etc/netns", n.Name(party))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n.set.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir)) // if it is empty now
	})
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for name, address := range names {
		text += address + " " + name + "\n"
	}
	return os.WriteFile(filepath.Join(dir, "hosts"), []byte(text), 0o644)
}

// Join lays a cable between two parties. Each address stands with the length of its network, as in "10.1.0.1/24"; the interface has the
// name of the party at the other end.
func (n *Network) Join(ctx context.Context, a, addressA, b, addressB string) error {
	n.cables++
	one, other := fmt.Sprintf("%s%da", n.prefix, n.cables), fmt.Sprintf("%s%db", n.prefix, n.cables)
	for _, args := range [][]string{
		{"link", "add", one, "type", "veth", "peer", "name", other},
		{"link", "set", one, "netns", n.Name(a), "name", b},
		{"link", "set", other, "netns", n.Name(b), "name", a},
		{"-n", n.Name(a), "address", "add", addressA, "dev", b},
		{"-n", n.Name(b), "address", "add", addressB, "dev", a},
		{"-n", n.Name(a), "link", "set", b, "up"},
		{"-n", n.Name(b), "link", "set", a, "up"},
	} {
		if err := n.ip(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Cut pulls the cable from party to the other end out, or puts it in again.
func (n *Network) Cut(ctx context.Context, party, other string, out bool) error {
	state := "up"
	if out {
		state = "down"
	}
	return n.ip(ctx, "-n", n.Name(party), "link", "set", other, state)
}

// DropInbound has the party refuse every connection from outside, as behind NAT: only answers to what it began come in.
func (n *Network) DropInbound(ctx context.Context, party string) error {
	rules := `table inet nat_like {
	chain input {
		type filter hook input priority 0; policy drop;
		iifname "lo" accept;
		ct state established,related accept;
	}
}
`
	_, err := n.set.Output(ctx, Program{Args: []string{"nft", "-f", "-"}, Network: n.Name(party), Stdin: strings.NewReader(rules)})
	return err
}

func (n *Network) ip(ctx context.Context, args ...string) error {
	_, err := n.set.Output(ctx, Program{Args: append([]string{"ip"}, args...)})
	return err
}

// Dial connects to a TCP address from within the namespace of a party, as a program there would.
func (n *Network) Dial(ctx context.Context, party, address string) (net.Conn, error) {
	return n.DialFrom(ctx, party, "0.0.0.0", address)
}

// DialFrom is Dial from one of the party's own IPv4 addresses.
func (n *Network) DialFrom(ctx context.Context, party, source, address string) (net.Conn, error) {
	from, err := netip.ParseAddr(source)
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	fd, err := n.socket(party)
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, party, err)
	}
	f := os.NewFile(uintptr(fd), address)
	defer f.Close()
	if deadline, ok := ctx.Deadline(); ok {
		t := unix.NsecToTimeval(max(int64(time.Until(deadline)), int64(time.Millisecond)))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t); err != nil { // bounds connect, too
			return nil, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, source, err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: to.AddrPort().Addr().As4()}); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", address, party, err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// Listen listens on an IPv4 address of a party, as a program there would.
func (n *Network) Listen(party, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	fd, err := n.socket(party)
	if err != nil {
		return nil, fmt.Errorf("listen on %s of %s: %w", address, party, err)
	}
	f := os.NewFile(uintptr(fd), address)
	defer f.Close()
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s of %s: %w", address, party, err)
	}
	return net.FileListener(f)
}

// socket makes a TCP socket in the namespace of a party: it stays there, wherever it is used. The thread comes back, as
// its end would be taken for this process's by the children that it has started.
func (n *Network) socket(party string) (fd int, err error) {
	theirs, err := os.Open("/run/netns/" + n.Name(party))
	if err != nil {
		return -1, err
	}
	defer theirs.Close()
	runtime.LockOSThread()
	ours, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer ours.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if back := unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back) // this thread is in the wrong network, and nothing may run on it
	}
	runtime.UnlockOSThread()
	return fd, err
}

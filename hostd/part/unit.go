package part

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

const (
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdIface = "org.freedesktop.systemd1.Manager"
	busTime      = 10 * time.Second // for one call
)

// UnderSystemd says whether systemd has started this process as a service. Then hostd-net is a service of its own and
// workers become units.
func UnderSystemd() bool {
	return os.Getenv("NOTIFY_SOCKET") != "" && os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

// Units are the parts as units of systemd: hostd-net is a service that connects to a socket, each worker a transient one that
// runs as if its user had logged in, outside the walls around hostd.
type Units struct {
	listener *net.UnixListener
	netUID   uint32
	flags    []string // of a worker, beside its descriptor
	log      *slog.Logger
	fallback Children // for workers, where systemd does not answer

	mu    sync.Mutex // guards what follows
	bus   *dbus.Conn // nil: not connected
	unit  string     // hostd's own
	count int        // of workers started
	units map[string]*unitProcess
}

// NewUnits opens the socket for hostd-net, which only that user may use. workerFlags are given to each worker.
func NewUnits(path string, netUID uint32, workerFlags []string, log *slog.Logger) (*Units, error) {
	l, err := listen("unixpacket", path, 0o600)
	if err == nil {
		err = os.Lchown(path, int(netUID), -1)
	}
	if err != nil {
		return nil, fmt.Errorf("socket for hostd-net: %w", err)
	}
	return &Units{
		listener: l, netUID: netUID, flags: workerFlags, log: log, units: make(map[string]*unitProcess),
		fallback: Children{WorkerArgs: append([]string{"worker", "-fd", "3"}, workerFlags...)},
	}, nil
}

// Close closes the socket and the connection to systemd.
func (u *Units) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bus != nil {
		u.bus.Close()
	}
	return u.listener.Close()
}

// Net waits until hostd-net connects. Whoever else does is sent away.
func (u *Units) Net(ctx context.Context) (*ipc.Conn, Process, error) {
	stop := context.AfterFunc(ctx, func() { u.listener.SetDeadline(time.Now()) })
	defer stop()
	for {
		c, err := u.listener.AcceptUnix()
		if err != nil {
			return nil, nil, fmt.Errorf("socket for hostd-net: %w", err)
		}
		conn, err := ipc.NewConn(c)
		if err != nil {
			return nil, nil, fmt.Errorf("socket for hostd-net: %w", err)
		}
		uid, err := conn.PeerUID()
		if err == nil && uid == u.netUID {
			return conn, detached{}, nil
		}
		u.log.Warn("somebody else than hostd-net is sent away", "uid", uid, "err", err)
		conn.Close()
	}
}

// detached stands for a process that somebody else starts and ends: hostd-net ends when its socket does.
type detached struct{}

func (detached) Kill() {}

func (detached) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Worker starts a transient unit. Where systemd cannot be reached the worker is a child.
func (u *Units) Worker(ctx context.Context, who *login.Account, session bool) (*ipc.Conn, Process, error) {
	bus, err := u.connect(ctx)
	if err != nil {
		u.log.Warn("a worker is started without systemd", "err", err)
		return u.fallback.Worker(ctx, who, session)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := ipc.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	conn, err := ipc.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	p := u.add(bus)
	err = withFD(theirs, func(fd uintptr) error {
		return u.startUnit(ctx, bus, p.name, properties(who, session, u.unit, append([]string{exe}, u.flags...), dbus.UnixFD(fd)))
	})
	if err != nil {
		u.remove(p.name)
		conn.Close()
		return nil, nil, fmt.Errorf("start a worker through systemd: %w", err)
	}
	return conn, p, nil
}

// properties of a worker's unit. command is the program and its flags.
func properties(who *login.Account, session bool, parent string, command []string, socket dbus.UnixFD) []property {
	type execStart struct {
		Path   string
		Args   []string
		Ignore bool
	}
	list := []property{
		{"Description", dbus.MakeVariant("Helmline worker of " + who.Name)},
		{"Type", dbus.MakeVariant("exec")},
		{"ExecStart", dbus.MakeVariant([]execStart{{command[0], append([]string{"hostd", "worker", "-fd", "0"}, command[1:]...), false}})},
		{"User", dbus.MakeVariant(who.Name)},
		{"WorkingDirectory", dbus.MakeVariant("-/")},
		{"StandardInputFileDescriptor", dbus.MakeVariant(socket)},
		{"StandardOutput", dbus.MakeVariant("journal")},
		{"StandardError", dbus.MakeVariant("journal")},
		{"SyslogIdentifier", dbus.MakeVariant("hostd-worker")},
		{"UMask", dbus.MakeVariant(uint32(0o022))},
		{"TimerSlackNSec", dbus.MakeVariant(uint64(workerSlack))},
		{"LimitCORE", dbus.MakeVariant(uint64(0))},
		{"KillMode", dbus.MakeVariant("control-group")},
		{"TimeoutStopUSec", dbus.MakeVariant(uint64(2 * time.Second / time.Microsecond))},
		{"IgnoreSIGPIPE", dbus.MakeVariant(false)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
	}
	if session {
		list = append(list, property{"PAMName", dbus.MakeVariant("login")})
	}
	if parent != "" {
		list = append(list, property{"BindsTo", dbus.MakeVariant([]string{parent})}, property{"After", dbus.MakeVariant([]string{parent})})
	}
	return list
}

type property struct {
	Name  string
	Value dbus.Variant
}

// startUnit starts a transient unit and returns when systemd has taken the order.
func (u *Units) startUnit(ctx context.Context, bus *dbus.Conn, name string, properties []property) error {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	type aux struct {
		Name       string
		Properties []property
	}
	return bus.Object(systemdName, systemdPath).
		CallWithContext(ctx, systemdIface+".StartTransientUnit", 0, name, "fail", properties, []aux{}).Err
}

// connect joins the system's bus, learns hostd's own unit and listens for units that end.
func (u *Units) connect(ctx context.Context) (*dbus.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bus != nil && u.bus.Connected() {
		return u.bus, nil
	}
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	manager := bus.Object(systemdName, systemdPath)
	signals := make(chan *dbus.Signal, 64)
	bus.Signal(signals)
	err = manager.CallWithContext(ctx, systemdIface+".Subscribe", 0).Err
	if err == nil {
		err = bus.AddMatchSignalContext(ctx, dbus.WithMatchInterface(systemdIface), dbus.WithMatchMember("UnitRemoved"))
	}
	var path dbus.ObjectPath
	if err == nil {
		err = manager.CallWithContext(ctx, systemdIface+".GetUnitByPID", 0, uint32(os.Getpid())).Store(&path)
	}
	if err == nil {
		var id dbus.Variant
		if id, err = bus.Object(systemdName, path).GetProperty(systemdName + ".Unit.Id"); err == nil {
			u.unit, _ = id.Value().(string)
		}
	}
	if err != nil {
		bus.Close()
		return nil, err
	}
	u.bus = bus
	go u.watch(signals) // ends with the bus
	return bus, nil
}

// watch notes which units have ended. When the bus is lost, all count as ended: hostd cannot know, and ends their sockets.
func (u *Units) watch(signals <-chan *dbus.Signal) {
	for s := range signals {
		if s.Name == systemdIface+".UnitRemoved" && len(s.Body) > 0 {
			if name, ok := s.Body[0].(string); ok {
				u.remove(name)
			}
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, p := range u.units {
		delete(u.units, name)
		close(p.done)
	}
}

// add enters a unit that is about to be started.
func (u *Units) add(bus *dbus.Conn) *unitProcess {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count++
	p := &unitProcess{
		name: fmt.Sprintf("hostd-worker-%d-%d.service", os.Getpid(), u.count),
		bus:  bus, units: u, done: make(chan struct{}),
	}
	u.units[p.name] = p
	return p
}

func (u *Units) remove(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p := u.units[name]; p != nil {
		delete(u.units, name)
		close(p.done)
	}
}

// A unitProcess is a transient unit.
type unitProcess struct {
	name  string
	bus   *dbus.Conn
	units *Units
	done  chan struct{}
}

func (p *unitProcess) Done() <-chan struct{} { return p.done }

// Kill ends every process of the unit.
func (p *unitProcess) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), busTime)
	defer cancel()
	err := p.bus.Object(systemdName, systemdPath).CallWithContext(ctx, systemdIface+".KillUnit", 0, p.name, "all", int32(unix.SIGKILL)).Err
	if err != nil { // there is no such unit any more, or no systemd
		p.units.remove(p.name)
	}
}

// listen opens a Unix socket at path, in place of one that nobody listens at any more.
func listen(network, path string, mode os.FileMode) (*net.UnixListener, error) {
	address := &net.UnixAddr{Name: path, Net: network}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err == nil {
		if err := os.Chmod(filepath.Dir(path), 0o755); err != nil { // whatever the umask
			return nil, err
		}
	}
	l, err := net.ListenUnix(network, address)
	if errors.Is(err, unix.EADDRINUSE) {
		if c, err := net.DialUnix(network, nil, address); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s is in use by another hostd", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = net.ListenUnix(network, address)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ListenControl opens the control socket. Everybody may connect: who may ask for what is decided for each request.
func ListenControl(path string) (*net.UnixListener, error) {
	l, err := listen("unix", path, 0o666)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

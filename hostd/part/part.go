// Package part is the monitor: the one part of hostd that has privilege. It starts the other parts, knows who has logged in, who
// controls and what each session may see, and believes nothing that hostd-net says. It has no network.
package part

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"image"
	"log/slog"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/lease"
	"github.com/helmline/helmline/hostd/login"
)

// SeatKind says who is at the computer's screen.
type SeatKind uint8

// Kinds of seat.
const (
	SeatNone    SeatKind = iota // there is no screen, or nobody's
	SeatGreeter                 // the log-on screen
	SeatUser                    // a user's session
)

// SeatState is what is on the computer's screen.
type SeatState struct {
	Kind       SeatKind
	UID        uint32 // who the session, or the log-on screen, runs as
	Session    string // of logind, empty: unknown; another one is another desktop, even of the same user
	Display    string // of X
	Cookie     []byte // MIT-MAGIC-COOKIE-1; empty: the worker finds it
	Xauthority string // file to look for it in first
}

// A Seat tells what is on the computer's screen.
type Seat interface {
	Current() SeatState
	Changes() <-chan struct{} // something in Current may have changed
}

// A Process is a running part.
type Process interface {
	Kill()                 // ends it and its children; may be called again, and may wait for systemd: not from Run
	Done() <-chan struct{} // closed when it has ended
}

// Parts starts the other parts. Each is joined to the monitor by a socket.
type Parts interface {
	// Net starts hostd-net, or waits until it comes.
	Net(ctx context.Context) (*ipc.Conn, Process, error)
	// Worker starts a worker as an OS user. A session user's worker runs as that user would at log-in; one of the log-on
	// screen does not.
	Worker(ctx context.Context, who *login.Account, session bool) (*ipc.Conn, Process, error)
}

// A Login checks log-ins; login.Service is one.
type Login interface {
	Login(ctx context.Context, method ipc.Method, user string, secret []byte) login.Result
	CodeSet(ctx context.Context) bool
	OSLogin() bool
	Unlock(user string, code bool) (int, error)
	Locked() []time.Time
}

// Config of a Monitor.
type Config struct {
	Log         *slog.Logger
	Version     string
	Name        string // of the computer, as its OS calls it
	Epoch       uint64 // the first lease has the next
	Parts       Parts
	Seat        Seat
	Login       Login
	Lookup      func(context.Context, uint32) (*login.Account, error) // of an OS user by number
	Admins      []string                                              // groups whose members may see any user's desktop
	TakeForce   []string                                              // OS users who may take control without asking; no accounts, as those are the relay's word
	CodeFirst   func(codeSet bool) bool                               // whether the form asks for the code first
	RequireE2E  bool
	Ends        func(ctx context.Context, session string, how ipc.Ending) (ipc.Outcome, error) // to a session of logind
	Clipboard   ipc.Clipboard
	MaxSessions int
	Recording   Recording
	Size        image.Point // of a virtual display, and of forms while no other is known
}

// times are how long the monitor waits for this and that.
type times struct {
	lift  time.Duration // a worker has this long to release all keys
	ready time.Duration // and this long to open its display
	down  time.Duration // viewers wait this long for a worker to come back
	idle  time.Duration // a seat's worker ends this long after the last viewer; a virtual display stays
	tape  time.Duration // hostd-net has this long to begin a recording
	seat  time.Duration // viewers of a seat wait this long for what comes on it after a session, before they get a virtual display
	end   time.Duration // a worker whose socket was closed has this long to end by itself
}

func defaultTimes() times {
	return times{
		lift: 2 * time.Second, ready: 15 * time.Second, down: 10 * time.Second,
		idle: 30 * time.Second, tape: 10 * time.Second, seat: 5 * time.Second, end: time.Second,
	}
}

// A Monitor is the root part. Run owns its state; what else runs sends Run functions to call.
type Monitor struct {
	c      Config
	times  times
	log    *slog.Logger
	boot   string
	start  time.Time
	events chan func()
	wg     sync.WaitGroup // everything that Run has started
	gate   lease.Gate     // read by the goroutine that receives hostd-net's input

	// Owned by Run.
	ctx       context.Context
	next      []func() // to call after the event at hand
	lease     *lease.Lease
	expire    *time.Timer
	net       *netPart // nil: not there
	online    ipc.Online
	away      tunnel.Reason   // 0: here
	farewells []chan struct{} // closed when the tunnel is down
	welcome   ipc.Welcome
	sizeTold  time.Time   // when hostd-net was last told a new size
	sizeLate  *time.Timer // when it is told the next; nil: there is none
	sessions  map[uint32]*session
	parted    []*wayBack // of sessions that were cut off, oldest first
	used      sessionIDs
	seat      SeatState
	seatGone  *time.Timer // until it fires, a seat that went is waited for
	desktops  map[*desktop]bool
	number    uint32 // of the last desktop
	lifting   *time.Timer
	inputTo   *desktop // where the holder's keys may be down
	counts    Counts
	taping    bool // desktops are to be recorded
	ending    bool // an AtEnd is being done whose viewer waits
}

// Counts are what happened since hostd started.
type Counts struct {
	Sessions     uint64 `json:"sessions"`
	Logins       uint64 `json:"logins"`
	Refused      uint64 `json:"logins_refused"`
	Grants       uint64 `json:"grants"`
	NetStarts    uint64 `json:"net_starts"`
	WorkerStarts uint64 `json:"worker_starts"`
}

// New makes a monitor.
func New(c Config) *Monitor {
	var boot [16]byte
	rand.Read(boot[:])
	m := &Monitor{
		c: c, times: defaultTimes(), log: c.Log, boot: hex.EncodeToString(boot[:]), start: time.Now(),
		events:   make(chan func(), 64),
		sessions: make(map[uint32]*session),
		desktops: make(map[*desktop]bool),
	}
	m.lease = lease.New(m, c.Epoch)
	return m
}

// errEnd is the end of everything because Run's context ended.
var errEnd = errors.New("hostd ends")

// Run runs the monitor until ctx ends. All other parts have ended when it returns.
func (m *Monitor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	m.ctx = ctx
	defer m.wg.Wait()
	defer cancel(errEnd)
	m.expire = time.NewTimer(time.Hour)
	m.expire.Stop()
	m.seat = m.c.Seat.Current()
	m.welcome = ipc.Welcome{
		Name: m.c.Name, Size: m.c.Size, Greeter: m.seat.Kind == SeatGreeter,
		RequireE2E: m.c.RequireE2E, BootID: m.boot, Clipboard: m.c.Clipboard, Taped: m.c.Recording.Required, KeepTapes: m.c.Recording.Keep,
	}
	m.taping = m.c.Recording.Required
	m.loginWays(ctx)(&m.welcome) // now: who asks when hostd is ready gets the answer
	m.spawn(m.superviseNet)
	for {
		select {
		case <-ctx.Done():
			m.endAll()
			return nil
		case f := <-m.events:
			f()
		case <-m.c.Seat.Changes():
			m.seatChanged()
		case now := <-m.expire.C:
			m.lease.Expire(now)
		}
		for len(m.next) > 0 {
			f := m.next[0]
			m.next = m.next[1:]
			f()
		}
		if d := m.lease.Deadline(); !d.IsZero() {
			m.expire.Reset(time.Until(d))
		} else {
			m.expire.Stop()
		}
	}
}

// spawn runs f beside Run, which waits for its end.
func (m *Monitor) spawn(f func()) {
	m.wg.Go(f)
}

// post has Run call f. It is for other goroutines than Run's.
func (m *Monitor) post(f func()) {
	select {
	case m.events <- f:
	case <-m.ctx.Done():
	}
}

// after has Run call f some time later, if the timer is not stopped; f must check that it is still wanted.
func (m *Monitor) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { m.post(f) })
}

// Alive waits until Run has time, or gives ctx's error.
func (m *Monitor) Alive(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case m.events <- func() { close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endAll ends every part.
func (m *Monitor) endAll() {
	m.gate.Shut()
	for d := range m.desktops {
		m.closeDesktop(d)
	}
	if m.net != nil {
		m.net.close() // superviseNet ends its process
	}
}

// pause waits before a part is started again: longer each time, up to 2 s, but not long for one that had run well.
func (m *Monitor) pause(failures int) {
	const first, longest = 100 * time.Millisecond, 2 * time.Second
	t := time.NewTimer(min(first<<min(failures, 6), longest))
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.ctx.Done():
	}
}

// ranWell is how long a part must run for its end not to count as a failure to start.
const ranWell = 10 * time.Second

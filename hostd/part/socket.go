package part

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/hostd/ipc"
)

// What can be asked over the control socket. Each connection carries one Request and one Reply, as JSON.
const (
	OpStatus   = "status"
	OpSessions = "sessions"
	OpEnd      = "end"    // one session, or all when ID is 0
	OpUnlock   = "unlock" // forget failures: of User, of the access code, or all
	OpReload   = "reload" // the enrolment has changed
	OpCode     = "code"   // the access code has changed
	OpRecord   = "record" // On
)

// Limits of the control socket.
const (
	maxRequest    = 4 << 10 // bytes
	maxReply      = 4 << 20 // bytes
	maxAskers     = 16      // connections at once of root, and as many of all other users; more are closed
	maxUserAskers = 2       // of each other user
	requestTime   = 10 * time.Second
	readTime      = time.Second            // for reading a request, and for writing a reply
	acceptPause   = 100 * time.Millisecond // after a connection that could not be accepted
)

// A Request is one question over the control socket.
type Request struct {
	Op   string `json:"op"`
	ID   uint32 `json:"id,omitempty"`
	User string `json:"user,omitempty"`
	Code bool   `json:"code,omitempty"`
	On   bool   `json:"on,omitempty"`
}

// A Reply answers a Request.
type Reply struct {
	Error    string        `json:"error,omitempty"` // why nothing was done
	Count    int           `json:"count,omitempty"` // of what was ended or unlocked
	Status   *Status       `json:"status,omitempty"`
	Sessions []SessionInfo `json:"sessions,omitempty"`
}

// Status is the state of hostd.
type Status struct {
	Version     string      `json:"version"`
	Name        string      `json:"name"` // of the computer
	PID         int         `json:"pid"`
	Boot        string      `json:"boot"`
	Started     time.Time   `json:"started"`
	Net         bool        `json:"net"` // hostd-net is there
	Online      bool        `json:"online"`
	Relay       string      `json:"relay,omitempty"`
	OnlineSince time.Time   `json:"online_since,omitzero"` // or offline since
	OnlineError string      `json:"online_error,omitempty"`
	Sessions    int         `json:"sessions"`
	Holder      string      `json:"holder,omitempty"` // account in control
	HolderSince time.Time   `json:"holder_since,omitzero"`
	Epoch       uint64      `json:"epoch"`
	Seat        string      `json:"seat"`
	Desktops    int         `json:"desktops"`
	Recording   string      `json:"recording"` // for people
	CodeSet     bool        `json:"code_set"`
	OSLogin     bool        `json:"os_login"`
	Locked      []time.Time `json:"locked,omitempty"` // ends of lock-outs
	Passed      uint64      `json:"input_passed"`
	Dropped     uint64      `json:"input_dropped"`
	Counts      Counts      `json:"counts"`
}

// SessionInfo is one session, as "hostd sessions" lists it.
type SessionInfo struct {
	ID      uint32    `json:"id"`
	Relay   string    `json:"relay_session"`
	Account string    `json:"account"`
	Viewer  string    `json:"viewer"`
	User    string    `json:"user,omitempty"` // empty: at the log-on form
	Role    string    `json:"role"`           // that the viewer came for: control, watch or take
	Control bool      `json:"control"`        // it is in control
	Since   time.Time `json:"since"`
	E2E     bool      `json:"end_to_end"`
	Desktop uint32    `json:"desktop,omitempty"`
}

// askers counts the connections to the control socket. Everybody may connect, so nobody's connections may keep others out.
type askers struct {
	mu     sync.Mutex     // guards what follows
	users  map[uint32]int // by their number
	common int            // of users without privilege
}

// enter takes a place for a user, or says that there is none.
func (a *askers) enter(uid uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if may := privileged(uid); may && a.users[uid] >= maxAskers || !may && (a.users[uid] >= maxUserAskers || a.common >= maxAskers) {
		return false
	} else if !may {
		a.common++
	}
	a.users[uid]++
	return true
}

func (a *askers) leave(uid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users[uid]--; a.users[uid] == 0 {
		delete(a.users, uid)
	}
	if !privileged(uid) {
		a.common--
	}
}

// privileged says whether a user may ask for everything: root, and whom hostd runs as.
func privileged(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

// A listener is a net.UnixListener.
type listener interface {
	AcceptUnix() (*net.UnixConn, error)
	Close() error
}

// ServeControl answers over the control socket until ctx ends. Root, and the user that hostd runs as, may do all; others may ask
// for the status and end the sessions on their own desktop.
func (m *Monitor) ServeControl(ctx context.Context, l *net.UnixListener) error {
	return m.serveControl(ctx, l, peerUID)
}

func (m *Monitor) serveControl(ctx context.Context, l listener, peer func(*net.UnixConn) (uint32, error)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	places := &askers{users: make(map[uint32]int)}
	for {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("control socket: %w", err)
		case err != nil: // out of descriptors, say: that passes, and is no reason to end everybody's session
			m.log.Warn("control socket", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		uid, err := peer(c)
		if err != nil {
			m.log.Warn("control socket", "err", err)
			c.Close()
			continue
		}
		if !places.enter(uid) {
			c.Close()
			continue
		}
		wg.Go(func() {
			defer places.leave(uid)
			defer c.Close()
			if err := m.serveRequest(ctx, c, uid); err != nil {
				m.log.Warn("control socket", "uid", uid, "err", err)
			}
		})
	}
}

func (m *Monitor) serveRequest(ctx context.Context, c *net.UnixConn, uid uint32) error {
	c.SetReadDeadline(time.Now().Add(readTime))
	r, err := readRequest(c)
	if err != nil {
		return err
	}
	reply := m.serveOp(ctx, r, uid)
	c.SetWriteDeadline(time.Now().Add(readTime))
	return json.NewEncoder(c).Encode(reply)
}

func readRequest(r io.Reader) (Request, error) {
	var q Request
	d := json.NewDecoder(io.LimitReader(r, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return q, fmt.Errorf("a request that is none: %w", err)
	}
	return q, nil
}

func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// serveOp does what a user may ask for.
func (m *Monitor) serveOp(ctx context.Context, q Request, uid uint32) Reply {
	all := privileged(uid)
	if !all && q.Op != OpStatus && q.Op != OpEnd {
		return Reply{Error: "only root may do this"}
	}
	switch q.Op {
	case OpStatus:
		locked := m.c.Login.Locked()
		return m.inRun(ctx, func() Reply { return Reply{Status: m.status(locked)} })
	case OpSessions:
		return m.inRun(ctx, func() Reply { return Reply{Sessions: m.list()} })
	case OpEnd:
		return m.inRun(ctx, func() Reply {
			n := m.end(q.ID, "an administrator of this computer", func(at place) bool {
				return all || at.kind != SeatGreeter && at.uid == uid
			})
			if n == 0 && q.ID != 0 {
				return Reply{Error: fmt.Sprintf("there is no session %d of yours; \"hostd sessions\" lists them", q.ID)}
			}
			return Reply{Count: n}
		})
	case OpUnlock:
		n, err := m.c.Login.Unlock(q.User, q.Code)
		if err != nil {
			return Reply{Error: err.Error()}
		}
		return Reply{Count: n}
	case OpRecord:
		return m.inRun(ctx, func() Reply {
			if err := m.setTaping(q.On); err != nil {
				return Reply{Error: err.Error()}
			}
			return Reply{Count: m.viewing()}
		})
	case OpReload:
		return m.inRun(ctx, func() Reply { m.toNet(ipc.TypeReload, nil); return Reply{} })
	case OpCode:
		if _, err := m.c.Login.Unlock("", true); err != nil {
			return Reply{Error: err.Error()}
		}
		return m.inRun(ctx, func() Reply { m.refreshLogin(); return Reply{} })
	}
	return Reply{Error: fmt.Sprintf("%q is no request", q.Op)}
}

// inRun has Run call f and waits for its reply.
func (m *Monitor) inRun(ctx context.Context, f func() Reply) Reply {
	reply := make(chan Reply, 1)
	select {
	case m.events <- func() { reply <- f() }:
	case <-ctx.Done():
	}
	select {
	case r := <-reply:
		return r
	case <-ctx.Done():
		return Reply{Error: "hostd ends"}
	}
}

func (m *Monitor) status(locked []time.Time) *Status {
	s := m.lease.State()
	st := &Status{
		Version: m.c.Version, Name: m.c.Name, PID: os.Getpid(), Boot: m.boot, Started: m.start,
		Net: m.net != nil, Online: m.online.Online, Relay: m.online.Relay, OnlineSince: m.online.Since, OnlineError: m.online.Err,
		Sessions: len(m.sessions), Holder: s.Holder, HolderSince: s.Since, Epoch: s.Epoch,
		Seat: m.seat.Kind.String(), Desktops: len(m.desktops), Recording: m.recordingText(),
		CodeSet: m.welcome.CodeSet, OSLogin: m.welcome.OSLogin, Locked: locked, Counts: m.counts,
	}
	st.Passed, st.Dropped = m.gate.Counts()
	return st
}

func (m *Monitor) list() []SessionInfo {
	list := []SessionInfo{}
	for _, s := range m.sessions {
		i := SessionInfo{ID: s.id, Relay: s.relay, Account: s.account, Viewer: s.viewer, Role: s.role.String(),
			Control: m.lease.Holds(s.id), Since: s.opened, E2E: s.e2e}
		if s.user != nil {
			i.User = s.user.Name
		}
		if s.desktop != nil {
			i.Desktop = s.desktop.number
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// ErrNotRunning is that nobody answers at the control socket.
var ErrNotRunning = errors.New("hostd is not running; start it with \"systemctl start hostd\" or \"hostd serve\"")

// Ask sends a request to the hostd that listens at path. A Reply with an Error becomes one.
func Ask(ctx context.Context, path string, q Request) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return Reply{}, ErrNotRunning
	case err != nil:
		return Reply{}, fmt.Errorf("ask hostd: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if err := json.NewEncoder(c).Encode(q); err != nil && !errors.Is(err, syscall.EPIPE) { // else the end is read below
		return Reply{}, fmt.Errorf("ask hostd: %w", err)
	}
	var r Reply
	if err := json.NewDecoder(io.LimitReader(c, maxReply)).Decode(&r); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return Reply{}, errors.New("hostd answers too many others at this moment; try again")
	} else if err != nil {
		return Reply{}, fmt.Errorf("answer of hostd: %w", err)
	}
	if r.Error != "" {
		return Reply{}, errors.New(r.Error)
	}
	return r, nil
}

package part

import (
	"context"
	"fmt"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// A netPart is one life of hostd-net.
type netPart struct {
	*link
	version string // from its Hello; empty: none yet
}

// superviseNet keeps hostd-net running.
func (m *Monitor) superviseNet() {
	for failures := 0; m.ctx.Err() == nil; {
		conn, proc, err := m.c.Parts.Net(m.ctx)
		began := time.Now()
		if err == nil {
			n := &netPart{link: newLink(conn, proc)}
			m.post(func() { m.counts.NetStarts++ })
			err = n.serve(m.ctx, func(p []byte) error { return m.fromNet(n, p) })
			proc.Kill()
			<-proc.Done()
			m.post(func() { m.netGone(n) })
		}
		if m.ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Error("hostd-net is ended", "err", err)
		} else {
			m.log.Warn("hostd-net has ended; it is started again")
		}
		if failures++; time.Since(began) >= ranWell {
			failures = 1
		}
		m.pause(failures - 1)
	}
}

// fromNet takes one packet of hostd-net. An error ends hostd-net: it is broken or not ours any more.
func (m *Monitor) fromNet(n *netPart, p []byte) error {
	switch t := ipc.Type(p[0]); t {
	case ipc.TypeInput:
		in, err := ipc.ParseInput(p)
		if err != nil || in.Kind != ipc.InputKey && in.Kind != ipc.InputPointer {
			return ipc.ErrMalformed
		}
		m.gate.Pass(in)
		return nil
	case ipc.TypePaste:
		c, err := ipc.ParseClip(p)
		if err == nil && m.c.Clipboard.ToHost {
			m.gate.Paste(c)
		}
		return err
	case ipc.TypeHello:
		return handle(m, n, p, m.hello)
	case ipc.TypeOpen:
		return handle(m, n, p, m.open)
	case ipc.TypeLogin:
		err := handle(m, n, p, m.login)
		clear(p)
		return err
	case ipc.TypeControl:
		return handle(m, n, p, m.control)
	case ipc.TypeAnswer:
		return handle(m, n, p, m.answer)
	case ipc.TypeYield:
		return handle(m, n, p, m.yield)
	case ipc.TypeAtEnd:
		return handle(m, n, p, m.atEnd)
	case ipc.TypeClose:
		return handle(m, n, p, m.closeSession)
	case ipc.TypeResize:
		return handle(m, n, p, m.resize)
	case ipc.TypeOnline:
		return handle(m, n, p, m.isOnline)
	case ipc.TypeRecorded:
		return handle(m, n, p, m.recorded)
	default:
		return fmt.Errorf("hostd-net sent a message of type %d: %w", t, ipc.ErrMalformed)
	}
}

// handle decodes a message and has Run call f with it. An error of f ends hostd-net.
func handle[T any](m *Monitor, n *netPart, p []byte, f func(*netPart, T) error) error {
	msg, err := ipc.Decode[T](p)
	if err != nil {
		return fmt.Errorf("hostd-net sent a message of type %d: %w", p[0], err)
	}
	m.post(func() {
		if _, hello := any(msg).(ipc.Hello); n != m.net && !hello {
			return // it has ended, or has not said hello
		}
		if err := f(n, msg); err != nil {
			m.log.Error("hostd-net is ended", "err", err)
			n.close()
		}
	})
	return nil
}

func (m *Monitor) hello(n *netPart, h ipc.Hello) error {
	if n.version != "" {
		return fmt.Errorf("hostd-net said hello twice: %w", ipc.ErrMalformed)
	}
	n.version = refuse.Printable(h.Version, 40)
	m.net = n
	if n.version != m.c.Version {
		m.log.Warn("hostd-net is of another version", "version", n.version)
	}
	m.sendWelcome()
	m.sendLease()
	if m.away != 0 {
		m.toNet(ipc.TypeAway, ipc.Away{Why: m.away})
	}
	m.refreshLogin()
	return nil
}

// netGone ends what hostd-net had. Its viewers are gone with it: a controller has its grace, and every picture it could read is
// replaced.
func (m *Monitor) netGone(n *netPart) {
	if m.net != n {
		return
	}
	m.net = nil
	m.online = ipc.Online{}
	m.told()
	for id := range m.sessions {
		m.endSession(id, true)
	}
	m.used = sessionIDs{}
	for d := range m.desktops {
		d.tape = tapeNone
		m.takeBack(d)
	}
}

func (m *Monitor) isOnline(_ *netPart, o ipc.Online) error {
	o.Relay, o.Name, o.Err = refuse.Printable(o.Relay, 255), refuse.Printable(o.Name, 63), refuse.Printable(o.Err, 255)
	m.online = o
	if !o.Online {
		m.told()
	}
	return nil
}

// name is what people call this computer: its name at the relay, else its own.
func (m *Monitor) name() string {
	if m.online.Name != "" {
		return m.online.Name
	}
	return m.c.Name
}

// Away has the relay told why the computer is about to go, or with 0 that it is here again. It returns when the relay has been
// told, or ctx ends.
func (m *Monitor) Away(ctx context.Context, why tunnel.Reason) {
	told := make(chan struct{})
	select {
	case m.events <- func() {
		m.away = why
		m.toNet(ipc.TypeAway, ipc.Away{Why: why})
		if m.farewells = append(m.farewells, told); why == 0 || !m.online.Online {
			m.told()
		}
	}:
	case <-ctx.Done():
		return
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// told lets those go on who wait until the tunnel is down.
func (m *Monitor) told() {
	for _, c := range m.farewells {
		close(c)
	}
	m.farewells = nil
}

// toNet sends hostd-net a message, if it is there.
func (m *Monitor) toNet(t ipc.Type, body any) {
	if m.net != nil {
		m.net.send(t, body)
	}
}

func (m *Monitor) sendWelcome() {
	s := m.lease.State()
	m.welcome.Holder, m.welcome.Since = s.Holder, s.Since
	m.toNet(ipc.TypeWelcome, m.welcome)
}

func (m *Monitor) sendLease() {
	s := m.lease.State()
	m.toNet(ipc.TypeLease, ipc.Lease{Epoch: s.Epoch, Session: s.Session, Holder: s.Holder, Since: s.Since})
}

// refreshLogin finds out how one can log in, and tells hostd-net when that has changed.
func (m *Monitor) refreshLogin() {
	ctx := m.ctx
	m.spawn(func() {
		setWays := m.loginWays(ctx)
		m.post(func() {
			w := m.welcome
			if setWays(&w); w != m.welcome {
				m.welcome = w
				m.sendWelcome()
			}
		})
	})
}

// loginWays asks how one can log in, for 10 s at most, and gives what writes the answer into a Welcome.
func (m *Monitor) loginWays(ctx context.Context) (set func(*ipc.Welcome)) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	codeSet, osLogin := m.c.Login.CodeSet(ctx), m.c.Login.OSLogin()
	return func(w *ipc.Welcome) { w.CodeSet, w.OSLogin, w.CodeFirst = codeSet, osLogin, m.c.CodeFirst(codeSet) }
}

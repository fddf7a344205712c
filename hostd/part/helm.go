package part

import (
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/lease"
)

// Shut is for the lease: no input any more, and all keys up.
func (m *Monitor) Shut() {
	m.gate.Shut()
	d := m.inputTo
	m.inputTo = nil
	if d == nil || d.worker == nil {
		m.next = append(m.next, m.lease.Released)
		return
	}
	w := d.worker
	w.dropInput()
	w.send(ipc.TypeRelease, nil)
	if m.mayCopy(d) {
		w.send(ipc.TypeListen, ipc.Listen{})
	}
	w.lifting = true
	m.lifting = m.after(m.times.lift, func() {
		if w.lifting {
			m.log.Error("a worker does not release the keys and is ended", "uid", d.uid)
			w.close()
			m.spawn(func() { // it may take systemd its time
				w.proc.Kill()
				m.post(func() { m.released(w) })
			})
		}
	})
}

// released says that a worker's keys are up, or that the worker is gone.
func (m *Monitor) released(w *workerPart) {
	if !w.lifting {
		return
	}
	w.lifting = false
	m.lifting.Stop()
	m.lease.Released()
}

// Granted is for the lease: input of p's session may pass.
func (m *Monitor) Granted(p lease.Party, epoch uint64) {
	s := m.sessions[p.Session]
	if s == nil || s.desktop == nil { // not reached: who ends or loses the desktop leaves the lease first
		m.next = append(m.next, func() { m.lease.Leave(p.Session, false, time.Now()) })
		return
	}
	m.counts.Grants++
	m.inputTo = s.desktop
	m.gate.Open(p.Session, epoch, s.desktop)
	if s.waits {
		s.waits = false
		m.toNet(ipc.TypeControlled, ipc.Controlled{ID: s.control, Epoch: epoch})
	}
	if w := s.desktop.worker; w != nil && m.mayCopy(s.desktop) {
		w.send(ipc.TypeListen, ipc.Listen{Clipboard: true})
	}
	m.log.Info("in control", "viewer", s.viewer, "account", s.account, "user", p.User, "epoch", epoch)
}

// Refused is for the lease.
func (m *Monitor) Refused(id uint32, why *refuse.Refusal) {
	if s := m.sessions[id]; s != nil && s.waits {
		s.waits = false
		m.toNet(ipc.TypeControlled, ipc.Controlled{ID: s.control, Refusal: why})
	}
}

// Ask is for the lease.
func (m *Monitor) Ask(holder, asker lease.Party, until time.Time) {
	m.toNet(ipc.TypeAsk, ipc.Ask{Session: holder.Session, Asker: asker.Session, Account: asker.Account, Until: until})
}

// Changed is for the lease.
func (m *Monitor) Changed() {
	m.sendLease()
	m.sendWelcome()
}

package part

import (
	"time"
)

// seatChanged applies the rule of whose desktop a user may see again. The worker of the seat before is cut off first: no pixel of it
// is asked for and no key reaches it any more.
func (m *Monitor) seatChanged() {
	now := m.c.Seat.Current()
	if now.place() == m.seat.place() {
		return
	}
	before := m.seat
	m.seat = now
	m.log.Info("the computer's screen has changed hands", "kind", now.Kind.String(), "uid", now.UID, "display", now.Display)
	if greeter := now.Kind == SeatGreeter; greeter != m.welcome.Greeter {
		m.welcome.Greeter = greeter
		m.sendWelcome()
	}
	if m.seatGone != nil {
		m.seatGone.Stop()
		m.seatGone = nil
	}
	for d := range m.desktops {
		if d.kind != SeatNone {
			m.vacate(d)
		}
	}
	if now.Kind == SeatNone && before.Kind != SeatNone {
		var t *time.Timer
		t = m.after(m.times.seat, func() {
			if m.seatGone == t {
				m.seatGone = nil
				m.reseat()
			}
		})
		m.seatGone = t
		return
	}
	m.fetch()
	m.reseat()
}

// vacate closes a desktop and leaves its sessions without one.
func (m *Monitor) vacate(d *desktop) {
	for _, s := range m.sessions {
		if s.desktop == d {
			if m.lease.Holds(s.id) {
				m.lease.Pause()
			}
			s.desktop, s.attached, s.lost = nil, false, d.place
		}
	}
	m.closeDesktop(d)
}

// fetch takes those who lost what is on the seat again, as when its X server was started again, from the virtual displays that they were
// given for it.
func (m *Monitor) fetch() {
	for _, s := range m.sessions {
		if s.desktop != nil && s.lost != (place{}) && s.lost == m.seat.place() {
			if m.lease.Holds(s.id) {
				m.lease.Pause()
			}
			m.leaveDesktop(s)
		}
	}
}

// reseat gives every logged-in session without a desktop the one it may see now, or the form.
func (m *Monitor) reseat() {
	for _, s := range m.sessions {
		if s.user == nil || s.desktop != nil {
			continue
		}
		place, why := m.placeFor(s.user, s.admin)
		if why != nil {
			m.detach(s, why)
			continue
		}
		m.join(s, m.desktopAt(place))
		if m.lease.Holds(s.id) {
			m.lease.Renew()
		}
	}
}

func (k SeatKind) String() string {
	switch k {
	case SeatGreeter:
		return "log-on screen"
	case SeatUser:
		return "user"
	}
	return "none"
}

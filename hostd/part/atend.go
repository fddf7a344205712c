package part

import (
	"context"
	"fmt"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// endTime is how long logind has to lock or end a session.
const endTime = 10 * time.Second

// mayEnd says whether a session can have its desktop locked or logged off when it ends: that of a user's session of logind. It must be
// one that can come back, so that a cut is not taken for the end.
func (m *Monitor) mayEnd(s *session) bool {
	return s.back != nil && s.desktop.kind == SeatUser && s.desktop.session != ""
}

func (m *Monitor) atEnd(_ *netPart, a ipc.AtEnd) error {
	if a.Do > ipc.EndLogsOff {
		return fmt.Errorf("hostd-net wants %d at the end of a session: %w", a.Do, ipc.ErrMalformed)
	}
	if s := m.sessions[a.Session]; s != nil && s.desktop != nil && m.mayEnd(s) && m.lease.Holds(s.id) {
		s.atEnd = a.Do
		if a.Now && !m.ending { // one at a time: hostd-net may say this as often as it likes
			m.endNow(s)
		}
	}
	return nil
}

// endNow does what a session wants at its end before that, so that its viewer hears what has come of it.
func (m *Monitor) endNow(s *session) {
	at, how := s.desktop.place, s.atEnd
	s.atEnd = ipc.EndLeaves
	if how == ipc.EndLeaves || at != m.seat.place() {
		m.toNet(ipc.TypeEnded, ipc.Ended{Session: s.id, Outcome: ipc.OutcomeFailed})
		return
	}
	m.ending = true
	m.finish(at, how, func(o ipc.Outcome) {
		m.post(func() {
			m.ending = false
			m.toNet(ipc.TypeEnded, ipc.Ended{Session: s.id, Outcome: o})
		})
	})
}

// wrapUp does what a session in control wanted at its end, unless another controls now, or something else is on the screen.
func (m *Monitor) wrapUp(at place, how ipc.Ending) {
	if how == ipc.EndLeaves || m.lease.State().Holder != "" || at.kind != SeatUser || at != m.seat.place() {
		return
	}
	m.finish(at, how, func(ipc.Outcome) {})
}

// finish has logind lock or end a session, and calls done with what has come of it.
func (m *Monitor) finish(at place, how ipc.Ending, done func(ipc.Outcome)) {
	ctx := m.ctx
	m.spawn(func() {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		log := m.log.With("session", at.session, "uid", at.uid)
		o, err := m.c.Ends(ctx, at.session, how)
		switch {
		case err != nil:
			o = ipc.OutcomeFailed
			log.Error("the screen is left as it was", "err", err)
		case how == ipc.EndLogsOff:
			log.Info("logged off")
		case o == ipc.OutcomeDone:
			log.Info("the screen is locked")
		default:
			log.Warn("the screen was told to lock, and its desktop does not say that it is locked")
		}
		done(o)
	})
}

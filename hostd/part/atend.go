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
	}
	return nil
}

// wrapUp does what a session in control wanted at its end, unless another controls now, or something else is on the screen.
func (m *Monitor) wrapUp(at place, how ipc.Ending) {
	if how == ipc.EndLeaves || m.lease.State().Holder != "" || at.kind != SeatUser || at != m.seat.place() {
		return
	}
	ctx := m.ctx
	m.spawn(func() {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		log := m.log.With("session", at.session, "uid", at.uid)
		if err := m.c.Ends(ctx, at.session, how); err != nil {
			log.Error("the screen is left as it was", "err", err)
		} else if how == ipc.EndLocks {
			log.Info("the screen is locked")
		} else {
			log.Info("logged off")
		}
	})
}

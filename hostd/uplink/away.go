package uplink

import (
	"context"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
)

// heed takes in what Config.Away says, until ctx ends.
func (u *uplink) heed(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case why := <-u.cfg.Away:
			u.mu.Lock()
			s, telling := u.main, make(chan struct{})
			u.turn(why)
			if why != 0 && s != nil {
				u.telling = telling
			}
			u.mu.Unlock()
			if why != 0 && s != nil {
				_ = s.CloseFor(why) // it is over either way
			}
			close(telling)
		}
	}
}

// told waits until heed has told the relay why the tunnel ends, if it does.
func (u *uplink) told() {
	u.mu.Lock()
	telling := u.telling
	u.mu.Unlock()
	if telling != nil {
		<-telling
	}
}

// turn notes that the computer goes, or with 0 that it is here; u.mu is held.
func (u *uplink) turn(why tunnel.Reason) {
	u.away = why
	close(u.changed)
	u.changed = make(chan struct{})
}

// hold makes s the main tunnel. One that was dialled while the computer was about to go ends at once.
func (u *uplink) hold(s *tunnel.Session) {
	u.mu.Lock()
	u.main = s
	why := u.away
	u.mu.Unlock()
	if why != 0 && s != nil {
		_ = s.CloseFor(why)
	}
}

func (u *uplink) isAway() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.away != 0
}

// stayAway returns once the computer is here, or ctx ends. It says whether it had to wait.
func (u *uplink) stayAway(ctx context.Context) (waited bool) {
	late := time.NewTimer(awayTime) // of a clock that stands still while the computer sleeps
	defer late.Stop()
	for {
		u.mu.Lock()
		why, changed := u.away, u.changed
		u.mu.Unlock()
		if why == 0 {
			return waited
		}
		waited = true
		select {
		case <-ctx.Done():
			return waited
		case <-changed:
		case <-late.C:
			u.mu.Lock()
			u.turn(0)
			u.mu.Unlock()
		}
	}
}

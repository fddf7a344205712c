// Package lease says who controls this computer. At most one session does; each grant has an epoch, and input that does not carry
// the current one is dropped by the Gate. hostd alone mints leases: no relay, clock or store has a part in it.
package lease

import (
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

// Limits.
const (
	Grace  = 15 * time.Second // a vanished holder keeps control for this long
	AskFor = 10 * time.Second // a holder has this long to answer who asks for control
)

// A Party is a logged-in session.
type Party struct {
	Session uint32 // 0: nobody
	Account string // in the words of the relay
	User    string // of the OS
}

func (p Party) samePerson(q Party) bool { return p.Account == q.Account && p.User == q.User }

// How a session wants control.
type How uint8

// Ways to want control.
const (
	Plain How = iota // only if nobody has it
	Ask              // else ask the holder, if that is another person
	Force            // else take it; whoever calls has checked the right to
)

// A Desk is what the lease acts on. Its methods are called from those of Lease, must not call back and never wait.
type Desk interface {
	// Shut ends all input and has every pressed key and button released. Lease.Released is called when that is done.
	Shut()
	// Granted opens the desktop for input of that session and epoch. All keys are up.
	Granted(p Party, epoch uint64)
	// Refused tells a session that it does not get control.
	Refused(session uint32, why *refuse.Refusal)
	// Ask asks the holder for control on behalf of another; an asker of session 0 withdraws the question.
	Ask(holder, asker Party, until time.Time)
	// Changed is called when State has changed.
	Changed()
}

// A Lease is the right to control one computer. One goroutine owns it. It keeps no clock: Expire is called at Deadline.
type Lease struct {
	desk     Desk
	epoch    uint64
	holder   Party // Session 0: nobody, unless vanished is set
	since    time.Time
	vanished time.Time // when the holder's transport ended; zero: it is there
	pending  bool      // the holder waits until the keys are up, and Renew has been called after Pause
	paused   bool      // Pause has been called, Renew not yet
	pressed  bool      // keys may be down: input has been let in since the last Released
	lifting  bool      // Shut has been called, Released not yet
	asker    Party     // who has asked the holder
	until    time.Time // end of the asking
}

// New makes a lease that nobody holds. The first grant has the epoch after the given one.
func New(desk Desk, epoch uint64) *Lease {
	return &Lease{desk: desk, epoch: epoch}
}

// State is what everybody may know.
type State struct {
	Epoch   uint64
	Session uint32 // 0: nobody, or not to be reached
	Holder  string // account; empty: nobody holds
	Since   time.Time
}

// State tells who controls.
func (l *Lease) State() State {
	if !l.held() {
		return State{Epoch: l.epoch}
	}
	s := State{Epoch: l.epoch, Session: l.holder.Session, Holder: l.holder.Account, Since: l.since}
	if l.pending || !l.vanished.IsZero() {
		s.Session = 0
	}
	return s
}

func (l *Lease) held() bool { return l.holder.Session != 0 }

// Holds says whether the session has control, or waits for the keys to be up to have it.
func (l *Lease) Holds(session uint32) bool {
	return session != 0 && l.holder.Session == session && l.vanished.IsZero()
}

// Held is the refusal that p would get for asking plainly, or nil. It is advice: the answer is Take's.
func (l *Lease) Held(account string) *refuse.Refusal {
	if !l.held() || (!l.vanished.IsZero() && l.holder.Account == account) {
		return nil
	}
	return l.refusal()
}

func (l *Lease) refusal() *refuse.Refusal {
	return refuse.Held.Of(l.holder.Account, l.since.Format("15:04"))
}

// Take asks for control. The answer comes by Granted or Refused, at once, or for Ask up to AskFor later.
func (l *Lease) Take(p Party, how How, now time.Time) {
	switch {
	case l.Holds(p.Session):
		if !l.pending {
			l.desk.Granted(p, l.epoch)
		}
	case !l.held():
		l.grant(p, now)
	case !l.vanished.IsZero() && l.holder.samePerson(p):
		since := l.since
		l.grant(p, since)
	case how == Force, how == Ask && l.holder.samePerson(p): // with two viewers, who would answer?
		l.grant(p, now)
	case how == Ask && l.asker.Session == 0:
		l.asker, l.until = p, now.Add(AskFor)
		if l.vanished.IsZero() {
			l.desk.Ask(l.holder, p, l.until)
		}
	default:
		l.desk.Refused(p.Session, l.refusal())
	}
}

// grant gives control to p, who has it when all keys are up.
func (l *Lease) grant(p Party, since time.Time) {
	asker := l.asker
	l.holder, l.since, l.vanished, l.asker = p, since, time.Time{}, Party{}
	l.epoch++
	l.pending, l.paused = true, false
	if asker.Session != 0 && asker.Session != p.Session {
		l.desk.Refused(asker.Session, l.refusal())
	}
	l.lift()
	if l.lifting {
		l.desk.Changed()
		return
	}
	l.openIfUp()
}

// lift stops input and has the keys released.
func (l *Lease) lift() {
	if l.pressed && !l.lifting {
		l.lifting = true
		l.desk.Shut()
	}
}

// openIfUp lets the holder's input in, if nothing is waited for.
func (l *Lease) openIfUp() {
	if !l.pending || l.paused || l.lifting {
		return
	}
	l.pending, l.pressed = false, true
	l.desk.Granted(l.holder, l.epoch)
	l.desk.Changed()
}

// Released says that all keys are up, after Shut.
func (l *Lease) Released() {
	if !l.lifting {
		return
	}
	l.lifting, l.pressed = false, false
	l.openIfUp()
}

// Pause stops the holder's input and has the keys released, as the holder gets another desktop. Control stays, with another epoch,
// so that input meant for the desktop before does not reach the next. Renew ends the pause.
func (l *Lease) Pause() {
	if !l.held() || !l.vanished.IsZero() {
		return
	}
	l.epoch++
	l.pending, l.paused = true, true
	l.lift()
	l.desk.Changed()
}

// Renew lets the holder's input in again after Pause, once all keys are up.
func (l *Lease) Renew() {
	if l.paused {
		l.paused = false
		l.openIfUp()
	}
}

// Answer is the holder's answer to an Ask. Any other is not heard.
func (l *Lease) Answer(session, asker uint32, grant bool, now time.Time) {
	if !l.Holds(session) || asker == 0 || l.asker.Session != asker {
		return
	}
	if grant {
		l.grant(l.asker, now)
		return
	}
	l.asker = Party{}
	l.desk.Refused(asker, refuse.Denied.Of(l.holder.Account))
}

// Leave says that a session has ended, has lost its login or gives control up. A vanished holder's control stays for Grace,
// though its keys are released at once.
func (l *Lease) Leave(session uint32, vanished bool, now time.Time) {
	if session == 0 {
		return
	}
	if l.asker.Session == session {
		l.asker = Party{}
		if l.vanished.IsZero() {
			l.desk.Ask(l.holder, Party{}, time.Time{})
		}
	}
	if !l.Holds(session) {
		return
	}
	l.pending, l.paused = false, false
	l.epoch++
	if vanished {
		l.vanished = now
		l.lift()
		l.desk.Changed()
		return
	}
	l.free(now)
}

// free ends the holder's control; whoever has asked gets it.
func (l *Lease) free(now time.Time) {
	l.holder, l.vanished = Party{}, time.Time{}
	l.lift()
	if l.asker.Session != 0 {
		l.grant(l.asker, now)
		return
	}
	l.desk.Changed()
}

// Deadline is when Expire is to be called; zero: not before something else happens.
func (l *Lease) Deadline() time.Time {
	var d time.Time
	if !l.vanished.IsZero() {
		d = l.vanished.Add(Grace)
	}
	if l.asker.Session != 0 && (d.IsZero() || l.until.Before(d)) {
		d = l.until
	}
	return d
}

// Expire ends what has run out.
func (l *Lease) Expire(now time.Time) {
	if !l.vanished.IsZero() && !now.Before(l.vanished.Add(Grace)) {
		l.free(now)
	}
	if l.asker.Session != 0 && !now.Before(l.until) {
		asker := l.asker.Session
		l.asker = Party{}
		l.desk.Refused(asker, refuse.AskTimeout.Of(l.holder.Account))
	}
}

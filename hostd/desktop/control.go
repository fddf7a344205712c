package desktop

import (
	"context"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// askTime is how long hostd gives a holder to answer, for the countdown.
const askTime = 10 * time.Second

// wantControl asks hostd for control; force takes it without asking the holder.
func (s *session) wantControl(ctx context.Context, force bool) {
	take := s.role == ipc.RoleTake
	s.state = asksHolder
	if take && !force && s.lease.Holder != "" {
		s.until = time.Now().Add(askTime)
		s.wipePage()
		s.showAsking(time.Now())
	} // else the answer is there at once, and the page before stays that long
	s.asking(ctx, func() (any, error) {
		return s.srv.monitor.control(ctx, ipc.Control{Session: s.number, Take: take, Force: force}, s.epoch.Store)
	})
}

// showAsking says that the holder is being asked, and how long that takes.
func (s *session) showAsking(now time.Time) {
	if s.until.IsZero() {
		return
	}
	p := form.Asking(s.srv.name(), s.lease.Holder, left(s.until, now), s.force)
	if s.page != nil { // the same a second ago
		p.Focus = s.page.Focus
	}
	s.wipePage()
	s.page = p
}

// left is how many whole seconds remain, rounded up.
func left(until, now time.Time) int {
	return max(int((until.Sub(now)+time.Second-1)/time.Second), 0)
}

// showTaken offers what still works when control was refused.
func (s *session) showTaken(r *refuse.Refusal) {
	if !r.OffersRole() && !refuse.Busy.Is(r) {
		s.over(r, time.Now())
		return
	}
	s.wipePage()
	s.state, s.page = asksRole, form.Taken(s.srv.name(), s.user, r, !refuse.WatchOnly.Is(r), s.force)
	s.unasked = time.Now()
	s.stay()
}

// leased takes in who controls now. The monitor's loop has stopped or let go the input already.
func (s *session) leased(l ipc.Lease, now time.Time) {
	s.lease = l
	had := s.control
	s.control = s.epoch.Load() != 0
	if had && !s.control {
		s.question = nil
	}
	s.lost = (s.lost || had) && !s.control
	if s.lost && (l.Session != 0 || l.Holder != "" && l.Holder != s.account) {
		s.role = ipc.RoleWatch // another has it: not to be asked for again by itself
		s.lost = false
	}
	if s.state == shows {
		s.tellHolder(now)
	}
}

// tellHolder shows a notice of who controls, when that is somebody else than the last one said.
func (s *session) tellHolder(now time.Time) {
	who := s.lease.Holder
	if s.control {
		who = "\x00" // oneself
	} else if s.lease.Session == 0 && who != "" && who == s.account {
		return // between two epochs of one's own
	}
	before := s.holder
	s.holder = who
	if who == before {
		return
	}
	defer func() { s.gives = false }()
	show := noticeTime
	switch {
	case s.control && before == "": // just come: nothing to tell
		s.notice, s.until = nil, time.Time{}
		return
	case s.control:
		s.notice = form.Notice("You are in control", "")
	case before == "\x00" && who != "":
		r := refuse.TakenOver.Of(who)
		s.notice, show = form.Told(r), 2*noticeTime
		if !s.gives {
			s.denied = r
		}
	case who == "":
		s.notice = form.Notice("Nobody is in control", "You are watching.")
	default:
		s.notice = form.Notice(refuse.Printable(who, 120)+" is in control", "You are watching.")
	}
	s.until = now.Add(show)
}

// tellRecorded shows a notice when the desktop is recorded, and was not when the last one said so, or the other way round.
func (s *session) tellRecorded(now time.Time) {
	was := s.recorded
	if s.recorded = s.isRecorded(); s.recorded == was {
		return
	}
	title, text := "The recording has ended", ""
	if s.recorded {
		title, text = "This session is recorded", s.srv.name()+" keeps what the desktop shows."
	}
	if s.notice != nil { // who is in control
		text = strings.TrimSpace(text + " " + s.notice.Items[0].Text + ".")
	}
	s.notice, s.until = form.Notice(title, text), now.Add(2*noticeTime)
}

func (s *session) isRecorded() bool { return s.desk != nil && s.desk.recorded.Load() }

// title is the viewer's, for the desktop.
func (s *session) title() string {
	if s.isRecorded() {
		return s.srv.title(s.user) + " (recorded)"
	}
	return s.srv.title(s.user)
}

// showQuestion asks the holder for control, until the time for it has run out.
func (s *session) showQuestion(now time.Time) {
	if !s.control || !now.Before(s.ask.Until) || s.ask.Asker == 0 {
		s.question = nil
		return
	}
	s.question = form.Question(s.ask.Account, left(s.ask.Until, now))
}

// answer is an answer to the question: F9 or its button hands control over, F10 or its button keeps it.
func (s *session) answer(e event) {
	grant := false
	switch {
	case e.kind == eventKey && time.Now().Before(s.heeds): // meant for the question before
		return
	case e.kind == eventKey && e.sym == keyHandOver:
		grant = true
	case e.kind == eventKey && e.sym == keyKeep:
	case e.kind == eventClick:
		i := s.srv.painter.At(s.question, s.view.bounds(), e.at)
		if i < 0 {
			return
		}
		grant = s.question.Items[i].ID == form.HandOver
	default:
		return
	}
	s.decide(grant)
}

// decide answers the question for control.
func (s *session) decide(grant bool) {
	s.question, s.gives = nil, grant
	err := s.srv.monitor.conn.Send(ipc.TypeAnswer, ipc.Answer{Session: s.number, Asker: s.ask.Asker, Grant: grant})
	if err != nil {
		s.cause = err.Error()
	}
}

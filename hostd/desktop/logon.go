package desktop

import (
	"context"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// showForm shows the log-on form as s.form says, with what was in its user field.
func (s *session) showForm() {
	w := s.srv.welcomed()
	f := &s.form
	f.Computer, f.Account, f.Relay = s.srv.names(), s.account, s.srv.relay()
	f.CodeSet, f.OSLogin, f.Greeter, f.Passes = w.CodeSet, w.OSLogin, w.Greeter, s.passes
	f.Code = f.Code && f.CodeSet || !f.OSLogin
	s.wipePage()
	s.state, s.page = asksLogin, f.Page()
	s.stay()
}

// stay puts off the end of an idle form.
func (s *session) stay() {
	wait := idleForm
	if s.loggedIn || s.again {
		wait = idleAgain
	}
	s.idle, s.until = time.Now().Add(wait), time.Time{}
}

// input is something typed into or chosen on a page.
func (s *session) input(ctx context.Context, e event) {
	defer clear(e.text)
	chosen := 0
	switch {
	case s.question != nil && s.page == nil:
		s.answer(e)
		return
	case s.offer != nil && s.page == nil:
		s.chooseScreen(e)
		return
	case s.page == nil || s.state == closes:
		return
	case e.kind == eventKey && chooses(e.sym) && time.Since(s.unasked) < s.srv.heed:
		return // meant for what was there before
	case e.kind == eventKey:
		c, changed := s.page.Key(e.sym, e.shift)
		chosen = c
		if changed {
			s.edits++
		}
	case e.kind == eventPaste:
		if s.page.Paste(string(e.text)) {
			s.edits++
		}
	case e.kind == eventClick:
		c, changed := s.page.Click(s.srv.painter.At(s.page, s.view.bounds(), e.at))
		chosen = c
		if changed {
			s.edits++
		}
	}
	if !s.idle.IsZero() {
		s.stay()
	}
	switch chosen {
	case form.LogIn:
		s.logIn(ctx)
	case form.Switch:
		s.form.Code = !s.form.Code
		s.form.User, s.form.Refusal = string(s.page.Value(form.UserField)), nil
		s.showForm()
	case form.Cancel:
		s.cause = "the viewer cancelled"
	case form.Watch:
		s.role = ipc.RoleWatch
		s.proceed(ctx)
	case form.Ask:
		s.role = ipc.RoleTake
		s.proceed(ctx)
	case form.TakeNow:
		s.role = ipc.RoleTake
		s.wantControl(ctx, true)
	}
}

// chooses says whether a key chooses what has the focus.
func chooses(sym uint32) bool { return sym == form.KeyReturn || sym == form.KeyEnter || sym == ' ' }

// logIn has hostd check what was entered.
func (s *session) logIn(ctx context.Context) {
	l := ipc.Login{Session: s.number, Method: ipc.MethodPassword, User: string(s.page.Value(form.UserField))}
	if s.form.Code {
		l.Method, l.User = ipc.MethodCode, ""
	}
	l.Secret = append(make([]byte, 0, form.MaxField), s.page.Value(form.SecretField)...)
	if len(l.Secret) == 0 || l.Method == ipc.MethodPassword && l.User == "" {
		clear(l.Secret)
		return
	}
	s.wipePage()
	s.form.User, s.form.Refusal, s.form.Busy = l.User, nil, true
	s.showForm()
	s.form.Busy = false
	s.state, s.idle = checks, time.Time{}
	s.asking(ctx, func() (any, error) { return s.srv.monitor.login(ctx, l) })
}

// result is hostd's answer to the question that was out.
func (s *session) result(ctx context.Context, r result) {
	if r.number != s.asked || s.state != checks && s.state != asksHolder && !s.aside {
		return
	}
	if r.err != nil {
		s.srv.log.Warn("no answer to a viewer's question", "viewer", s.account, "err", r.err)
		s.over(trouble(s.srv.name()), time.Now())
		return
	}
	switch r := r.answer.(type) {
	case ipc.LoggedIn:
		if r.Refusal != nil {
			s.form.Refusal, s.form.Left, s.form.Until = r.Refusal, r.Left, r.Until
			s.showForm()
			return
		}
		s.loggedIn = true
		if r.User != "" {
			s.user = r.User
		}
		s.proceed(ctx)
	case ipc.Controlled:
		if s.aside {
			s.aside, s.denied = false, r.Refusal
			if r.Refusal == nil {
				s.control = s.epoch.Load() != 0
				s.tellHolder(time.Now())
			} else {
				s.role = ipc.RoleWatch
			}
			return
		}
		if r.Refusal != nil {
			s.showTaken(r.Refusal)
			return
		}
		s.control = s.epoch.Load() != 0
		s.show()
	}
}

// proceed goes as far towards the desktop as it can: to the form, to waiting for the desktop, to asking for control, or to
// the desktop.
func (s *session) proceed(ctx context.Context) {
	s.idle, s.until = time.Time{}, time.Time{}
	switch {
	case !s.loggedIn:
		s.showForm()
	case s.desk == nil:
		s.wipePage()
		s.state, s.page = waits, form.Wait(s.srv.name(), "You are logged in. The desktop is being opened.")
		s.stay()
	case s.role == ipc.RoleWatch || s.control:
		s.show()
	default:
		s.wantControl(ctx, false)
	}
}

// show shows the desktop.
func (s *session) show() {
	s.wipePage()
	s.state, s.idle, s.until = shows, time.Time{}, time.Time{}
	s.holder, s.recorded = "", false
	s.tellHolder(time.Now())
	s.tellRecorded(time.Now())
}

// detached takes in that hostd has taken the desktop and the log-in away: back to the form.
func (s *session) detached(r *refuse.Refusal) {
	s.desk, s.control, s.notice, s.question, s.aside = nil, false, nil, nil, false
	s.dropOffer()
	s.loggedIn, s.again = false, true
	if s.state == closes {
		return
	}
	s.asked++ // an answer that is still to come is older, as that of the log-in which gave the desktop
	s.form.Refusal, s.form.Left, s.form.Until = r, -1, time.Time{}
	s.showForm()
}

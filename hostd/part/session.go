package part

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/lease"
	"github.com/helmline/helmline/hostd/login"
)

// A session is one viewer. What it may do follows from user, which only a log-in sets.
type session struct {
	id      uint32
	relay   string // the relay's words, from here to viewer
	account string
	viewer  string
	role    ipc.Role
	e2e     bool
	opened  time.Time

	user     *login.Account // nil: not logged in
	admin    bool           // of user
	desktop  *desktop       // nil: none
	attached bool           // hostd-net has been told to show it
	lost     place          // of a seat's desktop that went away under it; zero: none did

	back  *wayBack // nil: it cannot be resumed
	atEnd ipc.Ending

	trying  context.CancelFunc // of the log-in under way; nil: none
	control uint32             // ID of the Control that waits for its answer
	waits   bool               // control is set
}

// MaxReuse is how far back numbers of sessions are remembered.
const maxReuse = 4096

// sessionIDs knows which numbers hostd-net has used.
type sessionIDs struct {
	highest uint32
	recent  map[uint32]bool
}

// use takes a number; false means that it was used before.
func (u *sessionIDs) use(id uint32) bool {
	if id == 0 || u.recent[id] || uint64(id)+maxReuse <= uint64(u.highest) {
		return false
	}
	if u.recent == nil {
		u.recent = make(map[uint32]bool)
	}
	u.recent[id] = true
	if u.highest = max(u.highest, id); len(u.recent) > 2*maxReuse {
		for n := range u.recent {
			if uint64(n)+maxReuse <= uint64(u.highest) {
				delete(u.recent, n)
			}
		}
	}
	return true
}

func (m *Monitor) open(n *netPart, o ipc.Open) error {
	if o.Role < ipc.RoleControl || o.Role > ipc.RoleTake {
		return fmt.Errorf("hostd-net opened a session as %v: %w", o.Role, ipc.ErrMalformed)
	}
	if !m.used.use(o.Session) {
		return fmt.Errorf("hostd-net used the session number %d twice: %w", o.Session, ipc.ErrMalformed)
	}
	account := refuse.Printable(o.Account, 255)
	var r *refuse.Refusal
	switch {
	case m.c.RequireE2E && !o.E2E:
		r = refuse.NeedsE2E.Of(m.name())
	case len(m.sessions) >= m.c.MaxSessions:
		r = refuse.TooMany.Of(m.name())
	case o.Role == ipc.RoleControl:
		r = m.lease.Held(account)
	}
	if r == nil || o.E2E && refuse.Held.Is(r) { // whose log-in may be kept
		m.sessions[o.Session] = &session{
			id: o.Session, account: account, viewer: refuse.Printable(o.Viewer, 64), relay: refuse.Printable(o.Relay, 64),
			role: o.Role, e2e: o.E2E, opened: time.Now(),
		}
		m.counts.Sessions++
	}
	n.send(ipc.TypeOpened, ipc.Opened{ID: o.ID, Refusal: r})
	return nil
}

// ended is the answer about a session that is over, or never was.
func (m *Monitor) ended() *refuse.Refusal { return refuse.Ended.Of(m.name()) }

func (m *Monitor) login(n *netPart, l ipc.Login) error {
	s := m.sessions[l.Session]
	switch {
	case s == nil:
		clear(l.Secret)
		n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Refusal: m.ended(), Left: -1})
		return nil
	case l.Method < ipc.MethodPassword || l.Method > ipc.MethodResume || len(l.Key) != 0 && len(l.Key) != ipc.KeySize:
		clear(l.Secret)
		clear(l.Key)
		return fmt.Errorf("hostd-net tried a log-in of method %d: %w", l.Method, ipc.ErrMalformed)
	case s.trying != nil || s.user != nil:
		clear(l.Secret)
		n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Refusal: refuse.Busy.Of(), Left: -1})
		return nil
	case l.Method == ipc.MethodResume:
		m.resume(n, s, l)
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	s.trying = cancel
	m.spawn(func() {
		defer cancel()
		r := m.c.Login.Login(ctx, l.Method, l.User, l.Secret)
		admin := r.Account != nil && login.Administers(r.Account, m.c.Admins)
		m.post(func() { m.loggedIn(n, s, l, r, admin) })
	})
	return nil
}

// methodName is for the log. What was typed as a user name is not: it may be a password.
func methodName(m ipc.Method) string {
	if m == ipc.MethodCode {
		return "access code"
	}
	return "password"
}

// loggedIn takes the answer to a log-in. A right secret of a user who may not see the desktop is refused like one who may not log in.
// Where another controls, a viewer that can come back is told so, and comes back as what it then wants without another log-in; one that
// wants to ask for control watches until it does.
func (m *Monitor) loggedIn(n *netPart, s *session, l ipc.Login, r login.Result, admin bool) {
	if m.net != n || m.sessions[s.id] != s {
		return // the session is over
	}
	s.trying = nil
	var place place
	if r.Account != nil {
		var refusal *refuse.Refusal
		if place, refusal = m.placeFor(r.Account, admin); refusal != nil {
			r = login.Result{Refusal: refusal, Left: -1}
		}
	}
	if r.Refusal != nil {
		m.counts.Refused++
		m.log.Info("log-in refused", "viewer", s.viewer, "account", s.account, "by", methodName(l.Method), "code", r.Refusal.Code)
		n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Refusal: r.Refusal, Left: r.Left, Until: r.Until})
		return
	}
	m.counts.Logins++
	if len(l.Key) > 0 {
		s.back = &wayBack{key: l.Key, account: s.account, user: r.Account, admin: admin}
	}
	role := ipc.Role(0)
	if held := m.lease.Held(s.account); held != nil && s.back != nil {
		if s.role == ipc.RoleControl {
			m.log.Info("control refused", "viewer", s.viewer, "account", s.account, "user", r.Account.Name, "code", held.Code)
			m.keep(s, true)
			n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Refusal: held, Left: -1})
			return
		}
		role = ipc.RoleWatch
	}
	s.user, s.admin = r.Account, admin
	m.log.Info("viewer logged in", "viewer", s.viewer, "account", s.account, "by", methodName(l.Method), "user", s.user.Name)
	n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Left: -1, User: s.user.Name, Role: role})
	if m.seatGone == nil { // else reseat finds it a desktop
		m.join(s, m.desktopAt(place))
	}
}

// control wants control for a session. Those whom hostd.toml names take without asking. So may the desktop's owner, who must ask
// for it by that word, since whoever holds control was mostly let in by the owner.
func (m *Monitor) control(n *netPart, c ipc.Control) error {
	s := m.sessions[c.Session]
	answer := func(r *refuse.Refusal) {
		n.send(ipc.TypeControlled, ipc.Controlled{ID: c.ID, Refusal: r})
	}
	switch {
	case s == nil:
		answer(m.ended())
		return nil
	case s.user == nil || s.desktop == nil:
		answer(refuse.NoRight.Of(s.account))
		return nil
	case m.c.Recording.Required && !s.attached: // what it would type cannot be recorded yet
		answer(refuse.Busy.Of())
		return nil
	case s.role == ipc.RoleWatch:
		answer(refuse.WatchOnly.Of(m.name()))
		return nil
	}
	how := lease.Plain
	switch {
	case c.Force && m.mayForce(s), c.Take && m.namedToForce(s):
		how = lease.Force
	case c.Force || c.Take:
		how = lease.Ask
	}
	if s.waits && how != lease.Force {
		answer(refuse.Busy.Of())
		return nil
	}
	m.Refused(s.id, refuse.Busy.Of()) // the question before, which this one replaces
	s.control, s.waits = c.ID, true
	m.lease.Take(s.party(), how, time.Now())
	return nil
}

// mayForce says whether a session may take control of its desktop without asking.
func (m *Monitor) mayForce(s *session) bool {
	owns := s.desktop.kind != SeatGreeter && s.desktop.uid == s.user.UID
	return owns || m.namedToForce(s)
}

func (m *Monitor) namedToForce(s *session) bool { return slices.Contains(m.c.TakeForce, s.user.Name) }

func (s *session) party() lease.Party {
	return lease.Party{Session: s.id, Account: s.account, User: s.user.Name}
}

func (m *Monitor) answer(_ *netPart, a ipc.Answer) error {
	m.lease.Answer(a.Session, a.Asker, a.Grant, time.Now())
	return nil
}

func (m *Monitor) yield(_ *netPart, y ipc.Yield) error {
	if s := m.sessions[y.Session]; s != nil {
		s.waits = false // nobody waits for the answer any more
		m.lease.Leave(s.id, false, time.Now())
	}
	return nil
}

func (m *Monitor) closeSession(_ *netPart, c ipc.Close) error {
	m.endSession(c.Session, c.Vanished)
	return nil
}

// endSession forgets a session. A vanished controller keeps the lease for a while.
func (m *Monitor) endSession(id uint32, vanished bool) {
	s := m.sessions[id]
	if s == nil {
		return
	}
	delete(m.sessions, id)
	if s.trying != nil {
		s.trying()
	}
	s.waits = false
	holds := m.lease.Holds(id)
	if vanished && s.back != nil {
		m.keep(s, holds)
		holds = false // it may come back
	}
	m.lease.Leave(id, vanished, time.Now())
	if holds && s.desktop != nil {
		m.wrapUp(s.desktop.place, s.atEnd)
	}
	m.leaveDesktop(s)
	if s.user != nil {
		m.log.Info("viewer gone", "viewer", s.viewer, "account", s.account, "user", s.user.Name)
	}
}

// detach takes the desktop and the log-in from a session, whose viewer gets the form again.
func (m *Monitor) detach(s *session, why *refuse.Refusal) {
	m.Refused(s.id, why)
	m.lease.Leave(s.id, false, time.Now())
	m.leaveDesktop(s)
	s.user, s.admin, s.back, s.atEnd = nil, false, nil, ipc.EndLeaves
	m.toNet(ipc.TypeDetach, ipc.Detach{Session: s.id, Refusal: why})
	m.log.Info("viewer lost the desktop", "viewer", s.viewer, "account", s.account, "code", why.Code)
}

// end ends sessions by hand and says how many. id 0 means all of them, and nobody comes back to one that was cut off. may is asked about
// the desktop that each has, the zero place where it has none.
func (m *Monitor) end(id uint32, by string, may func(place) bool) int {
	n := 0
	for _, s := range m.sessions {
		var at place
		if s.desktop != nil {
			at = s.desktop.place
		}
		if id != 0 && s.id != id || !may(at) {
			continue
		}
		m.toNet(ipc.TypeEnd, ipc.End{Session: s.id, Refusal: refuse.Ended.Of(by)})
		m.endSession(s.id, false)
		n++
	}
	for _, b := range slices.Clone(m.parted) {
		if id == 0 && may(b.at) {
			m.forget(b)
			n++
		}
	}
	return n
}

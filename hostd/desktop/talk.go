package desktop

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// How fast a page may talk.
const (
	orderEvery = 100 * time.Millisecond
	orderBurst = 20
	maxOrders  = 4 // that wait for the session
)

// An order is a word of the relay's page beside its session. Each does no more than the session's person could do in the picture, which
// the relay passes in clear.
type order struct {
	Ping   uint32 `json:"ping"`   // is answered with the same number
	Want   string `json:"want"`   // control (who has it is asked for it), force (it is taken) or watch
	Answer uint32 `json:"answer"` // the number of the session that asks for control
	Grant  bool   `json:"grant"`  // beside Answer
	Screen *int   `json:"screen"` // which of the screens to show, from 1; 0: all
	AtEnd  string `json:"at_end"` // of endings
	End    bool   `json:"end"`    // the person ends the session: what it does at its end is done now
}

// told is what the page is told about its session, whenever it changes.
type told struct {
	Shows    bool      `json:"shows"`   // the desktop is in the picture
	Control  bool      `json:"control"` // the session has it
	Asking   bool      `json:"asking"`  // the holder is being asked on its behalf
	Holder   string    `json:"holder"`  // account in control; empty: nobody
	Holds    string    `json:"holds"`   // the relay's name for its session; empty: it is cut off
	Since    time.Time `json:"since,omitzero"`
	Force    bool      `json:"force"` // the session may take control without asking
	Asker    uint32    `json:"asker"` // number of the session that asks this one for control; 0: none
	Asks     string    `json:"asks"`  // its account
	Left     int       `json:"left"`  // seconds to answer
	User     string    `json:"user"`  // OS user
	Greeter  bool      `json:"greeter"`
	Recorded bool      `json:"recorded"`
	Screens  int       `json:"screens"` // of the desktop
	Screen   int       `json:"screen"`  // that is shown, from 1; 0: all
	AtEnd    string    `json:"at_end"`  // what the session does to the desktop at its end, of endings; empty: it can do nothing
	Ended    string    `json:"ended"`   // what has come of it, of outcomes; empty: nothing yet
	Over     bool      `json:"over"`    // the session ends, for what Refusal says

	Refusal *refuse.Refusal `json:"refusal,omitempty"` // of what was last wanted, or why control was lost
}

// endings are what a page calls them.
var endings = [...]string{ipc.EndLeaves: "leave", ipc.EndLocks: "lock", ipc.EndLogsOff: "log off"}

// outcomes are what a page calls them.
var outcomes = [...]string{ipc.OutcomeNone: "", ipc.OutcomeFailed: "failed", ipc.OutcomeAsked: "asked", ipc.OutcomeDone: "done"}

// A pageWord is what goes to the page.
type pageWord struct {
	Pong  uint32 `json:"pong,omitempty"`
	State *told  `json:"state,omitempty"`
}

// A talk is what a session tells its page.
type talk struct {
	orders chan order
	wake   chan struct{} // 1
	over   chan struct{} // closed with the session

	mu    sync.Mutex // guards what follows
	state told
	taken bool // a stream has it
}

func newTalk() *talk {
	return &talk{orders: make(chan order, maxOrders), wake: make(chan struct{}, 1), over: make(chan struct{})}
}

// tell has the page told how things are.
func (t *talk) tell(now told) {
	t.mu.Lock()
	changed := t.state != now
	t.state = now
	t.mu.Unlock()
	if !changed {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *talk) told() told {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// take says no when another stream has the talk.
func (t *talk) take() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.taken
	t.taken = true
	return !was
}

// listens says whether there is a page.
func (t *talk) listens() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

func (t *talk) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
}

// talk serves the words of a page beside its session, whose desktop the relay can see: a viewer that came end to end does not talk.
func (s *server) talk(ctx context.Context, conn net.Conn, h tunnel.Header) {
	se := s.talker(h)
	if se == nil || !se.talk.take() {
		s.reply(conn, refuse.NotResumed.Of(s.name()))
		return
	}
	t := se.talk
	defer se.nudge()
	defer t.leave()
	if s.reply(conn, nil) != nil {
		return
	}
	se.nudge()
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	pongs := make(chan uint32, 1)
	work.Go(func() {
		defer conn.Close()
		t.say(ctx, conn, pongs)
	})
	pace := rate.NewLimiter(rate.Every(orderEvery), orderBurst)
	for {
		word, err := tunnel.ReadWord(conn)
		if err != nil || pace.Wait(ctx) != nil {
			return
		}
		var o order
		if json.Unmarshal(word, &o) != nil {
			return
		}
		if o.Ping != 0 {
			select {
			case pongs <- o.Ping:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case t.orders <- o:
		case <-t.over:
			return
		case <-ctx.Done():
			return
		}
	}
}

// nudge has run look at what there is to show.
func (s *session) nudge() {
	select {
	case s.note <- struct{}{}:
	default:
	}
}

// talker is the session that a stream of words is for; nil: there is none, or none that may talk.
func (s *server) talker(h tunnel.Header) *session {
	account := refuse.Printable(h.Account, tunnel.MaxAccount)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, se := range s.sessions {
		if se.relay != h.Session || se.account != account {
			continue
		}
		se.mu.Lock()
		defer se.mu.Unlock()
		if se.ready && se.passes {
			return se
		}
	}
	return nil
}

// say writes to the page until ctx or the session ends, or the page is gone.
func (t *talk) say(ctx context.Context, conn net.Conn, pongs <-chan uint32) {
	send := func(w pageWord) bool {
		b, err := json.Marshal(w)
		if err != nil {
			return false
		}
		conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		return tunnel.WriteWord(conn, b) == nil
	}
	first := t.told()
	for ok := send(pageWord{State: &first}); ok; {
		select {
		case <-ctx.Done():
			return
		case <-t.over:
			return
		case n := <-pongs:
			ok = send(pageWord{Pong: n})
		case <-t.wake:
			now := t.told()
			ok = send(pageWord{State: &now})
		}
	}
}

// tellPage has the page told how the session is.
func (s *session) tellPage() {
	t := told{
		Shows: s.state == shows, Control: s.control && s.state == shows, Asking: s.aside, Holder: refuse.Printable(s.lease.Holder, tunnel.MaxAccount), Since: s.lease.Since,
		Force: s.force, User: s.user, Greeter: s.srv.welcomed().Greeter, Recorded: s.isRecorded(), Refusal: s.denied,
		Screens: len(s.screens), Screen: s.screen, Over: s.state == closes,
	}
	if s.question != nil {
		t.Asker, t.Asks, t.Left = s.ask.Asker, refuse.Printable(s.ask.Account, tunnel.MaxAccount), left(s.ask.Until, time.Now())
	}
	if s.ends && int(s.atEnd) < len(endings) {
		t.AtEnd = endings[s.atEnd]
	}
	if int(s.outcome) < len(outcomes) {
		t.Ended = outcomes[s.outcome]
	}
	t.Holds = s.srv.relayName(s.lease.Session)
	s.talk.tell(t)
}

// relayName is the relay's name for a session; empty: there is none.
func (s *server) relayName(number uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if se := s.sessions[number]; se != nil {
		return se.relay
	}
	return ""
}

// order does what the page wants.
func (s *session) order(ctx context.Context, o order) {
	switch {
	case s.state != shows:
	case o.Answer != 0:
		if s.question != nil && s.ask.Asker == o.Answer {
			s.decide(o.Grant)
		}
	case o.Screen != nil:
		s.chooseNumber(*o.Screen)
	case o.AtEnd != "":
		if i := slices.Index(endings[:], o.AtEnd); i >= 0 {
			s.endBy(ipc.Ending(i), false)
		}
	case o.End:
		s.endBy(s.atEnd, true)
	case o.Want == "watch":
		s.yield()
	case (o.Want == "control" || o.Want == "force") && !s.control:
		s.wantAside(ctx, o.Want == "force")
	}
}

// wantAside asks for control while the desktop is watched on.
func (s *session) wantAside(ctx context.Context, force bool) {
	s.role, s.aside, s.denied = ipc.RoleTake, true, nil
	s.asking(ctx, func() (any, error) {
		return s.srv.monitor.control(ctx, ipc.Control{Session: s.number, Take: true, Force: force}, s.epoch.Store)
	})
}

// yield gives control up, and what was asked for it.
func (s *session) yield() {
	s.role, s.denied, s.question = ipc.RoleWatch, nil, nil
	if s.aside {
		s.aside = false
		s.asked++ // the answer is not heard any more
	}
	if err := s.srv.monitor.conn.Send(ipc.TypeYield, ipc.Yield{Session: s.number}); err != nil {
		s.cause = err.Error()
	}
}

// endBy says what is to become of the desktop at the session's end, which may be now.
func (s *session) endBy(how ipc.Ending, now bool) {
	if !s.ends || !s.control {
		return
	}
	s.atEnd = how
	if err := s.srv.monitor.conn.Send(ipc.TypeAtEnd, ipc.AtEnd{Session: s.number, Do: s.atEnd, Now: now}); err != nil {
		s.cause = err.Error()
	}
}

// chooseNumber shows one of the desktop's screens, counted from 1, or with 0 all.
func (s *session) chooseNumber(n int) {
	if n < 0 || n > len(s.screens) || len(s.screens) < 2 {
		return
	}
	if s.screen = n; n > 0 {
		s.view.choose(true, s.screens[n-1].ID)
	} else {
		s.view.choose(false, 0)
	}
	s.offer, s.offered = nil, time.Time{}
}

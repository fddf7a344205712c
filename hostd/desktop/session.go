package desktop

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// Times of a session.
const (
	idleForm    = 2 * time.Minute  // without a key or a click in a form before any log-in
	idleAgain   = 15 * time.Minute // and in one that has come back
	noticeTime  = 5 * time.Second  // how long a notice stays
	offerTime   = 10 * time.Second // how long one may choose from several screens
	closingTime = 4 * time.Second  // how long the last page stays
	messageTime = 30 * time.Second // for the rest of a client's message, from its first byte
	watchBeat   = 10 * time.Second // between two looks at that
	heedTime    = time.Second      // what comes up unasked is not answered by keys before that: they were meant for what was there
)

// state is where a session is on its way from the log-on form to the desktop.
type state uint8

const (
	asksLogin  state = iota // the form
	checks                  // hostd looks at what was entered
	waits                   // logged in; hostd has not said which desktop
	asksRole                // control is another's: watch, ask, or leave
	asksHolder              // the holder is being asked
	shows                   // the desktop
	closes                  // the last page
)

// A session is one viewer of this computer. run owns it; the reader, sendLoop and the monitor's loop use what is said below
// to be theirs.
type session struct {
	srv     *server
	number  uint32
	relay   string // the relay's name for it
	account string // the relay's word
	talk    *talk
	e2e     bool // RFB's security is with this computer
	passes  bool // the relay can read it; set before it is served
	conn    net.Conn
	in      *rfb.Reader
	at      uint32 // desktop it was last attached to; guarded by srv.mu
	view    *viewer

	events  chan event    // from the reader: what is typed into pages
	results chan result   // answers of hostd
	note    chan struct{} // 1; from the monitor's loop: look at news

	epoch  atomic.Uint64          // of the session's control; 0: none. Set by the monitor's loop
	prompt atomic.Pointer[prompt] // set by run, for the reader
	begun  atomic.Int64           // when the client's unfinished message began, UnixNano; 0: none

	mu    sync.Mutex // guards what follows
	news  news
	ready bool // view is set

	// Owned by run.
	state    state
	role     ipc.Role
	loggedIn bool
	again    bool   // it was logged in before
	user     string // OS user, or what was typed
	form     form.LogOn
	page     *form.Page // the form, when one is shown
	unasked  time.Time  // when page came up, if the person had not asked for it
	notice   *form.Page
	question *form.Page
	offer    *form.Page
	offered  time.Time       // when offer goes
	screens  []frame.Screen  // it was about, or there are no several
	screen   int             // of them, that is shown, from 1; 0: all
	aside    bool            // control is asked for while the desktop is watched on
	denied   *refuse.Refusal // of what was asked for so, or control was taken, or the session is over
	gives    bool            // the question was answered so
	ask      ipc.Ask         // what question is about
	heeds    time.Time       // from then on keys answer question
	desk     *desk
	lease    ipc.Lease
	holder   string // as the last notice said
	recorded bool   // as it did
	control  bool
	lost     bool // it had control, and who has it now is not known yet
	force    bool // it may take control without asking
	ends     bool // it may have the desktop locked or logged off at its end
	atEnd    ipc.Ending
	outcome  ipc.Outcome // of atEnd
	idle     time.Time   // when the form closes
	until    time.Time   // end of the notice, of the asking, or of the last page
	cause    string      // why the session ends, for the log
	edits    int         // counts what was typed
	asked    int         // counts questions to hostd
	shown    shown
}

// news is what hostd has said and run has not yet looked at.
type news struct {
	desk     *desk
	user     string
	force    bool
	ends     bool
	atEnd    ipc.Ending
	outcome  ipc.Outcome
	attached bool // desk is new
	detached bool
	refusal  *refuse.Refusal // of detached
	marked   bool            // a recording has begun or ended
	lease    *ipc.Lease
	asks     *ipc.Ask
	end      *refuse.Refusal
}

// A prompt is the page that keys and clicks go to.
type prompt struct {
	page *form.Page // a view
	form bool       // all of them; else only clicks inside and the keys that answer
	mute bool       // no key answers
	from time.Time  // from then on keys answer
}

// answers says whether a key that goes down now is an answer.
func (p *prompt) answers(sym uint32) bool {
	return !p.mute && (sym == keyHandOver || sym == keyKeep) && !time.Now().Before(p.from)
}

// begin shows the first page, or the desktop to who has logged in already. It is called before the reader starts: what
// a viewer types at once finds the form.
func (s *session) begin(ctx context.Context) {
	if s.loggedIn {
		s.state = waits
		if s.look(ctx); s.state == waits {
			s.proceed(ctx)
		}
	} else {
		s.showForm()
	}
	s.publish()
}

// run is the session's policy. It returns when the session is over.
func (s *session) run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	defer s.wipe()
	for s.cause == "" {
		s.publish()
		s.tellPage()
		t.Reset(s.next(time.Now()))
		select {
		case <-ctx.Done():
			return
		case e := <-s.events:
			s.input(ctx, e)
		case r := <-s.results:
			s.result(ctx, r)
		case o := <-s.talk.orders:
			s.order(ctx, o)
		case <-s.note:
			s.look(ctx)
		case now := <-t.C:
			s.tick(now)
		}
	}
}

// wipe leaves no secret behind.
func (s *session) wipe() {
	if s.page != nil {
		s.page.Wipe()
	}
	for {
		select {
		case e := <-s.events:
			clear(e.text)
		default:
			return
		}
	}
}

// next is how long run may wait for something to happen.
func (s *session) next(now time.Time) time.Duration {
	at := now.Add(watchBeat)
	for _, t := range [...]time.Time{s.idle, s.until, s.offered} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if s.question != nil || s.state == asksHolder {
		if second := now.Add(time.Second); second.Before(at) {
			at = second
		}
	}
	return max(at.Sub(now), 0)
}

// tick ends what has run out.
func (s *session) tick(now time.Time) {
	if at := s.begun.Load(); at != 0 && now.Sub(time.Unix(0, at)) > messageTime {
		s.cause = "a message of the viewer took too long"
		return
	}
	if !s.idle.IsZero() && !now.Before(s.idle) {
		s.over(refuse.Idle.Of(s.srv.name()), now)
		return
	}
	if !s.offered.IsZero() && !now.Before(s.offered) {
		s.offer, s.offered = nil, time.Time{}
	}
	switch {
	case s.state == closes && !now.Before(s.until):
		s.cause = "the session was ended"
	case s.state == asksHolder:
		s.showAsking(now)
	case s.question != nil:
		s.showQuestion(now)
	case s.notice != nil && !now.Before(s.until):
		s.notice, s.until = nil, time.Time{}
	}
}

// shown is what publish has last given out.
type shown struct {
	desk  *desk
	owner bool
	title string
	pages [4]*form.Page
	edits int // of what is typed into the form
}

// publish gives the viewer and the reader what there is to see.
func (s *session) publish() {
	question, offer, notice := s.question, s.offer, s.notice
	if s.talk.listens() { // the page shows these in its own way
		question, offer, notice = nil, nil, nil
	}
	now := shown{pages: [...]*form.Page{question, offer, notice, s.page}, edits: s.edits}
	if s.state == shows {
		now.desk, now.owner, now.title = s.desk, s.control, s.title()
	}
	if now == s.shown {
		return
	}
	gains := now.owner && !s.shown.owner
	s.shown = now
	s.mu.Lock() // against the monitor's loop, which may take the desktop away at this moment
	defer s.mu.Unlock()
	if s.news.detached || s.news.end != nil {
		now.desk, now.owner, now.title = nil, false, ""
	}
	sc := &scene{desk: now.desk, owner: now.owner, title: now.title}
	for _, p := range now.pages {
		if p != nil && len(sc.pages) < maxPages {
			sc.pages = append(sc.pages, p.View())
		}
	}
	switch {
	case s.page != nil:
		s.prompt.Store(&prompt{page: sc.pages[len(sc.pages)-1], form: true})
	case question != nil:
		s.prompt.Store(&prompt{page: sc.pages[0], from: s.heeds})
	case offer != nil:
		s.prompt.Store(&prompt{page: sc.pages[0], mute: true})
	default:
		s.prompt.Store(nil)
	}
	s.view.show(sc)
	if gains && s.mayPaste() {
		s.view.takeOffer()
	}
}

// look takes in what hostd has said.
func (s *session) look(ctx context.Context) {
	s.mu.Lock()
	n := s.news
	s.news = news{}
	s.mu.Unlock()
	now := time.Now()
	if n.lease != nil {
		s.leased(*n.lease, now)
	}
	if n.detached {
		s.detached(n.refusal)
	}
	if n.attached {
		s.desk, s.loggedIn, s.force, s.control = n.desk, true, n.force, s.epoch.Load() != 0
		s.ends, s.atEnd = n.ends, n.atEnd
		s.shown = shown{} // it may have been hidden
		if n.user != "" {
			s.user = n.user
		}
		if s.state != checks && s.state != closes { // else the answer to the log-in comes first
			s.proceed(ctx)
		}
	}
	if n.marked && s.state == shows {
		s.tellRecorded(now)
	}
	if n.asks != nil && s.control {
		s.ask, s.heeds = *n.asks, now.Add(s.srv.heed)
		s.showQuestion(now)
	}
	if n.outcome != ipc.OutcomeNone {
		s.outcome = n.outcome
	}
	if n.end != nil {
		s.over(n.end, now)
	}
	s.offerScreens(now)
}

// over shows the last page.
func (s *session) over(r *refuse.Refusal, now time.Time) {
	s.wipePage()
	s.state, s.page, s.notice, s.question, s.denied = closes, form.Over(s.srv.name(), r), nil, nil, r
	s.desk, s.idle, s.until = nil, time.Time{}, now.Add(closingTime)
	s.dropOffer()
	s.epoch.Store(0)
}

func (s *session) wipePage() {
	if s.page != nil {
		s.page.Wipe()
		s.page, s.unasked = nil, time.Time{}
	}
}

// A result is hostd's answer to a question of this session.
type result struct {
	number int
	answer any // ipc.LoggedIn or ipc.Controlled
	err    error
}

// asking asks hostd in a goroutine of its own; the answer comes by results. Only the answer to the last question counts.
func (s *session) asking(ctx context.Context, f func() (any, error)) {
	s.asked++
	number := s.asked
	s.srv.work.Go(func() {
		a, err := f()
		select {
		case s.results <- result{number, a, err}:
		case <-ctx.Done():
		}
	})
}

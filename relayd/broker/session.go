package broker

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
)

// A Session is one viewer joined, or about to be joined, to one computer.
type Session struct {
	ID    string
	Since time.Time
	Request

	broker   *Broker
	ctx      context.Context // ends with the session's end from outside; its cause is the refusal
	cancel   context.CancelCauseFunc
	computer atomic.Pointer[registry.Computer] // nil until it is found
	tunnel   *tunnel.Session                   // to the computer; set by reach, then by nobody
	stream   net.Conn                          // likewise
	coded    bool                              // a one-time code was spent on it; likewise
	over     sync.Once                         // its end
	guestOf  string                            // UUID of the computer in which it has a guest's place; guarded by the broker's mutex
}

func (s *Session) setComputer(c *registry.Computer) { s.computer.Store(c) }

// Name is the computer's name as its owner gave it, or as the viewer named it while it is not found.
func (s *Session) Name() string {
	if c := s.computer.Load(); c != nil {
		return c.Name
	}
	return s.Request.Computer
}

// lingerTime is how long the second direction of a session may outlive the first.
const lingerTime = 10 * time.Second

// Join passes bytes between viewer and computer until either is done, and closes both. It is nil after a clean end
// and the refusal when the session was ended by the relay. A viewer that ends its stream cleanly ends the computer's
// cleanly, too. The session is over afterwards, even when a side has made this code panic.
func (s *Session) Join(viewer net.Conn) (err error) {
	err = errFault // until the end is known
	defer func() { s.finish(err) }()
	stream := s.stream
	shut := func() { viewer.Close(); stream.Close() }
	defer context.AfterFunc(s.ctx, shut)()
	c := s.broker.count
	half := &counted{Conn: viewer, read: c.fromViewer, written: c.toViewer}
	half.ended = sync.OnceFunc(func() { half.late = time.AfterFunc(lingerTime, shut) })
	_, _, end := tunnel.Splice(half, stream)
	half.ended()
	half.late.Stop()
	if s.ctx.Err() != nil {
		end = context.Cause(s.ctx)
	}
	return end
}

// Facts are what the computer says of its log-in, where the request has asked for it.
func (s *Session) Facts() tunnel.Facts {
	if f, ok := s.stream.(interface{ Facts() tunnel.Facts }); ok {
		return f.Facts()
	}
	return 0
}

// Close ends a session that was not joined; after Join it does nothing.
func (s *Session) Close() { s.finish(errNotJoined) }

// Vanish cuts the computer's stream off, as when the relay is killed, so that the computer keeps what is the viewer's for its return.
func (s *Session) Vanish() {
	if c, ok := s.stream.(interface{ Abort() }); ok {
		c.Abort()
	}
}

// Talk opens a stream for words beside the session, which its viewer and the computer exchange. It is the caller's to close.
func (s *Session) Talk(ctx context.Context) (net.Conn, error) {
	return s.tunnel.Open(ctx, tunnel.Header{Purpose: tunnel.Talk, Session: s.ID, Account: s.Account.Email, Viewer: s.Viewer.String(), Role: s.Role})
}

// Company are those who are joined to the session's computer, oldest first, itself included.
func (s *Session) Company() []Joined { return s.broker.With()[s.computer.Load().ID] }

// Ended is the refusal that the relay has ended the session with, while Join goes on or afterwards; nil: it has not.
func (s *Session) Ended() error {
	var r *refuse.Refusal
	if errors.As(context.Cause(s.ctx), &r) {
		return r
	}
	return nil
}

// Why a session ended that was not ended by one of its sides.
var (
	errNotJoined = errors.New("the viewer left before the session began")
	errFault     = errors.New("a fault of the relay")
)

// finish lets go of the session and records its end, once.
func (s *Session) finish(err error) { s.over.Do(func() { s.end(err) }) }

func (s *Session) end(err error) {
	s.drop()
	s.broker.log.Info("viewer left", "host", s.Name(), "viewer", s.Viewer, "account", s.Account.Email, "session", s.ID, "err", err)
	s.broker.count.sessions.WithLabelValues(s.Door).Dec()
	var r *refuse.Refusal
	code, detail := 0, ""
	if errors.As(err, &r) {
		code, detail = r.Code, r.Title
	} else if err != nil {
		detail = "broken off"
	}
	// The end is recorded also when the relay is stopping.
	if err := s.broker.trail.Write(context.Background(), s.event("session.end", code, detail)); err != nil {
		s.broker.log.Error("session's end not recorded", "host", s.Name(), "viewer", s.Viewer, "err", err)
	}
}

// drop forgets the session and lets the computer's stream go.
func (s *Session) drop() {
	s.cancel(nil)
	if s.stream != nil {
		s.stream.Close()
	}
	s.broker.remove(s)
}

func (s *Session) event(kind string, code int, detail string) audit.Event {
	e := audit.Event{
		Kind: kind, Account: s.Account.Email, Computer: s.Request.Computer, Role: s.Role.String(), Session: s.ID,
		Door: s.Door, Source: s.Viewer.Addr().String(), Code: code, Detail: detail,
	}
	if c := s.computer.Load(); c != nil {
		e.Computer, e.ComputerID = c.Owner+"/"+c.Name, c.ID
	}
	return e
}

// List are the sessions that exist and have not been told to end, oldest first.
func (b *Broker) List() []admin.SessionInfo {
	var list []admin.SessionInfo
	for _, s := range b.all() {
		if s.computer.Load() == nil || s.ctx.Err() != nil {
			continue // not reached yet, or about to be over
		}
		list = append(list, admin.SessionInfo{
			ID: s.ID, Account: s.Account.Email, Computer: s.Name(), Role: s.Role.String(), Door: s.Door,
			Viewer: s.Viewer.String(), Since: s.Since,
		})
	}
	return list
}

// A Joined is somebody who is joined to a computer through the relay. Whether they have control, only the computer knows.
type Joined struct {
	Account string    `json:"account"`
	Role    string    `json:"role"` // what they came for: control, watch or take
	Since   time.Time `json:"since"`
	Session string    `json:"-"` // the relay's name for it, which the computer knows too
}

// With are those who are joined to each computer, by its UUID, oldest first.
func (b *Broker) With() map[string][]Joined {
	with := map[string][]Joined{}
	for _, s := range b.all() {
		if c := s.computer.Load(); c != nil {
			with[c.ID] = append(with[c.ID], Joined{s.Account.Email, s.Role.String(), s.Since, s.ID})
		}
	}
	return with
}

// End ends one session, for an administrator of the relay.
func (b *Broker) End(id string) error {
	b.mu.Lock()
	s := b.sessions[id]
	b.mu.Unlock()
	if s == nil {
		return errors.New("no session " + strconv.Quote(id) + "; \"relayd session list\" names those that exist")
	}
	s.cancel(refuse.Ended.Of("an administrator of the relay"))
	return nil
}

// EndAccount ends every session of an account that what it was signed in by does not hold for any more; why says what has ended them.
func (b *Broker) EndAccount(id int64, why string) {
	b.endAll(refuse.Ended.Of(why), func(s *Session) bool { return s.Account.ID == id })
}

// RightChanged ends the sessions on a computer that need more than the right an account has now; account 0 is
// everybody. Of the others it looks up how long they may go on.
func (b *Broker) RightChanged(computer string, account int64, now registry.Right) {
	for _, s := range b.all() {
		c := s.computer.Load()
		switch {
		case c == nil || c.ID != computer || account != 0 && account != s.Account.ID:
		case needs(s.Role) > now:
			s.cancel(refuse.Ended.Of("the computer's owner"))
		default:
			b.work.Go(s.recheck)
		}
	}
}

// recheck ends the session unless the right to it still stands.
func (s *Session) recheck() {
	c, err := s.broker.computers.Find(s.ctx, s.Account, s.computer.Load().ID)
	if err != nil || needs(s.Role) > c.Right {
		s.cancel(refuse.Ended.Of("the end of the time that you were given"))
		return
	}
	s.expireAt(c.Expires)
}

// needs is the right that a role takes.
func needs(r tunnel.Role) registry.Right {
	if r == tunnel.RoleWatch {
		return registry.RightWatch
	}
	return registry.RightControl
}

// expireAt looks again at a right that was given for a time only, when that is over. The zero time never comes.
func (s *Session) expireAt(t time.Time) {
	if t.IsZero() {
		return
	}
	timer := time.AfterFunc(time.Until(t), s.recheck)
	context.AfterFunc(s.ctx, func() { timer.Stop() })
}

// Package broker opens sessions: it checks the right and the presence, reaches the computer, and is the one place
// that joins a viewer's stream to a computer's. Every door leads here, so every door refuses alike, and each session
// leaves the same trace in the audit log and the metrics.
package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
)

// reachTime is how long a computer has to answer for a session.
const reachTime = 10 * time.Second

// Computers knows who may use which computer, and how to reach it.
type Computers interface {
	// Find is the computer of that name that acct owns or shares; anything else is refuse.NoComputer.
	Find(ctx context.Context, acct *account.Account, name string) (*registry.Computer, error)
	// ForAccount are the computers that Find finds.
	ForAccount(ctx context.Context, acct *account.Account) ([]registry.Computer, error)
	// Tunnel is the live tunnel of a computer.
	Tunnel(id string, kind tunnel.Kind) (*tunnel.Session, bool)
}

// People knows who may still sign in.
type People interface {
	// Holds is refuse.SignIn when what the account was signed in by does not hold any more.
	Holds(ctx context.Context, a *account.Account) error
}

// Codes are the one-time codes.
type Codes interface {
	// Take spends a live code that is for just this, and gives it; empty: there is none.
	Take(account int64, computer string, role tunnel.Role) (code string)
}

// Trail is the audit log.
type Trail interface {
	Write(ctx context.Context, e audit.Event) error
}

// A Request says who wants which computer, and through what.
type Request struct {
	Account  *account.Account // signed in
	Computer string           // as the person named it; empty: refuse.NameComputer says which there are
	Role     tunnel.Role
	Door     string // "rfb", "code", "ssh" or "web"
	Viewer   netip.AddrPort
	Purpose  tunnel.Purpose
	Minor    int // of RFB's version, where the door has read it: 3, 7 or 8

	// WithCode spends a live one-time code that is for just this, if there is one, and has the computer accept it: for viewers
	// that can do no more than VncAuth, on their way to the host login.
	WithCode bool
	Facts    bool // asks for Session.Facts
}

// A Broker holds the sessions of a relay.
type Broker struct {
	log       *slog.Logger
	people    People
	computers Computers
	codes     Codes
	trail     Trail
	count     *metrics

	work sync.WaitGroup // looks at rights that have changed

	begins *audit.Paces // of sessions

	mu       sync.Mutex // guards what follows
	sessions map[string]*Session
	refusals map[int64]*audit.Limit // records of refusals, by account
	closed   bool
	idle     chan struct{} // closed when the last session of a closed broker is over
}

// New makes a broker that registers its metrics with reg.
func New(log *slog.Logger, reg prometheus.Registerer, people People, computers Computers, codes Codes, trail Trail) *Broker {
	return &Broker{
		log: log, people: people, computers: computers, codes: codes, trail: trail, count: newMetrics(reg),
		sessions: make(map[string]*Session), refusals: make(map[int64]*audit.Limit), begins: audit.NewPaces(sessionEvery, sessionBurst), idle: make(chan struct{}),
	}
}

// Open reaches a computer for a viewer. What the viewer is to be told is a *refuse.Refusal: the broker's own, or the
// computer's. The caller must Join or Close the session; it may do both.
func (b *Broker) Open(ctx context.Context, req Request) (*Session, error) {
	s := &Session{
		ID: strings.ToLower(rand.Text()[:16]), Request: req, Since: time.Now(), broker: b,
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	// Listed before the right is checked, it cannot be missed when the right is withdrawn at this moment.
	if err := b.add(s); err != nil {
		return nil, b.refuse(ctx, s, err)
	}
	ctx, stop := context.WithTimeout(ctx, reachTime)
	defer stop()
	defer context.AfterFunc(s.ctx, stop)()
	err := s.reach(ctx)
	if err == nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	if err == nil {
		detail := ""
		if s.coded {
			detail = "a one-time code went along"
		}
		err = b.trail.Write(ctx, s.event("session.start", 0, detail))
	}
	if err != nil {
		if s.ctx.Err() != nil {
			err = context.Cause(s.ctx)
		}
		s.drop()
		return nil, b.refuse(ctx, s, err)
	}
	b.count.sessions.WithLabelValues(req.Door).Inc()
	b.log.Info("viewer joined", "host", s.Name(), "viewer", s.Viewer, "account", s.Account.Email, "session", s.ID,
		"role", s.Role.String(), "door", s.Door)
	return s, nil
}

// reach finds the computer, checks the right and opens the stream.
func (s *Session) reach(ctx context.Context) error {
	if err := s.broker.people.Holds(ctx, s.Account); err != nil {
		return err
	}
	if s.Request.Computer == "" {
		return refuse.NameComputer.Of(s.Account.Email, s.broker.names(ctx, s.Account))
	}
	c, err := s.broker.computers.Find(ctx, s.Account, s.Request.Computer)
	if err != nil {
		return err
	}
	s.setComputer(c)
	// Asked again now that RightChanged knows the computer: a right that is withdrawn at this moment is seen by one of
	// the two.
	if c, err = s.broker.computers.Find(ctx, s.Account, c.ID); err != nil {
		return err
	}
	if needs(s.Role) > c.Right {
		return refuse.WatchOnly.Of(c.Name)
	}
	s.expireAt(c.Expires)
	t, ok := s.broker.computers.Tunnel(c.ID, tunnel.Main)
	if !ok {
		return c.Absent()
	}
	if !s.broker.begins.Pass(s.Account.ID, 1) {
		return refuse.TooOften.Of()
	}
	if err := s.broker.place(s, c, t.Most()); err != nil {
		return err
	}
	h := tunnel.Header{
		Purpose: s.Purpose, Session: s.ID, Account: s.Account.Email, Viewer: s.Viewer.String(), Role: s.Role,
		Minor: uint8(s.Minor), Facts: s.Request.Facts,
	}
	if s.WithCode {
		h.Code = s.broker.codes.Take(s.Account.ID, c.ID, s.Role)
		s.coded = h.Code != ""
	}
	s.tunnel = t
	s.stream, err = t.Open(ctx, h)
	var refusal *refuse.Refusal
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	s.broker.log.Warn("computer not reached", "host", c.Name, "viewer", s.Viewer, "err", err)
	select {
	case <-t.Done():
		if c, err := s.broker.computers.Find(context.WithoutCancel(ctx), s.Account, c.ID); err == nil && !c.Online {
			return c.Absent()
		}
		return refuse.NotRunning.Of(c.Name)
	default:
		return refuse.NotRunning.Of(c.Name)
	}
}

// refuse counts and records why s is not opened, and gives what the viewer is told.
func (b *Broker) refuse(ctx context.Context, s *Session, err error) error {
	var r *refuse.Refusal
	if !errors.As(err, &r) {
		if ctx.Err() != nil {
			return err // the viewer has gone: nobody to tell
		}
		b.log.Error("session not opened", "viewer", s.Viewer, "err", err)
		r = refuse.StorageOut.Of()
	}
	b.count.refused(r.Code)
	e := s.event("session.refused", r.Code, r.Title)
	if !b.refusalsOf(s.Account.ID).Pass(&e) {
		return r
	}
	if err := b.trail.Write(context.WithoutCancel(ctx), e); err != nil {
		b.log.Error("refusal not recorded", "viewer", s.Viewer, "err", err)
	}
	return r
}

// A refusal costs whoever is signed in nothing: each account may cause one record in refusalEvery, and refusalBurst
// at first, some 4 MB a day.
const (
	refusalEvery = 10 * time.Second
	refusalBurst = 20
)

// refusalsOf bounds the records of an account's refusals.
func (b *Broker) refusalsOf(account int64) *audit.Limit {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.refusals[account]
	if l == nil {
		l = audit.NewLimit(refusalEvery, refusalBurst)
		b.refusals[account] = l
	}
	return l
}

// Of each session two records are kept for good, and it costs whoever has a computer of their own next to nothing: so many may an account
// begin, lest it fill the disk, without which nobody is let in.
const (
	sessionEvery = time.Second
	sessionBurst = 500
)

func (b *Broker) add(s *Session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return refuse.Restarting.Of()
	}
	b.sessions[s.ID] = s
	return nil
}

// What guests, those whom a computer is shared with, may have of it at once.
const (
	guestSessions = 8 // of one guest
	ownerPlaces   = 8 // of those that the computer serves, left for its owner; half of them where it serves few
)

// place gives s one of the sessions that its computer serves, most at once. Guests do not shut out its owner, nor one guest
// the others: refuse.YourLimit, refuse.TooMany.
func (b *Broker) place(s *Session, c *registry.Computer, most int) error {
	if c.Owner == s.Account.Email {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	own, all := 0, 0
	for _, o := range b.sessions {
		if o.guestOf == c.ID {
			all++
			if o.Account.ID == s.Account.ID {
				own++
			}
		}
	}
	switch {
	case own >= guestSessions:
		return refuse.YourLimit.Of(own, c.Name)
	case all >= max(most-ownerPlaces, (most+1)/2):
		return refuse.TooMany.Of(c.Name)
	}
	s.guestOf = c.ID
	return nil
}

func (b *Broker) remove(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sessions, s.ID)
	if b.closed && len(b.sessions) == 0 {
		close(b.idle)
	}
}

// all are the sessions that exist, oldest first.
func (b *Broker) all() []*Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*Session, 0, len(b.sessions))
	for _, s := range b.sessions {
		list = append(list, s)
	}
	slices.SortFunc(list, func(x, y *Session) int { return x.Since.Compare(y.Since) })
	return list
}

// Shutdown ends every session and lets none begin. It returns when all are over, or with ctx.
func (b *Broker) Shutdown(ctx context.Context) {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	if first && len(b.sessions) == 0 {
		close(b.idle)
	}
	b.mu.Unlock()
	b.endAll(refuse.Restarting.Of(), func(*Session) bool { return true })
	select {
	case <-b.idle:
	case <-ctx.Done():
	}
	b.work.Wait() // which the end of the sessions ends
}

func (b *Broker) endAll(cause error, which func(*Session) bool) {
	for _, s := range b.all() {
		if which(s) {
			s.cancel(cause)
		}
	}
}

// names lists the computers that acct could have named, those online first.
func (b *Broker) names(ctx context.Context, acct *account.Account) string {
	list, err := b.computers.ForAccount(ctx, acct)
	if err != nil {
		return "unknown"
	}
	var online, offline []string
	for _, c := range list {
		if c.Online {
			online = append(online, c.Name)
		} else {
			offline = append(offline, c.Name)
		}
	}
	if len(list) == 0 {
		return "none yet"
	}
	return strings.Join(append(online, offline...), ", ")
}

package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
)

// Sessions are those that go on.
type Sessions interface {
	// With are the sessions with each computer, by its UUID, oldest first.
	With() map[string][]broker.Joined
	List() []admin.SessionInfo
	End(id string) error
}

// A listed computer is one as its page and the API show it.
type listed struct {
	registry.Computer
	State  string          `json:"state"`            // online, in use (somebody has come to control it), asleep, rebooting, not accessible or offline
	Joined []broker.Joined `json:"joined,omitempty"` // through the relay
}

// A list is the answer of GET /api/hosts.
type list struct {
	Computers []listed      `json:"hosts"`
	Asks      []account.Ask `json:"signins,omitempty"` // of the account, that wait for an answer
}

// Times and numbers of the page that is told what changes.
const (
	maxWatches  = 16 // pages of one account
	lookEvery   = time.Second
	quietTime   = 15 * time.Second    // then the connection is tried
	eventsPath  = "/api/hosts/events" // which a page asks for without its person doing anything
	watchTime   = 10 * time.Minute    // then the page asks anew, and is looked at anew
	watchAnswer = 10 * time.Second    // for the page to take what it is told
)

// computers are those that an account may use.
func (s *Server) computers(ctx context.Context, a *account.Account) (list, error) {
	all, err := s.Computers.ForAccount(ctx, a)
	l := list{make([]listed, len(all)), s.People.Asks(a)}
	with := s.Sessions.With()
	for i, c := range all {
		l.Computers[i] = show(c, with[c.ID])
	}
	return l, err
}

func show(c registry.Computer, joined []broker.Joined) listed {
	l := listed{Computer: c, State: "offline", Joined: joined}
	switch {
	case c.Barred != "":
		l.State = "not accessible"
	case c.Away == registry.Asleep || c.Away == registry.Rebooting:
		l.State = string(c.Away)
	case c.Online:
		l.State, l.LastSeen = "online", time.Time{} // it is seen now
	}
	for _, j := range joined {
		if c.Online && j.Role != "watch" {
			l.State = "in use"
		}
	}
	return l
}

// list serves GET /computers.
func (s *Server) list(w http.ResponseWriter, r *http.Request, p *Person) {
	l, err := s.computers(r.Context(), p.Account)
	hinted := true
	if err == nil && len(l.Computers) > 0 {
		hinted, err = s.People.Hinted(r.Context(), p.Account)
	}
	if err != nil {
		s.stored(w, p, err)
		return
	}
	query := r.FormValue("q")
	s.look.show(w, r, http.StatusOK, "computers.html", struct {
		Account *account.Account
		Ways    Ways
		Hint    bool // that viewers of one's own do as well
		list
		Query    string
		Sections []section
	}{p.Account, s.Ways, !hinted, l, query, sections(search(l.Computers, query))})
}

// dropHint serves POST /account/hint: the list shows it no more. With a computer it goes on to where that is explained.
func (s *Server) dropHint(w http.ResponseWriter, r *http.Request, p *Person) {
	if !s.changes.Pass(p.Account.ID, 1) {
		s.look.refuse(w, r, http.StatusTooManyRequests, refuse.TooFast.Of())
		return
	}
	if err := s.People.DropHint(r.Context(), p.Account); err != nil {
		s.stored(w, p, err)
		return
	}
	next := home
	if id := r.PostFormValue("computer"); id != "" {
		next = "/computers/" + url.PathEscape(id) + "#viewer"
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// stored tells that the store has failed.
func (s *Server) stored(w http.ResponseWriter, p *Person, err error) {
	s.Log.Error("page not made", "viewer", p.Account.Email, "err", err)
	s.look.refuse(w, nil, http.StatusServiceUnavailable, refuse.StorageOut.Of())
}

// apiList serves GET /api/hosts.
func (s *Server) apiList(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	return s.computers(r.Context(), p.Account)
}

// A check is one thing that must hold for a person to come to a computer, as far as the relay knows.
type check struct {
	What    string          `json:"what"`
	OK      bool            `json:"ok"`
	Since   time.Time       `json:"since,omitzero"` // it does not hold
	Refusal *refuse.Refusal `json:"refusal,omitempty"`
}

// checks are what must hold, in the order in which it is asked. Who has control, and the log-in, are the computer's to say: somebody who has
// come to control it may still be at its form.
func checks(c *registry.Computer, with []broker.Joined) []check {
	right := check{What: "you may control it", OK: c.Right >= registry.RightControl}
	if !right.OK {
		right.Refusal = refuse.WatchOnly.Of(c.Name)
	}
	online := check{What: "it is on, connected to the Internet, and runs hostd", OK: c.Online}
	if !online.OK {
		online.Since, online.Refusal = c.LastSeen, c.Absent()
	}
	free := check{What: "nobody has come to control it", OK: true}
	for _, j := range with {
		if c.Online && j.Role != "watch" {
			free = check{What: free.What, Since: j.Since, Refusal: refuse.Held.Of(j.Account, j.Since.UTC().Format("15:04 MST"))}
			break
		}
	}
	return []check{right, online, free}
}

// apiConnectability serves GET /api/hosts/{computer}/connectability: why one cannot connect to control it.
func (s *Server) apiConnectability(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	c, err := s.find(r, p)
	if err != nil {
		return nil, err
	}
	all := checks(c, s.Sessions.With()[c.ID])
	return struct {
		Connectable bool    `json:"connectable"`
		Checks      []check `json:"checks"`
	}{!slices.ContainsFunc(all, func(c check) bool { return !c.OK }), all}, nil
}

// apiEvents serves GET /api/hosts/events: what GET /api/hosts answers, and again whenever it has changed, as server-sent
// events.
func (s *Server) apiEvents(w http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	if !s.watches.enter(p.Account.ID, maxWatches) {
		return nil, refuse.Watched.Of()
	}
	defer s.watches.leave(p.Account.ID)
	ctx, cancel := context.WithTimeout(r.Context(), watchTime)
	defer cancel()
	defer context.AfterFunc(p.Gone, cancel)()
	out := http.NewResponseController(w)
	if out.SetReadDeadline(time.Time{}) != nil { // of the request, which is read
		return nil, nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var told []byte
	var at time.Time
	for {
		l, err := s.computers(ctx, p.Account)
		if err == nil && p.Token != nil {
			err = s.People.TokenHolds(ctx, p.Token)
		}
		if err != nil {
			return nil, nil // the page asks again
		}
		now, err := json.Marshal(l)
		if err != nil {
			return nil, nil
		}
		text := []byte(nil)
		switch {
		case !bytes.Equal(now, told):
			text = append(append([]byte("data: "), now...), "\n\n"...)
		case time.Since(at) > quietTime:
			text = []byte(":\n\n")
		}
		if text != nil {
			told, at = now, time.Now()
			_ = out.SetWriteDeadline(at.Add(watchAnswer)) // Flush tells
			if _, err := w.Write(text); err != nil || out.Flush() != nil {
				return nil, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-tick.C:
		}
	}
}

package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/store"
)

// Trail is the audit log.
type Trail interface {
	Write(ctx context.Context, e audit.Event) error
	Read(ctx context.Context, f audit.Filter, each func(audit.Entry) error) error
	Newest(ctx context.Context, f audit.Filter, max int, back int64) ([]audit.Entry, error)
}

// Ways are the other doors, as host:port; a door that is off is empty.
type Ways struct {
	RFB, Code, SSH string
	HostKey        string // fingerprint of the SSH door's key
}

// A view is a computer's page.
type view struct {
	Account  *account.Account
	Computer listed
	Own      bool
	Manages  bool // it is theirs, or they manage it
	Checks   []check
	Shares   []registry.Share // for who manages it
	Groups   []string         // of the account
	Ways     Ways
	Lines    lines
	Code     string    // a one-time code, just made
	Watch    bool      // it is only for watching
	Until    time.Time // of the code
	Problem  string
}

// computer serves GET /computers/{computer}.
func (s *Server) computer(w http.ResponseWriter, r *http.Request) {
	if p, c, ok := s.asked(w, r); ok {
		s.view(w, r, http.StatusOK, p, c, view{})
	}
}

// asked is who asks for which computer; when it is false, the answer is given.
func (s *Server) asked(w http.ResponseWriter, r *http.Request) (*Person, *registry.Computer, bool) {
	p, ok := s.signedIn(r)
	if !ok {
		toSignIn(w, r)
		return nil, nil, false
	}
	c, err := s.find(r, p)
	if refuse.NoComputer.Is(err) {
		s.look.refuse(w, r, http.StatusNotFound, refuse.NoComputer.Of())
	} else if err != nil {
		s.stored(w, p, err)
	}
	return p, c, err == nil
}

// find is the computer that a request is about. The error is refuse.NoComputer or StorageOut.
func (s *Server) find(r *http.Request, p *Person) (*registry.Computer, error) {
	c, err := s.Computers.Find(r.Context(), p.Account, r.PathValue("computer"))
	if refuse.NameComputer.Is(err) {
		err = refuse.NoComputer.Of()
	}
	return c, err
}

func owns(p *Person, c *registry.Computer) bool { return c.Owner == p.Account.Email }

func manages(p *Person, c *registry.Computer) bool {
	return owns(p, c) || c.Right >= registry.RightManage
}

// asOne is asked, for what only some may do.
func (s *Server) asOne(may func(*Person, *registry.Computer) bool, w http.ResponseWriter, r *http.Request) (*Person, *registry.Computer, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	p, c, ok := s.asked(w, r)
	if ok && !may(p, c) {
		s.look.refuse(w, r, http.StatusForbidden, refuse.NotYours.Of(c.Owner))
		return nil, nil, false
	}
	return p, c, ok
}

// view shows a computer's page; of v only what is new is set.
func (s *Server) view(w http.ResponseWriter, r *http.Request, status int, p *Person, c *registry.Computer, v view) {
	v.Account, v.Own, v.Manages, v.Ways = p.Account, owns(p, c), manages(p, c), s.Ways
	with := s.Sessions.With()[c.ID]
	v.Checks, v.Lines = checks(c, with), linesOf(s.Ways, p.Account.Email, c.Name, c.Right < registry.RightControl)
	all, err := s.Computers.ForAccount(r.Context(), p.Account)
	if err != nil {
		s.stored(w, p, err)
		return
	}
	kept := *c
	if i := slices.IndexFunc(all, func(o registry.Computer) bool { return o.ID == c.ID }); i >= 0 {
		kept.Favourite, kept.Group = all[i].Favourite, all[i].Group
	}
	v.Groups, v.Computer = groups(all), show(kept, with)
	if v.Manages {
		if v.Shares, err = s.Computers.Shares(r.Context(), c.ID); err != nil {
			s.stored(w, p, err)
			return
		}
	}
	s.look.show(w, r, status, "computer.html", v)
}

// alter records what a person changes, and changes it: what cannot be recorded is not done, what then fails is recorded once
// more. A browser that leaves does not interrupt it.
func (s *Server) alter(r *http.Request, p *Person, e audit.Event, do func(ctx context.Context) error) error {
	ctx := context.WithoutCancel(r.Context())
	e.Door, e.Source = Door, source(r)
	if e.Detail != "" {
		e.Detail += ", "
	}
	e.Detail += "by " + p.Account.Email
	if p.Token != nil {
		e.Detail += " with the token " + p.Token.Name
	}
	if err := s.paced(p); err != nil {
		return err
	}
	if err := s.Trail.Write(ctx, e); err != nil {
		return err
	}
	err := do(ctx)
	if err != nil {
		e.Kind, e.Detail = e.Kind+".failed", err.Error()
		if err := s.Trail.Write(ctx, e); err != nil {
			s.Log.Error("failure not recorded", "viewer", p.Account.Email, "err", err)
		}
	}
	return err
}

// altered shows what came of a change to a computer.
func (s *Server) altered(w http.ResponseWriter, r *http.Request, p *Person, c *registry.Computer, err error) {
	if err != nil {
		s.view(w, r, http.StatusBadRequest, p, c, view{Problem: err.Error()})
		return
	}
	http.Redirect(w, r, "/computers/"+c.ID, http.StatusSeeOther)
}

// apiOf answers who may do something with a computer.
func (s *Server) apiOf(may func(*Person, *registry.Computer) bool, do func(r *http.Request, p *Person, c *registry.Computer) (any, error)) http.HandlerFunc {
	return s.api(func(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
		c, err := s.find(r, p)
		if err != nil {
			return nil, err
		}
		if !may(p, c) {
			return nil, refuse.NotYours.Of(c.Owner)
		}
		return do(r, p, c)
	})
}

// apiAsOne is the call that does what a form of the computer's page does.
func (s *Server) apiAsOne(may func(*Person, *registry.Computer) bool, do func(r *http.Request, p *Person, c *registry.Computer) error) http.HandlerFunc {
	return s.apiOf(may, func(r *http.Request, p *Person, c *registry.Computer) (any, error) { return done{}, do(r, p, c) })
}

// rename serves POST /computers/{computer}/rename.
func (s *Server) rename(w http.ResponseWriter, r *http.Request) {
	if p, c, ok := s.asOne(manages, w, r); ok {
		s.altered(w, r, p, c, s.renameTo(r, p, c))
	}
}

// renameTo gives a computer the name that the form has.
func (s *Server) renameTo(r *http.Request, p *Person, c *registry.Computer) error {
	name := strings.TrimSpace(r.PostFormValue("name"))
	e := audit.Event{Kind: "host.rename", Computer: c.Owner + "/" + c.Name, ComputerID: c.ID, Detail: "to " + refuse.Printable(name, registry.MaxName)}
	return s.alter(r, p, e, func(ctx context.Context) error {
		_, err := s.Computers.Rename(ctx, c.ID, name)
		return err
	})
}

// remove serves POST /computers/{computer}/remove.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	p, c, ok := s.asOne(owns, w, r)
	if !ok {
		return
	}
	switch err := s.removeNamed(r, p, c); {
	case refuse.Unproven.Is(err):
		http.Redirect(w, r, "/account/confirm?next="+url.QueryEscape("/computers/"+c.ID), http.StatusSeeOther)
	case err != nil:
		s.altered(w, r, p, c, err)
	default:
		http.Redirect(w, r, home, http.StatusSeeOther)
	}
}

// removeNamed removes a computer for who has proven lately who they are. The name typed again stands for "yes, this one".
func (s *Server) removeNamed(r *http.Request, p *Person, c *registry.Computer) error {
	if !p.proven() {
		return refuse.Unproven.Of()
	}
	if strings.TrimSpace(r.PostFormValue("name")) != c.Name {
		return fmt.Errorf("to remove the computer, type its name: %s", c.Name)
	}
	e := audit.Event{Kind: "host.remove", Computer: c.Owner + "/" + c.Name, ComputerID: c.ID}
	return s.alter(r, p, e, func(ctx context.Context) error {
		_, err := s.Computers.Remove(ctx, c.ID)
		return err
	})
}

// share serves POST /computers/{computer}/share.
func (s *Server) share(w http.ResponseWriter, r *http.Request) {
	if p, c, ok := s.asOne(manages, w, r); ok {
		s.altered(w, r, p, c, s.shareWith(r, p, c))
	}
}

// shareWith gives or takes the right that the form has.
func (s *Server) shareWith(r *http.Request, p *Person, c *registry.Computer) error {
	email := strings.TrimSpace(r.PostFormValue("email"))
	var right registry.Right
	err := right.UnmarshalText([]byte(r.PostFormValue("right")))
	var until time.Time
	if err == nil && right != registry.RightNone {
		until, err = endOf(r.PostFormValue("for"))
	}
	if err == nil {
		err = account.CheckEmail(email)
	}
	if err == nil && !owns(p, c) {
		until, err = s.lend(r.Context(), c, email, right, until)
	}
	if err != nil {
		return err
	}
	e := audit.Event{Kind: "host.share", Computer: c.Owner + "/" + c.Name, ComputerID: c.ID, Account: email, Detail: right.String()}
	if !until.IsZero() {
		e.Detail += until.UTC().Format(" until 2006-01-02T15:04:05Z")
	}
	err = s.alter(r, p, e, func(ctx context.Context) error {
		_, err := s.Computers.Offer(ctx, c.ID, email, right, until)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%s has no right to this computer", email)
	}
	return err
}

// leave serves POST /computers/{computer}/leave.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	p, c, ok := s.asOne(joins, w, r)
	if !ok {
		return
	}
	if err := s.giveUp(r, p, c); err != nil {
		s.altered(w, r, p, c, err)
		return
	}
	http.Redirect(w, r, home, http.StatusSeeOther)
}

// joins is anybody who has a right to a computer.
func joins(*Person, *registry.Computer) bool { return true }

// giveUp takes a person's own right to a computer of somebody else: nobody has to keep what they never asked for.
func (s *Server) giveUp(r *http.Request, p *Person, c *registry.Computer) error {
	if owns(p, c) {
		return errors.New("the computer is your own: remove it instead")
	}
	e := audit.Event{Kind: "host.share", Computer: c.Owner + "/" + c.Name, ComputerID: c.ID, Account: p.Account.Email, Detail: registry.RightNone.String()}
	return s.alter(r, p, e, func(ctx context.Context) error {
		_, err := s.Computers.Offer(ctx, c.ID, p.Account.Email, registry.RightNone, time.Time{})
		return err
	})
}

// lend is until when somebody who manages a computer, and does not own it, may give another a right: no longer than they have their own.
// Who manages it is for the owner to say.
func (s *Server) lend(ctx context.Context, c *registry.Computer, email string, right registry.Right, until time.Time) (time.Time, error) {
	all, err := s.Computers.Shares(ctx, c.ID)
	if err != nil {
		return until, err
	}
	if right >= registry.RightManage || slices.ContainsFunc(all, func(h registry.Share) bool {
		return h.Right >= registry.RightManage && account.EmailKey(h.Email) == account.EmailKey(email)
	}) {
		return until, refuse.NotYours.Of(c.Owner)
	}
	if right != registry.RightNone && !c.Expires.IsZero() && (until.IsZero() || until.After(c.Expires)) {
		until = c.Expires
	}
	return until, nil
}

// endOf is when a right ends that is given for a time as the page offers it; zero: never.
func endOf(choice string) (time.Time, error) {
	switch choice {
	case "":
		return time.Time{}, nil
	case "hour":
		return time.Now().Add(time.Hour), nil
	case "day":
		return time.Now().Add(24 * time.Hour), nil
	case "week":
		return time.Now().Add(7 * 24 * time.Hour), nil
	}
	return time.Time{}, errors.New("a right is given for an hour, a day, a week or for good")
}

// code serves POST /computers/{computer}/code: a one-time code for viewers without user names.
func (s *Server) code(w http.ResponseWriter, r *http.Request) {
	p, c, ok := s.asOne(everyone, w, r)
	if !ok {
		return
	}
	g, err := s.makeCode(r, p, c)
	if err != nil {
		s.altered(w, r, p, c, err)
		return
	}
	s.view(w, r, http.StatusOK, p, c, view{Code: g.Code, Watch: g.Role == tunnel.RoleWatch.String(), Until: g.Expires})
}

// A viewerCode is a one-time code as the API answers it.
type viewerCode struct {
	Code    string    `json:"code"` // secret
	Role    string    `json:"role"`
	At      string    `json:"at,omitempty"` // host:port of the door that takes it
	Expires time.Time `json:"expires"`
}

// makeCode makes a code for the role that the form has.
func (s *Server) makeCode(r *http.Request, p *Person, c *registry.Computer) (viewerCode, error) {
	role, ok := roles[r.PostFormValue("role")]
	if !ok || role == tunnel.RoleTake {
		return viewerCode{}, errors.New("a code is for the role control or watch")
	}
	v := viewerCode{Role: role.String(), At: s.Ways.Code}
	e := audit.Event{Kind: "code.make", Account: p.Account.Email, Computer: c.Owner + "/" + c.Name, ComputerID: c.ID, Role: v.Role}
	return v, s.alter(r, p, e, func(context.Context) (err error) {
		v.Code, v.Expires, err = s.Computers.Codes().Make(p.Account, c, role)
		return err
	})
}

// apiCode serves POST /api/hosts/{computer}/code.
func (s *Server) apiCode(r *http.Request, p *Person, c *registry.Computer) (any, error) {
	return s.makeCode(r, p, c)
}

// apiShares serves GET /api/hosts/{computer}/shares.
func (s *Server) apiShares(r *http.Request, _ *Person, c *registry.Computer) (any, error) {
	all, err := s.Computers.Shares(r.Context(), c.ID)
	return struct {
		Shares []registry.Share `json:"shares"`
	}{append([]registry.Share{}, all...)}, err
}

// An invitation is the page that adds a computer.
type invitation struct {
	Account       *account.Account
	Name, Problem string
	Token, Line   string // the line is to be run on the computer; empty: not asked for yet
	Until         time.Time
}

// askName serves GET /computers/add.
func (s *Server) askName(w http.ResponseWriter, r *http.Request, p *Person) {
	s.look.show(w, r, http.StatusOK, "add.html", invitation{Account: p.Account})
}

// addComputer makes the token by which a computer enrols itself under the name that the form has, or under its own.
func (s *Server) addComputer(r *http.Request, p *Person) (v invitation, err error) {
	v = invitation{Account: p.Account, Name: strings.TrimSpace(r.PostFormValue("name"))}
	e := audit.Event{Kind: "host.invite", Account: p.Account.Email, Computer: refuse.Printable(v.Name, registry.MaxName)}
	err = s.alter(r, p, e, func(ctx context.Context) error {
		id, secret, until, err := s.Computers.Invite(ctx, p.Account.Email, v.Name)
		if err == nil {
			v.Token = tunnel.Token{Relay: s.Ways.SSH, Fingerprint: s.Ways.HostKey, ID: id, Secret: secret}.String()
			v.Line, v.Until = "sudo hostd enroll "+v.Token, until
		}
		return err
	})
	return v, err
}

// apiAdd serves POST /api/hosts/add.
func (s *Server) apiAdd(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
	v, err := s.addComputer(r, p)
	return struct {
		Token   string    `json:"token"`
		Line    string    `json:"line"`
		Expires time.Time `json:"expires"`
	}{v.Token, v.Line, v.Until}, err
}

// invite serves POST /computers/add.
func (s *Server) invite(w http.ResponseWriter, r *http.Request, p *Person) {
	v, err := s.addComputer(r, p)
	status := http.StatusOK
	if err != nil {
		v.Problem, status = err.Error(), http.StatusBadRequest
	}
	s.look.show(w, r, status, "add.html", v)
}

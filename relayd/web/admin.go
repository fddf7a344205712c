package web

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/audit"
)

// What the audit log may cost.
const (
	shownRecords = 200      // on its page
	searched     = 64 << 20 // bytes of the log's end, for that; the API goes through all of it
	sentRecords  = 100000   // in one answer of the API
	auditReads   = 2        // at once, of all administrators
)

// An office is one page of the administrators; what it shows is what the API answers.
type office struct {
	Account   *account.Account
	Problem   string
	Accounts  []account.Account
	Computers []listed
	Sessions  []admin.SessionInfo
	Blocks    []account.Block
	Records   []audit.Entry
	Asked     asked
	Most      int // records that the page shows
}

// asked is a filter of the audit log as it was typed.
type asked struct{ Who, Kind, Computer, From, To string }

// filter reads what was asked for.
func (a asked) filter() (f audit.Filter, err error) {
	f = audit.Filter{Who: a.Who, Kind: a.Kind, Computer: a.Computer}
	for _, t := range []struct {
		text string
		to   *time.Time
		more time.Duration
	}{{a.From, &f.From, 0}, {a.To, &f.To, 24 * time.Hour}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.DateOnly, t.text); err == nil {
			*t.to = t.to.Add(t.more) // the day is in it
		} else if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return f, errors.New("a time is a day, as 2026-11-28, or as in RFC 3339")
		}
	}
	return f, nil
}

func askedOf(r *http.Request) asked {
	of := func(name string) string { return strings.TrimSpace(r.FormValue(name)) }
	return asked{of("who"), of("kind"), of("computer"), of("from"), of("to")}
}

// officePage shows one of the administrators' pages.
func (s *Server) officePage(w http.ResponseWriter, r *http.Request, p *Person, status int, page, problem string) {
	v := office{Account: p.Account, Problem: problem, Most: shownRecords}
	var err error
	switch page {
	case "accounts.html":
		v.Accounts, err = s.People.List(r.Context())
	case "everything.html":
		v.Computers, err = s.allComputers(r.Context())
	case "sessions.html":
		v.Sessions = s.Sessions.List()
	case "blocks.html":
		v.Blocks = s.People.Blocks()
	case "audit.html":
		v.Asked = askedOf(r)
		f, wrong := v.Asked.filter()
		if wrong != nil {
			v.Problem, status = wrong.Error(), http.StatusBadRequest
			break
		}
		if !s.reads.enter(0, auditReads) {
			v.Problem, status = refuse.AuditRead.Text(), http.StatusTooManyRequests
			break
		}
		v.Records, err = s.Trail.Newest(r.Context(), f, shownRecords, searched)
		s.reads.leave(0)
	}
	if err != nil {
		s.stored(w, p, err)
		return
	}
	s.look.show(w, r, status, page, v)
}

// allComputers are those of everybody.
func (s *Server) allComputers(ctx context.Context) ([]listed, error) {
	all, err := s.Computers.List(ctx)
	with := s.Sessions.With()
	list := make([]listed, len(all))
	for i, c := range all {
		list[i] = show(c, with[c.ID])
	}
	return list, err
}

// office serves a page of the administrators.
func (s *Server) office(page string) http.HandlerFunc {
	return s.forAdmin(func(w http.ResponseWriter, r *http.Request, p *Person) {
		s.officePage(w, r, p, http.StatusOK, page, "")
	})
}

// A decision is what a form asks for: the record of it, and what does it.
type decision func(r *http.Request, p *Person) (audit.Event, func(ctx context.Context) error, error)

// decide serves a form of such a page: it does, on record, what event names.
func (s *Server) decide(page, back string, event decision) http.HandlerFunc {
	return s.forAdmin(func(w http.ResponseWriter, r *http.Request, p *Person) {
		e, do, err := event(r, p)
		if err == nil {
			err = s.alter(r, p, e, do)
		}
		if err != nil {
			s.officePage(w, r, p, http.StatusBadRequest, page, err.Error())
			return
		}
		http.Redirect(w, r, back, http.StatusSeeOther)
	})
}

// switchAccount is the form that disables or enables an account.
func (s *Server) switchAccount(kind string, do func(ctx context.Context, email string) error) decision {
	return func(r *http.Request, p *Person) (audit.Event, func(context.Context) error, error) {
		email := r.PostFormValue("email")
		return audit.Event{Kind: kind, Account: refuse.Printable(email, account.MaxEmail)}, func(ctx context.Context) error { return do(ctx, email) }, s.beyond(r, p, email)
	}
}

// endSession is the form that ends a session.
func (s *Server) endSession(r *http.Request, _ *Person) (audit.Event, func(context.Context) error, error) {
	id := refuse.Printable(r.PostFormValue("id"), 64)
	return audit.Event{Kind: "session.end", Session: id}, func(context.Context) error { return s.Sessions.End(id) }, nil
}

// unblock is the form that forgets failures.
func (s *Server) unblock(r *http.Request, _ *Person) (audit.Event, func(context.Context) error, error) {
	source, err := netip.ParsePrefix(r.PostFormValue("source"))
	if err != nil {
		return audit.Event{}, nil, errors.New("that is no address with its length, as 192.0.2.1/32")
	}
	return audit.Event{Kind: "limit.unblock", Detail: source.String()}, func(ctx context.Context) error { return s.People.Unblock(ctx, source) }, nil
}

// apiAccounts serves GET /api/admin/accounts.
func (s *Server) apiAccounts(_ http.ResponseWriter, r *http.Request, _ *Person) (any, error) {
	all, err := s.People.List(r.Context())
	return struct {
		Accounts []account.Account `json:"accounts"`
	}{all}, err
}

// apiComputers serves GET /api/admin/hosts.
func (s *Server) apiComputers(_ http.ResponseWriter, r *http.Request, _ *Person) (any, error) {
	all, err := s.allComputers(r.Context())
	return list{Computers: all}, err
}

// apiSessions serves GET /api/admin/sessions.
func (s *Server) apiSessions(http.ResponseWriter, *http.Request, *Person) (any, error) {
	return struct {
		Sessions []admin.SessionInfo `json:"sessions"`
	}{append([]admin.SessionInfo{}, s.Sessions.List()...)}, nil
}

// apiBlocks serves GET /api/admin/blocks.
func (s *Server) apiBlocks(http.ResponseWriter, *http.Request, *Person) (any, error) {
	return struct {
		Blocks []account.Block `json:"blocks"`
	}{s.People.Blocks()}, nil
}

// errEnough ends the reading of the audit log.
var errEnough = errors.New("as many records as one answer may have")

// apiAudit serves GET /api/admin/audit: the records that are asked for, oldest first, as JSON lines or CSV, at most sentRecords of them.
func (s *Server) apiAudit(w http.ResponseWriter, r *http.Request, _ *Person) (any, error) {
	f, err := askedOf(r).filter()
	if err != nil {
		return nil, refuse.NotDone.Of(err)
	}
	if !s.reads.enter(0, auditReads) {
		return nil, refuse.AuditRead.Of()
	}
	defer s.reads.leave(0)
	write, flush, name := jsonLines(w), func() {}, "audit.jsonl"
	w.Header().Set("Content-Type", "application/jsonl")
	if r.FormValue("format") == "csv" {
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		c := csv.NewWriter(w)
		write, flush, name = csvLines(c), c.Flush, "audit.csv"
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	n := 0
	err = s.Trail.Read(r.Context(), f, func(e audit.Entry) error {
		if n++; n > sentRecords {
			return errEnough
		}
		return write(e)
	})
	flush()
	if err != nil && !errors.Is(err, errEnough) {
		s.Log.Warn("audit log not sent whole", "err", err)
		panic(http.ErrAbortHandler) // whoever reads must not take it for all
	}
	return nil, nil
}

func jsonLines(w http.ResponseWriter) func(audit.Entry) error {
	out := json.NewEncoder(w)
	return func(e audit.Entry) error { return out.Encode(e) }
}

// csvLines writes a heading now, and then a row for each record.
func csvLines(out *csv.Writer) func(audit.Entry) error {
	_ = out.Write([]string{"seq", "time", "kind", "account", "computer", "computer_id", "role", "session", "door", "source", "code", "detail"}) // fails again below
	return func(e audit.Entry) error {
		row := []string{strconv.FormatUint(e.Seq, 10), e.Time.UTC().Format(time.RFC3339), e.Kind, e.Account, e.Computer, e.ComputerID, e.Role, e.Session, e.Door, e.Source, "", e.Detail}
		if e.Code != 0 {
			row[10] = strconv.Itoa(e.Code)
		}
		for i, cell := range row {
			row[i] = harmless(cell)
		}
		return out.Write(row)
	}
}

// harmless is a cell that no spreadsheet takes for a formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

package web

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

// openAPI describes the API.
//
//go:embed openapi.json
var openAPI []byte

// apiSelf serves GET /api/openapi.json.
func apiSelf(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // fails only when the client has gone
}

// done is the answer to what has no other.
type done struct{}

// An apiCall gives what is answered as JSON, or nil when it has answered itself.
type apiCall func(w http.ResponseWriter, r *http.Request, p *Person) (any, error)

// api answers who is signed in, or shows a token that allows it.
func (s *Server) api(do apiCall) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		p, err := s.caller(r)
		if err == nil && r.Method != http.MethodGet && p.Token != nil && !p.Token.Full {
			err = refuse.ReadOnly.Of()
		}
		var v any
		if err == nil {
			v, err = do(w, r, p)
		}
		if err != nil {
			s.apiRefuse(w, r, err)
		} else if v != nil {
			answer(w, v)
		}
	}
}

// apiAdmin answers administrators, and nobody else learns that there is something.
func (s *Server) apiAdmin(do apiCall) http.HandlerFunc {
	return s.api(func(w http.ResponseWriter, r *http.Request, p *Person) (any, error) {
		if !p.Account.Admin {
			return nil, refuse.NoPage.Of()
		}
		if r.Method != http.MethodGet && !p.proven() {
			return nil, refuse.Unproven.Of()
		}
		return do(w, r, p)
	})
}

// apiDecide is the call that does what the form of an administrators' page does.
func (s *Server) apiDecide(event decision) http.HandlerFunc {
	return s.apiAdmin(func(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) {
		e, do, err := event(r, p)
		if err == nil {
			err = s.alter(r, p, e, do)
		}
		return done{}, err
	})
}

// apiDo is the call that does what the form of a page does for a person.
func (s *Server) apiDo(do func(r *http.Request, p *Person) error) http.HandlerFunc {
	return s.api(func(_ http.ResponseWriter, r *http.Request, p *Person) (any, error) { return done{}, do(r, p) })
}

// caller is who sent a request of the API: by a token where there is one, whatever cookies come with it. Errors: refuse.SignIn,
// SlowDown, StorageOut.
func (s *Server) caller(r *http.Request) (*Person, error) {
	shown := r.Header.Get("Authorization")
	if shown == "" {
		if p, ok := s.signedIn(r); ok {
			return p, nil
		}
		return nil, refuse.SignIn.Of()
	}
	scheme, secret, _ := strings.Cut(shown, " ")
	if !strings.EqualFold(scheme, "Bearer") { // RFC 6750, section 2.1
		return nil, refuse.SignIn.Of()
	}
	a, t, err := s.People.ByToken(r.Context(), secret, viewer(r), Door)
	if err != nil {
		return nil, err
	}
	s.noStranger(r, a.ID)
	// Whoever has made the token had proven who they are.
	return &Person{Account: a, Token: t, Gone: context.Background(), Proved: time.Now()}, nil
}

// apiRefuse answers why a call was not served.
func (s *Server) apiRefuse(w http.ResponseWriter, r *http.Request, err error) {
	var no *refuse.Refusal
	if !errors.As(err, &no) {
		if r.Method == http.MethodGet {
			s.Log.Error("not answered", "viewer", source(r), "path", r.URL.Path, "err", err)
			no = refuse.StorageOut.Of()
		} else {
			no = refuse.NotDone.Of("")
			no.Detail = refuse.Printable(err.Error(), refuse.MaxText)
		}
	}
	problem(w, no)
}

// problem answers with a refusal, in the form of RFC 9457.
func problem(w http.ResponseWriter, no *refuse.Refusal) {
	status := http.StatusBadRequest
	switch no.Code {
	case refuse.SignIn.Code:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	case refuse.NotYours.Code, refuse.ReadOnly.Code, refuse.Unproven.Code, refuse.ByPerson.Code:
		status = http.StatusForbidden
	case refuse.NoComputer.Code, refuse.NoPage.Code:
		status = http.StatusNotFound
	case refuse.SlowDown.Code, refuse.Busy.Code, refuse.TooFast.Code, refuse.AuditRead.Code, refuse.YourPages.Code:
		status = http.StatusTooManyRequests
	case refuse.StorageOut.Code, refuse.Restarting.Code:
		status = http.StatusServiceUnavailable
	}
	send(w, status, "application/problem+json", no)
}

func answer(w http.ResponseWriter, v any) { send(w, http.StatusOK, "application/json", v) }

func send(w http.ResponseWriter, status int, kind string, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has gone
}

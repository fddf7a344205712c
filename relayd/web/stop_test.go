package web

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
)

// On connections that are still open when the relay is stopped, pages and programs hear that it restarts.
func TestStop(t *testing.T) {
	assets, err := NewAssets()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{}
	if s.look, err = newLook(assets, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	site := s.whileRunning(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "runs") }))
	for path, kind := range map[string]string{"/computers": "text/html", "/api/hosts": "application/problem+json", "/computers/desk7/ticket": "application/problem+json"} {
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			site.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			return w
		}
		s.stops.Store(false)
		if got := ask(); got.Body.String() != "runs" {
			t.Errorf("%s: %s", path, got.Body)
		}
		s.Stop()
		got, want := ask(), refuse.Restarting.Of()
		if body := got.Body.String(); got.Code != http.StatusServiceUnavailable || !strings.HasPrefix(got.Header().Get("Content-Type"), kind) ||
			!strings.Contains(body, "40004") || !strings.Contains(body, want.Detail) || !strings.Contains(body, want.Remedy) {
			t.Errorf("%s after Stop: %d %v\n%s", path, got.Code, got.Header(), body)
		}
	}
}

package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Who has only passkeys is not asked for the code of an authenticator.
func TestSecondFactorAsksForWhatThereIs(t *testing.T) {
	assets, err := NewAssets()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLook(assets, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for codes, want := range map[bool]string{true: ">Code of your authenticator, or a recovery code<", false: ">Recovery code<"} {
		w := httptest.NewRecorder()
		l.show(w, httptest.NewRequest("POST", "/signin/password", nil), http.StatusOK, "factor.html", signInForm{Codes: codes})
		if page := w.Body.String(); !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

package account

import (
	"encoding/base32"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// RFC 6238, appendix B, in six digits.
func TestTOTPVectors(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got := totpCode(secret, at/30); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
		for _, off := range []int64{-60, -30, 0, 30, 60} {
			if at+off < 0 {
				continue
			}
			step, ok := totpFind(secret, want, time.Unix(at+off, 0))
			if ok != (off > -60 && off < 60) || ok && step != at/30 {
				t.Errorf("at %d, %d s off: step %d, %v", at, off, step, ok)
			}
		}
	}
}

// authenticator gives an account a second factor; the function makes codes, from the step that was used for that on.
func (r relay) authenticator(email string) (code func(later int64) string, recovery []string) {
	r.t.Helper()
	a, err := r.ByEmail(r.t.Context(), email)
	if err != nil {
		r.t.Fatal(err)
	}
	u, err := url.Parse(r.NewAuthenticator(a, "relay.example.org").URI)
	if err != nil {
		r.t.Fatal(err)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	if err != nil || len(secret) != 20 {
		r.t.Fatal(len(secret), err)
	}
	step := time.Now().Unix() / 30
	if recovery, err = r.AddAuthenticator(r.t.Context(), a, totpCode(secret, step)); err != nil {
		r.t.Fatal(err)
	}
	return func(later int64) string { return totpCode(secret, step+later) }, recovery
}

// half is a sign-in with the right password.
func (r relay) half(email string) *Half {
	r.t.Helper()
	_, h, err := r.Password(r.t.Context(), email, []byte(password), netip.Addr{}, "web")
	if err != nil || h == nil || !h.Codes {
		r.t.Fatal(h, err)
	}
	return h
}

func TestSecondFactor(t *testing.T) {
	r := newRelay(t)
	code, recovery := r.authenticator("alice@example.com")
	if err := r.try("alice@example.com", password, home); !refuse.NeedsFactor.Is(err) || !strings.Contains(err.Error(), "one-time code") {
		t.Errorf("a door that cannot ask: %v", err)
	}
	if err := r.try("alice@example.com", "wrong", home); !refuse.SignIn.Is(err) {
		t.Errorf("a wrong password there: %v", err)
	}
	second := func(code string) error {
		_, err := r.SecondFactor(t.Context(), r.half("alice@example.com"), code, netip.Addr{}, "web")
		return err
	}
	for name, c := range map[string]string{"used already": code(0), "older": code(-1), "none": "", "wrong": "abcdef", "long": strings.Repeat("1", 100000)} {
		if err := second(c); !refuse.WrongFactor.Is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := second(" " + code(1)[:3] + " " + code(1)[3:]); err != nil {
		t.Errorf("the next code: %v", err)
	}
	if e := r.trail.last(); e.Kind != "signin.ok" || e.Detail != "with an authenticator" {
		t.Errorf("recorded: %+v", e)
	}
	if err := second(code(1)); !refuse.WrongFactor.Is(err) {
		t.Errorf("the same code again: %v", err)
	}
	if len(recovery) != 10 || len(recovery[0]) != 19 {
		t.Fatalf("recovery codes: %q", recovery)
	}
	if err := second(strings.ToUpper(recovery[3])); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	if err := second(recovery[3]); !refuse.WrongFactor.Is(err) {
		t.Errorf("the same recovery code: %v", err)
	}
	a, _ := r.ByEmail(t.Context(), "alice@example.com")
	if f, err := r.Factors(t.Context(), a); err != nil || f.Recovery != 9 || f.Authenticator.IsZero() {
		t.Errorf("%+v, %v", f, err)
	}
	if all, err := r.NewRecovery(t.Context(), a); err != nil || second(recovery[4]) == nil || second(all[0]) != nil {
		t.Errorf("new recovery codes: %v", err)
	}
	h := r.half("alice@example.com")
	var ended string
	r.OnRevoke(func(_ int64, why string) { ended = why })
	if err := r.ResetFactors(t.Context(), "alice@example.com"); err != nil || !strings.Contains(ended, "second factor") {
		t.Fatal(ended, err)
	}
	if _, err := r.SecondFactor(t.Context(), h, recovery[5], netip.Addr{}, "web"); !refuse.SignIn.Is(err) {
		t.Errorf("begun before the reset: %v", err)
	}
	if err := r.try("alice@example.com", password, home); err != nil {
		t.Errorf("after the reset: %v", err)
	}
}

// Of fifty at once with one code, one signs in.
func TestSecondFactorInParallel(t *testing.T) {
	for _, what := range []string{"authenticator", "recovery code"} {
		r := newRelay(t)
		code, recovery := r.authenticator("alice@example.com")
		c := code(1)
		if what == "recovery code" {
			c = recovery[0]
		}
		var halves []*Half
		for range 50 {
			halves = append(halves, r.half("alice@example.com"))
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		in := 0
		for _, h := range halves {
			all.Go(func() {
				if a, err := r.SecondFactor(t.Context(), h, c, netip.Addr{}, "web"); err == nil && a.Email == "alice@example.com" {
					mu.Lock()
					in++
					mu.Unlock()
				} else if !refuse.WrongFactor.Is(err) && !refuse.Busy.Is(err) && !refuse.SlowDown.Is(err) {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		if in != 1 {
			t.Errorf("%s: %d signed in", what, in)
		}
	}
}

// Who knows the password cannot guess codes for ever: neither by one password's time and tries, nor by giving it again and again.
func TestSecondFactorGuesses(t *testing.T) {
	r := newRelay(t)
	_, recovery := r.authenticator("alice@example.com")
	h := r.half("alice@example.com")
	for n := range 6 {
		want := refuse.WrongFactor
		if n == 5 {
			want = refuse.SignIn
		}
		if _, err := r.SecondFactor(t.Context(), h, "000000", netip.Addr{}, "web"); !want.Is(err) {
			t.Errorf("try %d: %v", n, err)
		}
	}
	if _, err := r.SecondFactor(t.Context(), h, recovery[0], netip.Addr{}, "web"); !refuse.SignIn.Is(err) {
		t.Errorf("a right code too late: %v", err)
	}
	var err error
	for range 6 {
		var h *Half
		if _, h, err = r.Password(t.Context(), "alice@example.com", []byte(password), home, "web"); err != nil {
			break
		}
		_, _ = r.SecondFactor(t.Context(), h, "000000", home, "web")
	}
	if !refuse.SlowDown.Is(err) {
		t.Errorf("after five wrong codes the source may go on: %v", err)
	}
}

// From wherever they come: an account's authenticator takes some codes at once, and then few an hour; recovery codes go on, and a right
// one clears it.
func TestSecondFactorGuessesFromEverywhere(t *testing.T) {
	r := newRelay(t)
	_, recovery := r.authenticator("alice@example.com")
	guess := func(code string) error {
		_, err := r.SecondFactor(t.Context(), r.half("alice@example.com"), code, netip.Addr{}, "web")
		return err
	}
	for n := range codeBurst + 1 {
		want := refuse.WrongFactor
		if n == codeBurst {
			want = refuse.SlowDown
		}
		if err := guess("000 000"); !want.Is(err) {
			t.Errorf("try %d: %v", n, err)
		}
	}
	if err := guess(recovery[0]); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	if err := guess("000000"); !refuse.WrongFactor.Is(err) {
		t.Errorf("afterwards: %v", err)
	}
}

// A copy of the database makes no codes, and the key is never made again.
func TestAuthenticatorIsSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := start(t, dir)
	r.add("alice@example.com")
	r.add("bob@example.com")
	code, _ := r.authenticator("alice@example.com")
	a, _ := r.ByEmail(t.Context(), "alice@example.com")
	row, err := r.store.Authenticator(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.opened(a.ID+1, row.Secret); err == nil {
		t.Error("one account's secret opens for another")
	}
	if _, err := r.SecondFactor(t.Context(), r.half("alice@example.com"), code(1), netip.Addr{}, "web"); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir, factorFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	r.store.Close()
	if err := os.Remove(filepath.Join(dir, factorFile)); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := New(t.Context(), dir, st, &trail{}, quiet, nil); err == nil || !strings.Contains(err.Error(), "factor.key is missing") || errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its key: %v", err)
	}
}

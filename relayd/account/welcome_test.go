package account

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

// An invitation makes one account, of fifty tries at once; a reset code changes a password once.
func TestWelcome(t *testing.T) {
	r := newRelay(t)
	code, expires, err := r.Invite(t.Context(), "Bob@example.com", true)
	if err != nil || len(code) != 19 || time.Until(expires) > 24*time.Hour || time.Until(expires) < 23*time.Hour {
		t.Fatal(code, expires, err)
	}
	if _, _, err := r.Invite(t.Context(), "ALICE@example.com", false); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("invited who is there: %v", err)
	}
	if _, _, err := r.Invite(t.Context(), "bob", false); err == nil {
		t.Error("invited no address")
	}
	if w, err := r.Welcome(t.Context(), " "+strings.ToUpper(code), home, "web"); err != nil || w != (Welcome{"Bob@example.com", true}) {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := r.Accept(t.Context(), code, []byte("short"), home, "web"); err == nil || !strings.Contains(err.Error(), "characters") {
		t.Errorf("a short password: %v", err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	made := 0
	for range 50 {
		all.Go(func() {
			switch _, err := r.Accept(t.Context(), code, []byte(password), home, "web"); {
			case err == nil:
				mu.Lock()
				made++
				mu.Unlock()
			case !refuse.WelcomeInvalid.Is(err) && !refuse.Busy.Is(err) && !refuse.SlowDown.Is(err):
				t.Error(err)
			}
		})
	}
	all.Wait()
	list, _ := r.List(t.Context())
	if made != 1 || len(list) != 2 || !list[1].Admin {
		t.Errorf("%d made: %+v", made, list)
	}
	other, _, err := r.Invite(t.Context(), "carol@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	newer, _, err := r.Invite(t.Context(), "carol@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := home.Next()
	if _, err := r.Welcome(t.Context(), other, elsewhere, "web"); !refuse.WelcomeInvalid.Is(err) {
		t.Errorf("a code that was replaced: %v", err)
	}
	if _, err := r.Accept(t.Context(), newer, []byte(password), elsewhere, "web"); err != nil {
		t.Errorf("the newer one: %v", err)
	}

	var ended []string
	r.OnRevoke(func(_ int64, why string) { ended = append(ended, why) })
	code, expires, err = r.ResetCode(t.Context(), "alice@example.com")
	if err != nil || time.Until(expires) > 30*time.Minute {
		t.Fatal(expires, err)
	}
	if err := r.try("alice@example.com", password, elsewhere); err != nil || len(ended) > 0 {
		t.Errorf("before the code is used: %v, %v", ended, err)
	}
	const another = "halyard-spinnaker-7"
	if w, err := r.Accept(t.Context(), code, []byte(another), elsewhere, "web"); err != nil || w.New || len(ended) != 1 {
		t.Errorf("%+v, %v, %v", w, ended, err)
	}
	if err := r.try("alice@example.com", another, elsewhere); err != nil {
		t.Error(err)
	}
	if _, err := r.Accept(t.Context(), code, []byte(password), elsewhere, "web"); !refuse.WelcomeInvalid.Is(err) {
		t.Errorf("used twice: %v", err)
	}
	if _, _, err := r.ResetCode(t.Context(), "mallory@example.com"); err == nil {
		t.Error("a reset of nobody")
	}
}

// A code for another password is worth nothing any more once the person has set one, or the account was switched off meanwhile.
func TestResetIsOvertaken(t *testing.T) {
	r := newRelay(t)
	const alice, another = "alice@example.com", "halyard-spinnaker-7"
	for name, do := range map[string]func() error{
		"another password": func() error { return r.SetPassword(t.Context(), alice, []byte(another)) },
		"switched off": func() error {
			return errors.Join(r.Disable(t.Context(), alice), r.Enable(t.Context(), alice))
		},
	} {
		code, _, err := r.ResetCode(t.Context(), alice)
		if err == nil {
			err = do()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Accept(t.Context(), code, []byte(password), home, "web"); !refuse.WelcomeInvalid.Is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWelcomeExpires(t *testing.T) {
	r := newRelay(t)
	invited, until, err := r.Invite(t.Context(), "bob@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	hash := welcomeHash(invited)
	for _, c := range []struct {
		at time.Time
		ok bool
	}{{until.Add(-time.Second), true}, {until, false}, {until.Add(time.Second), false}} {
		if _, err := r.store.Welcome(t.Context(), hash, c.at.Truncate(time.Millisecond)); (err == nil) != c.ok {
			t.Errorf("%v before its end: %v", until.Sub(c.at), err)
		}
	}
}

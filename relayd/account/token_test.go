package account

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// A token stands for its account, with no more than it says, until it expires, is removed, or what the account signs in by has changed.
func TestToken(t *testing.T) {
	r := newRelay(t)
	r.add("bob@example.com")
	alice, _ := r.ByEmail(t.Context(), "alice@example.com")
	bob, _ := r.ByEmail(t.Context(), "bob@example.com")
	soon := time.Now().Add(time.Hour)
	if _, err := r.NewToken(t.Context(), alice, Token{Name: "x", Admin: true, Expires: soon}); err == nil {
		t.Error("a token of an administrator for who is none")
	}
	for name, good := range map[string]bool{"": false, " ": false, "a\nb": false, "<b>": false, strings.Repeat("x", MaxTokenName+1): false, strings.Repeat("x", MaxTokenName): true} {
		if _, err := r.NewToken(t.Context(), bob, Token{Name: name, Expires: soon}); (err == nil) != good {
			t.Errorf("named %q: %v", name, err)
		}
	}
	var secrets []string
	for i := range MaxTokens {
		secret, err := r.NewToken(t.Context(), alice, Token{Name: fmt.Sprint(i), Full: i == 0, Expires: soon})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	if _, err := r.NewToken(t.Context(), alice, Token{Name: "one more", Expires: soon}); err == nil || !strings.Contains(err.Error(), "20 tokens") {
		t.Errorf("one too many: %v", err)
	}
	a, first, err := r.ByToken(t.Context(), secrets[0], home, "web")
	if err != nil || a.ID != alice.ID || !first.Full || r.TokenHolds(t.Context(), first) != nil {
		t.Fatalf("%+v %+v %v", a, first, err)
	}
	all, err := r.Tokens(t.Context(), alice)
	if err != nil || len(all) != MaxTokens {
		t.Fatalf("%+v %v", all, err)
	}
	for _, k := range all {
		if used := k.ID == first.ID; k.Full != used || (k.Source == home.String()) != used || k.Used.IsZero() == used {
			t.Errorf("%+v", k)
		}
	}
	if _, err := r.store.Token(t.Context(), first.secret, first.Expires.Add(-time.Millisecond)); err != nil {
		t.Errorf("it ends too early: %v", err)
	}
	if _, err := r.store.Token(t.Context(), first.secret, first.Expires); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it does not end: %v", err)
	}
	if err := r.RemoveToken(t.Context(), bob, first.ID); err == nil {
		t.Error("bob has removed alice's")
	}
	if err := r.RemoveToken(t.Context(), alice, first.ID); err != nil || !refuse.SignIn.Is(r.TokenHolds(t.Context(), first)) {
		t.Errorf("a removed one holds: %v", err)
	}
	if _, _, err := r.ByToken(t.Context(), secrets[0], home, "web"); !refuse.SignIn.Is(err) {
		t.Errorf("by a removed one: %v", err)
	}
	if e := r.trail.last(); e.Kind != "signin.refused" || e.Code != refuse.SignIn.Code || e.Account != "" {
		t.Errorf("recorded: %+v", e)
	}
	if err := r.SetPassword(t.Context(), "alice@example.com", []byte("another fine password")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ByToken(t.Context(), secrets[1], home, "web"); !refuse.SignIn.Is(err) {
		t.Errorf("after another password: %v", err)
	}
	if all, err := r.Tokens(t.Context(), alice); len(all) != 0 || err != nil {
		t.Errorf("%+v %v", all, err)
	}
}

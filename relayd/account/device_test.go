package account

import (
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// A trusted browser stands for the second factor of its account, until that account says otherwise; never for the password.
func TestTrustedDevice(t *testing.T) {
	r := newRelay(t)
	r.add("bob@example.com")
	r.authenticator("alice@example.com")
	r.authenticator("bob@example.com")
	alice, _ := r.ByEmail(t.Context(), "alice@example.com")
	bob, _ := r.ByEmail(t.Context(), "bob@example.com")
	trust := func() string {
		t.Helper()
		secret, err := r.Trust(t.Context(), alice, "a browser", home)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	trusted := func(email, secret string) bool {
		t.Helper()
		a, err := r.Trusted(t.Context(), r.half(email), secret, home, "web")
		if err != nil {
			t.Fatal(err)
		}
		return a != nil
	}
	first, second := trust(), trust()
	if !trusted("alice@example.com", first) || !trusted("alice@example.com", second) {
		t.Error("a trusted browser is asked")
	}
	if e := r.trail.last(); e.Kind != "signin.ok" || e.Detail != "in a trusted browser" {
		t.Errorf("recorded: %+v", e)
	}
	if trusted("bob@example.com", first) || trusted("alice@example.com", "") || trusted("alice@example.com", first+"x") {
		t.Error("trusted what is not")
	}
	list, err := r.Devices(t.Context(), alice)
	if err != nil || len(list) != 2 || list[0].Agent != "a browser" || list[0].Source != home.String() || time.Until(list[0].Expires) > TrustTime {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := r.Distrust(t.Context(), bob, list[0].Name); err == nil {
		t.Error("bob has removed alice's")
	}
	if err := r.Distrust(t.Context(), alice, list[0].Name); err != nil || trusted("alice@example.com", first) == trusted("alice@example.com", second) {
		t.Errorf("the removed one is trusted, or the other is not: %v", err)
	}
	if all, _ := r.store.Devices(t.Context(), alice.ID, list[1].Expires.Add(-time.Millisecond)); len(all) != 1 {
		t.Error("it ends too early")
	}
	if all, _ := r.store.Devices(t.Context(), alice.ID, list[1].Expires); len(all) != 0 {
		t.Error("it does not end")
	}
	for name, change := range map[string]func() error{
		"another password": func() error { return r.SetPassword(t.Context(), "alice@example.com", []byte(password)) },
		"another authenticator": func() error {
			return r.store.SetAuthenticator(t.Context(), store.Authenticator{Account: alice.ID, Secret: r.sealed(alice.ID, make([]byte, 20))}, nil)
		},
		"a reset": func() error {
			if err := r.ResetFactors(t.Context(), "alice@example.com"); err != nil {
				return err
			}
			r.authenticator("alice@example.com")
			return nil
		},
	} {
		alice, _ = r.ByEmail(t.Context(), "alice@example.com")
		secret := trust()
		if !trusted("alice@example.com", secret) {
			t.Errorf("not trusted before %s", name)
		}
		if err := change(); err != nil || trusted("alice@example.com", secret) {
			t.Errorf("%s has not ended the trust: %v", name, err)
		}
	}
	alice, _ = r.ByEmail(t.Context(), "alice@example.com")
	secret := trust()
	if _, _, err := r.Password(t.Context(), "alice@example.com", []byte(secret), home, "web"); !refuse.SignIn.Is(err) {
		t.Errorf("the secret as a password: %v", err)
	}
	for i := range maxDevices {
		at := time.Now().Add(time.Duration(i+1) * time.Second)
		d := store.Device{Secret: [32]byte{byte(i)}, Account: alice.ID, Generation: alice.generation, Begun: at, Expires: at.Add(time.Hour)}
		if err := r.store.AddDevice(t.Context(), d, maxDevices); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := r.Devices(t.Context(), alice); len(list) != maxDevices || trusted("alice@example.com", secret) {
		t.Errorf("%d are trusted, or the oldest is still", len(list))
	}
}

package account

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

// A sign-in that needs the second factor waits for a page, a minute at most, and only while somebody is there; few wait at once.
func TestAsk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	r := start(t, dir)
	r.add("alice@example.com")
	r.authenticator("alice@example.com")
	alice, _ := r.ByEmail(t.Context(), "alice@example.com")
	if err := r.try("alice@example.com", password, home); !refuse.NeedsFactor.Is(err) {
		t.Fatalf("nobody is there: %v", err)
	}
	r.OnAsk(func(id int64) bool { return id == alice.ID })
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		results := map[string]chan error{}
		from := func(name string, src netip.Addr) {
			c := make(chan error, 1)
			results[name] = c
			k := r.enlist(alice.ID, Ask{ID: name, Source: src.String()}, refuse.NeedsFactor.Of(alice.Email))
			if k == nil {
				c <- refuse.NeedsFactor.Of(alice.Email)
				return
			}
			go func() {
				if no := r.await(ctx, alice.ID, k, refuse.NeedsFactor.Of(alice.Email)); no != nil {
					c <- no
				}
				close(c)
			}()
		}
		address := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
		from("first", address(1))
		from("again", address(1)) // takes the place of the first
		if err := <-results["first"]; !refuse.NeedsFactor.Is(err) {
			t.Errorf("the first: %v", err)
		}
		from("second", address(2))
		from("third", address(3))
		from("one too many", address(4))
		if err := <-results["one too many"]; !refuse.NeedsFactor.Is(err) {
			t.Errorf("one too many: %v", err)
		}
		if n := len(r.Asks(alice)); n != maxAsks || len(r.Asks(&Account{ID: alice.ID + 1})) != 0 {
			t.Errorf("%d wait", n)
		}
		if r.Decide(&Account{ID: alice.ID + 1}, "again", true) == nil {
			t.Error("somebody else has approved it")
		}
		if err := r.Decide(alice, "again", true); err != nil || <-results["again"] != nil {
			t.Errorf("approved: %v", err)
		}
		if err := r.Decide(alice, "second", false); err != nil || !refuse.NotApproved.Is(<-results["second"]) {
			t.Errorf("refused: %v", err)
		}
		if r.Decide(alice, "second", true) == nil {
			t.Error("it was answered twice")
		}
		began := time.Now()
		if err := <-results["third"]; !refuse.NeedsFactor.Is(err) || time.Since(began) != askTime {
			t.Errorf("nobody answers: %v after %v", err, time.Since(began))
		}
		from("leaves", address(1))
		leave()
		if err := <-results["leaves"]; !refuse.NeedsFactor.Is(err) || len(r.Asks(alice)) != 0 {
			t.Errorf("the viewer leaves: %v, %v wait", err, r.Asks(alice))
		}
	})
}

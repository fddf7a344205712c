package account

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap makes a hash fast; what is tested here is how many there are.
var cheap = costs{64, 1}

var quiet = slog.New(slog.DiscardHandler)

// A trail keeps what is recorded.
type trail struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (l *trail) Write(_ context.Context, e audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.events = append(l.events, e)
	}
	return l.err
}

func (l *trail) last() audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 {
		return audit.Event{}
	}
	return l.events[len(l.events)-1]
}

type relay struct {
	*Service
	t     testing.TB
	dir   string
	trail *trail
}

func start(t testing.TB, dir string) relay { return startWith(t, dir, cheap, 64) }

func startWith(t testing.TB, dir string, c costs, size int) relay {
	t.Helper()
	st, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	l := &trail{}
	s, err := newService(t.Context(), dir, st, l, quiet, prometheus.NewRegistry(), c, size)
	if err != nil {
		t.Fatal(err)
	}
	return relay{s, t, dir, l}
}

func newRelay(t testing.TB) relay {
	r := start(t, filepath.Join(t.TempDir(), "state"))
	r.add("alice@example.com")
	return r
}

const password = "a long enough word"

func (r relay) add(email string) {
	r.t.Helper()
	if _, err := r.Add(r.t.Context(), email, []byte(password), false); err != nil {
		r.t.Fatal(err)
	}
}

var home = netip.MustParseAddr("192.0.2.1")

// hashed is how often argon2id runs during f.
func (r relay) hashed(f func()) int {
	var n int
	count := r.hasher.count
	r.hasher.count = func() { n++; count() }
	defer func() { r.hasher.count = count }()
	f()
	return n
}

func (r relay) try(email, word string, src netip.Addr) error {
	_, err := r.SignIn(r.t.Context(), email, []byte(word), src, "rfb")
	return err
}

func TestSignIn(t *testing.T) {
	r := newRelay(t)
	r.add("off@example.com")
	if err := r.Disable(t.Context(), "OFF@example.com"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, email, word string
		want              *refuse.Kind // nil: signed in
	}{
		{"right", "alice@example.com", password, nil},
		{"other case and space", " Alice@EXAMPLE.com", password, nil},
		{"wrong password", "alice@example.com", password + "x", refuse.SignIn},
		{"no password", "alice@example.com", "", refuse.SignIn},
		{"very long password", "alice@example.com", strings.Repeat("x", 100000), refuse.SignIn},
		{"unknown account", "nobody@example.com", password, refuse.SignIn},
		{"no account", "", password, refuse.SignIn},
		{"disabled account", "off@example.com", password, refuse.SignIn},
		{"very long account", strings.Repeat("x", 100000), password, refuse.SignIn},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := netip.Addr{} // not counted
			var a *Account
			var err error
			n := r.hashed(func() { a, err = r.SignIn(t.Context(), c.email, []byte(c.word), src, "rfb") })
			if n != 1 {
				t.Errorf("argon2id ran %d times, not once", n)
			}
			e := r.trail.last()
			if c.want == nil {
				if err != nil || a.Email != "alice@example.com" || e.Kind != "signin.ok" || e.Account != a.Email || e.Door != "rfb" {
					t.Errorf("%v, %v, recorded %+v", a, err, e)
				}
				return
			}
			if a != nil || !c.want.Is(err) || e.Kind != "signin.refused" || e.Code != c.want.Code {
				t.Errorf("%v, %v, recorded %+v", a, err, e)
			}
		})
	}
	if n := testutil.ToFloat64(r.signins.WithLabelValues("rfb", "40050")); n != 7 {
		t.Errorf("%v refused sign-ins counted", n)
	}
}

// TestWordInTheWrongField: a password typed as the account name is not recorded.
func TestWordInTheWrongField(t *testing.T) {
	r := newRelay(t)
	_ = r.try("my secret password", "alice@example.com", home)
	if e := r.trail.last(); e.Kind != "signin.refused" || e.Account != "" || e.Source != "192.0.2.1" {
		t.Errorf("recorded %+v", e)
	}
}

func TestNothingStoredNoSignIn(t *testing.T) {
	r := newRelay(t)
	r.trail.err = refuse.StorageOut.Of()
	if err := r.try("alice@example.com", password, home); !refuse.StorageOut.Is(err) {
		t.Errorf("the audit log is full: %v", err)
	}
	r.trail.err = nil
	r.store.Close()
	if err := r.try("alice@example.com", password, home); err == nil {
		t.Error("signed in without a store")
	}
}

// An account that signs in all the time leaves as many records as the disk bears, and keeps no other account out.
func TestSignInsOfOneAccountAreBounded(t *testing.T) {
	r := newRelay(t)
	r.add("bob@example.com")
	synctest.Test(t, func(t *testing.T) {
		a, err := r.ByEmail(t.Context(), "alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			err = r.Succeeded(t.Context(), a, home, "ssh")
		}
		if n := len(r.trail.events); n != signInBurst || !refuse.Busy.Is(err) {
			t.Errorf("%d records, and at last %v", n, err)
		}
		if err := r.try("bob@example.com", password, home); err != nil {
			t.Errorf("another account: %v", err)
		}
		time.Sleep(signInEvery)
		if err := r.try("alice@example.com", password, home); err != nil {
			t.Errorf("a little later: %v", err)
		}
	})
}

func TestRevoked(t *testing.T) {
	r := newRelay(t)
	var why []string
	r.OnRevoke(func(_ int64, w string) { why = append(why, w) })
	ctx := t.Context()
	k, err := r.AddKey(ctx, "alice@example.com", []byte(ed25519Key))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		r.SetPassword(ctx, "alice@example.com", []byte("another long word")),
		r.RemoveKey(ctx, "alice@example.com", k.Fingerprint),
		r.Disable(ctx, "alice@example.com"),
		r.Enable(ctx, "alice@example.com"),
	)
	if want := "a change of the account's password, the removal of an SSH key of the account, the relay's operator, who has disabled the account"; err != nil || strings.Join(why, ", ") != want {
		t.Errorf("%v, %v", why, err)
	}
	if err := r.try("alice@example.com", password, home); !refuse.SignIn.Is(err) {
		t.Errorf("old password: %v", err)
	}
	if err := r.try("alice@example.com", "another long word", home); err != nil {
		t.Errorf("new password: %v", err)
	}
	for _, err := range []error{
		r.Disable(ctx, "x@y"), r.Enable(ctx, "x@y"), r.SetPassword(ctx, "x@y", []byte(password)),
		r.RemoveKey(ctx, "alice@example.com", k.Fingerprint),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("not there: %v", err)
		}
	}
	if err := r.SetPassword(ctx, "alice@example.com", []byte("short")); err == nil {
		t.Error("a short password was taken")
	}
}

// A check of a secret takes its time; what is withdrawn meanwhile does not let in any more.
func TestHolds(t *testing.T) {
	ctx := context.Background()
	const alice = "alice@example.com"
	byKey := func(r relay) (*Account, error) {
		key, _, err := ParseKey([]byte(ed25519Key))
		if err != nil {
			return nil, err
		}
		return r.ByKey(ctx, alice, key, home)
	}
	byPassword := func(r relay) (*Account, error) { return r.SignIn(ctx, alice, []byte(password), home, "rfb") }
	remove := func(r relay) error {
		all, err := r.Keys(ctx, alice)
		if err != nil {
			return err
		}
		return r.RemoveKey(ctx, alice, all[0].Fingerprint)
	}
	for _, c := range []struct {
		name  string
		by    func(relay) (*Account, error)
		then  func(relay) error
		holds bool
	}{
		{"nothing", byKey, func(relay) error { return nil }, true},
		{"key removed", byKey, remove, false},
		{"key removed and added again", byKey, func(r relay) error {
			if err := remove(r); err != nil {
				return err
			}
			_, err := r.AddKey(ctx, alice, []byte(ed25519Key))
			return err
		}, false},
		{"disabled", byKey, func(r relay) error { return r.Disable(ctx, alice) }, false},
		{"disabled and enabled", byPassword, func(r relay) error {
			return errors.Join(r.Disable(ctx, alice), r.Enable(ctx, alice))
		}, false},
		{"password changed", byPassword, func(r relay) error { return r.SetPassword(ctx, alice, []byte("another long word")) }, false},
		{"password changed while it is checked", func(r relay) (*Account, error) {
			hash, err := r.hasher.make(ctx, []byte("another long word"))
			if err != nil {
				return nil, err
			}
			r.hasher.count = func() { err = r.store.SetPassword(ctx, 1, hash) }
			a, _ := byPassword(r)
			return a, err
		}, func(relay) error { return nil }, false},
		{"key of another account removed", byKey, func(r relay) error {
			r.add("bob@example.com")
			k, err := r.AddKey(ctx, "bob@example.com", []byte(ed25519Key))
			return errors.Join(err, r.RemoveKey(ctx, "bob@example.com", k.Fingerprint))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelay(t)
			if _, err := r.AddKey(ctx, alice, []byte(ed25519Key)); err != nil {
				t.Fatal(err)
			}
			a, err := c.by(r)
			if err != nil || a == nil {
				t.Fatalf("%v, %v", a, err)
			}
			if err := c.then(r); err != nil {
				t.Fatal(err)
			}
			if err := r.Holds(ctx, a); (err == nil) != c.holds || err != nil && !refuse.SignIn.Is(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAddTwice(t *testing.T) {
	r := newRelay(t)
	if _, err := r.Add(t.Context(), "ALICE@example.com", []byte(password), false); !errors.Is(err, store.ErrExists) {
		t.Errorf("%v", err)
	}
	if _, err := r.Add(t.Context(), "not an address", []byte(password), false); err == nil {
		t.Error("no address was taken")
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Email != "alice@example.com" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestPepper(t *testing.T) {
	r := newRelay(t)
	r.store.Close()
	again := start(t, r.dir)
	if err := again.try("alice@example.com", password, home); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	again.store.Close()
	for _, c := range []struct{ name, text, err string }{
		{"cut off", "AAAA\n", "does not hold a key"},
		{"missing", "", "restore it"},
	} {
		replace(t, filepath.Join(r.dir, pepperFile), c.text)
		st, err := store.Open(t.Context(), r.dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), r.dir, st, r.trail, quiet, prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		st.Close()
	}
}

// TestBusy fills slots and queue: one more is refused at once, and who waits longer than five seconds, then.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher([32]byte{}, cheap, func() {})
		for range atOnce {
			h.slots <- struct{}{}
			h.queued.Add(1)
		}
		var waiting sync.WaitGroup
		for range maxQueue {
			waiting.Go(func() {
				if _, err := h.check(t.Context(), []byte("x"), ""); !refuse.Busy.Is(err) {
					t.Errorf("after five seconds: %v", err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		if _, err := h.check(t.Context(), []byte("x"), ""); !refuse.Busy.Is(err) || time.Since(begin) != 0 {
			t.Errorf("queue full: %v after %v", err, time.Since(begin))
		}
		waiting.Wait()
		if d := time.Since(begin); d != maxWait {
			t.Errorf("waited %v", d)
		}
		<-h.slots
		h.queued.Add(-1)
		if right, err := h.check(t.Context(), []byte("x"), ""); right || err != nil {
			t.Errorf("when a slot is free: %v, %v", right, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		h.slots <- struct{}{}
		stop()
		if _, err := h.check(ctx, []byte("x"), ""); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

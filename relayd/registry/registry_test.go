package registry

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home is where computers enrol from.
var home = netip.MustParseAddr("192.0.2.1")

var quiet = slog.New(slog.DiscardHandler)

// people are the accounts of a test: every row of the store.
type people struct {
	store  *store.Store
	revoke func(id int64, why string)
}

func (p *people) ByEmail(ctx context.Context, email string) (*account.Account, error) {
	row, err := p.store.Account(ctx, strings.ToLower(email))
	return &account.Account{ID: row.ID, Email: row.Email, Disabled: row.Disabled}, err
}

func (p *people) OnRevoke(f func(id int64, why string)) { p.revoke = f }

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

type relay struct {
	*Service
	t      testing.TB
	people *people
	trail  *trail
}

func newRelay(t testing.TB) relay {
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	p, l := &people{store: st}, &trail{}
	return relay{New(st, p, l, quiet, prometheus.NewRegistry()), t, p, l}
}

// add makes an account.
func (r relay) add(email string) *account.Account {
	r.t.Helper()
	id, err := r.store.AddAccount(r.t.Context(), store.Account{Email: email}, strings.ToLower(email))
	if err != nil {
		r.t.Fatal(err)
	}
	return &account.Account{ID: id, Email: email}
}

func newKey(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enroll makes a computer of an account.
func (r relay) enroll(email, name, hostname string) Computer {
	r.t.Helper()
	id, secret, _, err := r.Invite(r.t.Context(), email, name)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := r.Enroll(r.t.Context(), id, secret, hostname, newKey(r.t), home)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestInviteAndEnroll(t *testing.T) {
	r := newRelay(t)
	ctx := t.Context()
	alice := r.add("alice@example.com")
	id, secret, expires, err := r.Invite(ctx, "ALICE@example.com", "")
	if err != nil || len(secret) != 40 || time.Until(expires) > InvitationTTL || time.Until(expires) < InvitationTTL-time.Minute {
		t.Fatalf("%s, %d characters, %v, %v", id, len(secret), expires, err)
	}
	key := newKey(t)
	for _, c := range []struct{ name, id, secret string }{
		{"unknown", "x" + id, secret}, {"wrong secret", id, strings.Repeat("0", 40)}, {"no secret", id, ""},
	} {
		if _, err := r.Enroll(ctx, c.id, c.secret, "desk", key, home); !refuse.CodeInvalid.Is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	c, err := r.Enroll(ctx, id, secret, "Desk7.example.com", key, home)
	if err != nil || c.Name != "Desk7" || c.Owner != "alice@example.com" || c.Hostname != "Desk7.example.com" || !isUUID(c.ID) || c.ID[14] != '4' {
		t.Fatalf("%+v, %v", c, err)
	}
	if again, err := r.Enroll(ctx, id, secret, "Desk7", key, home); err != nil || again.ID != c.ID {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	if _, err := r.Enroll(ctx, id, secret, "Desk7", newKey(t), home); !refuse.CodeInvalid.Is(err) {
		t.Errorf("by another computer: %v", err)
	}
	if got, err := r.ByKey(ctx, key); err != nil || got.ID != c.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.ByKey(ctx, newKey(t)); !refuse.NotAccepted.Is(err) {
		t.Errorf("unknown key: %v", err)
	}
	made := 0
	for _, e := range r.trail.events {
		if e.Kind != "host.enrol.refused" {
			made++
			if e != (audit.Event{Kind: "host.enrol", Account: "alice@example.com", Computer: "Desk7", ComputerID: c.ID, Source: "192.0.2.1"}) {
				t.Errorf("recorded %+v", e)
			}
		}
	}
	if made != 1 {
		t.Errorf("recorded %+v", r.trail.events)
	}
	// The same names again.
	for i, want := range []string{"desk7-2", "DESK7-3", "computer", "computer-2"} {
		hostname := []string{"desk7", "DESK7", "", "<script>"}[i]
		if i == 3 {
			want = "script"
		}
		if c := r.enroll("alice@example.com", "", hostname); c.Name != want {
			t.Errorf("%q became %q, not %q", hostname, c.Name, want)
		}
	}
	if _, _, _, err := r.Invite(ctx, alice.Email, "dESK7"); !errors.Is(err, store.ErrExists) {
		t.Errorf("invited under a name that is taken: %v", err)
	}
	if _, _, _, err := r.Invite(ctx, alice.Email, "a/b"); err == nil {
		t.Error("invited under a name that no door could tell apart")
	}
	if _, _, _, err := r.Invite(ctx, "nobody@example.com", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("invited by nobody: %v", err)
	}
}

// TestEnrolledAgain: a computer that has its key, but lost what the relay answered, joins with a new token.
func TestEnrolledAgain(t *testing.T) {
	r := newRelay(t)
	ctx := t.Context()
	r.add("alice@example.com")
	r.add("bob@example.com")
	key := newKey(t)
	var first Computer
	for i, owner := range []string{"alice@example.com", "alice@example.com", "bob@example.com"} {
		id, secret, _, err := r.Invite(ctx, owner, "")
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.Enroll(ctx, id, secret, "desk", key, home)
		switch {
		case i == 0 && err == nil:
			first = c
		case i == 1 && (err != nil || c.ID != first.ID || c.Name != "desk"):
			t.Errorf("same owner: %+v, %v", c, err)
		case i == 2 && !refuse.OtherOwner.Is(err):
			t.Errorf("other owner: %+v, %v", c, err)
		}
	}
	if n := testutil.ToFloat64(r.count.enrolments.WithLabelValues("ok")); n != 1 {
		t.Errorf("%v enrolments", n)
	}
}

func TestInvitationExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		r.add("alice@example.com")
		ctx := t.Context()
		id, secret, _, err := r.Invite(ctx, "alice@example.com", "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(InvitationTTL - time.Second)
		key := newKey(t)
		if _, err := r.Enroll(ctx, id, secret, "desk", key, home); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if _, err := r.Enroll(ctx, id, secret, "desk", key, home); !refuse.CodeInvalid.Is(err) {
			t.Errorf("after 15 minutes: %v", err)
		}
	})
}

// Anybody may bring a token: what is refused is recorded, but not without a limit.
func TestRefusedEnrolmentsAreRecorded(t *testing.T) { synctest.Test(t, testRefusedEnrolments) }

func testRefusedEnrolments(t *testing.T) {
	r := newRelay(t)
	key := newKey(t)
	for range refusalBurst + 50 {
		if _, err := r.Enroll(t.Context(), "unknown", "secret", "desk\n7", key, home); !refuse.CodeInvalid.Is(err) {
			t.Fatal(err)
		}
	}
	if n := len(r.trail.events); n != refusalBurst {
		t.Fatalf("%d records of %d", n, refusalBurst+50)
	}
	want := audit.Event{
		Kind: "host.enrol.refused", Computer: "desk 7", Source: "192.0.2.1", Code: refuse.CodeInvalid.Code,
		Detail: "Code not valid, key " + ssh.FingerprintSHA256(key),
	}
	if r.trail.events[0] != want {
		t.Errorf("recorded %+v, want %+v", r.trail.events[0], want)
	}
}

func TestFiftyAtOnce(t *testing.T) {
	r := newRelay(t)
	r.add("alice@example.com")
	ctx := t.Context()
	for _, same := range []bool{false, true} {
		id, secret, _, err := r.Invite(ctx, "alice@example.com", "")
		if err != nil {
			t.Fatal(err)
		}
		before, _ := r.List(ctx)
		key := newKey(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		good := map[string]int{}
		for range 50 {
			all.Go(func() {
				k := key
				if !same {
					k = newKey(t)
				}
				c, err := r.Enroll(ctx, id, secret, "desk", k, home)
				if err != nil && !refuse.CodeInvalid.Is(err) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					good[c.ID]++
				}
			})
		}
		all.Wait()
		after, err := r.List(ctx)
		if err != nil || len(after) != len(before)+1 || len(good) != 1 {
			t.Errorf("same key %v: %d computers more, answers %v, %v", same, len(after)-len(before), good, err)
		}
		for _, n := range good {
			if want := map[bool]int{false: 1, true: 50}[same]; n != want {
				t.Errorf("same key %v: %d were let in, not %d", same, n, want)
			}
		}
	}
}

func TestNothingRecordedNothingEnrolled(t *testing.T) {
	r := newRelay(t)
	r.add("alice@example.com")
	ctx := t.Context()
	id, secret, _, err := r.Invite(ctx, "alice@example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	r.trail.err = refuse.StorageOut.Of()
	if _, err := r.Enroll(ctx, id, secret, "desk", key, home); !refuse.StorageOut.Is(err) {
		t.Errorf("%v", err)
	}
	if _, err := r.ByKey(ctx, key); !refuse.NotAccepted.Is(err) {
		t.Errorf("%v", err)
	}
	r.trail.err = nil
	if _, err := r.Enroll(ctx, id, secret, "desk", key, home); err != nil {
		t.Errorf("the token was spent for nothing: %v", err)
	}
}

func TestFind(t *testing.T) {
	r := newRelay(t)
	ctx := t.Context()
	alice, bob, carol := r.add("alice@example.com"), r.add("bob@example.com"), r.add("carol@example.com")
	desk := r.enroll(alice.Email, "Büro", "x")
	r.enroll(bob.Email, "büro", "x")
	r.enroll(bob.Email, "attic", "x")
	for _, name := range []string{"Büro", "BÜRO", "bu\u0308ro", desk.ID, strings.ToUpper(desk.ID)} {
		if c, err := r.Find(ctx, alice, name); err != nil || c.ID != desk.ID || c.Right != RightControl {
			t.Errorf("%q: %+v, %v", name, c, err)
		}
	}
	foreign, err1 := r.Find(ctx, alice, "attic")
	unknown, err2 := r.Find(ctx, alice, "cellar")
	byID, err3 := r.Find(ctx, carol, desk.ID)
	if foreign != nil || unknown != nil || byID != nil || !refuse.NoComputer.Is(err1) || err1.Error() != err2.Error() || err1.Error() != err3.Error() {
		t.Errorf("foreign and unknown differ: %v; %v; %v", err1, err2, err3)
	}
	if _, err := r.Share(ctx, "alice@example.com/büro", "carol@example.com", RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Find(ctx, carol, "büro"); err != nil || c.ID != desk.ID || c.Right != RightWatch || c.Owner != alice.Email {
		t.Errorf("shared: %+v, %v", c, err)
	}
	if _, err := r.Share(ctx, "bob@example.com/büro", "carol@example.com", RightControl, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Find(ctx, carol, "büro"); !refuse.NameComputer.Is(err) || !strings.Contains(err.Error(), desk.ID) {
		t.Errorf("two of one name: %v", err)
	}
	if c, err := r.Find(ctx, carol, desk.ID); err != nil || c.ID != desk.ID {
		t.Errorf("by number: %+v, %v", c, err)
	}
	if _, err := r.Share(ctx, desk.ID, "bob@example.com", RightControl, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Find(ctx, bob, "büro"); err != nil || c.Owner != bob.Email {
		t.Errorf("one's own goes first: %+v, %v", c, err)
	}
	if list, err := r.ForAccount(ctx, bob); err != nil || len(list) != 3 || list[0].Name != "attic" || list[2].Owner != alice.Email {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestShareExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		ctx := t.Context()
		alice, bob := r.add("alice@example.com"), r.add("bob@example.com")
		r.enroll(alice.Email, "desk", "x")
		if _, err := r.Share(ctx, "desk", bob.Email, RightControl, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		if c, err := r.Find(ctx, bob, "desk"); err != nil || !c.Expires.Equal(time.Now().Add(time.Second)) {
			t.Errorf("%+v, %v", c, err)
		}
		time.Sleep(time.Second)
		if _, err := r.Find(ctx, bob, "desk"); !refuse.NoComputer.Is(err) {
			t.Errorf("after an hour: %v", err)
		}
		if list, err := r.ForAccount(ctx, bob); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		if _, err := r.Share(ctx, "desk", bob.Email, RightControl, time.Now()); err == nil || !strings.Contains(err.Error(), "which is past") {
			t.Errorf("a right that ends now: %v", err)
		}
		if _, err := r.Share(ctx, "desk", alice.Email, RightWatch, time.Time{}); err == nil || !strings.Contains(err.Error(), "owns") {
			t.Errorf("a right for the owner: %v", err)
		}
	})
}

func TestRightsChange(t *testing.T) {
	r := newRelay(t)
	ctx := t.Context()
	alice, bob := r.add("alice@example.com"), r.add("bob@example.com")
	desk := r.enroll(alice.Email, "desk", "x")
	var told []string
	r.OnRights(func(id string, account int64, now Right) {
		if id != desk.ID {
			t.Errorf("about %s", id)
		}
		told = append(told, fmt.Sprint(account, " ", now))
	})
	code := func(acct *account.Account, role tunnel.Role) error {
		c, err := r.Find(ctx, acct, "desk")
		if err != nil {
			return err
		}
		_, _, err = r.Codes().Make(acct, c, role)
		return err
	}
	for _, right := range []Right{RightControl, RightWatch} {
		if _, err := r.Share(ctx, "desk", bob.Email, right, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if right == RightControl {
			if err := errors.Join(code(bob, tunnel.RoleControl), code(bob, tunnel.RoleWatch), code(alice, tunnel.RoleControl)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := code(bob, tunnel.RoleControl); !refuse.WatchOnly.Is(err) {
		t.Errorf("a code for more than the right: %v", err)
	}
	if n := len(r.codes.live); n != 2 {
		t.Errorf("%d codes are left; bob's for control should be gone", n)
	}
	r.people.revoke(alice.ID, "disabled")
	if n := len(r.codes.live); n != 1 {
		t.Errorf("%d codes are left; alice's should be gone", n)
	}
	if _, err := r.Share(ctx, "desk", bob.Email, RightNone, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Share(ctx, "desk", bob.Email, RightNone, time.Time{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := r.Remove(ctx, "desk"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("[%d control %d watch %d none 0 none]", bob.ID, bob.ID, bob.ID); fmt.Sprint(told) != want {
		t.Errorf("told %v, not %v", told, want)
	}
	if _, err := r.Find(ctx, alice, "desk"); !refuse.NoComputer.Is(err) {
		t.Errorf("removed: %v", err)
	}
}

func TestResolveAndRename(t *testing.T) {
	r := newRelay(t)
	ctx := t.Context()
	r.add("alice@example.com")
	r.add("bob@example.com")
	desk := r.enroll("alice@example.com", "desk", "x")
	r.enroll("alice@example.com", "attic", "x")
	r.enroll("bob@example.com", "desk", "x")
	for _, c := range []struct{ ref, err string }{
		{"desk", "write one of alice@example.com/desk, bob@example.com/desk"},
		{"carol@example.com/desk", "there is no computer"},
		{"00000000-0000-4000-8000-000000000000", "there is no computer"},
	} {
		if _, err := r.Resolve(ctx, c.ref); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.ref, err)
		}
	}
	if _, err := r.Rename(ctx, "Alice@example.com/DESK", "attic"); !errors.Is(err, store.ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := r.Rename(ctx, desk.ID, "watch.desk"); err == nil {
		t.Error("a name that is a role")
	}
	if _, err := r.Rename(ctx, desk.ID, "cellar"); err != nil {
		t.Error(err)
	}
	if c, err := r.Resolve(ctx, "cellar"); err != nil || c.ID != desk.ID {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNames(t *testing.T) {
	for _, s := range []string{"desk", "7", "Büro", "a.b_c-d", "机", "watchtower", "takeaway.x", strings.Repeat("x", 63), "नमस्ते"} {
		if err := CheckName(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "-desk", ".desk", "a b", "a/b", `a\b`, "a@b", "a#b", "a:b", "a\x00", "a<b", "\xff", "bu\u0308ro", strings.Repeat("x", 64),
		"watch", "TAKE", "watch.desk", "Take.x", "0f8fad5b-d9cb-469f-a165-70867728950e", "a\u202eb"} {
		if err := CheckName(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// Letters that differ in case only name the same computer, whatever their script: Cherokee once did not.
func TestNameKeys(t *testing.T) {
	for c := rune(0); c <= unicode.MaxRune; c++ {
		key := nameKey(string(c))
		if again := nameKey(key); again != key {
			t.Errorf("%U: %q becomes %q, and that %q", c, string(c), key, again)
		}
		if other := unicode.SimpleFold(c); nameKey(string(other)) != key {
			t.Errorf("%U becomes %q, but %U %q", c, key, other, nameKey(string(other)))
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"desk", "ꮝ", "Büro.example.com", "<img onerror=x>", "İstanbul", "ﬁ", "\xff", "watch.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name := nameFrom(s); CheckName(name) != nil {
			t.Errorf("%q became %q: %v", s, name, CheckName(name))
		} else if n := numbered(name, 1000); CheckName(n) != nil {
			t.Errorf("%q became %q: %v", s, n, CheckName(n))
		}
		if CheckName(s) == nil && (strings.ContainsAny(s, "/\\@#: <>\x00") || refuse.Printable(s, MaxName) != s) {
			t.Errorf("%q is taken", s)
		}
		if key := nameKey(s); nameKey(key) != key {
			t.Errorf("%q becomes %q, and that %q", s, key, nameKey(key))
		}
	})
}

// A door that has signed the account in takes a code for just what it opens.
func TestTakeCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		alice, bob := r.add("alice@example.com"), r.add("bob@example.com")
		desk := r.enroll(alice.Email, "desk", "x")
		found, err := r.Find(t.Context(), alice, "desk")
		if err != nil {
			t.Fatal(err)
		}
		codes := r.Codes()
		var made []string
		for range 2 {
			code, _, err := codes.Make(alice, found, tunnel.RoleControl)
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, code)
			time.Sleep(time.Second)
		}
		for _, c := range []struct {
			name     string
			account  int64
			computer string
			role     tunnel.Role
			want     string
		}{
			{"another account", bob.ID, desk.ID, tunnel.RoleControl, ""},
			{"another computer", alice.ID, "id8", tunnel.RoleControl, ""},
			{"to watch", alice.ID, desk.ID, tunnel.RoleWatch, ""},
			{"to take", alice.ID, desk.ID, tunnel.RoleTake, ""},
			{"the newest", alice.ID, desk.ID, tunnel.RoleControl, made[1]},
			{"the other", alice.ID, desk.ID, tunnel.RoleControl, made[0]},
			{"spent", alice.ID, desk.ID, tunnel.RoleControl, ""},
		} {
			if got := codes.Take(c.account, c.computer, c.role); got != c.want {
				t.Errorf("%s: %q, not %q", c.name, got, c.want)
			}
		}
		if _, err := codes.Match(func(code string) bool { return code == made[0] }); !refuse.CodeInvalid.Is(err) {
			t.Errorf("spent, but good for the code door: %v", err)
		}
		if _, _, err := codes.Make(alice, found, tunnel.RoleControl); err != nil {
			t.Fatal(err)
		}
		time.Sleep(CodeTTL)
		if code := codes.Take(alice.ID, desk.ID, tunnel.RoleControl); code != "" {
			t.Errorf("expired: %q", code)
		}
	})
}

func TestCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRelay(t)
		ctx := t.Context()
		alice := r.add("alice@example.com")
		desk := r.enroll(alice.Email, "desk", "x")
		found, err := r.Find(ctx, alice, "desk")
		if err != nil {
			t.Fatal(err)
		}
		codes := r.Codes()
		is := func(code string) func(string) bool { return func(c string) bool { return c == code } }
		code, expires, err := codes.Make(alice, found, tunnel.RoleTake)
		if err != nil || len(code) != CodeLen || !expires.Equal(time.Now().Add(CodeTTL)) || strings.ContainsAny(code, "01OIoi") {
			t.Fatalf("%s, %v, %v", code, expires, err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		good := 0
		for range 50 {
			all.Go(func() {
				g, err := codes.Match(is(code))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					good++
					if g.Account.ID != alice.ID || g.Computer != desk.ID || g.Role != tunnel.RoleTake {
						t.Errorf("%+v", g)
					}
				} else if !refuse.CodeInvalid.Is(err) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if good != 1 {
			t.Errorf("%d of 50 got in", good)
		}
		code, _, err = codes.Make(alice, found, tunnel.RoleWatch)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(CodeTTL)
		if _, err := codes.Match(is(code)); !refuse.CodeInvalid.Is(err) {
			t.Errorf("expired: %v", err)
		}
		tried := 0
		for range maxAccountCode + 5 {
			if code, _, err = codes.Make(alice, found, tunnel.RoleWatch); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := codes.Match(func(c string) bool { tried++; return c == code }); err != nil || tried != maxAccountCode {
			t.Errorf("%d tried, %v", tried, err)
		}
		for i := range maxCodes {
			if _, _, err = codes.Make(&account.Account{ID: int64(1000 + i)}, found, tunnel.RoleWatch); err != nil {
				break
			}
		}
		if !refuse.Busy.Is(err) || len(codes.live) != maxCodes || testutil.ToFloat64(r.count.codes) != maxCodes {
			t.Errorf("%d codes, %v", len(codes.live), err)
		}
		time.Sleep(CodeTTL)
		if _, _, err := codes.Make(alice, found, tunnel.RoleWatch); err != nil || len(codes.live) != 1 {
			t.Errorf("%d codes, %v", len(codes.live), err)
		}
	})
}

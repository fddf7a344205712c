package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket/wsjson"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/registry"
)

// Refusals of the computer itself. It says them when a stream is opened, which the relay passes on to the page of a session, or as the reason of
// RFB's security, which that page reads: nobody else can say them. Who provokes them with a real hostd and a browser stands behind each.
var ofComputer = map[*refuse.Kind]string{
	refuse.WrongLogin: "TestBehaviours/S23", refuse.WrongCode: "TestBehaviours/S14", refuse.NoRight: "TestBehaviours/S23",
	refuse.NewPassword: "TestBehaviours/S15", refuse.Disabled: "TestBehaviours/S15", refuse.LockedOut: "TestBehaviours/S23",
	refuse.Held: "TestBehaviours/S12", refuse.Denied: "TestBehaviours/S13", refuse.AskTimeout: "TestBehaviours/host login is nowhere",
	refuse.TakenOver: "TestBrowserSharesControl", refuse.NeedsE2E: "TestBrowserAtEndToEndOnly",
	refuse.HostStorage: "hostd/login", refuse.Idle: "hostd/desktop: only viewers at its own form", refuse.TooMany: "hostd/part", refuse.NotResumed: "TestBrowserComesBack",
	refuse.NotRecorded: "hostd/part", refuse.NoScreen: "hostd/part",
}

// Refusals that no page of this relay and no call of its API gives.
var elsewhere = map[*refuse.Kind]string{
	refuse.Restricted:   "PAM does not tell it from 1326",
	refuse.OutsideHours: "PAM does not tell it from 5",
	refuse.NoRoute:      "a page says it that does not reach the relay: TestBehaviours/S6",
	refuse.NameComputer: "of the RFB door",
	refuse.NotAccepted:  "of a computer that dials",
	refuse.OtherOwner:   "of a computer that enrols",
	refuse.CodeInvalid:  "of the code door",
	refuse.NeedsFactor:  "of the RFB door",
	refuse.NotApproved:  "of the RFB door",
	refuse.NotOffered:   "of a viewer",
	refuse.ViewerLimit:  "of a viewer",
	refuse.Restarting:   "TestStop of relayd/web, TestStopDrains",
	refuse.TooOften:     "of hundreds of sessions: relayd/broker",
	refuse.Busy:         "of a machine under load: relayd/account",
	refuse.StorageOut:   "of a full disk: relayd/account, relayd/audit",
	refuse.WrongFactor:  "a page's alone: TestSecondFactorAtEveryDoor",
	refuse.WrongPasskey: "a page's alone: TestAccount",
	refuse.Unproven:     "of a browser that is trusted: TestSecondFactorAtEveryDoor",
	refuse.AuditRead:    "while others read it",
	refuse.Asleep:       "TestWebStates", refuse.Rebooting: "TestWebStates", refuse.Stopped: "TestWebStates", refuse.Offline: "TestWebStates",
	refuse.Doubled: "TestWebNotAccessible", refuse.TooOld: "TestWebNotAccessible",
}

// Each refusal of the catalogue is seen on a page and in the API, by its number and in the same words, or it is known where it is tried.
func TestWebRefusals(t *testing.T) {
	r := startRelay(t)
	r.administrator("root@example.com")
	for _, a := range []string{"alice@example.com", "bob@example.com", "eve@example.com"} {
		r.account(a)
	}
	r.computer("alice@example.com", "desk7", echo)
	r.computer("alice@example.com", "dead", func(net.Conn, tunnel.Header) error { return nil })
	if _, err := r.admin.ShareHost(t.Context(), "desk7", "bob@example.com", registry.RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	root, alice, bob, eve, nobody := r.browser(), r.browser(), r.browser(), r.browser(), r.browser()
	root.signIn("root@example.com", password, "")
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	eve.signIn("eve@example.com", password, "")
	at := "/computers/" + alice.id("desk7")
	reads := alice.token(url.Values{"name": {"reader"}, "may": {"read"}})
	changes := alice.token(url.Values{"name": {"changer"}, "may": {"all"}})

	get := func(b *browser, path string) func() string {
		return func() string { _, body, _ := b.get(path); return body }
	}
	post := func(b *browser, path string, form url.Values) func() string {
		return func() string { _, body, _ := b.post(path, form); return body }
	}
	call := func(token, path string, form url.Values) func() string {
		return func() string { _, body := r.call(token, "POST", path, form); return body }
	}
	hear := func(b *browser, computer, role string) func() string {
		return func() string {
			ws, no := b.reach(computer, role)
			ws.CloseNow()
			return asJSON(no)
		}
	}
	type row struct {
		kind      *refuse.Kind
		args      []any
		page, api func() string // nil: it has no such thing
	}
	rows := []row{
		{refuse.NoComputer, nil, get(bob, "/computers/nothing"), get(bob, "/api/hosts/nothing/connectability")},
		{refuse.NoComputer, nil, get(bob, "/computers/nothing/connect"), hear(bob, "nothing", "watch")},
		{refuse.NoPage, nil, get(bob, "/nothing"), get(bob, "/api/nothing")},
		{refuse.NoPage, nil, get(bob, "/admin/accounts"), get(bob, "/api/admin/accounts")},
		{refuse.NotYours, []any{"alice@example.com"}, post(bob, at+"/rename", url.Values{"name": {"x"}}), post(bob, "/api/hosts/desk7/rename", url.Values{"name": {"x"}})},
		{refuse.WatchOnly, []any{"desk7"}, get(bob, at), get(bob, "/api/hosts/desk7/connectability")},
		{refuse.WatchOnly, []any{"desk7"}, get(bob, at), hear(bob, "desk7", "control")},
		{refuse.TicketInvalid, nil, nil, func() string { _, no := bob.reachWith("desk7", "none"); return asJSON(no) }},
		{refuse.ReadOnly, nil, nil, call(reads, "/api/hosts/desk7/rename", url.Values{"name": {"x"}})},
		{refuse.NotDone, []any{"there is no such role"}, nil, post(bob, "/computers/desk7/ticket", url.Values{"role": {"admin"}})},
		{refuse.ByPerson, []any{"a key signs in by itself"}, nil, call(changes, "/api/account/keys/add", url.Values{"key": {"x"}})},
		{refuse.WelcomeInvalid, nil, post(nobody, "/welcome", url.Values{"code": {"aaaa-bbbb-cccc-dddd"}}), nil},
		{refuse.SignIn, nil, post(nobody, "/signin/password", url.Values{"email": {"alice@example.com"}, "password": {"wrong"}}), get(nobody, "/api/hosts")},
		{refuse.SignIn, nil, nil, post(nobody, "/computers/desk7/ticket", url.Values{"role": {"watch"}})},
		{refuse.NotRunning, []any{"dead"}, nil, hear(alice, "dead", "watch")},
		{refuse.Ended, []any{"an administrator of the relay"}, nil, func() string {
			ws, no := alice.reach("desk7", "watch")
			if no != nil {
				t.Fatal(no)
			}
			live, err := r.admin.Sessions(t.Context())
			if err != nil || len(live) != 1 {
				t.Fatal(live, err)
			}
			root.post("/admin/sessions/end", url.Values{"id": {live[0].ID}})
			var said greeting
			if err := wsjson.Read(t.Context(), ws, &said); err != nil {
				t.Fatal(err)
			}
			return asJSON(said.Refusal)
		}},
		{refuse.SignedOut, []any{"at your wish"}, nil, func() string {
			b := r.browser()
			b.signIn("alice@example.com", password, "")
			ws, no := b.reach("desk7", "watch")
			if no != nil {
				t.Fatal(no)
			}
			b.post("/signout", nil)
			var said greeting
			if err := wsjson.Read(t.Context(), ws, &said); err != nil {
				t.Fatal(err)
			}
			return asJSON(said.Refusal)
		}},
		{refuse.YourPages, []any{32}, nil, func() string {
			for range 32 {
				if _, _, err := eve.socket("nothing", eve.base); err != nil {
					t.Fatal(err)
				}
			}
			return post(eve, "/computers/nothing/ticket", url.Values{"role": {"watch"}})()
		}},
		{refuse.YourLimit, []any{8, "desk7"}, nil, func() string {
			for range 8 {
				if _, no := bob.reach("desk7", "watch"); no != nil {
					t.Fatal(no)
				}
			}
			return hear(bob, "desk7", "watch")()
		}},
		{refuse.Watched, nil, nil, func() string {
			for range 16 {
				eve.events()
			}
			return get(eve, "/api/hosts/events")()
		}},
		{refuse.TooFast, nil, func() string {
			for {
				if status, body, _ := bob.post(at+"/favourite", nil); status != http.StatusOK {
					return body
				}
			}
		}, post(bob, "/api/hosts/desk7/favourite", nil)},
		{refuse.SlowDown, nil, func() string {
			for {
				if _, body, _ := nobody.signIn("nobody@example.com", "wrong", ""); !strings.Contains(body, "40050") {
					return body
				}
			}
		}, func() string { _, body := r.call("hlt_wrong", "GET", "/api/hosts", nil); return body }},
	}
	rows = slices.Insert(rows, 0, func() (of []row) {
		for k := range ofComputer {
			args := make([]any, strings.Count(k.Detail+k.Remedy, "%s"))
			for i := range args {
				args[i] = fmt.Sprint("<b>", i)
			}
			name := fmt.Sprint("no", len(of))
			r.computer("alice@example.com", name, refusing(k.Of(args...)))
			of = append(of, row{k, args, nil, hear(alice, name, "watch")})
		}
		return of
	}()...)

	seen := map[*refuse.Kind]bool{}
	for _, c := range rows {
		seen[c.kind] = true
		want := c.kind.Of(c.args...)
		want.Detail, _, _ = strings.Cut(want.Detail, "%!s") // of a time, which nobody knows before
		if c.page != nil {
			if page := html.UnescapeString(c.page()); !holds(page, want) {
				t.Errorf("the page does not say %v:\n%s", want, page)
			}
		}
		if c.api != nil {
			if body := c.api(); !holds(body, want) || !regexp.MustCompile(fmt.Sprintf(`"code":%d\b`, want.Code)).MatchString(body) {
				t.Errorf("the API does not say %v: %s", want, body)
			}
		}
	}
	for _, k := range refuse.All() {
		if !seen[k] && elsewhere[k] == "" {
			t.Errorf("nobody tries %d %s: %s", k.Code, k.Title, k.Detail)
		}
	}
}

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// holds says whether a text has the number, the cause and the next step of a refusal.
func holds(text string, no *refuse.Refusal) bool {
	var plain any
	if json.Unmarshal([]byte(text), &plain) == nil {
		text = fmt.Sprint(plain) // without escapes
	}
	return strings.Contains(text, fmt.Sprint(no.Code)) && strings.Contains(text, strings.TrimSpace(no.Detail)) && strings.Contains(text, no.Remedy)
}

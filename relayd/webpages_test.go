package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket/wsjson"
	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/store"
)

// A told is what the API says of a computer.
type told struct {
	ID, Name, Owner, Right, State string
	Favourite                     bool
	Joined                        []struct{ Account, Role string }
}

type toldAll struct {
	Computers []told `json:"hosts"`
	Signins   []account.Ask
}

// id is the number of a computer, from the API.
func (b *browser) id(name string) string {
	b.t.Helper()
	_, body, _ := b.get("/api/hosts")
	var all toldAll
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		b.t.Fatalf("%v: %s", err, body)
	}
	for _, c := range all.Computers {
		if c.Name == name {
			return c.ID
		}
	}
	b.t.Fatalf("no computer %s: %s", name, body)
	return ""
}

// events gives what the relay tells, as it tells it.
func (b *browser) events() <-chan toldAll {
	b.t.Helper()
	req, _ := http.NewRequestWithContext(b.t.Context(), "GET", b.base+"/api/hosts/events", nil)
	got, err := (&http.Client{Jar: b.http.Jar, Transport: b.http.Transport}).Do(req)
	if err != nil || got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "text/event-stream" {
		b.t.Fatalf("events: %v, %+v", err, got)
	}
	b.t.Cleanup(func() { got.Body.Close() })
	out := make(chan toldAll, 100)
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(got.Body); lines.Scan(); {
			text, ok := strings.CutPrefix(lines.Text(), "data: ")
			var all toldAll
			if ok && json.Unmarshal([]byte(text), &all) == nil {
				out <- all
			}
		}
	}()
	return out
}

// The list is told, without reload, who is joined to a computer and that it goes away; each person's own and no other.
func TestWebComputersAreLive(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	alice, bob := r.browser(), r.browser()
	for _, path := range []string{"/api/hosts", "/api/hosts/events"} {
		if status, body, _ := alice.get(path); status != http.StatusUnauthorized || !strings.Contains(body, `"code":40050`) {
			t.Errorf("%s without sign-in: %d %s", path, status, body)
		}
	}
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	if _, body, _ := bob.get("/api/hosts"); strings.TrimSpace(body) != `{"hosts":[]}` {
		t.Errorf("bob sees %s", body)
	}
	told := alice.events()
	first := within(t, told, "first event")
	if len(first.Computers) != 1 || first.Computers[0].Name != "desk7" || first.Computers[0].State != "online" || first.Computers[0].Right != "control" {
		t.Errorf("told first: %+v", first)
	}
	c, no := alice.reach("desk7", "control")
	if no != nil {
		t.Fatal(no)
	}
	used := within(t, told, "event of the session")
	if u := used.Computers[0]; u.State != "in use" || len(u.Joined) != 1 || u.Joined[0].Account != "alice@example.com" || u.Joined[0].Role != "control" {
		t.Errorf("told of the session: %+v", used)
	}
	var why struct {
		Connectable bool
		Checks      []struct {
			OK      bool
			Refusal *refuse.Refusal
		}
	}
	held := func() string {
		_, body, _ := alice.get("/api/hosts/" + first.Computers[0].ID + "/connectability")
		if err := json.Unmarshal([]byte(body), &why); err != nil || len(why.Checks) != 3 {
			t.Fatalf("alice asks why: %v %s", err, body)
		}
		return body
	}
	if body := held(); why.Connectable || !why.Checks[1].OK || why.Checks[2].Refusal.Code != refuse.Held.Code || !strings.HasPrefix(why.Checks[2].Refusal.Detail, "alice@example.com has") {
		t.Errorf("alice asks why during the session: %s", body)
	} else if _, page, _ := alice.get("/computers/desk7"); !strings.Contains(page, why.Checks[2].Refusal.Error()) {
		t.Errorf("the page does not say %v:\n%s", why.Checks[2].Refusal, page)
	}
	c.CloseNow()
	if free := within(t, told, "event of its end"); free.Computers[0].State != "online" {
		t.Errorf("told of its end: %+v", free)
	}
	desk.Close()
	if gone := within(t, told, "event of the computer's end"); gone.Computers[0].State != "offline" {
		t.Errorf("told of the computer's end: %+v", gone)
	}
	if status, body, _ := bob.get("/api/hosts/" + first.Computers[0].ID + "/connectability"); status != http.StatusNotFound || strings.Contains(body, "desk7") {
		t.Errorf("bob asks why: %d %s", status, body)
	}
	if body := held(); why.Connectable || !why.Checks[0].OK || why.Checks[1].OK || why.Checks[1].Refusal.Code != refuse.Offline.Code || !why.Checks[2].OK {
		t.Errorf("alice asks why: %s", body)
	}
	if _, page, _ := alice.get("/computers/desk7"); !strings.Contains(page, why.Checks[1].Refusal.Remedy) && !strings.Contains(page, html.EscapeString(why.Checks[1].Refusal.Remedy)) {
		t.Errorf("the page does not say why:\n%s", page)
	}
	alice.post("/signout", nil)
	for range told { // ends with the sign-in
	}
}

var timeTag = regexp.MustCompile(`<time.*</time>`)

// A computer that comes and is not let in is not accessible; the list, its page, the API and the session say why, and what to do.
func TestWebNotAccessible(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	alice := r.browser()
	alice.signIn("alice@example.com", password, "")
	doubled := r.enrolled("alice@example.com", "desk7")
	for i := range 6 { // two machines with one key replace each other
		doubled.Hello.Instance = string(rune('a' + i))
		s, err := doubled.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
	}
	outdated := r.enrolled("alice@example.com", "desk8")
	conn, err := ssh.Dial("tcp", outdated.Addr, &ssh.ClientConfig{
		User: tunnel.UserTunnel, Auth: []ssh.AuthMethod{ssh.PublicKeys(outdated.Key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, err := conn.OpenChannel("tunnel@helmline", []byte{99}); err == nil || !strings.Contains(err.Error(), "40006") {
		t.Fatalf("a later version: %v", err)
	}
	for name, want := range map[string]*refuse.Refusal{"desk7": refuse.Doubled.Of("desk7"), "desk8": refuse.TooOld.Of("desk8")} {
		within := time.Now().Add(10 * time.Second)
		for state := ""; state != "not accessible"; {
			_, body, _ := alice.get("/api/hosts")
			var all toldAll
			if err := json.Unmarshal([]byte(body), &all); err != nil {
				t.Fatal(err)
			}
			for _, c := range all.Computers {
				if c.Name == name {
					state = c.State
				}
			}
			if time.Now().After(within) {
				t.Fatalf("%s is %s", name, state)
			}
		}
		id := alice.id(name)
		for _, path := range []string{"/computers", "/computers/" + id} {
			if _, page, _ := alice.get(path); !strings.Contains(page, "Not accessible: ") {
				t.Errorf("%s:\n%s", path, page)
			}
		}
		if _, page, _ := alice.get("/computers/" + id); !strings.Contains(html.UnescapeString(page), want.Error()) {
			t.Errorf("the page of %s:\n%s", name, page)
		}
		if _, body, _ := alice.get("/api/hosts/" + id + "/connectability"); !strings.Contains(body, want.Remedy) {
			t.Errorf("connectability of %s: %s", name, body)
		}
		if _, no := alice.reach(id, "control"); no == nil || *no != *want {
			t.Errorf("a session with %s: %v", name, no)
		}
	}
}

// Who manages a computer renames and shares it, within what they have themselves, and does not remove it.
func TestWebManager(t *testing.T) {
	r := startRelay(t)
	for _, a := range []string{"alice@example.com", "bob@example.com", "carol@example.com", "dave@example.com"} {
		r.account(a)
	}
	r.computer("alice@example.com", "desk7", echo)
	alice, bob, carol := r.browser(), r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	carol.signIn("carol@example.com", password, "")
	at := "/computers/" + alice.id("desk7")
	form := func(who, right, how string) url.Values {
		return url.Values{"email": {who}, "right": {right}, "for": {how}}
	}
	alice.post(at+"/share", form("bob@example.com", "manage", "hour"))
	alice.post(at+"/share", form("carol@example.com", "manage", ""))
	_, page, _ := bob.get(at)
	for text, want := range map[string]bool{"Shared with": true, "Rename": true, "Remove": false, `value="manage"`: false} {
		if strings.Contains(page, text) != want {
			t.Errorf("bob's page has %q: %v", text, !want)
		}
	}
	if ws, no := bob.reach("desk7", "control"); no != nil {
		t.Errorf("bob does not control it: %v", no)
	} else {
		ws.CloseNow()
	}
	if _, page, _ := bob.post(at+"/rename", url.Values{"name": {"desk8"}}); !strings.Contains(page, "<h1>desk8</h1>") {
		t.Errorf("renamed:\n%s", page)
	}
	if status, _, _ := bob.post(at+"/remove", url.Values{"name": {"desk8"}}); status != http.StatusForbidden {
		t.Errorf("bob removes it: %d", status)
	}
	for who, right := range map[string]string{"dave@example.com": "manage", "carol@example.com": "none", "bob@example.com": "control", "alice@example.com": "watch"} {
		if status, page, _ := bob.post(at+"/share", form(who, right, "week")); status != http.StatusBadRequest {
			t.Errorf("bob has %s have %s: %d\n%s", who, right, status, page)
		}
	}
	bob.post(at+"/share", form("dave@example.com", "control", "week"))
	hosts, err := r.admin.Hosts(t.Context(), "")
	if err != nil || len(hosts) != 1 {
		t.Fatal(hosts, err)
	}
	shares := hosts[0].Shares
	for _, s := range shares {
		if s.Email == "dave@example.com" && (s.Right != registry.RightControl || time.Until(s.Expires) > time.Hour) || s.Email == "carol@example.com" && s.Right != registry.RightManage {
			t.Errorf("%+v", s)
		}
	}
	if len(shares) != 3 {
		t.Errorf("shared with %+v", shares)
	}
	if _, page, _ := bob.post(at+"/share", form("dave@example.com", "none", "")); strings.Contains(page, "dave@example.com") {
		t.Errorf("taken:\n%s", page)
	}
	if status, _, _ := alice.post(at+"/leave", nil); status != http.StatusBadRequest {
		t.Errorf("its owner leaves it: %d", status)
	}
	if _, page, _ := bob.post(at+"/leave", nil); strings.Contains(page, "desk8") {
		t.Errorf("bob has left:\n%s", page)
	}
	if status, _, _ := bob.get(at); status != http.StatusNotFound {
		t.Errorf("bob has left, and his page of it: %d", status)
	}
}

// Its owner, and nobody else, adds, names, shares and removes a computer; each change is in the audit log.
func TestWebOwnerManagesComputer(t *testing.T) {
	r := startRelay(t)
	for _, a := range []string{"alice@example.com", "bob@example.com", "carol@example.com"} {
		r.account(a)
	}
	desk := r.computer("alice@example.com", "desk7", echo)
	alice, bob, carol := r.browser(), r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	carol.signIn("carol@example.com", password, "")
	at := "/computers/" + alice.id("desk7")

	_, page, _ := alice.post("/computers/add", url.Values{"name": {"desk8"}})
	m := regexp.MustCompile(`sudo hostd enroll (\S+?)</code>`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no line to run:\n%s", page)
	}
	if token, err := tunnel.ParseToken(html.UnescapeString(m[1])); err != nil || token.Relay != "localhost:"+portOf(r.ports["ssh"]) {
		t.Errorf("the line holds %+v, %v", token, err)
	}
	if status, page, _ := alice.post("/computers/add", url.Values{"name": {"desk7"}}); status != http.StatusBadRequest || !strings.Contains(page, "already") {
		t.Errorf("a second desk7: %d\n%s", status, page)
	}

	if _, page, _ := alice.post(at+"/share", url.Values{"email": {"bob@example.com"}, "right": {"watch"}, "for": {"day"}}); !strings.Contains(page, "bob@example.com") {
		t.Errorf("shared:\n%s", page)
	}
	// Who has no account yet looks the same, and has the right once the account is made.
	_, page, _ = alice.post(at+"/share", url.Values{"email": {"Dave@example.com"}, "right": {"watch"}, "for": {"day"}})
	row := func(email string) string {
		return regexp.MustCompile(`(?s)<li class="row"><div><strong>` + email + `</strong>.*?</li>`).FindString(page)
	}
	if dave := row("dave@example.com"); dave == "" || timeTag.ReplaceAllString(strings.ReplaceAll(dave, "dave@", "bob@"), "") != timeTag.ReplaceAllString(row("bob@example.com"), "") {
		t.Errorf("shared with who has no account:\n%s\n%s", row("dave@example.com"), row("bob@example.com"))
	}
	r.account("dave@example.com")
	dave := r.browser()
	dave.signIn("dave@example.com", password, "")
	if _, body, _ := dave.get("/api/hosts"); !strings.Contains(body, "desk7") {
		t.Errorf("dave sees %s", body)
	}
	alice.post(at+"/share", url.Values{"email": {"erin@example.com"}, "right": {"watch"}})
	alice.post(at+"/share", url.Values{"email": {"erin@example.com"}, "right": {"none"}})
	for _, who := range []string{"erin@example.com", "carol@example.com"} {
		if status, page, _ := alice.post(at+"/share", url.Values{"email": {who}, "right": {"none"}}); status != http.StatusBadRequest || !strings.Contains(page, who+" has no right") {
			t.Errorf("taken from %s, who has none: %d\n%s", who, status, page)
		}
	}
	for _, do := range []string{"/rename", "/remove", "/share"} {
		form := url.Values{"name": {"desk7"}, "email": {"carol@example.com"}, "right": {"control"}}
		if status, _, _ := bob.post(at+do, form); status != http.StatusForbidden {
			t.Errorf("bob: %s: %d", do, status)
		}
		if status, page, _ := carol.post(at+do, form); status != http.StatusNotFound || strings.Contains(page, "desk7") {
			t.Errorf("carol: %s: %d", do, status)
		}
	}
	if status, page, _ := bob.get(at); status != http.StatusOK || strings.Contains(page, "Remove") {
		t.Errorf("bob's page: %d\n%s", status, page)
	}
	if status, page, _ := carol.get(at); status != http.StatusNotFound || strings.Contains(page, "desk7") {
		t.Errorf("carol's page: %d\n%s", status, page)
	}
	if status, page, _ := bob.post(at+"/code", url.Values{"role": {"control"}}); status != http.StatusBadRequest || !strings.Contains(page, refuse.WatchOnly.Of("desk7").Title) && !strings.Contains(page, "watch") {
		t.Errorf("bob's code for control: %d\n%s", status, page)
	}
	if _, page, _ := alice.post(at+"/rename", url.Values{"name": {"<img src=x onerror=alert(1)>"}}); strings.Contains(page, "<img") || !strings.Contains(page, "not a name") {
		t.Errorf("a hostile name:\n%s", page)
	}
	if _, page, _ := alice.post(at+"/rename", url.Values{"name": {"laptop"}}); !strings.Contains(page, "<h1>laptop</h1>") {
		t.Errorf("renamed:\n%s", page)
	}
	if _, page, _ := alice.post(at+"/remove", url.Values{"name": {"desk7"}}); !strings.Contains(page, "type its name") {
		t.Errorf("removed with a wrong name:\n%s", page)
	}
	if _, page, to := alice.post(at+"/remove", url.Values{"name": {"laptop"}}); to != "/computers" || strings.Contains(page, "laptop") {
		t.Errorf("removed: %s\n%s", to, page)
	}
	within(t, desk.Done(), "end of the tunnel of a removed computer")
	log := auditText(t, r.dir)
	for _, want := range []string{
		`"kind":"host.invite","account":"alice@example.com","computer":"desk8"`, `"kind":"host.share"`, `"kind":"host.share.failed"`,
		`"kind":"host.rename"`, `"kind":"host.remove"`, `"kind":"code.make.failed"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("not in the audit log: %s", want)
		}
	}
	if strings.Contains(log, html.UnescapeString(m[1])) {
		t.Error("the token is in the audit log")
	}
}

// A code made on the page signs a viewer without user names in.
func TestWebCode(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", nil)
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	_, page, _ := b.post("/computers/"+b.id("desk7")+"/code", url.Values{"role": {"watch"}})
	m := regexp.MustCompile(`class="code">([2-9A-Z]{8})<`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no code:\n%s", page)
	}
	v, err := rfbtest.Dial(t.Context(), r.ports["rfb_code"], rfbtest.Config{Code: m[1], Roots: r.roots, ServerName: "localhost", Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if h := within(t, desk.headers, "stream"); h.Role != tunnel.RoleWatch || h.Account != "alice@example.com" {
		t.Errorf("the computer is told %+v", h)
	}
}

// The password is changed with the old one only; every other browser is then signed out. A browser can be signed out from another.
func TestWebAccount(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	one, two, bob := r.browser(), r.browser(), r.browser()
	one.signIn("alice@example.com", password, "")
	two.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	signedIn := func(b *browser) bool { _, _, at := b.get("/account"); return at == "/account" }

	_, page, _ := one.get("/account")
	if n := strings.Count(page, `name="id"`); n != 2 || strings.Count(page, "This browser") != 1 {
		t.Errorf("%d visits:\n%s", n, page)
	}
	other := ""
	for _, row := range strings.Split(page, "<li class")[1:] {
		if strings.Contains(row, "/account/visits/end") && !strings.Contains(row, "This browser") {
			other = regexp.MustCompile(`name="id" value="(\w+)"`).FindStringSubmatch(row)[1]
		}
	}
	bob.post("/account/visits/end", url.Values{"id": {other}})
	if !signedIn(two) {
		t.Error("bob has signed alice out")
	}
	one.post("/account/visits/end", url.Values{"id": {other}})
	if signedIn(two) || !signedIn(one) {
		t.Error("the other browser is not signed out, or this one is")
	}

	two.signIn("alice@example.com", password, "")
	const chosen = "halyard-spinnaker-7"
	for name, f := range map[string]url.Values{
		"account name or password": {"old": {"wrong-password"}, "new": {chosen}, "again": {chosen}},
		"two new passwords differ": {"old": {password}, "new": {chosen}, "again": {chosen + "x"}},
		"it must have 10":          {"old": {password}, "new": {"short"}, "again": {"short"}},
	} {
		if status, page, _ := one.post("/account/password", f); status != http.StatusForbidden || !strings.Contains(page, name) {
			t.Errorf("%s: %d\n%s", name, status, page)
		}
	}
	if _, page, at := one.post("/account/password", url.Values{"old": {password}, "new": {chosen}, "again": {chosen}}); at != "/account?changed" || !strings.Contains(page, "is changed") {
		t.Errorf("changed: %s\n%s", at, page)
	}
	if !signedIn(one) || signedIn(two) {
		t.Error("after the change this browser must be signed in, and the other must not")
	}
	if _, _, at := two.post("/account/password", nil); at != "/signin?next=%2Fcomputers" {
		t.Errorf("a form of who is not signed in leads to %s", at)
	}
	if status, _, _ := two.signIn("alice@example.com", password, ""); status != http.StatusForbidden {
		t.Error("the old password still holds")
	}
	if status, _, _ := two.signIn("alice@example.com", chosen, ""); status != http.StatusOK {
		t.Error("the new password does not hold")
	}
}

// A key is added, and signs in at the SSH door until it is removed; this browser stays signed in.
func TestWebKeys(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewSignerFromKey(private)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " alice's laptop"
	signsIn := func() bool {
		c, err := ssh.Dial("tcp", r.ports["ssh"], &ssh.ClientConfig{
			User: "alice@example.com", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			return false
		}
		c.Close()
		return true
	}
	one, two := r.browser(), r.browser()
	one.signIn("alice@example.com", password, "")
	two.signIn("alice@example.com", password, "")
	if status, page, _ := one.post("/account/keys", url.Values{"key": {"-----BEGIN OPENSSH PRIVATE KEY-----"}}); status != http.StatusBadRequest || !strings.Contains(page, "private key") {
		t.Errorf("a private key: %d\n%s", status, page)
	}
	fingerprint := ssh.FingerprintSHA256(key.PublicKey())
	if _, page, _ := one.post("/account/keys", url.Values{"key": {line}}); !strings.Contains(html.UnescapeString(page), fingerprint) {
		t.Errorf("added:\n%s", page)
	}
	if !signsIn() {
		t.Error("the key does not sign in")
	}
	if _, page, at := one.post("/account/keys/remove", url.Values{"fingerprint": {fingerprint}}); at != "/account" || strings.Contains(html.UnescapeString(page), fingerprint) {
		t.Errorf("removed: %s\n%s", at, page)
	}
	if _, _, at := two.get("/account"); at == "/account" {
		t.Error("the other browser is signed in still")
	}
	if signsIn() {
		t.Error("a removed key signs in")
	}
}

// webOnly are the settings of a relay without the doors for viewers.
func webOnly(t *testing.T) *conf.Relay {
	c := conf.DefaultRelay()
	c.Name, c.StateDir = "localhost", filepath.Join(t.TempDir(), "state")
	c.SSH.Listen, c.RFB.Listen, c.RFBCode.Listen, c.Metrics.Listen, c.Web.Listen = "127.0.0.1:0", "", "", "", "127.0.0.1:0"
	return c
}

// Who is signed in stays so when relayd is restarted, and who has signed out, too. The store does not hold the cookie.
func TestWebVisitsSurviveRestart(t *testing.T) {
	c := webOnly(t)
	start := func() *relay { return startRelayWith(t, c) }
	r := start()
	r.account("alice@example.com")
	r.account("bob@example.com")
	stays, leaves, changes := r.browser(), r.browser(), r.browser()
	stays.signIn("alice@example.com", password, "")
	leaves.signIn("alice@example.com", password, "")
	changes.signIn("bob@example.com", password, "")
	leftURL, _ := url.Parse(leaves.base)
	kept := leaves.http.Jar.Cookies(leftURL)
	leaves.post("/signout", nil)
	leaves.http.Jar.SetCookies(leftURL, kept) // as a thief would
	cookie := stays.http.Jar.Cookies(leftURL)[0].Value
	if err := r.admin.SetPassword(t.Context(), "bob@example.com", []byte("halyard-spinnaker-7")); err != nil {
		t.Fatal(err)
	}
	r.stop()
	<-r.stopped
	files, _ := filepath.Glob(filepath.Join(c.StateDir, "relayd.db*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || strings.Contains(string(b), cookie) {
			t.Errorf("%s holds the cookie, or %v", f, err)
		}
	}
	r = start()
	for name, b := range map[string]*browser{"stays": stays, "leaves": leaves, "changes": changes} {
		b.base = "https://" + r.ports["web"]
		if _, _, at := b.get("/account"); (at == "/account") != (name == "stays") {
			t.Errorf("%s: after the restart at %s", name, at)
		}
	}
}

// After 7 days a sign-in is over, whatever was done in it, and with it a session that is open, which is told so.
func TestWebVisitIsOver(t *testing.T) {
	c := webOnly(t)
	r := startRelayWith(t, c)
	r.account("alice@example.com")
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	r.stop()
	<-r.stopped
	begun := time.Now().Add(8*time.Second - 7*24*time.Hour).Truncate(time.Millisecond) // long enough to open the session
	st, err := store.Open(t.Context(), c.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := st.Visits(t.Context(), time.Time{}, time.Time{})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := st.EndVisits(t.Context(), [][32]byte{all[0].Secret}); err != nil {
		t.Fatal(err)
	}
	all[0].Begun = begun
	if err := st.AddVisit(t.Context(), all[0]); err != nil {
		t.Fatal(err)
	}
	st.Close()

	r = startRelayWith(t, c)
	b.base = "https://" + r.ports["web"]
	desk := r.computer("alice@example.com", "desk7", echo)
	page, no := b.reach("desk7", "control")
	if no != nil {
		t.Fatal(no)
	}
	var said struct{ Refusal *refuse.Refusal }
	if err := wsjson.Read(t.Context(), page, &said); err != nil || said.Refusal == nil || *said.Refusal != *refuse.SignedOut.Of("after 7 days") {
		t.Errorf("at its end the page hears %+v, %v", said.Refusal, err)
	}
	if age := time.Since(begun); age < 7*24*time.Hour {
		t.Errorf("after %v", age)
	}
	page.CloseNow()
	within(t, desk.ended, "end of the stream")
	if _, _, at := b.get("/computers"); !strings.HasPrefix(at, "/signin") {
		t.Errorf("afterwards the list leads to %s", at)
	}
}

// A right that has ended shows nothing any more.
func TestWebShareEnds(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	r.computer("alice@example.com", "desk7", echo)
	if _, err := r.admin.ShareHost(t.Context(), "desk7", "bob@example.com", registry.RightControl, time.Time{}); err != nil {
		t.Fatal(err)
	}
	alice, bob := r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	told := bob.events()
	if first := within(t, told, "first event"); len(first.Computers) != 1 || first.Computers[0].Owner != "alice@example.com" {
		t.Errorf("told first: %+v", first)
	}
	alice.post("/computers/"+alice.id("desk7")+"/share", url.Values{"email": {"bob@example.com"}, "right": {"none"}})
	if now := within(t, told, "event of the right's end"); len(now.Computers) != 0 {
		t.Errorf("told afterwards: %+v", now)
	}
}

func portOf(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// auditText is the audit log.
func auditText(t *testing.T, dir string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, auditDir, "*"))
	var all strings.Builder
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			all.Write(b)
		}
	}
	return all.String()
}

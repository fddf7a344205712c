package main

import (
	"bufio"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

var shownToken = regexp.MustCompile(`<code class="line">(hlt_\w{52})</code>`)

// token makes one on the account's page of who is signed in.
func (b *browser) token(form url.Values) string {
	b.t.Helper()
	form.Set("days", "30")
	status, page, _ := b.post("/account/tokens", form)
	m := shownToken.FindStringSubmatch(page)
	if m == nil {
		b.t.Fatalf("no token: %d\n%s", status, page)
	}
	return m[1]
}

// call is a request of a program, which has no cookies.
func (r *relay) call(token, method, path string, form url.Values) (int, string) {
	r.t.Helper()
	res, body := r.browser().send(method, path, http.Header{"Authorization": {"Bearer " + token}}, form)
	return res.StatusCode, body
}

// A token does at the API what its scope says, and nothing on pages; it ends when it is removed, and with the account's sessions.
func TestToken(t *testing.T) {
	r := startRelay(t)
	r.administrator("root@example.com")
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	alice, root := r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	root.signIn("root@example.com", password, "")
	reads, changes := alice.token(url.Values{"name": {"reader"}, "may": {"read"}}), alice.token(url.Values{"name": {"changer"}, "may": {"all"}})
	plain, boss := root.token(url.Values{"name": {"plain"}, "may": {"all"}}), root.token(url.Values{"name": {"boss"}, "may": {"all"}, "admin": {"yes"}})
	line, _ := sshKey()
	for _, c := range []struct {
		what, token, method, path string
		form                      url.Values
		status                    int
		says                      string
	}{
		{"reads", reads, "GET", "/api/hosts", nil, 200, `"name":"desk7"`},
		{"changes nothing", reads, "POST", "/api/hosts/desk7/rename", url.Values{"name": {"desk8"}}, 403, "40062"},
		{"no administrator", reads, "GET", "/api/admin/accounts", nil, 404, "40060"},
		{"no administrator either", changes, "POST", "/api/admin/accounts/disable", url.Values{"email": {"root@example.com"}}, 404, "40060"},
		{"administrator's, made for less", plain, "GET", "/api/admin/accounts", nil, 404, "40060"},
		{"administrator's", boss, "GET", "/api/admin/accounts", nil, 200, "alice@example.com"},
		{"somebody else's computer", boss, "POST", "/api/hosts/desk7/rename", url.Values{"name": {"desk8"}}, 404, "40008"},
		{"a page", changes, "GET", "/computers", nil, 303, ""},
		{"a form of a page", changes, "POST", "/computers/desk7/rename", url.Values{"name": {"desk8"}}, 303, ""},
		{"reads the account", reads, "GET", "/api/account", nil, 200, `"name":"changer"`},
		{"adds no computer", reads, "POST", "/api/hosts/add", nil, 403, "40062"},
		{"makes no viewer's code", reads, "POST", "/api/hosts/desk7/code", url.Values{"role": {"watch"}}, 403, "40062"},
		{"adds a computer", changes, "POST", "/api/hosts/add", nil, 200, `"line":"sudo hostd enroll `},
		{"a viewer's code", changes, "POST", "/api/hosts/desk7/code", url.Values{"role": {"watch"}}, 200, `"role":"watch"`},
		{"a code to take control", changes, "POST", "/api/hosts/desk7/code", url.Values{"role": {"take"}}, 400, "40064"},
		{"adds no key", changes, "POST", "/api/account/keys/add", url.Values{"key": {line}}, 403, "40066"},
		{"makes no administrator", boss, "POST", "/api/admin/accounts/invite", url.Values{"email": {"eve@example.com"}, "admin": {"yes"}}, 403, "40066"},
		{"not its own password", boss, "POST", "/api/admin/accounts/password", url.Values{"email": {"root@example.com"}}, 403, "40066"},
		{"disables no administrator", boss, "POST", "/api/admin/accounts/disable", url.Values{"email": {"Root@example.com"}}, 403, "40066"},
		{"enables none", boss, "POST", "/api/admin/accounts/enable", url.Values{"email": {"root@example.com"}}, 403, "40066"},
		{"not its own second factor", boss, "POST", "/api/admin/accounts/factor", url.Values{"email": {"Root@example.com"}}, 403, "40066"},
		{"another's password", boss, "POST", "/api/admin/accounts/password", url.Values{"email": {"alice@example.com"}}, 200, `/welcome"`},
		{"nobody's password", boss, "POST", "/api/admin/accounts/password", url.Values{"email": {"eve@example.com"}}, 400, "40064"},
		{"another's shares", boss, "GET", "/api/hosts/desk7/shares", nil, 404, "40008"},
		{"shares", reads, "GET", "/api/hosts/desk7/shares", nil, 200, `{"shares":[]}`},
		{"no address of the API", reads, "GET", "/api/nothing", nil, 404, "40060"},
		{"changes", changes, "POST", "/api/hosts/desk7/rename", url.Values{"name": {"desk8"}}, 200, "{}"},
		{"a name that is none", changes, "POST", "/api/hosts/desk8/rename", url.Values{"name": {"a/b"}}, 400, "40064"},
		{"has invited", boss, "POST", "/api/admin/accounts/invite", url.Values{"email": {"dave@example.com"}}, 200, `/welcome"`},
	} {
		status, body := r.call(c.token, c.method, c.path, c.form)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", c.what, status, body)
		}
	}
	if _, page, _ := alice.get("/account"); !strings.Contains(page, "from 127.0.0.1</span>") || strings.Contains(page, changes) || strings.Contains(page, "administrators may") {
		t.Errorf("the account's page:\n%s", page)
	}
	if status, page, _ := alice.post("/account/tokens", url.Values{"name": {"x"}, "days": {"30"}, "admin": {"yes"}}); status != http.StatusBadRequest || shownToken.MatchString(page) {
		t.Errorf("a token of an administrator for alice: %d\n%s", status, page)
	}
	for _, days := range []string{"0", "-1", "367", "9999999999999999999"} {
		if status, page, _ := alice.post("/account/tokens", url.Values{"name": {"x"}, "days": {days}}); status != http.StatusBadRequest || !strings.Contains(page, "a year at most") {
			t.Errorf("for %s days: %d\n%s", days, status, page)
		}
	}

	// What is open by a token ends with it.
	req, _ := http.NewRequestWithContext(t.Context(), "GET", alice.base+"/api/hosts/events", nil)
	req.Header.Set("Authorization", "Bearer "+reads)
	res, err := r.browser().http.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	defer res.Body.Close()
	told := bufio.NewScanner(res.Body)
	if !told.Scan() || !strings.HasPrefix(told.Text(), "data: ") {
		t.Fatalf("told %q", told.Text())
	}
	_, page, _ := alice.get("/account")
	id := regexp.MustCompile(`name="id" value="(\w+)"><input type="hidden" name="name" value="reader"`).FindStringSubmatch(page)
	alice.post("/account/tokens/remove", url.Values{"id": {id[1]}, "name": {"reader"}})
	for removed := time.Now(); told.Scan(); {
		if time.Since(removed) > 20*time.Second {
			t.Fatal("a stream goes on without its token")
		}
	}
	if status, body := r.call(reads, "GET", "/api/hosts", nil); status != http.StatusUnauthorized || !strings.Contains(body, "40050") {
		t.Errorf("removed: %d %s", status, body)
	}
	r.call(boss, "POST", "/api/admin/accounts/disable", url.Values{"email": {"alice@example.com"}})
	r.call(boss, "POST", "/api/admin/accounts/enable", url.Values{"email": {"alice@example.com"}})
	if status, _ := r.call(changes, "GET", "/api/hosts", nil); status != http.StatusUnauthorized {
		t.Errorf("of a disabled account: %d", status)
	}
	log := auditText(t, r.dir)
	for _, want := range []string{
		`"kind":"account.token.add","account":"alice@example.com"`, `"kind":"account.token.remove"`, `by alice@example.com with the token changer`,
		`"kind":"account.disable"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("not in the audit log: %s", want)
		}
	}
	for _, secret := range []string{reads, changes, plain, boss} {
		if strings.Contains(log, secret) {
			t.Error("a token is in the audit log")
		}
	}
}

// Guessed tokens count like guessed passwords; a cookie beside a wrong one does not help.
func TestTokenGuesses(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	right := b.token(url.Values{"name": {"x"}})
	slow := 0
	for _, guess := range []string{"", "x", right + "x", right[:55], strings.Repeat("x", 4096), "hlt_", "hlt_1", "hlt_2", "hlt_3"} {
		res, body := b.try("GET", "/api/hosts", http.Header{"Authorization": {"Bearer " + guess}})
		switch res.StatusCode {
		case http.StatusUnauthorized:
			if slow > 0 || !strings.Contains(body, refuse.SignIn.Title) || res.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%q: %s %v", guess, body, res.Header)
			}
		case http.StatusTooManyRequests:
			slow++
		default:
			t.Errorf("%q: %d %s", guess, res.StatusCode, body)
		}
	}
	if slow == 0 {
		t.Error("nobody is slowed down")
	}
	if status, body := r.call(right, "GET", "/api/hosts", nil); status != http.StatusTooManyRequests || !strings.Contains(body, "40051") {
		t.Errorf("the right one after that: %d %s", status, body)
	}
	if res, _ := b.try("GET", "/api/hosts", http.Header{"Authorization": {"Basic YTpi"}}); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("another scheme: %d", res.StatusCode)
	}
}

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/registry"
)

// A route is one pattern of the web door.
type route struct{ method, path string }

// webRoutes are all patterns, as they stand in package web.
func webRoutes(t *testing.T) []route {
	t.Helper()
	var all []route
	files, _ := filepath.Glob("web/*.go")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`\bmux\.Handle(?:Func)?\("([A-Z]+) (/[^" ]*)"`).FindAllStringSubmatch(string(text), -1)
		if n := strings.Count(string(text), "mux.Handle"); n != len(found) {
			t.Fatalf("%s has %d patterns, and this test reads %d; a pattern names its method", f, n, len(found))
		}
		for _, m := range found {
			all = append(all, route{m[1], m[2]})
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d patterns", len(all))
	}
	return all
}

// of is the route's address for a computer; other wildcards get a value that there is nothing of.
func (p route) of(computer string) string {
	path := strings.ReplaceAll(strings.ReplaceAll(p.path, "{$}", ""), "{computer}", computer)
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "00000000-0000-4000-8000-000000000000")
}

// try sends a request and gives the answer and its body, which for an answer that does not end is the beginning. It follows nothing.
func (b *browser) try(method, path string, h http.Header) (*http.Response, string) {
	b.t.Helper()
	return b.send(method, path, h, nil)
}

// send is try with a form.
func (b *browser) send(method, path string, h http.Header, form url.Values) (*http.Response, string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if h != nil {
		req.Header = h.Clone()
	}
	if method != "GET" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	c := *b.http
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	got, err := c.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer got.Body.Close()
	if strings.HasPrefix(got.Header.Get("Content-Type"), "text/event-stream") {
		return got, ""
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, 1<<20))
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got, string(body)
}

// quietTrail is the audit log without the marks that it sets by itself.
func quietTrail(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(auditText(t, dir)) {
		if !strings.Contains(line, `"kind":"audit.`) {
			n++
		}
	}
	return n
}

// Whatever could change something is refused when another site's page sends it, and no request of another site changes anything.
func TestWebForeignOrigins(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	id := b.id("desk7")
	host := strings.TrimPrefix(b.base, "https://")
	name, port, _ := strings.Cut(host, ":")
	// As a browser of today sends it, and as one that has no Sec-Fetch-Site.
	var strangers []http.Header
	for _, origin := range []string{
		"null", "http://" + host, "https://" + name, "https://" + name + ":1", "https://evil.example", "https://sub." + host, "https://" + host + ".evil.example",
		"https://evil-" + host, "https://" + host + "@evil.example", "https://evil.example@" + host, "https://[::1]:" + port, "HTTPS://" + strings.ToUpper(name) + ":" + port + ".",
		"https://" + host + "/", "https://" + host + ", https://evil.example", "wss://" + host, "file://",
	} {
		strangers = append(strangers, http.Header{"Origin": {origin}}, http.Header{"Origin": {origin}, "Sec-Fetch-Site": {"cross-site"}})
	}
	strangers = append(strangers, http.Header{}, // no browser, with a cookie
		http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.Header{"Sec-Fetch-Site": {"same-site"}},
		http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}},
		http.Header{"Origin": {"null"}, "Sec-Fetch-Site": {"same-site"}})

	before, recorded := b.allOf(t), quietTrail(t, r.dir)
	for _, p := range webRoutes(t) {
		for _, h := range strangers {
			got, body := b.try(p.method, p.of(id), h)
			switch {
			case p.method != "GET" && (got.StatusCode != http.StatusForbidden || strings.TrimSpace(body) != "another origin"):
				t.Errorf("%s %s from %v: %d %s", p.method, p.path, h, got.StatusCode, body)
			case strings.HasSuffix(p.path, "/rfb") && got.StatusCode != http.StatusForbidden:
				t.Errorf("a WebSocket of %v: %d", h, got.StatusCode)
			case got.Header.Get("Set-Cookie") != "" || got.Header.Get("Access-Control-Allow-Origin") != "":
				t.Errorf("%s %s from %v is answered %v", p.method, p.path, h, got.Header)
			}
			if strings.HasSuffix(p.path, "/events") {
				break // an account has a few of them at once
			}
		}
	}
	if after := b.allOf(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if n := quietTrail(t, r.dir); n != recorded {
		t.Errorf("%d records more in the audit log:\n%s", n-recorded, auditText(t, r.dir))
	}
	if got, _ := b.try("POST", "/computers/"+id+"/ticket", http.Header{"Origin": {"null"}, "Sec-Fetch-Site": {"same-origin"}}); got.StatusCode != http.StatusBadRequest {
		t.Errorf("a form of the relay's own page, which hides its address: %d", got.StatusCode)
	}
}

// allOf is what alice sees, without what time alone changes.
func (b *browser) allOf(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{"/api/hosts", "/account", "/computers"} {
		_, body, at := b.get(path)
		fmt.Fprintln(&all, at, body)
	}
	return regexp.MustCompile(`<time [^>]*>[^<]*|"last_seen":"[^"]*"`).ReplaceAllString(all.String(), "")
}

// A method that a path does not name does nothing there, whatever headers ask for another one.
func TestWebMethods(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	id := b.id("desk7")
	recorded := quietTrail(t, r.dir)
	named := map[route]bool{}
	for _, p := range webRoutes(t) {
		named[p] = true
	}
	h := http.Header{"Origin": {b.base}, "X-Http-Method-Override": {"POST"}, "X-Method-Override": {"POST"}}
	for p := range named {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if named[route{method, p.path}] || p.path == "/assets/" && method == "GET" {
				continue
			}
			got, _ := b.try(method, p.of(id), h)
			// GET /computers/{computer} answers for the words that only POST has.
			if got.StatusCode != http.StatusMethodNotAllowed && got.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, p.path, got.StatusCode)
			}
		}
	}
	if n := quietTrail(t, r.dir); n != recorded {
		t.Errorf("%d records more in the audit log", n-recorded)
	}
}

// webPublic are the routes that serve who is not signed in; every other one leads to the sign-in.
var webPublic = map[route]bool{
	{"GET", "/assets/"}: true, {"GET", "/{$}"}: true, {"GET", "/"}: true, {"GET", "/signin"}: true, {"POST", "/signin"}: true, {"POST", "/signin/password"}: true,
	{"POST", "/signin/factor"}: true, {"POST", "/signin/passkey"}: true, {"POST", "/signin/passkey/ask"}: true, {"GET", "/welcome"}: true, {"POST", "/welcome"}: true, {"POST", "/welcome/password"}: true,
	{"POST", "/signout"}: true, {"GET", "/api/openapi.json"}: true,
}

// Whoever has no right to a computer is answered as if it did not exist, on every route, an administrator of the relay included; who
// may only watch changes nothing; who is not signed in gets nothing at all.
func TestWebRoles(t *testing.T) {
	r := startRelay(t)
	for _, a := range []string{"alice@example.com", "bob@example.com", "carol@example.com"} {
		r.account(a)
	}
	if _, err := r.admin.AddAccount(t.Context(), "root@example.com", []byte(password), true); err != nil {
		t.Fatal(err)
	}
	r.computer("alice@example.com", "desk7", echo)
	if _, err := r.admin.ShareHost(t.Context(), "desk7", "carol@example.com", registry.RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	people := map[string]*browser{"nobody": r.browser()}
	for _, who := range []string{"alice", "bob", "carol", "root"} {
		people[who] = r.browser()
		people[who].signIn(who+"@example.com", password, "")
	}
	id := people["alice"].id("desk7")
	const none = "11111111-2222-4333-8444-555555555555"
	own := http.Header{"Origin": {people["alice"].base}}
	same := func(body string) string { return strings.NewReplacer(id, "", none, "").Replace(body) }
	for _, p := range webRoutes(t) {
		what := p.method + " " + p.path
		foreign := strings.Contains(p.path, "{computer}")
		if !webPublic[p] {
			got, body := people["nobody"].try(p.method, p.of(id), own)
			to := got.Header.Get("Location")
			if got.StatusCode != http.StatusUnauthorized && !(got.StatusCode == http.StatusSeeOther && strings.HasPrefix(to, "/signin?next=")) {
				t.Errorf("%s answers who is not signed in: %d %s %s", what, got.StatusCode, to, body)
			}
			if strings.Contains(body, "desk7") {
				t.Errorf("%s tells who is not signed in of a computer:\n%s", what, body)
			}
		}
		for _, who := range []string{"bob", "root"} {
			if !foreign || strings.HasPrefix(p.path, "/admin") || strings.HasPrefix(p.path, "/api/admin") {
				continue
			}
			got, body := people[who].try(p.method, p.of(id), own)
			other, body2 := people[who].try(p.method, p.of(none), own)
			if got.StatusCode != other.StatusCode || same(body) != same(body2) || got.Header.Get("Location") != strings.ReplaceAll(other.Header.Get("Location"), none, id) {
				t.Errorf("%s for %s: %d %s\nand of a computer that there is not: %d %s", what, who, got.StatusCode, body, other.StatusCode, body2)
			}
			if got.StatusCode < 400 || strings.Contains(body, "desk7") {
				t.Errorf("%s for %s: %d %s", what, who, got.StatusCode, body)
			}
		}
		if strings.HasPrefix(p.path, "/admin") || strings.HasPrefix(p.path, "/api/admin") {
			for _, who := range []string{"alice", "bob", "carol"} {
				if got, body := people[who].try(p.method, p.of(id), own); got.StatusCode != http.StatusNotFound {
					t.Errorf("%s for %s, who is no administrator: %d %s", what, who, got.StatusCode, body)
				}
			}
		}
	}
	for _, do := range []string{"rename", "remove", "share"} {
		if got, body := people["carol"].try("POST", "/computers/"+id+"/"+do, own); got.StatusCode != http.StatusForbidden {
			t.Errorf("%s for who may watch: %d %s", do, got.StatusCode, body)
		}
	}
	if _, body, _ := people["alice"].get("/computers/" + id); !strings.Contains(body, "carol@example.com") || !strings.Contains(body, ">desk7<") {
		t.Errorf("afterwards:\n%s", body)
	}
}

// A cookie that was there before the sign-in signs nobody in after it, and each sign-in has one of its own.
func TestWebSessionFixation(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	b, thief := r.browser(), r.browser()
	at, _ := url.Parse(b.base)
	planted := &http.Cookie{Name: "__Host-helmline", Value: strings.Repeat("A", 52), Path: "/", Secure: true}
	b.http.Jar.SetCookies(at, []*http.Cookie{planted})
	thief.http.Jar.SetCookies(at, []*http.Cookie{planted})
	b.signIn("alice@example.com", password, "")
	first := b.http.Jar.Cookies(at)[0].Value
	if first == planted.Value {
		t.Error("the sign-in has kept a cookie that it has not made")
	}
	if _, _, at := thief.get("/account"); at == "/account" {
		t.Error("who planted a cookie is signed in")
	}
	thief.http.Jar, _ = cookiejar.New(nil)
	thief.http.Jar.SetCookies(at, []*http.Cookie{{Name: planted.Name, Value: first, Path: "/", Secure: true}})
	if _, _, at := thief.get("/account"); at != "/account" {
		t.Fatalf("the cookie does not sign in: %s", at)
	}
	got, _ := b.try("POST", "/signin/password?email=alice%40example.com&password="+password, http.Header{"Origin": {b.base}})
	if got.StatusCode != http.StatusForbidden || got.Header.Get("Set-Cookie") != "" {
		t.Errorf("a sign-in by an address: %d", got.StatusCode)
	}
	b.signIn("alice@example.com", password, "")
	if again := b.http.Jar.Cookies(at)[0].Value; again == first {
		t.Error("two sign-ins have the same cookie")
	}
	if _, _, at := thief.get("/account"); at == "/account" {
		t.Error("the cookie of before another sign-in with the same browser still holds")
	}
	for _, c := range []string{"", first[:len(first)-1], first + "A", strings.ToLower(first), first + "; __Host-helmline=" + first} {
		got, _ := r.browser().try("GET", "/account", http.Header{"Cookie": {"__Host-helmline=" + c}})
		if got.StatusCode != http.StatusSeeOther {
			t.Errorf("the cookie %q signs in", c)
		}
	}
}

// After the sign-in a browser is led to a page of this relay, whatever the address that it came from asks for.
func TestWebReturn(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	b := r.browser()
	led := func(next, to string) {
		u, err := url.Parse(b.base)
		if err == nil {
			u, err = u.Parse(to)
		}
		if err != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || "https://"+u.Host != b.base || strings.ContainsAny(to, "\\\t\r\n") {
			t.Errorf("%q leads to %q, %v", next, to, err)
		}
	}
	for i, next := range []string{
		"//evil.example", "https://evil.example", `/\evil.example`, "/.//evil.example", "/x\r\nSet-Cookie: x=y", // also at the sign-in, each
		`\\evil.example`, "///evil.example", "https:evil.example", "https:/evil.example", "javascript:alert(1)", "data:text/html,x", "/\t/evil.example",
		"/\n/evil.example", " //evil.example", "\x00//evil.example", "//evil.example/%2f..", "/%5cevil.example/..//evil.example", "/..//evil.example",
		"/x/..//evil.example", "//user@evil.example", "@evil.example", ".evil.example", "evil.example", "HTTPS://evil.example", "//[::1]",
		"/%0d%0aSet-Cookie:x=y", b.base + "@evil.example", "?next=//evil.example", "#//evil.example", "", "/\u2028/evil.example", "/x;//evil.example",
	} {
		_, page := b.try("GET", "/signin?next="+url.QueryEscape(next), nil)
		m := regexp.MustCompile(`name="next" value="([^"]*)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("next %q:\n%s", next, page)
		}
		led(next, html.UnescapeString(m[1]))
		if i > 4 {
			continue
		}
		form := url.Values{"email": {"alice@example.com"}, "password": {password}, "next": {next}}
		req, _ := http.NewRequest("POST", b.base+"/signin/password", strings.NewReader(form.Encode()))
		req.Header = http.Header{"Origin": {b.base}, "Content-Type": {"application/x-www-form-urlencoded"}}
		c := *b.http
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		got, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if led(next, got.Header.Get("Location")); got.StatusCode != http.StatusSeeOther || len(got.Header["Set-Cookie"]) != 1 {
			t.Errorf("next %q: %d, %v", next, got.StatusCode, got.Header)
		}
	}
}

// What a computer says of itself is text on every page, and changes the direction of none.
func TestWebHostileHost(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	v, err := r.admin.Invite(t.Context(), "alice@example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	token, err := tunnel.ParseToken(v.Token)
	if err != nil {
		t.Fatal(err)
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewSignerFromKey(private)
	const hostile = "<img src=x onerror=alert(1)>\u202edetrever\u2066\x1b[31m\x07\u200b\"'`{{.}}${x}&lt;"
	if _, err := tunnel.Enroll(t.Context(), token, key, hostile); err != nil {
		t.Fatal(err)
	}
	b := r.browser()
	b.http.Transport = agent{b.http.Transport, "<script>alert(1)</script>\u202e"}
	b.signIn("alice@example.com", password, "")
	_, list, _ := b.get("/api/hosts")
	id := regexp.MustCompile(`"id":"([^"]*)"`).FindStringSubmatch(list)
	if id == nil {
		t.Fatal(list)
	}
	for _, path := range []string{"/api/hosts", "/computers", "/computers/" + id[1], "/computers/" + id[1] + "/connect", "/account"} {
		_, page, _ := b.get(path)
		for _, bad := range []string{"<img", "<script>", "\u202e", "\u2066", "\x1b", "\x07", "\u200b"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
	}
}

// An agent is a browser that says of itself what it likes.
type agent struct {
	http.RoundTripper
	says string
}

func (a agent) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", a.says)
	return a.RoundTripper.RoundTrip(req)
}

// Nobody makes the relay read, or keep, a long body, on any route and in any form.
func TestWebLongBodies(t *testing.T) {
	r := startRelay(t)
	b := r.browser()
	part := "--x\r\nContent-Disposition: form-data; name=\"next\"; filename=\"f\"\r\n\r\n"
	for _, p := range webRoutes(t) {
		body := &counted{Reader: io.MultiReader(strings.NewReader(part), io.LimitReader(zeros{}, 32<<20))}
		req, _ := http.NewRequest(p.method, b.base+p.of("desk7"), body)
		req.Header = http.Header{"Content-Type": {"multipart/form-data; boundary=x"}, "Origin": {b.base}}
		c := *b.http
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if got, err := c.Do(req); err == nil { // or the connection is closed before it is all sent
			got.Body.Close()
		}
		if n := body.n.Load(); n > 16<<20 { // what the kernel takes is not yet read
			t.Errorf("%s %s takes %d bytes", p.method, p.path, n)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

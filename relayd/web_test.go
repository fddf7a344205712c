package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/registry"
)

// A browser is one that keeps cookies and shows where it has ended up.
type browser struct {
	t    *testing.T
	http *http.Client
	base string
}

func (r *relay) browser() *browser {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &browser{r.t, &http.Client{Jar: jar, Transport: tr, Timeout: 30 * time.Second}, "https://" + r.ports["web"]}
}

// do sends a request and gives the status, the page and where it is.
func (b *browser) do(req *http.Request) (int, string, string) {
	b.t.Helper()
	got, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return got.StatusCode, string(body), got.Request.URL.RequestURI()
}

func (b *browser) get(path string) (int, string, string) {
	b.t.Helper()
	req, _ := http.NewRequest("GET", b.base+path, nil)
	return b.do(req)
}

func (b *browser) post(path string, form url.Values) (int, string, string) {
	b.t.Helper()
	req, _ := http.NewRequest("POST", b.base+path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.base)
	return b.do(req)
}

func (b *browser) signIn(email, password, next string) (int, string, string) {
	b.t.Helper()
	return b.post("/signin/password", url.Values{"email": {email}, "password": {password}, "next": {next}})
}

// socket opens the WebSocket of a computer.
func (b *browser) socket(computer, origin string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	c, got, err := websocket.Dial(ctx, b.base+"/computers/"+computer+"/rfb", &websocket.DialOptions{HTTPClient: b.http, HTTPHeader: h})
	if err == nil {
		b.t.Cleanup(func() { c.CloseNow() })
	}
	return c, got, err
}

// ticket is what a page asks for before it opens its WebSocket.
func (b *browser) ticket(computer, role string) string {
	b.t.Helper()
	status, page, _ := b.post("/computers/"+computer+"/ticket", url.Values{"role": {role}})
	var got struct{ Ticket string }
	if err := json.Unmarshal([]byte(page), &got); status != http.StatusOK || err != nil || got.Ticket == "" {
		b.t.Fatalf("no ticket: %d %s", status, page)
	}
	return got.Ticket
}

// reach says hello and gives the refusal, or nil.
func (b *browser) reach(computer, role string) (*websocket.Conn, *refuse.Refusal) {
	b.t.Helper()
	return b.reachWith(computer, b.ticket(computer, role))
}

func (b *browser) reachWith(computer, ticket string) (*websocket.Conn, *refuse.Refusal) {
	b.t.Helper()
	c, _, err := b.socket(computer, b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	return c, b.hello(c, ticket).Refusal
}

// greeting is the relay's first word.
type greeting struct {
	Refusal   *refuse.Refusal
	CodeFirst bool `json:"code_first"`
	Nobody    bool
}

func (b *browser) hello(c *websocket.Conn, ticket string) (said greeting) {
	b.t.Helper()
	err := wsjson.Write(b.t.Context(), c, map[string]string{"ticket": ticket})
	if err == nil {
		err = wsjson.Read(b.t.Context(), c, &said)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return said
}

// The page hears before the log-in what the computer says of it.
func TestWebFacts(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo) // says nothing
	r.computer("alice@example.com", "desk8", func(c net.Conn, h tunnel.Header) error {
		if !h.Facts {
			return errors.New("it is not asked for")
		}
		if err := tunnel.WriteFacts(c, tunnel.CodeFirst|tunnel.Nobody); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c)
		return err
	})
	b := r.browser()
	b.signIn("alice@example.com", password, "/computers")
	for computer, want := range map[string]greeting{"desk7": {}, "desk8": {CodeFirst: true, Nobody: true}} {
		c, _, err := b.socket(computer, b.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.hello(c, b.ticket(computer, "watch")); got != want {
			t.Errorf("%s says %+v", computer, got)
		}
	}
}

// Two steps lead to the page that was asked for; neither tells whether there is such an account; other sites are never led to.
func TestWebSignIn(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	_, page, at := b.get("/computers/desk7/connect?role=watch")
	if want := "/signin?next=" + url.QueryEscape("/computers/desk7/connect?role=watch"); at != want || strings.Contains(page, "password") {
		t.Errorf("who is not signed in comes to %s:\n%s", at, page)
	}
	pages := map[string]string{}
	for _, email := range []string{"alice@example.com", "mallory@example.com"} {
		_, page, _ := b.post("/signin", url.Values{"email": {email}, "next": {"/computers"}})
		if !strings.Contains(page, `value="`+email+`"`) || !strings.Contains(page, `type="password"`) {
			t.Errorf("the second step of %s:\n%s", email, page)
		}
		status, refused, _ := b.signIn(email, "wrong-password", "/computers")
		if status != http.StatusForbidden || !strings.Contains(refused, refuse.SignIn.Text()) {
			t.Errorf("%s with a wrong password: %d\n%s", email, status, refused)
		}
		pages[email] = strings.ReplaceAll(page+refused, email, "")
	}
	if pages["alice@example.com"] != pages["mallory@example.com"] {
		t.Error("the pages tell an account from none")
	}
	for next, want := range map[string]string{
		"/computers/desk7/connect?role=watch": "/computers/desk7/connect?role=watch",
		"https://evil.example/":               "/computers",
		"//evil.example/":                     "/computers",
		`/\evil.example/`:                     "/computers",
		"javascript:alert(1)":                 "/computers",
		"":                                    "/computers",
	} {
		if status, _, at := b.signIn("alice@example.com", password, next); status != http.StatusOK || at != want {
			t.Errorf("next %q leads to %s, %d", next, at, status)
		}
	}
	_, page, _ = b.get("/")
	if !strings.Contains(page, ">desk7</a>") {
		t.Errorf("the list:\n%s", page)
	}
	if n := r.waiting("web"); n != 0 {
		t.Errorf("%d connections count as strangers", n)
	}
	b.post("/signout", nil)
	if _, _, at := b.get("/computers"); !strings.HasPrefix(at, "/signin") {
		t.Errorf("signed out, the list leads to %s", at)
	}
}

// Requests that another site causes change nothing, and no other site gets a WebSocket.
func TestWebOrigins(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	if _, got, err := b.socket("desk7", b.base); err == nil || got == nil || got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a WebSocket without sign-in: %v", err)
	}
	b.signIn("alice@example.com", password, "")
	for _, origin := range []string{"", "null", "https://evil.example", "http" + strings.TrimPrefix(b.base, "https"), b.base + ".evil.example"} {
		if _, got, err := b.socket("desk7", origin); err == nil || got == nil || got.StatusCode != http.StatusForbidden {
			t.Errorf("a WebSocket of origin %q: %v", origin, err)
		}
	}
	for _, path := range []string{"/signin", "/signin/password", "/signout", "/computers/desk7/ticket"} {
		req, _ := http.NewRequest("POST", b.base+path, nil)
		req.Header.Set("Origin", "https://evil.example")
		if status, _, _ := b.do(req); status != http.StatusForbidden {
			t.Errorf("POST %s of another site: %d", path, status)
		}
	}
	if _, _, at := b.get("/computers"); at != "/computers" {
		t.Error("another site has signed alice out")
	}
}

// The page is joined to the computer's RFB from its first byte, with the right and the role, and hears why it ends.
func TestWebSession(t *testing.T) {
	r := startRelay(t)
	for _, a := range []string{"alice@example.com", "bob@example.com", "carol@example.com"} {
		r.account(a)
	}
	desk := r.computer("alice@example.com", "desk7", echo)
	r.computer("alice@example.com", "desk8", refusing(refuse.Held.Of("bob@example.com", "10:04")))
	if _, err := r.admin.ShareHost(t.Context(), "desk7", "bob@example.com", registry.RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	alice, bob, carol := r.browser(), r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	carol.signIn("carol@example.com", password, "")

	for _, c := range []struct {
		who            *browser
		computer, role string
		code           int
	}{
		{alice, "desk8", "control", refuse.Held.Code},
		{alice, "nothing", "control", refuse.NoComputer.Code},
		{bob, "desk7", "control", refuse.WatchOnly.Code},
		{carol, "desk7", "watch", refuse.NoComputer.Code},
	} {
		if _, no := c.who.reach(c.computer, c.role); no == nil || no.Code != c.code || no.Detail == "" || no.Remedy == "" {
			t.Errorf("%s as %s: %+v", c.computer, c.role, no)
		}
	}
	for _, path := range []string{"/computers/desk7/connect", "/computers/nothing/connect"} {
		if status, page, _ := carol.get(path); status != http.StatusNotFound || strings.Contains(page, "desk7") {
			t.Errorf("carol gets %s: %d\n%s", path, status, page)
		}
	}

	// A ticket is for whom it was given to, for one computer, and once.
	spent := alice.ticket("desk7", "watch")
	if _, no := bob.reachWith("desk7", spent); no == nil || *no != *refuse.TicketInvalid.Of() {
		t.Errorf("somebody else's ticket: %+v", no)
	}
	for _, ticket := range []string{spent, "", alice.ticket("desk8", "watch")} {
		if _, no := alice.reachWith("desk7", ticket); no == nil || *no != *refuse.TicketInvalid.Of() {
			t.Errorf("ticket %q: %+v", ticket, no)
		}
	}
	if status, _, _ := alice.post("/computers/desk7/ticket", url.Values{"role": {"admin"}}); status != http.StatusBadRequest {
		t.Errorf("a ticket for a role that there is not: %d", status)
	}

	c, no := alice.reach("desk7", "take")
	if no != nil {
		t.Fatal(no)
	}
	h := within(t, desk.headers, "stream")
	if h.Purpose != tunnel.RFB || h.Role != tunnel.RoleTake || h.Account != "alice@example.com" || !strings.HasPrefix(h.Viewer, "127.0.0.1:") {
		t.Errorf("the computer is told %+v", h)
	}
	conn := websocket.NetConn(t.Context(), c, websocket.MessageBinary)
	if _, err := io.WriteString(conn, "RFB"); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 3)
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != "RFB" {
		t.Errorf("the computer answers %q, %v", back, err)
	}
	list, err := r.admin.Sessions(t.Context())
	if err != nil || len(list) != 1 || list[0].Door != "web" || list[0].Role != "take" {
		t.Errorf("sessions: %+v, %v", list, err)
	}
	if err := r.admin.EndSession(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	var said struct{ Refusal *refuse.Refusal }
	if err := wsjson.Read(t.Context(), c, &said); err != nil || said.Refusal == nil || said.Refusal.Code != refuse.Ended.Code {
		t.Errorf("at its end the page hears %+v, %v", said.Refusal, err)
	}
	within(t, desk.ended, "end of the stream")
}

// Who signs out, or may not sign in any more, loses the sessions that are open.
func TestWebSignOutEndsSessions(t *testing.T) {
	for name, leave := range map[string]func(r *relay, b *browser){
		"sign out": func(_ *relay, b *browser) { b.post("/signout", nil) },
		"disabled": func(r *relay, _ *browser) { _ = r.admin.DisableAccount(context.Background(), "alice@example.com") },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t)
			r.account("alice@example.com")
			desk := r.computer("alice@example.com", "desk7", echo)
			b := r.browser()
			b.signIn("alice@example.com", password, "")
			c, no := b.reach("desk7", "control")
			if no != nil {
				t.Fatal(no)
			}
			within(t, desk.headers, "stream")
			leave(r, b)
			var said struct{ Refusal *refuse.Refusal }
			if err := wsjson.Read(t.Context(), c, &said); err != nil || said.Refusal == nil || said.Refusal.Code != refuse.Ended.Code {
				t.Errorf("at its end the page hears %+v, %v", said.Refusal, err)
			}
			c.CloseNow()
			within(t, desk.ended, "end of the stream")
			if _, _, at := b.get("/computers"); !strings.HasPrefix(at, "/signin") {
				t.Errorf("afterwards the list leads to %s", at)
			}
		})
	}
}

// Pages may not be framed, run only the relay's own script, and are kept by nobody; the bundle is kept for ever.
func TestWebHeaders(t *testing.T) {
	r := startRelay(t)
	b := r.browser()
	got, err := b.http.Get(b.base + "/signin")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(got.Body)
	got.Body.Close()
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';", "Cache-Control": "no-store",
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if h := got.Header.Get(name); !strings.HasPrefix(h, want) {
			t.Errorf("%s: %q", name, h)
		}
	}
	_, rest, _ := strings.Cut(string(page), `href="/assets/`)
	asset, _, _ := strings.Cut(rest, `"`)
	if got, err = b.http.Get(b.base + "/assets/" + asset); err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusOK || !strings.Contains(got.Header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/css") {
		t.Errorf("%s: %d %v", asset, got.StatusCode, got.Header)
	}
}

// What a page may ask for is bounded: WebSockets of one account, the length of a hello, roles.
func TestWebSocketLimits(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	b.signIn("alice@example.com", password, "")
	for _, c := range []struct {
		name, hello string
		status      websocket.StatusCode
	}{
		{"a hello that is no JSON", "helm", websocket.StatusInvalidFramePayloadData},
		{"a long hello", `{"ticket": "` + strings.Repeat("w", 300) + `"}`, websocket.StatusMessageTooBig},
	} {
		ws, _, err := b.socket("desk7", b.base)
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(c.hello)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != c.status {
			t.Errorf("%s: %v", c.name, err)
		}
		ws.CloseNow()
	}
	var open []*websocket.Conn
	for {
		ws, got, err := b.socket("desk7", b.base)
		if err == nil && len(open) < 32 {
			open = append(open, ws)
			continue
		}
		if err == nil || got == nil || got.StatusCode != http.StatusTooManyRequests || len(open) != 32 {
			t.Errorf("WebSocket %d of one account: %v", len(open)+1, err)
		}
		break
	}
	other := r.browser()
	other.signIn("bob@example.com", password, "")
	if _, _, err := other.socket("desk7", other.base); err != nil {
		t.Errorf("another account's: %v", err)
	}
}

// Beside the session a page hears that the relay is there and who else is, and talks with the computer. What it may not say ends it.
func TestWebWords(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	b := r.browser()
	b.signIn("alice@example.com", password, "/computers")
	ws, no := b.reach("desk7", "watch")
	if no != nil {
		t.Fatal(no)
	}
	var heard struct {
		Pong   int
		Joined []struct {
			Account string
			Own     bool
		}
		Host struct{ Ping int }
	}
	for _, said := range []string{`{"ping":3}`, `{"host":{"ping":4}}`} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(said)); err != nil {
			t.Fatal(err)
		}
		if err := wsjson.Read(t.Context(), ws, &heard); err != nil {
			t.Fatal(err)
		}
	}
	if heard.Pong != 3 || len(heard.Joined) != 1 || heard.Joined[0].Account != "alice@example.com" || !heard.Joined[0].Own || heard.Host.Ping != 4 {
		t.Errorf("heard %+v", heard)
	}
	for name, text := range map[string]string{
		"no JSON": "{", "too long": `{"host":"` + strings.Repeat("x", tunnel.MaxWord) + `"}`, "too many": strings.Repeat(`{"ping":1}`+"\n", 100),
	} {
		ws, no := b.reach("desk7", "watch")
		if no != nil {
			t.Fatal(no)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			_ = ws.Write(t.Context(), websocket.MessageText, []byte(line)) // until it is ended
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var err error
		for err == nil {
			_, _, err = ws.Read(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: the session goes on", name)
		}
		cancel()
	}
}

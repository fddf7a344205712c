package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/relayd/account"
)

var (
	setupKey     = regexp.MustCompile(`<code class="line">([a-z2-7-]+)</code>`)
	recoveryCode = regexp.MustCompile(`<li><code>([a-z2-7-]+)</code></li>`)
	halfSecret   = regexp.MustCompile(`name="half" value="(\w+)"`)
)

// authenticator sets up a second factor on the pages of who is signed in. code makes the codes that are good after that: 1 and 2.
func (b *browser) authenticator() (code func(n int64) string, recovery []string) {
	b.t.Helper()
	_, page, at := b.get("/account/authenticator")
	key := setupKey.FindStringSubmatch(page)
	if at != "/account/authenticator" || key == nil || !strings.Contains(page, "<svg") {
		b.t.Fatalf("no authenticator to set up: %s\n%s", at, page)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.ReplaceAll(key[1], "-", "")))
	if err != nil {
		b.t.Fatal(err)
	}
	first := time.Now().Unix()/30 - 1
	code = func(n int64) string {
		mac := hmac.New(sha1.New, secret)
		_ = binary.Write(mac, binary.BigEndian, first+n)
		sum := mac.Sum(nil)
		return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1000000)
	}
	if status, page, _ := b.post("/account/authenticator", url.Values{"code": {"000000"}}); status != http.StatusForbidden || !strings.Contains(page, refuse.WrongFactor.Text()) {
		b.t.Errorf("a wrong code: %d\n%s", status, page)
	}
	_, page, _ = b.post("/account/authenticator", url.Values{"code": {code(0)}})
	for _, c := range recoveryCode.FindAllStringSubmatch(page, -1) {
		recovery = append(recovery, c[1])
	}
	if len(recovery) != 10 {
		b.t.Fatalf("%d recovery codes:\n%s", len(recovery), page)
	}
	return code, recovery
}

// half gives the right password and the form for the second factor.
func (b *browser) half(email, next string) url.Values {
	b.t.Helper()
	_, page, _ := b.signIn(email, password, next)
	secret := halfSecret.FindStringSubmatch(page)
	if secret == nil {
		b.t.Fatalf("nobody asks for the second factor:\n%s", page)
	}
	return url.Values{"half": {secret[1]}, "next": {next}}
}

func with(f url.Values, code string) url.Values {
	f.Set("code", code)
	return f
}

// An account with an authenticator signs in with a code of it, or a recovery code, at every door that can ask for one; the others
// say how to come in. Each code works once, also for many at once.
func TestSecondFactorAtEveryDoor(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", desktop)
	alice := r.browser()
	alice.signIn("alice@example.com", password, "")
	earlier := r.browser()
	earlier.signIn("alice@example.com", password, "")
	code, recovery := alice.authenticator()
	if _, _, at := earlier.get("/account"); at == "/account" {
		t.Error("a browser that has signed in by the password alone stays signed in")
	}
	if _, page, _ := alice.get("/account"); !strings.Contains(page, "10 left") {
		t.Errorf("her account:\n%s", page)
	}

	b := r.browser()
	f := b.half("alice@example.com", "/computers/desk7")
	if _, _, at := b.get("/account"); at == "/account" {
		t.Error("the password alone signs in")
	}
	if status, page, _ := b.post("/signin/factor", with(f, "123")); status != http.StatusForbidden || !strings.Contains(page, refuse.WrongFactor.Text()) {
		t.Errorf("a wrong code: %d\n%s", status, page)
	}
	if status, page, _ := b.post("/signin/factor", url.Values{"half": {"x"}, "code": {code(1)}}); status != http.StatusForbidden || !strings.Contains(page, "Next</button>") {
		t.Errorf("without a password: %d\n%s", status, page)
	}
	var forms []url.Values
	for range 3 {
		forms = append(forms, r.browser().half("alice@example.com", ""))
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	in := 0
	for _, f := range forms {
		all.Go(func() {
			if _, _, at := r.browser().post("/signin/factor", with(f, code(1))); at == "/computers" {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if in != 1 {
		t.Errorf("%d signed in with one code at once", in)
	}
	if _, _, at := b.post("/signin/factor", with(f, recovery[0])); !strings.HasPrefix(at, "/computers/") {
		t.Errorf("a recovery code leads to %s", at)
	}
	trusted, bob := r.browser(), r.browser()
	r.account("bob@example.com")
	bob.signIn("bob@example.com", password, "")
	trusting := r.browser()
	f2 := with(trusting.half("alice@example.com", ""), recovery[5])
	f2.Set("trust", "yes")
	trusting.post("/signin/factor", f2)
	trusting.post("/signout", nil)
	if _, _, at := trusting.signIn("alice@example.com", password, ""); at != "/computers" {
		t.Errorf("a trusted browser is led to %s", at)
	}
	at, _ := url.Parse(b.base)
	for _, c := range trusting.http.Jar.Cookies(at) {
		if strings.HasSuffix(c.Name, "-device") {
			trusted.http.Jar.SetCookies(at, []*http.Cookie{c})
		}
	}
	trusted.signIn("alice@example.com", password, "")
	if _, page, _ := trusting.get("/api/account"); !strings.Contains(page, `"authenticator":"2`) || !strings.Contains(page, `"devices":[{"name":"`) {
		t.Errorf("the account in the API: %s", page)
	}
	if _, _, at := trusting.get("/account/authenticator"); !strings.HasPrefix(at, "/account/confirm") {
		t.Errorf("trust stands for a proof: %s", at)
	}
	r.computer("alice@example.com", "desk9", echo)
	if _, _, at := trusting.post("/computers/desk9/remove", url.Values{"name": {"desk9"}}); !strings.HasPrefix(at, "/account/confirm?next=%2Fcomputers%2F") {
		t.Errorf("a computer is removed without a proof: %s", at)
	}
	if status, body, _ := trusting.post("/api/hosts/desk9/remove", url.Values{"name": {"desk9"}}); status != http.StatusForbidden || !strings.Contains(body, `"code":40063`) {
		t.Errorf("not proven, at the API: %d %s", status, body)
	}
	if status, page, _ := trusting.post("/account/confirm", url.Values{"password": {password}, "code": {"000000"}}); status != http.StatusForbidden || !strings.Contains(page, "40055") {
		t.Errorf("a proof without a code: %d\n%s", status, page)
	}
	if _, page, at := trusting.post("/account/confirm", url.Values{"password": {password}, "code": {recovery[6]}, "next": {"/account/authenticator"}}); at != "/account/authenticator" {
		t.Errorf("the proof leads to %s\n%s", at, page)
	}
	if !strings.Contains(auditText(t, r.dir), `"kind":"account.device.trust"`) {
		t.Error("the trust is not recorded")
	}
	if status, _, _ := b.post("/signin/factor", with(f, recovery[1])); status != http.StatusForbidden {
		t.Error("one password has signed in twice")
	}
	if strings.Contains(auditText(t, r.dir), recovery[0]) || !strings.Contains(auditText(t, r.dir), `"detail":"with a recovery code"`) {
		t.Error("the audit log holds the code, or not the sign-in")
	}

	told := alice.events()
	leaves, err := net.Dial("tcp", r.ports["rfb"])
	if err != nil {
		t.Fatal(err)
	}
	go rfbtest.Handshake(leaves, rfbtest.Config{
		Security: uint8(rfb.SecVeNCrypt), User: "alice@example.com/desk7", Password: password, Roots: r.roots, ServerName: "localhost",
	})
	for len(within(t, told, "question on the page").Signins) == 0 {
	}
	leaves.Close()
	for asked := time.Now(); len(within(t, told, "end of the question").Signins) > 0; {
		if time.Since(asked) > 20*time.Second {
			t.Fatal("a viewer that has left is asked for still")
		}
	}
	for answer, want := range map[string]string{"refuse": refuse.NotApproved.Text(), "approve": "in"} {
		came := make(chan string, 1)
		go func() {
			c, err := r.viewer("alice@example.com/desk7", password)
			if err == nil {
				c.Close()
				came <- "in"
			} else {
				came <- reason(err)
			}
		}()
		var asks []account.Ask
		for len(asks) == 0 {
			asks = within(t, told, "question on the page").Signins
		}
		if asks[0].Source != "127.0.0.1" || asks[0].Door != "rfb" {
			t.Errorf("asked for %+v", asks[0])
		}
		if _, page, _ := b.get("/computers"); !strings.Contains(page, `name="id" value="`+asks[0].ID+`"`) {
			t.Errorf("not on the page:\n%s", page)
		}
		approve := url.Values{"id": {asks[0].ID}, "answer": {"approve"}}
		bob.post("/account/asks", approve)              // it is not his
		for _, no := range []*browser{trusted, alice} { // who have not passed the second factor; alice has set it up
			if _, _, at := no.post("/account/asks", approve); at != "/account/confirm?next=%2Fcomputers" {
				t.Errorf("approved by who has not passed the second factor: %s", at)
			}
		}
		if _, _, at := b.post("/account/asks", url.Values{"id": {asks[0].ID}, "answer": {answer}}); at != "/computers" {
			t.Errorf("%s leads to %s", answer, at)
		}
		if is := within(t, came, "answer at the RFB door"); is != want {
			t.Errorf("%s: the viewer is told %q, want %q", answer, is, want)
		}
		for len(asks) > 0 {
			asks = within(t, told, "end of the question").Signins
		}
	}
	if status, page, _ := b.post("/account/asks", url.Values{"id": {"x"}, "answer": {"approve"}}); status != http.StatusBadRequest || !strings.Contains(page, "does not wait any more") {
		t.Errorf("an answer too late: %d\n%s", status, page)
	}
	if log := auditText(t, r.dir); !strings.Contains(log, `"kind":"account.approve"`) || !strings.Contains(log, `"detail":"approved on a page"`) || !strings.Contains(log, `"kind":"account.refuse"`) {
		t.Error("not recorded")
	}
	if _, err := r.viewer("alice@example.com/desk7", "wrong"); err == nil || !strings.Contains(err.Error(), refuse.SignIn.Text()) {
		t.Errorf("the RFB door with a wrong password: %v", err)
	}
	sshSignsIn := func(auth ...ssh.AuthMethod) bool {
		c, _, err := r.dial("alice@example.com", auth...)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	for _, c := range []struct { // in this order: five failures without a success between them would lock her out
		name string
		auth []ssh.AuthMethod
		ok   bool
	}{
		{"password, then a code", []ssh.AuthMethod{ssh.Password(password), answers(recovery[2])}, true},
		{"password", []ssh.AuthMethod{ssh.Password(password)}, false},
		{"password, then a wrong code", []ssh.AuthMethod{ssh.Password(password), answers("000000")}, false},
		{"keyboard-interactive", []ssh.AuthMethod{answers(password, recovery[3])}, true},
		{"keyboard-interactive, password only", []ssh.AuthMethod{answers(password)}, false},
		{"keyboard-interactive, a spent code", []ssh.AuthMethod{answers(password, recovery[0])}, false},
	} {
		if got := sshSignsIn(c.auth...); got != c.ok {
			t.Errorf("the SSH door, %s: signed in is %v", c.name, got)
		}
	}
	if key := r.key("alice@example.com"); !sshSignsIn(ssh.PublicKeys(key)) {
		t.Error("the SSH door does not take a key")
	}

	if _, page, _ := alice.get("/account"); !strings.Contains(page, "ssh from 127.0.0.1") || !strings.Contains(page, "refused: 40055, Wrong code") {
		t.Errorf("her last sign-ins:\n%s", page)
	}
	if _, page, _ := alice.post("/account/recovery", nil); len(recoveryCode.FindAllString(page, -1)) != 10 || strings.Contains(page, recovery[9]) {
		t.Errorf("new recovery codes:\n%s", page)
	}
	_, page, _ := alice.get("/api/account")
	device := regexp.MustCompile(`"devices":\[\{"name":"(\w+)"`).FindStringSubmatch(page)
	if device == nil {
		t.Fatalf("no trusted browser: %s", page)
	}
	if status, page, _ := alice.post("/api/account/devices/remove", url.Values{"name": {device[1]}}); status != http.StatusOK {
		t.Errorf("a browser is not to be trusted any more: %d %s", status, page)
	}
	if _, _, at := trusting.signIn("alice@example.com", password, ""); at == "/computers" {
		t.Error("and is trusted all the same")
	}
	if _, page, at := alice.post("/account/authenticator/remove", nil); at != "/account" || !strings.Contains(page, "alone signs you in") {
		t.Errorf("turned off: %s\n%s", at, page)
	}
	if _, _, at := r.browser().signIn("alice@example.com", password, ""); at != "/computers" {
		t.Errorf("without a second factor the sign-in leads to %s", at)
	}
}

// What one has to prove again gives the browser another cookie; the one before, which somebody may have planted or seen, is worth
// nothing. So does the sign-in itself.
func TestWebCookieChanges(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	b := r.browser()
	site, _ := url.Parse(b.base)
	planted := "planted"
	b.http.Jar.SetCookies(site, []*http.Cookie{{Name: "__Host-helmline", Value: planted, Path: "/", Secure: true}})
	cookie := func() string { return b.http.Jar.Cookies(site)[0].Value }
	worthless := func(value string) {
		t.Helper()
		thief := r.browser()
		thief.http.Jar.SetCookies(site, []*http.Cookie{{Name: "__Host-helmline", Value: value, Path: "/", Secure: true}})
		if _, _, at := thief.get("/account"); at == "/account" {
			t.Error("an old cookie is worth something")
		}
	}
	b.signIn("alice@example.com", password, "")
	signedIn := cookie()
	worthless(planted)
	if status, page, _ := b.post("/account/confirm", url.Values{"password": {"wrong-password"}, "next": {"/account"}}); status != http.StatusForbidden || !strings.Contains(html.UnescapeString(page), refuse.SignIn.Text()) {
		t.Errorf("a wrong password: %d\n%s", status, page)
	}
	if cookie() != signedIn {
		t.Error("what was not proven has changed the cookie")
	}
	if _, _, at := b.post("/account/confirm", url.Values{"password": {password}, "next": {"https://evil.example/"}}); at != "/computers" {
		t.Errorf("the proof leads to %s", at)
	}
	if _, page, at := b.get("/account"); at != "/account" || strings.Count(page, "Sign out</button>") != 2 {
		t.Errorf("afterwards at %s, or signed in twice:\n%s", at, page)
	}
	if cookie() == signedIn {
		t.Error("the proof has not changed the cookie")
	}
	worthless(signedIn)
	b.signIn("alice@example.com", password, "")
}

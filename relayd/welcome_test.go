package main

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
)

var invitationLink = regexp.MustCompile(`id="link">https://[^<#]*/welcome#([a-z2-7-]+)<`)

// admin is a browser in which an administrator is signed in.
func (r *relay) adminBrowser() *browser {
	r.t.Helper()
	if _, err := r.admin.AddAccount(r.t.Context(), "root@example.com", []byte(password), true); err != nil {
		r.t.Fatal(err)
	}
	b := r.browser()
	b.signIn("root@example.com", password, "")
	return b
}

// An administrator invites a person, who makes the account with the code and is signed in; the code works once. Nobody else invites.
func TestWebInvitation(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	root, alice, bob := r.adminBrowser(), r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	if status, _, _ := alice.post("/admin/invite", url.Values{"email": {"bob@example.com"}}); status != http.StatusNotFound {
		t.Errorf("alice invites: %d", status)
	}
	if status, page, _ := root.post("/admin/invite", url.Values{"email": {"alice@example.com"}}); status != http.StatusBadRequest || !strings.Contains(page, "already") {
		t.Errorf("who is there already: %d\n%s", status, page)
	}
	_, page, _ := root.post("/admin/invite", url.Values{"email": {"bob@example.com"}})
	link := invitationLink.FindStringSubmatch(page)
	if link == nil {
		t.Fatalf("no invitation:\n%s", page)
	}
	code := link[1]
	if strings.Contains(auditText(t, r.dir), code) {
		t.Error("the audit log holds the code")
	}
	if status, page, _ := bob.post("/welcome", url.Values{"code": {"aaaa-bbbb-cccc-dddd"}}); status != http.StatusForbidden || !strings.Contains(html.UnescapeString(page), refuse.WelcomeInvalid.Text()) {
		t.Errorf("a wrong code: %d\n%s", status, page)
	}
	if _, page, _ := bob.post("/welcome", url.Values{"code": {code}}); !strings.Contains(page, `value="bob@example.com"`) {
		t.Errorf("the code:\n%s", page)
	}
	const chosen = "halyard-spinnaker-7"
	for want, f := range map[string]url.Values{
		"two passwords differ": {"code": {code}, "username": {"bob@example.com"}, "new": {"yes"}, "password": {chosen}, "again": {chosen + "x"}},
		"characters":           {"code": {code}, "username": {"bob@example.com"}, "new": {"yes"}, "password": {"short"}, "again": {"short"}},
	} {
		if status, page, _ := bob.post("/welcome/password", f); status != http.StatusForbidden || !strings.Contains(page, want) || !strings.Contains(page, "Make my account") {
			t.Errorf("%s: %d\n%s", want, status, page)
		}
	}
	f := url.Values{"code": {code}, "password": {chosen}, "again": {chosen}, "username": {"root@example.com"}} // which decides nothing
	if _, page, at := bob.post("/welcome/password", f); at != "/account?welcome" || !strings.Contains(page, "bob@example.com") || strings.Contains(page, "Invite a person") {
		t.Errorf("made: %s\n%s", at, page)
	}
	if status, _, _ := r.browser().post("/welcome/password", f); status != http.StatusForbidden {
		t.Errorf("the code works twice: %d", status)
	}

	bob.authenticator()
	_, page, _ = root.post("/admin/accounts/password", url.Values{"email": {"bob@example.com"}})
	if link = invitationLink.FindStringSubmatch(page); link == nil {
		t.Fatalf("no reset code:\n%s", page)
	}
	b := r.browser()
	if _, page, at := b.post("/welcome/password", url.Values{"code": {link[1]}, "password": {password}, "again": {password}}); at != "/welcome/password" || !halfSecret.MatchString(page) {
		t.Errorf("a reset of the password has not led to the second factor: %s\n%s", at, page)
	}
	if _, _, at := bob.get("/account"); at == "/account" {
		t.Error("bob is signed in still after the reset of his password")
	}
	if status, page, _ := root.post("/admin/accounts/factor", url.Values{"email": {"bob@example.com"}}); status != http.StatusOK || !strings.Contains(page, "alone signs in") {
		t.Errorf("reset of the second factor: %d\n%s", status, page)
	}
	if _, _, at := b.signIn("bob@example.com", password, ""); at != "/computers" {
		t.Errorf("after both resets the sign-in leads to %s", at)
	}
	for _, kind := range []string{"account.invite", "account.add", "account.reset", "account.password", "account.factor.on", "account.factor.reset"} {
		if !strings.Contains(auditText(t, r.dir), `"kind":"`+kind+`"`) {
			t.Errorf("no record of %s", kind)
		}
	}
}

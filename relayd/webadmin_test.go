package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/helmline/helmline/relayd/admin"
)

// admin makes an administrator.
func (r *relay) administrator(email string) {
	r.t.Helper()
	if _, err := r.admin.AddAccount(context.Background(), email, []byte(password), true); err != nil {
		r.t.Fatal(err)
	}
}

// Administrators see all accounts, computers, sessions, refused addresses and the audit log, and act on them; nobody else learns that
// there are such pages.
func TestWebAdmin(t *testing.T) {
	r := startRelay(t)
	r.administrator("root@example.com")
	r.account("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	boss, alice := r.browser(), r.browser()
	boss.signIn("root@example.com", password, "")
	alice.signIn("alice@example.com", password, "")
	for _, p := range webRoutes(t) {
		if !strings.Contains(p.path, "/admin") {
			continue
		}
		got, body := alice.try(p.method, p.path, http.Header{"Origin": {alice.base}})
		if p.path == "/admin" {
			continue // leads to the next
		}
		if got.StatusCode != http.StatusNotFound || !strings.Contains(body, "40060") {
			t.Errorf("%s %s by one who is no administrator: %d %s", p.method, p.path, got.StatusCode, body)
		}
	}
	socket, no := alice.reach("desk7", "control")
	if no != nil {
		t.Fatal(no)
	}
	for path, want := range map[string]string{
		"/admin/accounts": "alice@example.com", "/admin/computers": "desk7", "/admin/sessions": "by the web door from", "/admin/audit?kind=session&who=alice@example.com": "session.start",
		"/admin/blocks": "No address is refused", "/api/admin/hosts": `"name":"desk7"`, "/api/admin/accounts": `"alice@example.com"`,
	} {
		if status, body, _ := boss.get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q:\n%s", path, status, want, body)
		}
	}
	var live struct{ Sessions []admin.SessionInfo }
	_, body, _ := boss.get("/api/admin/sessions")
	if err := json.Unmarshal([]byte(body), &live); err != nil || len(live.Sessions) != 1 {
		t.Fatalf("sessions: %v %s", err, body)
	}
	if status, _, at := boss.post("/admin/sessions/end", url.Values{"id": {live.Sessions[0].ID}}); status != http.StatusOK || at != "/admin/sessions" {
		t.Errorf("end: %d at %s", status, at)
	}
	for { // the page is told, and closed
		if _, b, err := socket.Read(t.Context()); err != nil {
			break
		} else if !strings.Contains(string(b), "40014") {
			t.Errorf("the page hears %s", b)
		}
	}
	if status, _, _ := boss.post("/admin/accounts/disable", url.Values{"email": {"alice@example.com"}}); status != http.StatusOK {
		t.Errorf("disable: %d", status)
	}
	if status, _, _ := alice.get("/api/hosts"); status != http.StatusUnauthorized {
		t.Errorf("alice after that: %d", status)
	}
	if status, body, _ := boss.post("/admin/accounts/enable", url.Values{"email": {"nobody@example.com"}}); status != http.StatusBadRequest || !strings.Contains(body, "role=\"alert\"") {
		t.Errorf("enable nobody: %d %s", status, body)
	}
	if status, body, _ := boss.get("/admin/audit?from=yesterday"); status != http.StatusBadRequest || !strings.Contains(body, "a time is a day") {
		t.Errorf("a time that is none: %d %s", status, body)
	}
	// What people choose is no formula in a spreadsheet.
	alice.signIn("=1+1@example.com", "wrong", "")
	_, text, _ := boss.get("/api/admin/audit?format=csv")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) < 5 || rows[0][0] != "seq" {
		t.Fatalf("CSV: %v %q", err, text)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				t.Errorf("a spreadsheet counts: %q", row)
			}
		}
	}
	_, text, _ = boss.get("/api/admin/audit?kind=account.disable&who=root@example.com&from=2020-01-01")
	if n := strings.Count(text, "\n"); n != 1 || !strings.Contains(text, `"account":"alice@example.com"`) {
		t.Errorf("JSON: %s", text)
	}
}

// An address that guessed too often is shown, and let in again.
func TestWebUnblock(t *testing.T) {
	r := startRelay(t)
	r.administrator("root@example.com")
	boss, guest := r.browser(), r.browser()
	boss.signIn("root@example.com", password, "")
	for i := range 7 {
		guest.signIn("nobody"+string(rune('a'+i))+"@example.com", "wrong password", "")
	}
	_, page, _ := boss.get("/admin/blocks")
	if !strings.Contains(page, "<strong>127.0.0.1/32</strong>") {
		t.Fatalf("not shown:\n%s", page)
	}
	if status, page, _ := boss.post("/admin/blocks/remove", url.Values{"source": {"127.0.0.1/32"}}); status != http.StatusOK || !strings.Contains(page, "No address is refused") {
		t.Errorf("unblock: %d\n%s", status, page)
	}
	if status, page, _ := boss.post("/admin/blocks/remove", url.Values{"source": {"127.0.0.1/32"}}); status != http.StatusBadRequest || !strings.Contains(page, "nothing is counted") {
		t.Errorf("again: %d\n%s", status, page)
	}
}

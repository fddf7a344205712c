package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/relayd/admin"
)

// A schema is as much of JSON Schema as openapi.json uses.
type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Enum       []string
	Properties map[string]*schema
	Items      *schema
}

// An operation is what one method of a path does.
type operation struct {
	Security    *[]any
	RequestBody struct {
		Content map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]struct{ Schema *schema }
	}
}

// An openAPI is the description of the API.
type openAPI struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

// valid says what of v is not as s has it; at is where it stands.
func (a *openAPI) valid(s *schema, v any, at string) (wrong []string) {
	if s.Ref != "" {
		s = a.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if s == nil {
		return []string{at + " has a schema that there is not"}
	}
	kind := ""
	switch v := v.(type) {
	case string:
		kind = "string"
		if s.Enum != nil && !slices.Contains(s.Enum, v) {
			wrong = append(wrong, fmt.Sprintf("%s is %q, none of %q", at, v, s.Enum))
		}
	case bool:
		kind = "boolean"
	case float64:
		kind = "integer"
	case []any:
		kind = "array"
		for i, e := range v {
			wrong = append(wrong, a.valid(s.Items, e, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case map[string]any:
		kind = "object"
		for k, e := range v {
			if s.Properties[k] == nil {
				wrong = append(wrong, at+"."+k+" is not described")
				continue
			}
			wrong = append(wrong, a.valid(s.Properties[k], e, at+"."+k)...)
		}
	}
	if s.Enum == nil && kind != s.Type {
		wrong = append(wrong, fmt.Sprintf("%s is %T, no %s", at, v, s.Type))
	}
	return wrong
}

// sshKey is a new key as a line of a .pub file, and its fingerprint.
func sshKey() (line, fingerprint string) {
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewPublicKey(public)
	return string(ssh.MarshalAuthorizedKey(key)), ssh.FingerprintSHA256(key)
}

// The description of the API names the paths that there are, and what they answer is as it says.
func TestWebAPIDescription(t *testing.T) {
	r := startRelay(t)
	r.administrator("alice@example.com")
	r.account("bob@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	nobody, alice, bob := r.browser(), r.browser(), r.browser()
	var api openAPI
	_, body, _ := nobody.get("/api/openapi.json")
	if err := json.Unmarshal([]byte(body), &api); err != nil {
		t.Fatal(err)
	}
	for _, p := range webRoutes(t) {
		if _, there := api.Paths[p.path][strings.ToLower(p.method)]; !there && strings.HasPrefix(p.path, "/api/") {
			t.Errorf("%s %s is not described", p.method, p.path)
		}
	}
	check := func(b *browser, method, path string, form url.Values, want int) {
		t.Helper()
		described, _, _ := strings.Cut(path, "?")
		op := api.Paths[described][strings.ToLower(method)]
		res, body := b.send(method, strings.ReplaceAll(path, "{computer}", "desk7"), http.Header{"Origin": {b.base}}, form)
		kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
		said, ok := op.Responses[fmt.Sprint(res.StatusCode)]
		if res.StatusCode != want || !ok {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
			return
		}
		if kind == "application/json" {
			body = strings.ReplaceAll(body, "\n", " ") // one value; other kinds have one a line
		}
		of := said.Content[kind].Schema
		if said.Ref == "#/components/responses/done" {
			of = api.Components.Schemas["Done"]
		}
		if want != http.StatusOK {
			if of = api.Components.Schemas["Refusal"]; kind != "application/problem+json" {
				t.Errorf("%s: %d is answered as %s", path, want, kind)
			}
		}
		if of == nil {
			return
		}
		for line := range strings.Lines(body) {
			var v any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Errorf("%s: %v in %s", path, err, line)
				return
			}
			for _, wrong := range api.valid(of, v, path) {
				t.Error(wrong)
			}
		}
	}
	alice.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	if _, no := alice.reach("desk7", "control"); no != nil {
		t.Fatal(no)
	}
	line, fingerprint := sshKey()
	check(alice, "POST", "/api/account/keys/add", url.Values{"key": {line}}, http.StatusOK)
	alice.token(url.Values{"name": {"tok"}, "may": {"read"}})
	other := r.browser()
	other.signIn("alice@example.com", password, "")
	var has struct{ Visits, Tokens []struct{ ID string } }
	if _, body, _ := alice.get("/api/account"); json.Unmarshal([]byte(body), &has) != nil || len(has.Visits) != 2 || len(has.Tokens) != 1 || !strings.Contains(body, fingerprint) {
		t.Fatalf("account: %s", body)
	}
	var live struct{ Sessions []admin.SessionInfo }
	if _, body, _ := alice.get("/api/admin/sessions"); json.Unmarshal([]byte(body), &live) != nil || len(live.Sessions) != 1 {
		t.Fatalf("sessions: %s", body)
	}
	all := func() {
		for path, ops := range api.Paths {
			for method := range ops {
				if len(ops) != 1 || !slices.Contains(webRoutes(t), route{strings.ToUpper(method), path}) {
					t.Errorf("there is no %v %s", ops, path)
				}
			}
			if _, reads := ops["get"]; reads {
				check(alice, "GET", path, nil, http.StatusOK)
			}
		}
	}
	all()
	desk.Close()
	within(t, r.log.seen("computer offline"), "computer going offline")
	for range 7 {
		nobody.signIn("nobody@example.com", "wrong password", "")
	}
	all()
	for path, ops := range api.Paths {
		for method, op := range ops {
			method = strings.ToUpper(method)
			if op.Security == nil {
				check(nobody, method, path, nil, http.StatusUnauthorized)
			}
			if strings.Contains(path, "/admin/") || strings.Contains(path, "{computer}") {
				check(bob, method, path, nil, http.StatusNotFound)
			}
		}
	}
	changes := []struct {
		path string
		form url.Values
	}{
		{"/api/admin/sessions/end", url.Values{"id": {live.Sessions[0].ID}}}, // it waits for the computer to come back
		{"/api/hosts/{computer}/rename", url.Values{"name": {"Desk7"}}},
		{"/api/hosts/{computer}/group", url.Values{"group": {"Lab"}}},
		{"/api/hosts/{computer}/favourite", url.Values{"favourite": {"yes"}}},
		{"/api/hosts/{computer}/share", url.Values{"email": {"bob@example.com"}, "right": {"watch"}, "for": {"day"}}},
		{"/api/hosts/{computer}/leave", nil}, // TestWebManager has a guest
		{"/api/hosts/{computer}/code", url.Values{"role": {"watch"}}},
		{"/api/hosts/{computer}/remove", url.Values{"name": {"Desk7"}}},
		{"/api/admin/accounts/invite", url.Values{"email": {"dave@example.com"}}},
		{"/api/admin/accounts/disable", url.Values{"email": {"bob@example.com"}}},
		{"/api/admin/accounts/enable", url.Values{"email": {"bob@example.com"}}},
		{"/api/admin/accounts/password", url.Values{"email": {"bob@example.com"}}},
		{"/api/admin/accounts/factor", url.Values{"email": {"bob@example.com"}}},
		{"/api/admin/blocks/remove", url.Values{"source": {"127.0.0.1/32"}}},
		{"/api/account/devices/remove", nil}, // TestSecondFactorAtEveryDoor has one
		{"/api/account/tokens/remove", url.Values{"id": {has.Tokens[0].ID}, "name": {"tok"}}},
		{"/api/account/visits/end", url.Values{"id": {has.Visits[0].ID}}}, // the newest
		{"/api/account/keys/remove", url.Values{"fingerprint": {fingerprint}}},
	}
	check(alice, "POST", "/api/hosts/add", url.Values{"name": {"a/b"}}, http.StatusBadRequest)
	check(alice, "POST", "/api/hosts/add", nil, http.StatusOK)
	delete(api.Paths, "/api/hosts/add")
	check(alice, "POST", "/api/account/keys/add", url.Values{"key": {"x"}}, http.StatusBadRequest)
	delete(api.Paths, "/api/account/keys/add")
	check(alice, "GET", "/api/admin/audit?from=yesterday", nil, http.StatusBadRequest)
	for _, c := range changes {
		if !strings.HasSuffix(c.path, "group") && !strings.HasSuffix(c.path, "favourite") {
			check(alice, "POST", c.path, nil, http.StatusBadRequest)
		}
		for field := range c.form {
			if said := api.Paths[c.path]["post"].RequestBody.Content["application/x-www-form-urlencoded"].Schema; said == nil || said.Properties[field] == nil {
				t.Errorf("%s: the field %s is not described", c.path, field)
			}
		}
		if c.form != nil {
			check(alice, "POST", c.path, c.form, http.StatusOK)
		}
		delete(api.Paths, c.path)
	}
	for what, b := range map[string]*browser{"whose key was removed": alice, "who was signed out": other} {
		if status, _, _ := b.get("/api/account"); status != http.StatusUnauthorized {
			t.Errorf("%s is signed in: %d", what, status)
		}
	}
	for path, ops := range api.Paths {
		if _, changes := ops["post"]; changes {
			t.Errorf("POST %s is not tried", path)
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/registry"
)

// Each right does what it is for, and nothing else does: at every door, with a one-time code, and in every call that concerns a computer.
func TestRights(t *testing.T) {
	r := startRelay(t)
	const owner = "owner@example.com"
	rights := []registry.Right{registry.RightNone, registry.RightWatch, registry.RightControl, registry.RightManage}
	r.account(owner)
	desk := r.computer(owner, "desk7", nil)
	people := []string{}
	for _, right := range rights {
		email := right.String() + "@example.com"
		r.account(email)
		people = append(people, email)
		if right == registry.RightNone {
			continue
		}
		if _, err := r.admin.ShareHost(t.Context(), "desk7", email, right, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	people = append(people, owner) // from none to all
	id := ""
	for level, email := range slices.Backward(people) {
		b := r.browser()
		b.signIn(email, password, "")
		if level == len(people)-1 {
			id = b.id("desk7")
		}
		if _, page, _ := b.get("/computers/" + id + "/connect"); level > 0 && strings.Contains(page, "<strong>"+owner+"</strong>, not one of yours") != (email != owner) {
			t.Errorf("%s is to type a log-in, and the page does not say whose computer it is:\n%s", email, page)
		}
		code := func(role string) string {
			_, body, _ := b.post("/api/hosts/"+id+"/code", url.Values{"role": {role}})
			var got struct{ Code string }
			_ = json.Unmarshal([]byte(body), &got) // a refusal has none
			return got.Code
		}
		client, _, err := r.dial(email, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		// came is what a try to join came to: the role that the computer is told, or the number of the refusal.
		came := func(err error) string {
			var no *refuse.Refusal
			var shown *rfbtest.RefusedError
			var rejected *ssh.OpenChannelError
			switch {
			case err == nil:
				h := within(t, desk.headers, "stream")
				if h.Account != email {
					t.Errorf("%s comes to the computer as %s", email, h.Account)
				}
				return h.Role.String()
			case errors.As(err, &no):
				return fmt.Sprint(no.Code)
			case errors.As(err, &shown):
				return shown.Reason[:min(5, len(shown.Reason))]
			case errors.As(err, &rejected):
				return rejected.Message[:min(5, len(rejected.Message))]
			}
			return err.Error()
		}
		for _, role := range []tunnel.Role{tunnel.RoleWatch, tunnel.RoleControl, tunnel.RoleTake} {
			want := role.String()
			switch {
			case level == 0:
				want = "40008"
			case level == 1 && role != tunnel.RoleWatch:
				want = "40015"
			}
			name := role.String()
			ways := map[string]func() error{
				"web": func() error {
					ws, no := b.reach(id, name)
					ws.CloseNow()
					if no != nil {
						return no
					}
					return nil
				},
				"rfb": func() error {
					v, err := r.viewer(email+"/"+id+map[string]string{"control": ""}[name]+map[string]string{"watch": "/watch", "take": "/take"}[name], password)
					if err == nil {
						v.Close()
					}
					return err
				},
				"ssh": func() error {
					c, err := client.Dial("tcp", map[string]string{"watch": "watch.", "take": "take."}[name]+id+":5900")
					if err == nil {
						c.Close()
					}
					return err
				},
			}
			if role != tunnel.RoleTake && want == name {
				ways["code"] = func() error {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					v, err := rfbtest.Dial(ctx, r.ports["rfb_code"], rfbtest.Config{Code: code(name), Roots: r.roots, ServerName: "localhost", Manual: true})
					if err == nil {
						v.Close()
					}
					return err
				}
			}
			for door, come := range ways {
				if got := came(come()); got != want {
					t.Errorf("%s, %s at %s: %s, not %s", email, name, door, got, want)
				}
			}
		}
		for _, c := range []struct {
			what, method, api, page string
			form                    url.Values
			from                    int // the first of people who may
		}{
			{"sees it", "GET", "connectability", "", nil, 1},
			{"a favourite", "POST", "favourite", "favourite", url.Values{"favourite": {"yes"}}, 1},
			{"a group", "POST", "group", "group", url.Values{"group": {"home"}}, 1},
			{"a code for watching", "POST", "code", "code", url.Values{"role": {"watch"}}, 1},
			{"a code for control", "POST", "code", "code", url.Values{"role": {"control"}}, 2},
			{"sees who has a right", "GET", "shares", "", nil, 3},
			{"renames", "POST", "rename", "rename", url.Values{"name": {"desk7"}}, 3},
			{"gives a right", "POST", "share", "share", url.Values{"email": {"dave@example.com"}, "right": {"control"}}, 3},
			{"takes a right", "POST", "share", "share", url.Values{"email": {"dave@example.com"}, "right": {"none"}}, 3},
			{"has another manage it", "POST", "share", "share", url.Values{"email": {"dave@example.com"}, "right": {"manage"}}, 4},
			{"has another manage it no more", "POST", "share", "share", url.Values{"email": {"dave@example.com"}, "right": {"none"}}, 4},
			{"removes it, but for the name", "POST", "remove", "remove", url.Values{"name": {"desk"}}, 5},
		} {
			for _, path := range []string{"/api/hosts/" + id + "/" + c.api, "/computers/" + id + "/" + c.page} {
				if c.page == "" && strings.HasPrefix(path, "/computers") {
					continue
				}
				if c.form.Get("right") == "none" && level >= c.from { // each is there to be taken
					b.post("/api/hosts/"+id+"/share", url.Values{"email": {"dave@example.com"}, "right": {"control"}})
				}
				got, body := b.send(c.method, path, http.Header{"Origin": {b.base}}, c.form)
				switch ok := got.StatusCode < 400; {
				case ok != (level >= c.from):
					t.Errorf("%s: %s by %s: %d %s", email, c.what, path, got.StatusCode, body)
				case level == 0 && got.StatusCode != http.StatusNotFound:
					t.Errorf("%s: %s by %s: %d, which tells that it exists", email, c.what, path, got.StatusCode)
				}
			}
		}
	}
}

// What is somebody else's cannot be named in a form or a call: everything of alice's stays, whoever else is signed in.
func TestForeignThings(t *testing.T) {
	r := startRelay(t)
	for _, a := range []string{"alice@example.com", "bob@example.com"} {
		r.account(a)
	}
	alice, phone, bob := r.browser(), r.browser(), r.browser()
	alice.signIn("alice@example.com", password, "")
	phone.signIn("alice@example.com", password, "")
	bob.signIn("bob@example.com", password, "")
	line, fingerprint := sshKey()
	alice.post("/account/keys", url.Values{"key": {line}})
	alice.token(url.Values{"name": {"backups"}, "may": {"all"}})
	full := bob.token(url.Values{"name": {"bob's"}, "may": {"all"}})
	things := func() (m struct {
		Visits []struct{ ID string }
		Tokens []struct{ ID string }
	}, all string) {
		_, body, _ := alice.get("/api/account")
		if err := json.Unmarshal([]byte(body), &m); err != nil || len(m.Visits) != 2 || len(m.Tokens) != 1 || !strings.Contains(body, fingerprint) {
			t.Fatalf("%v: %s", err, body)
		}
		return m, regexp.MustCompile(`"seen":"[^"]*"`).ReplaceAllString(body, "")
	}
	own, before := things()
	for _, c := range []struct {
		path  string
		field string
		of    []string
	}{
		{"/account/visits/end", "id", []string{own.Visits[0].ID, own.Visits[1].ID}},
		{"/account/tokens/remove", "id", []string{own.Tokens[0].ID}},
		{"/account/keys/remove", "fingerprint", []string{fingerprint}},
	} {
		for _, id := range c.of {
			form := url.Values{c.field: {id}}
			for _, path := range []string{c.path, "/api" + c.path} {
				if got, body := bob.send("POST", path, http.Header{"Origin": {bob.base}}, form); got.StatusCode != http.StatusBadRequest || strings.Contains(body, "40065") {
					t.Errorf("%s: %d %s", path, got.StatusCode, body)
				}
			}
			if status, body := r.call(full, "POST", "/api"+c.path, form); status != http.StatusBadRequest {
				t.Errorf("%s by a token: %d %s", c.path, status, body)
			}
		}
	}
	if _, after := things(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, _, at := phone.get("/account"); at != "/account" {
		t.Error("alice's phone was signed out")
	}
}

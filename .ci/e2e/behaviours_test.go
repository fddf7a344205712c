package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

const (
	guestAccount  = "bob@example.com"
	guestPassword = "another quite long secret"
)

// What people do and see with nothing but a browser, from an empty relay on; the parts are named as the behaviours that people can rely on.
// They share one relay, one computer and one browser. Every page is looked at in light and dark, on a desk and on a phone.
func TestBehaviours(t *testing.T) {
	pamService(t, "", "")
	w := NewWorld(t, Options{Empty: true, Login: `pam_service = "` + pamName + `"`, Time: 5 * time.Minute})
	d := w.Furnish()
	secret := rig.Secret(14) // of the computer's owner, an OS user
	w.Check(w.Set.SetPassword(w.Ctx, w.Owner, secret))
	b := w.Chromium(true)
	typed := ""
	// types types a line into the terminal on the computer, and it arrives.
	types := func(line string, at step) {
		w.T.Helper()
		at["see"], at["type"] = "You control it", line+"\n"
		b.Do(at)
		want := typed + line + "\n"
		w.Within(20*time.Second, "the line arrives", func() (ok bool, err error) {
			typed, err = d.Typed()
			return typed == want, fmt.Errorf("typed is %q, %v", typed, err)
		})
	}
	// part leaves nothing open for the next one.
	part := func(name string, f func()) {
		w.Run(name, func() {
			defer func() {
				b.Do(step{"leave": true})
				w.Until("control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
			}()
			f()
		})
	}
	id := ""
	at := func(path string) string { return "/computers/" + id + path }

	part("from nothing to a session", func() {
		_, err := w.Relayd.Do(w.Ctx, w.Password+"\n", "account", "add", Account, "--admin", "--password-stdin")
		w.Check(err)
		b.Do(
			step{"go": "/", "see": "E-mail address", "look": "1-email"},
			step{"fill": step{"#email": Account}, "see": "Password of your account", "look": "2-password"},
			step{"fill": step{"#password": "wrong"}, "see": "40050", "look": "3-password-wrong"},
			step{"fill": step{"#password": w.Password}, "see": "No computers yet", "look": "4-no-computers"},
			step{"page": 1, "go": "/computers", "see": "No computers yet"},
			step{"click": "text=Add a computer", "see": "Make the line", "look": "5-add"},
			step{"fill": step{"#name": "not a name!"}, "see": "is not a name", "look": "6-add-wrong"},
			step{"fill": step{"#name": Computer}, "see": "Run this on the computer", "look": "7-add-line"},
		)
		line := strings.Fields(b.Do(step{"eval": "document.querySelector('code.line').textContent"})[0].(string))
		if len(line) != 4 || line[0] != "sudo" || line[1] != "hostd" {
			w.T.Fatalf("the line to run is %q", line)
		}
		_, err = w.Hostd.Do(w.Ctx, "", line[2:]...)
		w.Check(err)
		_, err = w.Hostd.Do(w.Ctx, w.Code+"\n", "code", "set", "--stdin")
		w.Check(err)
		b.Do(
			step{"see": Computer + " is here"}, // by itself, as there:
			step{"page": 1, "see": "Online"},
			step{"page": 1, "close": true},
			step{"go": "/computers", "see": "Online", "look": "8-computers"},
		)
		id = b.Do(step{"eval": "document.querySelector('#list li').dataset.id"})[0].(string)
		b.Do(
			step{"go": "/computers", "click": ".star button", "see": "Favourites", "look": "8-favourites"},
			step{"go": at(""), "see": "Key of its tunnel", "look": "9-computer"},
			step{"go": "/account", "see": "This browser", "look": "10-account"},
			step{"go": "/computers", "click": "a.name", "see": "Log in to this computer", "look": "11-login"},
			step{"code": w.Code, "see": "Full screen"},
		)
		types("from nothing", step{})
		b.Do(step{"look": "12-session"}, step{"click": "#clipboard-open", "see": "Clipboard of the computer", "look": "13-clipboard"},
			step{"press": []string{"Escape"}}, step{"click": "#leave", "see": "It lasted", "look": "14-ended"})
	})
	if id == "" {
		return
	}

	part("invitation", func() { // an administrator invites; the person takes the link, and it is spent
		b.Do(step{"go": "/admin/invite"}, step{"fill": step{"#email": guestAccount}, "see": "It works once"})
		link := fmt.Sprint(b.Do(step{"eval": "document.querySelector('#link').textContent"})[0])
		guest := func(s step) step { s["who"] = "guest"; return s }
		b.Do(
			guest(step{"go": "/welcome#%E0%A4%A", "see": "The link is damaged"}),
			guest(step{"go": link[strings.Index(link, "/welcome"):], "see": "Choose a password"}),
			guest(step{"fill": step{"#password": guestPassword, "#again": guestPassword}, "see": "The account is yours"}),
			guest(step{"click": ".top button", "see": "E-mail address"}),
		)
	})
	part("S1", func() { // two steps, of which the first says nothing about accounts
		var pages []string
		for _, email := range []string{Account, "nobody@example.com"} {
			got := b.Do(
				step{"who": "guest", "go": "/signin", "eval": "document.querySelectorAll('[type=password]').length"},
				step{"who": "guest", "fill": step{"#email": email}, "see": "Password of your account", "eval": "(e => e.readOnly || e.value)(document.querySelector('#email'))"},
				step{"who": "guest", "eval": "document.documentElement.outerHTML"},
				step{"who": "guest", "back": true, "see": "Next", "eval": "document.querySelector('#email').value"},
			)
			if got[0] != 0.0 || got[1] != email || got[3] != email {
				w.T.Errorf("the first step has %v passwords, the second %v, and after a step back there is %v", got[0], got[1], got[3])
			}
			pages = append(pages, strings.ReplaceAll(got[2].(string), email, ""))
		}
		if pages[0] != pages[1] {
			w.T.Error("the second step tells an account from none")
		}
	})
	part("S2", func() { // back to the page that was asked for
		deep := at("/connect?role=watch")
		b.Do(
			step{"who": "guest", "go": deep, "see": "E-mail address"},
			step{"who": "guest", "fill": step{"#email": guestAccount}, "see": "Password of your account"},
			step{"who": "guest", "fill": step{"#password": guestPassword}, "at": deep, "see": "40008"},
			step{"who": "guest", "go": "/computers", "click": ".top button", "see": "E-mail address"},
			step{"who": "guest", "go": "/signin?next=//evil.example/", "fill": step{"#email": guestAccount}, "see": "Password of your account"},
			step{"who": "guest", "fill": step{"#password": guestPassword}, "at": "/computers"},
		)
	})
	part("S3", func() { // one's own computers, and no word of others
		names := `[...document.querySelectorAll("#list a.name")].map(a => a.textContent).join()`
		if own := b.Do(step{"go": "/computers", "eval": names})[0]; own != Computer {
			w.T.Errorf("the owner's list has %q", own)
		}
		got := b.Do(
			step{"who": "guest", "go": "/computers", "see": "No computers yet"},
			step{"who": "guest", "go": at(""), "see": "40008", "look": "16-no-such-computer", "eval": "document.body.innerText"},
			step{"who": "guest", "go": "/computers/" + strings.Map(func(r rune) rune {
				if r == '-' {
					return r
				}
				return '1'
			}, id), "see": "40008", "eval": "document.body.innerText"},
		)
		if got[0] != got[1] || strings.Contains(got[0].(string), Computer) {
			w.T.Errorf("a computer of another account: %q, and one that there is not: %q", got[0], got[1])
		}
	})
	part("S4", func() { // one activation of the name leads to the computer's log-in
		b.Do(step{"go": "/computers", "click": "a.name", "see": "Log in to this computer"},
			step{"go": "/computers", "eval": "document.querySelector('a.name').focus()"}, step{"press": []string{"Enter"}, "see": "Log in to this computer", "at": at("/connect")})
	})
	part("keyboard", func() { // from the sign-in to the session and out of it by keys alone
		who := func(s step) step { s["who"] = "keys"; return s }
		b.Do(
			who(step{"go": "/computers", "see": "E-mail address", "tab": "#email"}),
			who(step{"type": Account + "\n"}), who(step{"see": "Password of your account"}),
			who(step{"tab": "#password", "type": w.Password + "\n"}), who(step{"see": "Online"}),
			who(step{"tab": "a.name", "press": []string{"Enter"}, "see": "Log in to this computer"}),
		)
		if link := b.Do(who(step{"eval": "document.querySelector('#user-row').checkVisibility()"}))[0]; link == true {
			b.Do(who(step{"tab": "#code-link", "press": []string{"Enter"}, "gone": "#user-row"}))
		}
		b.Do(who(step{"tab": "#secret", "type": w.Code + "\n"}), who(step{"see": "Full screen"}))
		types("by keys", who(step{}))
		b.Do(who(step{"press": []string{"Control+Alt+Shift+KeyB"}}), who(step{"tab": "#leave"}), who(step{"press": []string{"Enter"}, "see": "It lasted"}))
	})
	part("S5", func() { // links are links; TestBrowserTabs/S5 has two computers at once
		b.Do(step{"go": "/computers", "click": "a.name", "how": "ctrl"}, step{"page": 2, "title": Computer}, step{"page": 2, "code": w.Code, "see": "Full screen"},
			step{"at": "/computers"}, step{"click": "a.name", "how": "middle"}, step{"page": 3, "title": Computer}, step{"page": 3, "code": w.Code, "see": "40010", "look": "17-held"},
			step{"page": 3, "click": "#look", "see": "you watch", "gone": "#login"}, step{"page": 3, "close": true})
		types("one of two", step{"page": 2})
		b.Do(step{"page": 2, "close": true})
	})
	part("S6", func() { // what happens between the click and the session is shown, in this order
		b.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"})
		got := fmt.Sprint(b.Do(step{"eval": "steps.join('\\n')"})[0])
		if ok, _ := regexp.MatchString(`(?s)[Cc]ontacting.*[Rr]eaching.*log-in.*[Ll]ogging in`, got); !ok {
			w.T.Errorf("the page has shown these steps:\n%s", got)
		}
		types("after steps", step{})
		w.Within(20*time.Second, "the relay hears that somebody is there", func() (bool, error) {
			all, err := os.ReadFile(b.frames())
			return bytes.Contains(all, []byte(`"active":true`)), err
		})
		b.Do(step{"click": "#leave", "see": "It lasted"})
		// Each of these steps has a bound, after which a reason is shown: the relay is silent, then the computer, then it does not answer
		// the log-in. The page's clock does not wait for it.
		deaf := func(s step) step { s["page"] = 5; return s }
		b.Do(
			deaf(step{"mute": 0, "go": at("/connect"), "see": "Reaching the computer"}), deaf(step{"later": 24_000, "see": "Reaching the computer"}),
			deaf(step{"later": 2_000, "see": "40007", "look": "17-no-answer"}), deaf(step{"see": "the relay did not answer in time"}),
			deaf(step{"hold": "/ticket", "click": "#try", "see": "Contacting the relay"}), deaf(step{"later": 24_000, "see": "Contacting the relay"}),
			deaf(step{"later": 2_000, "see": "the relay did not answer in time"}), deaf(step{"hold": ""}),
			deaf(step{"mute": 1, "click": "#try", "see": "Waiting for the computer"}), deaf(step{"later": 9_000, "see": "Waiting for the computer"}),
			deaf(step{"later": 2_000, "see": "the computer did not answer in time"}),
			deaf(step{"mute": 1000, "click": "#try", "see": "Log in to this computer"}), deaf(step{"mute": 0, "code": w.Code, "see": "Logging in"}),
			deaf(step{"later": 74_000, "see": "Logging in"}), deaf(step{"later": 2_000, "see": "the computer did not answer in time"}), deaf(step{"close": true}),
		)
	})
	share := func(right string) {
		w.T.Helper()
		_, err := w.Relayd.Do(w.Ctx, "", "host", "share", Computer, guestAccount, right)
		w.Check(err)
	}
	page, viewer := "", ""
	part("watch only", func() { // who may not control is told so, and may watch
		share("watch")
		b.Do(step{"who": "guest", "go": at("/connect"), "see": "40015", "axe": true}, step{"who": "guest", "click": "#look"}, step{"who": "guest", "code": w.Code, "see": "you watch", "gone": "#login"})
	})
	part("S12", func() { // another person's control is named, and not disturbed
		share("control")
		b.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"},
			step{"who": "guest", "go": at("/connect"), "code": w.Code, "see": "40010", "look": "18-held-by-another"})
		page = fmt.Sprint(b.Do(step{"who": "guest", "eval": "document.querySelector('#refused').innerText"})[0])
		viewer = w.refused(guestAccount+"/"+Computer, guestPassword)
		for who, says := range map[string]string{"the page": page, "a viewer": viewer} {
			if !strings.Contains(says, "40010") || !strings.Contains(says, Account+" has been in control since") {
				w.T.Errorf("%s says %q", who, says)
			}
		}
		if said := b.Do(step{"who": "guest", "eval": fmt.Sprintf("fetch('/api/hosts/%s/connectability').then(a => a.text())", id)})[0].(string); !strings.Contains(said, `"code":40010`) || !strings.Contains(said, Account) {
			w.T.Errorf("the API says %s", said)
		}
		types("not disturbed", step{})
	})
	part("S13", func() { // who watches sees, and does no more; control is asked for
		b.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"},
			step{"who": "guest", "go": at("/connect?role=watch"), "code": w.Code, "see": "you watch", "gone": "#login"},
			step{"who": "guest", "type": "not this\n", "look": "19-watching"},
			step{"page": 1, "who": "guest", "go": "/computers", "see": "In use", "look": "20-in-use"}, step{"page": 1, "who": "guest", "close": true},
			step{"who": "guest", "click": "#take", "see": "Asking " + Account}, step{"click": "#keep"}, step{"who": "guest", "see": "40011"})
		types("seen by another", step{})
	})
	part("S30", func() { // a browser and a viewer are refused in the same words, and leave the same record
		v, err := w.ClientAs(Account+"/"+Computer+"/watch", w.Password)
		w.Check(err)
		b.Do(step{"go": at("/connect?role=watch"), "code": w.Code, "gone": "#login"})
		v.Close()
		b.Do(step{"click": "#leave", "see": "It lasted"})
		_, remedy, _ := strings.Cut(viewer, "; ") // before the detail, which names an address
		remedy, detail, _ := strings.Cut(remedy, " (")
		_, detail, _ = strings.Cut(detail, "): ") // how, with that viewer
		if detail == "" || remedy == "" || !strings.Contains(page, detail) || !strings.Contains(strings.ToLower(page), remedy) {
			w.T.Errorf("the page says %q, a viewer %q", page, viewer)
		}
		records := map[string]string{}
		w.Until("the ends are recorded", func() (bool, error) {
			text := b.Do(step{"eval": "fetch('/api/admin/audit?kind=session').then(a => a.text())"})[0].(string)
			for line := range strings.Lines(text) {
				var e map[string]any
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					return false, err
				}
				if e["role"] == "watch" && e["account"] == Account && (e["kind"] == "session.start" || e["kind"] == "session.end" && e["detail"] == nil) {
					records[fmt.Sprint(e["door"], e["kind"])] = fmt.Sprint(e["account"], e["computer"], e["computer_id"], slices.Sorted(maps.Keys(e)))
				}
			}
			return len(records) == 4, fmt.Errorf("%v", records)
		})
		for _, kind := range []string{"session.start", "session.end"} {
			if web, rfb := records["web"+kind], records["rfb"+kind]; web != rfb {
				w.T.Errorf("%s of the browser is %s, of the viewer %s", kind, web, rfb)
			}
		}
	})
	shown := func() bool {
		return b.Do(step{"eval": "Boolean(document.querySelector('#desk')?.checkVisibility())"})[0] == true
	}
	part("S14", func() { // an account alone, or with a wrong log-in of the computer, shows nothing
		b.Do(step{"go": at("/connect"), "see": "Log in to this computer"})
		none := shown()
		b.Do(step{"code": "not the code", "see": "1326"})
		if none || shown() {
			w.T.Error("the page shows a desktop")
		}
	})
	part("S21", func() { // the account's password is not the computer's, goes nowhere, and does not stand in the way
		b.Do(step{"go": at("/connect"), "code": w.Password, "see": "1326", "look": "21-wrong-code"})
		if text := b.Do(step{"eval": "document.querySelector('#login').innerText"})[0].(string); !strings.Contains(text, "not your account password") || shown() {
			w.T.Errorf("the page says %q, and shows a desktop: %v", text, shown())
		}
		if left := disclosing(w.relayHas(b.frames()), w.Password); slices.ContainsFunc(left, func(s string) bool { return !strings.HasPrefix(s, "memory") }) {
			w.T.Errorf("the account's password, typed at the wrong place, is in %q", left)
		}
		b.Do(step{"code": w.Code, "see": "Full screen"})
	})
	part("S24", func() { // what comes before the log-in is no picture; then it comes at once, without signing in again
		before := w.passed(b)
		b.Do(step{"go": at("/connect"), "see": "Log in to this computer"})
		if n := w.passed(b) - before; n > 8<<10 {
			w.T.Errorf("%d bytes have come before any log-in; a picture may be in them", n)
		}
		b.Do(step{"code": w.Code, "see": "Full screen"})
		w.Within(20*time.Second, "the picture", func() (bool, error) {
			n := w.passed(b) - before
			return n > 16<<10, fmt.Errorf("%d bytes", n)
		})
	})
	part("host login is nowhere", func() { // while the session goes on, through the browser and through SSH
		w.sshHome()
		conn, err := w.Net.Dial(w.Ctx, "viewer", "127.0.0.1:"+w.forward("watch."+Computer))
		w.Check(err)
		v, err := rfbtest.Handshake(conn, rfbtest.Config{Security: uint8(rfb.SecRA2256), Password: w.Code, Encodings: []int32{rfb.Raw}})
		w.Check(err)
		defer v.Close()
		planted := rig.Secret(12)
		b.Do(step{"go": at("/connect"), "login": step{"user": w.Owner.Name, "password": secret}, "see": "Full screen"},
			step{"who": "guest", "go": at("/connect?role=watch"), "code": w.Code, "see": "you watch", "gone": "#login"})
		types(planted, step{})
		b.Do(step{"who": "guest", "click": "#take", "see": "Asking " + Account}) // who does not answer
		canaries := map[string]string{"code": w.Code, "password": secret}
		all := w.relayHas(b.frames())
		for name, canary := range canaries {
			if where := disclosing(all, canary); len(where) > 0 {
				w.T.Errorf("during the session the %s is in %q", name, where)
			}
		}
		if where := disclosing(all, planted); !slices.ContainsFunc(where, func(s string) bool { return strings.HasPrefix(s, "frames") }) {
			w.T.Errorf("what was typed to the desktop, which the relay passes on in clear, is found only in %q: this test proves nothing", where)
		}
		if where := disclosing(all, Account); len(where) < 3 {
			w.T.Errorf("the account's name is found only in %q: this test proves nothing", where)
		}
		v.Close()
		b.Do(step{"who": "guest", "see": "40012: " + Account + " did not answer"}, step{"click": "#leave", "see": "It lasted"})
		all = w.relayHas(b.frames())
		for name, canary := range canaries {
			if where := disclosing(all, canary); len(where) > 0 {
				w.T.Errorf("after the session the %s is in %q", name, where)
			}
		}
	})
	// The log-in of the computer; what is wrong has a number and is typed again at once. Meanwhile control becomes free of who had it in a
	// browser that was killed, so all these watch.
	part("log-in", func() {
		other := w.Chromium(false)
		other.SignIn("", guestAccount, guestPassword)
		other.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"})
		other.kill()
		killed := time.Now()
		watch := step{"go": at("/connect?role=watch"), "see": "Log in to this computer"}
		login := func(user, password string) step { return step{"login": step{"user": user, "password": password}} }
		said := func(s step, code string) string {
			w.T.Helper()
			s["see"] = code + ": "
			b.Do(s)
			return fmt.Sprint(b.Do(step{"eval": "document.querySelector('#login-error').innerText"})[0])
		}
		w.Run("S15", func() { // PAM decides about the user and password of the computer
			b.Do(watch)
			for _, c := range []struct {
				code   string
				change []string
			}{{"1331", []string{"chage", "-E", "1"}}, {"1330", []string{"chage", "-d", "0"}}, {"1326", []string{"usermod", "-L"}}} {
				_, err := w.Set.Output(w.Ctx, rig.Program{Args: append(c.change, w.Owner.Name)})
				w.Check(err)
				if no := said(login(w.Owner.Name, secret), c.code); c.code != "1326" && !strings.Contains(no, w.Owner.Name) {
					w.T.Errorf("after %q: %s", c.change, no)
				}
				for _, back := range [][]string{{"usermod", "-U"}, {"chage", "-E", "-1", "-d", "20000"}} {
					_, err := w.Set.Output(w.Ctx, rig.Program{Args: append(back, w.Owner.Name)})
					if len(back) > 2 { // an account that is not locked cannot be unlocked
						w.Check(err)
					}
				}
			}
			b.Do(login(w.Owner.Name, secret), step{"see": "you watch", "gone": "#login"})
		})
		w.Run("S16", func() { // the computer has an access code, and asks for that and for nothing else
			b.Do(watch)
			if asks := b.Do(step{"eval": `[...document.querySelectorAll("#login-form input")].filter(e => e.checkVisibility()).map(e => document.querySelector("label[for=" + e.id + "]").textContent).join()`})[0]; asks != "Computer Access Code" {
				w.T.Errorf("it asks for %q", asks)
			}
			b.Do(step{"code": w.Code, "see": "you watch", "gone": "#login"})
		})
		w.Run("S17", func() { // which of the two it asks for is the computer's to say; the other one can be had
			b.Do(watch, step{"see": "Use a user name instead"})
			if user := b.Do(step{"eval": "document.querySelector('#user').value"})[0]; user != w.Owner.Name {
				w.T.Errorf("the last user is not there again, but %q", user)
			}
			_, err := w.Hostd.Do(w.Ctx, "", "code", "clear")
			w.Check(err)
			w.Until("it asks for a user", func() (bool, error) {
				return b.Do(watch, step{"eval": "document.querySelector('#user-row').checkVisibility()"})[0] == true, nil
			})
			_, err = w.Hostd.Do(w.Ctx, w.Code+"\n", "code", "set", "--stdin")
			w.Check(err)
		})
		w.Run("S23", func() { // a wrong user and a wrong password are one; who may try again does so at once, until the lock-out
			b.Do(watch)
			began := time.Now()
			wrong := said(login(w.Owner.Name, "not the password"), "1326")
			between := time.Now()
			unknown := said(login(w.Owner.Name+"x", secret), "1326")
			if took, other := between.Sub(began), time.Since(between); wrong != unknown || (took-other).Abs() > time.Second {
				w.T.Errorf("a wrong password is refused by %q after %v, an unknown user by %q after %v", wrong, took, unknown, other)
			}
			access := w.file("access.conf")
			w.Check(os.WriteFile(access, []byte("- : "+w.Owner.Name+" : ALL\n"), 0o644))
			pamService(w.T, "", "account required pam_access.so accessfile="+access+"\n")
			if no := said(login(w.Owner.Name, secret), "5"); !strings.Contains(no, w.Owner.Name) {
				w.T.Errorf("no right: %q", no)
			}
			b.Do(step{"look": "22-no-right"})
			pamService(w.T, "", "")
			for range 3 {
				said(login(w.Owner.Name, "not the password"), "1326")
			}
			if locked := said(login(w.Owner.Name, secret), "1909"); !regexp.MustCompile(`until \d\d:\d\d`).MatchString(locked) {
				w.T.Errorf("locked out: %q", locked)
			}
			b.Do(step{"look": "23-locked-out"}, step{"code": w.Code, "see": "you watch", "gone": "#login"}) // a target of its own
		})
		w.Run("S34 vanished", func() { // the grace time is 15 s
			w.Within(max(20*time.Second-time.Since(killed), time.Second), "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
		})
	})
	outside := func(from string) {
		l, err := w.Net.Listen("host", hostAddr+":"+PortRFB)
		w.Check(err)
		defer l.Close()
		if c, err := w.reach(from, hostAddr+":"+PortRFB); err == nil {
			c.Close()
			w.T.Errorf("%s reaches the computer", from)
		}
	}
	part("S32", func() { outside("relay") })  // nothing comes in at the computer, with which all of this works
	part("S33", func() { outside("viewer") }) // nor has the viewer a way to it
	part("administrator", func() {            // the pages of the relay's administrator, and of nobody else
		for _, page := range []string{"accounts", "computers", "sessions", "blocks", "audit"} {
			b.Do(step{"go": "/admin/" + page, "see": "Sign out", "look": "25-admin-" + page})
			if got := b.Do(step{"who": "guest", "go": "/admin/" + page, "eval": "document.body.innerText"})[0].(string); strings.Contains(got, Account) {
				w.T.Errorf("%s tells who is no administrator:\n%s", page, got)
			}
		}
	})
	part("S34", func() { // control is free when its holder has ended the session, or has gone to another page
		for _, end := range []step{{"click": "#leave", "see": "It lasted"}, {"go": "/computers", "see": "Computers"}} {
			end["who"] = "guest"
			b.Do(step{"who": "guest", "go": at("/connect"), "code": w.Code, "see": "Full screen"}, end)
			w.Within(5*time.Second, "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
		}
	})
	// teaches checks that a page has texts, in that order.
	teaches := func(path string, texts ...string) {
		w.T.Helper()
		page := fmt.Sprint(b.Do(step{"go": path, "eval": "document.documentElement.textContent"})[0])
		rest := regexp.MustCompile(`\s+`).ReplaceAllString(page, " ")
		for _, text := range texts {
			_, behind, there := strings.Cut(rest, text)
			if !there {
				w.T.Errorf("%s does not say %q where it belongs", path, text)
				continue
			}
			rest = behind
		}
	}
	part("S35", func() { // the pages teach: what must hold, what comes of each step, and the questions that people have
		teaches("/computers", "takes control: the computer asks for its own log-in first", "is on, connected to the Internet and runs hostd", "Which password does it want?", "Do I stay logged in there?")
		teaches("/computers/add", "is on, connected to the Internet, and has hostd installed", "run it in a terminal", "as Online", "its own log-in", "Make the line to run on it")
		teaches(at("/connect"), "Not your account password", "Forgotten, or worried?", "Access Code", "sudo hostd code set", "SSH door")
		teaches(at(""), "is on, connected to the Internet, and runs hostd", "TigerVNC", "SSH", "one-time code")
	})
	part("S36", func() { // the code is found by both of its names, and an account by its e-mail address
		teaches("/computers", "Computer Access Code (some say computer passcode)")
		teaches(at("/connect"), "Computer Access Code (some say computer passcode)")
		teaches("/account", "The name of your account is your e-mail address, "+Account)
		readme, err := os.ReadFile("../../README.md")
		w.Check(err)
		if !strings.Contains(string(readme), "Computer Access Code (also known as computer passcode)") {
			w.T.Error("README does not know both names")
		}
	})
	part("key has changed", func() { // what a computer shows is compared before anything is sent
		b.Do(step{"go": at("/connect"), "see": "Log in to this computer"}, step{"forge": true}, step{"go": at("/connect"), "see": "The key of this computer has changed", "look": "24-changed"},
			step{"click": "#trust", "see": "Log in to this computer"})
	})
	part("S25", func() { // there is nothing to install; that one's own viewer does as well is said once, to each person
		for who, button := range map[string]string{"": "Show me how", "guest": "Do not show again"} {
			b.Do(step{"who": who, "go": "/computers", "see": "A viewer of your own works, too", "look": "26-hint"}, step{"who": who, "click": "text=" + button, "gone": ".hint"})
			if who == "" {
				b.Do(step{"at": at("#viewer"), "see": "vncviewer -via"})
			}
			b.Do(step{"who": who, "go": "/computers", "see": "Online", "gone": ".hint"})
		}
	})
	part("S31", func() { // renamed and removed by its owner, and then cut off
		b.Do(step{"page": 4, "go": at("/connect"), "code": w.Code, "see": "Full screen"},
			step{"go": at(""), "fill": step{"#name": "laptop"}, "see": "laptop"},
			step{"page": 4, "type": "x"},
			step{"click": "#again"})
		removed := time.Now()
		b.Do(step{"fill": step{"#again": "laptop"}, "see": "No computers yet"}, step{"page": 4, "see": "40014"})
		w.Within(5*time.Second-time.Since(removed), "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
		b.Do(step{"page": 4, "go": at("/connect"), "see": "40008"})
		w.Within(10*time.Second, "the computer is cut off", func() (bool, error) {
			computers, err := w.Computers()
			return len(computers) == 0, err
		})
	})
}

// frames is the file with all that has gone through the browser's WebSockets: what the relay passes on.
func (b *Chromium) frames() string { return filepath.Join(b.dir, "frames") }

// passed is how many bytes that is.
func (w *World) passed(b *Chromium) int64 {
	st, err := os.Stat(b.frames())
	w.Check(err)
	return st.Size()
}

// reach tries to connect from a party, for a second.
func (w *World) reach(party, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(w.Ctx, time.Second)
	defer cancel()
	return w.Net.Dial(ctx, party, address)
}

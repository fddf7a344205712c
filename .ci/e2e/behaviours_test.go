package e2e

import (
	"bytes"
	"context"
	"fmt"
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
			step{"page": 1, "see": "Online"}, // by itself
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
				step{"who": "guest", "fill": step{"#email": email}, "see": "Password of your account", "eval": "document.querySelector('#email').value"},
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
	part("S4 and keyboard", func() { // from the sign-in to the session and out of it by keys alone
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
	part("S5", func() { // links are links
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
	part("S12 and S30", func() { // another person's control is named, alike on the page and in a viewer, and not disturbed
		share("control")
		b.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"},
			step{"who": "guest", "go": at("/connect"), "code": w.Code, "see": "40010", "look": "18-held-by-another"})
		page := fmt.Sprint(b.Do(step{"who": "guest", "eval": "document.querySelector('#refused').innerText"})[0])
		viewer := w.refused(guestAccount+"/"+Computer, guestPassword)
		_, detail, _ := strings.Cut(viewer, ": ")
		detail, _, _ = strings.Cut(detail, ";")
		if !strings.HasPrefix(viewer, "40010: "+Account) || !strings.Contains(page, "40010") || !strings.Contains(page, detail) {
			w.T.Errorf("the page says %q, a viewer %q", page, viewer)
		}
		types("not disturbed", step{})
	})
	part("S13", func() { // who watches sees, and does no more
		b.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"},
			step{"who": "guest", "go": at("/connect?role=watch"), "code": w.Code, "see": "you watch", "gone": "#login"},
			step{"who": "guest", "type": "not this\n", "look": "19-watching"},
			step{"page": 1, "who": "guest", "go": "/computers", "see": "In use", "look": "20-in-use"}, step{"page": 1, "who": "guest", "close": true})
		types("seen by another", step{})
	})
	part("S14, S21 and S24", func() { // an account alone shows nothing, and its password opens nothing
		before := w.passed(b)
		b.Do(step{"go": at("/connect"), "code": w.Password, "see": "1326", "look": "21-wrong-code"})
		got := b.Do(step{"eval": "[document.querySelector('#login').innerText, Boolean(document.querySelector('#screen')?.checkVisibility())]"})[0].([]any)
		if text := got[0].(string); !strings.Contains(text, "Not your account password") || got[1] != false {
			w.T.Errorf("the page says %q, and shows a desktop: %v", text, got[1])
		}
		if n := w.passed(b) - before; n > 8<<10 {
			w.T.Errorf("%d bytes have come before any log-in; a picture may be in them", n)
		}
		if left := disclosing(w.relayHas(b.frames()), w.Password); slices.ContainsFunc(left, func(s string) bool { return !strings.HasPrefix(s, "memory") }) {
			w.T.Errorf("the account's password, typed at the wrong place, is in %q", left)
		}
		b.Do(step{"code": w.Code, "see": "Full screen"}, step{"click": "#leave", "see": "It lasted"}) // at once, without signing in again
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
		b.Do(step{"click": "#leave", "see": "It lasted"})
		all = w.relayHas(b.frames())
		for name, canary := range canaries {
			if where := disclosing(all, canary); len(where) > 0 {
				w.T.Errorf("after the session the %s is in %q", name, where)
			}
		}
	})
	// The user and password of the computer; what is wrong has a number and is typed again at once. Meanwhile control becomes free of who
	// had it in a browser that was killed.
	part("S15, S16, S17, S23 and S34", func() {
		other := w.Chromium(false)
		other.SignIn("", guestAccount, guestPassword)
		other.Do(step{"go": at("/connect"), "code": w.Code, "see": "Full screen"})
		other.kill()
		killed := time.Now()
		login := func(user, password string) step { return step{"login": step{"user": user, "password": password}} }
		said := func(s step, code string) string {
			s["see"] = code + ": "
			b.Do(s)
			return fmt.Sprint(b.Do(step{"eval": "document.querySelector('#login-error').innerText"})[0])
		}
		b.Do(step{"go": at("/connect"), "see": "Use a user name instead", "gone": "#user-row"}) // it has an access code, and asks for that
		if user := b.Do(step{"eval": "document.querySelector('#user').value"})[0]; user != w.Owner.Name {
			w.T.Errorf("the last user is not there again, but %q", user)
		}
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
		b.Do(step{"look": "23-locked-out"})
		w.Within(max(20*time.Second-time.Since(killed), time.Second), "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
		b.Do(step{"code": w.Code, "see": "Full screen"}) // a target of its own
	})
	part("S32 and S33", func() { // nothing comes in at the computer, and the viewer has no way to it
		l, err := w.Net.Listen("host", hostAddr+":"+PortRFB)
		w.Check(err)
		defer l.Close()
		for _, from := range []string{"viewer", "relay"} {
			if c, err := w.reach(from, hostAddr+":"+PortRFB); err == nil {
				c.Close()
				w.T.Errorf("%s reaches the computer", from)
			}
		}
	})
	part("administrator", func() { // the pages of the relay's administrator, and of nobody else
		for _, page := range []string{"accounts", "computers", "sessions", "blocks", "audit"} {
			b.Do(step{"go": "/admin/" + page, "see": "Sign out", "look": "25-admin-" + page})
			if got := b.Do(step{"who": "guest", "go": "/admin/" + page, "eval": "document.body.innerText"})[0].(string); strings.Contains(got, Account) {
				w.T.Errorf("%s tells who is no administrator:\n%s", page, got)
			}
		}
	})
	part("S34", func() { // control is free when its holder is gone
		b.Do(step{"who": "guest", "go": at("/connect"), "code": w.Code, "see": "Full screen"}, step{"who": "guest", "go": "/computers", "see": "Computers"})
		w.Within(5*time.Second, "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
	})
	part("S35 and S36", func() { // the pages teach, by both names of the code
		for path, words := range map[string][]string{
			"/computers":     {"is on, connected to the Internet and runs hostd", "takes control"},
			"/computers/add": {"Make the line to run on it"},
			at("/connect"):   {"access code", "sudo hostd code set", "SSH door"},
			at(""):           {"TigerVNC", "SSH", "one-time code"},
		} {
			got := fmt.Sprint(b.Do(step{"go": path, "eval": "document.documentElement.textContent"})[0])
			for _, word := range words {
				if !strings.Contains(regexp.MustCompile(`\s+`).ReplaceAllString(got, " "), word) {
					w.T.Errorf("%s does not say %q", path, word)
				}
			}
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
			step{"fill": step{"#again": "laptop"}, "see": "No computers yet"},
			step{"page": 4, "see": "Session ended"},
			step{"page": 4, "go": at("/connect"), "see": "40008"})
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

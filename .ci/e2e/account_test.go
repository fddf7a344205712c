package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
)

// An administrator invites a person, who makes an account in the browser, sets up an authenticator and a passkey, and signs in with each
// of them and with a recovery code. The viewer's door then wants a one-time code.
func TestAccount(t *testing.T) {
	w := NewWorld(t, Options{Time: 4 * time.Minute})
	const root, bob, chosen = "root@example.com", "bob@example.com", "halyard-spinnaker-7"
	_, err := w.Relayd.Do(w.Ctx, w.Password+"\n", "account", "add", root, "--admin", "--password-stdin")
	w.Check(err)
	b := w.Chromium(false)
	b.SignIn("root", root, w.Password)
	b.Do(step{"who": "root", "go": "/account", "click": "a[href='/admin/invite']", "see": "Nobody has an account without", "look": "invite"})
	link := b.Do(step{"who": "root", "fill": step{"#email": bob}, "see": "in a way that only they can read", "look": "invited"},
		step{"who": "root", "eval": "document.querySelector('#link').textContent"})[0].(string)
	path := link[strings.Index(link, "/welcome"):]

	b.Do(step{"go": "/welcome", "see": "Your code, please", "look": "code"},
		step{"fill": step{"#code": "aaaa-bbbb-cccc-dddd"}, "see": "40024"},
		step{"go": "/computers"}, step{"go": path, "see": "Choose a password", "look": "welcome"})
	if at := b.Do(step{"eval": "location.href"})[0].(string); strings.Contains(at, "#") {
		t.Errorf("the code stays in the address: %s", at)
	}
	b.Do(step{"fill": step{"#password": chosen, "#again": chosen}, "see": "The account is yours", "look": "account-new"},
		step{"click": "a[href='/account/authenticator']", "see": "Scan this", "look": "authenticator"})
	text := b.Do(step{"eval": "document.querySelector('code.line').textContent"})[0].(string)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(strings.ReplaceAll(text, "-", "")))
	w.Check(err)
	code := func(step int64) string {
		mac := hmac.New(sha1.New, secret)
		_ = binary.Write(mac, binary.BigEndian, step)
		sum := mac.Sum(nil)
		return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1000000)
	}
	now := time.Now().Unix() / 30
	b.Do(step{"fill": step{"#code": "000000"}, "see": "40055", "axe": true})
	recovery := b.Do(step{"fill": step{"#code": code(now)}, "see": "not shown again", "look": "recovery"},
		step{"eval": "[...document.querySelectorAll('.codes code')].map(e => e.textContent).join(' ')"})[0].(string)

	signOut := step{"click": ".top button", "see": "Sign in to Helmline"}
	password := []step{signOut, {"fill": step{"#email": bob}, "see": "Password of your account"}, {"fill": step{"#password": chosen}, "see": "Code of your authenticator"}}
	b.Do(append(password, step{"look": "factor"}, step{"fill": step{"#code": code(now)}, "see": "40055"},
		step{"fill": step{"#code": code(now + 1)}, "at": "/computers"})...)
	b.Do(append(password, step{"click": "input[name=trust]"}, step{"fill": step{"#code": strings.Fields(recovery)[0]}, "at": "/computers"},
		signOut, step{"fill": step{"#email": bob}, "see": "Password of your account"}, step{"fill": step{"#password": chosen}, "at": "/computers"},
		step{"go": "/account", "see": "not asked until"}, step{"click": "form[action='/account/devices/remove'] button", "gone": "form[action='/account/devices/remove']"})...)

	b.Do(step{"click": "a[href^='/account/confirm']"}, step{"fill": step{"#password": chosen, "#code": strings.Fields(recovery)[1]}, "at": "/account"},
		step{"passkeys": true, "fill": step{"#passkey": "phone <b>"}, "see": "phone b"},
		step{"fill": step{"#token": "backups"}, "see": "The new token"},
		step{"see": "8 left", "look": "account-full"}, signOut,
		step{"click": "form[data-ask] button", "at": "/computers", "see": bob},
		signOut, step{"passkeys": false, "click": "form[data-ask] button", "see": "Nothing was chosen"})
	b.Do(append(password[1:], step{"passkeys": true, "click": "form[data-ask] button", "at": "/computers"},
		step{"go": "/account/confirm?next=%2Faccount", "see": "Confirm that it is you", "look": "confirm"},
		step{"click": "form[data-ask] button", "at": "/account"})...)
	// Real viewers wait for the page; one that leaves meanwhile is asked for no more.
	_, err = w.Relayd.Do(w.Ctx, "", "host", "share", Computer, bob, "control")
	w.Check(err)
	b.Do(step{"go": "/computers"})
	left := w.TigerVNCAs(bob, chosen, "")
	b.Do(step{"see": "wants to sign in", "look": "ask"})
	left.Proc.End()
	b.Do(step{"gone": "#asks form"})
	for _, start := range []func() *Viewer{
		func() *Viewer { return w.TigerVNCAs(bob, chosen, "") },
		func() *Viewer { return w.RemminaAs(bob, chosen, 9) },
	} {
		v := start()
		b.Do(step{"see": "wants to sign in"}, step{"click": "#asks button.primary", "gone": "#asks form"})
		v.window(v.title)
		v.Proc.End()
	}
	b.Do([]step{
		{"go": "/account", "click": "form[action='/account/passkeys/remove'] button", "gone": "form[action='/account/passkeys/remove']"},
		signOut, {"click": "form[data-ask] button", "see": "40056"}}...)

	if _, err := w.Client(bob, chosen, ""); err == nil || !strings.Contains(err.Error(), "40054") {
		t.Errorf("bob at the viewer's door: %v", err)
	}
}

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// pamName is the PAM service of a test's hostd.
const pamName = "hl-e2e-pam"

// pamLogin has hostd ask for user name and password, of the test's own PAM service.
const pamLogin = `code_first = "password"
pam_service = "` + pamName + `"`

// pamService writes the PAM service of the test: the one that is installed with hostd, between more lines of the test's. It may be
// written anew at any time, and is removed at the test's end.
func pamService(t *testing.T, before, behind string) {
	t.Helper()
	path := filepath.Join("/etc/pam.d", pamName)
	text, err := os.ReadFile("../../systemd/hostd.pam")
	if err == nil {
		t.Cleanup(func() { os.Remove(path) })
		err = rig.WriteFile(path, before+string(text)+behind)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An osViewer is a viewer of our own that logs in with user name and password. It sees if a pixel of a colour ever comes.
type osViewer struct {
	*rfbtest.Client
	w    *World
	seen chan error // nil: the colour has come
}

// osViewer opens the form, with the mode "", "/watch" or "/take". never is the colour of what its user must not see.
func (w *World) osViewer(mode string, never uint32) *osViewer {
	w.T.Helper()
	c, err := w.Client(Account, w.Password, mode)
	w.Check(err)
	v := &osViewer{c, w, make(chan error, 1)}
	go func() { // ends with the connection, at the latest
		v.seen <- c.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), never) != 0 }, time.Hour)
	}()
	w.T.Cleanup(c.Close)
	return v
}

// refused types a log-in and waits for its refusal by that number, which the form shows.
func (v *osViewer) refused(user, password, code string) {
	v.w.T.Helper()
	before, updates := v.w.refusals(), v.Updates()
	v.logIn(user, password)
	v.w.Until("a refusal", func() (bool, error) { return len(v.w.refusals()) > len(before), nil })
	if line := v.w.refusals()[len(before)]; !strings.Contains(line+" ", "code="+code+" ") {
		v.w.T.Errorf("the refusal is not %s: %s", code, line)
	} else if strings.Contains(line, user) || strings.Contains(line, password) {
		v.w.T.Errorf("what was typed is in the log: %s", line)
	}
	v.w.Check(v.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > updates }, 10*time.Second))
}

// logIn fills in the form, which has the user field empty.
func (v *osViewer) logIn(user, password string) {
	v.w.T.Helper()
	v.w.Check(v.Type(user + "\t" + password + "\n"))
}

// end closes the connection and says so if the forbidden colour has ever been there.
func (v *osViewer) end() {
	v.w.T.Helper()
	v.Close()
	if err := <-v.seen; err == nil {
		v.w.T.Error("a picture of somebody else's desktop, or of one's own before the log-in, has come")
	}
}

// refusals are the lines of hostd's log about log-ins that it did not let in.
func (w *World) refusals() (lines []string) {
	for line := range strings.Lines(string(must(os.ReadFile(w.log("hostd"))))) {
		if strings.Contains(line, "log-in refused") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// A user of this computer logs in by name and password, through PAM, to a desktop of that user's. Everything PAM has against it has its
// number, and not one pixel of the desktop is sent before.
func TestPAMUser(t *testing.T) {
	pamService(t, "", "")
	w := NewWorld(t, Options{Login: pamLogin, Time: 5 * time.Minute})
	f := w.Furnish()
	user, secret := w.Owner.Name, rig.Secret(12)
	w.Check(w.Set.SetPassword(w.Ctx, w.Owner, secret))
	account := func(args ...string) {
		t.Helper()
		_, err := w.Set.Output(w.Ctx, rig.Program{Args: append(args, user)})
		w.Check(err)
	}
	access := w.file("access.conf")
	w.Check(os.WriteFile(access, []byte("- : "+user+" : ALL\n"), 0o644))

	for _, c := range []struct {
		name, user, password, code string
		before, after              func()
	}{
		{name: "wrong password", user: user, password: "not the password", code: "1326"},
		{name: "unknown user", user: user + "x", password: secret, code: "1326"},
		{name: "account expired", user: user, password: secret, code: "1331",
			before: func() { account("chage", "-E", "1") }},
		{name: "account expired, and the password is wrong", user: user, password: "not the password", code: "1326",
			after: func() { account("chage", "-E", "-1") }},
		{name: "password must be changed", user: user, password: secret, code: "1330",
			before: func() { account("chage", "-d", "0") },
			after:  func() { w.Check(w.Set.SetPassword(w.Ctx, w.Owner, secret)) }},
		{name: "permission denied", user: user, password: secret, code: "5",
			before: func() { pamService(t, "", "account required pam_access.so accessfile="+access+"\n") }},
		{name: "too many tries, by PAM", user: user, password: secret, code: "1909",
			before: func() { pamService(t, "auth requisite pam_debug.so auth=maxtries\n", "") },
			after:  func() { pamService(t, "", "") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func(outer *testing.T) { w.T = outer }(w.T)
			w.T = t
			if c.before != nil {
				c.before()
			}
			v := w.osViewer("", background)
			v.refused(c.user, c.password, c.code)
			v.end()
			if c.after != nil {
				c.after()
			}
		})
	}

	v, err := w.Client(Account, w.Password, "")
	w.Check(err)
	defer v.Close()
	w.Check(v.Type(user + "\t" + secret + "\n"))
	w.Until("control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
	w.Check(v.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), background) > 0 }, 20*time.Second))
	w.Check(v.Type("by password\n"))
	f.WaitTyped("by password\n")
	v.Close()

	for range 3 {
		v := w.osViewer("", background)
		v.refused(user, "not the password", "1326")
		v.end()
	}
	locked := w.osViewer("", background)
	locked.refused(user, secret, "1909")
	locked.end()
}

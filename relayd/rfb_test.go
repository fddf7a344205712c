package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/registry"
)

func TestViewerReachesItsComputer(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", nil)
	v, err := r.viewer("alice@example.com/DESK7/watch", password)
	if err != nil {
		t.Fatal(err)
	}
	if name := v.Name(); name != "desk of alice@example.com" {
		t.Errorf("the viewer sees %q", name)
	}
	h := within(t, desk.headers, "stream")
	if h.Purpose != tunnel.RFBInit || h.Role != tunnel.RoleWatch || h.Minor != 8 || h.Account != "alice@example.com" ||
		!strings.HasPrefix(h.Viewer, "127.0.0.1:") || h.Session == "" {
		t.Errorf("the computer is told %+v", h)
	}
	list, err := r.admin.Sessions(context.Background())
	if err != nil || len(list) != 1 || list[0].ID != h.Session || list[0].Role != "watch" || list[0].Computer != "desk7" || list[0].Door != "rfb" {
		t.Errorf("sessions: %+v, %v", list, err)
	}
	v.Close()
	if err := within(t, desk.ended, "end"); err != nil {
		t.Errorf("a viewer that left cleanly ended the computer's stream with: %v", err)
	}
	within(t, r.log.seen("viewer left"), "end of the session in the log")
	if list, err := r.admin.Sessions(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("sessions after it: %+v, %v", list, err)
	}
}

func TestRefusalsAtTheRFBDoor(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	r.computer("alice@example.com", "desk7", nil)
	r.computer("alice@example.com", "desk8", refusing(refuse.Held.Of("carol@example.com", "10:04"))).Hello()
	r.computer("alice@example.com", "desk9", nil).Close()
	if _, err := r.admin.ShareHost(context.Background(), "desk7", "bob@example.com", registry.RightWatch, time.Time{}); err != nil {
		t.Fatal(err)
	}
	within(t, r.log.seen("computer offline"), "computer going offline")
	for _, c := range []struct{ name, user, password, want string }{
		{"wrong password", "alice@example.com/desk7", "wrong", "40050: the account name or password is not right; try again"},
		{"unknown account", "mallory@example.com/desk7", password, "40050: the account name or password is not right; try again"},
		{"empty password", "alice@example.com/desk7", "", "40050: the account name or password is not right; try again"},
		{"empty name", "", password, "40050: the account name or password is not right; try again"},
		{"no computer named", "alice@example.com", password, "40009: no computer named; your computers: desk7, desk8, desk9: add /COMPUTER to the user name, as in alice@example.com/NAME"},
		{"unknown computer", "alice@example.com/desk1", password, "40008: no computer of that name is yours or shared with you; look it up on the relay's list of your computers"},
		{"somebody else's computer", "bob@example.com/desk8", password, "40008: no computer of that name is yours or shared with you; look it up on the relay's list of your computers"},
		{"unknown role", "alice@example.com/desk7/look", password, "40008: no computer of that name is yours or shared with you; look it up on the relay's list of your computers"},
		{"offline", "alice@example.com/desk9", password, "40001: desk9 is offline, last seen " + time.Now().UTC().Format("15:04") + " UTC; switch it on and check its network"},
		{"controlled", "alice@example.com/desk8", password, "40010: controlled; watch, or ask for control (a role stands behind the user name: /watch, /take): carol@example.com has been in control since 10:04"},
		{"may only watch", "bob@example.com/desk7", password, "40015: you may watch desk7, not control it; watch it, or ask its owner for the right (a role stands behind the user name: /watch, /take)"},
		{"may only watch, takes", "bob@example.com/desk7/take", password, "40015: you may watch desk7, not control it; watch it, or ask its owner for the right (a role stands behind the user name: /watch, /take)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := r.viewer(c.user, c.password)
			if err == nil {
				v.Close()
			}
			if got := reason(err); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	v, err := r.viewer("bob@example.com/desk7/watch", password)
	if err != nil {
		t.Fatalf("bob may watch: %v", err)
	}
	v.Close()
}

func TestSixthFailureIsRefusedUnseen(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	for i := 1; i <= 6; i++ {
		_, err := r.viewer("alice@example.com/desk7", "wrong")
		want := "40050: "
		if i == 6 {
			want = "40051: too many failed sign-ins"
		}
		if got := reason(err); !strings.HasPrefix(got, want) {
			t.Errorf("failure %d: %q, want %q", i, got, want)
		}
	}
	if _, err := r.viewer("alice@example.com/desk7", password); !strings.HasPrefix(reason(err), "40051: ") {
		t.Errorf("the right password of a blocked source: %v", err)
	}
}

func TestCodeDoor(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", nil)
	dial := func(c rfbtest.Config) (*rfbtest.Client, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c.Manual = true
		return rfbtest.Dial(ctx, r.ports["rfb_code"], c)
	}
	for _, c := range []struct {
		name   string
		config rfbtest.Config
		watch  bool
	}{
		{"inside TLS", rfbtest.Config{Roots: r.roots, ServerName: "localhost"}, false},
		{"in clear", rfbtest.Config{Security: 2}, true},
		{"in clear, RFB 3.7", rfbtest.Config{Security: 2, Minor: 7}, false},
		{"in clear, RFB 3.3", rfbtest.Config{Security: 2, Minor: 3}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, err := r.admin.MakeCode(context.Background(), "alice@example.com", "desk7", c.watch)
			if err != nil {
				t.Fatal(err)
			}
			c.config.Code = code.Code
			v, err := dial(c.config)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			h := within(t, desk.headers, "stream")
			role := tunnel.RoleControl
			if c.watch {
				role = tunnel.RoleWatch
			}
			minor := c.config.Minor
			if minor == 0 {
				minor = 8
			}
			if h.Role != role || int(h.Minor) != minor || h.Account != "alice@example.com" {
				t.Errorf("the computer is told %+v", h)
			}
			_, err = dial(c.config)
			want := refuse.CodeInvalid.Text()
			if minor < 8 {
				want = "" // cannot be shown
			}
			if got := reason(err); got != want {
				t.Errorf("the same code again: %q, want %q", got, want)
			}
		})
	}
}

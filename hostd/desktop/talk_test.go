package desktop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// A pageEnd is the relay's end of what a page and its session say to each other.
type pageEnd struct {
	net.Conn
	t testing.TB
}

// browse joins a browser: its session and, beside it, its words.
func browse(t testing.TB, s *server, account, name string) (*rfbtest.Client, *pageEnd) {
	t.Helper()
	conn, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleTake, Session: name, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rfbtest.Handshake(conn, rfbtest.Config{Security: uint8(rfb.SecRA2ne), User: "alice", Password: "pass word"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var talk net.Conn
	for end := time.Now().Add(patience); talk == nil; { // ServerInit comes a moment before the session can talk
		if talk, err = join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.Talk, Session: name, Account: account}); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	return c, &pageEnd{talk, t}
}

func (p *pageEnd) say(o any) {
	p.t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		err = tunnel.WriteWord(p, b)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// until waits for a word.
func (p *pageEnd) until(what string, come func(w pageWord) bool) {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	for {
		b, err := tunnel.ReadWord(p)
		var w pageWord
		if err == nil {
			err = json.Unmarshal(b, &w)
		}
		if err != nil {
			p.t.Fatalf("%s: %v", what, err)
		}
		if w.State == nil {
			w.State = &told{}
		}
		if come(w) {
			return
		}
	}
}

// Two pages: control is asked for, kept, handed over, given up and taken up again, and each is told.
func TestTalk(t *testing.T) {
	s, h := start(t, small)
	_, a := browse(t, s, alice, "a")
	a.until("control", func(w pageWord) bool { return w.State.Shows && w.State.Control && w.State.User == "alice" })
	a.say(order{Ping: 7})
	a.until("the answer to a ping", func(w pageWord) bool { return w.Pong == 7 })

	_, b := browse(t, s, bob, "b") // whose role is take: alice is asked at once
	var asker uint32
	a.until("a question", func(w pageWord) bool {
		asker = w.State.Asker
		return asker != 0 && w.State.Asks == bob && w.State.Left > 0
	})
	a.say(order{Answer: asker + 1, Grant: true}) // nobody asks so
	a.say(order{Answer: asker, Grant: true})
	b.until("control", func(w pageWord) bool { return w.State.Control })
	a.until("another's control", func(w pageWord) bool { return !w.State.Control && w.State.Holder == bob && w.State.Shows })

	a.say(order{Want: "control"})
	b.until("a question", func(w pageWord) bool { asker = w.State.Asker; return asker != 0 })
	b.say(order{Answer: asker})
	a.until("the refusal", func(w pageWord) bool {
		return w.State.Shows && !w.State.Asking && w.State.Refusal != nil && w.State.Refusal.Code == refuse.Denied.Code
	})
	b.say(order{Want: "watch"})
	a.until("nobody", func(w pageWord) bool { return w.State.Holder == "" })
	a.say(order{Want: "control"})
	a.until("control", func(w pageWord) bool { return w.State.Control && w.State.Refusal == nil })
	h.await("the holder", func() bool { return h.account(h.holder) == alice })

	h.with(func() { h.send(ipc.TypeAttach, ipc.Attach{Session: h.holder, Desktop: 1, User: "alice", Ends: true}) })
	a.until("the choice", func(w pageWord) bool { return w.State.AtEnd == "leave" })
	a.say(order{AtEnd: "burn"})
	a.say(order{AtEnd: "log off"})
	a.until("what was chosen", func(w pageWord) bool { return w.State.AtEnd == "log off" })
	h.await("what was chosen", func() bool { return slices.Equal(h.ends, []ipc.AtEnd{{Session: h.holder, Do: ipc.EndLogsOff}}) })
	a.say(order{End: true})
	h.await("the end", func() bool {
		return len(h.ends) == 2 && h.ends[1] == ipc.AtEnd{Session: h.holder, Do: ipc.EndLogsOff, Now: true}
	})
	h.with(func() { h.send(ipc.TypeEnded, ipc.Ended{Session: h.holder, Outcome: ipc.OutcomeFailed}) })
	a.until("what came of it", func(w pageWord) bool { return w.State.Ended == "failed" && !w.State.Over })
	h.with(func() { h.send(ipc.TypeEnd, ipc.End{Session: h.holder, Refusal: refuse.Ended.Of("root")}) })
	a.until("why it ends", func(w pageWord) bool {
		return w.State.Over && w.State.Refusal != nil && w.State.Refusal.Code == refuse.Ended.Code
	})
}

// Who may not talk, and what ends a talk.
func TestTalkRefused(t *testing.T) {
	s, _ := start(t, small)
	_, page := browse(t, s, alice, "a")
	for _, c := range []struct{ name, session, account string }{
		{"another account", "a", bob}, {"no such session", "b", alice}, {"a second time", "a", alice},
	} {
		_, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.Talk, Session: c.session, Account: c.account})
		if !refuse.NotResumed.Is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	conn, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleWatch, Session: "e", Account: bob})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rfbtest.Handshake(conn, rfbtest.Config{Security: uint8(rfb.SecRA2256), User: "alice", Password: "pass word"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	says(t, s, bob, c, "You are watching.") // it could talk from then on
	if _, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.Talk, Session: "e", Account: bob}); !refuse.NotResumed.Is(err) {
		t.Errorf("end to end: %v", err)
	}
	if err := tunnel.WriteWord(page, []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	page.SetReadDeadline(time.Now().Add(patience))
	for err = nil; err == nil; {
		_, err = tunnel.ReadWord(page)
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("a page that talks nonsense is heard on")
	}
}

// What a page folds into the password reaches hostd apart, and only by the security type of pages.
func TestUnfold(t *testing.T) {
	s, h := start(t, small)
	key := bytes.Repeat([]byte{9}, ipc.KeySize)
	folded := "pass word\x00" + base64.RawURLEncoding.EncodeToString(key)
	c, err := rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2ne), User: "alice", Password: folded})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sees(t, c, 1, 1, canary)
	h.with(func() {
		if l := h.logins[0]; string(l.Secret) != "pass word" || !bytes.Equal(l.Key, key) {
			t.Errorf("logged in with %q and %x", l.Secret, l.Key)
		}
	})
	if _, err := rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2256), User: "alice", Password: folded}); err == nil {
		t.Error("taken apart from another viewer")
	}
	h.with(func() { h.opened = refuse.Held.Of(bob, "10:04") }) // hostd keeps who logs in all the same
	_, err = rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2ne), User: "mallory", Password: folded})
	var refused *rfbtest.RefusedError
	h.with(func() {
		h.opened = nil
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, "5:") {
			t.Errorf("a log-in while another controls: %v", err)
		}
	})
	proof := ipc.AppendProof(nil, key, 1)
	_, _ = rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2ne), User: "alice", Password: "\x00" + base64.RawURLEncoding.EncodeToString(proof)})
	h.with(func() {
		if l := h.logins[len(h.logins)-1]; l.Method != ipc.MethodResume || !bytes.Equal(l.Secret, proof) {
			t.Errorf("resumed by method %d with %x", l.Method, l.Secret)
		}
	})
}

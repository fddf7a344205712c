package desktop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// A relayed connection keeps what the relay sees of it.
type relayed struct {
	net.Conn
	mu       sync.Mutex
	up, down bytes.Buffer // guarded by mu
}

func (c *relayed) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down.Write(p[:n])
	return n, err
}

func (c *relayed) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.up.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// has says whether the relay has seen a text.
func (c *relayed) has(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.up.Bytes(), []byte(text)) || bytes.Contains(c.down.Bytes(), []byte(text))
}

// fromVersion joins a viewer through the SSH door, perhaps with a one-time code.
func fromVersion(t testing.TB, s *server, account string, code ...string) *relayed {
	t.Helper()
	conn, err := join(t.Context(), t, s, tunnel.Header{Purpose: tunnel.RFB, Role: tunnel.RoleControl, Session: "s", Account: account, Code: strings.Join(code, "")})
	if err != nil {
		t.Fatal(err)
	}
	return &relayed{Conn: conn}
}

// From the first byte by RSA-AES: as by X509Plain, the log-in of RFB is the host login, and the relay sees nothing of it.
func TestRSAAES(t *testing.T) {
	s, h := start(t, small)
	codeOnly, _ := start(t, small, func(w *ipc.Welcome) { w.OSLogin = false })
	key, err := RSAKey(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	const few = ". 2 attempts left before a lock-out"
	for _, chosen := range []rfb.SecurityType{rfb.SecRA2256, rfb.SecRA2, rfb.SecRA2ne256, rfb.SecRA2ne} {
		bare := chosen == rfb.SecRA2ne || chosen == rfb.SecRA2ne256
		for _, tt := range []struct {
			name, user, password, reason string
			server                       *server
		}{
			{"password", "alice", "pass word", "", s},
			{"access code", "", "12345678", "", s},
			{"a space for no user", " ", "12345678", "", s},
			{"the code where only that works", "", "12345678", "", codeOnly},
			{"the code and a user who is not asked for", "bob", "12345678", "", codeOnly},
			{"wrong password", "alice", "wrong one", "1326: ", s},
			{"wrong code", "", "wrong one", "1326: ", s},
			{"the wrong code where only that works", "", "wrong one", "1326: ", codeOnly},
			{"no code", "", "", "1326: ", s},
			{"no right", "mallory", "pass word", "5: ", s},
		} {
			t.Run(chosen.String()+"/"+tt.name, func(t *testing.T) {
				conn := fromVersion(t, tt.server, alice)
				c, err := rfbtest.Handshake(conn, rfbtest.Config{
					Security: uint8(chosen), User: tt.user, Password: tt.password, Fingerprint: key.Fingerprint(),
				})
				if tt.reason != "" {
					var refused *rfbtest.RefusedError
					if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, tt.reason) {
						t.Fatalf("%v, not %s", err, tt.reason)
					}
					if strings.HasPrefix(tt.reason, "1326") && refused.Reason != refuse.WrongLogin.Text()+few && refused.Reason != refuse.WrongCode.Text()+few && tt.password != "" {
						t.Errorf("the reason is %q", refused.Reason)
					}
					// All that was sent: version, list, key, random number, hash, subtype and the reason. No room for a pixel.
					if n := conn.down.Len(); n > 12+6+516+130+50+19+8+rfb.MaxReason+18 {
						t.Errorf("%d bytes were sent", n)
					}
				} else if err != nil {
					t.Fatal(err)
				} else {
					defer c.Close()
					sees(t, c, 1, 1, canary)
					c.Close()
					if conn.has(c.Name()) != bare {
						t.Errorf("the relay sees the session: %v", !bare)
					}
				}
				if tt.password != "" && conn.has(tt.password) || len(tt.user) > 1 && bytes.Contains(conn.up.Bytes(), []byte(tt.user)) {
					t.Error("the relay sees the log-in")
				}
			})
		}
	}
	h.await("closes", func() bool { return len(h.sessions) == 0 })
	h.with(func() { h.opened = refuse.Held.Of(bob, "10:04") })
	_, err = rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2256), User: "alice", Password: "pass word"})
	var refused *rfbtest.RefusedError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, "40010: ") || !strings.HasSuffix(refused.Reason, ": bob@example.com has been in control since 10:04") || !strings.Contains(refused.Reason, "watch.desk7") {
		t.Fatal(err)
	}
}

// Which types are offered, and in which order.
func TestSecurityOffered(t *testing.T) {
	for _, tt := range []struct {
		name string
		e2e  bool
		code string
		want string
	}{
		{"by default", false, "", "\x05\x81\x05\x06\x13\x82"},
		{"with a code", false, "23456789", "\x06\x81\x05\x06\x13\x82\x02"},
		{"where sessions must be end to end", true, "", "\x03\x81\x05\x13"},
		{"where they must be, with a code", true, "23456789", "\x03\x81\x05\x13"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := start(t, small, func(w *ipc.Welcome) { w.RequireE2E = tt.e2e })
			conn := fromVersion(t, s, alice, tt.code)
			_, err := rfbtest.Handshake(conn, rfbtest.Config{Security: 16}) // which is not among them
			if got := conn.down.String()[len(rfb.VersionText):]; err == nil || got != tt.want {
				t.Errorf("offered % x, not % x; %v", got, tt.want, err)
			}
			for _, chosen := range []byte{1, 2, 6, 16, 17, 18, 30, 113, 130} { // whatever the viewer was told by somebody in between
				if strings.Contains(tt.want[1:], string([]byte{chosen})) {
					continue
				}
				conn := fromVersion(t, s, alice, tt.code)
				if _, err := conn.Write([]byte(rfb.VersionText + string([]byte{chosen}))); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n := 0
				for err = nil; err == nil; {
					var m int
					m, err = conn.Read(buf[n:])
					n += m
				}
				if n != len(rfb.VersionText)+len(tt.want) {
					t.Errorf("type %d: %d bytes were sent", chosen, n)
				}
			}
		})
	}
}

// A one-time code brings a viewer without user names to the form and no further: the host login is still to come.
func TestOneTimeCode(t *testing.T) {
	const code, seen, sealed = "23456789", "The relay can see what you type here", "End to end: the relay cannot see"
	s, h := start(t, small)
	strict, strictHost := start(t, small, func(w *ipc.Welcome) { w.RequireE2E = true })
	clear := rfbtest.Config{Security: uint8(rfb.SecVncAuth), Code: code}
	with := func(c rfbtest.Config, f func(*rfbtest.Config)) rfbtest.Config { f(&c); return c }
	inTLS := func(h *fakeHost) rfbtest.Config {
		return rfbtest.Config{Roots: roots(t, h.dir), ServerName: "localhost", Code: code}
	}
	for _, tt := range []struct {
		name   string
		server *server
		cfg    rfbtest.Config
		code   string // of the stream
		form   string // what it says
		err    string
	}{
		{"VncAuth", s, clear, code, seen, ""},
		{"VncAuth, RFB 3.7", s, with(clear, func(c *rfbtest.Config) { c.Minor = 7 }), code, seen, ""},
		{"VncAuth, RFB 3.3", s, with(clear, func(c *rfbtest.Config) { c.Minor = 3 }), code, seen, ""},
		{"X509Vnc", s, inTLS(h), code, sealed, ""},
		{"X509Vnc where sessions must be end to end", strict, inTLS(strictHost), code, sealed, ""},
		{"a wrong code", s, with(clear, func(c *rfbtest.Config) { c.Code = "23456788" }), code, "", "refused by the server: 40024: "},
		{"no code", s, with(clear, func(c *rfbtest.Config) { c.Code = "" }), code, "", "refused by the server: 40024: "},
		{"a wrong code in TLS", s, with(inTLS(h), func(c *rfbtest.Config) { c.Code = "23456788" }), code, "", "refused by the server: 40024: "},
		{"the access code", s, with(clear, func(c *rfbtest.Config) { c.Code = "12345678" }), code, "", "refused by the server: 40024: "},
		{"VncAuth on a stream without a code", s, clear, "", "", "not one of [2]"},
		{"nothing on a stream without a code", s, with(clear, func(c *rfbtest.Config) { c.Code = "" }), "", "", "not one of [2]"},
		{"RFB 3.3 on a stream without a code", s, with(clear, func(c *rfbtest.Config) { c.Minor = 3 }), "", "", "needs a viewer that speaks RFB 3.8"},
		{"X509Vnc on a stream without a code", s, inTLS(h), "", "", "subtypes [262], not 261"},
		{"VncAuth where sessions must be end to end", strict, clear, code, "", "not one of [2]"},
		{"RFB 3.3 where sessions must be end to end", strict, with(clear, func(c *rfbtest.Config) { c.Minor = 3 }), code, "", "needs a viewer that speaks RFB 3.8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := fromVersion(t, tt.server, alice, tt.code)
			c, err := rfbtest.Handshake(conn, tt.cfg)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("%v, not %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			says(t, tt.server, alice, c, "Log in to this computer")
			says(t, tt.server, alice, c, tt.form)
			if c.At(1, 1) == canary {
				t.Error("the desktop is shown before the host login")
			}
			logIn(t, tt.server, alice, c)
			sees(t, c, 1, 1, canary)
			c.Close()
			for _, host := range []*fakeHost{h, strictHost} {
				host.await("close", func() bool { return len(host.sessions) == 0 })
			}
		})
	}
	if len(h.logins) != 4 || len(strictHost.logins) != 1 {
		t.Errorf("%d and %d log-ins: a one-time code is none", len(h.logins), len(strictHost.logins))
	}
	h.with(func() { h.opened = refuse.Held.Of(bob, "10:04") })
	_, err := rfbtest.Handshake(fromVersion(t, s, alice, code), clear)
	var refused *rfbtest.RefusedError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, "40010: ") || !strings.HasSuffix(refused.Reason, ": bob@example.com has been in control since 10:04") {
		t.Fatal(err)
	}
}

// Behind a log-in by RA2ne the session is in clear, and a form that comes back says so.
func TestBareFormSaysSo(t *testing.T) {
	for chosen, text := range map[rfb.SecurityType]string{
		rfb.SecRA2ne: "The relay can see what you type here", rfb.SecRA2256: "End to end: the relay cannot see",
	} {
		t.Run(chosen.String(), func(t *testing.T) {
			s, h := start(t, small)
			c, err := rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(chosen), Password: "12345678"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sees(t, c, 1, 1, canary)
			h.with(func() { h.send(ipc.TypeDetach, ipc.Detach{Session: 1, Refusal: refuse.NoRight.Of("alice")}) })
			says(t, s, alice, c, text)
		})
	}
}

// A server with many viewers in the midst of the exchange serves others.
func TestRSAAESBeside(t *testing.T) {
	s, _ := start(t, small)
	for range 20 {
		conn := fromVersion(t, s, bob)
		if _, err := conn.Write([]byte(rfb.VersionText + "\x81\x00\x00")); err != nil { // half a length
			t.Fatal(err)
		}
	}
	c, err := rfbtest.Handshake(fromVersion(t, s, alice), rfbtest.Config{Security: uint8(rfb.SecRA2256), Password: "12345678"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sees(t, c, 1, 1, canary)
}

// What is said of the log-in before it, to who asks.
func TestFacts(t *testing.T) {
	for _, c := range []struct {
		name    string
		welcome ipc.Welcome
		asks    bool
		want    string
	}{
		{"not asked", ipc.Welcome{CodeFirst: true, CodeSet: true, Greeter: true}, false, "\x00"},
		{"nothing to tell", ipc.Welcome{OSLogin: true}, true, "\x02\x00"},
		{"code", ipc.Welcome{CodeFirst: true, CodeSet: true}, true, "\x02\x01"},
		{"no code yet", ipc.Welcome{CodeFirst: true}, true, "\x02\x00"},
		{"log-on screen", ipc.Welcome{Greeter: true}, true, "\x02\x02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{welcome: c.welcome}
			a, b := pipe(t)
			if err := s.accept(a, tunnel.Header{Purpose: tunnel.RFB, Facts: c.asks}); err != nil {
				t.Fatal(err)
			}
			a.Close()
			if got, err := io.ReadAll(b); string(got) != c.want || err != nil {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
}

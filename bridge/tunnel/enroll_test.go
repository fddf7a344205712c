package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

func testToken(r *testRelay) Token {
	return Token{Relay: "relay.example:2222", Fingerprint: r.fingerprint(), ID: "token number 1", Secret: "0123456789abcdefghijklmnopqrstuv"}
}

// enroll runs one enrolment over a pipe.
func enroll(t *testing.T, r *testRelay, token Token, key ssh.Signer, register Registrar) (Enrolled, error, error) {
	t.Helper()
	a, b := bufferedPipe()
	var served error
	var work sync.WaitGroup
	work.Go(func() {
		conn, chans, reqs, err := ssh.NewServerConn(b, r.config)
		if err == nil {
			err = ServeEnroll(t.Context(), conn, chans, reqs, register)
		}
		served = err
		_ = b.Close()
	})
	d := r.dialer(t, a)
	d.Key = key
	e, err := d.Enroll(t.Context(), token, "desk\x007")
	work.Wait()
	return e, err, served
}

func TestEnroll(t *testing.T) {
	r := newTestRelay(t)
	token, key := testToken(r), newKey(t)
	want := Enrolled{ID: "c1", Name: "desk7", Relay: "relay.example"}
	calls := 0
	for range 2 { // again with the same key, as when the answer was lost
		got, err, served := enroll(t, r, token, key, func(_ context.Context, id, secret, hostname string, k ssh.PublicKey) (Enrolled, error) {
			calls++
			if id != token.ID || secret != token.Secret || hostname != "desk 7" || !bytes.Equal(k.Marshal(), key.PublicKey().Marshal()) {
				t.Error(id, hostname, k)
			}
			return want, nil
		})
		if got != want || err != nil || served != nil {
			t.Fatal(got, err, served)
		}
	}
	if calls != 2 {
		t.Fatal(calls)
	}
}

func TestEnrollRefused(t *testing.T) {
	r := newTestRelay(t)
	no := refuse.CodeInvalid.Of()
	for name, c := range map[string]struct{ said, want error }{
		"refusal":        {no, no},
		"wrapped":        {fmt.Errorf("token: %w", no), no},
		"internal error": {errors.New("the disk is on fire"), refuse.Busy.Of()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err, served := enroll(t, r, testToken(r), newKey(t), func(context.Context, string, string, string, ssh.PublicKey) (Enrolled, error) {
				return Enrolled{}, c.said
			})
			if err == nil || err.Error() != c.want.Error() || served != c.said {
				t.Fatal(err, served)
			}
		})
	}
}

func TestEnrollWithAnotherKind(t *testing.T) {
	r := newTestRelay(t)
	never := func(context.Context, string, string, string, ssh.PublicKey) (Enrolled, error) {
		t.Error("the token was tried")
		return Enrolled{}, nil
	}
	t.Run("a password instead of a key", func(t *testing.T) {
		r.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }
		a, b := bufferedPipe()
		var served error
		var work sync.WaitGroup
		work.Go(func() {
			conn, chans, reqs, err := ssh.NewServerConn(b, r.config)
			if err == nil {
				err = ServeEnroll(t.Context(), conn, chans, reqs, never)
			}
			served = err
		})
		conn, _, _, err := ssh.NewClientConn(a, "", &ssh.ClientConfig{
			Config: Algorithms(), User: UserEnroll, Auth: []ssh.AuthMethod{ssh.Password("x")}, HostKeyCallback: pin(r.fingerprint()),
		})
		if err != nil {
			t.Fatal(err)
		}
		work.Wait()
		_ = conn.Close()
		if served == nil || !strings.Contains(served.Error(), "not opened with a key") {
			t.Fatal(served)
		}
	})
	t.Run("a later version", func(t *testing.T) {
		a, b := bufferedPipe()
		var work sync.WaitGroup
		work.Go(func() {
			conn, chans, reqs, err := ssh.NewServerConn(b, r.config)
			if err == nil {
				err = ServeEnroll(t.Context(), conn, chans, reqs, never)
			}
			if err == nil || !strings.Contains(err.Error(), "version 9, not 1") {
				t.Error(err)
			}
		})
		conn, _, _, err := ssh.NewClientConn(a, "", &ssh.ClientConfig{
			Config: Algorithms(), User: UserEnroll, Auth: []ssh.AuthMethod{ssh.PublicKeys(newKey(t))}, HostKeyCallback: pin(r.fingerprint()),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = conn.OpenChannel(channelEnroll, []byte{9})
		work.Wait()
		_ = conn.Close()
		if err == nil || !strings.Contains(err.Error(), "update the relay") {
			t.Fatal(err)
		}
	})
}

// The relay's key is not the token's: not one byte of the token reaches the wire, and none of the computer's key.
func TestEnrollWrongRelayKey(t *testing.T) {
	right, wrong := newTestRelay(t), newTestRelay(t)
	token, key := testToken(right), newKey(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	token.Relay = l.Addr().String()
	var seen *seenConn
	var work sync.WaitGroup
	work.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		seen = &seenConn{Conn: c}
		asked := false
		config := *wrong.config
		config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			asked = true
			return KeyPermissions(key), nil
		}
		if _, _, _, err := ssh.NewServerConn(seen, &config); err == nil || asked {
			t.Error("the computer signed in")
		}
		_ = c.Close()
	})
	_, err = Enroll(t.Context(), token, key, "desk7")
	work.Wait()
	e, ok := errors.AsType[*KeyError](err)
	if !ok || strings.Contains(err.Error(), token.Secret) {
		t.Fatal(err)
	}
	if !strings.Contains(e.Error(), "enrol this computer again") {
		t.Fatal(e)
	}
	// What is encrypted could hold anything, so the count matters: version line, KEXINIT, ECDH_INIT, and no more.
	b := seen.bytes()
	end := bytes.IndexByte(b, '\n') + 1
	packets := 0
	for rest := b[end:]; len(rest) > 0; packets++ {
		n := 4 + int(rest[0])<<24 + int(rest[1])<<16 + int(rest[2])<<8 + int(rest[3])
		if n > len(rest) {
			t.Fatalf("a packet of %d bytes in %d", n, len(rest))
		}
		rest = rest[n:]
	}
	if packets > 2 {
		t.Fatalf("%d packets were sent to the wrong relay", packets)
	}
	for _, secret := range []string{token.Secret, token.ID, token.String(), string(key.PublicKey().Marshal()), UserEnroll, "desk7"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Fatalf("%q was sent", secret)
		}
	}
}

func TestToken(t *testing.T) {
	token := testToken(newTestRelay(t))
	s := token.String()
	if got, err := ParseToken(" " + s + "\n"); got != token || err != nil {
		t.Fatal(got, err)
	}
	if len(s) > 200 || !strings.HasPrefix(s, "hl1.") {
		t.Fatal(s)
	}
	for i := range s {
		for _, wrong := range []string{s[:i], s[:i] + "A" + s[i:], s[:i] + "!" + s[i+1:], s[i:]} {
			got, err := ParseToken(wrong)
			if err == nil && wrong != s {
				t.Fatalf("%q is a token: %v", wrong, got)
			}
			if err != nil && strings.Contains(err.Error(), "0123456789") {
				t.Fatal("the error holds the secret")
			}
		}
	}
	for name, wrong := range map[string]func(*Token){
		"no port":        func(t *Token) { t.Relay = "relay.example" },
		"no relay":       func(t *Token) { t.Relay = "" },
		"no fingerprint": func(t *Token) { t.Fingerprint = "" },
		"half of it":     func(t *Token) { t.Fingerprint = t.Fingerprint[:30] },
		"no id":          func(t *Token) { t.ID = "" },
		"no secret":      func(t *Token) { t.Secret = "" },
		"a long secret":  func(t *Token) { t.Secret = strings.Repeat("s", 65) },
		"a long relay":   func(t *Token) { t.Relay = strings.Repeat("r", 300) + ":1" },
		"a line break":   func(t *Token) { t.ID = "a\nb" },
	} {
		token := token
		wrong(&token)
		if got, err := ParseToken(token.String()); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

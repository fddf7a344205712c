package account

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/helmline/helmline/bridge/refuse"
)

const (
	relayName = "relay.example.org"
	relayHost = "relay.example.org:8443"
)

// An authenticator holds one passkey, as a security key does. Tests change what it says.
type authenticator struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	id     []byte
	user   string // its handle, base64url
	origin string
	rp     string
	flags  byte // present, verified
	count  uint32
}

const (
	present  = 1
	verified = 4
	attested = 64
)

func newAuthenticator(t *testing.T) *authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	rand.Read(id)
	return &authenticator{t: t, key: key, id: id, origin: "https://" + relayHost, rp: relayName, flags: present | verified}
}

var b64 = base64.RawURLEncoding.EncodeToString

// challenge is that of what the relay gives a browser.
func (a *authenticator) challenge(options any) (challenge, user string) {
	a.t.Helper()
	var o struct {
		Challenge string
		User      struct{ ID string }
	}
	text, err := json.Marshal(options)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil || o.Challenge == "" {
		a.t.Fatalf("%v: %s", err, text)
	}
	return o.Challenge, o.User.ID
}

// data is the authenticator data: WebAuthn, section 6.1.
func (a *authenticator) data(flags byte) []byte {
	rp := sha256.Sum256([]byte(a.rp))
	return binary.BigEndian.AppendUint32(append(rp[:], flags), a.count)
}

func (a *authenticator) client(kind, challenge string) []byte {
	return fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q,"crossOrigin":false}`, kind, challenge, a.origin)
}

func (a *authenticator) says(response map[string]string) []byte {
	text, _ := json.Marshal(map[string]any{
		"id": b64(a.id), "rawId": b64(a.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response,
	})
	return text
}

// create is what navigator.credentials.create gives, without attestation.
func (a *authenticator) create(options any) []byte {
	challenge, user := a.challenge(options)
	a.user = user
	point, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	data := append(a.data(a.flags|attested), make([]byte, 16)...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(a.id))), a.id...)
	data = append(data, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32) // COSE: EC2, ES256, P-256, x, y
	data = append(append(append(data, point[1:33]...), 0x22, 0x58, 32), point[33:]...)
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data)))
	return a.says(map[string]string{"clientDataJSON": b64(a.client("webauthn.create", challenge)), "attestationObject": b64(append(object, data...))})
}

// get is what navigator.credentials.get gives.
func (a *authenticator) get(options any) []byte {
	challenge, _ := a.challenge(options)
	a.count++
	data, client := a.data(a.flags), a.client("webauthn.get", challenge)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, sum[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.says(map[string]string{"clientDataJSON": b64(client), "authenticatorData": b64(data), "signature": b64(sig), "userHandle": a.user})
}

func TestPasskey(t *testing.T) {
	r := newRelay(t)
	r.add("bob@example.com")
	alice, _ := r.ByEmail(t.Context(), "alice@example.com")
	bob, _ := r.ByEmail(t.Context(), "bob@example.com")
	key := newAuthenticator(t)
	begin := func() any {
		t.Helper()
		o, err := r.NewPasskey(t.Context(), alice, relayName, relayHost, home)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	add := func(said []byte) ([]string, error) {
		return r.AddPasskey(t.Context(), alice, "key", said, relayName, relayHost)
	}
	if _, err := r.NewPasskey(t.Context(), alice, relayName, "evil.example:8443", home); err == nil {
		t.Error("a passkey for another host")
	}
	if _, err := r.AddPasskey(t.Context(), bob, "key", key.create(begin()), relayName, relayHost); !refuse.WrongPasskey.Is(err) {
		t.Errorf("bob adds what alice was asked for: %v", err)
	}
	key.flags = present
	if _, err := add(key.create(begin())); !refuse.WrongPasskey.Is(err) {
		t.Errorf("added without verification of the user: %v", err)
	}
	key.flags = present | verified
	said := key.create(begin())
	if codes, err := add(said); err != nil || len(codes) != 10 {
		t.Fatalf("%q, %v", codes, err)
	}
	if _, err := add(said); !refuse.WrongPasskey.Is(err) {
		t.Errorf("added twice: %v", err)
	}
	if codes, err := add(newAuthenticator(t).create(begin())); err != nil || codes != nil {
		t.Errorf("a second one: %q, %v", codes, err)
	}
	if err := r.try("alice@example.com", password, home); !refuse.NeedsFactor.Is(err) {
		t.Errorf("the password alone: %v", err)
	}
	if _, half, err := r.Password(t.Context(), "alice@example.com", []byte(password), home, "ssh"); half == nil || half.Codes {
		t.Errorf("nothing makes codes for her, and she is asked for one: %+v, %v", half, err)
	}

	signIn := func(said []byte) error {
		a, err := r.PasskeySignIn(t.Context(), said, relayName, relayHost, home, "web")
		if err == nil && a.ID != alice.ID {
			t.Errorf("signed in as %+v", a)
		}
		return err
	}
	ask := func() any {
		t.Helper()
		o, err := r.AskPasskey(relayName, relayHost, home)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	said = key.get(ask())
	if err := signIn(said); err != nil {
		t.Fatal(err)
	}
	if e := r.trail.last(); e.Kind != "signin.ok" || e.Detail != "with a passkey" || e.Account != "alice@example.com" {
		t.Errorf("recorded: %+v", e)
	}
	for name, change := range map[string]func(a *authenticator){
		"another origin":          func(a *authenticator) { a.origin = "https://evil.example" },
		"another relying party":   func(a *authenticator) { a.rp = "localhost" },
		"nobody verified":         func(a *authenticator) { a.flags = present },
		"another key":             func(a *authenticator) { a.key = newAuthenticator(t).key },
		"another passkey":         func(a *authenticator) { a.id = []byte("0123456789abcdef") },
		"bob's handle":            func(a *authenticator) { a.user = b64(handle(bob.ID)) },
		"nobody's handle":         func(a *authenticator) { a.user = b64(handle(99)) },
		"a counter that is older": func(a *authenticator) { a.count = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := *key
			bad.t = t
			change(&bad)
			src := home
			for range len(name) { // each from elsewhere: failures count
				src = src.Next()
			}
			if _, err := r.PasskeySignIn(t.Context(), bad.get(ask()), relayName, relayHost, src, "web"); !refuse.WrongPasskey.Is(err) {
				t.Errorf("%v", err)
			}
		})
	}
	if err := signIn(said); !refuse.WrongPasskey.Is(err) {
		t.Errorf("an answer twice: %v", err)
	}
	if err := signIn(key.get(begin())); !refuse.WrongPasskey.Is(err) {
		t.Errorf("an answer to another question: %v", err)
	}
	for _, junk := range []string{"", "{}", "null", `{"id":"x"}`} {
		if _, err := r.checkPasskey(t.Context(), []byte(junk), relayName, relayHost); !refuse.WrongPasskey.Is(err) {
			t.Errorf("%q: %v", junk, err)
		}
	}

	var ended string
	r.OnRevoke(func(_ int64, why string) { ended = why })
	if err := r.RemovePasskey(t.Context(), bob, b64(key.id)); err == nil {
		t.Error("bob has removed alice's")
	}
	if err := r.RemovePasskey(t.Context(), alice, b64(key.id)); err != nil || ended == "" {
		t.Errorf("removed: %v, %q", err, ended)
	}
	if _, err := r.checkPasskey(t.Context(), key.get(ask()), relayName, relayHost); !refuse.WrongPasskey.Is(err) {
		t.Errorf("a removed one: %v", err)
	}
	f, err := r.Factors(t.Context(), alice)
	if err != nil || len(f.Passkeys) != 1 || f.Recovery != 10 {
		t.Fatalf("%+v, %v", f, err)
	}
	if err := r.RemovePasskey(t.Context(), alice, f.Passkeys[0].ID); err != nil {
		t.Fatal(err)
	}
	if f, err = r.Factors(t.Context(), alice); err != nil || f.Recovery != 0 {
		t.Errorf("recovery codes outlive the last passkey: %+v, %v", f, err)
	}
	if err := r.try("alice@example.com", password, home); err != nil {
		t.Errorf("without passkeys: %v", err)
	}
}

// Who asks for many challenges pushes out their own, and nobody else's.
func TestCeremoniesAreBounded(t *testing.T) {
	var c ceremonies
	expires := time.Now().Add(time.Minute)
	add := func(name string, src netip.Addr) {
		expires = expires.Add(time.Millisecond)
		c.add(&webauthn.SessionData{Challenge: name, Expires: expires}, 0, src)
	}
	add("alice's", home.Next())
	for i := range 3 * maxOfSource {
		add(fmt.Sprint(i), home)
	}
	if _, ok := c.take("alice's"); !ok || len(c.live) != maxOfSource {
		t.Errorf("alice's is gone, or %d are left", len(c.live))
	}
	_, old := c.take(fmt.Sprint(2*maxOfSource - 1))
	_, kept := c.take(fmt.Sprint(2 * maxOfSource))
	_, again := c.take(fmt.Sprint(2 * maxOfSource))
	if old || !kept || again {
		t.Errorf("kept: the one before %v, the oldest that fits %v, once more %v", old, kept, again)
	}
	src := home
	for i := range maxCeremonies + 10 {
		src = src.Next()
		add(fmt.Sprint("of many ", i), src)
	}
	if len(c.live) != maxCeremonies {
		t.Errorf("%d live", len(c.live))
	}
	c.add(&webauthn.SessionData{Challenge: "late", Expires: time.Now().Add(-time.Second)}, 0, home)
	if _, ok := c.take("late"); ok {
		t.Error("an answer too late counts")
	}
}

package account

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

func TestCheckEmail(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, s := range []string{
		"alice@example.com", "Alice.B+relay@Sub.Example.com", "root@localhost", "a@b", "o'hara@xn--bcher-kva.example",
		strings.Repeat("x", 64) + "@example.com", "a@" + long + "." + long + "." + long + ".com",
	} {
		if err := CheckEmail(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, c := range []struct{ in, err string }{
		{"", "no @"},
		{"alice", "no @"},
		{"@example.com", "missing before the @"},
		{".a@example.com", "a dot is out of place"},
		{"a..b@example.com", "a dot is out of place"},
		{"a@", "not a host name"},
		{"a@b..c", "not a host name"},
		{"a@-b", "not a host name"},
		{"a/b@example.com", "'/' is not allowed"},
		{`a\b@example.com`, `'\\' is not allowed`},
		{"a#b@example.com", "'#' is not allowed"},
		{"a:b@example.com", "':' is not allowed"},
		{"a b@example.com", "' ' is not allowed"},
		{"a@b@example.com", "'@' is not allowed"},
		{"аlice@example.com", "'а' is not allowed"}, // Cyrillic
		{"a@bücher.example", "xn-- form"},
		{"a@exa_mple.com", "not allowed in a domain"},
		{strings.Repeat("x", 65) + "@example.com", "too long"},
		{"a@" + long + "." + long + "." + long + "." + long, "too long"},
		{"a@" + long + "x.com", "not a host name"},
	} {
		if err := CheckEmail(c.in); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v; want %q", c.in, err, c.err)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	long := strings.Repeat("äb€dx", 25) + "end" // 128 characters
	for _, s := range []string{"ten chars!", long, "correct horse battery staple", "hunter2 and more"} {
		if err := CheckPassword("alice@example.com", []byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, c := range []struct{ in, err string }{
		{"", "0 characters"},
		{"nine char", "9 characters"},
		{long + "x", "129 characters"},
		{"\xff\xfe123456789", "not valid UTF-8"},
		{"Alice@Example.com", "the account's name"},
		{"alice12345", "the account's name"},
		{"Password123!", "first that a guesser tries"},
		{"1234567890", "first that a guesser tries"},
		{"aaaaaaaaaaaa", "first that a guesser tries"},
		{"abcdefghijklm", "first that a guesser tries"},
		{"abc1abc1abc1", "first that a guesser tries"},
		{"Qwertyuiop", "first that a guesser tries"},
	} {
		if err := CheckPassword("alice@example.com", []byte(c.in)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v; want %q", c.in, err, c.err)
		}
	}
}

func TestComposedAndDecomposedPasswordsAreTheSame(t *testing.T) {
	r := newRelay(t)
	if err := r.SetPassword(t.Context(), "alice@example.com", []byte("schöne Grüße")); err != nil {
		t.Fatal(err)
	}
	if err := r.try("alice@example.com", "scho\u0308ne Gru\u0308ße", home); err != nil {
		t.Error(err)
	}
}

func TestPHC(t *testing.T) {
	r := startWith(t, t.TempDir()+"/state", costs{memoryKiB, passes}, 8)
	hash, err := r.hasher.make(t.Context(), []byte(password))
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=65536,t=3,p=1$") {
		t.Fatalf("%s, %v", hash, err)
	}
	p, err := parsePHC(hash)
	if err != nil || len(p.salt) != 16 || len(p.tag) != 32 {
		t.Errorf("%+v, %v", p, err)
	}
	if ok, err := r.hasher.check(t.Context(), []byte(password), hash); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	salt, tag := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, bad := range []string{
		"", "$", "x$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=2$" + salt + "$" + tag,
		"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=11,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=0,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=064,t=1,p=1$" + salt + "$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$AAAA$" + tag,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$AAAA",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + tag + "$",
		hash + strings.Repeat("A", maxPHC),
	} {
		if p, err := parsePHC(bad); err == nil {
			t.Errorf("%q read as %+v", bad, p)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=1,t=1,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if again, err := parsePHC(p.String()); err != nil || !reflect.DeepEqual(again, p) || p.memory > maxMemoryKiB || p.passes > maxPasses {
			t.Errorf("%q read as %+v, then as %+v, %v", s, p, again, err)
		}
	})
}

func FuzzEmail(f *testing.F) {
	f.Add("alice@example.com")
	f.Add("a/b@c")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckEmail(s) != nil {
			return
		}
		if strings.ContainsAny(s, "/\\#: \t\r\n\x00<>") || len(s) > MaxEmail || refuse.Printable(s, MaxEmail) != s || EmailKey(EmailKey(s)) != EmailKey(s) {
			t.Errorf("%q is taken", s)
		}
	})
}

const ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6u0JnM5m0JpXu0J2v0b8mJ4l8vX7yqk1S0Qk3JmGsF alice@laptop"

func line(t testing.TB, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func TestParseKey(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sk := ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, public, "ssh:"})
	hardware, err := ssh.ParsePublicKey(sk)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		line(t, public) + " alice@laptop", line(t, &good.PublicKey), line(t, p384.Public()), ed25519Key + "\n",
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hardware))),
	} {
		if _, _, err := ParseKey([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, c := range []struct{ in, err string }{
		{"", "not an SSH public key"},
		{"hello", "not an SSH public key"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "private key"},
		{line(t, public) + "\n" + line(t, public), "more than one line"},
		{`command="ls" ` + line(t, public), "options"},
		{line(t, &weak.PublicKey), "at least 3072 bits"},
		{strings.Repeat("x", maxKeyLine+1), "more than"},
	} {
		if _, _, err := ParseKey([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.60q: %v; want %q", c.in, err, c.err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte(ed25519Key))
	f.Add([]byte(`from="x" ` + ed25519Key))
	f.Fuzz(func(t *testing.T, in []byte) {
		key, comment, err := ParseKey(in)
		if err != nil {
			return
		}
		if again, _, err := ParseKey(ssh.MarshalAuthorizedKey(key)); err != nil || string(again.Marshal()) != string(key.Marshal()) || len(comment) > 100 {
			t.Errorf("%q: %v", in, err)
		}
	})
}

func TestKeys(t *testing.T) {
	r := newRelay(t)
	r.add("bob@example.com")
	ctx := t.Context()
	k, err := r.AddKey(ctx, "alice@example.com", []byte(ed25519Key))
	if err != nil || k.Comment != "alice@laptop" || k.Type != "ssh-ed25519" {
		t.Fatalf("%+v, %v", k, err)
	}
	if _, err := r.AddKey(ctx, "alice@example.com", []byte(ed25519Key)); err == nil || !strings.Contains(err.Error(), "has the key") {
		t.Errorf("twice: %v", err)
	}
	if _, err := r.AddKey(ctx, "bob@example.com", []byte(ed25519Key)); err != nil {
		t.Errorf("two accounts, one key: %v", err)
	}
	if err := r.RemoveKey(ctx, "bob@example.com", k.Fingerprint); err != nil {
		t.Error(err)
	}
	key, _, err := ParseKey([]byte(ed25519Key))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := r.ByKey(ctx, "Alice@example.com", key, home); err != nil || a.Email != "alice@example.com" {
		t.Errorf("%v, %v", a, err)
	}
	for _, email := range []string{"bob@example.com", "nobody@example.com", ""} {
		if _, err := r.ByKey(ctx, email, key, home); !refuse.SignIn.Is(err) {
			t.Errorf("%s with alice's key: %v", email, err)
		}
	}
	if list, err := r.Keys(ctx, "alice@example.com"); err != nil || len(list) != 1 || list[0].Fingerprint != k.Fingerprint {
		t.Errorf("%+v, %v", list, err)
	}
	r.fail("x@example.com", home, 4)
	if err := r.Failed(ctx, "y@example.com", home, "ssh"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ByKey(ctx, "alice@example.com", key, home); !refuse.SlowDown.Is(err) {
		t.Errorf("from a blocked source: %v", err)
	}
	if err := r.Disable(ctx, "alice@example.com"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ByKey(ctx, "alice@example.com", key, ip("192.0.2.2")); !refuse.SignIn.Is(err) {
		t.Errorf("of a disabled account: %v", err)
	}
}

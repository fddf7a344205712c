package desktop

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The certificate is made once, is for every name a viewer may use, and serves as its own CA.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	c, err := Certificate(dir, "desk7", "not a name", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Certificate(dir, "other")
	if err != nil || !bytes.Equal(again.Certificate[0], c.Certificate[0]) {
		t.Fatalf("made anew: %v", err)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(dir, CertificateFile))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("not a CA file: %v", err)
	}
	for _, name := range []string{"desk7", "localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// CVE-2011-1775, CVE-2020-26117: whoever trusts it trusts no other certificate of this computer.
	other := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"bank.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, other, leaf, leaf.PublicKey, c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forged.Verify(x509.VerifyOptions{DNSName: "bank.example", Roots: roots}); err == nil || leaf.IsCA {
		t.Error("it is an authority")
	}
	if fp := Fingerprint(c); len(fp) != 95 || strings.Count(fp, ":") != 31 {
		t.Errorf("fingerprint %q", fp)
	}
	if sum, err := base64.StdEncoding.DecodeString(Pin(c)); err != nil || sha256.Sum256(leaf.RawSubjectPublicKeyInfo) != [32]byte(sum) {
		t.Errorf("pin %q, %v", Pin(c), err)
	}
	if st, err := os.Stat(filepath.Join(dir, CertKeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", st, err)
	}
}

func TestTunnelKey(t *testing.T) {
	dir := t.TempDir()
	a, err := TunnelKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := TunnelKey(dir)
	if err != nil || !bytes.Equal(a.PublicKey().Marshal(), b.PublicKey().Marshal()) {
		t.Fatalf("another key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, TunnelKeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := TunnelKey(dir); err == nil || !strings.Contains(err.Error(), "enrol this computer again") {
		t.Fatal(err)
	}
}

func TestEnrolment(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadEnrolment(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want := Enrolment{Addr: "relay.example:2222", RelayKey: "SHA256:x", ID: "1", Name: "desk7", RelayName: "relay.example"}
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadEnrolment(dir); err != nil || got != want {
		t.Fatalf("%v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, EnrolmentFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadEnrolment(dir); err == nil || !strings.Contains(err.Error(), "names no relay") {
		t.Fatal(err)
	}
}

// hostd-net starts while the computer is being enrolled: both must end with one key.
func TestTunnelKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	keys := make(chan string, 8)
	for range cap(keys) {
		go func() {
			key, err := TunnelKey(dir)
			if err != nil {
				keys <- err.Error()
				return
			}
			keys <- ssh.FingerprintSHA256(key.PublicKey())
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		if k := <-keys; k != first {
			t.Errorf("one has the key %s, another %s", first, k)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}

// The RSA key is made once, whoever comes first, for its user alone, and is refused when it is no such key.
func TestRSAKey(t *testing.T) {
	dir := t.TempDir()
	keys := make(chan string, 2)
	for range cap(keys) {
		go func() {
			key, err := RSAKey(dir)
			if err != nil {
				keys <- err.Error()
				return
			}
			keys <- key.Fingerprint()
		}()
	}
	first := <-keys
	if second := <-keys; first != second || !regexp.MustCompile(`^([0-9a-f]{2}-){7}[0-9a-f]{2}$`).MatchString(first) {
		t.Errorf("fingerprints %q and %q", first, second)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	name := filepath.Join(dir, RSAKeyFile)
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := Certificate(dir); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, CertKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "no PEM of a private key"},
		{"text", "x", "no PEM of a private key"},
		{"another PEM", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "no PEM of a private key"},
		{"damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "asn1"},
		{"no RSA", string(other), "not RSA"},
	} {
		if err := os.WriteFile(name, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := RSAKey(dir); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "remove it for a new one") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

package desktop

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/rfb"
)

// Files of hostd-net's state directory. They belong to its user, mode 0600.
const (
	EnrolmentFile   = "enrolment.json" // Enrolment
	TunnelKeyFile   = "tunnel.key"     // ed25519, OpenSSH format
	CertificateFile = "cert.pem"       // of hostd's own RFB server; serves as its own CA file
	CertKeyFile     = "key.pem"        // PKCS #8
	RSAKeyFile      = "rsa.pem"        // PKCS #8; of hostd's own RFB server, for RSA-AES
)

// rsaBits is the size of the key that newRSAKey makes: viewers make one as long for each connection.
const rsaBits = 2048

// certificateLife is long because viewers pin the certificate.
const certificateLife = 20 * 365 * 24 * time.Hour

// An Enrolment says which relay this computer belongs to.
type Enrolment struct {
	Addr      string `json:"addr"`      // host:port of the relay's SSH door
	RelayKey  string `json:"relay_key"` // SHA256 fingerprint of its key
	ID        string `json:"id"`        // of the computer at the relay
	Name      string `json:"name"`      // of the computer at the relay
	RelayName string `json:"relay_name"`
}

// LoadEnrolment reads the enrolment of a state directory. Before enrolment the error is fs.ErrNotExist.
func LoadEnrolment(dir string) (Enrolment, error) {
	name := filepath.Join(dir, EnrolmentFile)
	b, err := os.ReadFile(name)
	if err != nil {
		return Enrolment{}, err
	}
	var e Enrolment
	if err := json.Unmarshal(b, &e); err != nil {
		return Enrolment{}, fmt.Errorf("%s is damaged (%w); enrol this computer again", name, err)
	}
	if e.Addr == "" || e.RelayKey == "" {
		return Enrolment{}, fmt.Errorf("%s names no relay; enrol this computer again", name)
	}
	return e, nil
}

// Save writes the enrolment, whole or not at all.
func (e Enrolment) Save(dir string) error {
	b, err := json.MarshalIndent(e, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, EnrolmentFile), append(b, '\n'))
}

// TunnelKey reads the computer's key from a state directory and makes it when there is none.
func TunnelKey(dir string) (ssh.Signer, error) {
	name := filepath.Join(dir, TunnelKeyFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		// hostd-net and an enrolment may be here at once: the key that was there first holds for both.
		if err := newTunnelKey(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s is no key (%w); remove it and enrol this computer again", name, err)
	}
	if t := key.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("%s is of type %s, not ed25519; remove it and enrol this computer again", name, t)
	}
	return key, nil
}

// newTunnelKey makes a key, unless one is there already: fs.ErrExist.
func newTunnelKey(name string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "helmline")
	if err != nil {
		return err
	}
	return place(name, pem.EncodeToMemory(block), os.Link)
}

// Certificate reads the certificate of hostd's RFB server from a state directory and makes it when there is none: for
// the host name, the names given, localhost and the loopback addresses. It never changes by itself, as viewers pin it.
func Certificate(dir string, names ...string) (tls.Certificate, error) {
	certName, keyName := filepath.Join(dir, CertificateFile), filepath.Join(dir, CertKeyFile)
	_, err := os.Stat(certName)
	if errors.Is(err, fs.ErrNotExist) {
		err = newCertificate(certName, keyName, names)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err := tls.LoadX509KeyPair(certName, keyName)
	if err != nil {
		return c, fmt.Errorf("%s and %s are no pair (%w); remove both for new ones, which every viewer will ask about", certName, keyName, err)
	}
	return c, nil
}

// Fingerprint is the SHA-256 of a certificate as viewers show it: pairs of hex digits with colons.
func Fingerprint(c tls.Certificate) string {
	if len(c.Certificate) == 0 {
		return ""
	}
	sum := sha256.Sum256(c.Certificate[0])
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	pairs := make([]string, 0, len(sum))
	for i := 0; i < len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

// Pin is the SHA-256 of a certificate's public key as TigerVNC shows it behind "pin-sha256=" (RFC 7469, section 2.4).
func Pin(c tls.Certificate) string {
	if c.Leaf == nil {
		return ""
	}
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func newCertificate(certName, keyName string, names []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil || !isDNSName(host) {
		host = "localhost"
	}
	sans := []string{host}
	for _, n := range append(names, "localhost") {
		if isDNSName(n) && !slices.Contains(sans, n) {
			sans = append(sans, n)
		}
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: host, Organization: []string{"Helmline host"}},
		NotBefore:             now.Add(-24 * time.Hour), // clocks differ
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              sans,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The key first: a certificate without its key would be found and refused at the next start.
	if err := writeFile(keyName, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})); err != nil {
		return err
	}
	return writeFile(certName, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// isDNSName says whether s can stand in a certificate as a name.
func isDNSName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// RSAKey reads the key for RSA-AES of hostd's RFB server from a state directory and makes it when there is none. It never
// changes by itself, as people compare its fingerprint and some viewers pin it.
func RSAKey(dir string) (*rfb.RSAKey, error) {
	name := filepath.Join(dir, RSAKeyFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := newRSAKey(name); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := parseRSAKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s is no key (%w); remove it for a new one, which every viewer will ask about", name, err)
	}
	return key, nil
}

func parseRSAKey(b []byte) (*rfb.RSAKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM of a private key")
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, not RSA", key)
	}
	return rfb.NewRSAKey(private)
}

// newRSAKey makes a key, unless one is there already: fs.ErrExist.
func newRSAKey(name string) error {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(b)
	return place(name, b, os.Link)
}

// writeFile writes a file of mode 0600, whole or not at all, so that it survives a crash.
func writeFile(name string, b []byte) error { return place(name, b, os.Rename) }

// place writes a file under another name and has put give it its own: os.Rename replaces what is there, os.Link does not.
func place(name string, b []byte, put func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return put(f.Name(), name)
}

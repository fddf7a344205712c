package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/store"
)

// The certificate that relayd makes itself. The key file holds the certificate, too, so that the two are made at once
// or not at all; the other one is for viewers, which take it as a CA file.
const (
	tlsKeyFile  = "tls.key"
	tlsCertFile = "tls.pem"
	tlsYears    = 10
)

// A certificate is what the TLS doors show. It can be read anew while they are open.
type certificate struct {
	conf    *conf.Relay
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
}

// loadCertificate reads the certificate that the settings name, or relayd's own, which is made at the first start.
func loadCertificate(c *conf.Relay, log *slog.Logger) (*certificate, error) {
	t := &certificate{conf: c, log: log}
	if c.TLS.Cert == "" {
		if err := makeCertificate(c, log); err != nil {
			return nil, fmt.Errorf("TLS certificate: %w", err)
		}
	}
	return t, t.reload()
}

// reload reads the files again. After an error the certificate stays what it was.
func (t *certificate) reload() error {
	cert, key := t.files()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", cert, key, err)
	}
	if t.conf.TLS.Cert == "" {
		if err := store.PrivateFile(key); err != nil {
			return fmt.Errorf("TLS key: %w", err)
		}
	} else if err := secretFile(key); err != nil {
		return fmt.Errorf("tls.key: %w", err)
	}
	t.current.Store(&pair)
	leaf := pair.Leaf
	t.log.Info("certificate", "sha256", fingerprint(leaf.Raw), "until", leaf.NotAfter.Format(time.DateOnly), "file", cert)
	if err := leaf.VerifyHostname(t.conf.Name); err != nil {
		t.log.Warn("viewers will not accept the certificate for this relay's name", "name", t.conf.Name, "err", err)
	}
	if time.Now().After(leaf.NotAfter) {
		t.log.Warn("the certificate has expired", "until", leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}

func (t *certificate) files() (cert, key string) {
	if t.conf.TLS.Cert != "" {
		return t.conf.TLS.Cert, t.conf.TLS.Key
	}
	return filepath.Join(t.conf.StateDir, tlsKeyFile), filepath.Join(t.conf.StateDir, tlsKeyFile)
}

// server is the setting of every TLS door: TLS 1.2 or later, AEAD only.
func (t *certificate) server() *tls.Config {
	c := rfb.ServerTLS(*t.current.Load())
	c.Certificates = nil
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.current.Load(), nil }
	return c
}

// secretFile checks that only its owner, and at most a group it is meant for, can read a key of the operator's.
func secretFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if m := st.Mode().Perm(); m&0o037 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can read or change it: chmod 0600 %s", path, m, path)
	}
	return nil
}

// makeCertificate makes key and certificate unless they are there.
func makeCertificate(c *conf.Relay, log *slog.Logger) error {
	path := filepath.Join(c.StateDir, tlsKeyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = selfSigned(c.Name); err != nil {
			return err
		}
		if err = writeNew(path, b, 0o600); err == nil {
			log.Info("TLS certificate made", "file", filepath.Join(c.StateDir, tlsCertFile), "name", c.Name)
		}
	}
	if err != nil {
		return err
	}
	return publish(b, filepath.Join(c.StateDir, tlsCertFile))
}

// publish writes the certificate without its key, unless it is there.
func publish(pair []byte, path string) error {
	for {
		var block *pem.Block
		block, pair = pem.Decode(pair)
		if block == nil {
			return errors.New("no certificate in " + tlsKeyFile)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		err := writeNew(path, pem.EncodeToMemory(block), 0o644)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
}

// selfSigned makes a key and a certificate for name and this machine, PEM. It has no issuer but itself, so it serves
// viewers as their CA file, and signs nothing else.
func selfSigned(name string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Helmline relay"}},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(tlsYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
	} else if name != "localhost" {
		t.DNSNames = append([]string{name}, t.DNSNames...)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}

// fingerprint is how people compare a certificate, in the form that ssh shows keys.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func pin(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// fingerprints are those of the keys in use, as programs show them: of the certificate relayd's log, browsers, and TigerVNC, which shows a pin of
// its key (RFC 7469, section 2.4).
func fingerprints(key ssh.Signer, cert *certificate) []admin.Fingerprint {
	leaf := cert.current.Load().Leaf
	return []admin.Fingerprint{
		{What: "ssh", Type: "ED25519", Hash: ssh.FingerprintSHA256(key.PublicKey())},
		{What: "tls", Type: leaf.PublicKeyAlgorithm.String(), Hash: fingerprint(leaf.Raw)},
		{What: "tls", Type: "hex", Hash: strings.ReplaceAll(fmt.Sprintf("% X", sha256.Sum256(leaf.Raw)), " ", ":")},
		{What: "tls", Type: "pin-sha256", Hash: pin(leaf)},
	}
}

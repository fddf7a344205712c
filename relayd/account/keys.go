package account

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

// Limits of people's SSH keys.
const (
	MaxKeys    = 100      // of one account
	maxKeyLine = 16 << 10 // bytes of one line of authorized_keys
	minRSA     = 3072     // bits
)

// ParseKey reads a public key as one line of ~/.ssh/*.pub or authorized_keys, and says why a key is not good enough.
func ParseKey(line []byte) (key ssh.PublicKey, comment string, err error) {
	line = bytes.TrimSpace(line)
	if len(line) > maxKeyLine {
		return nil, "", fmt.Errorf("the key has more than %d bytes", maxKeyLine)
	}
	if bytes.Contains(line, []byte("PRIVATE KEY")) {
		return nil, "", errors.New("this is a private key, which nobody else should ever see; give the public one, from the file that ends in .pub")
	}
	if bytes.ContainsAny(line, "\r\n") {
		return nil, "", errors.New("this is more than one line; give one public key at a time")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, "", errors.New("this is not an SSH public key; give one line as in a .pub file")
	}
	if len(options) > 0 {
		return nil, "", errors.New("options before a key have no effect here; give the key without them")
	}
	if err := CheckKey(key); err != nil {
		return nil, "", err
	}
	return key, refuse.Printable(comment, 100), nil
}

// CheckKey says why a person's key is not accepted.
func CheckKey(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		c, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return errors.New("this RSA key cannot be read")
		}
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); !ok || k.N.BitLen() < minRSA {
			return fmt.Errorf("an RSA key must have at least %d bits; make a better one with: ssh-keygen -t ed25519", minRSA)
		}
		return nil
	}
	return fmt.Errorf("keys of type %s are not accepted; make one with: ssh-keygen -t ed25519", refuse.Printable(key.Type(), 60))
}

// KeyFingerprint is the fingerprint, SHA256:…, of a public key as one line of a .pub file, good enough or not.
func KeyFingerprint(line []byte) (string, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace(line))
	if err != nil {
		return "", errors.New("this is not an SSH public key; give one line as in a .pub file")
	}
	return ssh.FingerprintSHA256(key), nil
}

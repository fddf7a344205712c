package tunnel

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// Algorithms is the part of an SSH configuration that client and server of Helmline share. AES-GCM comes first, being
// three times as fast as ChaCha20 here; where a MAC is needed at all it is encrypt-then-MAC.
func Algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
		Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305},
		MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
	}
}

// A KeyError says that the relay showed another key than the one pinned at enrolment. Nothing was sent to it. Trying
// again does not help.
type KeyError struct{ Want, Got string } // SHA256 fingerprints

func (e *KeyError) Error() string {
	return fmt.Sprintf("the relay shows the key %s, but this computer is enrolled with a relay whose key is %s; "+
		"if its operator has changed the key, enrol this computer again, else someone stands in between", e.Got, e.Want)
}

// pin accepts only the key with this fingerprint.
func pin(want string) ssh.HostKeyCallback {
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		got := ssh.FingerprintSHA256(key)
		if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
			return &KeyError{want, got}
		}
		return nil
	}
}

// publicKey is the name under which a verified key stands in ssh.Permissions.
type publicKey struct{}

// KeyPermissions is what the relay's PublicKeyCallback returns for a computer: the key that was verified, kept where
// ServeEnroll and VerifiedKey find it. x/crypto calls the callback for keys that are merely offered too; only what
// stands in the connection's permissions was proven.
func KeyPermissions(key ssh.PublicKey) *ssh.Permissions {
	return &ssh.Permissions{ExtraData: map[any]any{publicKey{}: key}}
}

// VerifiedKey is the key that the other side of a server's connection has proven to hold.
func VerifiedKey(conn ssh.Conn) (ssh.PublicKey, error) {
	if c, ok := conn.(*ssh.ServerConn); ok && c.Permissions != nil {
		if key, ok := c.Permissions.ExtraData[publicKey{}].(ssh.PublicKey); ok {
			return key, nil
		}
	}
	return nil, errors.New("the connection was not opened with a key")
}

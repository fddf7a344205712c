package tunnel

import (
	"bytes"
	"encoding/base64"
	"errors"
	"hash/crc32"
	"net"
	"strings"

	"github.com/helmline/helmline/bridge/wire"
)

// A Token lets one computer join one relay, once. It carries the fingerprint of the relay's key, so that no key is ever
// trusted at first sight.
type Token struct {
	Relay       string // host:port of the relay's SSH door
	Fingerprint string // of the relay's key: "SHA256:" and 43 characters
	ID          string // names the token on the relay, not secret, at most 64 bytes
	Secret      string // 160 bits as the relay wrote them, at most 64 bytes
}

// Limits of a token, bytes.
const (
	maxRelay    = 255
	maxTokenID  = 64
	maxSecret   = 64
	maxToken    = 1024
	tokenPrefix = "hl1."
	fingerprint = "SHA256:"
)

// errToken is for everything that is not a whole token: its text must not be quoted, it may be most of a secret.
var errToken = errors.New(`this is not a whole token; copy all of the word that begins with "hl1."`)

// String is the token as people copy it: "hl1." and base64url of relay, fingerprint, id, secret and a CRC-32 that
// notices a piece cut off. It holds the secret.
func (t Token) String() string {
	sum, _ := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(t.Fingerprint, fingerprint)) // wrong only in a token that ParseToken refuses
	b := wire.AppendString8(nil, t.Relay)
	b = wire.AppendString8(b, string(sum))
	b = wire.AppendString8(b, t.ID)
	b = wire.AppendString8(b, t.Secret)
	c := crc32.ChecksumIEEE(b)
	b = append(b, byte(c>>24), byte(c>>16), byte(c>>8), byte(c))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads what String wrote; space around it is dropped.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	body, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok || len(s) > maxToken {
		return Token{}, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) < 4 {
		return Token{}, errToken
	}
	r := wire.NewReader(bytes.NewReader(b))
	t := Token{Relay: text(r, "relay", maxRelay)}
	sum := r.String8("fingerprint", 32)
	t.ID = text(r, "id", maxTokenID)
	t.Secret = text(r, "secret", maxSecret)
	n := len(b) - 4
	if r.U32() != crc32.ChecksumIEEE(b[:n]) || r.Err() != nil || len(sum) != 32 || t.ID == "" || t.Secret == "" {
		return Token{}, errToken
	}
	if _, port, err := net.SplitHostPort(t.Relay); err != nil || port == "" {
		return Token{}, errToken
	}
	t.Fingerprint = fingerprint + base64.RawStdEncoding.EncodeToString([]byte(sum))
	if t.String() != s {
		return Token{}, errToken
	}
	return t, nil
}

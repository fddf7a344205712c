package rfb

import (
	"crypto/des" //nolint // VncAuth is DES; it is only used for codes that live once
	"crypto/rand"
	"crypto/subtle"
	"io"
	"math/bits"

	"github.com/helmline/helmline/bridge/wire"
)

// Challenge sends 16 random bytes and reads the viewer's answer. Answers says whether it is
// right. RFC 6143, section 7.2.2.
func Challenge(rw io.ReadWriter) (challenge, response [16]byte, err error) {
	if _, err := rand.Read(challenge[:]); err != nil {
		return challenge, response, err
	}
	if _, err := rw.Write(challenge[:]); err != nil {
		return challenge, response, err
	}
	r := wire.NewReader(rw)
	r.Full(response[:])
	return challenge, response, inside(r.Err())
}

// Answers says, in a time that does not depend on how wrong it is, whether a response is the right one.
func Answers(secret string, challenge, response [16]byte) bool {
	want := VncResponse(secret, challenge)
	return subtle.ConstantTimeCompare(want[:], response[:]) == 1
}

// VncResponse is the right answer to a challenge: both halves encrypted by DES under the first eight bytes of the secret,
// whose bits each go in reverse. That is 56 bits at best, so the secret must be of use only once.
func VncResponse(secret string, challenge [16]byte) [16]byte {
	var key [8]byte
	copy(key[:], secret)
	for i, k := range key {
		key[i] = bits.Reverse8(k)
	}
	c, err := des.NewCipher(key[:])
	if err != nil {
		panic(err) // eight bytes are always a key
	}
	var out [16]byte
	c.Encrypt(out[:8], challenge[:8])
	c.Encrypt(out[8:], challenge[8:])
	return out
}

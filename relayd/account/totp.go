package account

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// What authenticator programs all know: RFC 6238 with SHA-1, 6 digits and 30 s.
const (
	totpBytes  = 20
	totpStep   = 30 * time.Second
	totpDigits = 6
	totpSkew   = 1 // steps that a clock may be off, either way
)

// totpCode is the code of a step: RFC 4226, section 5.3.
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, step) // a hash takes everything
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1000000)
}

// totpFind is the step of a code around now. It looks at every step that there is, whichever fits.
func totpFind(secret []byte, code string, now time.Time) (step int64, ok bool) {
	this := now.Unix() / int64(totpStep.Seconds())
	for s := this - totpSkew; s <= this+totpSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

var b32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpURI is what authenticator programs read from a QR code.
func totpURI(secret []byte, relay, email string) string {
	return "otpauth://totp/" + url.PathEscape(relay+":"+email) + "?secret=" + b32.EncodeToString(secret) + "&issuer=" + url.QueryEscape(relay)
}

// inFours writes a code as people can type it.
func inFours(s string) string {
	var parts []string
	for len(s) > 4 {
		parts = append(parts, s[:4])
		s = s[4:]
	}
	return strings.ToLower(strings.Join(append(parts, s), "-"))
}

// plainCode is a code as it was made, however it was typed.
func plainCode(s string) string {
	return strings.ToUpper(strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' {
			return -1
		}
		return c
	}, strings.TrimSpace(s)))
}

package rfb

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"

	"github.com/helmline/helmline/bridge/wire"
)

// What a viewer is asked for within RA2.
const (
	AskUser     uint8 = 1 // user name and password
	AskPassword uint8 = 2 // a password alone
)

// Limits of RA2.
const (
	MinRSABits = 1024 // of a viewer's key
	MaxRSABits = 4096
	maxLogin   = 1024 // bytes of a message before SecurityResult
)

// ErrExchange says that a viewer's part of the key exchange of RA2 is not right: it does not hold the keys it should, or
// somebody changed what was said.
var ErrExchange = errors.New("the key exchange of RSA-AES failed")

// An RSAKey is a server's key for RA2.
type RSAKey struct {
	private *rsa.PrivateKey
	public  []byte     // as it is sent
	turn    sync.Mutex // held for one exchange's work with RSA, some 2 ms: a flood of viewers keeps one core busy, not all
}

// NewRSAKey takes a key of 2048 bits or more. Viewers make one as long for each connection, so longer is slow for them.
func NewRSAKey(private *rsa.PrivateKey) (*RSAKey, error) {
	if n := private.N.BitLen(); n < 2048 || n > MaxRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits, not 2048 to %d", n, MaxRSABits)
	}
	n := private.Size()
	b := binary.BigEndian.AppendUint32(nil, uint32(private.N.BitLen()))
	b = append(b, make([]byte, 2*n)...)
	private.N.FillBytes(b[4 : 4+n])
	big.NewInt(int64(private.E)).FillBytes(b[4+n:])
	return &RSAKey{private: private, public: b}, nil
}

// Fingerprint is that of the public key as viewers show it: the first eight bytes of the SHA-1 of what is sent.
func (k *RSAKey) Fingerprint() string {
	sum := sha1.Sum(k.public)
	pairs := make([]string, 8)
	for i := range pairs {
		pairs[i] = hex.EncodeToString(sum[i : i+1])
	}
	return strings.Join(pairs, "-")
}

// RA2 does the key exchange with a viewer that chose t, one of the four RSA-AES types. Two random numbers, each encrypted to the
// other's RSA key, make the keys of AES in EAX mode, and the first thing sealed with those are hashes of both RSA keys. Then
// follow ReadLogin and WriteResult. Deadlines on conn hold.
//
// What a viewer sends is not decrypted but tried: a bad padding gives keys that nobody knows, and looks like a wrong tag.
func RA2(conn net.Conn, t SecurityType, key *RSAKey) (*RA2Conn, error) {
	size, newHash := 16, sha1.New
	if t == SecRA2256 || t == SecRA2ne256 {
		size, newHash = 32, sha256.New
	}
	sum := func(a, b []byte) []byte {
		h := newHash()
		h.Write(a)
		h.Write(b)
		return h.Sum(nil)
	}
	if _, err := conn.Write(key.public); err != nil {
		return nil, err
	}
	public, theirs, err := readRSAKey(conn)
	if err != nil {
		return nil, err
	}
	ours, viewers := make([]byte, size), make([]byte, size) // the random numbers
	defer clear(ours)
	defer clear(viewers)
	if _, err := rand.Read(ours); err != nil {
		return nil, err
	}
	if _, err := rand.Read(viewers); err != nil { // stays if theirs is no good
		return nil, err
	}
	message, err := key.encrypt(theirs, (int(binary.BigEndian.Uint32(public))+7)/8, ours)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(message); err != nil { // noVNC wants it in one piece
		return nil, err
	}
	if err := key.readRandom(conn, viewers); err != nil {
		return nil, err
	}
	up, down := sum(ours, viewers)[:size], sum(viewers, ours)[:size]
	defer clear(up)
	defer clear(down)
	c, err := newRA2Conn(conn, up, down, maxLogin)
	if err != nil {
		return nil, err
	}
	c.bare = t == SecRA2ne || t == SecRA2ne256
	if _, err := c.Write(sum(key.public, public)); err != nil {
		return nil, err
	}
	want := sum(public, key.public)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return nil, inside(err)
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return nil, fmt.Errorf("%w: the viewer saw other keys", ErrExchange)
	}
	return c, nil
}

// readRSAKey reads a public key: its size in bits, modulus and exponent, both as long as the size says. raw is what was read.
func readRSAKey(from io.Reader) (raw []byte, key *rsa.PublicKey, err error) {
	r := wire.NewReader(from)
	raw = make([]byte, 4)
	r.Full(raw)
	bits := binary.BigEndian.Uint32(raw)
	if r.Err() == nil && (bits < MinRSABits || bits > MaxRSABits) {
		return nil, nil, fmt.Errorf("%w: the viewer's RSA key has %d bits, not %d to %d", ErrExchange, bits, MinRSABits, MaxRSABits)
	}
	if r.Err() != nil {
		return nil, nil, inside(r.Err())
	}
	n := (int(bits) + 7) / 8
	raw = append(raw, make([]byte, 2*n)...)
	r.Full(raw[4:])
	if r.Err() != nil {
		return nil, nil, inside(r.Err())
	}
	modulus, exponent := new(big.Int).SetBytes(raw[4:4+n]), new(big.Int).SetBytes(raw[4+n:])
	switch {
	case modulus.BitLen() < MinRSABits || modulus.BitLen() > int(bits) || modulus.Bit(0) == 0:
		return nil, nil, fmt.Errorf("%w: the modulus of the viewer's RSA key is even or of %d bits, not %d to %d", ErrExchange, modulus.BitLen(), MinRSABits, bits)
	case exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0:
		return nil, nil, fmt.Errorf("%w: the exponent of the viewer's RSA key is even, below 3, or of more than 31 bits", ErrExchange)
	}
	return raw, &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// encrypt is the message with a random number for the holder of another key, in a ciphertext of that length.
func (k *RSAKey) encrypt(to *rsa.PublicKey, length int, random []byte) ([]byte, error) {
	k.turn.Lock()
	//lint:ignore SA1019 the protocol has this padding; a modulus of the sender's own choice gives nothing away but what is for it
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, to, random)
	k.turn.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExchange, err)
	}
	message := make([]byte, 2+length)
	binary.BigEndian.PutUint16(message, uint16(length))
	copy(message[2+length-len(sealed):], sealed)
	return message, nil
}

// readRandom reads the viewer's random number. random keeps what it holds if the padding is not right, in the same time.
func (k *RSAKey) readRandom(from io.Reader, random []byte) error {
	r := wire.NewReader(from)
	if n := int(r.U16()); r.Err() == nil && n != k.private.Size() {
		return fmt.Errorf("%w: the viewer's random number is encrypted to %d bytes, not %d", ErrExchange, n, k.private.Size())
	}
	sealed := make([]byte, k.private.Size())
	r.Full(sealed)
	if r.Err() != nil {
		return inside(r.Err())
	}
	k.turn.Lock()
	//lint:ignore SA1019 the protocol has this padding; the outcome shows only as a wrong tag
	err := rsa.DecryptPKCS1v15SessionKey(nil, k.private, sealed, random)
	k.turn.Unlock()
	if err != nil { // not below the modulus, which everybody can see
		return fmt.Errorf("%w: %w", ErrExchange, err)
	}
	return nil
}

// ReadLogin asks for what subtype says and reads it. The caller wipes the password.
func (c *RA2Conn) ReadLogin(subtype uint8) (user string, password []byte, err error) {
	if _, err := c.Write([]byte{subtype}); err != nil {
		return "", nil, err
	}
	r := wire.NewReader(c)
	name := make([]byte, r.U8())
	r.Full(name)
	password = make([]byte, r.U8())
	r.Full(password)
	if err = inside(r.Err()); err == nil && c.bare && len(c.text) > 0 {
		err = fmt.Errorf("%w: the viewer sent more than a log-in", ErrExchange)
	}
	if err != nil {
		clear(c.received)
		clear(password)
		return "", nil, err
	}
	clear(c.received[:c.from-eaxBlock-len(c.text)])
	clear(c.received[c.to:])
	return string(name), password, nil
}

// WriteResult ends the security handshake like the function of that name, and gives back what to go on with: c, or the bare
// connection with the types that end in "ne".
func (c *RA2Conn) WriteResult(minor int, reason string) (net.Conn, error) {
	if c.bare {
		return c.Conn, WriteResult(c.Conn, minor, reason)
	}
	c.max = maxMessage
	return c, WriteResult(c, minor, reason)
}

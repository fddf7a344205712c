package rfbtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"

	"github.com/helmline/helmline/bridge/wire"
)

// rsaAES does the viewer's side of RSA-AES up to SecurityResult. It returns the connection to go on with.
func rsaAES(conn net.Conn, chosen uint8, cfg Config) (net.Conn, error) {
	size, sum := 16, func(b []byte) []byte { s := sha1.Sum(b); return s[:] }
	if chosen == secRA2256 || chosen == secRA2ne256 {
		size, sum = 32, func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	}
	r := wire.NewReader(conn)
	server, public, err := readPublic(r)
	if err != nil {
		return conn, err
	}
	if got := fingerprint(server); cfg.Fingerprint != "" && got != cfg.Fingerprint {
		return conn, fmt.Errorf("the server's key has the fingerprint %s", got)
	}
	key := cfg.Key
	if key == nil {
		if key, err = rsa.GenerateKey(rand.Reader, 1024); err != nil {
			return conn, err
		}
	}
	own := binary.BigEndian.AppendUint32(nil, uint32(key.N.BitLen()))
	own = append(own, key.N.FillBytes(make([]byte, key.Size()))...)
	own = append(own, big.NewInt(int64(key.E)).FillBytes(make([]byte, key.Size()))...)
	random := make([]byte, size)
	if _, err := rand.Read(random); err != nil {
		return conn, err
	}
	//lint:ignore SA1019 the protocol has this padding
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, public, random)
	if err != nil {
		return conn, err
	}
	if _, err := conn.Write(own); err != nil {
		return conn, err
	}
	servers := make([]byte, r.U16())
	if r.Err() == nil && len(servers) != key.Size() {
		return conn, fmt.Errorf("the server's random number came in %d bytes", len(servers))
	}
	r.Full(servers)
	if r.Err() != nil {
		return conn, r.Err()
	}
	//lint:ignore SA1019 the protocol has this padding
	if servers, err = rsa.DecryptPKCS1v15(nil, key, servers); err != nil {
		return conn, err
	}
	if len(servers) != size {
		return conn, fmt.Errorf("the server's random number has %d bytes", len(servers))
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(sealed))), sealed...)); err != nil {
		return conn, err
	}
	s := &sealedConn{
		Conn: conn,
		up:   eax{key: sum(append(bytes.Clone(servers), random...))[:size]},
		down: eax{key: sum(append(bytes.Clone(random), servers...))[:size]},
	}
	// The server's hash is there before the viewer's is sent: the server need not wait, and a connection without a buffer could not cross them.
	hash := make([]byte, len(sum(nil)))
	if _, err := io.ReadFull(s, hash); err != nil {
		return conn, err
	}
	if !bytes.Equal(hash, sum(append(bytes.Clone(server), own...))) {
		return conn, errors.New("the server's hash is wrong")
	}
	if _, err := s.Write(sum(append(bytes.Clone(own), server...))); err != nil {
		return conn, err
	}
	in := wire.NewReader(s)
	user, password := cfg.User, cfg.Password
	switch subtype := in.U8(); {
	case in.Err() != nil:
		return conn, in.Err()
	case subtype == 2:
		user = ""
	case subtype != 1:
		return conn, fmt.Errorf("the server asks for %d", subtype)
	}
	if _, err := s.Write(wire.AppendString8(wire.AppendString8(nil, user), password)); err != nil {
		return conn, err
	}
	if chosen == secRA2ne || chosen == secRA2ne256 {
		if len(s.text) > 0 {
			return conn, errors.New("the server sent more than it should")
		}
		return conn, nil
	}
	return s, nil
}

func fingerprint(public []byte) string {
	s := sha1.Sum(public)
	return strings.ReplaceAll(fmt.Sprintf("% x", s[:8]), " ", "-")
}

// readPublic reads a public key, and gives also what was read.
func readPublic(r *wire.Reader) ([]byte, *rsa.PublicKey, error) {
	bits := r.U32()
	if r.Err() == nil && (bits < 1024 || bits > 8192) {
		return nil, nil, fmt.Errorf("the server's key has %d bits", bits)
	}
	n, e := make([]byte, (bits+7)/8), make([]byte, (bits+7)/8)
	r.Full(n)
	r.Full(e)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	return append(append(binary.BigEndian.AppendUint32(nil, bits), n...), e...), key, r.Err()
}

// A sealedConn carries everything in messages of AES-EAX.
type sealedConn struct {
	net.Conn
	up, down eax
	text     []byte
}

func (s *sealedConn) Read(p []byte) (int, error) {
	for len(s.text) == 0 {
		r := wire.NewReader(s.Conn)
		n := r.U16()
		m := make([]byte, int(n)+16)
		r.Full(m)
		if r.Err() != nil {
			return 0, r.Err()
		}
		text, tag := s.down.do(m[:n], binary.BigEndian.AppendUint16(nil, n), false)
		if !bytes.Equal(tag, m[n:]) {
			return 0, errors.New("a message of the server has a wrong tag")
		}
		s.text = text
	}
	n := copy(p, s.text)
	s.text = s.text[n:]
	return n, nil
}

func (s *sealedConn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), 8192)]
		length := binary.BigEndian.AppendUint16(nil, uint16(len(part)))
		text, tag := s.up.do(part, length, true)
		if _, err := s.Conn.Write(append(append(length, text...), tag...)); err != nil {
			return n, err
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

// An eax is one direction: AES in EAX mode with a counter as its nonce.
type eax struct {
	key   []byte
	count uint64
}

// do encrypts or decrypts, and gives the tag.
func (e *eax) do(in, ad []byte, encrypts bool) (out, tag []byte) {
	nonce := binary.LittleEndian.AppendUint64(nil, e.count)
	e.count++
	block, err := aes.NewCipher(e.key)
	if err != nil {
		panic(err) // keys have 16 or 32 bytes
	}
	n := omac(block, 0, append(nonce, make([]byte, 8)...))
	out = make([]byte, len(in))
	cipher.NewCTR(block, n).XORKeyStream(out, in)
	text := in
	if encrypts {
		text = out
	}
	h, c := omac(block, 1, ad), omac(block, 2, text)
	tag = make([]byte, 16)
	for i := range tag {
		tag[i] = n[i] ^ h[i] ^ c[i]
	}
	return out, tag
}

// omac is the CMAC of a block that holds t, and x. NIST SP 800-38B.
func omac(block cipher.Block, t byte, x []byte) []byte {
	x = append(append(make([]byte, 15), t), x...)
	k := make([]byte, 16)
	block.Encrypt(k, k)
	twice(k)
	if len(x)%16 != 0 {
		twice(k)
		x = append(x, 0x80)
		x = append(x, make([]byte, (16-len(x)%16)%16)...)
	}
	for i, b := range k {
		x[len(x)-16+i] ^= b
	}
	cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(x, x)
	return x[len(x)-16:]
}

// twice doubles in GF(2^128).
func twice(b []byte) {
	n := new(big.Int).SetBytes(b)
	n.Lsh(n, 1)
	if n.BitLen() > 128 {
		n.SetBit(n, 128, 0)
		n.Xor(n, big.NewInt(0x87))
	}
	n.FillBytes(b)
}

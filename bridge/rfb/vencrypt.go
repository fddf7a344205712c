package rfb

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/helmline/helmline/bridge/wire"
)

// VeNCrypt subtypes: TLS with a certificate, then a user name and password, or VncAuth.
const (
	X509Vnc   uint32 = 261
	X509Plain uint32 = 262
)

// Limits of the Plain login.
const (
	MaxUser     = 255 // bytes
	MaxPassword = 255 // bytes
)

// ErrEarlyBytes says that something stood behind the choice of a VeNCrypt subtype before TLS began: bytes that somebody
// put in to have them taken for the viewer's.
var ErrEarlyBytes = errors.New("the viewer sent bytes between its VeNCrypt choice and TLS")

// X509 does VeNCrypt 0.2 on conn with these subtypes on offer, then the server's side of TLS, and gives the viewer's choice. conn must be
// the bare connection, so that nothing read ahead of TLS can be taken for what TLS protects. Deadlines on conn hold.
func X509(conn net.Conn, cfg *tls.Config, subtypes ...uint32) (t *tls.Conn, chosen uint32, err error) {
	if _, err := conn.Write([]byte{0, 2}); err != nil {
		return nil, 0, err
	}
	r := wire.NewReader(conn)
	if major, minor := r.U8(), r.U8(); r.Err() != nil {
		return nil, 0, inside(r.Err())
	} else if major != 0 || minor != 2 {
		_, err := conn.Write([]byte{0xff})
		return nil, 0, errors.Join(fmt.Errorf("the viewer wants VeNCrypt %d.%d, not 0.2", major, minor), err)
	}
	offer := []byte{0, byte(len(subtypes))}
	for _, s := range subtypes {
		offer = binary.BigEndian.AppendUint32(offer, s)
	}
	if _, err := conn.Write(offer); err != nil {
		return nil, 0, err
	}
	if chosen, err = lastChoice(conn); err != nil {
		return nil, 0, err
	}
	if !slices.Contains(subtypes, chosen) {
		return nil, 0, fmt.Errorf("VeNCrypt subtype %d: %w", chosen, ErrNotOffered)
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return nil, 0, err
	}
	t = tls.Server(conn, cfg)
	if err := t.Handshake(); err != nil {
		return nil, 0, inside(err)
	}
	return t, chosen, nil
}

// lastChoice reads four bytes and makes room for a fifth, which must not come: a viewer waits for the answer.
func lastChoice(conn net.Conn) (uint32, error) {
	var b [5]byte
	n := 0
	for n < 4 {
		m, err := conn.Read(b[n:])
		n += m
		if err != nil && n < 4 {
			return 0, inside(err)
		}
	}
	if n > 4 {
		return 0, ErrEarlyBytes
	}
	return binary.BigEndian.Uint32(b[:4]), nil
}

// ReadPlain reads the user name and the password of the Plain login. Either may be empty. The caller wipes the password.
func ReadPlain(r io.Reader) (user string, password []byte, err error) {
	w := wire.NewReader(r)
	n := w.Count32("bytes of user name", MaxUser)
	m := w.Count32("bytes of password", MaxPassword)
	name := make([]byte, n)
	password = make([]byte, m)
	w.Full(name)
	w.Full(password)
	if w.Err() != nil {
		clear(password)
		return "", nil, inside(w.Err())
	}
	return string(name), password, nil
}

// ServerTLS is a TLS setting that every VeNCrypt viewer of today can use: at least TLS 1.2, and there only ECDHE with
// AES-GCM or ChaCha20. Viewers never send a certificate of their own.
func ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

package rfbtest

import (
	"crypto/des"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/wire"
)

// maxText is the longest text accepted from a server.
const maxText = 1 << 20

// Security types of RFC 6143, VeNCrypt and RSA-AES.
const (
	secNone     = 1
	secVncAuth  = 2
	secRA2      = 5
	secRA2ne    = 6
	secVeNCrypt = 19
	secRA2256   = 129
	secRA2ne256 = 130
)

// authenticate does everything up to and with SecurityResult. It returns the connection to go on with.
func authenticate(conn net.Conn, cfg Config) (net.Conn, error) {
	r := wire.NewReader(conn)
	var hello [12]byte
	r.Full(hello[:])
	if r.Err() != nil {
		return conn, r.Err()
	}
	var major, server int
	if _, err := fmt.Sscanf(string(hello[:]), "RFB %03d.%03d\n", &major, &server); err != nil || major != 3 {
		return conn, fmt.Errorf("the server began with %q", hello)
	}
	minor := cfg.Minor
	if minor == 0 {
		minor = 8
	}
	minor = min(minor, server)
	if _, err := fmt.Fprintf(conn, "RFB 003.%03d\n", minor); err != nil {
		return conn, err
	}
	chosen, err := choose(conn, r, minor, cfg)
	if err != nil {
		return conn, err
	}
	switch chosen {
	case secVncAuth:
		err = answer(conn, r, cfg.Code)
	case secVeNCrypt:
		if conn, err = venCrypt(conn, r, cfg); err == nil {
			r = wire.NewReader(conn)
			err = login(conn, r, cfg)
		}
	case secRA2, secRA2ne, secRA2256, secRA2ne256:
		if conn, err = rsaAES(conn, chosen, cfg); err == nil {
			r = wire.NewReader(conn)
		}
	}
	if err != nil {
		return conn, err
	}
	if chosen == secNone && minor < 8 {
		return conn, nil
	}
	if r.U32() != 0 && r.Err() == nil {
		refused := &RefusedError{}
		if minor >= 8 {
			refused.Reason = string(r.Bytes32("reason", maxText))
		}
		return conn, refused
	}
	return conn, r.Err()
}

// choose reads the server's list and answers it.
func choose(conn net.Conn, r *wire.Reader, minor int, cfg Config) (uint8, error) {
	var offer []byte
	if minor == 3 {
		if t := r.U32(); t != 0 {
			offer = []byte{byte(t)}
		}
	} else {
		offer = make([]byte, r.U8())
		r.Full(offer)
	}
	if r.Err() != nil {
		return 0, r.Err()
	}
	if len(offer) == 0 {
		reason := r.Bytes32("reason", maxText)
		if r.Err() != nil {
			return 0, r.Err()
		}
		return 0, &RefusedError{Reason: string(reason)}
	}
	wanted := []byte{cfg.Security}
	if cfg.Security == 0 {
		wanted = []byte{secVncAuth, secNone}
		if cfg.Roots != nil {
			wanted = []byte{secVeNCrypt, secVncAuth, secNone}
		}
	}
	for _, t := range wanted {
		if slices.Contains(offer, t) {
			if minor == 3 {
				return t, nil
			}
			_, err := conn.Write([]byte{t})
			return t, err
		}
	}
	return 0, fmt.Errorf("the server offers security types %d, not one of %d", offer, wanted)
}

// venCrypt chooses a subtype and begins TLS.
func venCrypt(conn net.Conn, r *wire.Reader, cfg Config) (net.Conn, error) {
	if major, minor := r.U8(), r.U8(); r.Err() == nil && (major != 0 || minor != 2) {
		return conn, fmt.Errorf("the server speaks VeNCrypt %d.%d", major, minor)
	}
	if r.Err() != nil {
		return conn, r.Err()
	}
	if _, err := conn.Write([]byte{0, 2}); err != nil {
		return conn, err
	}
	if ack := r.U8(); ack != 0 {
		return conn, fmt.Errorf("the server refused VeNCrypt 0.2 (%d)", ack)
	}
	offer := make([]uint32, r.U8())
	for i := range offer {
		offer[i] = r.U32()
	}
	if r.Err() != nil {
		return conn, r.Err()
	}
	subtype := subtypeOf(cfg)
	if !slices.Contains(offer, subtype) {
		return conn, fmt.Errorf("the server offers VeNCrypt subtypes %d, not %d", offer, subtype)
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, subtype)); err != nil {
		return conn, err
	}
	if ack := r.U8(); ack != 1 || r.Err() != nil {
		return conn, fmt.Errorf("the server does not begin TLS (%d, %v)", ack, r.Err())
	}
	t := tls.Client(conn, &tls.Config{RootCAs: cfg.Roots, ServerName: cfg.ServerName})
	return t, t.Handshake()
}

func subtypeOf(cfg Config) uint32 {
	switch {
	case cfg.Subtype != 0:
		return cfg.Subtype
	case cfg.Code != "":
		return rfb.X509Vnc
	}
	return rfb.X509Plain
}

// login is what the VeNCrypt subtype asks for inside TLS.
func login(conn net.Conn, r *wire.Reader, cfg Config) error {
	if subtypeOf(cfg) == rfb.X509Vnc {
		return answer(conn, r, cfg.Code)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(cfg.User)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(cfg.Password)))
	_, err := conn.Write(append(append(b, cfg.User...), cfg.Password...))
	return err
}

// answer answers the challenge of VncAuth.
func answer(w io.Writer, r *wire.Reader, code string) error {
	var challenge, key, out [16]byte
	r.Full(challenge[:])
	if r.Err() != nil {
		return r.Err()
	}
	copy(key[:8], code)
	for i, b := range key[:8] {
		var mirrored byte
		for bit := range 8 {
			mirrored |= b >> bit & 1 << (7 - bit)
		}
		key[i] = mirrored
	}
	block, err := des.NewCipher(key[:8])
	if err != nil {
		return err
	}
	block.Encrypt(out[:], challenge[:8])
	block.Encrypt(out[8:], challenge[8:])
	_, err = w.Write(out[:])
	return err
}

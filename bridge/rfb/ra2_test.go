package rfb_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// rsaKeys are a server's and a viewer's, made once: that takes long.
var rsaKeys = sync.OnceValues(func() (server, viewer *rsa.PrivateKey) {
	server, err1 := rsa.GenerateKey(rand.Reader, 2048)
	viewer, err2 := rsa.GenerateKey(rand.Reader, 1024)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	return server, viewer
})

func rsaKey(t testing.TB) (*rfb.RSAKey, *rsa.PrivateKey) {
	t.Helper()
	server, viewer := rsaKeys()
	key, err := rfb.NewRSAKey(server)
	if err != nil {
		t.Fatal(err)
	}
	return key, viewer
}

var allRA2 = []rfb.SecurityType{rfb.SecRA2256, rfb.SecRA2, rfb.SecRA2ne256, rfb.SecRA2ne}

// secureRA2 is a server with RSA-AES: it returns what the viewer logged in with.
func secureRA2(conn net.Conn, key *rfb.RSAKey, subtype uint8, reason string) (user, password string, err error) {
	minor, err := rfb.ServerVersion(conn)
	if err != nil {
		return "", "", err
	}
	chosen, err := rfb.OfferSecurity(conn, minor, allRA2...)
	if err != nil {
		return "", "", err
	}
	c, err := rfb.RA2(conn, chosen, key)
	if err != nil {
		return "", "", err
	}
	user, secret, err := c.ReadLogin(subtype)
	if err != nil {
		return "", "", err
	}
	password = string(secret)
	next, err := c.WriteResult(minor, reason)
	if err != nil || reason != "" {
		return user, password, err
	}
	if _, err := rfb.ReadClientInit(next); err != nil {
		return user, password, err
	}
	_, err = next.Write([]byte(serverInit))
	return user, password, err
}

// meetRA2 runs secureRA2 against a viewer.
func meetRA2(server, viewer net.Conn, key *rfb.RSAKey, subtype uint8, reason string, c rfbtest.Config) (user, password string, serverErr, viewerErr error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		user, password, serverErr = secureRA2(server, key, subtype, reason)
		if serverErr != nil || reason != "" {
			server.Close()
		}
	})
	client, viewerErr := rfbtest.Handshake(viewer, c)
	if viewerErr != nil {
		viewer.Close()
	}
	wg.Wait()
	server.Close()
	if client != nil {
		client.Close()
	}
	return user, password, serverErr, viewerErr
}

// A tap notes what a side writes.
type tap struct {
	net.Conn
	out    bytes.Buffer
	writes []int // their lengths
}

func (c *tap) Write(p []byte) (int, error) {
	c.out.Write(p)
	c.writes = append(c.writes, len(p))
	return c.Conn.Write(p)
}

func TestRA2(t *testing.T) {
	defer goleak.VerifyNone(t)
	key, viewer := rsaKey(t)
	good := rfbtest.Config{User: "alice ß", Password: "geheim ß", Key: viewer, Fingerprint: key.Fingerprint(), Manual: true}
	with := func(c rfbtest.Config, f func(*rfbtest.Config)) rfbtest.Config { f(&c); return c }
	long := strings.Repeat("x", 255)
	for _, chosen := range allRA2 {
		for _, c := range []struct {
			name           string
			cfg            rfbtest.Config
			subtype        uint8
			reason         string
			user, password string
			server, viewer string // parts of their errors
		}{
			{name: "user and password", cfg: good, subtype: rfb.AskUser, user: good.User, password: good.Password},
			{name: "password alone", cfg: good, subtype: rfb.AskPassword, password: good.Password},
			{name: "nobody", cfg: with(good, func(c *rfbtest.Config) { c.User, c.Password = "", "" }), subtype: rfb.AskUser},
			{name: "the longest", cfg: with(good, func(c *rfbtest.Config) { c.User, c.Password = long, long }), subtype: rfb.AskUser, user: long, password: long},
			{name: "refused", cfg: good, subtype: rfb.AskUser, reason: "1326: wrong", user: good.User, password: good.Password,
				viewer: "refused by the server: 1326: wrong"},
			{name: "another key", cfg: with(good, func(c *rfbtest.Config) { c.Fingerprint = "00-00-00-00-00-00-00-00" }), subtype: rfb.AskUser,
				server: "EOF", viewer: "fingerprint"},
		} {
			t.Run(chosen.String()+"/"+c.name, func(t *testing.T) {
				a, b := net.Pipe()
				says, hears := &tap{Conn: a}, &tap{Conn: b}
				c.cfg.Security = uint8(chosen)
				user, password, serverErr, viewerErr := meetRA2(says, hears, key, c.subtype, c.reason, c.cfg)
				if user != c.user || password != c.password {
					t.Errorf("logged in as %q with %q", user, password)
				}
				for _, e := range []struct {
					who  string
					err  error
					want string
				}{{"server", serverErr, c.server}, {"viewer", viewerErr, c.viewer}} {
					if (e.err == nil) != (e.want == "") || e.err != nil && !strings.Contains(e.err.Error(), e.want) {
						t.Errorf("the %s's error is %v, not %q", e.who, e.err, e.want)
					}
				}
				if c.password != "" && (bytes.Contains(hears.out.Bytes(), []byte(c.password)) || bytes.Contains(hears.out.Bytes(), []byte(good.User))) {
					t.Error("the log-in went in clear")
				}
				bare := chosen == rfb.SecRA2ne || chosen == rfb.SecRA2ne256
				if c.viewer == "" && bytes.Contains(says.out.Bytes(), []byte("desk7")) != bare {
					t.Errorf("ServerInit in clear: %v", !bare)
				}
				if c.reason != "" && bytes.Contains(says.out.Bytes(), []byte(c.reason)) != bare {
					t.Errorf("the reason in clear: %v", !bare)
				}
				// Version, list, public key, and then the random number in one piece.
				if c.viewer == "" && !slices.Equal(says.writes[:4], []int{12, 5, 4 + 2*256, 2 + 128}) {
					t.Errorf("writes of %d bytes", says.writes)
				}
			})
		}
	}
}

// altered changes one byte of what is written.
type altered struct {
	net.Conn
	at int
}

func (c *altered) Write(p []byte) (int, error) {
	if c.at >= 0 && c.at < len(p) {
		p = bytes.Clone(p)
		p[c.at] ^= 1 << (c.at % 8)
	}
	c.at -= len(p)
	return c.Conn.Write(p)
}

// Whatever byte somebody in between changes, of either side, nobody logs in and no password comes out.
func TestRA2Altered(t *testing.T) {
	defer goleak.VerifyNone(t)
	key, viewer := rsaKey(t)
	cfg := rfbtest.Config{User: "alice", Password: "geheim", Key: viewer, Security: uint8(rfb.SecRA2256), Manual: true}
	const begin = 13 // behind version and choice
	// Where lengths stand, whose change only makes the other side wait: the deadline is then what ends it.
	end := begin + 4 + 2*128 + 2 + 256 + 2 + 32 + 16 + 2 + 13 + 16
	lengths := []int{begin, begin + 1, begin + 2, begin + 3, begin + 260, begin + 261, begin + 518, begin + 519, begin + 568, begin + 569}
	for at := begin; at < end; at++ {
		if testing.Short() && at%7 > 0 {
			continue
		}
		a, b := net.Pipe()
		patience := 20 * time.Second
		if slices.Contains(lengths, at) {
			patience = 100 * time.Millisecond
		}
		a.SetDeadline(time.Now().Add(patience))
		user, password, serverErr, viewerErr := meetRA2(a, &altered{b, at}, key, rfb.AskUser, "", cfg)
		if serverErr == nil || viewerErr == nil || user != "" || password != "" {
			t.Fatalf("byte %d of the viewer: %q, %q, %v, %v", at, user, password, serverErr, viewerErr)
		}
	}
	// Of the server: its random number and what is sealed.
	for at := 17 + 4 + 512; at < 17+4+512+130+50+19; at++ {
		a, b := net.Pipe()
		patience := 20 * time.Second
		if d := at - (17 + 4 + 512); d < 2 || d == 130 || d == 131 || d == 180 || d == 181 {
			patience = 100 * time.Millisecond
		}
		a.SetDeadline(time.Now().Add(patience))
		user, password, serverErr, viewerErr := meetRA2(&altered{a, at}, b, key, rfb.AskUser, "", cfg)
		if serverErr == nil || viewerErr == nil || user != "" || password != "" {
			t.Fatalf("byte %d of the server: %q, %q, %v, %v", at, user, password, serverErr, viewerErr)
		}
	}
}

// A viewer that goes away after any byte, and one whose bytes come one at a time.
func TestRA2Cut(t *testing.T) {
	defer goleak.VerifyNone(t)
	key, viewer := rsaKey(t)
	for _, chosen := range allRA2[1:3] {
		cfg := rfbtest.Config{User: "alice", Password: "geheim", Key: viewer, Security: uint8(chosen), Manual: true}
		a, b := net.Pipe()
		sent := &countConn{Conn: b}
		if user, password, err, _ := meetRA2(&slow{a}, sent, key, rfb.AskUser, "", cfg); err != nil || user != "alice" || password != "geheim" {
			t.Fatalf("one byte at a time: %q, %q, %v", user, password, err)
		}
		for i := 1; i < sent.n; i++ {
			a, b := net.Pipe()
			if _, _, serverErr, viewerErr := meetRA2(a, &short{b, i}, key, rfb.AskUser, "", cfg); serverErr == nil || viewerErr == nil {
				t.Fatalf("%v cut after %d of %d bytes: %v, %v", chosen, i, sent.n, serverErr, viewerErr)
			}
		}
	}
}

// slow reads a byte at a time.
type slow struct{ net.Conn }

func (s *slow) Read(p []byte) (int, error) { return s.Conn.Read(p[:min(len(p), 1)]) }

// public is a viewer's key as it is sent.
func public(bits int, n, e *big.Int) string {
	size := (bits + 7) / 8
	b := binary.BigEndian.AppendUint32(nil, uint32(bits))
	b = append(b, n.FillBytes(make([]byte, size))...)
	return string(append(b, e.FillBytes(make([]byte, size))...))
}

// What a viewer may not send in the key exchange. Nothing is sent to it but what it has earned.
func TestRA2Refusals(t *testing.T) {
	key, viewer := rsaKey(t)
	one := big.NewInt(1)
	odd := func(bits uint) *big.Int { // of so many bits, no product of primes that anybody knows
		n := new(big.Int).Lsh(one, bits-1)
		return n.SetBit(n, 0, 1)
	}
	e := big.NewInt(65537)
	good := public(1024, viewer.N, e)
	for _, c := range []struct {
		name, in string
		err      error
		text     string
		random   int // bytes of the server's random number that were sent
	}{
		{name: "1023 bits", in: "\x00\x00\x03\xff", err: rfb.ErrExchange, text: "1023 bits, not 1024 to 4096"},
		{name: "4097 bits", in: "\x00\x00\x10\x01", err: rfb.ErrExchange, text: "4097 bits"},
		{name: "four billion bits", in: "\xff\xff\xff\xff", err: rfb.ErrExchange, text: "4294967295 bits"},
		{name: "no key", in: "\x00\x00\x00\x00", err: rfb.ErrExchange, text: "has 0 bits"},
		{name: "a modulus of 1023 bits", in: public(1024, odd(1023), e), err: rfb.ErrExchange, text: "of 1023 bits"},
		{name: "a modulus of 1025 bits within 1024", in: public(1025, odd(1026), e), err: rfb.ErrExchange, text: "of 1026 bits"},
		{name: "an even modulus", in: public(1024, new(big.Int).Lsh(one, 1023), e), err: rfb.ErrExchange, text: "modulus of the viewer's RSA key is even"},
		{name: "no modulus", in: public(1024, new(big.Int), e), err: rfb.ErrExchange, text: "modulus"},
		{name: "an even exponent", in: public(1024, viewer.N, big.NewInt(65536)), err: rfb.ErrExchange, text: "exponent"},
		{name: "exponent 1", in: public(1024, viewer.N, one), err: rfb.ErrExchange, text: "exponent"},
		{name: "exponent 0", in: public(1024, viewer.N, new(big.Int)), err: rfb.ErrExchange, text: "exponent"},
		{name: "an exponent of 32 bits", in: public(1024, viewer.N, big.NewInt(1<<31+1)), err: rfb.ErrExchange, text: "exponent"},
		{name: "an exponent as long as the modulus", in: public(1024, viewer.N, odd(1024)), err: rfb.ErrExchange, text: "exponent"},
		{name: "the largest exponent", in: public(1024, viewer.N, big.NewInt(1<<31-1)), err: io.ErrUnexpectedEOF, random: 2 + 128},
		{name: "exponent 3", in: public(1024, viewer.N, big.NewInt(3)), err: io.ErrUnexpectedEOF, random: 2 + 128},
		{name: "4096 bits", in: public(4096, odd(4096), e), err: io.ErrUnexpectedEOF, random: 2 + 512},
		{name: "1025 bits of 4096", in: public(4096, odd(1025), e), err: io.ErrUnexpectedEOF, random: 2 + 512},
		{name: "1031 bits", in: public(1031, odd(1031), e), err: io.ErrUnexpectedEOF, random: 2 + 129},
		{name: "a random number of 255 bytes", in: good + "\x00\xff", err: rfb.ErrExchange, text: "encrypted to 255 bytes, not 256", random: 2 + 128},
		{name: "a random number of 257 bytes", in: good + "\x01\x01", err: rfb.ErrExchange, text: "encrypted to 257 bytes", random: 2 + 128},
		{name: "a random number above the modulus", in: good + "\x01\x00" + strings.Repeat("\xff", 256), err: rfb.ErrExchange, random: 2 + 128},
		// A bad padding looks like a wrong tag, after the server's hash.
		{name: "no padding", in: good + "\x01\x00" + strings.Repeat("\x00", 255) + "\x01" + "\x00\x14" + strings.Repeat("\x00", 36), text: "tag", random: 2 + 128 + 2 + 20 + 16},
		{name: "a hash too long", in: good + "\x01\x00" + strings.Repeat("\x00", 255) + "\x01" + "\x04\x01", text: "1025 bytes, more than 1024", random: 2 + 128 + 2 + 20 + 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := &deaf{script: script{in: strings.NewReader(c.in)}}
			_, err := rfb.RA2(conn, rfb.SecRA2, key)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, not %v%s", err, c.err, c.text)
			}
			if got := conn.out.Len() - (4 + 512); got != c.random {
				t.Errorf("sent %d bytes behind the key, not %d", got, c.random)
			}
		})
	}
}

// A server's own key.
func TestRSAKey(t *testing.T) {
	key, small := rsaKey(t)
	if _, err := rfb.NewRSAKey(small); err == nil || !strings.Contains(err.Error(), "1024 bits, not 2048") {
		t.Error(err)
	}
	if fp := key.Fingerprint(); len(fp) != 23 || strings.Count(fp, "-") != 7 {
		t.Errorf("fingerprint %q", fp)
	}
	// Worked out with Python: sha1 of bits, modulus and exponent, the latter two in 256 bytes each.
	n, _ := new(big.Int).SetString("1"+strings.Repeat("0", 510)+"1", 16)
	fixed, err := rfb.NewRSAKey(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n.SetBit(n, 2047, 1), E: 65537}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fixed.Fingerprint(); got != "ac-de-7f-ce-1b-77-5a-34" {
		t.Errorf("fingerprint %s", got)
	}
}

func FuzzRA2(f *testing.F) {
	key, viewer := rsaKey(f)
	good := public(1024, viewer.N, big.NewInt(3))
	f.Add([]byte(good), byte(rfb.SecRA2))
	f.Add([]byte(good+"\x01\x00"+strings.Repeat("\x00", 255)+"\x01\x00\x14"+strings.Repeat("\x00", 36)), byte(rfb.SecRA2ne))
	f.Add([]byte(good+"\x01\x00"+strings.Repeat("\x00", 255)+"\x01\x00\x20"+strings.Repeat("\x00", 48)), byte(rfb.SecRA2256))
	f.Add([]byte("\x00\x00\x04\x01"), byte(rfb.SecRA2ne256))
	f.Fuzz(func(t *testing.T, in []byte, chosen byte) {
		conn := &deaf{script: script{in: oneByOne{bytes.NewReader(in)}}}
		if _, err := rfb.RA2(conn, rfb.SecurityType(chosen), key); err == nil {
			t.Fatal("the exchange succeeded without a key")
		}
		if conn.out.Len() > 4+512+2+512+2+32+16 {
			t.Fatalf("sent %d bytes", conn.out.Len())
		}
	})
}

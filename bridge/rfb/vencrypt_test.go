package rfb_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// certificate makes one for "desk7" that is its own authority.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "desk7"}, DNSNames: []string{"desk7"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// secure is a server with VeNCrypt: it returns what the viewer logged in with.
func secure(conn net.Conn, cfg *tls.Config, subtype uint32, reason string) (user, password string, err error) {
	minor, err := rfb.ServerVersion(conn)
	if err != nil {
		return "", "", err
	}
	if _, err := rfb.OfferSecurity(conn, minor, rfb.SecVeNCrypt); err != nil {
		return "", "", err
	}
	t, _, err := rfb.X509(conn, cfg, subtype)
	if err != nil {
		return "", "", err
	}
	if subtype == rfb.X509Plain {
		u, p, err := rfb.ReadPlain(t)
		if err != nil {
			return "", "", err
		}
		user, password = u, string(p)
	} else {
		challenge, response, err := rfb.Challenge(t)
		if err != nil {
			return "", "", err
		}
		if response == rfb.VncResponse("code1234", challenge) {
			password = "code1234"
		}
	}
	if err := rfb.WriteResult(t, minor, reason); err != nil || reason != "" {
		return user, password, err
	}
	if _, err := rfb.ReadClientInit(t); err != nil {
		return user, password, err
	}
	_, err = t.Write([]byte(serverInit))
	return user, password, err
}

// meet runs secure against a viewer.
func meet(server, viewer net.Conn, cfg *tls.Config, subtype uint32, reason string, c rfbtest.Config) (user, password string, serverErr, viewerErr error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		user, password, serverErr = secure(server, cfg, subtype, reason)
		if serverErr != nil || reason != "" {
			server.Close()
		}
	})
	client, viewerErr := rfbtest.Handshake(viewer, c)
	wg.Wait()
	server.Close()
	if client != nil {
		client.Close()
	}
	return user, password, serverErr, viewerErr
}

func TestX509(t *testing.T) {
	defer goleak.VerifyNone(t)
	cert, roots := certificate(t)
	_, strangers := certificate(t)
	good := rfbtest.Config{Roots: roots, ServerName: "desk7", User: "alice@example.com/desk7", Password: "geheim ß", Manual: true}
	code := rfbtest.Config{Roots: roots, ServerName: "desk7", Code: "code1234", Manual: true}
	with := func(c rfbtest.Config, f func(*rfbtest.Config)) rfbtest.Config { f(&c); return c }
	for _, c := range []struct {
		name           string
		cfg            rfbtest.Config
		subtype        uint32
		reason         string
		user, password string
		server, viewer string // parts of their errors
	}{
		{name: "Plain", cfg: good, subtype: rfb.X509Plain, user: good.User, password: good.Password},
		{name: "Vnc", cfg: code, subtype: rfb.X509Vnc, password: "code1234"},
		{name: "nobody", cfg: with(good, func(c *rfbtest.Config) { c.User, c.Password = "", "" }), subtype: rfb.X509Plain},
		{name: "refused", cfg: good, subtype: rfb.X509Plain, reason: "desk7 is offline, last seen 10:04", user: good.User, password: good.Password,
			viewer: "refused by the server: desk7 is offline, last seen 10:04"},
		{name: "3.7 refused", cfg: with(good, func(c *rfbtest.Config) { c.Minor = 7 }), subtype: rfb.X509Plain, reason: "desk7 is offline", user: good.User, password: good.Password,
			viewer: "refused by the server: "},
		{name: "3.3", cfg: with(good, func(c *rfbtest.Config) { c.Minor = 3 }), subtype: rfb.X509Plain, server: "RFB 3.3", viewer: "needs a viewer"},
		{name: "a stranger's certificate", cfg: with(good, func(c *rfbtest.Config) { c.Roots = strangers }), subtype: rfb.X509Plain,
			server: "bad certificate", viewer: "unknown authority"},
		{name: "another name", cfg: with(good, func(c *rfbtest.Config) { c.ServerName = "desk8" }), subtype: rfb.X509Plain,
			server: "bad certificate", viewer: "not desk8"},
		{name: "a subtype that is not offered", cfg: good, subtype: rfb.X509Vnc, server: "EOF", viewer: "not 262"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := net.Pipe()
			user, password, serverErr, viewerErr := meet(a, b, rfb.ServerTLS(cert), c.subtype, c.reason, c.cfg)
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
		})
	}
}

// An older TLS and suites without AEAD are refused.
func TestServerTLS(t *testing.T) {
	cert, roots := certificate(t)
	for _, c := range []struct {
		name string
		cfg  *tls.Config
		ok   bool
	}{
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"TLS 1.2, CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
	} {
		a, b := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = tls.Server(a, rfb.ServerTLS(cert)).Handshake()
			a.Close()
		})
		c.cfg.RootCAs, c.cfg.ServerName = roots, "desk7"
		if err := tls.Client(b, c.cfg).Handshake(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		b.Close()
		wg.Wait()
	}
	for _, id := range rfb.ServerTLS(cert).CipherSuites {
		if name := tls.CipherSuiteName(id); !strings.HasPrefix(name, "TLS_ECDHE_") || !strings.Contains(name, "GCM") && !strings.Contains(name, "POLY1305") {
			t.Errorf("suite %s", name)
		}
	}
}

// What a viewer may not do before TLS.
func TestVeNCryptRefusals(t *testing.T) {
	cert, _ := certificate(t)
	for _, c := range []struct {
		name, in, out string
		err           error
		text          string
	}{
		{name: "version 0.1", in: "\x00\x01", out: "\x00\x02\xff", text: "VeNCrypt 0.1"},
		{name: "no version", in: "\x00\x00", out: "\x00\x02\xff", text: "VeNCrypt 0.0"},
		{name: "version 1.2", in: "\x01\x02", out: "\x00\x02\xff", text: "VeNCrypt 1.2"},
		{name: "Plain without TLS", in: "\x00\x02\x00\x00\x01\x00", out: "\x00\x02\x00\x01\x00\x00\x01\x06", err: rfb.ErrNotOffered},
		{name: "X509None", in: "\x00\x02\x00\x00\x01\x04", out: "\x00\x02\x00\x01\x00\x00\x01\x06", err: rfb.ErrNotOffered},
		{name: "bytes behind the choice", in: "\x00\x02\x00\x00\x01\x06\x16", out: "\x00\x02\x00\x01\x00\x00\x01\x06", err: rfb.ErrEarlyBytes},
		{name: "a whole login behind the choice", in: "\x00\x02\x00\x00\x01\x06\x00\x00\x00\x01\x00\x00\x00\x01ab", out: "\x00\x02\x00\x01\x00\x00\x01\x06", err: rfb.ErrEarlyBytes},
		{name: "the end", in: "\x00", out: "\x00\x02", err: io.ErrUnexpectedEOF},
		{name: "the end before the choice", in: "\x00\x02\x00", out: "\x00\x02\x00\x01\x00\x00\x01\x06", err: io.ErrUnexpectedEOF},
		{name: "no TLS", in: "\x00\x02\x00\x00\x01\x06", out: "\x00\x02\x00\x01\x00\x00\x01\x06\x01", err: io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := &deaf{script: script{in: strings.NewReader(c.in)}}
			_, _, err := rfb.X509(conn, rfb.ServerTLS(cert), rfb.X509Plain)
			if c.err != nil && !errors.Is(err, c.err) || err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, not %v%s", err, c.err, c.text)
			}
			if got := conn.out.String(); got != c.out {
				t.Errorf("sent %q, not %q", got, c.out)
			}
		})
	}
}

// deaf is a script with the other methods of a connection.
type deaf struct {
	net.Conn
	script
}

func (d *deaf) Read(p []byte) (int, error)       { return d.script.Read(p) }
func (d *deaf) Write(p []byte) (int, error)      { return d.script.Write(p) }
func (d *deaf) Close() error                     { return nil }
func (d *deaf) SetWriteDeadline(time.Time) error { return nil }

// A short connection ends when that many bytes were written to it.
type short struct {
	net.Conn
	left int
}

func (s *short) Write(p []byte) (int, error) {
	if len(p) < s.left {
		s.left -= len(p)
		return s.Conn.Write(p)
	}
	n, _ := s.Conn.Write(p[:s.left])
	s.left = 0
	s.Conn.Close()
	return n, io.ErrClosedPipe
}

// A viewer that goes away after any byte of its session, within TLS or before, is an error to the server and leaves nothing running.
func TestCutTLS(t *testing.T) {
	defer goleak.VerifyNone(t)
	cert, roots := certificate(t)
	cfg := rfb.ServerTLS(cert)
	viewer := rfbtest.Config{Roots: roots, ServerName: "desk7", User: "alice@example.com/desk7", Password: "geheim", Manual: true}
	var sent countConn
	a, b := net.Pipe()
	sent.Conn = b
	if _, _, err, _ := meet(a, &sent, cfg, rfb.X509Plain, "", viewer); err != nil {
		t.Fatal(err)
	}
	// The last bytes are the viewer's farewell (close_notify, 24 bytes with TLS 1.3) after ServerInit.
	for i := 1; i <= sent.n-24; i++ {
		a, b := net.Pipe()
		if _, _, serverErr, viewerErr := meet(a, &short{b, i}, cfg, rfb.X509Plain, "", viewer); serverErr == nil || viewerErr == nil {
			t.Fatalf("cut after %d of %d bytes: %v, %v", i, sent.n, serverErr, viewerErr)
		}
	}
}

type countConn struct {
	net.Conn
	n int
}

func (c *countConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n += n
	return n, err
}

func FuzzX509(f *testing.F) {
	cert, _ := certificate(f)
	f.Add([]byte("\x00\x02\x00\x00\x01\x06\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"))
	f.Add([]byte("\x00\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := &deaf{script: script{in: oneByOne{bytes.NewReader(in)}}}
		if _, _, err := rfb.X509(conn, rfb.ServerTLS(cert), rfb.X509Plain); err == nil {
			t.Fatal("TLS began without a key exchange")
		}
	})
}

// oneByOne gives a byte at a time, as the slowest network does.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

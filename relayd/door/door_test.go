package door

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/turnstile"
)

// nobody is an account, a code and a computer service that refuses everything, and counts.
type nobody struct {
	signIns, opens, matches int
	refusal                 error // of a guess, before the code is looked at
}

func (n *nobody) SignIn(ctx context.Context, _ string, password []byte, _ netip.Addr, _ string) (*account.Account, error) {
	n.signIns++
	if string(password) == "ask" {
		<-ctx.Done()
	}
	return nil, refuse.SignIn.Of()
}

func (n *nobody) Open(context.Context, broker.Request) (*broker.Session, error) {
	n.opens++
	return nil, refuse.NoComputer.Of()
}
func (n *nobody) Guess(_ context.Context, _ netip.Addr, _ string, check func() (*account.Account, error)) error {
	if n.refusal != nil {
		return n.refusal
	}
	_, err := check()
	if refuse.CodeInvalid.Is(err) {
		n.signIns++
	}
	return err
}
func (n *nobody) Match(try func(string) bool) (*registry.Grant, error) {
	n.matches++
	if try("ABCDEFGH") {
		return nil, errors.New("nobody knows the code")
	}
	return nil, refuse.CodeInvalid.Of()
}

var testCert = func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	// synctest's clock begins in the year 2000
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"relay"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}()

func rfbDoor(n *nobody) *RFB { return &RFB{TLS: rfb.ServerTLS(testCert), People: n, Desks: n} }

// What a code door offers.
var (
	tlsOnly   = []rfb.SecurityType{rfb.SecVeNCrypt}
	clearOnly = []rfb.SecurityType{rfb.SecVncAuth}
	clearToo  = []rfb.SecurityType{rfb.SecVeNCrypt, rfb.SecVncAuth}
)

func codeDoor(n *nobody) *Code {
	return &Code{TLS: rfb.ServerTLS(testCert), Codes: n, Guesses: n, Desks: n, Offers: tlsOnly}
}

type handler interface {
	Handle(ctx context.Context, conn net.Conn, at *turnstile.Place) error
}

// meet has a door serve what viewer does; it gives how long it took by the bubble's clock and the door's error.
func meet(h handler, viewer func(c net.Conn)) (took time.Duration, err error) {
	c, s := net.Pipe()
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		viewer(c)
	}()
	at, err := turnstile.New(turnstile.Standard()).Enter(netip.Addr{}, false, nil)
	if err != nil {
		panic(err)
	}
	err = h.Handle(context.Background(), s, at)
	took = time.Since(began)
	s.Close()
	c.Close()
	<-done
	return took, err
}

// says writes each text once the door has sent something, and reads on to the end.
func says(texts ...string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 4096)
		for _, text := range texts {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write([]byte(text)); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}
}

// drips sends text one byte every pause.
func drips(c net.Conn, text string, pause time.Duration) {
	go io.Copy(io.Discard, c)
	for _, b := range []byte(text) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

const hello = "RFB 003.008\n"

func TestBrokenHandshakesAtTheRFBDoor(t *testing.T) {
	for _, c := range []struct {
		name   string
		viewer func(net.Conn)
		err    string
		took   time.Duration
	}{
		{"says nothing", func(c net.Conn) { io.Copy(io.Discard, c) }, "no RFB handshake within 20s", 20 * time.Second},
		{"a byte now and then", func(c net.Conn) { drips(c, hello+"\x13\x00\x02\x00\x00\x01\x06\x16", 1200*time.Millisecond) }, "no RFB handshake within 20s", 20 * time.Second},
		{"one byte in three seconds", func(c net.Conn) { drips(c, hello, 3*time.Second) }, "no RFB handshake within 20s", 20 * time.Second},
		{"leaves at once", func(c net.Conn) { c.Close() }, "closed pipe", 0},
		{"leaves inside the version", func(c net.Conn) { io.ReadFull(c, make([]byte, 12)); c.Write([]byte("RFB 0")); c.Close() }, "unexpected EOF", 0},
		{"no RFB", says("GET / HTTP/1"), "no version of RFB", 0},
		{"version 2", says("RFB 002.002\n"), "no version of RFB", 0},
		{"RFB 3.3", says("RFB 003.003\n"), "RFB 3.3", 0},
		{"chooses None (CVE-2006-2369)", says(hello, "\x01"), "security type 1", 0},
		{"chooses VncAuth", says(hello, "\x02"), "VncAuth", 0},
		{"chooses Tight", says(hello, "\x10"), "security type 16", 0},
		{"VeNCrypt 0.1", says(hello, "\x13", "\x00\x01"), "VeNCrypt 0.1", 0},
		{"chooses X509None", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x04"), "subtype 260", 0},
		{"chooses X509Vnc", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x05"), "subtype 261", 0},
		{"chooses Plain without TLS", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x00"), "subtype 256", 0},
		{"bytes between choice and TLS", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x06\x16"), "between its VeNCrypt choice and TLS", 0},
		{"waits before TLS", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x06"), "no RFB handshake within 20s", 20 * time.Second},
		{"no TLS", says(hello, "\x13", "\x00\x02", "\x00\x00\x01\x06", "GET / HTTP/1.0\r\n\r\n"), "TLS handshake", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &nobody{}
				took, err := meet(rfbDoor(n), c.viewer)
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if took > c.took+time.Second {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if n.signIns != 0 || n.opens != 0 {
					t.Errorf("%d sign-ins, %d sessions", n.signIns, n.opens)
				}
			})
		})
	}
}

// tlsViewer goes through VeNCrypt and TLS and then does what viewer does.
func tlsViewer(subtype string, viewer func(c *tls.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 64)
		for _, text := range []string{hello, "\x13", "\x00\x02", subtype} {
			if _, err := c.Read(b); err != nil {
				return
			}
			if _, err := c.Write([]byte(text)); err != nil {
				return
			}
		}
		if _, err := io.ReadFull(c, b[:1]); err != nil || b[0] != 1 {
			return
		}
		t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if t.Handshake() == nil {
			viewer(t)
		}
	}
}

func plain(user, password string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(user)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(password)))
	return string(b) + user + password
}

func TestBrokenLoginsAtTheRFBDoor(t *testing.T) {
	const signIn = "40050: the account name or password is not right; try again"
	var told []byte
	send := func(text string) func(*tls.Conn) {
		return func(c *tls.Conn) {
			go c.Write([]byte(text))
			told, _ = io.ReadAll(c)
		}
	}
	for _, c := range []struct {
		name    string
		viewer  func(*tls.Conn)
		err     string
		took    time.Duration
		signIns int
		told    string
	}{
		{"types nothing", func(c *tls.Conn) { io.Copy(io.Discard, c) }, "no password within 2m30s", 150 * time.Second, 0, ""},
		{"types for long", func(c *tls.Conn) { time.Sleep(149 * time.Second); send(plain("alice", "secret"))(c) }, signIn, 151 * time.Second, 1, signIn},
		{"sends one byte a second", func(c *tls.Conn) { drips(c, plain("alice", strings.Repeat("x", 99)), time.Second) }, "no rest of the password within 10s", 10 * time.Second, 0, ""},
		{"name of 4 GiB", send("\xff\xff\xff\xff\x00\x00\x00\x04" + "xxxx"), "4294967295 bytes of user name, more than 255", 0, 0, ""},
		{"password of 256 bytes", send(plain("alice", strings.Repeat("x", 256))), "256 bytes of password, more than 255", 0, 0, ""},
		{"name and password of 255 bytes", send(plain(strings.Repeat("a", 255), strings.Repeat("x", 255))), signIn, 3 * time.Second, 1, signIn},
		{"empty password", send(plain("alice@example.com/desk7", "")), signIn, 3 * time.Second, 0, signIn},
		{"empty name", send(plain(" ", "secret")), signIn, 3 * time.Second, 0, signIn},
		{"name that is not UTF-8", send(plain("\xff\xfe\x00", "secret")), signIn, 3 * time.Second, 1, signIn},
		{"leaves", func(c *tls.Conn) { c.Close() }, "EOF", 0, 0, ""},
		{"leaves while it waits", func(c *tls.Conn) { c.Write([]byte(plain("alice", "ask"))); time.Sleep(time.Second); c.Close() }, "EOF", time.Second, 1, ""},
		{"goes on while it waits", func(c *tls.Conn) { c.Write([]byte(plain("alice", "ask"))); send("\x01")(c) }, "goes on before it is let in", 0, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told = nil
				n := &nobody{}
				took, err := meet(rfbDoor(n), tlsViewer("\x00\x00\x01\x06", c.viewer))
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if took > c.took+time.Second {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if n.signIns != c.signIns || n.opens != 0 {
					t.Errorf("%d sign-ins, %d sessions", n.signIns, n.opens)
				}
				want := ""
				if c.told != "" {
					want = "\x00\x00\x00\x01\x00\x00\x00" + string(rune(len(c.told))) + c.told
				}
				if string(told) != want {
					t.Errorf("the viewer is told %q, want %q", told, want)
				}
			})
		})
	}
}

func TestCodeDoorOffersClearOnlyWhereItMay(t *testing.T) {
	for _, c := range []struct {
		name    string
		offers  []rfb.SecurityType
		version string
		offer   string
	}{
		{"TLS only", tlsOnly, hello, "\x01\x13"},
		{"TLS only, RFB 3.7", tlsOnly, "RFB 003.007\n", "\x01\x13"},
		{"TLS only, RFB 3.3", tlsOnly, "RFB 003.003\n", "\x00\x00\x00\x00\x00\x00\x00\x3athis port needs a viewer that speaks RFB 3.8 with VeNCrypt"},
		{"clear too", clearToo, hello, "\x02\x13\x02"},
		{"clear too, RFB 3.3", clearToo, "RFB 003.003\n", "\x00\x00\x00\x02"},
		{"clear only", clearOnly, hello, "\x01\x02"},
		{"clear only, RFB 3.3", clearOnly, "RFB 003.003\n", "\x00\x00\x00\x02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got bytes.Buffer
				d := codeDoor(&nobody{})
				d.Offers = c.offers
				_, _ = meet(d, func(conn net.Conn) {
					b := make([]byte, 4096)
					conn.Read(b)
					conn.Write([]byte(c.version))
					for got.Len() < len(c.offer) {
						n, err := conn.Read(b)
						got.Write(b[:n])
						if err != nil {
							return
						}
					}
				})
				if got.String() != c.offer {
					t.Errorf("offered %q, want %q", got.String(), c.offer)
				}
			})
		})
	}
}

func TestWrongCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nobody{}
		d := codeDoor(n)
		d.Offers = clearOnly
		var told []byte
		_, err := meet(d, func(c net.Conn) {
			b := make([]byte, 16)
			io.ReadFull(c, b[:12])
			io.WriteString(c, hello)
			io.ReadFull(c, b[:2])
			io.WriteString(c, "\x02")
			io.ReadFull(c, b)
			response := rfb.VncResponse("WRONGONE", [16]byte(b))
			c.Write(response[:])
			told, _ = io.ReadAll(c)
		})
		if !refuse.CodeInvalid.Is(err) || n.signIns != 1 || !strings.HasSuffix(string(told), refuse.CodeInvalid.Text()) {
			t.Errorf("%v, %d failures counted, told %q", err, n.signIns, told)
		}
	})
}

// A source that must wait learns nothing about its code, and spends none.
func TestCodeOfABlockedSource(t *testing.T) {
	n := &nobody{refusal: refuse.SlowDown.Of("10:04")}
	g, err := codeDoor(n).match(t.Context(), netip.Addr{}, func(string) bool { return true })
	if g != nil || !refuse.SlowDown.Is(err) || n.matches != 0 {
		t.Errorf("%v, %v; %d codes looked at", g, err, n.matches)
	}
}

// CVE-2016-10207: a viewer that leaves at any byte of the handshake harms nobody.
func TestViewerLeavesAtAnyByte(t *testing.T) {
	for n := 0; ; n++ {
		whole := false
		synctest.Test(t, func(t *testing.T) {
			_, err := meet(rfbDoor(&nobody{}), func(c net.Conn) {
				tlsViewer("\x00\x00\x01\x06", func(c *tls.Conn) {
					if _, err := c.Write([]byte(plain("alice@example.com/desk7", "secret"))); err == nil {
						_, err = io.ReadAll(c)
						whole = err == nil
					}
				})(&dying{Conn: c, left: n})
			})
			if err == nil {
				t.Fatalf("left after %d bytes: no error", n)
			}
			var late *turnstile.TimeError
			if errors.As(err, &late) || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("left after %d bytes: %v", n, err)
			}
		})
		if whole {
			if n < 300 {
				t.Errorf("the handshake was whole after %d bytes", n)
			}
			return
		}
	}
}

// A dying connection ends after so many bytes were written.
type dying struct {
	net.Conn
	left int
}

func (d *dying) Write(p []byte) (int, error) {
	n, err := d.Conn.Write(p[:min(d.left, len(p))])
	if d.left -= n; d.left == 0 {
		d.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}

package desktop

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// What viewers send that mean ill, with the holes of other servers that it went through. A message that cannot be right ends its session, all others are
// taken, memory stays where it was, and whoever else is there goes on.
func TestHostileViewers(t *testing.T) {
	s, h := start(t, small)
	bystander := view(t, s, bob, tunnel.RoleWatch, rfbtest.Config{})
	logIn(t, s, bob, bystander)
	sees(t, bystander, 1, 200, canary)
	u16 := func(v ...int) (s string) {
		for _, n := range v {
			s += string(binary.BigEndian.AppendUint16(nil, uint16(n)))
		}
		return s
	}
	u32 := func(v ...int) (s string) {
		for _, n := range v {
			s += string(binary.BigEndian.AppendUint32(nil, uint32(n)))
		}
		return s
	}
	encodings := func(list ...int) string { return "\x02\x00" + u16(len(list)) + u32(list...) }
	format := func(bits, depth byte, max ...int) string {
		return "\x00\x00\x00\x00" + string([]byte{bits, depth, 0, 1}) + u16(max...) + "\x10\x08\x00\x00\x00\x00"
	}
	flow := encodings(0, int(rfb.PseudoFence), int(rfb.PseudoContinuousUpdates))
	const text, goodbye = "\x06\x00\x00\x00", "goWDby!" // the payload of a last fence
	clip := func(flags int, says uint32, size int) string {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		binary.Write(z, binary.BigEndian, says)
		z.Write(make([]byte, size))
		z.Close()
		return text + u32(-4-b.Len(), flags) + b.String()
	}
	clips, sizes := encodings(0, int(rfb.PseudoExtendedClipboard)), encodings(0, int(rfb.PseudoExtendedDesktopSize))
	const provides = int(rfb.ClipProvide | rfb.ClipText)
	screen := u32(1) + u16(0, 0, 8, 8) + u32(0)
	for i, tt := range []struct {
		name  string
		first string // sent once
		sends string // sent over and over
		times int
		ends  bool
	}{
		{"CVE-2014-6053: cut text of 2 GiB", "", text + u32(1<<31-1), 1, true},
		{"CVE-2018-7225: cut text of -1 bytes", "", text + u32(-1) + "x", 1, true},
		{"CVE-2017-7395: cut text of -2 GiB", "", text + u32(-1<<31), 1, true},
		{"cut text a byte too long to drop", "", text + u32(rfb.MaxCutTextDrain+1), 1, true},
		{"cut text that is dropped", "", text + u32(rfb.MaxCutTextDrain) + strings.Repeat("x", rfb.MaxCutTextDrain), 3, false},
		{"cut text that is kept", "", text + u32(rfb.MaxCutText) + strings.Repeat("x", rfb.MaxCutText), 8, false},
		{"CVE-2014-6054: a scale of 0", "", "\x08\x00\x00\x00", 1, true},
		{"CVE-2020-14401: a large scale", "", "\x08\xff\x00\x00", 1, true},
		{"CVE-2014-6055, CVE-2018-15126: UltraVNC's files", "", "\x07\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", 1, true},
		{"CVE-2018-15127: TightVNC's files", "", "\x82\x00\x00\x00", 1, true},
		{"CVE-2019-8258 and those after it: UltraVNC's chat", "", "\x0b\x00\x00\x00\xff\xff\xff\xff", 1, true},
		{"shutting down by xvp", encodings(-309), "\xfa\x00\x01\x02", 1, true},
		{"CVE-2017-7393: an empty fence with every flag", flow, "\xf8\x00\x00\x00\xff\xff\xff\xff\x00", 100, false},
		{"CVE-2019-15683: a fence of 255 bytes", flow, "\xf8\x00\x00\x00" + u32(1) + "\xff" + strings.Repeat("f", 255), 1000, false},
		{"a fence of a viewer that does not know them", "", "\xf8\x00\x00\x00" + u32(1) + "\x00", 1, true},
		{"continuous updates of a viewer that does not know them", "", "\x96\x01" + u16(0, 0, 8, 8), 1, true},
		{"continuous updates of nothing", flow, "\x96\x01" + u16(65535, 65535, 65535, 65535) + "\x96\x00" + u16(0, 0, 0, 0), 50, false},
		{"audio", "", "\xff\x01\x00\x02\x03\x02" + u32(44100) + "\xff\x01\x00\x00", 1000, false},
		{"as many encodings as can be", "", encodings(make([]int, 65535)...), 50, false},
		{"requests from end to end of what can be said", "", "\x03\x01" + u16(65535, 65535, 65535, 65535) + "\x03\x00" + u16(0, 0, 65535, 65535), 5000, false},
		{"requests of nothing", "", "\x03\x00" + u16(0, 0, 0, 0) + "\x03\x01" + u16(7, 7, 0, 1), 5000, false},
		{"a clipboard of few bytes that become many", clips, clip(provides, 5, 16<<20), 4, false},
		{"a clipboard that says it is huge", clips, clip(provides, 1<<32-1, 16<<20), 4, false},
		{"a clipboard shorter than it says", clips, clip(provides, 100, 5), 1, true},
		{"a clipboard that is no zlib", clips, text + u32(-8, provides) + "abcd", 1, true},
		{"a clipboard of two actions at once", clips, text + u32(-4, int(rfb.ClipRequest|rfb.ClipNotify)), 1, true},
		{"what can be done, without the sizes", clips, text + u32(-4, 1<<24|0xffff), 1, true},
		{"a desktop of no size", sizes, "\xfb\x00" + u16(0, 0) + "\x01\x00" + screen, 50, false},
		{"the largest desktop with the most screens", sizes, "\xfb\x00" + u16(65535, 65535) + "\xff\x00" + strings.Repeat(screen, 255), 50, false},
		{"24 bits per pixel", "", format(24, 24, 255, 255, 255), 1, true},
		{"no bits per pixel", "", format(0, 0, 255, 255, 255), 1, true},
		{"a colour without values", "", format(32, 24, 0, 255, 255), 1, true},
		{"a colour of 16 bits", "", format(32, 24, 65535, 255, 255), 1, true},
		{"depth beyond the pixel", "", format(16, 17, 31, 31, 31), 1, true},
		{"formats back and forth", "", "\x00\x00\x00\x00" + string(rfb.Native.AppendTo(nil)) + "\x03\x00" + u16(0, 0, 64, 64) +
			"\x00\x00\x00\x00\x08\x08\x00\x00\x00\x07\x00\x07\x00\x03\x01\x03\x06\x00\x00\x00" + "\x03\x00" + u16(0, 0, 64, 64), 2000, false},
		{"encodings back and forth", "", encodings(int(rfb.Tight), -32) + "\x03\x00" + u16(0, 0, 64, 64) + encodings(int(rfb.ZRLE)) + "\x03\x01" + u16(0, 0, 64, 64), 2000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := join(t.Context(), t, s, fromInit(alice, tunnel.RoleWatch))
			if err != nil {
				t.Fatal(err)
			}
			gone, taken := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(gone)
				in := bufio.NewReader(conn)
				for found := 0; found < len(goodbye); { // no letter of it comes twice
					switch c, err := in.ReadByte(); {
					case err != nil:
						return
					case c == goodbye[found]:
						found++
					default:
						found = 0
					}
				}
				close(taken)
				io.Copy(io.Discard, in)
			}()
			before := heap()
			_, err = io.WriteString(conn, "\x01"+tt.first)
			for i := 0; i < tt.times && err == nil; i++ {
				_, err = io.WriteString(conn, tt.sends)
			}
			if err != nil && !tt.ends {
				t.Fatal(err)
			}
			if !tt.ends {
				if _, err := io.WriteString(conn, flow+"\xf8\x00\x00\x00"+u32(-1<<31)+"\x07"+goodbye); err != nil {
					t.Fatal(err)
				}
				select {
				case <-gone:
					t.Error("the session has ended")
				case <-taken:
				case <-time.After(patience):
					t.Error("not all was taken")
				}
			} else {
				select {
				case <-gone:
				case <-time.After(patience):
					t.Error("the session goes on")
				}
			}
			conn.Close()
			h.await("its end", func() bool { return len(h.sessions) == 1 })
			if grown := heap() - before; grown > 24<<20 {
				t.Errorf("%d MiB more in use", grown>>20)
			}
			rgb := uint32(0x100000 + i)
			h.worker().paint(image.Rect(0, 192, 16, 208), rgb)
			sees(t, bystander, 1, 200, rgb)
		})
	}
}

// heap is the memory in use, bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A viewer that has much answered and reads nothing is let go before its answers take memory; one that reads gets as many a second as the limit says.
func TestUnreadAnswers(t *testing.T) {
	asks := map[string]func(r *reader) error{
		"fences": func(r *reader) error { return r.Fence(rfb.FenceRequest, make([]byte, rfb.MaxFence)) },
		"fences that wait for a format": func(r *reader) error {
			return errors.Join(r.Fence(rfb.FenceRequest|rfb.FenceSyncNext, make([]byte, rfb.MaxFence)), r.SetPixelFormat(rfb.Native))
		},
		"ends of continuous updates": func(r *reader) error { return r.ContinuousUpdates(false, image.Rectangle{}) },
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, se := lone(t)
				r := &reader{s: se, ctx: t.Context(), limit: rate.NewLimiter(inputRate, inputBurst), asks: rate.NewLimiter(answerRate, answerRate)}
				var err error
				for i := 0; i < 1<<16 && err == nil; i++ {
					err = ask(r)
				}
				if !errors.Is(err, errReplies) || len(se.view.replies) > maxReplies {
					t.Errorf("%v, %d bytes wait", err, len(se.view.replies))
				}
				began := time.Now()
				for range 5 * answerRate {
					se.view.replies = se.view.replies[:0]
					if err := ask(r); err != nil {
						t.Fatal(err)
					}
				}
				if d := time.Since(began); d < 4*time.Second || d > 6*time.Second {
					t.Errorf("%d answers in %v", 5*answerRate, d)
				}
			})
		})
	}
}

// A viewer that asks for all of the screen over and over gets it ten times a second.
func TestFloodOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, se := lone(t)
		a, b := net.Pipe()
		v := newViewer(a, small, se.srv.cache, se.srv.painter)
		v.setEncodings([]int32{rfb.RRE})
		done := make(chan error, 1)
		go func() { done <- v.sendLoop(t.Context()) }()
		go io.Copy(io.Discard, b)
		const lasts = 3 * time.Second
		for began := time.Now(); time.Since(began) < lasts; time.Sleep(time.Millisecond) {
			v.request(false, image.Rectangle{Max: small})
		}
		a.Close()
		b.Close()
		v.request(false, image.Rectangle{Max: small})
		<-done
		updates := int(se.srv.stats.updates.Load())
		if most := int(lasts/fullTime) + 2; updates > most || updates < most-3 {
			t.Errorf("%d updates in %v, not %d", updates, lasts, most)
		}
	})
}

// A viewer that looks at ever other parts of a screen on which nothing changes leaves nothing behind.
func TestEncodingsKept(t *testing.T) {
	c := newCache(&stats{})
	p, img := &picture{}, frame.New(image.Rectangle{Max: small})
	var rects []image.Rectangle
	region := frame.NewRegion(small)
	for i := range 2000 {
		region.Clear()
		region.Add(image.Rect(i%37*frame.Tile, i/37%20*frame.Tile, i%37*frame.Tile+1, i/37%20*frame.Tile+1))
		params := rfb.Params{Encoding: rfb.Raw, Format: rfb.Native, Quality: -1, Compress: int8(i / 740)}
		c.release(c.encode(p, 1, image.Point{}, region, params, img, &rects))
	}
	if len(c.kept) > maxSpare {
		t.Errorf("%d encodings are kept", len(c.kept))
	}
}

// A viewer that goes silent in the midst of its log-in is let go, at whatever step; so is one that takes nothing.
func TestSilence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, RSAKeyFile), rsaPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err1 := Certificate(dir)
	key, err2 := RSAKey(dir)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	says := func(parts ...string) func(c net.Conn) {
		return func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for _, p := range parts {
				if _, err := io.WriteString(c, p); err != nil {
					return
				}
			}
		}
	}
	const version = rfb.VersionText
	for _, tt := range []struct {
		name string
		does func(c net.Conn)
		want time.Duration
	}{
		{"from the start", says(), versionTime},
		{"within the version", says(version[:11]), versionTime},
		{"before it chooses", says(version), versionTime},
		{"behind VeNCrypt", says(version, "\x13"), tlsTime},
		{"behind the subtype", says(version, "\x13", "\x00\x02", "\x00\x00\x01\x06"), tlsTime},
		{"within TLS", says(version, "\x13", "\x00\x02", "\x00\x00\x01\x06", "\x16\x03\x01\x02\x00"), tlsTime},
		{"behind TLS", func(c net.Conn) {
			for _, step := range []struct {
				hears int // bytes
				says  string
			}{{12, version}, {7, "\x13"}, {2, "\x00\x02"}, {10, "\x00\x00\x01\x06"}, {1, ""}} {
				if _, err := io.ReadFull(c, make([]byte, step.hears)); err != nil {
					t.Error(err)
				}
				if _, err := io.WriteString(c, step.says); err != nil {
					t.Error(err)
				}
			}
			if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
				t.Error(err)
			}
		}, loginTime},
		{"behind RA2", says(version, "\x81"), loginTime},
		{"within the RSA key", says(version, "\x81", "\x00\x00\x08\x00abc"), loginTime},
		{"behind VncAuth", says(version, "\x02"), loginTime},
		{"within the response", says(version, "\x02", "0123456789abcde"), loginTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, se := lone(t)
				s.tls, s.rsa = rfb.ServerTLS(cert), key
				a, b := net.Pipe()
				defer b.Close()
				go tt.does(b)
				began := time.Now()
				_, _, err := s.secure(t.Context(), a, se, "23456789", nil)
				if d := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || d != tt.want {
					t.Errorf("ended after %v, not %v: %v", d, tt.want, err)
				}
				a.Close()
			})
		})
	}
	t.Run("before ClientInit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, se := lone(t)
			a, b := net.Pipe()
			defer b.Close()
			defer a.Close()
			se.conn = a
			began := time.Now()
			if err := se.serve(t.Context()); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != initTime {
				t.Errorf("ended after %v: %v", time.Since(began), err)
			}
		})
	})
	t.Run("taking nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, se := lone(t)
			a, b := net.Pipe()
			defer b.Close()
			v := newViewer(a, small, se.srv.cache, se.srv.painter)
			began := time.Now()
			if err := v.write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != writeTimeout {
				t.Errorf("ended after %v: %v", time.Since(began), err)
			}
		})
	})
}

// canned is a viewer that says what it would say anyway, and hears nothing.
type canned struct {
	net.Conn
	io.Reader
}

func (c canned) Read(p []byte) (int, error)     { return c.Reader.Read(p) }
func (canned) Write(p []byte) (int, error)      { return len(p), nil }
func (canned) SetDeadline(time.Time) error      { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }
func (canned) Close() error                     { return nil }

// FuzzSecure lets a viewer say anything before it has logged in, a one-time code being live: nobody gets in by it.
func FuzzSecure(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, RSAKeyFile), rsaPEM(), 0o600); err != nil {
		f.Fatal(err)
	}
	cert, err1 := Certificate(dir)
	key, err2 := RSAKey(dir)
	if err := errors.Join(err1, err2); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("RFB 003.003\n0123456789abcdef\x01"), false)
	f.Add([]byte("RFB 003.008\n\x020123456789abcdef\x01"), false)
	f.Add([]byte("RFB 003.008\n\x13\x00\x02\x00\x00\x01\x05\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"), true)
	f.Add([]byte("RFB 003.008\n\x81\x00\x00\x04\x00"+strings.Repeat("\xff", 256)), true)
	s, se := lone(f)
	s.tls, s.rsa = rfb.ServerTLS(cert), key
	f.Fuzz(func(t *testing.T, in []byte, strict bool) {
		s.welcome.RequireE2E = strict
		if minor, chosen, err := s.secure(t.Context(), canned{Reader: bytes.NewReader(in)}, se, "23456789", nil); err == nil {
			t.Fatalf("let in by 3.%d, %v", minor, chosen)
		}
	})
}

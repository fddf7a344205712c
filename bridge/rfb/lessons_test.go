package rfb_test

import (
	"bytes"
	"errors"
	"image"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// Holes of other servers, and that each is none here. Further ones have tests of their own: CVE-2016-10207, a viewer that leaves within
// TLS (TestCutTLS); what a server can do to a viewer (rfbtest.TestHolesOfViewers); what a viewer can do to hostd (desktop.TestHostileViewers);
// CVE-2011-1775 and CVE-2020-26117 (desktop.TestCertificate); captured pictures that others can read (part.TestMemoryIsNobodyElses).
func TestHolesOfServers(t *testing.T) {
	refuses := func(in, err string, allow rfb.Optional) func(*testing.T) {
		return func(t *testing.T) {
			var d diary
			r := rfb.NewReader(strings.NewReader(in + strings.Repeat("\x00", 300)))
			r.Allow(allow)
			if got := r.Next(&d); got == nil || !strings.Contains(got.Error(), err) || len(d.lines) > 0 {
				t.Errorf("%v, not %q; %q", got, err, d.lines)
			}
		}
	}
	for name, f := range map[string]func(*testing.T){
		"CVE-2006-2369, CVE-2006-2450: a type that was not offered": func(t *testing.T) {
			for _, offered := range [][]rfb.SecurityType{{rfb.SecVeNCrypt}, {rfb.SecVeNCrypt, rfb.SecVncAuth}, {rfb.SecRA2256, rfb.SecRA2, rfb.SecRA2ne}} {
				for _, minor := range []int{7, 8} {
					for choice := range 256 {
						s := &script{in: bytes.NewReader([]byte{byte(choice)})}
						got, err := rfb.OfferSecurity(s, minor, offered...)
						if in := bytes.IndexByte(s.out.Bytes()[1:], byte(choice)) >= 0; in != (err == nil) || in && int(got) != choice || !in && !errors.Is(err, rfb.ErrNotOffered) {
							t.Errorf("offered %v, chose %d: %v, %v", offered, choice, got, err)
						}
					}
				}
			}
		},
		"CVE-2014-6053: cut text of 2 GiB":                    refuses("\x06\x00\x00\x00\x7f\xff\xff\xff", "2147483647 bytes of cut text", everything),
		"CVE-2018-7225: cut text of -1 bytes":                 refuses("\x06\x00\x00\x00\xff\xff\xff\xff", "the clipboard extension, which was not announced", 0),
		"CVE-2017-7395: cut text of -2 GiB":                   refuses("\x06\x00\x00\x00\x80\x00\x00\x00", "2147483648 bytes, more than 262144", everything),
		"CVE-2014-6054: a scale of 0":                         refuses("\x08\x00\x00\x00", "message type 8", everything),
		"CVE-2014-6054: a scale of 0, as PalmVNC says it":     refuses("\x0f\x00\x00\x00", "message type 15", everything),
		"CVE-2020-14401: a large scale":                       refuses("\x08\xff\x00\x00", "message type 8", everything),
		"CVE-2014-6055, CVE-2018-15126: UltraVNC's files":     refuses("\x07\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", "message type 7", everything),
		"CVE-2018-15127: TightVNC's files":                    refuses("\x82\x00\x00\x00", "message type 130", everything),
		"CVE-2019-8258 and those after it: UltraVNC's chat":   refuses("\x0b\x00\x00\x00\xff\xff\xff\xff", "message type 11", everything),
		"shutting down by xvp, which nobody announced":        refuses("\xfa\x00\x01\x02", "message type 250", everything),
		"CVE-2017-7393, CVE-2019-15683: a fence of 255 bytes": fences,
		"CVE-2017-7394: lengths of a Plain log-in":            plainLengths,
		"CVE-2019-15681, CVE-2018-7225: memory of the server": stale,
		"UltraVNC until 2026: a challenge that can be guessed": func(t *testing.T) {
			seen := map[[16]byte]bool{}
			for range 1000 {
				c, _, err := rfb.Challenge(&script{in: strings.NewReader("0123456789abcdef")})
				if err != nil || seen[c] {
					t.Fatalf("%x again, %v", c, err)
				}
				seen[c] = true
			}
		},
		"a length takes no memory before the bytes are there": func(t *testing.T) {
			for what, in := range map[string]string{
				"cut text": "\x06\x00\x00\x00\x00\x04\x00\x00", "dropped text": "\x06\x00\x00\x00\x01\x00\x00\x00", "clipboard": "\x06\x00\x00\x00\xff\xfc\x00\x00",
				"encodings": "\x02\x00\xff\xff", "screens": "\xfb\x00\x00\x08\x00\x08\xff\x00",
			} {
				n := allocated(func() {
					r := rfb.NewReader(strings.NewReader(in))
					r.Allow(everything)
					if err := r.Next(&diary{}); !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%s: %v", what, err)
					}
				})
				if n > 32<<10 {
					t.Errorf("%s: %d bytes", what, n)
				}
			}
		},
	} {
		t.Run(name, f)
	}
}

// allocated is the memory that f takes, bytes.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

// fences of every length: what is too long is dropped whole, and the message behind it is read.
func fences(t *testing.T) {
	for n := range 256 {
		for _, flags := range []int{0, 1 << 31, -1} {
			var d diary
			r := rfb.NewReader(strings.NewReader("\xf8\x00\x00\x00" + u32(flags) + string([]byte{byte(n)}) + strings.Repeat("f", n) + "\x04\x01\x00\x00" + u32('a')))
			r.Allow(rfb.AllowFence)
			if err := readAll(r, &d); err != io.EOF || d.lines[len(d.lines)-1] != "key true 61 0" || (len(d.lines) == 2) != (n <= rfb.MaxFence) {
				t.Errorf("%d bytes: %q, %v", n, d.lines, err)
			}
		}
	}
}

func plainLengths(t *testing.T) {
	for _, in := range []string{u32(256, 0), u32(0, 256), u32(1<<31-1, 1), u32(1, -1), u32(-1, -1), u32(-256, 256)} {
		n := allocated(func() {
			if _, _, err := rfb.ReadPlain(strings.NewReader(in + strings.Repeat("x", 1024))); err == nil || !strings.Contains(err.Error(), "more than 255") {
				t.Errorf("%x: %v", in, err)
			}
		})
		if n > 8<<10 {
			t.Errorf("%x: %d bytes of memory", in, n)
		}
	}
}

// What is sent depends on what is to be seen alone: not on what the server's memory held before, and not on the unused byte of pixels.
func stale(t *testing.T) {
	img := paint(image.Rect(0, 0, 100, 70), mosaic(3))
	secret := frame.New(img.Rect)
	copy(secret.Pix, bytes.Repeat([]byte("secret! "), len(secret.Pix)/8+1))
	for name, format := range formats() {
		for _, encoding := range []int32{rfb.Raw, rfb.RRE, rfb.Hextile, rfb.Zlib, rfb.Tight, rfb.ZRLE} {
			p := rfb.Params{Encoding: encoding, Format: format, Quality: -1, Compress: -1}
			var used, fresh rfb.Encoder
			var a, b rfb.Batch
			used.Append(&a, p, secret, []image.Rectangle{secret.Rect})
			a.Reset()
			dirty := frame.Image{Pix: bytes.Clone(img.Pix), Stride: img.Stride, Rect: img.Rect}
			for i := 3; i < len(dirty.Pix); i += 4 {
				dirty.Pix[i] = 's'
			}
			used.Append(&a, p, dirty, []image.Rectangle{img.Rect})
			fresh.Append(&b, p, img, []image.Rectangle{img.Rect})
			if !bytes.Equal(a.Bytes, b.Bytes) {
				t.Errorf("encoding %d, %s: the bytes depend on something else", encoding, name)
			}
		}
	}
	for n, message := range [][]byte{
		rfb.AppendFence(nil, 1, []byte("x")), rfb.AppendUpdateHeader(nil, 1), rfb.AppendEndOfCU(nil), rfb.AppendServerInit(nil, image.Pt(8, 8), rfb.Native, "x"),
		rfb.AppendExtendedDesktopSize(nil, 0, 0, image.Pt(8, 8), []frame.Screen{{Rect: image.Rect(0, 0, 8, 8)}}),
	} {
		over := func(dst []byte) []byte { return append(dst, bytes.Repeat([]byte("s"), 200)...)[:len(dst)] }
		again := [][]byte{
			rfb.AppendFence(over(nil), 1, []byte("x")), rfb.AppendUpdateHeader(over(nil), 1), rfb.AppendEndOfCU(over(nil)), rfb.AppendServerInit(over(nil), image.Pt(8, 8), rfb.Native, "x"),
			rfb.AppendExtendedDesktopSize(over(nil), 0, 0, image.Pt(8, 8), []frame.Screen{{Rect: image.Rect(0, 0, 8, 8)}}),
		}[n]
		if !bytes.Equal(message, again) {
			t.Errorf("message %d holds memory of before: %q", n, again)
		}
	}
}

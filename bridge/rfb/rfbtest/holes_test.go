package rfbtest

import (
	"bytes"
	"encoding/binary"
	"image"
	"runtime"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// Holes of viewers that hostile servers went through: here each is an error, found before much memory is taken.
func TestHolesOfViewers(t *testing.T) {
	rect := func(x, y, w, h int, encoding int32, body string) string {
		b := []byte{0, 0, 0, 1}
		for _, v := range []int{x, y, w, h} {
			b = binary.BigEndian.AppendUint16(b, uint16(v))
		}
		return string(binary.BigEndian.AppendUint32(b, uint32(encoding))) + body
	}
	for _, c := range []struct{ name, in, err string }{
		{"CVE-2019-15691: ZRLE whose stream does not begin", rect(0, 0, 32, 32, rfb.ZRLE, "\x00\x00\x00\x01\x78"), "zlib stream"},
		{"CVE-2019-15692: ZRLE with a run beyond the tile", rect(0, 0, 32, 32, rfb.ZRLE, withLength(pack("\x80\x01\xff\xff\xff\xff\xff\x00"))), "a run of"},
		{"CVE-2019-15692: ZRLE with a colour beyond the palette", rect(0, 0, 32, 32, rfb.ZRLE, withLength(pack("\x82\x01\x02\x7f"))), "colour 127 of 2"},
		{"CVE-2019-15693: Tight without pixels", rect(0, 0, 0, 32, rfb.Tight, "\x00"), "empty rectangle"},
		{"CVE-2019-15694: a rectangle beyond the desktop", rect(63, 63, 2, 2, rfb.Raw, "\x00\x00\x00\x00"), "a rectangle at (63,63)-(65,65)"},
		{"CVE-2019-15694: the largest rectangle", rect(0, 0, 65535, 65535, rfb.Raw, ""), "a rectangle at"},
		{"CVE-2019-15694: CopyRect from beyond the desktop", rect(0, 0, 4, 4, rfb.CopyRect, "\xff\xff\xff\xff"), "a copy from"},
		{"CVE-2019-15695: a cursor of 65535×65535", rect(0, 0, 65535, 65535, rfb.PseudoCursor, ""), "a cursor of"},
		{"CVE-2019-15695: an alpha cursor of 65535×65535", rect(0, 0, 65535, 65535, rfb.PseudoCursorWithAlpha, ""), "a cursor of"},
		{"CVE-2017-5581: RRE beyond its rectangle", rect(0, 0, 8, 8, rfb.RRE, "\x00\x00\x00\x01\x01\x02\x00\x07\x00\x07\x00\x02\x00\x02"), "a subrectangle of 2×2"},
		{"CVE-2017-5581: RRE of the largest part", rect(0, 0, 8, 8, rfb.RRE, "\x00\x00\x00\x01\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff"), "a subrectangle of 65535×65535"},
		{"CVE-2017-5581: RRE with 2^32-1 parts", rect(0, 0, 8, 8, rfb.RRE, "\xff\xff\xff\xff\x01"), "4294967295 subrectangles"},
		{"CVE-2014-0011: ZRLE of 4 GiB", rect(0, 0, 32, 32, rfb.ZRLE, "\xff\xff\xff\xff"), "4294967295 bytes of ZRLE"},
		{"CVE-2014-0011: ZRLE whose tile is cut", rect(0, 0, 32, 32, rfb.ZRLE, withLength(pack("\x00\x01"))), "a piece ends too early"},
		{"CVE-2014-8240: a desktop of no pixels", rect(0, 0, 0, 0, rfb.PseudoDesktopSize, ""), "a desktop of 0×0"},
		{"CVE-2014-8240: a desktop of 65535×65535", rect(0, 0, 65535, 65535, rfb.PseudoDesktopSize, ""), "a desktop of 65535×65535"},
		{"CVE-2014-8240: an extended one", rect(0, 0, 65535, 65535, rfb.PseudoExtendedDesktopSize, "\x00\x00\x00\x00"), "a desktop of 65535×65535"},
		{"CVE-2026-44988: Tight's gradient", rect(0, 0, 32, 32, rfb.Tight, "\x40\x02\x7f"), "Tight filter 2"},
		{"CVE-2026-44988: Tight wider than can be", rect(0, 0, 2049, 1, rfb.Tight, "\x80\x01"), "a rectangle at"},
		{"Tight with a bomb", rect(0, 0, 32, 32, rfb.Tight, bomb()), "more than the rectangle needs"},
		{"zlib with a bomb", rect(0, 0, 32, 32, rfb.Zlib, withLength(pack(strings.Repeat("\x00", 8<<20)))), "more than the rectangle needs"},
		{"a JPEG picture of another size", rect(0, 0, 32, 32, rfb.Tight, "\x90\x17\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xda"), "JPEG: unexpected EOF"},
		{"a name of 4 GiB", rect(0, 0, 0, 0, rfb.PseudoDesktopName, "\xff\xff\xff\xff"), "bytes of desktop name"},
		{"cut text of 4 GiB", "\x03\x00\x00\x00\xff\xff\xff\xff", "bytes of cut text"},
		{"a map beyond 256 colours", "\x01\x00\xff\xff\x00\x02", "of a map of 256"},
		{"an encoding that nobody asked for", rect(0, 0, 8, 8, 17, ""), "encoding 17 is unknown"},
		{"a message that does not exist", "\x63", "message type 99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			conn := &canned{in: bytes.NewReader(append(rfb.AppendServerInit(nil, image.Pt(64, 64), bgr233, "d"), c.in...))}
			v, err := Handshake(conn, Config{FromInit: true, Manual: true})
			if err != nil {
				t.Fatal(err)
			}
			<-v.Done()
			runtime.ReadMemStats(&b)
			if err := v.Err(); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, not %q", err, c.err)
			}
			if n := b.TotalAlloc - a.TotalAlloc; n > 4<<20 {
				t.Errorf("%d bytes of memory", n)
			}
		})
	}
}

// bomb is a Tight rectangle whose few bytes become many.
func bomb() string {
	z := pack(strings.Repeat("\x00", 8<<20))
	n := len(z)
	return string([]byte{0x00, byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}) + z
}

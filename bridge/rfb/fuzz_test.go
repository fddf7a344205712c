package rfb_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// fuzzMessage gives a body behind a message's type: it is read the same whether it comes at once or byte by byte, and what is handed on
// keeps to the limits.
func fuzzMessage(f *testing.F, kind byte, bodies ...string) {
	for _, b := range bodies {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := append([]byte{kind}, body...)
		var at, by diary
		whole, bits := rfb.NewReader(bytes.NewReader(in)), rfb.NewReader(oneByOne{bytes.NewReader(in)})
		whole.Allow(everything)
		bits.Allow(everything)
		first, second := readAll(whole, &at), readAll(bits, &by)
		if first.Error() != second.Error() || !slices.Equal(at.lines, by.lines) {
			t.Fatalf("%v, %q at once; %v, %q byte by byte", first, at.lines, second, by.lines)
		}
		for _, line := range at.lines {
			if len(line) > 16*rfb.MaxEncodings {
				t.Fatalf("%d bytes were handed on: %.100s", len(line), line)
			}
		}
	})
}

func FuzzSetPixelFormat(f *testing.F) {
	fuzzMessage(f, 0, "\x00\x00\x00\x10\x0f\x01\x01\x00\x1f\x00\x1f\x00\x1f\x0a\x05\x00\x00\x00\x00", "\x00\x00\x00\x08\x08\x01\x00\x00\x07\x00\x07\x00\x03\x01\x03\x06\x00\x00\x00")
}
func FuzzSetEncodings(f *testing.F) {
	fuzzMessage(f, 2, "\x00"+u16(3)+u32(16, -239, 16), "\x00"+u16(65535)+u32(7), "\x00\x00\x00")
}
func FuzzUpdateRequest(f *testing.F) {
	fuzzMessage(f, 3, "\x01"+u16(1, 2, 3, 4), "\x00"+u16(65535, 65535, 65535, 65535))
}
func FuzzKeyEvent(f *testing.F) {
	fuzzMessage(f, 4, "\x01\x00\x00"+u32(0xff0d), "\x00\x00\x00"+u32(-1))
}
func FuzzPointerEvent(f *testing.F) {
	fuzzMessage(f, 5, "\x1f"+u16(10, 65535), "\x81"+u16(10, 20)+"\x03")
}
func FuzzCutText(f *testing.F) {
	fuzzMessage(f, 6, "\x00\x00\x00"+u32(5)+"h\xe9llo", "\x00\x00\x00"+u32(-4)+"abcd", "\x00\x00\x00"+u32(rfb.MaxCutText+1)+strings.Repeat("x", 99))
}
func FuzzContinuousUpdates(f *testing.F) { fuzzMessage(f, 150, "\x01"+u16(1, 2, 3, 4)) }
func FuzzFence(f *testing.F) {
	fuzzMessage(f, 248, "\x00\x00\x00"+u32(-1)+"\x01x", "\x00\x00\x00"+u32(4)+"\xff"+strings.Repeat("f", 255))
}
func FuzzSetDesktopSize(f *testing.F) {
	fuzzMessage(f, 251, "\x00"+u16(800, 600)+"\x01\x00"+screens(1), "\x00"+u16(800, 600)+"\x11\x00"+screens(17))
}
func FuzzQEMU(f *testing.F) {
	fuzzMessage(f, 255, "\x00"+u16(1)+u32(0x61, 0x1e), "\x01"+u16(2)+"\x03\x02"+u32(44100))
}

package form

import "testing"

// The table is searched by halves.
func TestLegacy(t *testing.T) {
	for i, l := range legacy {
		if i > 0 && l.sym <= legacy[i-1].sym {
			t.Errorf("%#x is not in order", l.sym)
		}
		if got := Legacy(uint32(l.sym)); got != rune(l.char) {
			t.Errorf("%#x is %q", l.sym, got)
		}
	}
	for _, sym := range []uint32{0, 'a', 0x1a0, 0x20ad, 0xff0d, 0x1000104} {
		if got := Legacy(sym); got != 0 {
			t.Errorf("%#x is %q", sym, got)
		}
	}
}

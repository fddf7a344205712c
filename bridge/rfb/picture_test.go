package rfb_test

import (
	"bytes"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// formats are what viewers ask for, and what they could.
func formats() map[string]rfb.PixelFormat {
	rgb := func(bpp, depth uint8, big bool, red, green, blue uint16, rs, gs, bs uint8) rfb.PixelFormat {
		return rfb.PixelFormat{BitsPerPixel: bpp, Depth: depth, BigEndian: big, TrueColour: true,
			RedMax: red, GreenMax: green, BlueMax: blue, RedShift: rs, GreenShift: gs, BlueShift: bs}
	}
	return map[string]rfb.PixelFormat{
		"native":         rfb.Native,
		"RGBX":           rgb(32, 24, false, 255, 255, 255, 0, 8, 16),
		"BGRX high":      rgb(32, 24, false, 255, 255, 255, 24, 16, 8),
		"native BE":      rgb(32, 24, true, 255, 255, 255, 16, 8, 0),
		"RGBX BE":        rgb(32, 24, true, 255, 255, 255, 0, 8, 16),
		"BE high":        rgb(32, 24, true, 255, 255, 255, 24, 16, 8),
		"32 of depth 32": rgb(32, 32, false, 255, 255, 255, 16, 8, 0),
		"32 spread":      rgb(32, 18, false, 63, 63, 63, 26, 13, 0),
		"565":            rgb(16, 16, false, 31, 63, 31, 11, 5, 0),
		"565 BE":         rgb(16, 16, true, 31, 63, 31, 11, 5, 0),
		"555":            rgb(16, 15, false, 31, 31, 31, 10, 5, 0),
		"555 BE BGR":     rgb(16, 15, true, 31, 31, 31, 0, 5, 10),
		"BGR233":         rgb(8, 8, false, 7, 7, 3, 0, 3, 6),
		"8 colours":      rgb(8, 3, false, 1, 1, 1, 2, 1, 0),
		"map":            {BitsPerPixel: 8, Depth: 8},
	}
}

// paint makes a picture by a function of the place. The unused byte holds what must never show.
func paint(r image.Rectangle, f func(x, y int) uint32) frame.Image {
	m := frame.New(r)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := m.Row(y, r.Min.X, r.Max.X)
		for x := range r.Dx() {
			c := f(x, y-r.Min.Y)
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = byte(c), byte(c>>8), byte(c>>16), byte(x*7+y)
		}
	}
	return m
}

// photograph looks like one: soft, with a little grain.
func photograph(seed uint64) func(x, y int) uint32 {
	rnd := rand.New(rand.NewPCG(seed, 1))
	return func(x, y int) uint32 {
		wave := func(a, b, c float64) uint32 {
			v := 128 + 60*math.Sin(float64(x)/a+c) + 50*math.Cos(float64(y)/b+c) + float64(rnd.IntN(7)) - 3
			return uint32(min(max(v, 0), 255))
		}
		return wave(23, 31, 0)<<16 | wave(37, 19, 1)<<8 | wave(29, 41, 2)
	}
}

// text looks like smoothed writing in several colours on a ground.
func text(x, y int) uint32 {
	if y%12 < 3 || x%7 == 0 {
		return 0xfafafa
	}
	h := uint32(x/7*31+y/12*17+x%7*(y%12)*13) * 2654435761 >> 24
	switch {
	case h < 90:
		return 0x101010 * (uint32(y/40) % 3)
	case h < 130:
		return 0x808080 + h
	}
	return 0xfafafa
}

func noise(seed uint64) func(x, y int) uint32 {
	rnd := rand.New(rand.NewPCG(seed, 2))
	return func(int, int) uint32 { return rnd.Uint32() & 0xffffff }
}

// mosaic has every kind of content in blocks of odd sizes.
func mosaic(seed uint64) func(x, y int) uint32 {
	photo, grain := photograph(seed), noise(seed)
	return func(x, y int) uint32 {
		switch (x/83 + y/59*2) % 5 {
		case 0:
			return photo(x, y)
		case 1:
			return text(x, y)
		case 2:
			return grain(x, y)
		case 3:
			return uint32(x/7)<<16 | uint32(y/3)
		}
		return 0x336699
	}
}

// A sample is a picture and the parts of it that are sent.
type sample struct {
	name  string
	img   frame.Image
	rects []image.Rectangle
}

func samples() []sample {
	at := func(x, y, w, h int) image.Rectangle { return image.Rect(x, y, x+w, y+h) }
	one := func(name string, r image.Rectangle, f func(x, y int) uint32) sample {
		return sample{name, paint(r, f), []image.Rectangle{r}}
	}
	list := []sample{
		one("photo", at(0, 0, 100, 75), photograph(1)),
		one("text", at(0, 0, 133, 87), text),
		one("flat", at(0, 0, 130, 130), func(int, int) uint32 { return 0x123456 }),
		one("two colours", at(0, 0, 130, 67), func(x, y int) uint32 { return uint32(x*y/5&1) * 0xffffff }),
		one("noise", at(0, 0, 100, 70), noise(1)),
		one("mosaic", at(0, 0, 255, 131), mosaic(3)),
		one("gradient", at(0, 0, 256, 20), func(x, _ int) uint32 { return uint32(x) * 0x010101 }),
		one("long runs", at(0, 0, 128, 70), func(x, y int) uint32 { return uint32((y*128+x)/997) * 0x050301 }),
		one("one pixel", at(0, 0, 1, 1), noise(4)),
		one("three pixels", at(0, 0, 3, 1), noise(4)),
		one("one wide", at(0, 0, 1, 77), photograph(2)),
		one("one high", at(0, 0, 77, 1), photograph(2)),
		one("wide", at(0, 0, 2049, 9), mosaic(5)),
		one("wider", at(0, 0, 4500, 3), text),
		{"moved", paint(at(200, 90, 150, 100), mosaic(6)), []image.Rectangle{at(210, 95, 50, 63), at(261, 95, 17, 65), at(300, 160, 50, 30)}},
		{"outside", paint(at(0, 0, 64, 64), mosaic(6)), []image.Rectangle{at(50, 50, 100, 100), at(100, 100, 5, 5)}},
		{"one row for all", frame.Solid(at(5, 5, 130, 100), 0x804020), []image.Rectangle{at(5, 5, 130, 100)}},
		{"no pixels", paint(at(0, 0, 9, 9), text), []image.Rectangle{{}}},
	}
	for n := 2; n <= 18; n++ { // the edges of packed palettes
		list = append(list, one(fmt.Sprint(n, " colours"), at(0, 0, 35, 9), func(x, y int) uint32 { return uint32((x*7+y*13+x*y)%n) * 0x0d1117 }))
	}
	for _, n := range []int{95, 96, 97, 126, 127, 128, 255, 256, 257} {
		list = append(list, one(fmt.Sprint(n, " colours"), at(0, 0, 64, 64), func(x, y int) uint32 { return uint32((y*64+x)%n) * 0x010203 }))
		list = append(list, one(fmt.Sprint(n, " colours in runs"), at(0, 0, 64, 64), func(x, y int) uint32 { return uint32((y*64+x)/16%n) * 0x010203 }))
	}
	return list
}

// scaled is what a viewer of that format can show of a colour, rounded to the nearest.
func scaled(f rfb.PixelFormat, rgb uint32) uint32 {
	red, green, blue := uint32(f.RedMax), uint32(f.GreenMax), uint32(f.BlueMax)
	if !f.TrueColour {
		red, green, blue = 7, 7, 3
	}
	there := func(v, max uint32) uint32 {
		v = (v*max*2 + 255) / 510 // to the nearest
		if !f.TrueColour {
			return v * 65535 / max >> 8 // maps have 16 bits
		}
		return (v*255 + max/2) / max
	}
	return there(rgb>>16, red)<<16 | there(rgb>>8&255, green)<<8 | there(rgb&255, blue)
}

// decode draws a batch, without its streams' headers being due elsewhere, into a picture of that size.
func decode(t testing.TB, d *rfbtest.Decoder, s *rfb.StreamState, b *rfb.Batch, m frame.Image) {
	t.Helper()
	in := bytes.NewReader(b.AppendTo(nil, s))
	for range b.Count {
		var h [12]byte
		if _, err := in.Read(h[:]); err != nil {
			t.Fatal(err)
		}
		u := func(i int) int { return int(h[i])<<8 | int(h[i+1]) }
		r := image.Rect(u(0), u(2), u(0)+u(4), u(2)+u(6))
		if err := d.Rect(in, m, r, int32(u(8)<<16|u(10))); err != nil {
			t.Fatalf("%v: %v", r, err)
		}
	}
	if in.Len() != 0 {
		t.Fatalf("%d bytes behind %d rectangles", in.Len(), b.Count)
	}
}

func colourAt(m frame.Image, x, y int) uint32 {
	p := m.Row(y, x, x+1)
	return uint32(p[2])<<16 | uint32(p[1])<<8 | uint32(p[0])
}

// newDecoder is one for a viewer of that format, the colour map received.
func newDecoder(f rfb.PixelFormat) *rfbtest.Decoder {
	d := &rfbtest.Decoder{}
	d.SetFormat(f)
	colours := rfb.AppendColourMap(nil)[6:]
	for i := range d.Map {
		d.Map[i] = [3]byte{colours[6*i], colours[6*i+2], colours[6*i+4]}
	}
	return d
}

// exact fails where got is not want in the parts that were sent, or where anything else was touched.
func exact(t *testing.T, f rfb.PixelFormat, want frame.Image, rects []image.Rectangle, got frame.Image) {
	t.Helper()
	width := got.Rect.Max.X
	sent := make([]bool, width*got.Rect.Max.Y)
	for _, r := range rects {
		r = r.Intersect(want.Rect)
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				sent[y*width+x] = true
				if g, w := colourAt(got, x, y), scaled(f, colourAt(want, x, y)); g != w {
					t.Fatalf("pixel %d, %d is %06x, not %06x", x, y, g, w)
				}
			}
		}
	}
	for i, s := range sent {
		if c := colourAt(got, i%width, i/width); c != 0 && !s {
			t.Fatalf("pixel %d, %d was touched", i%width, i/width)
		}
	}
}

var encodings = map[string]int32{
	"Raw": rfb.Raw, "RRE": rfb.RRE, "Hextile": rfb.Hextile, "zlib": rfb.Zlib, "Tight": rfb.Tight, "ZRLE": rfb.ZRLE,
}

// Every picture arrives exactly in every encoding and format, twice in a row through the same streams.
func TestLossless(t *testing.T) {
	pictures := samples()
	var e rfb.Encoder
	var b rfb.Batch
	for name, encoding := range encodings {
		for formatName, f := range formats() {
			t.Run(name+"/"+formatName, func(t *testing.T) {
				if err := f.Check(); err != nil {
					t.Fatal(err)
				}
				d, state := newDecoder(f), rfb.StreamState{}
				for i, s := range pictures {
					t.Run(s.name, func(t *testing.T) {
						got := frame.New(image.Rectangle{Max: s.img.Rect.Max})
						b.Reset()
						e.Append(&b, rfb.Params{Encoding: encoding, Format: f, Quality: int8(i%11) - 1, Compress: int8(i%11) - 1, Lossless: true}, s.img, s.rects)
						decode(t, d, &state, &b, got)
						if len(b.Lossy) > 0 {
							t.Fatalf("%v was lossy", b.Lossy)
						}
						exact(t, f, s.img, s.rects, got)
					})
				}
			})
		}
	}
}

// A large rectangle is sent in pieces that no viewer finds too large.
func TestPieces(t *testing.T) {
	img := paint(image.Rect(0, 0, 2060, 258), func(x, y int) uint32 { return uint32(x/9*y/31%5) * 0x332211 })
	var e rfb.Encoder
	for name, encoding := range encodings {
		var b rfb.Batch
		e.Append(&b, rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: -1, Compress: -1}, img, []image.Rectangle{img.Rect})
		got := frame.New(img.Rect)
		decode(t, newDecoder(rfb.Native), &rfb.StreamState{}, &b, got)
		exact(t, rfb.Native, img, []image.Rectangle{img.Rect}, got)
		if b.Count < 4 {
			t.Errorf("%s: %d rectangles", name, b.Count)
		}
	}
}

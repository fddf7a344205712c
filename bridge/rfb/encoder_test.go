package rfb_test

import (
	"bytes"
	"fmt"
	"image"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// psnr is the likeness of two pictures in r, dB; +Inf when they are equal.
func psnr(a, b frame.Image, r image.Rectangle) float64 {
	var sum, n float64
	for y := r.Min.Y; y < r.Max.Y; y++ {
		p, q := a.Row(y, r.Min.X, r.Max.X), b.Row(y, r.Min.X, r.Max.X)
		for i := range p {
			if i%4 != 3 {
				d := float64(p[i]) - float64(q[i])
				sum += d * d
				n++
			}
		}
	}
	return 10 * math.Log10(255*255*n/sum)
}

// JPEG is used for photographs where a quality level was sent, and what it took away is noted; text stays exact.
func TestLossy(t *testing.T) {
	img := paint(image.Rect(0, 0, 640, 384), func() func(x, y int) uint32 {
		photo := photograph(9)
		return func(x, y int) uint32 {
			if x >= 192 && x < 512 && y >= 64 && y < 256 {
				return photo(x, y)
			}
			return text(x, y)
		}
	}())
	inner := image.Rect(192, 64, 512, 256)
	for q := int8(0); q <= 9; q++ {
		names := []string{"native"}
		if q%4 == 0 {
			names = []string{"native", "RGBX", "565", "555 BE BGR"}
		}
		for _, name := range names {
			t.Run(fmt.Sprint(name, " quality ", q), func(t *testing.T) {
				f := formats()[name]
				var e rfb.Encoder
				var b rfb.Batch
				e.Append(&b, rfb.Params{Encoding: rfb.Tight, Format: f, Quality: q, Compress: -1}, img, []image.Rectangle{img.Rect})
				d, got := newDecoder(f), frame.New(img.Rect)
				decode(t, d, &rfb.StreamState{}, &b, got)
				if d.JPEGs != len(b.Lossy) || d.JPEGs == 0 {
					t.Fatalf("%d JPEG pictures, %d noted", d.JPEGs, len(b.Lossy))
				}
				var covered int
				for _, r := range b.Lossy {
					if !r.In(inner) {
						t.Errorf("%v is text, but was sent lossy", r)
					}
					covered += r.Dx() * r.Dy()
				}
				if covered != inner.Dx()*inner.Dy() {
					t.Errorf("%d pixels by JPEG of a photograph of %d", covered, inner.Dx()*inner.Dy())
				}
				least := 30.0
				if q == 0 {
					least = 27 // quality 15 of 100
				}
				if p := psnr(img, got, inner); p < least || math.IsInf(p, 1) {
					t.Errorf("the photograph has %.1f dB", p)
				}
				lossy := slices.Clone(b.Lossy)
				b.Reset()
				e.Append(&b, rfb.Params{Encoding: rfb.Tight, Format: f, Quality: q, Compress: -1, Lossless: true}, img, lossy)
				decode(t, d, &rfb.StreamState{}, &b, got)
				exact(t, f, img, []image.Rectangle{img.Rect}, got) // and the rest was exact before
			})
		}
	}
}

// JPEG shows what Tight's own does. Any viewer of it can read a batch, whatever it has seen before, though only the first picture of
// a quality has the tables.
// A part of a photograph that is so bright that few colours are left is one nevertheless: sent exactly, its grain would take several times
// as much.
func TestBrightPhotograph(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	bright := paint(image.Rect(0, 0, 256, 128), func(x, y int) uint32 {
		return 0xff0000 | uint32(0xfa+rnd.IntN(5))<<8 | uint32(0xc0+x/16*2+rnd.IntN(5))
	})
	var e rfb.Encoder
	var b rfb.Batch
	e.Append(&b, rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: 8, Compress: -1}, bright, []image.Rectangle{bright.Rect})
	if len(b.Lossy) != 1 || b.Lossy[0] != bright.Rect {
		t.Errorf("by JPEG go %v, not all", b.Lossy)
	}
}

func TestJPEGEncoding(t *testing.T) {
	img := paint(image.Rect(0, 0, 640, 384), photograph(9))
	var parts []image.Rectangle
	for x := 0; x < 600; x += 100 {
		parts = append(parts, image.Rect(x, 50, x+64, 114))
	}
	params := func(quality int32, list ...int32) rfb.Params {
		return rfb.ParseEncodings(append([]int32{rfb.Tight, rfb.PseudoQuality0 + quality}, list...)).Params(rfb.Native, false)
	}
	var e rfb.Encoder
	early := newDecoder(rfb.Native)
	for _, qualities := range [][]int32{{6}, {3, 3}, {8, 1, 8}, {6}, {0, 9}} {
		var tight, bare rfb.Batch
		for _, q := range qualities { // as several Appends
			e.Append(&tight, params(q), img, parts)
			e.Append(&bare, params(q, rfb.JPEG), img, parts)
		}
		want, got, gotLate := frame.New(img.Rect), frame.New(img.Rect), frame.New(img.Rect)
		decode(t, newDecoder(rfb.Native), &rfb.StreamState{}, &tight, want)
		decode(t, early, &rfb.StreamState{}, &bare, got)
		late := newDecoder(rfb.Native)
		decode(t, late, &rfb.StreamState{}, &bare, gotLate)
		if !bytes.Equal(want.Pix, got.Pix) || !bytes.Equal(want.Pix, gotLate.Pix) {
			t.Errorf("qualities %v: JPEG shows something else than Tight", qualities)
		}
		if n := len(parts) * len(qualities); late.JPEGs != n || bare.Count != n || !slices.Equal(bare.Lossy, tight.Lossy) {
			t.Errorf("qualities %v: %d pictures in %d rectangles, not %d", qualities, late.JPEGs, bare.Count, n)
		}
		changes := len(slices.Compact(slices.Clone(qualities)))
		if n := bytes.Count(bare.Bytes, []byte("\xff\xdb\x00\x43\x00")); n != changes {
			t.Errorf("qualities %v: %d pictures with tables, not %d", qualities, n, changes)
		}
		t.Logf("qualities %v: %d bytes by JPEG, %d by Tight", qualities, len(bare.Bytes), len(tight.Bytes))
		bare.Reset()
		e.Append(&bare, params(qualities[len(qualities)-1], rfb.JPEG), img, parts)
		decode(t, newDecoder(rfb.Native), &rfb.StreamState{}, &bare, got) // the batch has forgotten, too
	}
}

// Nothing is lost with formats of 8 bits, without a quality level, or in what is too small or too plain for JPEG.
func TestNotLossy(t *testing.T) {
	var e rfb.Encoder
	photo := paint(image.Rect(0, 0, 128, 128), photograph(9))
	for _, c := range []struct {
		name string
		p    rfb.Params
		r    image.Rectangle
	}{
		{"8 bits", rfb.Params{Encoding: rfb.Tight, Format: formats()["BGR233"], Quality: 9}, photo.Rect},
		{"map", rfb.Params{Encoding: rfb.Tight, Format: formats()["map"], Quality: 9}, photo.Rect},
		{"no quality", rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: -1}, photo.Rect},
		{"lossless", rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: 9, Lossless: true}, photo.Rect},
		{"ZRLE", rfb.Params{Encoding: rfb.ZRLE, Format: rfb.Native, Quality: 9}, photo.Rect},
		{"small", rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: 9}, image.Rect(0, 0, 32, 31)},
	} {
		var b rfb.Batch
		e.Append(&b, c.p, photo, []image.Rectangle{c.r})
		if len(b.Lossy) > 0 {
			t.Errorf("%s: %v was sent lossy", c.name, b.Lossy)
		}
	}
	var b rfb.Batch
	e.Append(&b, rfb.Params{Encoding: rfb.Tight, Format: rfb.Native, Quality: 9}, photo, []image.Rectangle{image.Rect(0, 0, 32, 32)})
	if len(b.Lossy) != 1 {
		t.Error("32×32 pixels of a photograph were not sent lossy")
	}
}

// A batch depends on its Params and pixels alone, whatever the encoder did before, so viewers can share it.
func TestPure(t *testing.T) {
	pictures := samples()
	var used rfb.Encoder
	for name, encoding := range encodings {
		for _, q := range []int8{-1, 8} {
			p := rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: q, Compress: -1}
			for i, s := range pictures {
				var fresh rfb.Encoder
				var a, b rfb.Batch
				other := pictures[(i+5)%len(pictures)]
				used.Append(&b, rfb.Params{Encoding: rfb.Tight, Format: formats()["565"], Compress: int8(i % 10), Quality: 3}, other.img, other.rects)
				b.Reset()
				used.Append(&b, p, s.img, s.rects)
				fresh.Append(&a, p, s.img, s.rects)
				if !bytes.Equal(a.Bytes, b.Bytes) || a.Count != b.Count || !slices.Equal(a.Lossy, b.Lossy) {
					t.Fatalf("%s, quality %d, %s: a used encoder made %d bytes, a fresh one %d", name, q, s.name, len(b.Bytes), len(a.Bytes))
				}
			}
		}
	}
}

// One batch serves viewers that have come at different times, and those that change their encoding on the way.
func TestSharedStreams(t *testing.T) {
	img := paint(image.Rect(0, 0, 300, 200), mosaic(7))
	parts := []image.Rectangle{image.Rect(0, 0, 100, 200), image.Rect(100, 0, 300, 77), image.Rect(100, 77, 300, 200)}
	order := []int32{rfb.ZRLE, rfb.Zlib, rfb.Tight, rfb.Zlib, rfb.ZRLE, rfb.Tight}
	var e rfb.Encoder
	for late := range order {
		early, lateOne := newDecoder(rfb.Native), newDecoder(rfb.Native)
		var s, sLate rfb.StreamState
		var b rfb.Batch
		for i, encoding := range order {
			b.Reset()
			for j, part := range parts { // several encodings in one batch
				p := rfb.Params{Encoding: encoding, Format: rfb.Native, Quality: -1, Compress: int8((i + j) % 10)}
				if j == 1 {
					p.Encoding = order[(i+1)%len(order)]
				}
				e.Append(&b, p, img, []image.Rectangle{part})
			}
			got := frame.New(img.Rect)
			decode(t, early, &s, &b, got)
			exact(t, rfb.Native, img, parts, got)
			if i < late {
				continue
			}
			before := sLate
			got = frame.New(img.Rect)
			decode(t, lateOne, &sLate, &b, got)
			exact(t, rfb.Native, img, parts, got)

			var sent bytes.Buffer
			again := before
			if err := b.Send(&sent, &again); err != nil || !bytes.Equal(sent.Bytes(), b.AppendTo(nil, &before)) || again != before {
				t.Fatalf("Send and AppendTo differ (%v)", err)
			}
		}
	}
}

// Params that make no difference are equal.
func TestParamsShared(t *testing.T) {
	tight := func(f string, list ...int32) rfb.Params {
		return rfb.ParseEncodings(append([]int32{rfb.Tight}, list...)).Params(formats()[f], false)
	}
	if a, b := tight("native", -26), tight("RGBX", -26); a != b {
		t.Errorf("Tight for %+v and for %+v, though its bytes are equal", a, b)
	}
	if a, b := tight("native"), tight("BE high", -256+2); a != b {
		t.Errorf("no compress level makes %+v, level 2 %+v", a, b)
	}
	if a, b := tight("BGR233"), tight("BGR233", -23); a != b {
		t.Errorf("a quality level matters with 8 bits: %+v, %+v", a, b)
	}
	hex := rfb.ParseEncodings([]int32{rfb.Hextile, -23, -247}).Params(rfb.Native, false)
	if b := rfb.ParseEncodings([]int32{rfb.Hextile}).Params(rfb.Native, true); hex != b {
		t.Errorf("levels matter with Hextile: %+v, %+v", hex, b)
	}
	if a, b := tight("native", -26), tight("native", -25); a == b {
		t.Error("quality levels 6 and 7 are the same")
	}
	if a, b := tight("native", -24), tight("native", -30, -512+92, -768); a != b {
		t.Errorf("level 8 makes %+v, quality 92 with 4:4:4 %+v", a, b)
	}
	if a, b := tight("native"), tight("native", -766); a != b {
		t.Errorf("a subsampling matters without a quality: %+v, %+v", a, b)
	}
	if a, b := tight("native"), tight("native", rfb.JPEG); a != b {
		t.Errorf("JPEG matters without a quality: %+v, %+v", a, b)
	}
	if a, b := tight("native", -26), tight("native", -26, rfb.JPEG); a == b {
		t.Error("JPEG makes no difference")
	}
}

// A picture has the quality and the subsampling that the viewer's levels stand for, or what it asks for beside them.
func TestJPEGLevels(t *testing.T) {
	type want struct {
		quality int
		sub     rfb.Subsampling
	}
	cases := map[string]want{}
	list := map[string][]int32{}
	for level, w := range []want{
		{15, rfb.Sub420}, {29, rfb.Sub420}, {41, rfb.Sub420}, {42, rfb.Sub422}, {62, rfb.Sub422},
		{77, rfb.Sub422}, {79, rfb.Sub444}, {86, rfb.Sub444}, {92, rfb.Sub444}, {100, rfb.Sub444},
	} {
		name := fmt.Sprint("level ", level)
		cases[name], list[name] = w, []int32{rfb.PseudoQuality0 + int32(level)}
	}
	for name, c := range map[string]struct {
		list []int32
		want
	}{
		"fine":                  {[]int32{-512 + 70}, want{70, rfb.Sub422}},
		"fine 0":                {[]int32{-512}, want{1, rfb.Sub420}},
		"fine and level":        {[]int32{-24, -512 + 30}, want{30, rfb.Sub444}},
		"level and subsampling": {[]int32{-767, -24}, want{92, rfb.Sub420}},
		"all three":             {[]int32{-766, -32, -412}, want{100, rfb.Sub422}},
	} {
		cases[name], list[name] = c.want, c.list
	}
	photo := paint(image.Rect(0, 0, 50, 40), photograph(9))
	for name, c := range cases {
		p := rfb.ParseEncodings(append([]int32{rfb.Tight}, list[name]...)).Params(rfb.Native, false)
		var e rfb.Encoder
		var b rfb.Batch
		e.Append(&b, p, photo, []image.Rectangle{photo.Rect})
		picture := rfb.AppendJPEG(rfb.NewJPEG(), nil, photo, photo.Rect, c.quality, c.sub)
		if !bytes.HasSuffix(b.Bytes, picture) {
			t.Errorf("%s: not a picture of quality %d and subsampling %d", name, c.quality, c.sub)
		}
	}
}

// Any pixels in any format and encoding arrive exactly, or alike where JPEG was allowed.
func FuzzEncoder(f *testing.F) {
	names := slices.Sorted(maps.Keys(formats()))
	f.Add([]byte("abcabcabdddddddddd"), uint8(3), uint8(5), uint8(0), uint8(0), int8(8))
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4, 5}, 90), uint8(70), uint8(66), uint8(5), uint8(1), int8(-1))
	f.Fuzz(func(t *testing.T, content []byte, w, h, format, encoding uint8, quality int8) {
		if len(content) == 0 || w == 0 || h == 0 || int(w)*int(h) > 80*80 {
			return
		}
		// The content says colours and for how long they go on.
		img := frame.New(image.Rect(0, 0, int(w), int(h)))
		for i, at := 0, 0; i < len(img.Pix)/4; at += 2 {
			v, run := content[at%len(content)], int(content[(at+1)%len(content)])%9*(at%7)+1
			for ; run > 0 && i < len(img.Pix)/4; run-- {
				img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3] = v, v*7, v*31, byte(i)
				i++
			}
		}
		form := formats()[names[int(format)%len(names)]]
		p := rfb.Params{
			Encoding: []int32{rfb.Raw, rfb.RRE, rfb.Hextile, rfb.Zlib, rfb.Tight, rfb.ZRLE}[encoding%6],
			Format:   form, Quality: max(min(quality, 9), -1), JPEG: encoding > 127,
		}
		var e rfb.Encoder
		var b rfb.Batch
		e.Append(&b, p, img, []image.Rectangle{img.Rect})
		got := frame.New(img.Rect)
		decode(t, newDecoder(form), &rfb.StreamState{}, &b, got)
		if len(b.Lossy) == 0 {
			exact(t, form, img, []image.Rectangle{img.Rect}, got)
		} else if p.Quality < 0 {
			t.Fatal("lossy without a quality level")
		}
	})
}

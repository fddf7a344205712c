package truth

import (
	"image"
	"math"
	"math/rand/v2"

	"github.com/helmline/helmline/bridge/frame"
)

// size is that of the show, no multiple of any tile.
var size = image.Pt(333, 217)

// A content gives the colour of a place, 0xRRGGBB.
type content func(x, y int) uint32

// photograph is soft, with a little grain.
func photograph(seed uint64) content {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(x, y int) uint32 {
		wave := func(a, b, c float64) uint32 {
			v := 128 + 60*math.Sin(float64(x)/a+c) + 50*math.Cos(float64(y)/b+c) + float64(r.IntN(5)) - 2
			return uint32(min(max(v, 0), 255))
		}
		return wave(23, 31, 0)<<16 | wave(37, 19, 1)<<8 | wave(29, 41, 2)
	}
}

// text is writing in two colours.
func text(x, y int) uint32 {
	if y%12 < 3 || x%7 == 0 || uint32(x/7*31+y/12*17+x%7*(y%12)*13)*2654435761>>24 > 130 {
		return 0xfafafa
	}
	return 0x102030
}

// colours has so many of them, in runs.
func colours(n int) content { return func(x, y int) uint32 { return uint32((x/3+y*5)%n) * 0x0b1d35 } }

func noise(seed uint64) content {
	r := rand.New(rand.NewPCG(seed, 2))
	return func(int, int) uint32 { return r.Uint32() & 0xffffff }
}

func solid(rgb uint32) content { return func(int, int) uint32 { return rgb } }

// draw fills a part of a picture.
func draw(m frame.Image, r image.Rectangle, f content) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := m.Row(y, r.Min.X, r.Max.X)
		for x := range r.Dx() {
			c := f(r.Min.X+x, y)
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = byte(c), byte(c>>8), byte(c>>16), 0xa5 // which must never show
		}
	}
}

// clone is a picture of its own.
func clone(m frame.Image) frame.Image {
	m.Pix = append([]byte(nil), m.Pix...)
	return m
}

// steps are all kinds of content in odd places, changed in parts, scrolled, and replaced.
func steps() []step {
	all := image.Rectangle{Max: size}
	first := frame.New(all)
	kinds := []content{photograph(1), text, noise(1), solid(0x336699), colours(2), colours(5), colours(16), colours(17), colours(90), colours(200), solid(0)}
	for y := 0; y < size.Y; y += 59 {
		for x := 0; x < size.X; x += 71 {
			draw(first, image.Rect(x, y, x+71, y+59).Intersect(all), kinds[(x/71+y/59*5)%len(kinds)])
		}
	}
	second := clone(first)
	parts := []image.Rectangle{
		image.Rect(0, 0, 1, 1), image.Rect(5, 3, 8, 4), image.Rect(17, 9, 100, 78), image.Rect(120, 11, 121, 140), image.Rect(130, 20, 333, 21),
		image.Rect(140, 33, 270, 97), image.Rect(201, 101, 333, 217), image.Rect(10, 100, 190, 203),
	}
	for i, r := range parts {
		draw(second, r, kinds[(i*3+2)%len(kinds)])
	}
	third := clone(second)
	up, across := frame.Copy{From: image.Pt(3, 30), To: image.Rect(3, 10, 320, 190)}, frame.Copy{From: image.Pt(0, 0), To: image.Rect(40, 20, 180, 170)}
	third.Move(up)
	third.Move(across)
	bare := image.Rect(3, 190, 320, 210)
	draw(third, bare, text)
	fourth := frame.New(all)
	for y := 0; y < size.Y; y += 64 {
		draw(fourth, image.Rect(0, y, size.X, y+64).Intersect(all), kinds[y/64*2%len(kinds)])
	}
	return []step{
		{first, nil, []image.Rectangle{all}}, {second, nil, parts}, {third, []frame.Copy{up, across}, []image.Rectangle{bare}}, {fourth, nil, []image.Rectangle{all}},
	}
}

package main

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"math/rand/v2"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/helmline/helmline/bridge/frame"
)

// Everything that is shown is made here from fixed seeds, so that every run and every server has the same.

// wallpaper is what lies under the windows: a slow gradient with a fine grid, as screens have it.
func wallpaper(size image.Point) frame.Image {
	m := frame.New(image.Rectangle{Max: size})
	for y := range size.Y {
		row := m.Row(y, 0, size.X)
		for x := range size.X {
			b, g, r := 90+y/16%48, 60+y/16%48, 40+x/64%24
			if x%120 == 0 || y%120 == 0 {
				b, g, r = b+20, g+20, r+20
			}
			row[4*x], row[4*x+1], row[4*x+2] = byte(b), byte(g), byte(r)
		}
	}
	return m
}

// waves is a table of a sine, 0 to 255.
var waves = func() (t [1024]int) {
	for i := range t {
		t[i] = int(127.5 + 127.5*math.Sin(2*math.Pi*float64(i)/float64(len(t))))
	}
	return t
}()

func wave(i int) int { return waves[i&1023] }

// grain is noise of a camera, -2 to 2.
var grain = func() (t [1 << 14]int) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range t {
		t[i] = r.IntN(3) + r.IntN(3) - 2
	}
	return t
}()

// scene is a picture of a film at a time: a lit background that drifts, four things that move before it, and grain.
// seed makes another film.
func scene(size image.Point, seed, time int) frame.Image {
	m := frame.New(image.Rectangle{Max: size})
	var thing [4]struct{ x, y, r int }
	for i := range thing {
		thing[i].x = size.X * wave(time*(5+2*i)+seed*97+i*311) / 255
		thing[i].y = size.Y * wave(time*(4+3*i)+seed*61+i*173+256) / 255
		thing[i].r = size.Y * (i + 2) / 16
	}
	for y := range size.Y {
		row := m.Row(y, 0, size.X)
		g := (y*131 + time*7919) & (len(grain) - 1)
		down := wave(y*3/4+time*3+seed*40) / 2
		for x := range size.X {
			a := wave(x/2+time*4+seed*70) / 2
			b := wave((x+y)/3-time*2+seed*15) / 2
			blue, green, red := 30+down+b/2, 20+a/2+b, 40+a+down/3
			for i := range thing {
				dx, dy, r := x-thing[i].x, y-thing[i].y, thing[i].r
				if d := dx*dx + dy*dy; d < r*r {
					light := 160 - 140*d/(r*r)
					blue, green, red = light+i*20, light/2+30*(i%3), light+30-i*20
				}
			}
			n := grain[(g+x*17)&(len(grain)-1)]
			row[4*x], row[4*x+1], row[4*x+2] = clip(blue+n), clip(green+n), clip(red+n)
		}
	}
	return m
}

func clip(v int) byte { return byte(min(max(v, 0), 255)) }

// words are what texts consist of.
var words = strings.Fields(`the helm of a ship turns her rudder and whoever has it steers while all others on the bridge may watch
	relay tunnel viewer session window picture update request answer frame screen server client latency byte cursor key
	before after between under through without because however 10:04 42 1920x1080 /usr/bin/make error: warning: ok done`)

// sentence is a line of text of about so many characters.
func sentence(r *rand.Rand, characters int) string {
	var b strings.Builder
	for b.Len() < characters {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.String()[:characters]
}

// A pen writes text into pictures.
type pen struct{ face font.Face }

func newPen(ttf []byte, size float64) (*pen, error) {
	f, err := opentype.Parse(ttf)
	if err != nil {
		return nil, err
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	return &pen{face}, err
}

func monospace() (*pen, error)    { return newPen(gomono.TTF, 15) }    // cells of 9×18
func proportional() (*pen, error) { return newPen(goregular.TTF, 16) } // lines of 24

// write writes text with its base line at a place of m.
func (p *pen) write(m frame.Image, at image.Point, text string, rgb uint32) {
	ink := color.RGBA{byte(rgb >> 16), byte(rgb >> 8), byte(rgb), 255}
	d := font.Drawer{Dst: canvas{m}, Src: image.NewUniform(ink), Face: p.face, Dot: fixed.P(at.X, at.Y)}
	d.DrawString(text)
}

// stamp is write without shades, as the fonts of X have none.
func (p *pen) stamp(m frame.Image, at image.Point, text string, rgb uint32) {
	grey := frame.New(m.Rect)
	p.write(grey, at, text, 0xffffff)
	for i := 0; i < len(grey.Pix); i += frame.BytesPerPixel {
		if grey.Pix[i] >= 128 {
			m.Pix[i], m.Pix[i+1], m.Pix[i+2] = byte(rgb), byte(rgb>>8), byte(rgb>>16)
		}
	}
}

// A canvas lets image/draw draw into a frame.Image.
type canvas struct{ frame.Image }

func (c canvas) ColorModel() color.Model { return color.RGBAModel }
func (c canvas) Bounds() image.Rectangle { return c.Rect }
func (c canvas) At(x, y int) color.Color {
	p := c.Row(y, x, x+1)
	return color.RGBA{p[2], p[1], p[0], 255}
}
func (c canvas) Set(x, y int, v color.Color) {
	r, g, b, _ := v.RGBA()
	p := c.Row(y, x, x+1)
	p[0], p[1], p[2] = byte(b>>8), byte(g>>8), byte(r>>8)
}

var _ draw.Image = canvas{}

// paint fills a rectangle of m.
func paint(m frame.Image, r image.Rectangle, rgb uint32) {
	r = r.Intersect(m.Rect)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		row := m.Row(y, r.Min.X, r.Max.X)
		for i := 0; i < len(row); i += 4 {
			row[i], row[i+1], row[i+2] = byte(rgb), byte(rgb>>8), byte(rgb>>16)
		}
	}
}

// put copies the part of src into m with its upper left corner at a place; what lies outside m is cut off.
func put(m frame.Image, at image.Point, src frame.Image, part image.Rectangle) {
	r := image.Rectangle{Min: at, Max: at.Add(part.Size())}.Intersect(m.Rect)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		x := part.Min.X + r.Min.X - at.X
		copy(m.Row(y, r.Min.X, r.Max.X), src.Row(part.Min.Y+y-at.Y, x, x+r.Dx()))
	}
}

// page is a long page of a browser: text in paragraphs, headings and a picture here and there.
func page(size image.Point) (frame.Image, error) {
	m := frame.New(image.Rectangle{Max: size})
	p, err := proportional()
	if err != nil {
		return m, err
	}
	paint(m, m.Rect, 0xffffff)
	r := rand.New(rand.NewPCG(5, 6))
	for y, line := 40, 0; y < size.Y-300; y, line = y+24, line+1 {
		switch {
		case line%40 == 17:
			photo := scene(image.Pt(480, 264), line, 0)
			put(m, image.Pt(60, y), photo, photo.Rect)
			y += 280
		case line%10 == 0:
			y += 12
			p.write(m, image.Pt(60, y), strings.ToUpper(sentence(r, 30)), 0x1a3f8b)
		case line%10 == 9:
		default:
			p.write(m, image.Pt(60, y), sentence(r, 110), 0x202020)
		}
	}
	return m, nil
}

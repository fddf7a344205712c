package form

import (
	"image"
	"image/color"
	"image/draw"
	"math"

	"golang.org/x/image/vector"

	"github.com/helmline/helmline/bridge/frame"
)

// Colours, 0xRRGGBB.
const (
	Background = 0x253244 // behind a page in the Middle: a calm dark blue

	cCard     = 0xffffff
	cEdge     = 0xc3ccd6
	cText     = 0x18212b
	cSoft     = 0x4f5d6c
	cAccent   = 0x1258a8
	cRing     = 0xa9c8ec
	cField    = 0xfafbfc
	cLine     = 0x8794a3
	cErrorBG  = 0xfdeceb
	cError    = 0x96190f
	cInfoBG   = 0xe9f1fb
	cInfo     = 0x0f4380
	cButton   = 0xeef1f5
	cBusy     = 0x8fa3ba
	cNotice   = 0x1b2635
	cNoticeFG = 0xf4f7fa
)

// canvas draws into a frame.Image by way of image.RGBA, whose drawing is the fast one: red and blue only change
// places in the colours.
type canvas struct {
	m     *image.RGBA
	shape vector.Rasterizer
}

func newCanvas(dst frame.Image) *canvas {
	return &canvas{m: &image.RGBA{Pix: dst.Pix, Stride: dst.Stride, Rect: dst.Rect}}
}

func ink(rgb uint32) *image.Uniform {
	return image.NewUniform(color.RGBA{R: byte(rgb), G: byte(rgb >> 8), B: byte(rgb >> 16), A: 0xff})
}

func (c *canvas) fill(r image.Rectangle, rgb uint32) {
	draw.Draw(c.m, r, ink(rgb), image.Point{}, draw.Src)
}

// round fills a rectangle with round corners. Only the rows with a corner go through the rasterizer.
func (c *canvas) round(r image.Rectangle, radius float32, rgb uint32) {
	if r.Empty() {
		return
	}
	src := ink(rgb)
	radius = min(radius, float32(r.Dx())/2, float32(r.Dy())/2)
	n := int(math.Ceil(float64(radius)))
	if r.Dy() > 2*n {
		draw.Draw(c.m, image.Rect(r.Min.X, r.Min.Y+n, r.Max.X, r.Max.Y-n), src, image.Point{}, draw.Src)
	}
	top, bottom := r, r
	top.Max.Y, bottom.Min.Y = r.Min.Y+min(n, (r.Dy()+1)/2), r.Max.Y-min(n, r.Dy()/2)
	c.part(top, 0, r.Size(), radius, src)
	c.part(bottom, bottom.Min.Y-r.Min.Y, r.Size(), radius, src)
}

// part fills the rows of r of a round rectangle of that size, of which r starts at row from.
func (c *canvas) part(r image.Rectangle, from int, size image.Point, radius float32, src *image.Uniform) {
	if r.Empty() {
		return
	}
	w, y0, y1 := float32(size.X), float32(-from), float32(size.Y-from)
	k := radius * 0.4477 // distance of a circle's control points from the corner
	s := &c.shape
	s.Reset(r.Dx(), r.Dy())
	s.MoveTo(radius, y0)
	s.LineTo(w-radius, y0)
	s.CubeTo(w-k, y0, w, y0+k, w, y0+radius)
	s.LineTo(w, y1-radius)
	s.CubeTo(w, y1-k, w-k, y1, w-radius, y1)
	s.LineTo(radius, y1)
	s.CubeTo(k, y1, 0, y1-k, 0, y1-radius)
	s.LineTo(0, y0+radius)
	s.CubeTo(0, y0+k, k, y0, radius, y0)
	s.ClosePath()
	if r.In(c.m.Rect) {
		s.Draw(c.m, r, src, image.Point{})
		return
	}
	mask := image.NewAlpha(r) // the rasterizer does not clip
	s.Draw(mask, r, image.Opaque, image.Point{})
	draw.DrawMask(c.m, r, src, image.Point{}, mask, r.Min, draw.Over)
}

// framed fills a round rectangle and gives it an edge.
func (c *canvas) framed(r image.Rectangle, radius float32, width int, edge, fill uint32) {
	c.round(r, radius, edge)
	c.round(r.Inset(width), radius-float32(width), fill)
}

func (c *canvas) disc(at image.Point, radius int, rgb uint32) {
	c.round(image.Rect(at.X-radius, at.Y-radius, at.X+radius, at.Y+radius), float32(radius), rgb)
}

// shadow darkens what is around r, up to width pixels, softer with the distance.
func (c *canvas) shadow(r image.Rectangle, width, drop, radius int) {
	r = r.Add(image.Pt(0, drop))
	in := r.Inset(radius) // distances are from here, less the radius
	for y := c.m.Rect.Min.Y; y < c.m.Rect.Max.Y; y++ {
		dy := max(in.Min.Y-y, y-in.Max.Y+1, 0)
		for x := c.m.Rect.Min.X; x < c.m.Rect.Max.X; x++ {
			if dy == 0 && x == in.Min.X {
				x = in.Max.X
			}
			dx := max(in.Min.X-x, x-in.Max.X+1, 0)
			d := math.Sqrt(float64(dx*dx+dy*dy)) - float64(radius)
			if d >= float64(width) {
				continue
			}
			near := 1 - max(d, 0)/float64(width)
			keep := uint32(256 - 110*near*near)
			p := c.m.Pix[c.m.PixOffset(x, y):]
			p[0], p[1], p[2] = byte(uint32(p[0])*keep>>8), byte(uint32(p[1])*keep>>8), byte(uint32(p[2])*keep>>8)
		}
	}
}

// computer draws the picture of a computer into r, which is about as high as wide.
func (c *canvas) computer(r image.Rectangle, rgb, back uint32) {
	w, h := r.Dx(), r.Dy()
	screen := image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+h*7/10)
	edge := max(w/14, 2)
	c.framed(screen, float32(w)/9, edge, rgb, back)
	in := screen.Inset(edge * 2)
	c.round(image.Rect(in.Min.X, in.Min.Y, in.Max.X, in.Max.Y), float32(w)/24, cRing)
	c.fill(image.Rect(r.Min.X+w*4/10, screen.Max.Y, r.Max.X-w*4/10, r.Max.Y-edge), rgb)
	c.round(image.Rect(r.Min.X+w/4, r.Max.Y-edge*3/2, r.Max.X-w/4, r.Max.Y), float32(edge), rgb)
}

package main

import (
	"context"
	"image"
	"math/rand/v2"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/frame"
)

// A load is one kind of work on the screen. Its pictures are numbered; each shows its number in a marker.
type load struct {
	name   string
	rate   int         // pictures a second; 0: none
	typed  bool        // pictures come by keys instead; rate is for when nobody types
	exact  bool        // the viewer asks for ZRLE, not Tight
	marker image.Point // on the screen
	setUp  func(*stage) (*play, error)
}

// A play is a load that is set up: the screen shows picture 0.
type play struct {
	show    func(n int)                     // draws picture n, after n-1
	picture func(n int, screen frame.Image) // what the screen then shows, over the wallpaper
	shown   [1 << 16]time.Duration          // when a picture was drawn, by the marker
	n       int                             // of the last picture
	focus   xproto.Window                   // gets the keys of a typed load
}

var loads = []*load{
	{name: "idle", marker: image.Pt(96, 96), setUp: still},
	{name: "typing", rate: 10, typed: true, marker: image.Pt(96, 96), setUp: typing},
	{name: "scrolling terminal", rate: 25, marker: image.Pt(96, 96), setUp: terminal},
	{name: "film 1280×720, 30 fps", rate: 30, marker: image.Pt(320, 160), setUp: film(image.Pt(320, 160), image.Pt(1280, 720), 40)},
	{name: "dragged picture, 60 fps", rate: 60, marker: image.Pt(0, 0), setUp: drag},
	{name: "scrolled page, 30 fps", rate: 30, marker: image.Pt(320, 32), setUp: browse},
	{name: "photographs, 2 a second", rate: 2, marker: image.Pt(160, 32), setUp: film(image.Pt(160, 32), image.Pt(1600, 1016), 12)},
	{name: "ZRLE film, 1280×720, 30 fps", rate: 30, exact: true, marker: image.Pt(320, 160), setUp: film(image.Pt(320, 160), image.Pt(1280, 720), 40)},
	{name: "full-screen film, 30 fps", rate: 30, marker: image.Pt(0, 0), setUp: film(image.Point{}, screenSize, 24)},
}

// manyLoad is measured with several viewers, too.
var manyLoad = loads[3]

// run draws until ctx ends. Each picture comes up to 4 ms late, so that no server's clock falls in step with it.
func (p *play) run(ctx context.Context, s *stage, rate int, typed bool) {
	if typed {
		p.keys(ctx, s)
		return
	}
	if rate == 0 {
		<-ctx.Done()
		return
	}
	r := rand.New(rand.NewPCG(7, 8))
	t := time.NewTimer(0)
	defer t.Stop()
	for next := time.Now(); ; next = next.Add(time.Second / time.Duration(rate)) {
		t.Reset(time.Until(next) + time.Duration(r.IntN(4000))*time.Microsecond)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.next()
		}
	}
}

func (p *play) next() {
	p.n++
	p.show(p.n)
}

// at notes when picture n was drawn. show calls it before its first request that changes the screen.
func (p *play) at(n int) { p.shown[n&0xffff] = now() }

// keys draws a picture for each key that is pressed, until ctx ends.
func (p *play) keys(ctx context.Context, s *stage) {
	xproto.SetInputFocus(s.conn, xproto.InputFocusPointerRoot, p.focus, xproto.TimeCurrentTime)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.pressed:
			p.next()
		}
	}
}

package main

import (
	"image"
	"math/rand/v2"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/frame"
)

// still is a screen on which nothing changes.
func still(s *stage) (*play, error) {
	at := image.Pt(96, 96)
	m := frame.New(image.Rectangle{Max: markerSize})
	drawMarker(m, image.Point{}, 0)
	_, err := s.window(m.Rect.Add(at), m, 0)
	return &play{
		show:    func(int) {},
		picture: func(_ int, screen frame.Image) { drawMarker(screen, at, 0) },
	}, err
}

// A cell of a terminal, pixels.
const cellWidth, cellHeight = 9, 18

// glyphs are the letters a to z in white on the terminal's ground, as cells.
func glyphs() ([26]frame.Image, error) {
	var all [26]frame.Image
	p, err := monospace()
	if err != nil {
		return all, err
	}
	for i := range all {
		all[i] = frame.New(image.Rect(0, 0, cellWidth, cellHeight))
		paint(all[i], all[i].Rect, terminalGround)
		p.stamp(all[i], image.Pt(0, 14), string(rune('a'+i)), 0xe0e0e0)
	}
	return all, nil
}

const terminalGround = 0x1c1c24

// typing is a window into which a letter comes with each key, beside the marker.
func typing(s *stage) (*play, error) {
	letters, err := glyphs()
	if err != nil {
		return nil, err
	}
	box := image.Rect(96, 96, 96+80*cellWidth, 96+24*cellHeight+32)
	ground := frame.New(box.Sub(box.Min))
	paint(ground, ground.Rect, terminalGround)
	drawMarker(ground, image.Point{}, 0)
	w, err := s.window(box, ground, xproto.EventMaskKeyPress)
	if err != nil {
		return nil, err
	}
	place := func(n int) image.Point { // of the n-th letter, over and over from the top
		return image.Pt(n%80*cellWidth, 32+n/80%24*cellHeight)
	}
	d := xproto.Drawable(w)
	p := &play{focus: w}
	p.show = func(n int) {
		p.at(n)
		letter := letters[n*7%26]
		xproto.PutImage(s.conn, xproto.ImageFormatZPixmap, d, s.gc, cellWidth, cellHeight, int16(place(n).X), int16(place(n).Y), 0, s.screen.RootDepth, letter.Pix)
		s.mark(d, image.Point{}, n)
	}
	p.picture = func(n int, screen frame.Image) {
		put(screen, box.Min, ground, ground.Rect)
		for i := max(1, n-80*24+1); i <= n; i++ {
			put(screen, box.Min.Add(place(i)), letters[i*7%26], letters[0].Rect)
		}
		drawMarker(screen, box.Min, n)
	}
	return p, nil
}

// terminal is a terminal of 120 columns and 50 rows in which text runs through, a row a picture.
func terminal(s *stage) (*play, error) {
	const rows, columns, texts = 50, 120, 400
	pen, err := monospace()
	if err != nil {
		return nil, err
	}
	size := image.Pt(columns*cellWidth, cellHeight)
	var lines [texts]frame.Image
	r := rand.New(rand.NewPCG(1, 2))
	colours := []uint32{0xd0d0d0, 0xd0d0d0, 0xd0d0d0, 0x87d787, 0xd7af5f, 0x87afd7}
	for i := range lines {
		lines[i] = frame.New(image.Rectangle{Max: size})
		paint(lines[i], lines[i].Rect, terminalGround)
		pen.stamp(lines[i], image.Pt(0, 14), sentence(r, 20+r.IntN(columns-20)), colours[r.IntN(len(colours))])
	}
	box := image.Rect(96, 96, 96+size.X, 96+32+rows*cellHeight)
	text := image.Rect(0, 32, size.X, box.Dy())
	draw := func(n int, m frame.Image, at image.Point) {
		paint(m, box.Sub(box.Min).Add(at), terminalGround)
		for i := range rows {
			line := lines[(n+i)%texts]
			put(m, at.Add(image.Pt(0, text.Min.Y+i*cellHeight)), line, line.Rect)
		}
		drawMarker(m, at, n)
	}
	first := frame.New(box.Sub(box.Min))
	draw(0, first, image.Point{})
	w, err := s.window(box, first, 0)
	if err != nil {
		return nil, err
	}
	d := xproto.Drawable(w)
	p := &play{picture: func(n int, screen frame.Image) { draw(n, screen, box.Min) }}
	p.show = func(n int) {
		p.at(n)
		s.copy(d, d, image.Rect(0, text.Min.Y+cellHeight, text.Max.X, text.Max.Y), text.Min)
		line := lines[(n+rows-1)%texts]
		xproto.PutImage(s.conn, xproto.ImageFormatZPixmap, d, s.gc, uint16(size.X), uint16(size.Y), 0, int16(text.Max.Y-cellHeight), 0, s.screen.RootDepth, line.Pix)
		s.mark(d, image.Point{}, n)
	}
	return p, nil
}

// film shows pictures of a size at a place, all of them over and over. They lie ready in the X server, as a player's do.
// The marker is part of each, so that a viewer cannot have the one without the other. Few pictures are photographs, which
// have nothing to do with each other.
func film(at, size image.Point, count int) func(*stage) (*play, error) {
	return func(s *stage) (*play, error) {
		frames := make([]frame.Image, count)
		pixmaps := make([]xproto.Drawable, count)
		for i := range frames {
			if count < 20 {
				frames[i] = scene(size, i*5+3, i*31)
			} else {
				frames[i] = scene(size, 0, i)
			}
			id, err := s.pixmap(frames[i])
			if err != nil {
				return nil, err
			}
			pixmaps[i] = xproto.Drawable(id)
		}
		draw := func(n int, m frame.Image, at image.Point) {
			put(m, at, frames[there(n, count)], frames[0].Rect)
			drawMarker(m, at, n)
		}
		first := frame.New(image.Rectangle{Max: size})
		draw(0, first, image.Point{})
		back, err := s.pixmap(first)
		if err != nil {
			return nil, err
		}
		w, err := s.window(first.Rect.Add(at), first, 0)
		if err != nil {
			return nil, err
		}
		p := &play{picture: func(n int, screen frame.Image) { draw(n, screen, at) }}
		p.show = func(n int) {
			s.copy(pixmaps[there(n, count)], xproto.Drawable(back), first.Rect, image.Point{})
			s.mark(xproto.Drawable(back), image.Point{}, n)
			p.at(n)
			s.copy(xproto.Drawable(back), xproto.Drawable(w), first.Rect, image.Point{})
		}
		return p, nil
	}
}

// there goes from 0 to count-1 and back, again and again.
func there(n, count int) int {
	n %= 2*count - 2
	return min(n, 2*count-2-n)
}

// drag is a picture of 640×480 in a window that is dragged around.
func drag(s *stage) (*play, error) {
	photo := scene(image.Pt(640, 480), 11, 0)
	mark := frame.New(image.Rectangle{Max: markerSize})
	drawMarker(mark, image.Point{}, 0)
	place := func(n int) image.Point {
		return image.Pt(100+1100*wave(n*3)/255, 60+500*wave(n*5+256)/255)
	}
	w, err := s.window(photo.Rect.Add(place(0)), photo, 0)
	if err != nil {
		return nil, err
	}
	marked, err := s.window(mark.Rect, mark, 0)
	if err != nil {
		return nil, err
	}
	p := &play{picture: func(n int, screen frame.Image) {
		put(screen, place(n), photo, photo.Rect)
		drawMarker(screen, image.Point{}, n)
	}}
	p.show = func(n int) {
		p.at(n)
		xproto.ConfigureWindow(s.conn, w, xproto.ConfigWindowX|xproto.ConfigWindowY, []uint32{uint32(place(n).X), uint32(place(n).Y)})
		s.mark(xproto.Drawable(marked), image.Point{}, n)
	}
	return p, nil
}

// browse is a page that is scrolled by 48 pixels a picture, down and up again, under a bar with the marker. A browser draws
// the whole of it anew from a picture off the screen.
func browse(s *stage) (*play, error) {
	const step, steps, bar = 48, 80, 32
	box := image.Rect(320, 32, 320+1200, 32+bar+1000)
	long, err := page(image.Pt(box.Dx(), 1000+step*steps))
	if err != nil {
		return nil, err
	}
	source, err := s.pixmap(long)
	if err != nil {
		return nil, err
	}
	part := func(n int) image.Rectangle {
		y := there(n, steps) * step
		return image.Rect(0, y, box.Dx(), y+1000)
	}
	draw := func(n int, m frame.Image, at image.Point) {
		paint(m, image.Rect(0, 0, box.Dx(), bar).Add(at), 0xd8d8d8)
		put(m, at.Add(image.Pt(0, bar)), long, part(n))
		drawMarker(m, at, n)
	}
	first := frame.New(box.Sub(box.Min))
	draw(0, first, image.Point{})
	back, err := s.pixmap(first)
	if err != nil {
		return nil, err
	}
	w, err := s.window(box, first, 0)
	if err != nil {
		return nil, err
	}
	p := &play{picture: func(n int, screen frame.Image) { draw(n, screen, box.Min) }}
	p.show = func(n int) {
		s.copy(xproto.Drawable(source), xproto.Drawable(back), part(n), image.Pt(0, bar))
		s.mark(xproto.Drawable(back), image.Point{}, n)
		p.at(n)
		s.copy(xproto.Drawable(back), xproto.Drawable(w), first.Rect, image.Point{})
	}
	return p, nil
}

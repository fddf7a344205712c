package main

import (
	"image"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
)

// screenSize is the display's.
var screenSize = image.Pt(1920, 1080)

// A stage is an X client that draws what is shown. Its windows go with its connection.
type stage struct {
	conn   *xgb.Conn
	screen *xproto.ScreenInfo
	gc     xproto.Gcontext
	under  frame.Image // the wallpaper

	pressed chan struct{} // gets one for each key; a full one loses them
	done    chan struct{} // closed when listen has ended
}

func newStage(d *rig.Desktop) (*stage, error) {
	conn, err := d.Dial()
	if err != nil {
		return nil, err
	}
	s := &stage{conn: conn, screen: xproto.Setup(conn).DefaultScreen(conn), under: wallpaper(screenSize), pressed: make(chan struct{}, 64), done: make(chan struct{})}
	go s.listen()
	if s.gc, err = xproto.NewGcontextId(conn); err == nil { // without graphics exposures
		err = xproto.CreateGCChecked(conn, s.gc, xproto.Drawable(s.screen.Root), xproto.GcGraphicsExposures, []uint32{0}).Check()
	}
	var paper xproto.Pixmap
	if err == nil {
		paper, err = s.pixmap(s.under)
	}
	if err == nil {
		err = xproto.ChangeWindowAttributesChecked(conn, s.screen.Root, xproto.CwBackPixmap, []uint32{uint32(paper)}).Check()
	}
	if err == nil {
		err = xproto.ClearAreaChecked(conn, false, s.screen.Root, 0, 0, 0, 0).Check()
	}
	if err == nil { // the pointer out of the way
		err = xproto.WarpPointerChecked(conn, 0, s.screen.Root, 0, 0, 0, 0, int16(screenSize.X-8), int16(screenSize.Y-8)).Check()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// listen takes events until the connection is closed.
func (s *stage) listen() {
	defer close(s.done)
	for {
		event, err := s.conn.WaitForEvent()
		if event == nil && err == nil {
			return
		}
		if _, ok := event.(xproto.KeyPressEvent); ok {
			select {
			case s.pressed <- struct{}{}:
			default:
			}
		}
	}
}

func (s *stage) close() {
	s.conn.Close()
	<-s.done
}

// pixmap makes a picture that the X server keeps.
func (s *stage) pixmap(m frame.Image) (xproto.Pixmap, error) {
	id, err := xproto.NewPixmapId(s.conn)
	if err != nil {
		return 0, err
	}
	size := m.Rect.Size()
	err = xproto.CreatePixmapChecked(s.conn, s.screen.RootDepth, id, xproto.Drawable(s.screen.Root), uint16(size.X), uint16(size.Y)).Check()
	if err == nil {
		err = s.put(xproto.Drawable(id), image.Point{}, m)
	}
	return id, err
}

// put draws a picture.
func (s *stage) put(d xproto.Drawable, at image.Point, m frame.Image) error {
	size := m.Rect.Size()
	band := min(size.Y, max(1, 200<<10/(4*size.X))) // a request has at most 256 KiB
	for y := 0; y < size.Y; y += band {
		rows := min(band, size.Y-y)
		data := m.Pix[y*m.Stride : (y+rows)*m.Stride]
		c := xproto.PutImageChecked(s.conn, xproto.ImageFormatZPixmap, d, s.gc, uint16(size.X), uint16(rows), int16(at.X), int16(at.Y+y), 0, s.screen.RootDepth, data)
		if y+rows < size.Y {
			continue // the last answer is that of all
		}
		if err := c.Check(); err != nil {
			return err
		}
	}
	return nil
}

// copy copies a part of one drawable to a place of another.
func (s *stage) copy(from, to xproto.Drawable, part image.Rectangle, at image.Point) {
	xproto.CopyArea(s.conn, from, to, s.gc, int16(part.Min.X), int16(part.Min.Y), int16(at.X), int16(at.Y), uint16(part.Dx()), uint16(part.Dy()))
}

// mark draws the marker of n.
func (s *stage) mark(d xproto.Drawable, at image.Point, n int) {
	m := frame.New(image.Rectangle{Max: markerSize})
	drawMarker(m, image.Point{}, n)
	xproto.PutImage(s.conn, xproto.ImageFormatZPixmap, d, s.gc, uint16(markerSize.X), uint16(markerSize.Y), int16(at.X), int16(at.Y), 0, s.screen.RootDepth, m.Pix)
}

// window opens a window that looks like the picture. No window manager may touch it.
func (s *stage) window(r image.Rectangle, m frame.Image, events uint32) (xproto.Window, error) {
	id, err := xproto.NewWindowId(s.conn)
	if err != nil {
		return 0, err
	}
	under, err := s.pixmap(m)
	if err != nil {
		return 0, err
	}
	err = xproto.CreateWindowChecked(s.conn, s.screen.RootDepth, id, s.screen.Root, int16(r.Min.X), int16(r.Min.Y), uint16(r.Dx()), uint16(r.Dy()), 0,
		xproto.WindowClassInputOutput, s.screen.RootVisual, xproto.CwBackPixmap|xproto.CwOverrideRedirect|xproto.CwEventMask,
		[]uint32{uint32(under), 1, events}).Check()
	if err == nil {
		err = xproto.MapWindowChecked(s.conn, id).Check()
	}
	return id, err
}

// sync returns when the X server has done everything.
func (s *stage) sync() error {
	_, err := xproto.GetInputFocus(s.conn).Reply()
	return err
}

// shot is what the display shows.
func (s *stage) shot() (frame.Image, error) {
	m := frame.New(image.Rectangle{Max: screenSize})
	reply, err := xproto.GetImage(s.conn, xproto.ImageFormatZPixmap, xproto.Drawable(s.screen.Root), 0, 0, uint16(screenSize.X), uint16(screenSize.Y), ^uint32(0)).Reply()
	if err == nil {
		copy(m.Pix, reply.Data)
	}
	return m, err
}

// now is CLOCK_MONOTONIC, which the viewers use as well.
func now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it cannot fail
	return time.Duration(t.Nano())
}

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
)

// Shot is a picture of what a desktop shows, without its pointer.
func Shot(d *rig.Desktop) (frame.Image, error) {
	conn, err := d.Dial()
	if err != nil {
		return frame.Image{}, err
	}
	defer conn.Close()
	screen := xproto.Setup(conn).DefaultScreen(conn)
	g, err := xproto.GetGeometry(conn, xproto.Drawable(screen.Root)).Reply()
	if err != nil {
		return frame.Image{}, err
	}
	reply, err := xproto.GetImage(conn, xproto.ImageFormatZPixmap, xproto.Drawable(screen.Root), 0, 0, g.Width, g.Height, ^uint32(0)).Reply()
	if err != nil {
		return frame.Image{}, err
	}
	m := frame.New(image.Rect(0, 0, int(g.Width), int(g.Height)))
	if len(reply.Data) != len(m.Pix) {
		return m, fmt.Errorf("%d bytes for %v", len(reply.Data), m.Rect)
	}
	copy(m.Pix, reply.Data)
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 0 // the byte that is no colour
	}
	return m, nil
}

// Find says where in m the whole of part stands, pixel for pixel, but for what lies within one box of the size but: the pointer,
// where a viewer paints that itself. A zero but allows nothing.
func Find(m, part frame.Image, but image.Point) (image.Point, bool) {
	size := part.Rect.Size()
	for _, key := range busiestRows(part, but.Y) {
		want := part.Row(key, part.Rect.Min.X, part.Rect.Max.X)
		for y := m.Rect.Min.Y; y <= m.Rect.Max.Y-size.Y; y++ {
			row := m.Row(y+key-part.Rect.Min.Y, m.Rect.Min.X, m.Rect.Max.X)
			for from := 0; ; {
				i := bytes.Index(row[from:], want)
				if i < 0 {
					break
				}
				at := image.Pt(m.Rect.Min.X+(from+i)/4, y)
				if (from+i)%4 == 0 && same(m, part, at, but) {
					return at, true
				}
				from += i + 1
			}
		}
	}
	return image.Point{}, false
}

// same says whether part stands in m at a place, but for one box.
func same(m, part frame.Image, at, but image.Point) bool {
	size := part.Rect.Size()
	var differs image.Rectangle
	for y := range size.Y {
		a := m.Row(at.Y+y, at.X, at.X+size.X)
		b := part.Row(part.Rect.Min.Y+y, part.Rect.Min.X, part.Rect.Max.X)
		if bytes.Equal(a, b) {
			continue
		}
		for x := range size.X {
			if !bytes.Equal(a[4*x:4*x+4], b[4*x:4*x+4]) {
				differs = differs.Union(image.Rect(x, y, x+1, y+1))
			}
		}
		if differs.Dx() > but.X || differs.Dy() > but.Y {
			return false
		}
	}
	return true
}

// busiestRows is the row with most changes of colour, which is least likely to stand elsewhere. Where something as high as apart may
// cover that, there is a second one far enough from it.
func busiestRows(m frame.Image, apart int) []int {
	best, most := [2]int{m.Rect.Min.Y, -1}, [2]int{-1, -1}
	for pass := range best {
		for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
			if pass == 1 && max(y-best[0], best[0]-y) <= apart {
				continue
			}
			row := m.Row(y, m.Rect.Min.X, m.Rect.Max.X)
			changes := 0
			for i := 4; i < len(row); i += 4 {
				if !bytes.Equal(row[i-4:i], row[i:i+4]) {
					changes++
				}
			}
			if changes > most[pass] {
				best[pass], most[pass] = y, changes
			}
		}
		if apart == 0 || best[1] < 0 && pass == 1 {
			return best[:1]
		}
	}
	return best[:]
}

// Count is the number of pixels of a colour, 0xRRGGBB.
func Count(m frame.Image, rgb uint32) int {
	want := []byte{byte(rgb), byte(rgb >> 8), byte(rgb >> 16)}
	n := 0
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		row := m.Row(y, m.Rect.Min.X, m.Rect.Max.X)
		for i := 0; i < len(row); i += 4 {
			if bytes.Equal(row[i:i+3], want) {
				n++
			}
		}
	}
	return n
}

func savePNG(path string, m frame.Image) error {
	out := image.NewRGBA(m.Rect)
	for i := 0; i < len(m.Pix); i += 4 {
		out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = m.Pix[i+2], m.Pix[i+1], m.Pix[i], 255
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, out), f.Close())
}

// photograph is a picture with soft colours and grain, as a camera takes: JPEG would not keep it as it is.
func photograph(size image.Point) frame.Image {
	m := frame.New(image.Rectangle{Max: size})
	r := rand.New(rand.NewPCG(1, 2))
	for y := range size.Y {
		row := m.Row(y, 0, size.X)
		for x := range size.X {
			grain := r.IntN(24)
			row[4*x] = byte(40 + 150*y/size.Y + grain)
			row[4*x+1] = byte(60 + 120*x/size.X + grain)
			row[4*x+2] = byte(200 - 140*(x+y)/(size.X+size.Y) + r.IntN(12))
		}
	}
	return m
}

// paint gives the display's background a colour, 0xRRGGBB.
func paint(conn *xgb.Conn, rgb uint32) error {
	root := xproto.Setup(conn).DefaultScreen(conn).Root
	if err := xproto.ChangeWindowAttributesChecked(conn, root, xproto.CwBackPixel, []uint32{rgb}).Check(); err != nil {
		return err
	}
	return xproto.ClearAreaChecked(conn, false, root, 0, 0, 0, 0).Check()
}

// showPicture opens a window with a picture on a display. It is there as long as the connection.
func showPicture(conn *xgb.Conn, title string, m frame.Image, at image.Point) error {
	screen := xproto.Setup(conn).DefaultScreen(conn)
	size := m.Rect.Size()
	ids := make([]uint32, 3)
	for i := range ids {
		id, err := conn.NewId()
		if err != nil {
			return err
		}
		ids[i] = id
	}
	pixmap, gc, window := xproto.Pixmap(ids[0]), xproto.Gcontext(ids[1]), xproto.Window(ids[2])
	w, h := uint16(size.X), uint16(size.Y)
	if err := xproto.CreatePixmapChecked(conn, screen.RootDepth, pixmap, xproto.Drawable(screen.Root), w, h).Check(); err != nil {
		return err
	}
	if err := xproto.CreateGCChecked(conn, gc, xproto.Drawable(pixmap), 0, nil).Check(); err != nil {
		return err
	}
	const band = 32 // rows at a time: a request has at most 256 KiB
	for y := 0; y < size.Y; y += band {
		rows := min(band, size.Y-y)
		data := m.Pix[y*4*size.X : (y+rows)*4*size.X]
		if err := xproto.PutImageChecked(conn, xproto.ImageFormatZPixmap, xproto.Drawable(pixmap), gc, w, uint16(rows), 0, int16(y), 0, screen.RootDepth, data).Check(); err != nil {
			return err
		}
	}
	if err := xproto.CreateWindowChecked(conn, screen.RootDepth, window, screen.Root, int16(at.X), int16(at.Y), w, h, 0,
		xproto.WindowClassInputOutput, screen.RootVisual, xproto.CwBackPixmap, []uint32{uint32(pixmap)}).Check(); err != nil {
		return err
	}
	if err := xproto.ChangePropertyChecked(conn, xproto.PropModeReplace, window, xproto.AtomWmName, xproto.AtomString, 8,
		uint32(len(title)), []byte(title)).Check(); err != nil {
		return err
	}
	// WM_NORMAL_HINTS, ICCCM 4.1.2.3: the place was chosen by the user (flag 1), so that the window manager takes it.
	hints := make([]byte, 18*4)
	hints[0] = 1
	if err := xproto.ChangePropertyChecked(conn, xproto.PropModeReplace, window, xproto.AtomWmNormalHints, xproto.AtomWmSizeHints, 32,
		18, hints).Check(); err != nil {
		return err
	}
	return xproto.MapWindowChecked(conn, window).Check()
}

// addKeys gives keysyms keys of their own on a display's keyboard, the highest that have none.
func addKeys(d *rig.Desktop, keysyms ...uint32) error {
	conn, err := d.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	setup := xproto.Setup(conn)
	first, n := setup.MinKeycode, byte(setup.MaxKeycode-setup.MinKeycode+1)
	all, err := xproto.GetKeyboardMapping(conn, first, n).Reply()
	if err != nil {
		return err
	}
	per := int(all.KeysymsPerKeycode)
	for i := int(n) - 1; i >= 0 && len(keysyms) > 0; i-- {
		if slices.ContainsFunc(all.Keysyms[i*per:(i+1)*per], func(k xproto.Keysym) bool { return k != 0 }) {
			continue
		}
		k := xproto.Keysym(keysyms[0])
		if err := xproto.ChangeKeyboardMappingChecked(conn, 1, first+xproto.Keycode(i), 2, []xproto.Keysym{k, k}).Check(); err != nil {
			return err
		}
		keysyms = keysyms[1:]
	}
	if len(keysyms) > 0 {
		return errors.New("the keyboard has no key to spare")
	}
	return nil
}

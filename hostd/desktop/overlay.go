package desktop

import (
	"bytes"
	"image"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
)

// maxPages is the largest number of pages shown at once.
const maxPages = 2

// An overlay is a page as it is drawn over whatever lies below. Its box lies on the tiles of a Region.
type overlay struct {
	page  *form.Page // nil: none is shown
	size  image.Point
	image frame.Image // its Rect is the box
	spare frame.Image // drawn into next
}

// draw brings the overlay up to date and adds to changed what looks different.
func (o *overlay) draw(painter *form.Painter, page *form.Page, size image.Point, changed *frame.Region) {
	if page == o.page && size == o.size {
		return
	}
	if o.page != nil && (page == nil || size != o.size) {
		changed.Add(o.image.Rect)
	}
	same := o.page != nil && page != nil && size == o.size
	if page == nil {
		o.close()
		o.size = size
		return
	}
	o.page, o.size = page, size
	box := painter.Bounds(page, size)
	if o.spare.Rect.Size() == box.Size() && o.spare.Pix != nil {
		o.spare.Rect = box
	} else {
		leave(o.spare)
		o.spare = canvas(box)
	}
	painter.Draw(page, size, o.spare)
	o.image, o.spare = o.spare, o.image
	if same && o.spare.Rect == box {
		o.differ(changed)
		return
	}
	if same {
		changed.Add(o.spare.Rect)
	}
	changed.Add(box)
}

// close gives the overlay's memory back.
func (o *overlay) close() {
	leave(o.image, o.spare)
	*o = overlay{}
}

// canvas is an image to draw a page into, until leave. Its memory is not Go's: that would keep a megabyte of each one who logs in until
// much else is garbage, and this is the system's again at once.
func canvas(box image.Rectangle) frame.Image {
	m := frame.Image{Stride: box.Dx() * frame.BytesPerPixel, Rect: box}
	var err error
	if m.Pix, err = unix.Mmap(-1, 0, m.Stride*box.Dy(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return frame.New(box)
	}
	return m
}

// leave gives the pixels of canvases back.
func leave(images ...frame.Image) {
	for _, m := range images {
		if m.Pix != nil {
			_ = unix.Munmap(m.Pix) // fails for what is Go's
		}
	}
}

// differ adds the tiles in which the image is not what the spare one is.
func (o *overlay) differ(changed *frame.Region) {
	b := o.image.Rect
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x += frame.Tile {
			end := min(x+frame.Tile, b.Max.X)
			if !bytes.Equal(o.image.Row(y, x, end), o.spare.Row(y, x, end)) {
				changed.Add(image.Rect(x, y, end, y+1))
			}
		}
	}
}

// A drawnCursor is the desktop's cursor drawn into the picture, for viewers that have no cursor of their own or watch.
type drawnCursor struct {
	cursor frame.Cursor // what is on the client's picture
	shape  uint32       // its number
	at     image.Point
	box    image.Rectangle // where; empty: nowhere
	image  frame.Image
}

// move says where the cursor has to be drawn, and adds to changed where it was and is not any more. moved says that it
// has to be drawn again wherever it is.
func (c *drawnCursor) move(cur frame.Cursor, shape uint32, at image.Point, bounds image.Rectangle, changed *frame.Region) (moved bool) {
	if shape == c.shape && at == c.at && !c.box.Empty() {
		return false
	}
	r := image.Rectangle{Min: at.Sub(cur.Hot), Max: at.Sub(cur.Hot).Add(cur.Size)}.Intersect(bounds)
	box := onTiles(r, bounds)
	if !c.box.Empty() && !c.box.In(box) {
		changed.Add(c.box)
	}
	c.cursor, c.shape, c.at = cur, shape, at
	c.box = box
	return !box.Empty()
}

// gone adds to changed where the cursor was.
func (c *drawnCursor) gone(changed *frame.Region) {
	if !c.box.Empty() {
		changed.Add(c.box)
		*c = drawnCursor{image: c.image}
	}
}

// onTiles is r made larger to lie on tiles.
func onTiles(r, bounds image.Rectangle) image.Rectangle {
	if r.Empty() {
		return image.Rectangle{}
	}
	const t = frame.Tile
	return image.Rect(r.Min.X/t*t, r.Min.Y/t*t, (r.Max.X+t-1)/t*t, (r.Max.Y+t-1)/t*t).Intersect(bounds)
}

// draw makes the image of the box: what below shows there, with the cursor over it.
func (c *drawnCursor) draw(below frame.Image) {
	cur := c.cursor
	size := c.box.Size()
	if n := size.X * size.Y * frame.BytesPerPixel; cap(c.image.Pix) < n {
		c.image.Pix = make([]byte, n)
	} else {
		c.image.Pix = c.image.Pix[:n]
	}
	c.image.Stride, c.image.Rect = size.X*frame.BytesPerPixel, c.box
	from := c.at.Sub(cur.Hot)
	for y := c.box.Min.Y; y < c.box.Max.Y; y++ {
		row := c.image.Row(y, c.box.Min.X, c.box.Max.X)
		copy(row, below.Row(y, c.box.Min.X, c.box.Max.X))
		if y < from.Y || y >= from.Y+cur.Size.Y {
			continue
		}
		x0, x1 := max(from.X, c.box.Min.X), min(from.X+cur.Size.X, c.box.Max.X)
		src := cur.Pix[((y-from.Y)*cur.Size.X+x0-from.X)*frame.BytesPerPixel:]
		dst := row[(x0-c.box.Min.X)*frame.BytesPerPixel:]
		for i := 0; i < (x1-x0)*frame.BytesPerPixel; i += frame.BytesPerPixel {
			keep := 255 - uint32(src[i+3])
			for j := i; j < i+3; j++ {
				dst[j] = byte(min(uint32(src[j])+(uint32(dst[j])*keep+127)/255, 255))
			}
		}
	}
}

// arrow is the cursor on pages and for those who watch: black with a white edge.
func arrow() frame.Cursor {
	shape := []string{
		"#...........",
		"##..........",
		"#o#.........",
		"#oo#........",
		"#ooo#.......",
		"#oooo#......",
		"#ooooo#.....",
		"#oooooo#....",
		"#ooooooo#...",
		"#oooooooo#..",
		"#ooooooooo#.",
		"#oooooo#####",
		"#ooo#oo#....",
		"#oo##oo#....",
		"#o#..#oo#...",
		"##...#oo#...",
		"#.....#oo#..",
		"......#oo#..",
		".......##...",
	}
	c := frame.Cursor{Size: image.Pt(len(shape[0]), len(shape))}
	for _, row := range shape {
		for _, p := range row {
			switch p {
			case '#':
				c.Pix = append(c.Pix, 0xff, 0xff, 0xff, 0xff)
			case 'o':
				c.Pix = append(c.Pix, 0, 0, 0, 0xff)
			default:
				c.Pix = append(c.Pix, 0, 0, 0, 0)
			}
		}
	}
	return c
}

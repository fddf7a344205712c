package screen

import (
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"

	"github.com/jezek/xgb/damage"
	"github.com/jezek/xgb/shm"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// errResized is a capture that failed since the screen has another size now.
var errResized = errors.New("the screen's size has changed")

// bandBytes is the most that one GetImage without shared memory brings, bytes.
const bandBytes = 1 << 20

// A capturer reads what has changed on the screen. One goroutine uses it.
type capturer struct {
	d      *display
	log    *slog.Logger
	may    func() error // asked between reading pixels and writing them where others see them
	damage damage.Damage
	region xfixes.Region // what Subtract takes out of damage
	areas  []image.Rectangle
	cells  *frame.Region // areas, when there are many
	diff   differ
	motion motion
	read   func([]moved) []moved // gives the windows that have moved since its last call; nil: unknown
	moved  []moved
	full   bool          // what moved does not matter
	now    []frame.Image // the areas, as they were read

	seg     shm.Seg // 0: pixels come with GetImage
	mem     []byte  // of seg
	cookies []shm.GetImageCookie
	row     []byte // a converted row
}

// newCapturer starts to watch for damage.
func newCapturer(d *display, log *slog.Logger, may func() error) (*capturer, error) {
	c := &capturer{d: d, log: log, may: may, cells: frame.NewRegion(d.size)}
	var err error
	if c.damage, err = damage.NewDamageId(d.x); err != nil {
		return nil, err
	}
	if c.region, err = xfixes.NewRegionId(d.x); err != nil {
		return nil, err
	}
	if err := xfixes.CreateRegionChecked(d.x, c.region, nil).Check(); err != nil {
		return nil, fmt.Errorf("make a region: %w", err)
	}
	// Non-empty: one event for a burst, none until the damage has been taken out.
	if err := damage.CreateChecked(d.x, c.damage, xproto.Drawable(d.root), damage.ReportLevelNonEmpty).Check(); err != nil {
		return nil, fmt.Errorf("watch for damage: %w", err)
	}
	c.resize()
	return c, nil
}

// resize fits the capturer to the display's size.
func (c *capturer) resize() {
	c.close()
	c.cells.Reset(c.d.size)
	if c.d.shm {
		if err := c.attach(); err != nil {
			c.log.Info("the display's pixels come without shared memory", "display", c.d.name, "err", err)
		}
	}
}

// attach makes a segment that holds a whole picture and that only this user and the X server can open: it is gone for
// everybody else as soon as both have it.
func (c *capturer) attach() error {
	size := c.d.format.stride(c.d.size.X) * c.d.size.Y
	if c.d.format.bits < 32 {
		size *= 4 // narrow areas have padding
	}
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		return fmt.Errorf("shmget: %w", err)
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	mem, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return fmt.Errorf("shmat: %w", err)
	}
	seg, err := shm.NewSegId(c.d.x)
	if err == nil {
		err = shm.AttachChecked(c.d.x, seg, uint32(id), false).Check()
	}
	if err != nil {
		unix.SysvShmDetach(mem)
		return fmt.Errorf("the X server cannot attach it: %w", err)
	}
	c.seg, c.mem = seg, mem
	return nil
}

// close gives the segment back.
func (c *capturer) close() {
	if c.seg != 0 {
		shm.Detach(c.d.x, c.seg)
		unix.SysvShmDetach(c.mem)
		c.seg, c.mem = 0, nil
	}
}

// damaged takes the damage out of the server and makes areas of it. The stream is held and it flushes it. seq is the request's number: damage that was
// reported before it is dealt with.
func (c *capturer) damaged() (seq uint16, err error) {
	sub := damage.Subtract(c.d.x, c.damage, 0, c.region)
	region := xfixes.FetchRegion(c.d.x, c.region)
	c.d.stream.flush()
	r, err := region.Reply()
	if err != nil {
		return 0, err
	}
	bounds := image.Rectangle{Max: c.d.size}
	c.areas = c.areas[:0]
	for _, x := range r.Rectangles {
		a := image.Rect(int(x.X), int(x.Y), int(x.X)+int(x.Width), int(x.Y)+int(x.Height)).Intersect(bounds)
		if !a.Empty() {
			c.areas = append(c.areas, a)
		}
	}
	c.areas = stack(c.areas)
	if len(c.areas) > manyAreas {
		c.areas = merge(c.cells, c.areas)
	}
	return sub.Sequence, nil
}

// everything makes one area of the whole screen.
func (c *capturer) everything() (seq uint16, err error) {
	if seq, err = c.damaged(); err == nil {
		c.areas = append(c.areas[:0], image.Rectangle{Max: c.d.size})
	}
	return seq, err
}

// capture brings img up to date in the areas and appends what has changed in it to rects: after c.motion.copies, which are empty if
// the capture is a full one.
func (c *capturer) capture(img frame.Image, full bool, rects []image.Rectangle) ([]image.Rectangle, error) {
	if c.d.format.colours != nil {
		if err := c.d.format.readColours(c.d.x, c.d.screen.DefaultColormap, len(c.d.format.colours)); err != nil {
			return rects, err
		}
	}
	c.diff.begin(img, rects)
	c.motion.begin(img)
	c.full = full
	var err error
	if c.seg != 0 {
		err = c.shared()
	} else {
		err = c.plain()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errTaken) {
		size := c.d.size
		var mismatch xproto.MatchError // an area outside the screen: the size of now may be the old one again
		if err2 := c.d.askSize(); err2 != nil {
			err = err2
		} else if size != c.d.size || errors.As(err, &mismatch) {
			err = errResized
		}
	}
	return c.diff.end(), err
}

// shared reads the areas through the segment: all are asked for before the first is waited for.
func (c *capturer) shared() error {
	c.cookies = c.cookies[:0]
	offset := 0
	c.d.stream.hold()
	for _, a := range c.areas {
		c.cookies = append(c.cookies, shm.GetImage(c.d.x, xproto.Drawable(c.d.root), int16(a.Min.X), int16(a.Min.Y),
			uint16(a.Dx()), uint16(a.Dy()), ^uint32(0), xproto.ImageFormatZPixmap, c.seg, uint32(offset)))
		offset += c.d.format.stride(a.Dx()) * a.Dy()
	}
	c.d.stream.flush()
	var err error
	for _, cookie := range c.cookies {
		if _, e := cookie.Reply(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = c.may()
	}
	if err != nil {
		return err
	}
	c.move()
	offset = 0
	for _, a := range c.areas {
		n := c.d.format.stride(a.Dx()) * a.Dy()
		c.take(a, c.mem[offset:offset+n])
		offset += n
	}
	return nil
}

// move looks for what has moved. All areas are in the segment: what comes from one may have gone to another. Pixels that are to
// be converted are not looked at.
func (c *capturer) move() {
	c.moved = c.moved[:0]
	if c.read != nil {
		c.moved = c.read(c.moved)
	}
	if c.full || !c.d.format.native {
		return
	}
	c.now = c.now[:0]
	offset := 0
	for _, a := range c.areas {
		stride := c.d.format.stride(a.Dx())
		n := stride * a.Dy()
		c.now = append(c.now, frame.Image{Pix: c.mem[offset : offset+n], Stride: stride, Rect: a})
		offset += n
	}
	for _, w := range c.moved {
		c.motion.window(w, c.now)
	}
	for _, a := range c.now {
		c.motion.scroll(a)
	}
}

// plain reads the areas through the connection, in bands.
func (c *capturer) plain() error {
	for _, a := range c.areas {
		stride := c.d.format.stride(a.Dx())
		step := max(bandBytes/stride/compareTile, 1) * compareTile
		for y := a.Min.Y; y < a.Max.Y; {
			end := min(y/step*step+step, a.Max.Y)
			band := image.Rect(a.Min.X, y, a.Max.X, end)
			r, err := xproto.GetImage(c.d.x, xproto.ImageFormatZPixmap, xproto.Drawable(c.d.root), int16(band.Min.X),
				int16(band.Min.Y), uint16(band.Dx()), uint16(band.Dy()), ^uint32(0)).Reply()
			if err != nil {
				return err
			}
			if len(r.Data) < stride*band.Dy() {
				return fmt.Errorf("an image of %d bytes, not %d", len(r.Data), stride*band.Dy())
			}
			if err := c.may(); err != nil {
				return err
			}
			c.take(band, r.Data)
			y = end
		}
	}
	return nil
}

// take compares the pixels of an area, as the server sent them.
func (c *capturer) take(a image.Rectangle, pix []byte) {
	stride := c.d.format.stride(a.Dx())
	if c.d.format.native {
		c.diff.area(frame.Image{Pix: pix, Stride: stride, Rect: a}, c.motion.compared(a), &c.motion.wrong)
		return
	}
	if n := a.Dx() * a.Dy() * frame.BytesPerPixel; cap(c.row) < n {
		c.row = make([]byte, n)
	}
	m := frame.Image{Pix: c.row[:a.Dx()*a.Dy()*frame.BytesPerPixel], Stride: a.Dx() * frame.BytesPerPixel, Rect: a}
	for y := a.Min.Y; y < a.Max.Y; y++ {
		c.d.format.convert(m.Row(y, a.Min.X, a.Max.X), pix[(y-a.Min.Y)*stride:])
	}
	c.diff.area(m, image.Rectangle{}, nil)
}

// captured is the number of pixels in the areas.
func (c *capturer) captured() uint32 {
	n := 0
	for _, a := range c.areas {
		n += a.Dx() * a.Dy()
	}
	return uint32(n)
}

// stack joins areas that lie on each other and are as wide: the server cuts all that lies beside something else. They do not
// overlap, before and after.
func stack(areas []image.Rectangle) []image.Rectangle {
	n := 0
	for _, a := range areas {
		joined := false
		for i := n - 1; i >= max(n-manyAreas, 0) && !joined; i-- {
			if b := &areas[i]; b.Max.Y == a.Min.Y && b.Min.X == a.Min.X && b.Max.X == a.Max.X {
				b.Max.Y, joined = a.Max.Y, true
			}
		}
		if !joined {
			areas[n] = a
			n++
		}
	}
	return areas[:n]
}

// manyAreas is the number of areas above which they are made fewer: each costs about as much as 25,000 pixels.
const manyAreas = 16

// mostAreas is the number of areas that is never exceeded but on screens of more than as many bands.
const mostAreas = 64

// merge makes areas fewer. They do not overlap, before and after.
func merge(cells *frame.Region, areas []image.Rectangle) []image.Rectangle {
	cells.Clear()
	for _, a := range areas {
		cells.Add(a)
	}
	areas = cells.AppendRects(areas[:0])
	if len(areas) <= mostAreas {
		return areas
	}
	// One area for a band of the screen, as wide as what has changed there.
	size := cells.Size()
	bands := make([]image.Rectangle, (size.Y+compareTile-1)/compareTile)
	for _, a := range areas {
		for y := a.Min.Y / compareTile; y*compareTile < a.Max.Y; y++ {
			band := image.Rect(0, y*compareTile, size.X, (y+1)*compareTile)
			bands[y] = bands[y].Union(a.Intersect(band))
		}
	}
	areas = areas[:0]
	for _, b := range bands {
		if !b.Empty() {
			areas = append(areas, b)
		}
	}
	return areas
}

// fewer makes a list that a Frame can carry beside its copies.
func fewer(cells *frame.Region, rects []image.Rectangle) []image.Rectangle {
	if len(rects) <= ipc.MaxRects-mostCopies {
		return rects
	}
	return merge(cells, rects)
}

package rfbtest

import (
	"errors"
	"fmt"
	"image"
	"slices"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// message reads one message of the server.
func (c *Client) message() error {
	c.r.Begin()
	t := c.r.U8()
	if c.r.Err() != nil {
		return c.r.Err()
	}
	switch t {
	case 0:
		return c.update()
	case 1:
		return c.colourMap()
	case 2:
		c.mu.Lock()
		c.bells++
		c.mu.Unlock()
	case 3:
		return c.cutText()
	case 150:
		c.mu.Lock()
		c.endOfCU++
		c.mu.Unlock()
	case 248:
		return c.fence()
	default:
		return fmt.Errorf("message type %d of the server is unknown", t)
	}
	return c.r.Err()
}

func (c *Client) fence() error {
	c.r.Skip(3)
	flags := c.r.U32()
	payload := make([]byte, c.r.U8())
	c.r.Full(payload)
	if c.r.Err() != nil {
		return c.r.Err()
	}
	c.mu.Lock()
	c.fences++
	if flags&rfb.FenceRequest == 0 {
		c.answered = string(payload)
		if c.answered == formatFence && len(c.formats) > 0 {
			c.dec.SetFormat(c.formats[0])
			c.formats = c.formats[1:]
		}
	}
	c.mu.Unlock()
	if flags&rfb.FenceRequest != 0 {
		return c.Fence(flags&7, payload)
	}
	return nil
}

func (c *Client) colourMap() error {
	c.r.Skip(1)
	first, n := int(c.r.U16()), int(c.r.U16())
	if first+n > 256 {
		return fmt.Errorf("colours %d to %d of a map of 256", first, first+n)
	}
	for i := range n {
		c.dec.Map[first+i] = [3]byte{byte(c.r.U16() >> 8), byte(c.r.U16() >> 8), byte(c.r.U16() >> 8)}
	}
	return c.r.Err()
}

// errLast ends an update.
var errLast = errors.New("last rectangle")

// update reads a FramebufferUpdate and asks for the next one.
func (c *Client) update() error {
	c.r.Skip(1)
	n := int(c.r.U16())
	for range n {
		if err := c.rectangle(); errors.Is(err, errLast) {
			break
		} else if err != nil {
			return err
		}
	}
	if c.r.Err() != nil {
		return c.r.Err()
	}
	c.mu.Lock()
	c.updates++
	c.mu.Unlock()
	if c.cfg.Manual {
		return nil
	}
	return c.Request(true)
}

// rectangle reads one rectangle, of pixels or not.
func (c *Client) rectangle() error {
	x, y := int(c.r.U16()), int(c.r.U16())
	w, h := int(c.r.U16()), int(c.r.U16())
	encoding := c.r.Int32()
	if c.r.Err() != nil {
		return c.r.Err()
	}
	rect, size := image.Rect(x, y, x+w, y+h), image.Pt(w, h)
	apply, err := c.body(encoding, rect)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[encoding]++
	c.counts[JPEG] = c.dec.JPEGs
	if size == (image.Point{}) {
		c.announced[encoding] = true
	}
	if apply != nil {
		apply()
	}
	if encoding == rfb.PseudoLastRect {
		return errLast
	}
	return nil
}

// body reads what follows the header of a rectangle. apply, which may be nil, is called with the lock held.
func (c *Client) body(encoding int32, rect image.Rectangle) (apply func(), err error) {
	switch encoding {
	case rfb.PseudoLastRect, rfb.PseudoQEMUKey, rfb.PseudoExtendedMouse:
	case rfb.PseudoPointerPos:
		apply = func() { c.pointer = rect.Min }
	case rfb.PseudoQEMULED:
		led := int(c.r.U8())
		apply = func() { c.led = led }
	case rfb.PseudoVMwareLED:
		led := int(c.r.U32())
		apply = func() { c.led = led }
	case rfb.PseudoDesktopName:
		name := string(c.r.Bytes32("desktop name", maxText))
		apply = func() { c.name = name }
	case rfb.PseudoDesktopSize:
		return c.resize(rect.Size())
	case rfb.PseudoExtendedDesktopSize:
		return c.layout(rect.Min.X, rect.Min.Y, rect.Size())
	case rfb.PseudoCursor, rfb.PseudoXCursor, rfb.PseudoVMwareCursor, rfb.PseudoCursorWithAlpha:
		cursor, err := c.dec.cursor(c.r, encoding, rect.Min, rect.Size())
		return func() { c.cursor = cursor }, err
	default:
		err := c.dec.rect(c.r, c.back, rect, encoding)
		return func() {
			for y := rect.Min.Y; y < rect.Max.Y; y++ {
				copy(c.picture.Row(y, rect.Min.X, rect.Max.X), c.back.Row(y, rect.Min.X, rect.Max.X))
			}
		}, err
	}
	return apply, c.r.Err()
}

// resize makes a picture of that size that keeps what fits.
func (c *Client) resize(size image.Point) (apply func(), err error) {
	if err := frame.CheckSize(size); err != nil {
		return nil, err
	}
	old := c.back
	c.back = frame.New(image.Rectangle{Max: size})
	keep := old.Rect.Intersect(c.back.Rect)
	for y := range keep.Max.Y {
		copy(c.back.Row(y, 0, keep.Max.X), old.Row(y, 0, keep.Max.X))
	}
	front := c.back
	front.Pix = slices.Clone(front.Pix)
	return func() { c.picture = front }, nil
}

// layout reads the body of ExtendedDesktopSize.
func (c *Client) layout(reason, result int, size image.Point) (apply func(), err error) {
	n := int(c.r.U8())
	c.r.Skip(3)
	var screens []frame.Screen
	for range n {
		s := frame.Screen{ID: c.r.U32()}
		x, y := int(c.r.U16()), int(c.r.U16())
		w, h := int(c.r.U16()), int(c.r.U16())
		c.r.Skip(4) // flags
		s.Rect = image.Rect(x, y, x+w, y+h)
		screens = append(screens, s)
	}
	if c.r.Err() != nil {
		return nil, c.r.Err()
	}
	noted := func() { c.layouts = append(c.layouts, Layout{reason, result, size, screens}) }
	if result != 0 || size == c.back.Rect.Max {
		return noted, nil
	}
	resized, err := c.resize(size)
	if err != nil {
		return nil, err
	}
	return func() { noted(); resized() }, nil
}

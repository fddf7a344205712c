package rfbtest

import (
	"encoding/binary"
	"errors"
	"image"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

func (c *Client) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.conn.Write(b)
	return err
}

// Send sends bytes as they are, for tests of what a server does with them.
func (c *Client) Send(b []byte) error { return c.write(b) }

// SetEncodings sends the list of what can be decoded.
func (c *Client) SetEncodings(list ...int32) error {
	b := binary.BigEndian.AppendUint16([]byte{2, 0}, uint16(len(list)))
	for _, e := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(e))
	}
	return c.write(b)
}

// Request asks for the whole desktop, or for what of it changes next.
func (c *Client) Request(incremental bool) error {
	return c.RequestRect(incremental, image.Rectangle{Max: c.Size()})
}

// RequestRect asks for a part of the desktop.
func (c *Client) RequestRect(incremental bool, r image.Rectangle) error {
	return c.write(appendRect([]byte{3, flag(incremental)}, r))
}

// Key presses or releases the key of a keysym.
func (c *Client) Key(down bool, keysym uint32) error {
	return c.write(binary.BigEndian.AppendUint32([]byte{4, flag(down), 0, 0}, keysym))
}

// Press presses and releases keys one after the other.
func (c *Client) Press(keysyms ...uint32) error {
	var errs []error
	for _, k := range keysyms {
		errs = append(errs, c.Key(true, k), c.Key(false, k))
	}
	return errors.Join(errs...)
}

// Type presses the keys of a text. A line feed is Return.
func (c *Client) Type(text string) error {
	for _, r := range text {
		sym := uint32(r)
		switch {
		case r == '\n':
			sym = 0xff0d
		case r == '\t':
			sym = 0xff09
		case r > 0xff:
			sym = 0x1000000 + uint32(r)
		}
		if err := c.Press(sym); err != nil {
			return err
		}
	}
	return nil
}

// QEMUKey presses or releases a key by keysym and XT scan code.
func (c *Client) QEMUKey(down bool, keysym, code uint32) error {
	b := []byte{255, 0, 0, flag(down)}
	b = binary.BigEndian.AppendUint32(b, keysym)
	return c.write(binary.BigEndian.AppendUint32(b, code))
}

// Pointer moves the pointer with those buttons pressed; bit 0 is the left one. Buttons above bit 6 need the extension.
func (c *Client) Pointer(mask uint16, x, y int) error {
	b := []byte{5, byte(mask & 0x7f)}
	if mask > 0x7f {
		b[1] |= 0x80
	}
	b = binary.BigEndian.AppendUint16(b, uint16(x))
	b = binary.BigEndian.AppendUint16(b, uint16(y))
	if mask > 0x7f {
		b = append(b, byte(mask>>7))
	}
	return c.write(b)
}

// CutText sends Latin-1 text.
func (c *Client) CutText(text string) error {
	return c.write(append(binary.BigEndian.AppendUint32([]byte{6, 0, 0, 0}, uint32(len(text))), text...))
}

// ContinuousUpdates switches continuous updates on or off.
func (c *Client) ContinuousUpdates(on bool, r image.Rectangle) error {
	return c.write(appendRect([]byte{150, flag(on)}, r))
}

// Fence sends a fence.
func (c *Client) Fence(flags uint32, payload []byte) error {
	b := binary.BigEndian.AppendUint32([]byte{248, 0, 0, 0}, flags)
	return c.write(append(append(b, byte(len(payload))), payload...))
}

// ChangeFormat changes the pixel format while updates may be on their way, as TigerVNC does: what comes behind the answer to the fence is
// in the new one.
func (c *Client) ChangeFormat(f rfb.PixelFormat) error {
	c.mu.Lock()
	c.formats = append(c.formats, f)
	c.mu.Unlock()
	return errors.Join(c.Fence(rfb.FenceRequest|rfb.FenceSyncNext, []byte(formatFence)),
		c.write(append([]byte{0, 0, 0, 0}, f.AppendTo(nil)...)))
}

// formatFence is the payload of the fences of ChangeFormat.
const formatFence = "format"

// SetDesktopSize asks for a size and a layout of the desktop.
func (c *Client) SetDesktopSize(size image.Point, screens ...frame.Screen) error {
	b := binary.BigEndian.AppendUint16([]byte{251, 0}, uint16(size.X))
	b = binary.BigEndian.AppendUint16(b, uint16(size.Y))
	b = append(b, byte(len(screens)), 0)
	for _, s := range screens {
		b = binary.BigEndian.AppendUint32(b, s.ID)
		b = append(appendRect(b, s.Rect), 0, 0, 0, 0)
	}
	return c.write(b)
}

func appendRect(b []byte, r image.Rectangle) []byte {
	for _, v := range [...]int{r.Min.X, r.Min.Y, r.Dx(), r.Dy()} {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

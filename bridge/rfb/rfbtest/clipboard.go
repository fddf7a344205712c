package rfbtest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/helmline/helmline/bridge/rfb"
)

// cutText reads text for the clipboard, or a message of the clipboard extension.
func (c *Client) cutText() error {
	c.r.Skip(3)
	n := c.r.Int32()
	size := int64(uint32(n))
	extended := n < 0 && slices.Contains(c.cfg.Encodings, rfb.PseudoExtendedClipboard)
	if extended {
		size = -int64(n)
	}
	if size > maxText {
		c.r.Failf("%d bytes of cut text", size)
	}
	if c.r.Err() != nil {
		return c.r.Err()
	}
	data := make([]byte, size)
	c.r.Full(data)
	switch {
	case c.r.Err() != nil:
		return c.r.Err()
	case extended:
		return c.clipboard(data)
	}
	c.setText(data)
	return nil
}

func (c *Client) setText(text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text, c.texts = text, c.texts+1
}

// clipboard deals with a message of the clipboard extension as viewers do: what is announced is asked for, and what is asked for
// is provided.
func (c *Client) clipboard(b []byte) error {
	if len(b) < 4 {
		return errors.New("a clipboard message without flags")
	}
	flags := binary.BigEndian.Uint32(b)
	switch text := flags&rfb.ClipText != 0; {
	case flags&rfb.ClipCaps != 0:
		c.mu.Lock()
		c.caps++
		c.mu.Unlock()
	case flags&rfb.ClipNotify != 0 && text:
		return c.Clip(rfb.ClipRequest|rfb.ClipText, nil)
	case flags&rfb.ClipRequest != 0 && text:
		return c.Clip(rfb.ClipProvide|rfb.ClipText, Pack(get(c, func() string { return c.clip })))
	case flags&rfb.ClipProvide != 0 && text:
		return c.provided(b[4:])
	}
	return nil
}

// provided takes the text out of what the server provides.
func (c *Client) provided(b []byte) error {
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return err
	}
	all, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	if len(all) < 5 || int(binary.BigEndian.Uint32(all)) != len(all)-4 || all[len(all)-1] != 0 {
		return errors.New("the clipboard's text is not as long as it says, or does not end with NUL")
	}
	c.setText(bytes.ReplaceAll(all[4:len(all)-1], []byte("\r\n"), []byte("\n")))
	return nil
}

// Pack is the data of a ClipProvide with a text, lines ended by LF.
func Pack(text string) []byte {
	data := append(bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n")), 0)
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data)))) // a buffer takes everything
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// Clip sends a message of the clipboard extension.
func (c *Client) Clip(flags uint32, data []byte) error {
	b := binary.BigEndian.AppendUint32([]byte{6, 0, 0, 0}, uint32(-int32(4+len(data))))
	return c.write(append(binary.BigEndian.AppendUint32(b, flags), data...))
}

// Copy announces a text by the clipboard extension, and provides it whenever the server asks.
func (c *Client) Copy(text string) error {
	c.mu.Lock()
	c.clip = text
	c.mu.Unlock()
	return c.Clip(rfb.ClipNotify|rfb.ClipText, nil)
}

// ClipboardCaps is how often the server has said what of the clipboard extension it can do.
func (c *Client) ClipboardCaps() int { return get(c, func() int { return c.caps }) }

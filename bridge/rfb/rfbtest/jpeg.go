package rfbtest

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// jpegRect reads a JPEG picture of Tight.
func (d *Decoder) jpegRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	var s stream
	s.feed(r, tightLength(r))
	d.picture(r, m, rect, s.in.Bytes())
}

// picture draws a JPEG picture. Its pixels take the loss of the viewer's format too, as in real viewers.
func (d *Decoder) picture(r *wire.Reader, m frame.Image, rect image.Rectangle, in []byte) {
	if r.Err() != nil {
		return
	}
	head, err := jpeg.DecodeConfig(bytes.NewReader(in))
	if err != nil {
		r.Failf("JPEG: %v", err)
		return
	}
	if head.Width != rect.Dx() || head.Height != rect.Dy() {
		r.Failf("a JPEG picture of %d×%d for %d×%d", head.Width, head.Height, rect.Dx(), rect.Dy())
		return
	}
	picture, err := jpeg.Decode(bytes.NewReader(in))
	if err != nil {
		r.Failf("JPEG: %v", err)
		return
	}
	d.JPEGs++
	for y := range rect.Dy() {
		out := m.Row(rect.Min.Y+y, rect.Min.X, rect.Max.X)
		for x := range rect.Dx() {
			c := color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)
			out[4*x], out[4*x+1], out[4*x+2] = c.B, c.G, c.R
		}
	}
}

// bareRect reads a rectangle of the encoding JPEG: a picture that says itself where it ends. Tables of a kind that it does not
// have are those of the last one that had some.
func (d *Decoder) bareRect(r *wire.Reader, m frame.Image, rect image.Rectangle) {
	in := make([]byte, 2, 4096)
	r.Full(in)
	if r.Err() == nil && (in[0] != 0xff || in[1] != 0xd8) {
		r.Failf("a JPEG picture begins with %x", in)
	}
	var tables [2][]byte
	for r.Err() == nil {
		var head [4]byte
		r.Full(head[:])
		n := int(head[2])<<8 | int(head[3])
		if r.Err() == nil && (head[0] != 0xff || n < 2) {
			r.Failf("a JPEG segment begins with %x", head)
		}
		if r.Err() != nil {
			return
		}
		segment := make([]byte, 2+n)
		copy(segment, head[:])
		r.Full(segment[4:])
		switch head[1] {
		case 0xdb:
			tables[0] = append(tables[0], segment...)
		case 0xc4:
			tables[1] = append(tables[1], segment...)
		case 0xda:
			for i, t := range tables {
				if t != nil {
					d.tables[i] = t
				}
				in = append(in, d.tables[i]...)
			}
			d.picture(r, m, rect, d.scan(r, append(in, segment...)))
			return
		default:
			in = append(in, segment...)
		}
		if len(in)+len(tables[0])+len(tables[1]) > maxPiece {
			r.Failf("more than %d bytes before the scan of a JPEG picture", maxPiece)
		}
	}
}

// scan reads on to the end of the picture.
func (d *Decoder) scan(r *wire.Reader, in []byte) []byte {
	for marker := false; r.Err() == nil; {
		c := r.U8()
		in = append(in, c)
		switch {
		case len(in) > maxPiece:
			r.Failf("a JPEG picture of more than %d bytes", maxPiece)
		case marker && c == 0xd9:
			return in
		case marker && c != 0 && (c < 0xd0 || c > 0xd7):
			r.Failf("marker %x in the scan of a JPEG picture", c)
		}
		marker = c == 0xff
	}
	return nil
}

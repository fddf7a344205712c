package record

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"

	"github.com/klauspost/compress/flate"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// Limits of Tight.
const (
	maxTightWidth = 2048 // pixels; the encoding allows no more
	maxTightArea  = 4 << 20
	minCompressed = 12 // bytes; shorter data is not compressed
	maxLeftover   = 64 // bytes of a piece that may stay unread: the end of a block and a flush
)

// A piece is data with its length before it. Its memory is used again.
type piece struct{ bytes.Buffer }

// feed adds n bytes of r.
func (p *piece) feed(r *wire.Reader, n int) {
	for n > 0 && r.Err() == nil { // takes memory as the bytes arrive
		m := min(n, blockSize)
		p.Grow(m)
		b := p.AvailableBuffer()[:m]
		r.Full(b)
		p.Write(b)
		n -= m
	}
}

// A stream is a zlib stream that comes in pieces.
type stream struct {
	in    piece
	z     io.ReadCloser // behind the header; of no checksum, since the stream does not end
	begun bool
	known bool // what has come before, if anything
}

func (s *stream) reset() {
	s.in.Reset()
	s.begun, s.known = false, true
}

// zlibMethod is deflate in the first byte of a stream's header. RFC 1950, section 2.2.
const zlibMethod = 8

// begin begins to inflate what was fed. In the middle of a file the stream's header may have been before: hostd's pieces do not look back
// from one update to another, and one that does is an error then.
func (s *stream) begin() error {
	head := s.in.Bytes()
	switch has := len(head) >= 2 && head[0]&15 == zlibMethod && head[0]>>4 <= 7 && (int(head[0])<<8|int(head[1]))%31 == 0 && head[1]&0x20 == 0; {
	case has:
		s.in.Next(2)
	case s.known:
		return errors.New("a zlib stream without a header")
	}
	s.begun = true
	if s.z == nil {
		s.z = flate.NewReader(&s.in)
		return nil
	}
	return s.z.(flate.Resetter).Reset(&s.in, nil)
}

// inflate fills dst from a piece that was fed.
func (s *stream) inflate(dst []byte) error {
	if !s.begun {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(s.z, dst); err != nil {
		return fmt.Errorf("inflate: %w", noEnd(err))
	}
	if s.in.Len() > maxLeftover {
		return fmt.Errorf("%d bytes more than a rectangle needs", s.in.Len())
	}
	return nil
}

// noEnd keeps the end of a piece from looking like the end of the recording.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("a piece ends too early")
	}
	return err
}

// tightLength reads a length of one to three bytes.
func tightLength(r *wire.Reader) int {
	n := int(r.U8())
	if n&0x80 == 0 {
		return n
	}
	n = n&0x7f | int(r.U8())<<7
	if n&(0x80<<7) == 0 {
		return n
	}
	return n&^(0x80<<7) | int(r.U8())<<14
}

// tight reads a rectangle of Tight: of one colour, a JPEG picture, or pixels, with a palette or without.
func (d *decoder) tight(r image.Rectangle) {
	if r.Dx() > maxTightWidth || r.Dx()*r.Dy() > maxTightArea {
		d.r.Failf("a rectangle of Tight of %v", r.Size())
		return
	}
	control := d.r.U8()
	for i := range d.streams {
		if control>>i&1 != 0 {
			d.streams[i].reset()
		}
	}
	switch kind := control >> 4; {
	case d.r.Err() != nil:
	case kind == 8:
		var c [3]byte
		d.r.Full(c[:])
		if !d.skips && d.r.Err() == nil {
			fill(d.m, r, c)
		}
	case kind == 9:
		d.photo(r)
	case kind > 9:
		d.r.Failf("a rectangle of Tight of kind %d", kind)
	default:
		d.basic(r, &d.streams[kind&3], kind&4 != 0)
	}
}

// fill paints a rectangle in one colour, red, green and blue.
func fill(m frame.Image, r image.Rectangle, c [3]byte) {
	first := m.Row(r.Min.Y, r.Min.X, r.Max.X)
	for x := 0; x < len(first); x += frame.BytesPerPixel {
		first[x], first[x+1], first[x+2] = c[2], c[1], c[0]
	}
	for y := r.Min.Y + 1; y < r.Max.Y; y++ {
		copy(m.Row(y, r.Min.X, r.Max.X), first)
	}
}

// basic reads pixels, or the numbers of a palette's colours.
func (d *decoder) basic(r image.Rectangle, s *stream, filtered bool) {
	var filter uint8
	if filtered {
		filter = d.r.U8()
	}
	w, h := r.Dx(), r.Dy()
	row := 3 * w
	var palette [256][3]byte
	colours := 0
	switch filter {
	case 0:
	case 1:
		colours = int(d.r.U8()) + 1
		for i := range palette[:colours] {
			d.r.Full(palette[i][:])
		}
		if row = w; colours == 2 {
			row = (w + 7) / 8
		}
	default:
		d.r.Failf("filter %d of Tight", filter)
	}
	data, ok := d.pixels(s, row*h)
	if !ok {
		return
	}
	for y := range h {
		in, out := data[y*row:(y+1)*row], d.m.Row(r.Min.Y+y, r.Min.X, r.Max.X)
		switch {
		case colours == 0:
			for i, o := 0, 0; i < len(in); i, o = i+3, o+4 {
				out[o], out[o+1], out[o+2] = in[i+2], in[i+1], in[i]
			}
		case colours == 2:
			for x := range w {
				c := &palette[in[x/8]>>(7-x%8)&1]
				out[4*x], out[4*x+1], out[4*x+2] = c[2], c[1], c[0]
			}
		default:
			for x, n := range in {
				if int(n) >= colours {
					d.r.Failf("colour %d of %d", n, colours)
					return
				}
				c := &palette[n]
				out[4*x], out[4*x+1], out[4*x+2] = c[2], c[1], c[0]
			}
		}
	}
}

// pixels reads n bytes of pixels, valid until the next call. It says no when there are none to draw.
func (d *decoder) pixels(s *stream, n int) (data []byte, ok bool) {
	size := n
	if n >= minCompressed {
		size = tightLength(d.r)
	}
	if d.skips || d.r.Err() != nil {
		d.r.Skip(int64(size))
		return nil, false
	}
	if cap(d.data) < n {
		d.data = make([]byte, n)
	}
	data = d.data[:n]
	if n < minCompressed {
		d.r.Full(data)
		return data, d.r.Err() == nil
	}
	if s.in.feed(d.r, size); d.r.Err() == nil {
		if err := s.inflate(data); err != nil {
			d.r.Fail(err)
		}
	}
	return data, d.r.Err() == nil
}

// photo reads a JPEG picture.
func (d *decoder) photo(r image.Rectangle) {
	n := tightLength(d.r)
	if d.notes {
		d.ops[len(d.ops)-1].kind = opPhoto
	}
	d.photos++
	if d.skips || d.unseen.has(d.photos-1) {
		d.r.Skip(int64(n))
		return
	}
	d.jpeg.Reset()
	d.jpeg.feed(d.r, n)
	if d.r.Err() != nil {
		return
	}
	head, err := jpeg.DecodeConfig(bytes.NewReader(d.jpeg.Bytes()))
	if err == nil && (head.Width != r.Dx() || head.Height != r.Dy()) {
		err = fmt.Errorf("it is of %d×%d for a rectangle of %v", head.Width, head.Height, r.Size())
	}
	var m image.Image
	if err == nil {
		m, err = jpeg.Decode(&d.jpeg)
	}
	if err != nil {
		d.r.Failf("JPEG: %v", noEnd(err))
		return
	}
	if yuv, ok := m.(*image.YCbCr); ok {
		drawYCbCr(d.m, r, yuv)
		return
	}
	for y := range r.Dy() {
		out := d.m.Row(r.Min.Y+y, r.Min.X, r.Max.X)
		for x := range r.Dx() {
			c := color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)
			out[4*x], out[4*x+1], out[4*x+2] = c.B, c.G, c.R
		}
	}
}

func drawYCbCr(dst frame.Image, r image.Rectangle, m *image.YCbCr) {
	for y := range r.Dy() {
		out := dst.Row(r.Min.Y+y, r.Min.X, r.Max.X)
		for x := range r.Dx() {
			c := m.COffset(x, y)
			red, green, blue := color.YCbCrToRGB(m.Y[y*m.YStride+x], m.Cb[c], m.Cr[c])
			out[4*x], out[4*x+1], out[4*x+2] = blue, green, red
		}
	}
}

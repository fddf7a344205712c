package rfb_test

import (
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// A studio serves one picture to any number of viewers and encodes each part of it once for all that can share the bytes.
type studio struct {
	pictures []frame.Image // shown one after the other

	mu      sync.Mutex
	encoder rfb.Encoder
	made    map[string]*rfb.Batch
}

// batch is picture n by p.
func (s *studio) batch(n int, p rfb.Params) *rfb.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%d %+v", n, p)
	b := s.made[key]
	if b == nil {
		b = &rfb.Batch{}
		s.encoder.Append(b, p, s.pictures[n], []image.Rectangle{s.pictures[n].Rect})
		s.made[key] = b
	}
	return b
}

// A seat is one viewer's place in a studio.
type seat struct {
	quiet
	*studio
	conn   net.Conn
	reader *rfb.Reader
	format rfb.PixelFormat
	caps   rfb.Capabilities
	stream rfb.StreamState
	shown  int
}

func (s *seat) SetPixelFormat(f rfb.PixelFormat) error {
	s.format = f
	if !f.TrueColour {
		_, err := s.conn.Write(rfb.AppendColourMap(nil))
		return err
	}
	return nil
}

func (s *seat) SetEncodings(list []int32) error {
	s.caps = rfb.ParseEncodings(list)
	s.reader.Allow(s.caps.Optional())
	return nil
}

func (s *seat) UpdateRequest(bool, image.Rectangle) error {
	if s.shown == len(s.pictures) {
		return nil
	}
	b := s.batch(s.shown, s.caps.Params(s.format, true))
	s.shown++
	if _, err := s.conn.Write(rfb.AppendUpdateHeader(nil, b.Count)); err != nil {
		return err
	}
	return b.Send(s.conn, &s.stream)
}

// Viewers of every kind watch at the same time, and viewers whose bytes are equal share them.
func TestShared(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := &studio{made: map[string]*rfb.Batch{}}
	for i := range 3 {
		s.pictures = append(s.pictures, paint(image.Rect(0, 0, 200, 130), mosaic(uint64(i))))
	}
	last := s.pictures[len(s.pictures)-1]
	var wg sync.WaitGroup
	defer wg.Wait()
	distinct := map[rfb.Params]bool{}
	for _, encoding := range []int32{rfb.Tight, rfb.ZRLE, rfb.Zlib, rfb.Hextile, rfb.RRE, rfb.Raw} {
		for _, name := range []string{"native", "native", "RGBX", "565", "map"} {
			format := formats()[name]
			distinct[rfb.ParseEncodings([]int32{encoding}).Params(format, true)] = true
			a, b := net.Pipe()
			wg.Go(func() {
				defer a.Close()
				if _, err := serve(a, "", rfb.SecVncAuth); err != nil {
					t.Errorf("%d, %s: %v", encoding, name, err)
					return
				}
				seat := &seat{studio: s, conn: a, reader: rfb.NewReader(a), format: rfb.Native}
				var err error
				for err == nil {
					err = seat.reader.Next(seat)
				}
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("%d, %s: %v", encoding, name, err)
				}
			})
			wg.Go(func() {
				c, err := rfbtest.Handshake(b, rfbtest.Config{Code: "12345678", Format: format, Encodings: []int32{encoding, rfb.PseudoQuality9}})
				if err != nil {
					t.Errorf("%d, %s: %v", encoding, name, err)
					return
				}
				defer c.Close()
				if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() == len(s.pictures) }, time.Minute); err != nil {
					t.Errorf("%d, %s: %v", encoding, name, err)
					return
				}
				got := c.Picture()
				for y := range last.Rect.Max.Y {
					for x := range last.Rect.Max.X {
						if g, w := colourAt(got, x, y), scaled(format, colourAt(last, x, y)); g != w {
							t.Errorf("%d, %s: pixel %d, %d is %06x, not %06x", encoding, name, x, y, g, w)
							return
						}
					}
				}
			})
		}
	}
	wg.Wait()
	if want := len(distinct) * len(s.pictures); len(s.made) != want || len(distinct) != 23 {
		t.Errorf("%d batches were made for %d kinds of viewers and %d pictures", len(s.made), len(distinct), len(s.pictures))
	}
}

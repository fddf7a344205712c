package truth

import (
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// code is the password of the server.
const code = "23456789"

// A step is one update: the picture as it is then, what of it is sent, and what the viewer copies before.
type step struct {
	picture frame.Image
	copies  []frame.Copy
	rects   []image.Rectangle
}

// A show is what a viewer is sent, in one encoding.
type show struct {
	steps    []step
	encoding int32
	lossy    bool // by JPEG, where the viewer names a quality
	jpeg     bool // and by the encoding of that name instead of that within Tight
}

// A seat is one viewer's place before a show.
type seat struct {
	rfb.Handler // nil: these viewers send nothing else
	show
	conn   net.Conn
	reader *rfb.Reader
	format rfb.PixelFormat
	caps   rfb.Capabilities
	stream rfb.StreamState
	shown  int
	jpegs  int // pictures sent with losses
}

// errShown ends a show.
var errShown = errors.New("all is shown")

// serve shows all of it to a viewer and ends the connection. It gives the viewer's last pixel format.
func (s show) serve(conn net.Conn) (*seat, error) {
	conn.SetDeadline(time.Now().Add(time.Minute))
	minor, err := rfb.ServerVersion(conn)
	if err != nil {
		return nil, err
	}
	if _, err := rfb.OfferSecurity(conn, minor, rfb.SecVncAuth); err != nil {
		return nil, err
	}
	challenge, response, err := rfb.Challenge(conn)
	if err != nil {
		return nil, err
	}
	if !rfb.Answers(code, challenge, response) {
		return nil, errors.New("a wrong answer to the challenge")
	}
	if err := rfb.WriteResult(conn, minor, ""); err != nil {
		return nil, err
	}
	if _, err := rfb.ReadClientInit(conn); err != nil {
		return nil, err
	}
	if _, err := conn.Write(rfb.AppendServerInit(nil, s.steps[0].picture.Rect.Max, rfb.Native, "truth")); err != nil {
		return nil, err
	}
	at := &seat{show: s, conn: conn, reader: rfb.NewReader(conn), format: rfb.Native}
	for err == nil {
		err = at.reader.Next(at)
	}
	if !errors.Is(err, errShown) {
		return nil, fmt.Errorf("after %d updates: %w", at.shown, err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	io.Copy(io.Discard, conn) // else what it has not yet read would be lost
	return at, nil
}

func (s *seat) SetPixelFormat(f rfb.PixelFormat) error {
	s.format = f
	if f.TrueColour {
		return nil
	}
	_, err := s.conn.Write(rfb.AppendColourMap(nil))
	return err
}

func (s *seat) SetEncodings(list []int32) error {
	// Of what the viewer can do, what the show is about.
	s.caps = rfb.ParseEncodings(slices.DeleteFunc(list, func(e int32) bool {
		quality := e >= rfb.PseudoQuality0 && e <= rfb.PseudoQuality9
		return e > 0 && e != s.encoding && !(e == rfb.JPEG && s.jpeg) || quality && !s.lossy
	}))
	s.reader.Allow(s.caps.Optional())
	return nil
}

func (s *seat) UpdateRequest(bool, image.Rectangle) error {
	now := s.steps[s.shown]
	p := s.caps.Params(s.format, false)
	if p.Encoding != s.encoding {
		return fmt.Errorf("the viewer does not know encoding %d", s.encoding)
	}
	p.Compress = int8(s.shown * 4 % 10) // streams end and begin where the level changes
	var encoder rfb.Encoder
	var b rfb.Batch
	var copies []byte
	for _, c := range now.copies {
		copies = rfb.AppendCopyRect(copies, c)
	}
	encoder.Append(&b, p, now.picture, now.rects)
	s.jpegs += len(b.Lossy)
	if _, err := s.conn.Write(append(rfb.AppendUpdateHeader(nil, len(now.copies)+b.Count), copies...)); err != nil {
		return err
	}
	if err := b.Send(s.conn, &s.stream); err != nil {
		return err
	}
	if s.shown++; s.shown == len(s.steps) {
		return errShown
	}
	return nil
}

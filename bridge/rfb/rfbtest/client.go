// Package rfbtest is a VNC viewer for tests: it logs in, decodes every encoding into memory and sends what a test wants.
// Its decoders were written from the specification, not from the encoders they check, and stand any input.
package rfbtest

import (
	"bufio"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/wire"
)

// handshakeTime is how long a server may take until it has sent its ServerInit.
const handshakeTime = 60 * time.Second

// Config says how a Client behaves. The zero Config takes what the server offers, in the server's pixel format.
type Config struct {
	Minor      int            // of the RFB version: 3, 7 or 8; 0 means 8
	FromInit   bool           // begin with ClientInit: security was done by somebody else
	Security   uint8          // the only type to choose; 0: VeNCrypt when Roots is set, then VncAuth, then None
	Roots      *x509.CertPool // whom to trust with VeNCrypt
	ServerName string         // in the server's certificate
	User       string         // X509Plain and RSA-AES
	Password   string
	Code       string // VncAuth and X509Vnc
	Subtype    uint32 // of VeNCrypt; 0: X509Vnc when Code is set, else X509Plain

	Key         *rsa.PrivateKey // for RSA-AES; nil: one of 1024 bits for this connection
	Fingerprint string          // the only one accepted of the server's RSA key; empty: any

	Exclusive bool            // ask the server not to share the desktop
	Format    rfb.PixelFormat // zero: the server's
	Encodings []int32         // nil: DefaultEncodings
	Manual    bool            // send no SetEncodings and no requests unasked
}

// DefaultEncodings is what a good viewer can do, Tight with quality level 8 first.
func DefaultEncodings() []int32 {
	return []int32{rfb.Tight, rfb.CopyRect, rfb.ZRLE, rfb.Zlib, rfb.Hextile, rfb.RRE, rfb.Raw, rfb.PseudoQuality0 + 8,
		rfb.PseudoCursorWithAlpha, rfb.PseudoCursor, rfb.PseudoDesktopSize, rfb.PseudoExtendedDesktopSize,
		rfb.PseudoDesktopName, rfb.PseudoLastRect, rfb.PseudoFence, rfb.PseudoContinuousUpdates, rfb.PseudoQEMUKey,
		rfb.PseudoExtendedMouse, rfb.PseudoPointerPos}
}

// A RefusedError is the server's reason in SecurityResult or instead of a list of security types. It is empty when the
// server could not say one.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused by the server: " + e.Reason }

// A Cursor is the pointer's shape as it was received: red, green, blue, alpha, not premultiplied.
type Cursor struct {
	Encoding int32
	Size     image.Point
	Hot      image.Point
	RGBA     []byte
}

// A Layout is one ExtendedDesktopSize.
type Layout struct {
	Reason, Result int
	Size           image.Point
	Screens        []frame.Screen
}

// A Client is a connected viewer. Its methods may be called by any goroutine.
type Client struct {
	conn    net.Conn // what messages go through: the TLS connection, when there is one
	cfg     Config
	writing sync.Mutex
	done    chan struct{} // closed when the reader has ended

	r    *wire.Reader // owned by the reader, like dec and back
	dec  Decoder
	back frame.Image // what is being decoded into

	bytes atomic.Int64

	mu        sync.Mutex    // guards everything below; never held while reading or writing
	changed   chan struct{} // closed and made anew after each message
	picture   frame.Image   // gets each rectangle when it is whole
	counts    map[int32]int
	name      string
	cursor    Cursor
	pointer   image.Point
	layouts   []Layout
	updates   int
	text      []byte
	texts     int
	clip      string // to be provided when the server asks
	caps      int    // messages of the clipboard extension that say what the server can do
	bells     int
	endOfCU   int
	fences    int
	answered  string            // payload of the last answer to a fence
	formats   []rfb.PixelFormat // of ChangeFormat, not yet answered
	led       int
	announced map[int32]bool
	err       error
}

// Dial connects to a TCP address and does the handshake.
func Dial(ctx context.Context, address string, cfg Config) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return Handshake(conn, cfg)
}

// Handshake logs in over conn and starts to read. It closes conn when it fails; after that, Close does.
func Handshake(conn net.Conn, cfg Config) (*Client, error) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTime))
	c := &Client{
		conn: conn, cfg: cfg, done: make(chan struct{}), changed: make(chan struct{}),
		counts: map[int32]int{}, announced: map[int32]bool{}, led: -1,
	}
	if err := c.begin(); err != nil {
		c.conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	go c.read()
	if !cfg.Manual {
		if err := c.start(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// begin does the handshake up to ServerInit.
func (c *Client) begin() error {
	if !c.cfg.FromInit {
		conn, err := authenticate(c.conn, c.cfg)
		if err != nil {
			return err
		}
		c.conn = conn
	}
	if _, err := c.conn.Write([]byte{flag(!c.cfg.Exclusive)}); err != nil {
		return err
	}
	c.r = wire.NewReader(bufio.NewReaderSize(&counter{r: c.conn, c: c}, 64<<10))
	size := image.Pt(int(c.r.U16()), int(c.r.U16()))
	format := readFormat(c.r)
	name := c.r.Bytes32("desktop name", maxText)
	if c.r.Err() != nil {
		return c.r.Err()
	}
	if err := frame.CheckSize(size); err != nil {
		return err
	}
	if c.cfg.Format != (rfb.PixelFormat{}) {
		format = c.cfg.Format
	}
	c.name = string(name)
	c.back, c.picture = frame.New(image.Rectangle{Max: size}), frame.New(image.Rectangle{Max: size})
	c.dec.SetFormat(format)
	return nil
}

// start sends what viewers send at once: format, encodings and the first request.
func (c *Client) start() error {
	list := c.cfg.Encodings
	if list == nil {
		list = DefaultEncodings()
	}
	var format error
	if c.cfg.Format != (rfb.PixelFormat{}) {
		format = c.write(append([]byte{0, 0, 0, 0}, c.cfg.Format.AppendTo(nil)...))
	}
	return errors.Join(format, c.SetEncodings(list...), c.Request(false))
}

// counter counts what is received.
type counter struct {
	r io.Reader
	c *Client
}

func (n *counter) Read(p []byte) (int, error) {
	m, err := n.r.Read(p)
	n.c.bytes.Add(int64(m))
	return m, err
}

// read takes messages until the connection ends.
func (c *Client) read() {
	defer close(c.done)
	for {
		err := c.message()
		c.mu.Lock()
		if err != nil {
			c.err = err
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			c.conn.Close()
			return
		}
	}
}

// Close ends the connection and waits for the reader.
func (c *Client) Close() {
	c.conn.Close()
	<-c.done
}

// Done is closed when the connection has ended; Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is what ended the connection, or nil.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// WaitFor returns when cond is true, and otherwise an error when the connection ends or timeout has passed. cond is called
// after each message of the server.
func (c *Client) WaitFor(cond func(*Client) bool, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		changed, err := c.changed, c.err
		c.mu.Unlock()
		if cond(c) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the connection ended before what was waited for: %w", err)
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("not within %v", timeout)
		}
	}
}

// get reads a value under the lock.
func get[T any](c *Client, f func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f()
}

// Picture is a copy of the desktop as it is seen now.
func (c *Client) Picture() frame.Image {
	return get(c, func() frame.Image {
		m := c.picture
		m.Pix = slices.Clone(m.Pix)
		return m
	})
}

// At is the colour of a pixel, 0xRRGGBB; black outside the desktop.
func (c *Client) At(x, y int) uint32 {
	return get(c, func() uint32 {
		if !image.Pt(x, y).In(c.picture.Rect) {
			return 0
		}
		p := c.picture.Row(y, x, x+1)
		return uint32(p[2])<<16 | uint32(p[1])<<8 | uint32(p[0])
	})
}

// Size is the desktop's, pixels.
func (c *Client) Size() image.Point { return get(c, func() image.Point { return c.picture.Rect.Max }) }

// Name is the desktop's.
func (c *Client) Name() string { return get(c, func() string { return c.name }) }

// Cursor is the pointer's shape.
func (c *Client) Cursor() Cursor { return get(c, func() Cursor { return c.cursor }) }

// PointerPos is where the server said last that the pointer is.
func (c *Client) PointerPos() image.Point { return get(c, func() image.Point { return c.pointer }) }

// Layout is what the last ExtendedDesktopSize said; zero before the first.
func (c *Client) Layout() Layout {
	all := c.Layouts()
	if len(all) == 0 {
		return Layout{}
	}
	return all[len(all)-1]
}

// Layouts is what every ExtendedDesktopSize said.
func (c *Client) Layouts() []Layout {
	return get(c, func() []Layout { return slices.Clone(c.layouts) })
}

// Updates is the number of whole updates received.
func (c *Client) Updates() int { return get(c, func() int { return c.updates }) }

// Bytes is the number of bytes received since ClientInit.
func (c *Client) Bytes() int64 { return c.bytes.Load() }

// Rects is the number of rectangles of that encoding received. JPEG pictures count as JPEG too.
func (c *Client) Rects(encoding int32) int { return get(c, func() int { return c.counts[encoding] }) }

// Announced says whether the server has sent an empty rectangle of that pseudo-encoding.
func (c *Client) Announced(encoding int32) bool {
	return get(c, func() bool { return c.announced[encoding] })
}

// Text is the last cut text, and how many there were. One that came by the clipboard extension is UTF-8, else it is Latin-1.
func (c *Client) Text() (string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), c.texts
}

// Bells, EndsOfCU and Fences are how many of these messages were received.
func (c *Client) Bells() int { return get(c, func() int { return c.bells }) }

// EndsOfCU is the number of EndOfContinuousUpdates messages received.
func (c *Client) EndsOfCU() int { return get(c, func() int { return c.endOfCU }) }

// Fences is the number of fences received. Requests are answered at once.
func (c *Client) Fences() int { return get(c, func() int { return c.fences }) }

// Answered is the payload of the last fence that the server answered.
func (c *Client) Answered() string { return get(c, func() string { return c.answered }) }

// LED is the state of the lock keys, -1 when unknown.
func (c *Client) LED() int { return get(c, func() int { return c.led }) }

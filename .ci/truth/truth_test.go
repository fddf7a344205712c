package truth

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// encodings by the names that libvncclient has for them.
var encodings = map[string]int32{
	"raw": rfb.Raw, "rre": rfb.RRE, "hextile": rfb.Hextile, "zlib": rfb.Zlib, "tight": rfb.Tight, "zrle": rfb.ZRLE,
}

// formats are those of viewers: 32, 16 and 8 bits, either order of bytes, red first and blue first.
func formats() map[string]rfb.PixelFormat {
	rgb := func(bits, depth uint8, big bool, red, green, blue uint16, rs, gs, bs uint8) rfb.PixelFormat {
		return rfb.PixelFormat{BitsPerPixel: bits, Depth: depth, BigEndian: big, TrueColour: true,
			RedMax: red, GreenMax: green, BlueMax: blue, RedShift: rs, GreenShift: gs, BlueShift: bs}
	}
	return map[string]rfb.PixelFormat{
		"32 RGB": rgb(32, 24, false, 255, 255, 255, 16, 8, 0), "32 BGR": rgb(32, 24, false, 255, 255, 255, 0, 8, 16),
		"32 RGB big": rgb(32, 24, true, 255, 255, 255, 16, 8, 0), "32 BGR big": rgb(32, 24, true, 255, 255, 255, 0, 8, 16),
		"32 RGB high": rgb(32, 24, false, 255, 255, 255, 24, 16, 8), "32 BGR high big": rgb(32, 24, true, 255, 255, 255, 8, 16, 24),
		"16 RGB565": rgb(16, 16, false, 31, 63, 31, 11, 5, 0), "16 BGR565": rgb(16, 16, false, 31, 63, 31, 0, 5, 11),
		"16 RGB565 big": rgb(16, 16, true, 31, 63, 31, 11, 5, 0), "16 BGR565 big": rgb(16, 16, true, 31, 63, 31, 0, 5, 11),
		"16 RGB555": rgb(16, 15, false, 31, 31, 31, 10, 5, 0), "16 RGB555 big": rgb(16, 15, true, 31, 31, 31, 10, 5, 0),
		"8 BGR233": rgb(8, 8, false, 7, 7, 3, 0, 3, 6), "8 RGB332": rgb(8, 8, false, 7, 7, 3, 5, 2, 0),
	}
}

// pixel is what a colour is in a format: each part to the nearest of what it has room for.
func pixel(f rfb.PixelFormat, rgb uint32) uint32 {
	part := func(v uint32, max uint16, shift uint8) uint32 {
		return uint32(math.Round(float64(v&255)*float64(max)/255)) << shift
	}
	return part(rgb>>16, f.RedMax, f.RedShift) | part(rgb>>8, f.GreenMax, f.GreenShift) | part(rgb, f.BlueMax, f.BlueShift)
}

func colourAt(m frame.Image, x, y int) uint32 {
	p := m.Row(y, x, x+1)
	return uint32(p[2])<<16 | uint32(p[1])<<8 | uint32(p[0])
}

// present serves a show to the one viewer that see starts.
func present(t *testing.T, s show, see func(port string) []byte) (*seat, []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	var at *seat
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			at, err = s.serve(conn)
			conn.Close()
		}
		served <- err
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	seen := see(port)
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	return at, seen
}

// decoder builds the viewer with libvncclient.
func decoder(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "decode")
	if out, err := exec.Command("gcc", "-O1", "-Wall", "-o", program, "viewer/decode.c", "-lvncclient").CombinedOutput(); err != nil {
		t.Fatalf("%v; run .ci/install test\n%s", err, out)
	}
	return program
}

// libvncclient decodes every encoding in every format.
func TestLibVNCClient(t *testing.T) {
	program, all := decoder(t), steps()
	want := all[len(all)-1].picture
	see := func(t *testing.T, s show, f rfb.PixelFormat, name string, quality int) (*seat, []byte) {
		return present(t, s, func(port string) []byte {
			big := 0
			if f.BigEndian {
				big = 1
			}
			args := []string{port, code, "copyrect " + name}
			for _, n := range []int{quality, 1, int(f.BitsPerPixel), int(f.Depth), big, int(f.RedMax), int(f.GreenMax), int(f.BlueMax), int(f.RedShift), int(f.GreenShift), int(f.BlueShift)} {
				args = append(args, fmt.Sprint(n))
			}
			c := exec.CommandContext(t.Context(), program, args...)
			var told strings.Builder
			c.Stderr = &told
			out, err := c.Output()
			if n := size.X * size.Y * f.Bytes(); err != nil || len(out) != n {
				t.Fatalf("%d bytes of a picture of %d, %v\n%s", len(out), n, err, told.String())
			}
			return out
		})
	}
	for name, encoding := range encodings {
		for kind, f := range formats() {
			if name == "zrle" && f.BitsPerPixel == 32 && f.BigEndian && f.RedShift+f.BlueShift == 16 {
				continue // libvncclient reads three of four bytes right only where the machine is big-endian, too
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				for i := range all { // each may be the last one
					at, got := see(t, show{steps: all[:i+1], encoding: encoding}, f, name, -1)
					if at.format != f {
						t.Fatalf("the viewer has the format %+v", at.format)
					}
					var order binary.ByteOrder = binary.LittleEndian
					if f.BigEndian && !machineOrder(name, f) {
						order = binary.BigEndian
					}
					want := all[i].picture
					for y := range size.Y {
						for x := range size.X {
							p, n := got[(y*size.X+x)*f.Bytes():], uint32(0)
							switch f.Bytes() {
							case 1:
								n = uint32(p[0])
							case 2:
								n = uint32(order.Uint16(p))
							case 4:
								n = order.Uint32(p)
							}
							if w := pixel(f, colourAt(want, x, y)); n&pixel(f, 0xffffff) != w { // the rest of it may hold anything
								t.Fatalf("update %d: pixel %d, %d is %08x, not %08x", i+1, x, y, n, w)
							}
						}
					}
				}
			})
		}
	}
	for quality, least := range likeness {
		t.Run(fmt.Sprint("tight/quality ", quality), func(t *testing.T) {
			at, got := see(t, show{steps: photographs(), encoding: rfb.Tight, lossy: true}, rfb.Native, "tight", quality)
			if at.jpegs == 0 {
				t.Fatal("nothing was sent by JPEG")
			}
			m := frame.Image{Pix: got, Stride: 4 * size.X, Rect: want.Rect}
			alike(t, m, photographs()[0].picture, least)
		})
	}
}

// machineOrder says where libvncclient builds pixels of its own, from red, green and blue bytes: it writes them in the machine's order,
// whatever the format says.
func machineOrder(name string, f rfb.PixelFormat) bool {
	return name == "tight" && f.BitsPerPixel == 32
}

// likeness is how like a photograph a picture by JPEG is at least, dB, for each quality level.
var likeness = []float64{31, 35, 37, 38, 39, 40, 41, 42, 42, 48}

// photographs are for JPEG: one photograph.
func photographs() []step {
	m := frame.New(image.Rectangle{Max: size})
	draw(m, m.Rect, photograph(7))
	return []step{{picture: m, rects: []image.Rectangle{m.Rect}}}
}

func alike(t *testing.T, got, want frame.Image, least float64) {
	t.Helper()
	sum := 0.0
	for i := range want.Pix {
		if i%4 != 3 {
			d := float64(got.Pix[i]) - float64(want.Pix[i])
			sum += d * d
		}
	}
	db := 10 * math.Log10(255*255*float64(len(want.Pix)/4*3)/sum)
	t.Logf("%.1f dB", db)
	if db < least || math.IsInf(db, 1) {
		t.Errorf("%.1f dB, not at least %.0f", db, least)
	}
}

// noVNC's decoders know one format.
func TestNoVNC(t *testing.T) {
	all := steps()
	see := func(t *testing.T, s show, settings map[string]any) (*seat, frame.Image) {
		m := frame.New(image.Rectangle{Max: size})
		settings["password"] = code
		at, records := present(t, s, func(port string) []byte {
			in, err := json.Marshal(settings)
			if err != nil {
				t.Fatal(err)
			}
			c := exec.CommandContext(t.Context(), "node", "../novnc/decode.mjs", port)
			c.Stdin = bytes.NewReader(in)
			var told strings.Builder
			c.Stderr = &told
			out, err := c.Output()
			if err != nil || told.Len() > 0 {
				t.Fatalf("%v; run .ci/install test\n%s", err, told.String())
			}
			return out
		})
		if err := replay(m, records); err != nil {
			t.Fatal(err)
		}
		return at, m
	}
	for name, encoding := range encodings {
		t.Run(name, func(t *testing.T) {
			for i := range all {
				_, got := see(t, show{steps: all[:i+1], encoding: encoding}, map[string]any{})
				for y := range size.Y {
					for x := range size.X {
						if g, w := colourAt(got, x, y), colourAt(all[i].picture, x, y); g != w {
							t.Fatalf("update %d: pixel %d, %d is %06x, not %06x", i+1, x, y, g, w)
						}
					}
				}
			}
		})
	}
	for _, bare := range []bool{false, true} {
		for quality, least := range likeness {
			t.Run(fmt.Sprintf("JPEG %t/quality %d", bare, quality), func(t *testing.T) {
				at, got := see(t, show{steps: photographs(), encoding: rfb.Tight, lossy: true, jpeg: bare}, map[string]any{"qualityLevel": quality})
				if at.jpegs == 0 {
					t.Fatal("nothing was sent by JPEG")
				}
				alike(t, got, photographs()[0].picture, least)
			})
		}
	}
}

// replay draws what decode.mjs has recorded.
func replay(m frame.Image, records []byte) error {
	for len(records) >= 13 {
		u := func(i int) int { return int(binary.BigEndian.Uint16(records[i:])) }
		kind, r, n := records[0], image.Rect(u(1), u(3), u(1)+u(5), u(3)+u(7)), int(binary.BigEndian.Uint32(records[9:]))
		if len(records) < 13+n || !r.In(m.Rect) {
			return fmt.Errorf("a record %q of %d bytes at %v", kind, n, r)
		}
		data := records[13 : 13+n]
		records = records[13+n:]
		switch kind {
		case 'f':
			draw(m, r, solid(uint32(data[0])<<16|uint32(data[1])<<8|uint32(data[2])))
		case 'b':
			draw(m, r, func(x, y int) uint32 {
				p := data[4*((y-r.Min.Y)*r.Dx()+x-r.Min.X):]
				return uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2])
			})
		case 'c':
			m.Move(frame.Copy{From: image.Pt(int(binary.BigEndian.Uint16(data)), int(binary.BigEndian.Uint16(data[2:]))), To: r})
		case 'i':
			picture, err := jpeg.Decode(bytes.NewReader(data))
			if err != nil {
				return err
			}
			draw(m, r, func(x, y int) uint32 {
				red, green, blue, _ := picture.At(x-r.Min.X, y-r.Min.Y).RGBA()
				return red>>8<<16 | green>>8<<8 | blue>>8
			})
		default:
			return fmt.Errorf("a record of kind %q", kind)
		}
	}
	return nil
}

// The decoder of our own tests sees what the others see.
func TestOwn(t *testing.T) {
	all := steps()
	want := all[len(all)-1].picture
	for name, encoding := range encodings {
		for kind, f := range formats() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				present(t, show{steps: all, encoding: encoding}, func(port string) []byte {
					c, err := rfbtest.Dial(t.Context(), "127.0.0.1:"+port, rfbtest.Config{Code: code, Format: f, Encodings: []int32{encoding, rfb.CopyRect}})
					if err != nil {
						t.Fatal(err)
					}
					<-c.Done()
					got := c.Picture()
					for y := range size.Y {
						for x := range size.X {
							if g, w := pixel(f, colourAt(got, x, y)), pixel(f, colourAt(want, x, y)); g != w {
								t.Fatalf("pixel %d, %d is %08x, not %08x", x, y, g, w)
							}
						}
					}
					return nil
				})
			})
		}
	}
}

func TestMain(m *testing.M) {
	for _, needed := range []string{"gcc", "node"} {
		if _, err := exec.LookPath(needed); err != nil {
			fmt.Fprintln(os.Stderr, err, "; run .ci/install test")
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

package screen

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
)

// appendEntry appends an authority entry of one host.
func appendEntry(b []byte, family uint16, host, display, name string, cookie []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, family)
	for _, f := range []string{host, display, name, string(cookie)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	return b
}

func TestParseXauthority(t *testing.T) {
	c := func(n byte) []byte { return bytes.Repeat([]byte{n}, cookieSize) }
	var b []byte
	b = appendEntry(b, familyLocal, "desk7", "1", cookieName, c(1))
	b = appendEntry(b, familyLocal, "old-name", "0", cookieName, c(2))
	b = appendEntry(b, familyWild, "", "0", cookieName, c(3))
	b = appendEntry(b, familyLocal, "desk7", "0", "XDM-AUTHORIZATION-1", c(4))
	b = appendEntry(b, familyLocal, "desk7", "0", cookieName, c(5)[:15])
	b = appendEntry(b, familyLocal, "desk7", "0", cookieName, c(6))
	b = appendEntry(b, familyLocal, "desk7", "", cookieName, c(7))
	b = appendEntry(b, 0, "\x0a\x00\x00\x01", "0", cookieName, c(8))
	got := parseXauthority(b, "desk7", 0)
	want := [][]byte{c(6), c(7), c(3), c(2), c(8)}
	if len(got) != len(want) {
		t.Fatalf("%x", got)
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("%d: %x, want %x", i, got[i], want[i])
		}
	}
	if got := parseXauthority(b[:len(b)-1], "desk7", 0); len(got) != 4 {
		t.Errorf("cut off: %x", got)
	}
}

func FuzzXauthority(f *testing.F) {
	f.Add(appendXauthority(nil, 7, make([]byte, cookieSize)), 7)
	f.Add(appendXauthority(nil, -1, make([]byte, cookieSize)), 0)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 0)
	f.Fuzz(func(t *testing.T, in []byte, display int) {
		for _, c := range parseXauthority(in, "desk7", display) {
			if len(c) != cookieSize {
				t.Fatalf("a cookie of %d bytes", len(c))
			}
			if got := parseXauthority(appendXauthority(nil, max(display, 0), c), "desk7", max(display, 0)); len(got) != 1 || !bytes.Equal(got[0], c) {
				t.Fatalf("wrote %x, read back %x", c, got)
			}
		}
	})
}

func TestReadSmall(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSmall(pipe, 10); err == nil || err.Error() != pipe+" is not a file" {
		t.Error(err)
	}
	if _, err := readSmall(dir, 10); err == nil {
		t.Error("a folder was read")
	}
	name := filepath.Join(dir, "file")
	for _, c := range []struct {
		size int
		ok   bool
	}{{9, true}, {10, true}, {11, false}} {
		if err := os.WriteFile(name, make([]byte, c.size), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := readSmall(name, 10); (err == nil) != c.ok || c.ok && len(b) != c.size {
			t.Errorf("%d bytes: %d, %v", c.size, len(b), err)
		}
	}
}

func TestDisplayNumber(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
	}{{":0", 0}, {":7.0", 7}, {"unix:3", 3}, {":65535", 65535}} {
		if n, err := displayNumber(c.name); err != nil || n != c.n {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
	}
	for _, name := range []string{"", ":", "0", "desk7:0", "localhost:10.0", ":-1", ":65536", ":a", "/tmp/x:0"} {
		if n, err := displayNumber(name); err == nil {
			t.Errorf("%s: %d", name, n)
		}
	}
}

// fakeX is a connection on which an X server says what it says.
type fakeX struct {
	net.Conn
	io.Reader
}

func (f fakeX) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func (f fakeX) Close() error { return nil }

// xMessage is one of a server's, of 32 bytes and more words.
func xMessage(kind, detail byte, words uint32, tail ...byte) []byte {
	m := make([]byte, 32, 32+len(tail))
	m[0], m[1] = kind, detail
	binary.LittleEndian.PutUint32(m[4:], words)
	return append(m, tail...)
}

func TestStream(t *testing.T) {
	setup := []byte{1, 0, 11, 0, 0, 0, 1, 0, 'd', 'a', 't', 'a'}
	reply := xMessage(1, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8)
	in := bytes.Join([][]byte{
		setup,
		xMessage(12, 3, 99), // an event, whose bytes 4 to 7 are no length
		reply,
		xMessage(genericEvent, 131, 3, make([]byte, 12)...),
		xMessage(0, 150, 0), // an error of an extension
		xMessage(0x80|22, 0, 0),
		xMessage(0, 3, 0),
	}, nil)
	var events []byte
	s := newStream(fakeX{Reader: &oneByteOrMore{b: in}}, func(e []byte) { events = append(events, e[0]) })
	got, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Join([][]byte{setup, reply, xMessage(0, badImplementation, 0), xMessage(0, 3, 0)}, nil)
	if !bytes.Equal(got, want) {
		t.Errorf("passed on %x, want %x", got, want)
	}
	if !bytes.Equal(events, []byte{12, genericEvent, 0x80 | 22}) {
		t.Errorf("events %d", events)
	}
	select {
	case <-s.closed:
	default:
		t.Error("the end is not told")
	}
}

// oneByteOrMore gives its bytes in pieces of all sizes.
type oneByteOrMore struct {
	b []byte
	n int
}

func (o *oneByteOrMore) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, io.EOF
	}
	o.n = o.n%40 + 1
	n := copy(p[:min(o.n, len(p))], o.b)
	o.b = o.b[n:]
	return n, nil
}

func FuzzStream(f *testing.F) {
	f.Add([]byte{1, 0, 11, 0, 0, 0, 0, 0})
	f.Add(append([]byte{1, 0, 11, 0, 0, 0, 0, 0}, xMessage(genericEvent, 1, 1<<30)...))
	f.Add(append([]byte{1, 0, 11, 0, 0, 0, 0, 0}, xMessage(1, 0, 1<<31)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := newPending()
		p.begin(&display{first: map[string]byte{"DAMAGE": 91, "XFIXES": 87}, major: map[string]byte{"XInputExtension": 131}}, nil)
		s := newStream(fakeX{Reader: bytes.NewReader(in)}, p.event)
		if n, _ := io.Copy(io.Discard, s); n > int64(len(in)) {
			t.Fatalf("%d bytes of %d", n, len(in))
		}
		p.take()
	})
}

// Whatever differs is copied and named, and little else.
func TestDiffer(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	bounds := image.Rect(0, 0, 333, 222)
	shown, drawn := frame.New(bounds), frame.New(bounds)
	var d differ
	for range 300 {
		before := bytes.Clone(shown.Pix)
		for range rnd.IntN(6) {
			r := image.Rect(rnd.IntN(333), rnd.IntN(222), rnd.IntN(333), rnd.IntN(222))
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for i := range drawn.Row(y, r.Min.X, r.Max.X) {
					drawn.Row(y, r.Min.X, r.Max.X)[i] ^= byte(1 + rnd.IntN(255))
				}
			}
		}
		area := image.Rect(rnd.IntN(333), rnd.IntN(222), rnd.IntN(333), rnd.IntN(222))
		if rnd.IntN(2) == 0 {
			area = bounds
		}
		part := frame.New(area)
		for y := area.Min.Y; y < area.Max.Y; y++ {
			copy(part.Row(y, area.Min.X, area.Max.X), drawn.Row(y, area.Min.X, area.Max.X))
		}
		d.begin(shown, nil)
		d.area(part, image.Rectangle{}, nil)
		rects := d.end()
		named := frame.New(bounds)
		for _, r := range rects {
			if r.Empty() || !r.In(area) {
				t.Fatalf("%v is not in %v", r, area)
			}
			for y := r.Min.Y; y < r.Max.Y; y++ {
				for i := range named.Row(y, r.Min.X, r.Max.X) {
					named.Row(y, r.Min.X, r.Max.X)[i] = 1
				}
			}
		}
		for y := range 222 {
			for x := range 333 {
				at := shown.Row(y, x, x+1)
				inside := image.Pt(x, y).In(area)
				if inside && !bytes.Equal(at[:3], drawn.Row(y, x, x+1)[:3]) {
					t.Fatalf("%d,%d was not copied", x, y)
				}
				if !bytes.Equal(at, before[y*shown.Stride+x*4:][:4]) && named.Row(y, x, x+1)[0] == 0 {
					t.Fatalf("%d,%d was copied but not named", x, y)
				}
			}
		}
	}
}

// The unused byte may be anything: the same colour drawn by Render and by the core protocol differs there.
func TestDifferIgnoresTheUnusedByte(t *testing.T) {
	bounds := image.Rect(0, 0, 131, 70)
	shown, drawn := frame.New(bounds), frame.New(bounds)
	for i := 3; i < len(drawn.Pix); i += 4 {
		drawn.Pix[i] = 0xff
	}
	var d differ
	d.begin(shown, nil)
	d.area(drawn, image.Rectangle{}, nil)
	if got := d.end(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	drawn.Row(40, 100, 101)[1] = 1
	d.begin(shown, nil)
	d.area(drawn, image.Rectangle{}, nil)
	if got := d.end(); !slices.Equal(got, []image.Rectangle{image.Rect(100, 40, 101, 41)}) {
		t.Errorf("%v", got)
	}
}

func TestDifferRects(t *testing.T) {
	bounds := image.Rect(0, 0, 400, 300)
	for _, want := range []image.Rectangle{
		image.Rect(5, 5, 6, 6), image.Rect(60, 60, 70, 70), image.Rect(0, 0, 400, 300), image.Rect(0, 10, 400, 11),
		image.Rect(63, 0, 64, 300), image.Rect(399, 299, 400, 300), image.Rect(64, 64, 128, 128),
	} {
		shown, drawn := frame.New(bounds), frame.New(bounds)
		for y := want.Min.Y; y < want.Max.Y; y++ {
			for i := range drawn.Row(y, want.Min.X, want.Max.X) {
				drawn.Row(y, want.Min.X, want.Max.X)[i] = 1
			}
		}
		var d differ
		d.begin(shown, nil)
		d.area(drawn, image.Rectangle{}, nil)
		if got := d.end(); len(got) != 1 || got[0] != want {
			t.Errorf("%v: %v", want, got)
		}
	}
}

func TestMerge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	size := image.Pt(1920, 1080)
	cells := frame.NewRegion(size)
	for _, n := range []int{1, manyAreas + 1, 200, 5000} {
		var areas []image.Rectangle
		for range n {
			at := image.Pt(rnd.IntN(size.X-20), rnd.IntN(size.Y-20))
			areas = append(areas, image.Rectangle{Min: at, Max: at.Add(image.Pt(1+rnd.IntN(20), 1+rnd.IntN(20)))})
		}
		merged := merge(cells, append([]image.Rectangle(nil), areas...))
		if len(merged) > mostAreas {
			t.Errorf("%d areas become %d", n, len(merged))
		}
		for i, a := range merged {
			if !a.In(image.Rectangle{Max: size}) {
				t.Fatalf("%v is outside", a)
			}
			for _, b := range merged[:i] {
				if a.Overlaps(b) {
					t.Fatalf("%v and %v overlap", a, b)
				}
			}
		}
		for _, a := range areas {
			left := a.Dx() * a.Dy()
			for _, m := range merged {
				x := a.Intersect(m)
				left -= x.Dx() * x.Dy()
			}
			if left != 0 {
				t.Fatalf("%v is not covered", a)
			}
		}
	}
}

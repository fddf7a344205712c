package record

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amitbet/vncproxy/player"

	"github.com/helmline/helmline/bridge/frame"
)

// An update is the rectangles of one.
type update struct {
	at    time.Duration
	rects []string
}

func header(x, y, w, h int, encoding int32) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(x))
	b = binary.BigEndian.AppendUint16(b, uint16(y))
	b = binary.BigEndian.AppendUint16(b, uint16(w))
	b = binary.BigEndian.AppendUint16(b, uint16(h))
	return string(binary.BigEndian.AppendUint32(b, uint32(encoding)))
}

// solid is a rectangle of one colour.
func solid(x, y, w, h int, rgb string) string { return header(x, y, w, h, encTight) + "\x80" + rgb }

// full is a rectangle of pixels that begins a stream.
func full(x, y, w, h int, pixels []byte) string {
	var z bytes.Buffer
	d := zlib.NewWriter(&z)
	d.Write(pixels)
	d.Flush()
	n := z.Len()
	return header(x, y, w, h, encTight) + "\x01" + string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}) + z.String()
}

// bare is a rectangle of pixels in a stream that was begun before, to which it does not look back.
func bare(x, y, w, h int, pixels []byte) string {
	var z bytes.Buffer
	d, err := flate.NewWriter(&z, 6)
	if err != nil {
		panic(err)
	}
	d.Write(pixels)
	d.Flush()
	n := z.Len()
	return header(x, y, w, h, encTight) + "\x00" + string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}) + z.String()
}

// write makes a recording of 64×48 pixels.
func write(t testing.TB, updates []update) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, image.Pt(64, 48), "desk")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range updates {
		w.Begin(u.at)
		w.Write(append([]byte{0, 0, 0, byte(len(u.rects))}, strings.Join(u.rects, "")...))
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	if w.Size() != int64(out.Len()) {
		t.Fatalf("a size of %d for %d bytes", w.Size(), out.Len())
	}
	return out.Bytes()
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// work is a recording with a key in the middle.
func work() []update {
	return []update{
		{0, []string{solid(0, 0, 64, 48, "abc")}},
		{time.Second, []string{full(16, 16, 16, 16, noise(768))}},
		{2 * time.Second, []string{header(32, 16, 16, 16, encCopyRect) + "\x00\x10\x00\x10", header(0, 0, 12, 19, encCursor) + string(make([]byte, 12*19*4+2*19))}},
		{3 * time.Second, []string{solid(0, 0, 64, 32, "def"), bare(0, 32, 64, 16, noise(3*64*16))}},
		{4 * time.Second, []string{solid(0, 0, 16, 16, "xyz")}},
	}
}

func openAll(t testing.TB, b []byte, keys []Key) *File {
	t.Helper()
	f, err := Open(bytes.NewReader(b), int64(len(b)), keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pictures are those at each time, of a player that starts at the beginning.
func pictures(f *File, times []time.Duration) [][]byte {
	var all [][]byte
	for _, at := range times {
		p := f.NewPlayer()
		for next, ok := p.Next(); ok && next <= at; next, ok = p.Next() {
			p.Step(nil)
		}
		all = append(all, bytes.Clone(p.Picture().Pix))
	}
	return all
}

func TestSeekShowsWhatPlayingShows(t *testing.T) {
	b := write(t, work())
	found := openAll(t, b, nil)
	if len(found.keys) != 2 || found.Duration != 4*time.Second || found.Name != "desk" || found.Size != image.Pt(64, 48) {
		t.Fatalf("%+v", found)
	}
	at := []time.Duration{0, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 3 * time.Second, 4 * time.Second, time.Hour}
	want := pictures(found, at)
	wrong := []Key{{Offset: found.keys[1].Offset - 40, Whole: time.Second}, {Offset: found.keys[1].Offset + 1, Whole: 2 * time.Second}}
	for name, keys := range map[string][]Key{"found": nil, "indexed": found.keys[1:], "none": {}, "wrong": wrong} {
		f := openAll(t, b, keys)
		p := f.NewPlayer()
		r := rand.New(rand.NewPCG(5, 6))
		for range 50 {
			i := r.IntN(len(at))
			if p.Seek(at[i]); !bytes.Equal(p.Picture().Pix, want[i]) {
				t.Fatalf("%s: another picture at %v", name, at[i])
			}
		}
	}
}

// photo is a rectangle of JPEG.
func photo(x, y, w, h int, r *rand.Rand) string {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32())
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		panic(err)
	}
	n := b.Len()
	return header(x, y, w, h, encTight) + "\x90" + string([]byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}) + b.String()
}

// A jump leaves photographs out that are not seen where it ends, and only those.
func TestJumpOverPhotographs(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	updates := []update{{0, []string{solid(0, 0, 64, 48, "abc")}}}
	for i := 1; i < 120; i++ {
		w, h := 1+r.IntN(40), 1+r.IntN(40)
		x, y := r.IntN(64-w), r.IntN(48-h)
		rect := photo(x, y, w, h, r)
		switch r.IntN(4) {
		case 0:
			rect = header(x, y, w, h, encCopyRect) + string([]byte{0, byte(r.IntN(64 - w)), 0, byte(r.IntN(48 - h))})
		case 1:
			rect = solid(x, y, w, h, string(noise(3 * i))[3*i-3:])
		}
		updates = append(updates, update{time.Duration(i) * time.Second, []string{rect, photo(16, 16, 32, 16, r)}})
	}
	f := openAll(t, write(t, updates), nil)
	var at []time.Duration
	for i := range updates {
		at = append(at, time.Duration(i)*time.Second)
	}
	want := pictures(f, at)
	p := f.NewPlayer()
	for range 200 {
		i := r.IntN(len(at))
		if p.Seek(at[i]); !bytes.Equal(p.Picture().Pix, want[i]) || p.Err() != nil {
			t.Fatalf("another picture at %v: %v", at[i], p.Err())
		}
	}
	p.begin(f.keys[0])
	p.lookAhead(f.Duration)
	left := 0
	for i := range 200 {
		if p.dec.unseen.has(i) {
			left++
		}
	}
	if left < 80 {
		t.Errorf("only %d photographs are left out", left)
	}
}

func TestSeekBeforeTheFirstPictureShowsThat(t *testing.T) {
	f := openAll(t, write(t, []update{
		{time.Second, []string{solid(0, 0, 64, 16, "abc")}}, {2 * time.Second, []string{solid(0, 16, 64, 32, "abc")}},
		{3 * time.Second, []string{solid(0, 0, 64, 48, "def")}},
	}), nil)
	p := f.NewPlayer()
	p.Seek(0)
	if want := bytes.Repeat([]byte("cba\x00"), 64*48); f.Start != 2*time.Second || !bytes.Equal(p.Picture().Pix, want) {
		t.Fatal(f.Start)
	}
}

func TestPlayChangesWhatItSays(t *testing.T) {
	f := openAll(t, write(t, work()), nil)
	p := f.NewPlayer()
	before := frame.New(p.Picture().Rect)
	for {
		at, ok := p.Next()
		if !ok {
			break
		}
		changed := frame.NewRegion(f.Size)
		p.Step(changed)
		if p.At() != at {
			t.Fatalf("at %v, not %v", p.At(), at)
		}
		for y := range f.Size.Y {
			for x := range f.Size.X {
				if !bytes.Equal(before.Row(y, x, x+1), p.Picture().Row(y, x, x+1)) && !changed.Touches(image.Rect(x, y, x+1, y+1)) {
					t.Fatalf("at %v pixel %d,%d changed without a word", at, x, y)
				}
			}
		}
		copy(before.Pix, p.Picture().Pix)
	}
	if p.Err() != nil {
		t.Fatal(p.Err())
	}
}

func TestCutOffRecordingPlaysUpToThere(t *testing.T) {
	b := write(t, work())
	f := openAll(t, b, nil)
	start := int(f.first) // up to its first update a file is none
	for n := range b {
		f, err := Open(bytes.NewReader(b[:n]), int64(n), nil)
		if (err == nil) != (n >= start) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
		if err == nil {
			p := f.NewPlayer()
			if p.Seek(time.Hour); p.Err() != nil {
				t.Fatalf("%d bytes: %v", n, p.Err())
			}
		}
	}
}

func TestIndexIsReadAsFarAsItIsOne(t *testing.T) {
	keys := []Key{{100, time.Second}, {200, 2 * time.Second}, {300, 3 * time.Second}}
	b := IndexHead()
	for _, k := range keys {
		b = k.AppendTo(b)
	}
	for n := range len(b) + 1 {
		got, err := ReadIndex(bytes.NewReader(b[:n]))
		if (err == nil) != (n >= len(indexMagic)) || err == nil && len(got) != (n-len(indexMagic))/keySize {
			t.Fatalf("%d bytes: %v, %v", n, got, err)
		}
	}
	back, err := ReadIndex(bytes.NewReader(keys[0].AppendTo(b)))
	if err != nil || len(back) != 3 {
		t.Fatalf("%v, %v", back, err)
	}
}

func TestRefusals(t *testing.T) {
	good := write(t, work()[:1])
	for _, c := range []struct {
		name string
		b    []byte
		err  string
	}{
		{"empty", nil, "this is no recording"},
		{"another file", []byte("GIF89a, as it happens"), "this is no recording"},
		{"a block of no bytes", append([]byte(magic), 0, 0, 0, 0), "a block of 0 bytes"},
		{"a block of 1 MiB + 1", append([]byte(magic), 0, 16, 0, 1), "a block of 1048577 bytes"},
		{"another format", bytes.Replace(good, pixelFormat[:], append([]byte{16}, pixelFormat[1:]...), 1), "pixels of another format"},
		{"a size of 0", bytes.Replace(good, []byte("\x00\x40\x00\x30\x20"), []byte("\x00\x00\x00\x30\x20"), 1), "a desktop of 0×48"},
		{"security", bytes.Replace(good, []byte(hello), []byte(hello[:15]+"\x02"), 1), "without security"},
	} {
		if _, err := Open(bytes.NewReader(c.b), int64(len(c.b)), nil); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range []struct{ name, rect, err string }{
		{"outside", solid(1, 0, 64, 48, "abc"), "a rectangle at (1,0)-(65,48)"},
		{"empty", solid(1, 0, 0, 48, "abc"), "a rectangle at"},
		{"a copy from outside", header(0, 0, 32, 32, encCopyRect) + "\x00\x21\x00\x00", "a copy from (33,0)"},
		{"ZRLE", header(0, 0, 32, 32, 16), "the encoding 16"},
		{"no kind of Tight", header(0, 0, 32, 32, encTight) + "\xa0", "of kind 10"},
		{"the gradient filter", header(0, 0, 32, 32, encTight) + "\x40\x02", "filter 2"},
		{"no zlib", header(0, 0, 32, 32, encTight) + "\x01\x04abcd", "a zlib stream without a header"},
		{"too few pixels", full(0, 0, 32, 32, noise(100)), "inflate: a piece ends too early"},
		{"too many pixels", full(0, 0, 8, 8, noise(100_000)), "more than a rectangle needs"},
		{"no JPEG", header(0, 0, 32, 32, encTight) + "\x90\x04abcd", "JPEG:"},
		{"a large pointer", header(0, 0, 257, 1, encCursor), "a pointer of 257×1"},
	} {
		f := openAll(t, write(t, []update{{0, []string{solid(0, 0, 64, 48, "abc")}}, {1, []string{c.rect}}}), nil)
		p := f.NewPlayer()
		if p.Seek(time.Hour); p.Err() == nil || !strings.Contains(p.Err().Error(), c.err) {
			t.Errorf("%s: %v", c.name, p.Err())
		}
	}
}

// Another program's reader opens the file and reads the same stream.
func TestVNCProxyPlaysIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.fbs")
	if err := os.WriteFile(path, write(t, work()), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := player.NewFbsReader(path)
	if err != nil {
		t.Fatal(err)
	}
	init, err := r.ReadStartSession()
	if err != nil || init.FBWidth != 64 || init.FBHeight != 48 || string(init.NameText) != "desk" || init.PixelFormat.RedShift != 16 {
		t.Fatalf("%+v, %v", init, err)
	}
	for _, u := range work() {
		want := append([]byte{0, 0, 0, byte(len(u.rects))}, strings.Join(u.rects, "")...)
		got := make([]byte, len(want))
		if _, err := r.Read(got); err != nil || !bytes.Equal(got, want) || r.CurrentTimestamp() != int(u.at/time.Millisecond) {
			t.Fatalf("at %v: %v at %d", u.at, err, r.CurrentTimestamp())
		}
	}
}

func FuzzFile(f *testing.F) {
	b := write(f, work())
	f.Add(b, IndexHead())
	f.Add(b, Key{Offset: 124, Whole: 3 * time.Second}.AppendTo(IndexHead()))
	f.Fuzz(func(t *testing.T, in, index []byte) {
		keys, err := ReadIndex(bytes.NewReader(index))
		if err != nil {
			keys = nil
		}
		file, err := Open(bytes.NewReader(in), int64(len(in)), keys)
		if err != nil || file.Size.X*file.Size.Y > 1<<16 {
			return
		}
		p := file.NewPlayer()
		changed := frame.NewRegion(file.Size)
		for _, ok := p.Next(); ok; _, ok = p.Next() {
			p.Step(changed)
		}
		last, whole := bytes.Clone(p.Picture().Pix), p.Err() == nil // behind what is damaged there may be a key
		for _, at := range []time.Duration{file.Duration, 0, file.Duration / 2, file.Duration} {
			p.Seek(at)
		}
		if whole && !bytes.Equal(last, p.Picture().Pix) {
			t.Fatal("jumping to the end shows another picture than playing to it")
		}
	})
}

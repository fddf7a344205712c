package desktop

import (
	"bytes"
	"image"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// tapes are the files of recordings, in order.
func (h *fakeHost) tapes() []string {
	names, err := filepath.Glob(filepath.Join(RecordingsDir(h.dir), "*"+reelEnd))
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

// record begins the recording of the fake desktop and waits for the answer, whose cause it gives.
func (h *fakeHost) record(space int64) string {
	h.t.Helper()
	n := 0
	h.with(func() { n = len(h.recorded) })
	h.send(ipc.TypeRecord, ipc.Record{Desktop: 1, On: true, User: "alice", Space: space})
	cause := ""
	h.await("an answer to Record", func() bool {
		if len(h.recorded) > n {
			cause = h.recorded[n].Cause
		}
		return len(h.recorded) > n
	})
	return cause
}

// stop ends the recording and waits until the files are whole.
func (h *fakeHost) stop(s *server) {
	h.t.Helper()
	h.send(ipc.TypeRecord, ipc.Record{Desktop: 1})
	until(h.t, "the recording to end", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.writing) == 0 && len(s.tapes) == 0
	})
}

func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// open opens a recording, with its index or without.
func open(t testing.TB, path string, indexed bool) *record.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys []record.Key
	if indexed {
		index, err := os.ReadFile(path[:len(path)-len(reelEnd)] + indexEnd)
		if err != nil {
			t.Fatal(err)
		}
		if keys, err = record.ReadIndex(bytes.NewReader(index)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := record.Open(bytes.NewReader(b), int64(len(b)), keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// equal compares colours.
func equal(a, b frame.Image) bool {
	for y := a.Rect.Min.Y; y < a.Rect.Max.Y; y++ {
		p, q := a.Row(y, a.Rect.Min.X, a.Rect.Max.X), b.Row(y, a.Rect.Min.X, a.Rect.Max.X)
		for i := 0; i < len(p); i += 4 {
			if !bytes.Equal(p[i:i+3], q[i:i+3]) {
				return false
			}
		}
	}
	return true
}

// work is mixed work on a fake desktop: each step types, scrolls, shows a photograph or a frame of a film.
func (w *fakeWorker) work(r *rand.Rand, step int) {
	size := w.size
	switch step % 4 {
	case 0: // typing
		at := image.Pt(r.IntN(size.X-20), r.IntN(size.Y-20))
		w.paint(image.Rectangle{Min: at, Max: at.Add(image.Pt(8, 14))}, r.Uint32N(1<<24))
	case 1: // scrolling
		w.draw(image.Rect(0, size.Y-20, size.X, size.Y), func() {
			c := frame.Copy{From: image.Pt(0, 20), To: image.Rect(0, 0, size.X, size.Y-20)}
			w.screen.Move(c)
			w.copies = append(w.copies, c)
			for x := 0; x < size.X; x += 7 {
				w.fill(image.Rect(x, size.Y-20, min(x+3, size.X), size.Y), r.Uint32N(1<<24))
			}
		})
	default: // a film
		w.draw(image.Rect(32, 32, 192, 160), func() {
			for y := 32; y < 160; y++ {
				row := w.screen.Row(y, 32, 192)
				for i := 0; i < len(row); i += 4 {
					row[i], row[i+1], row[i+2] = byte(y+step), byte(i/4+step*3), byte(y*i/64)
				}
			}
		})
	}
}

func TestRecordingPlaysWhatWatchersSee(t *testing.T) {
	size := image.Pt(320, 240)
	s, h := start(t, size)
	w := h.worker()
	if cause := h.record(1 << 30); cause != "" {
		t.Fatal(cause)
	}
	watcher := view(t, s, "bob", tunnel.RoleWatch, rfbtest.Config{
		Encodings: []int32{rfb.Tight, rfb.CopyRect, rfb.PseudoCursor, rfb.PseudoLastRect, rfb.PseudoQuality0 + 6},
	})
	logIn(t, s, "bob", watcher)
	says(t, s, "bob", watcher, "This session is recorded")
	r := rand.New(rand.NewPCG(3, 4))
	began := time.Now()
	for step := range 40 {
		w.work(r, step)
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began)
	want := w.picture()
	sees := func(c *rfbtest.Client) bool { return equal(c.Picture(), want) }
	until(t, "the notice to go and the watcher to see the desktop exactly", func() bool { return watcher.WaitFor(sees, patience) == nil })
	until(t, "the recording to have it", func() bool {
		f := open(t, h.tapes()[0], true)
		p := f.NewPlayer()
		p.Seek(f.Duration)
		return equal(p.Picture(), want)
	})
	h.stop(s)
	for _, indexed := range []bool{true, false} {
		f := open(t, h.tapes()[0], indexed)
		if f.Duration < took {
			t.Fatalf("a recording of %v of %v", f.Duration, took)
		}
		p := f.NewPlayer()
		p.Seek(f.Duration)
		if !equal(p.Picture(), want) || p.Err() != nil {
			t.Fatalf("the last picture is another one: %v", p.Err())
		}
	}
}

// picture is what a watcher sees of the screen: the arrow is drawn at the top left.
func (w *fakeWorker) picture() frame.Image {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := frame.New(w.screen.Rect)
	copy(m.Pix, w.screen.Pix)
	var c drawnCursor
	var none frame.Region
	none.Reset(w.size)
	if c.move(arrow(), 1, image.Point{}, m.Rect, &none) {
		c.draw(m)
		for y := c.box.Min.Y; y < c.box.Max.Y; y++ {
			copy(m.Row(y, c.box.Min.X, c.box.Max.X), c.image.Row(y, c.box.Min.X, c.box.Max.X))
		}
	}
	return m
}

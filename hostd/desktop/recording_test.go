package desktop

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/record/tap"
	"github.com/helmline/helmline/bridge/refuse"
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
	return h.recordFor(nil, space)
}

// recordFor is record, sealed for a key.
func (h *fakeHost) recordFor(key []byte, space int64) string {
	h.t.Helper()
	n := 0
	h.with(func() { n = len(h.recorded) })
	h.send(ipc.TypeRecord, ipc.Record{Desktop: 1, On: true, User: "alice", Space: space, Key: key})
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
	return openWith(t, nil, path, indexed)
}

// openWith is open of what is sealed for a key, if there is one.
func openWith(t testing.TB, key *ecdh.PrivateKey, path string, indexed bool) *record.File {
	t.Helper()
	in, size := opened(t, key, path)
	var keys []record.Key
	if indexed {
		index, size := opened(t, key, indexOf(path))
		var err error
		if keys, err = record.ReadIndex(io.NewSectionReader(index, 0, size)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := record.Open(in, size, keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func indexOf(path string) string { return path[:len(path)-len(reelEnd)] + indexEnd }

// opened is what a file has, unsealed if there is a key, and its size.
func opened(t testing.TB, key *ecdh.PrivateKey, path string) (io.ReaderAt, int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	in, size := io.ReaderAt(bytes.NewReader(b)), int64(len(b))
	if err == nil && key != nil {
		in, size, err = record.Unseal(in, size, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in, size
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

func TestWhoIsRecordedIsToldSo(t *testing.T) {
	s, h := start(t, image.Pt(320, 240))
	bob := view(t, s, "bob", tunnel.RoleWatch, rfbtest.Config{})
	logIn(t, s, "bob", bob)
	sees(t, bob, 300, 200, canary)
	named := func(name string) {
		t.Helper()
		if err := bob.WaitFor(func(c *rfbtest.Client) bool { return c.Name() == name }, patience); err != nil {
			t.Fatalf("the title is %q, not %q: %v", bob.Name(), name, err)
		}
	}
	if cause := h.record(1 << 30); cause != "" {
		t.Fatal(cause)
	}
	says(t, s, "bob", bob, "This session is recorded")
	named("alice@desk7 (recorded)")
	alice := view(t, s, "alice", tunnel.RoleControl, rfbtest.Config{}) // comes while it runs
	logIn(t, s, "alice", alice)
	says(t, s, "alice", alice, "This session is recorded")
	h.stop(s)
	says(t, s, "bob", bob, "The recording has ended")
	named("alice@desk7")
}

// Nothing but the desktop is in a recording, even while people log in and read notices.
func TestFormsAndNoticesAreNotRecorded(t *testing.T) {
	s, h := start(t, image.Pt(320, 240))
	w := h.worker()
	if cause := h.record(1 << 30); cause != "" {
		t.Fatal(cause)
	}
	bob := view(t, s, "bob", tunnel.RoleWatch, rfbtest.Config{})
	logIn(t, s, "bob", bob)
	says(t, s, "bob", bob, "This session is recorded")
	w.paint(image.Rect(100, 100, 120, 120), 0x123456)
	sees(t, bob, 110, 110, 0x123456)
	want := w.picture()
	until(t, "the recording to have it", func() bool {
		f := open(t, h.tapes()[0], true)
		p := f.NewPlayer()
		p.Seek(f.Duration)
		return equal(p.Picture(), want)
	})
	h.stop(s)
	seen := map[uint32]bool{0: true, 0xffffff: true, canary: true, 0x123456: true} // the pointer's colours, and the desktop's
	p := open(t, h.tapes()[0], false).NewPlayer()
	updates := 0
	for _, ok := p.Next(); ok; _, ok = p.Next() {
		p.Step(nil)
		updates++
		for m := p.Picture().Pix; len(m) > 0; m = m[4:] {
			if c := binary.LittleEndian.Uint32(m); !seen[c] {
				t.Fatalf("something else than the desktop is in the recording at %v: %06x", p.At(), c)
			}
		}
	}
	if updates < 2 || p.Err() != nil {
		t.Fatal(updates, p.Err())
	}
}

func TestRecordingOfResizedDesktopGoesOnInAnotherFile(t *testing.T) {
	s, h := start(t, image.Pt(320, 240))
	if cause := h.record(1 << 30); cause != "" {
		t.Fatal(cause)
	}
	h.worker().paint(image.Rect(100, 100, 120, 120), 0x123456)
	var want frame.Image
	h.with(func() {
		h.desktop(image.Pt(400, 200))
		want = h.screen.picture()
	})
	until(t, "the recording to go on", func() bool {
		tapes := h.tapes()
		if len(tapes) < 2 {
			return false
		}
		f := open(t, tapes[1], true)
		p := f.NewPlayer()
		p.Seek(f.Duration)
		return f.Size == image.Pt(400, 200) && equal(p.Picture(), want)
	})
	if f := open(t, h.tapes()[0], false); f.Size != image.Pt(320, 240) {
		t.Fatal(f.Size)
	}
	h.stop(s)
	h.with(func() {
		if len(h.recorded) != 1 || len(h.tapes()) != 2 {
			t.Error(h.recorded, h.tapes())
		}
	})
}

// A file has an eighth of the space at most, and the oldest make room for the next.
func TestRecordingsStayInTheirSpace(t *testing.T) {
	const space = 1 << 20
	s, h := start(t, image.Pt(320, 240))
	s.hurry(time.Now)
	old := []string{"20200101T000000.000Z.fbs", "20200101T000000.000Z.idx", "20200102T000000.000Z.fbs"}
	dir := RecordingsDir(h.dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, space*2/5), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cause := h.record(space); cause != "" {
		t.Fatal(cause)
	}
	if tapes := h.tapes(); len(tapes) != 2 || filepath.Base(tapes[0]) != old[2] {
		t.Fatal(tapes)
	}
	w := h.worker()
	r := rand.New(rand.NewPCG(1, 1))
	for step := 0; len(h.tapes()) < 4 || filepath.Base(h.tapes()[0]) == old[2]; step++ {
		n := w.grabbed()
		w.draw(w.screen.Rect, func() {
			for i := range w.screen.Pix {
				w.screen.Pix[i] = byte(r.Uint32()) &^ 1
			}
		})
		until(t, "the picture to be taken", func() bool { return w.grabbed() > n })
	}
	h.stop(s)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	used := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			used += info.Size()
		}
	}
	if used > space+space/2 { // a file ends behind the update that made it too long
		t.Fatalf("%d bytes are used", used)
	}
	for _, path := range h.tapes() {
		if open(t, path, true).Duration == 0 {
			t.Errorf("%s has no time", path)
		}
	}
}

// Recordings go some time after their end, whether one runs or not. What is being written stays.
func TestRecordingsGoByTheirAge(t *testing.T) {
	const day = 24 * time.Hour
	state := t.TempDir()
	dir := RecordingsDir(state)
	s := &server{log: slog.New(slog.DiscardHandler), dir: state, writing: map[string]bool{filepath.Join(dir, "b.fbs"): true}}
	if err := s.removeBefore(time.Now()); err != nil {
		t.Fatal("without a folder:", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"a.fbs": 31 * day, "a.idx": 31 * day, "b.fbs": 31 * day, "b.idx": 31 * day, "c.fbs": 30*day + time.Hour, "d.fbs": 30*day - time.Hour,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, now, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.removeBefore(now.Add(-30 * day)); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if want := []string{"b.fbs", "b.idx", "d.fbs"}; err != nil || !slices.Equal(left, want) {
		t.Fatalf("%v, %v are left, want %v", left, err, want)
	}
}

func TestOldRecordingsGoWithoutANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		s := &server{log: slog.New(slog.DiscardHandler), dir: state, now: time.Now, welcome: ipc.Welcome{KeepTapes: 24 * time.Hour}}
		path := filepath.Join(RecordingsDir(state), "a.fbs")
		if err := errors.Join(os.Mkdir(RecordingsDir(state), 0o700), os.WriteFile(path, nil, 0o600), os.Chtimes(path, time.Now(), time.Now())); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go s.expire(ctx)
		time.Sleep(24*time.Hour - time.Second)
		if _, err := os.Stat(path); err != nil {
			t.Error("within its time:", err)
		}
		time.Sleep(expireTime + 2*time.Second)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("behind it:", err)
		}
		cancel()
	})
}

// grabbed counts the frames that were taken.
func (w *fakeWorker) grabbed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.grabs
}

func TestRecordingThatCannotBeSaysWhy(t *testing.T) {
	_, h := start(t, image.Pt(320, 240))
	dir := RecordingsDir(h.dir)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if cause := h.record(1 << 30); cause != "the folder of recordings cannot be written" {
		t.Errorf("no folder: %q", cause)
	}
	if err := errors.Join(os.Remove(dir), os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if cause := h.record(1 << 30); cause != "the folder of recordings cannot be written" {
		t.Errorf("a folder that others can read: %q", cause)
	}
	for err, want := range map[error]string{
		&fs.PathError{Err: syscall.ENOSPC}: "there is no space left", &fs.PathError{Err: syscall.EROFS}: "the folder of recordings cannot be written",
		io.ErrUnexpectedEOF: "the recorder has failed",
	} {
		if got := cause(err); got != want {
			t.Errorf("%v: %q, not %q", err, got, want)
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

// Where every session is recorded, a viewer hears before its log-in that this cannot be.
func TestRecordingThatCannotBeIsRefusedAtTheDoor(t *testing.T) {
	s, h := start(t, small, func(w *ipc.Welcome) { w.Taped = true })
	if _, err := join(t.Context(), t, s, fromInit(alice, tunnel.RoleControl)); err != nil {
		t.Fatal("while it can be:", err)
	}
	if err := os.Chmod(RecordingsDir(h.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := join(t.Context(), t, s, fromInit(alice, tunnel.RoleControl)); !refuse.NotRecorded.Is(err) {
		t.Error(err)
	}
}

// hurry has recordings follow without a pause, by a clock.
func (s *server) hurry(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.taping = now, time.Millisecond
}

// A fakeClock goes when it is told to.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// An hour of mixed work at many times its speed, sealed: the last picture and ten places anywhere are what was on the screen, and the file is not
// larger than what a watcher received, but for 1 %. Nor does the seal take 1 %.
func TestAnHourOfRecording(t *testing.T) {
	const steps, places = 300, 10
	s, h := start(t, image.Pt(640, 400))
	clock := &fakeClock{at: time.Date(2026, 11, 28, 4, 15, 22, 0, time.UTC)}
	s.hurry(clock.now)
	w := h.worker()
	watcher := view(t, s, "bob", tunnel.RoleWatch, rfbtest.Config{
		Encodings: []int32{rfb.Tight, rfb.CopyRect, rfb.PseudoCursor, rfb.PseudoLastRect, rfb.PseudoQuality0 + tap.Quality},
	})
	logIn(t, s, "bob", watcher)
	sees(t, watcher, 320, 200, canary)
	before := watcher.Bytes()
	key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if cause := h.recordFor(key.PublicKey().Bytes(), 1<<30); cause != "" {
		t.Fatal(cause)
	}
	path := h.tapes()[0]
	r := rand.New(rand.NewPCG(7, 8))
	type place struct {
		at   time.Duration
		want frame.Image
	}
	var known []place
	began := clock.now()
	// settled waits until the recording has what is on the screen, exactly.
	settled := func() frame.Image {
		want := w.picture()
		until(t, "the recording to have what is on the screen", func() bool {
			f := openWith(t, key, path, true)
			p := f.NewPlayer()
			p.Seek(f.Duration)
			return equal(p.Picture(), want)
		})
		return want
	}
	for step := range steps {
		n := watcher.Updates()
		w.work(r, step)
		if err := watcher.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > n }, patience); err != nil {
			t.Fatal(err)
		}
		clock.add(12 * time.Second)
		if step%(steps/places) == steps/places/2 {
			want := settled()
			known = append(known, place{clock.now().Sub(began), want})
			clock.add(time.Second)
		}
	}
	last := settled()
	received := watcher.Bytes() - before
	h.stop(s)
	size, inside := int64(0), int64(0)
	for _, name := range []string{path, indexOf(path)} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %o", name, st.Mode().Perm())
		}
		size += st.Size()
		_, n := opened(t, key, name)
		inside += n
	}
	t.Logf("%d bytes, %d without the seal, for %d of a watcher", size, inside, received)
	if size > min(received, inside)/100*101 {
		t.Errorf("a recording of %d bytes, %d without its seal, where a watcher got %d", size, inside, received)
	}
	f := openWith(t, key, path, true)
	if f.Duration < time.Hour {
		t.Fatalf("a recording of %v", f.Duration)
	}
	p := f.NewPlayer()
	for range 2 {
		r.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
		for _, k := range known {
			if p.Seek(k.at); !equal(p.Picture(), k.want) {
				t.Errorf("another picture at %v", k.at)
			}
		}
	}
	if p.Seek(f.Duration); !equal(p.Picture(), last) || p.Err() != nil {
		t.Errorf("the last picture is another one: %v", p.Err())
	}
}

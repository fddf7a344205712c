package desktop

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/refuse"
)

// Names of the files of recordings: a time of UTC, and one of these.
const (
	reelEnd  = ".fbs"
	indexEnd = ".idx"
	reelName = "20060102T150405.000Z"
)

// Limits of the space for recordings, bytes.
const (
	maxReel   = 1 << 30   // of a file, if an eighth of all space is not less
	reelParts = 8         // files that the space has room for at least
	leaveFree = 128 << 20 // of the disk, for others
)

// expireTime is how long there is between two looks for recordings that are kept no longer.
const expireTime = time.Hour

var (
	errSpace  = errors.New("no space for recordings")
	errFolder = errors.New("the folder of recordings is not hostd-net's own")
)

// RecordingsDir is where recordings lie, in hostd-net's folder of state.
func RecordingsDir(state string) string { return filepath.Join(state, "recordings") }

// A reel is one file of a recording and its index.
type reel struct {
	*record.Writer
	path    string
	most    int64 // bytes it may have
	file    *os.File
	index   *os.File
	tape    track        // writes to file
	keys    track        // writes to index
	size    atomic.Int64 // of the file, sealed or not
	dirty   atomic.Bool  // something was written since the last fsync
	flushed time.Time    // when nothing was gathered
	done    func()       // it is not being written any more
}

// A track writes to a file. One that seals gathers small updates.
type track interface {
	io.Writer
	Buffered() int // bytes that are gathered
	Flush() error
}

// An openTrack gathers nothing.
type openTrack struct{ io.Writer }

func (openTrack) Buffered() int { return 0 }
func (openTrack) Flush() error  { return nil }

// create begins a file, after it has made room for it.
func (r *recording) create(now time.Time, size image.Point) (*reel, error) {
	dir, err := r.srv.recordings()
	if err != nil {
		return nil, err
	}
	t := &reel{most: min(r.space/reelParts, maxReel)}
	if err := r.srv.makeRoom(dir, r.space, t.most); err != nil {
		return nil, err
	}
	for ; ; now = now.Add(time.Millisecond) { // two desktops at once
		t.path = filepath.Join(dir, now.UTC().Format(reelName)+reelEnd)
		if t.file, err = os.OpenFile(t.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	t.done = r.srv.writes(t.path)
	t.index, err = os.OpenFile(strings.TrimSuffix(t.path, reelEnd)+indexEnd, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = t.begin(r.key, size, fmt.Sprintf("%s, %s", r.srv.title(r.user), now.UTC().Format(time.RFC3339)))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		t.done()
		return nil, errors.Join(err, t.file.Close(), t.index.Close(), os.Remove(t.path))
	}
	return t, nil
}

// begin begins what is in the file and in the index, sealed for the key if there is one.
func (t *reel) begin(key []byte, size image.Point, title string) (err error) {
	if t.tape, err = newTrack(counted{t}, key); err != nil {
		return err
	}
	if t.keys, err = newTrack(t.index, key); err != nil {
		return err
	}
	if _, err = t.keys.Write(record.IndexHead()); err != nil {
		return err
	}
	t.Writer, err = record.NewWriter(t.tape, size, title)
	return err
}

func newTrack(w io.Writer, key []byte) (track, error) {
	if len(key) == 0 {
		return openTrack{w}, nil
	}
	public, err := ecdh.X25519().NewPublicKey(key)
	if err != nil {
		return nil, err
	}
	return record.Seal(w, public)
}

// counted writes to a reel's file.
type counted struct{ t *reel }

func (c counted) Write(p []byte) (int, error) {
	n, err := c.t.file.Write(p)
	c.t.size.Add(int64(n))
	return n, err
}

// recordings is the folder of recordings, which is made where it is missing. The disk has room for more.
func (s *server) recordings() (string, error) {
	dir := RecordingsDir(s.dir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return "", fmt.Errorf("%s: %w", dir, errFolder)
	}
	return dir, hasRoom(dir)
}

// recordable refuses, before anybody logs in, what a computer that records every session could not record.
func (s *server) recordable() *refuse.Refusal {
	if !s.welcomed().Taped {
		return nil
	}
	if _, err := s.recordings(); err != nil {
		s.log.Error("no recording is possible", "err", err)
		return refuse.NotRecorded.Of(s.name(), cause(err))
	}
	return nil
}

// syncDir makes a new file survive the machine's end.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writes notes that a file is being written, until what it returns is called.
func (s *server) writes(path string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing[path] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.writing, path)
	}
}

// An old is a file of a recording that is not being written.
type old struct {
	path  string
	size  int64
	ended time.Time
}

// olds lists them, the oldest first.
func (s *server) olds(dir string) ([]old, error) {
	entries, err := os.ReadDir(dir) // by name, which is by age
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var olds []old
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if s.writing[strings.TrimSuffix(path, indexEnd)+reelEnd] || s.writing[path] {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			olds = append(olds, old{path, info.Size(), info.ModTime()})
		}
	}
	return olds, nil
}

// makeRoom removes the oldest recordings until one more of that size fits.
func (s *server) makeRoom(dir string, space, size int64) error {
	olds, err := s.olds(dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	running := int64(len(s.writing) + 1)
	s.mu.Unlock()
	used := running * size
	for _, o := range olds {
		used += o.size
	}
	for ; used > space && len(olds) > 0; olds = olds[1:] {
		if err := os.Remove(olds[0].path); err != nil {
			return err
		}
		s.log.Info("recording removed to make room", "file", olds[0].path)
		used -= olds[0].size
	}
	if used > space {
		return fmt.Errorf("%w: %d recordings run at once", errSpace, running)
	}
	return nil
}

// expire removes what is kept no longer, now and every expireTime, until ctx ends.
func (s *server) expire(ctx context.Context) {
	for {
		if keep := s.welcomed().KeepTapes; keep > 0 {
			if err := s.removeBefore(s.now().Add(-keep)); err != nil {
				s.log.Error("cannot remove old recordings", "err", err)
			}
		}
		if !pause(ctx, expireTime) {
			return
		}
	}
}

// removeBefore removes the recordings that ended before a time.
func (s *server) removeBefore(t time.Time) error {
	olds, err := s.olds(RecordingsDir(s.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, o := range olds {
		if !o.ended.Before(t) {
			continue
		}
		if err := os.Remove(o.path); err != nil {
			return err
		}
		s.log.Info("recording removed for its age", "file", o.path)
	}
	return err
}

// hasRoom says whether others have enough of the disk.
func hasRoom(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < leaveFree {
		return fmt.Errorf("%w: %d MiB are left on the disk", errSpace, free>>20)
	}
	return nil
}

// end ends an update. While one follows on another they are gathered for gatherTime.
func (t *reel) end() error {
	err := t.End()
	t.dirty.Store(true)
	if t.tape.Buffered() > 0 && time.Since(t.flushed) >= gatherTime {
		return errors.Join(err, t.flush())
	}
	return err
}

// flush brings what was gathered to the file.
func (t *reel) flush() error {
	err := t.tape.Flush()
	t.dirty.Store(true)
	t.flushed = time.Now()
	return err
}

// written is how long the file is.
func (t *reel) written() int64 { return t.size.Load() }

// addKey adds a key to the index, which nobody needs so much as to make it survive by all means.
func (t *reel) addKey(k record.Key) error {
	_, err := t.keys.Write(k.AppendTo(nil))
	return errors.Join(err, t.keys.Flush())
}

// keepSynced brings what was written to the disk every syncTime, and looks whether there is room, until ctx ends.
func (t *reel) keepSynced(ctx context.Context) error {
	for pause(ctx, syncTime) {
		if !t.dirty.Swap(false) {
			continue
		}
		if err := errors.Join(t.file.Sync(), t.index.Sync(), hasRoom(filepath.Dir(t.path))); err != nil {
			return err
		}
	}
	return nil
}

// close ends the file, which has lasted that long.
func (t *reel) close(after time.Duration) error {
	defer t.done()
	err := errors.Join(t.Idle(after), t.tape.Flush())
	return errors.Join(err, t.file.Sync(), t.file.Close(), t.index.Sync(), t.index.Close())
}

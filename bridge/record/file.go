package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/wire"
)

// A File is a recording that can be played by any number of Players.
type File struct {
	Size     image.Point
	Name     string        // of the desktop; not trusted
	Start    time.Duration // when the first picture was whole
	Duration time.Duration // up to the last block

	r     io.ReaderAt
	first int64 // offset of the first update's block
	end   int64 // of the last whole block
	keys  []Key // in order; the first is the start
}

// Open looks a file of that many bytes through. keys are those of its index; nil has them found in the file, which reads it once.
func Open(r io.ReaderAt, size int64, keys []Key) (*File, error) {
	f := &File{r: r}
	head := make([]byte, len(magic))
	if _, err := r.ReadAt(head, 0); err != nil || string(head) != magic {
		return nil, errors.New("this is no recording: it does not begin with FBS 001.000")
	}
	if err := f.walk(size); err != nil {
		return nil, err
	}
	in := &blocks{f: f, next: int64(len(magic))}
	w := wire.NewReader(in)
	var version [12]byte
	w.Full(version[:])
	none := w.U32()
	f.Size = image.Pt(int(w.U16()), int(w.U16()))
	var format [16]byte
	w.Full(format[:])
	f.Name = string(w.Bytes32("name", MaxName))
	switch {
	case w.Err() != nil:
		return nil, fmt.Errorf("the recording has no beginning: %w", w.Err())
	case string(version[:8]) != hello[:8] || none != 1:
		return nil, errors.New("the recording does not begin as a session without security does")
	case format != pixelFormat:
		return nil, errors.New("the recording has pixels of another format than 32 bits of blue, green, red")
	case len(in.rest) > 0:
		return nil, errors.New("the recording's first update does not begin a block")
	}
	if err := frame.CheckSize(f.Size); err != nil {
		return nil, err
	}
	f.first = in.next
	f.keys = []Key{{Offset: f.first}}
	f.findStart()
	if keys == nil {
		return f, f.findKeys()
	}
	for _, k := range keys {
		if k.Offset > f.first && k.Offset < f.end && k.Whole <= f.Duration {
			f.keys = append(f.keys, k)
		}
	}
	return f, nil
}

// walk finds the end of the last whole block, and its time.
func (f *File) walk(size int64) error {
	var b [8]byte // the time of a block, and the length of the next
	at := int64(len(magic))
	if _, err := f.r.ReadAt(b[4:], at); err != nil {
		return errors.New("the recording is empty")
	}
	for {
		n := int64(binary.BigEndian.Uint32(b[4:]))
		if n == 0 || n > maxBlock {
			return fmt.Errorf("a block of %d bytes at %d, not 1 to %d", n, at, maxBlock)
		}
		next := at + 4 + (n+3)&^3 + 4
		if next > size {
			break
		}
		m, err := f.r.ReadAt(b[:], next-4)
		if m < 4 {
			break
		}
		f.end = next
		f.Duration = max(f.Duration, time.Duration(binary.BigEndian.Uint32(b[:]))*time.Millisecond)
		if at = next; err != nil {
			break
		}
	}
	if f.end == 0 {
		return errors.New("the recording has no whole block")
	}
	f.Duration = min(f.Duration, MaxTime)
	return nil
}

// maxStart is how many updates the first picture may come in.
const maxStart = 256

// findStart finds when the first picture is whole, or leaves it at zero.
func (f *File) findStart() {
	in := &blocks{f: f, next: f.first}
	d := newDecoder(in, frame.Image{Rect: image.Rectangle{Max: f.Size}})
	d.skips = true
	missing := frame.NewRegion(f.Size)
	missing.Add(missing.Bounds())
	for n := 0; n < maxStart && in.fill() == nil; n++ {
		at := in.at
		if d.update(missing, nil) != nil {
			return
		}
		if missing.Empty() {
			f.Start = at
			return
		}
	}
}

// findKeys finds the updates that show all of the picture. The rest of a file that does not go on as it should has none.
func (f *File) findKeys() error {
	in := &blocks{f: f, next: f.first}
	d := newDecoder(in, frame.Image{Rect: image.Rectangle{Max: f.Size}})
	d.skips = true
	var missing frame.Region
	for in.fill() == nil && len(f.keys) < maxKeys {
		k := Key{Offset: in.begin, Whole: in.at}
		missing.Reset(f.Size)
		missing.Add(missing.Bounds())
		if d.update(&missing, nil) != nil {
			break
		}
		if missing.Empty() && k.Offset != f.first {
			f.keys = append(f.keys, k)
		}
	}
	return nil
}

// blocks is the data of a file's blocks, one after the other.
type blocks struct {
	f     *File
	next  int64         // offset of the next block
	begin int64         // of the one at hand
	at    time.Duration // its time
	rest  []byte        // what of it is not yet read
	buf   []byte
}

// fill makes sure that there is something to read, so that at is the time of what comes. It returns io.EOF at the end of the file.
func (b *blocks) fill() error {
	if len(b.rest) > 0 {
		return nil
	}
	if b.next >= b.f.end {
		return io.EOF
	}
	var head [4]byte
	if _, err := b.f.r.ReadAt(head[:], b.next); err != nil {
		return inside(err)
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	padded := (n + 3) &^ 3
	end := b.next + int64(4+padded+4)
	if n == 0 || n > maxBlock || end > b.f.end {
		return fmt.Errorf("no block at %d", b.next)
	}
	if cap(b.buf) < padded+4 {
		b.buf = make([]byte, max(padded+4, blockSize+4))
	}
	b.buf = b.buf[:padded+4]
	if _, err := b.f.r.ReadAt(b.buf, b.next+4); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	at := time.Duration(binary.BigEndian.Uint32(b.buf[padded:])) * time.Millisecond
	b.at = min(max(b.at, at), b.f.Duration)
	b.begin, b.next, b.rest = b.next, end, b.buf[:n]
	return nil
}

func (b *blocks) Read(p []byte) (int, error) {
	if err := b.fill(); err != nil {
		return 0, err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// inside turns the end of the file into an unexpected one.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// An Entry is one record as people read it.
type Entry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Event
}

// A Filter says which records Read gives: those for which all that is set holds.
type Filter struct {
	Who      string    // e-mail address: whose account it is about, or who did it
	Kind     string    // how its kind begins, as in "session"
	Computer string    // part of its name, or its UUID
	From, To time.Time // From is in it, To is not
}

// fits says whether an entry is asked for.
func (f *Filter) fits(e *Entry) bool {
	switch {
	case !f.From.IsZero() && e.Time.Before(f.From), !f.To.IsZero() && !e.Time.Before(f.To):
		return false
	case !strings.HasPrefix(e.Kind, f.Kind):
		return false
	case f.Computer != "" && e.ComputerID != f.Computer && !strings.Contains(strings.ToLower(e.Computer), strings.ToLower(f.Computer)):
		return false
	}
	by, named := strings.CutSuffix(strings.ToLower(e.Detail), "by "+strings.ToLower(f.Who))
	return f.Who == "" || strings.EqualFold(e.Account, f.Who) || named && (by == "" || strings.HasSuffix(by, ", "))
}

// Read calls each for every record that f asks for, oldest first, until each gives an error or ctx ends. Lines that are no records are
// left out: they are Verify's business. A change of files meanwhile may leave out the newest records.
func (l *Log) Read(ctx context.Context, f Filter, each func(Entry) error) error {
	files, err := parts(l.dir)
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := readFile(ctx, path, f, each); err != nil {
			return err
		}
	}
	return nil
}

func readFile(ctx context.Context, path string, f Filter, each func(Entry) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, maxLine+1)
	for ctx.Err() == nil {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF): // half a line is being written
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return err
		}
		if e, ok := entry(line[:len(line)-1]); ok && f.fits(&e) {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// entry is the record of a line; false: it is none.
func entry(line []byte) (Entry, bool) {
	r, err := parse(line)
	if err != nil {
		return Entry{}, false
	}
	at, err := time.Parse(time.RFC3339, r.Time)
	return Entry{r.Seq, at, r.Event}, err == nil
}

// block is how much Newest reads at a time, bytes.
const block = 64 << 10

// Newest are the newest max records that f asks for, the newest first. It looks back at the last bytes of the log only, as many as back
// says. A change of files meanwhile may leave out the newest records.
func (l *Log) Newest(ctx context.Context, f Filter, max int, back int64) ([]Entry, error) {
	files, err := parts(l.dir)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, path := range slices.Backward(files) {
		err := readBack(ctx, path, &back, func(line []byte) bool {
			if e, ok := entry(line); ok && f.fits(&e) {
				all = append(all, e)
			}
			return len(all) < max
		})
		if err != nil || len(all) >= max || back <= 0 {
			return all, err
		}
	}
	return all, nil
}

// readBack gives a file's lines, the last one first, until more is false or back bytes are read, which it takes off back.
func readBack(ctx context.Context, path string, back *int64, more func(line []byte) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	at, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var text []byte // from at on, without the lines that are given
	for at > 0 && *back > 0 && ctx.Err() == nil {
		n := min(at, block, *back)
		at, *back = at-n, *back-n
		if len(text) > maxLine { // no record
			text = nil
		}
		text = append(make([]byte, n, n+int64(len(text))), text...)
		if _, err := file.ReadAt(text[:n], at); err != nil {
			return err
		}
		for {
			i := bytes.LastIndexByte(text, '\n')
			if i < 0 && at > 0 {
				break // its beginning is not there yet
			}
			if !more(text[i+1:]) {
				return nil
			}
			if i < 0 {
				break
			}
			text = text[:i]
		}
	}
	return ctx.Err()
}

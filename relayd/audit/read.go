package audit

import (
	"bufio"
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
		r, err := parse(line[:len(line)-1])
		if err != nil {
			continue
		}
		at, err := time.Parse(time.RFC3339, r.Time)
		e := Entry{r.Seq, at, r.Event}
		if err == nil && f.fits(&e) {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Newest are the newest max records that f asks for, the newest first.
func (l *Log) Newest(ctx context.Context, f Filter, max int) ([]Entry, error) {
	var all []Entry
	err := l.Read(ctx, f, func(e Entry) error {
		if len(all) >= 2*max {
			all = append(all[:0], all[len(all)-max:]...)
		}
		all = append(all, e)
		return nil
	})
	all = all[len(all)-min(max, len(all)):]
	slices.Reverse(all)
	return all, err
}

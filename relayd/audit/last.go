package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// lately is how much of the log's end Last reads, bytes: some 4,000 records.
const lately = 1 << 20

// A Past is an event, and when it was recorded.
type Past struct {
	Time time.Time
	Event
}

// Last are the last events that are wanted, the newest first, at most that many. It looks no further back than the last MiB of the
// current file, and does not verify the chain.
func (l *Log) Last(most int, want func(Event) bool) ([]Past, error) {
	l.mu.Lock()
	size := l.size
	l.mu.Unlock()
	f, err := os.Open(filepath.Join(l.dir, current))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the next file is just to come
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	from := size - lately
	text, err := io.ReadAll(io.NewSectionReader(f, max(from, 0), min(size, lately)))
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(text, []byte("\n"))
	if from > 0 {
		lines = lines[1:] // its beginning is not there
	}
	var all []Past
	for _, line := range slices.Backward(lines) {
		r, err := parse(line)
		if err != nil || !want(r.Event) {
			continue
		}
		at, _ := time.Parse(time.RFC3339, r.Time)
		if all = append(all, Past{at, r.Event}); len(all) == most {
			break
		}
	}
	return all, nil
}

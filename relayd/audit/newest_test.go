package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The newest come first, no more than asked for and none that is not wanted, from all files of the log and from no further back than
// said. What is no record is passed over.
func TestNewest(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	defer l.Close()
	write := func(kind, detail string) {
		t.Helper()
		if err := l.Write(t.Context(), Event{Kind: kind, Detail: detail}); err != nil {
			t.Fatal(err)
		}
	}
	newest := func(max int, back int64) (all []string) {
		t.Helper()
		got, err := l.Newest(t.Context(), Filter{Kind: "wanted"}, max, back)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			all = append(all, e.Detail)
			if age := time.Since(e.Time); age > time.Minute || e.Seq == 0 {
				t.Errorf("record %d of %v ago", e.Seq, age)
			}
		}
		return all
	}
	const all = 1 << 40
	if got := newest(3, all); got != nil {
		t.Errorf("of an empty log: %q", got)
	}
	for i := range 5 {
		write("wanted", fmt.Sprint(i))
		write("other", "x")
	}
	if got := fmt.Sprint(newest(3, all), newest(9, all)); got != "[4 3 2] [4 3 2 1 0]" {
		t.Error(got)
	}
	first, err := os.Stat(filepath.Join(dir, current))
	if err != nil {
		t.Fatal(err)
	}
	for l.size < 3*block+block/3 {
		write("other", strings.Repeat("x", maxText))
	}
	if got := fmt.Sprint(newest(1, all), newest(9, l.size-first.Size()), newest(9, l.size)); got != "[4] [] [4 3 2 1 0]" {
		t.Errorf("behind blocks of others: %s", got)
	}
	file, err := os.OpenFile(filepath.Join(dir, current), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(strings.Repeat("z", 2*block) + "\n\nhalf a rec")
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(newest(2, all)); got != "[4 3]" {
		t.Errorf("behind what is no record: %s", got)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Newest(gone, Filter{}, 1, all); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits for it: %v", err)
	}
}

// Whoever reads page by page from the end and whoever reads from the beginning find the same, in several files.
func TestNewestIsRead(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	defer l.Close()
	l.max = 8 << 10
	for i := range 200 {
		if err := l.Write(t.Context(), Event{Kind: "k", Detail: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if files, err := parts(dir); err != nil || len(files) < 3 {
		t.Fatalf("%q, %v", files, err)
	}
	var want []Entry
	if err := l.Read(t.Context(), Filter{}, func(e Entry) error { want = append([]Entry{e}, want...); return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := l.Newest(t.Context(), Filter{}, len(want)+1, 1<<40)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d and %d records, %v", len(got), len(want), err)
	}
}

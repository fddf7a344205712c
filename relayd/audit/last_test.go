package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The newest come first, no more than asked for and none that is not wanted, also from a log that is longer than what is read of it.
func TestLast(t *testing.T) {
	l := openLog(t, newDir(t))
	defer l.Close()
	write := func(kind, detail string) {
		t.Helper()
		if err := l.Write(t.Context(), Event{Kind: kind, Detail: detail}); err != nil {
			t.Fatal(err)
		}
	}
	wanted := func(e Event) bool { return e.Kind == "wanted" }
	last := func() (all []string) {
		t.Helper()
		past, err := l.Last(3, wanted)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range past {
			all = append(all, p.Detail)
			if time.Since(p.Time) > time.Minute || p.Time.IsZero() {
				t.Errorf("recorded at %v", p.Time)
			}
		}
		return all
	}
	if got := last(); got != nil {
		t.Errorf("of an empty log: %q", got)
	}
	for i := range 5 {
		write("wanted", fmt.Sprint(i))
		write("other", "x")
	}
	if got := fmt.Sprint(last()); got != "[4 3 2]" {
		t.Error(got)
	}
	for l.size < 2*lately {
		write("other", strings.Repeat("x", maxText))
	}
	if got := last(); got != nil {
		t.Errorf("from further back than is read: %q", got)
	}
	write("wanted", "now")
	if got := fmt.Sprint(last()); got != "[now]" {
		t.Error(got)
	}
}

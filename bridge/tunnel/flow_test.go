package tunnel

import (
	"bytes"
	"strings"
	"testing"
)

// TestClosedWhileItIsRead: a stream that is closed while its data is on the way to a slow writer neither panics nor
// gives that data's memory to another stream.
func TestClosedWhileItIsRead(t *testing.T) {
	for _, behind := range []string{"", "more", strings.Repeat("more", largeChunk)} {
		f := newFlow(1)
		put := func(f *flow, s string) {
			if err := f.fill(strings.NewReader(s), len(s)); err != nil {
				t.Fatal(err)
			}
		}
		put(f, "a secret of one")
		b, err := f.look()
		if err != nil || string(b) != "a secret of one" {
			t.Fatalf("%q, %v", b, err)
		}
		if behind != "" {
			put(f, behind)
		}
		f.deafen()
		for range 100 {
			put(newFlow(2), "SOMEBODY ELSE'S")
		}
		if !bytes.HasPrefix(b, []byte("a secret of one")) {
			t.Errorf("%d bytes behind: what is being read became %q", len(behind), b)
		}
		f.took(len(b))
		if f.in != nil || f.last != nil {
			t.Errorf("%d bytes behind: something is left", len(behind))
		}
	}
}

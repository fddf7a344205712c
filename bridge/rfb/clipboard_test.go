package rfb_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// clip is a message of the clipboard extension as a viewer sends it.
func clip(flags uint32, data string) string {
	return "\x06\x00\x00\x00" + u32(-4-len(data)) + u32(int(flags)) + data
}

// letter is what a ClipProvide carries; the standard library packs it.
func letter(s string) string { return packed(u32(len(s)) + s) }

func packed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func TestClipboardMessages(t *testing.T) {
	const actions = rfb.ClipRequest | rfb.ClipPeek | rfb.ClipNotify | rfb.ClipProvide
	long := strings.Repeat("x", rfb.MaxCutText)
	for _, c := range []struct{ name, in, want, err string }{
		{name: "caps of TigerVNC", in: clip(rfb.ClipCaps|actions|7, u32(20<<20, 0, 0)), want: `clipboard 1000000 7 1e000000 0 ""`},
		{name: "caps with too few sizes", in: clip(rfb.ClipCaps|actions|7, u32(0, 0)), err: "malformed"},
		{name: "no flags", in: "\x06\x00\x00\x00" + u32(-3) + "abc", err: "malformed"},
		{name: "notify", in: clip(rfb.ClipNotify|rfb.ClipText, ""), want: `clipboard 8000000 1 0 0 ""`},
		{name: "notify of nothing", in: clip(rfb.ClipNotify, ""), want: `clipboard 8000000 0 0 0 ""`},
		{name: "request", in: clip(rfb.ClipRequest|rfb.ClipText, ""), want: `clipboard 2000000 1 0 0 ""`},
		{name: "peek", in: clip(rfb.ClipPeek, ""), want: `clipboard 4000000 0 0 0 ""`},
		{name: "no action", in: clip(rfb.ClipText, ""), err: "malformed"},
		{name: "two actions", in: clip(rfb.ClipRequest|rfb.ClipPeek|rfb.ClipText, ""), err: "malformed"},
		{name: "text", in: clip(rfb.ClipProvide|rfb.ClipText, letter("a\r\nb\x00")), want: `clipboard 10000000 1 0 3 "a\nb"`},
		{name: "text without NUL", in: clip(rfb.ClipProvide|rfb.ClipText, letter("ab")), want: `clipboard 10000000 1 0 2 "ab"`},
		{name: "text behind NUL", in: clip(rfb.ClipProvide|rfb.ClipText, letter("a\x00b")), want: `clipboard 10000000 1 0 1 "a"`},
		{name: "text and HTML", in: clip(rfb.ClipProvide|rfb.ClipText|4, packed(u32(2)+"a\x00"+u32(4)+"<p>\x00")), want: `clipboard 10000000 5 0 1 "a"`},
		{name: "HTML", in: clip(rfb.ClipProvide|4, packed(u32(4)+"<p>\x00")), want: `clipboard 10000000 4 0 0 ""`},
		{name: "text, limit - 1", in: clip(rfb.ClipProvide|rfb.ClipText, letter(long[1:])), want: `clipboard 10000000 1 0 262143 "xxxxxxxxx"`},
		{name: "text, limit", in: clip(rfb.ClipProvide|rfb.ClipText, letter(long)), want: `clipboard 10000000 1 0 262144 "xxxxxxxxx"`},
		{name: "text, limit + 1", in: clip(rfb.ClipProvide|rfb.ClipText, letter(long+"x")), want: `clipboard 10000000 1 0 0 ""`},
		{name: "text of 4 GiB that is not there", in: clip(rfb.ClipProvide|rfb.ClipText, packed("\xff\xff\xff\xff")), want: `clipboard 10000000 1 0 0 ""`},
		{name: "text ends early", in: clip(rfb.ClipProvide|rfb.ClipText, packed(u32(5)+"abcd")), err: "malformed"},
		{name: "size ends early", in: clip(rfb.ClipProvide|rfb.ClipText, packed("\x00\x00\x00")), err: "malformed"},
		{name: "no zlib", in: clip(rfb.ClipProvide|rfb.ClipText, "abcdefgh"), err: "malformed"},
		{name: "nothing", in: clip(rfb.ClipProvide|rfb.ClipText, ""), err: "malformed"},
	} {
		var d diary
		r := rfb.NewReader(strings.NewReader(c.in + "\x0d"))
		r.Allow(rfb.AllowClipboard)
		err := readAll(r, &d)
		if c.err == "" && err != io.EOF || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, not %q", c.name, err, c.err)
		}
		if c.want != "" && !slices.Equal(d.lines, []string{c.want}) || c.want == "" && len(d.lines) > 0 {
			t.Errorf("%s: read %q, not %q", c.name, d.lines, c.want)
		}
	}
}

// What the server writes is what the extension says, byte for byte where it is not compressed.
func TestAppendClipboard(t *testing.T) {
	head := func(n int) string { return "\x03\x00\x00\x00" + u32(-n) }
	if got := string(rfb.AppendClipboardCaps(nil)); got != head(8)+"\x1f\x00\x00\x01\x00\x00\x00\x00" {
		t.Errorf("caps: %x", got)
	}
	if got := string(rfb.AppendClipboard(nil, rfb.ClipNotify, rfb.ClipText)); got != head(4)+"\x08\x00\x00\x01" {
		t.Errorf("notify: %x", got)
	}
	b := rfb.AppendClipboardText([]byte("before"), []byte("ÄΩ€\n中😀"))
	if got := string(b[:14]); got != "before"+head(len(b)-14) || string(b[14:18]) != "\x10\x00\x00\x01" {
		t.Fatalf("provide: %x", b)
	}
	z, err := zlib.NewReader(bytes.NewReader(b[18:]))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if want := "ÄΩ€\r\n中😀\x00"; err != nil || binary.BigEndian.Uint32(all) != uint32(len(want)) || string(all[4:]) != want {
		t.Errorf("%q, %v", all, err)
	}
}

func TestLatin1(t *testing.T) {
	if got := rfb.Latin1("aÄÿΩ😀\n"); string(got) != "a\xc4\xff??\n" {
		t.Errorf("%q", got)
	}
	if got := rfb.FromLatin1([]byte("a\xc4\xff\n")); string(got) != "aÄÿ\n" {
		t.Errorf("%q", got)
	}
}

// A clipboard message survives the round trip from a provide of ours to the reader.
func FuzzClipboard(f *testing.F) {
	f.Add([]byte("ÄΩ€中😀\nand\n\nmore"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.ContainsAny(in, "\r\x00") || len(in) > rfb.MaxCutText/2-1 {
			return
		}
		b := rfb.AppendClipboardText(nil, in)
		b[0] = 6 // as a viewer would send it
		if len(b)-8 > rfb.MaxClipboard {
			return
		}
		var got clipHandler
		r := rfb.NewReader(bytes.NewReader(b))
		r.Allow(rfb.AllowClipboard)
		if err := r.Next(&got); err != nil || !bytes.Equal(got.text, in) || got.Action != rfb.ClipProvide {
			t.Fatalf("%q, %v", got.text, err)
		}
	})
}

type clipHandler struct {
	quiet
	rfb.ClipMessage
	text []byte
}

func (h *clipHandler) Clipboard(m rfb.ClipMessage) error {
	h.ClipMessage, h.text = m, bytes.Clone(m.Text)
	return nil
}

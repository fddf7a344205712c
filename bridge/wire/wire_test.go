package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReaderCountsInThrees(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     string
		err      string
	}{
		{name: "one below the limit", in: "\x02ab", want: "ab"},
		{name: "at the limit", in: "\x03abc", want: "abc"},
		{name: "one above", in: "\x04abcd", err: "4 bytes of name, more than 3"},
		{name: "empty", in: "\x00", want: ""},
		{name: "ends inside", in: "\x03ab", err: "unexpected EOF"},
		{name: "ends before", in: "", err: "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(strings.NewReader(c.in))
			got := r.String8("name", 3)
			if err := r.Err(); got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

func TestReaderKeepsItsFirstError(t *testing.T) {
	r := NewReader(strings.NewReader("\x00\x05xxxxxxxx"))
	if n := r.Count16("things", 4); n != 0 {
		t.Fatal(n)
	}
	first := r.Err()
	if r.U32() != 0 || r.String8("x", 9) != "" || r.Bytes32("y", 9) != nil {
		t.Fatal("read on after an error")
	}
	r.Fail(errors.New("later"))
	if r.Err() != first || !strings.Contains(first.Error(), "5 things, more than 4") {
		t.Fatal(r.Err())
	}
}

func TestReaderTellsAnEndBetweenMessagesFromOneInside(t *testing.T) {
	r := NewReader(strings.NewReader("\x01\x02"))
	if r.U16() != 0x102 {
		t.Fatal(r.Err())
	}
	r.Begin()
	if r.U8(); r.Err() != io.EOF {
		t.Fatal(r.Err())
	}
	r = NewReader(strings.NewReader("\x01"))
	if r.Skip(2); r.Err() != io.ErrUnexpectedEOF {
		t.Fatal(r.Err())
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x03abc\x00\x02xy\x00\x00\x00\x01z"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(strings.NewReader(string(in)))
		a, b, c := r.String8("a", 40), r.Bytes16("b", 300), r.Bytes32("c", 1000)
		if r.Err() != nil {
			return
		}
		again := AppendString32(AppendBytes16(AppendString8(nil, a), b), string(c))
		if string(again) != string(in[:len(again)]) {
			t.Fatalf("wrote %q from %q", again, in)
		}
	})
}

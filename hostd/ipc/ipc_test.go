package ipc

import (
	"bytes"
	"errors"
	"image"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/frame"
)

func joined(t *testing.T) (a, b *Conn) {
	t.Helper()
	fa, fb, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = FileConn(fa); err != nil {
		t.Fatal(err)
	}
	if b, err = FileConn(fb); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestConn(t *testing.T) {
	a, b := joined(t)
	buf := make([]byte, MaxMessage)
	if uid, err := a.PeerUID(); err != nil || int(uid) != os.Geteuid() {
		t.Fatal(uid, err)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := a.Send(TypeDesktop, Desktop{Number: 7, Size: image.Pt(3, 2)}, w, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p, files, err := b.Receive(buf)
	if err != nil || Type(p[0]) != TypeDesktop || len(files) != 2 {
		t.Fatalf("%q, %d files, %v", p, len(files), err)
	}
	if d, err := Decode[Desktop](p); err != nil || d.Number != 7 || d.Size != image.Pt(3, 2) {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := files[1].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	CloseFiles(files)
	if got, _ := io.ReadAll(r); string(got) != "through" {
		t.Fatalf("%q", got)
	}

	if err := a.SendPacket(make([]byte, MaxMessage+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatal(err)
	}
	if err := a.SendPacket(bytes.Repeat([]byte{9}, MaxMessage)); err != nil {
		t.Fatal(err)
	}
	if p, _, err := b.Receive(buf); err != nil || len(p) != MaxMessage {
		t.Fatal(len(p), err)
	}
	if err := a.SendPacket([]byte("four")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Receive(buf[:3]); !errors.Is(err, ErrMalformed) {
		t.Fatalf("a packet that was cut: %v", err)
	}
	a.Close()
	if _, _, err := b.Receive(buf); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestTooManyFiles is that descriptors beyond the limit do not stay open in silence.
func TestTooManyFiles(t *testing.T) {
	a, b := joined(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	many := make([]*os.File, 40)
	for i := range many {
		many[i] = null
	}
	before := openFiles(t)
	if err := a.Send(TypeReload, nil, many...); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Receive(make([]byte, MaxMessage)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("%d files were taken: %v", len(many), err)
	}
	if after := openFiles(t); after != before {
		t.Fatalf("%d files are open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestFrame(t *testing.T) {
	m := Frame{Sequence: 1 << 31, Captured: 99, Copies: []frame.Copy{{From: image.Pt(1, 2), To: image.Rect(3, 4, 5, 6)}},
		Rects: []image.Rectangle{image.Rect(0, 0, 64, 48), image.Rect(1, 1, 2, 2)}}
	p := m.AppendTo(nil)
	var got Frame
	if err := got.Parse(p, image.Pt(64, 48)); err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, p := range map[string][]byte{
		"one byte short": p[:len(p)-1],
		"one byte more":  append(bytes.Clone(p), 0),
		"another type":   append([]byte{1}, p[1:]...),
		"nothing":        nil,
	} {
		if err := got.Parse(p, image.Pt(64, 48)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := got.Parse(p, image.Pt(63, 48)); !errors.Is(err, ErrMalformed) {
		t.Error("a rectangle outside was taken")
	}
	far := Frame{Copies: []frame.Copy{{From: image.Pt(63, 47), To: image.Rect(0, 0, 2, 2)}}}
	if err := got.Parse(far.AppendTo(nil), image.Pt(64, 48)); !errors.Is(err, ErrMalformed) {
		t.Error("a copy from outside was taken")
	}
}

// A text of the longest length fits a packet, and a longer one is refused.
func TestClip(t *testing.T) {
	a, b := joined(t)
	text := bytes.Repeat([]byte("x"), MaxClip)
	if err := a.SendPacket(Clip{Session: 1, Epoch: 2, Text: text}.AppendTo(nil, TypeCopy)); err != nil {
		t.Fatal(err)
	}
	p, _, err := b.Receive(make([]byte, MaxMessage))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := ParseClip(p); err != nil || c.Session != 1 || c.Epoch != 2 || !bytes.Equal(c.Text, text) {
		t.Fatal(c.Session, c.Epoch, len(c.Text), err)
	}
	if _, err := ParseClip(append(p, 'x')); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
}

// A pointer's largest shape fits a packet whole.
func TestLargestCursor(t *testing.T) {
	c := frame.Cursor{Size: image.Pt(frame.MaxCursorSide, frame.MaxCursorSide), Pix: make([]byte, frame.MaxCursorSide*frame.MaxCursorSide*frame.BytesPerPixel)}
	p := AppendCursor(nil, &c)
	if got, err := ParseCursor(p); err != nil || got.Size != c.Size || len(p) > MaxMessage {
		t.Fatal(got.Size, len(p), err)
	}
}

// FuzzPackets takes any packet apart in every way. What is accepted survives a round trip.
func FuzzPackets(f *testing.F) {
	f.Add(Input{Session: 1, Epoch: 2, Kind: InputKey, A: 3, B: 1}.AppendTo(nil))
	f.Add(Grab{Full: true}.AppendTo(nil))
	f.Add(Clip{Session: 1, Epoch: 2, Text: []byte("ÄΩ€中😀")}.AppendTo(nil, TypePaste))
	f.Add(Pointer{3, 4}.AppendTo(nil))
	f.Add((&Frame{Rects: []image.Rectangle{image.Rect(0, 0, 3, 3)}}).AppendTo(nil))
	f.Add(AppendCursor(nil, &frame.Cursor{Size: image.Pt(1, 1), Pix: make([]byte, 4)}))
	f.Add((&Layout{Number: 3, Result: ResizeInvalid, Screens: []frame.Screen{{ID: 1, Rect: image.Rect(0, 0, 3, 3)}}}).AppendTo(nil))
	f.Add(append([]byte{byte(TypeLogin)}, `{"ID":1,"Secret":"c2VjcmV0"}`...))
	f.Fuzz(func(t *testing.T, p []byte) {
		if m, err := ParseInput(p); err == nil && !bytes.Equal(m.AppendTo(nil), p) {
			t.Errorf("input %x", p)
		}
		if m, err := ParseClip(p); err == nil && !bytes.Equal(m.AppendTo(nil, Type(p[0])), p) {
			t.Errorf("text %x", p)
		}
		if m, err := ParsePointer(p); err == nil && !bytes.Equal(m.AppendTo(nil), p) {
			t.Errorf("pointer %x", p)
		}
		if m, err := ParseLayout(p, image.Pt(640, 480)); err == nil {
			if again, err := ParseLayout(m.AppendTo(nil), image.Pt(640, 480)); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("layout %x", p)
			}
		}
		if m, err := ParseGrab(p); err == nil && m.Full != (p[1] != 0) {
			t.Errorf("grab %x", p)
		}
		if c, err := ParseCursor(p); err == nil && !bytes.Equal(AppendCursor(nil, &c), p) {
			t.Errorf("cursor %x", p)
		}
		var m Frame
		if m.Parse(p, image.Pt(640, 480)) == nil && len(m.Rects)+len(m.Copies) > MaxRects {
			t.Errorf("frame %x", p)
		}
		if len(p) > 0 {
			Decode[Login](p)
			Decode[Ready](p)
			Decode[Open](p)
			Decode[Resize](p)
		}
	})
}

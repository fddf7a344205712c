package record

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func newKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// seal seals texts, each as a piece.
func seal(t testing.TB, key *ecdh.PrivateKey, texts ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Seal(&out, key.PublicKey())
	for _, text := range texts {
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			err = w.Flush()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unseal(b []byte, key *ecdh.PrivateKey) (string, error) {
	r, size, err := Unseal(bytes.NewReader(b), int64(len(b)), key)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	return string(text), err
}

// Only its key opens a recording, and nothing of it stands in the file. Without its end it opens up to there; otherwise changed it does not.
func TestSealed(t *testing.T) {
	key := newKey(t)
	texts := []string{"first ", strings.Repeat("second ", 1000), "third ", "fourth"}
	whole := seal(t, key, texts...)
	if !Sealed(bytes.NewReader(whole)) || bytes.Contains(whole, []byte("second")) {
		t.Error("it is not sealed")
	}
	begin := func(piece int) int { return sealedHead + len(strings.Join(texts[:piece], "")) + piece*pieceMore }
	flip := func(at int) []byte { b := bytes.Clone(whole); b[at] ^= 1; return b }
	cut := func(from, to int) []byte { return append(bytes.Clone(whole[:from]), whole[to:]...) }
	for _, tt := range []struct {
		name, want, err string
		in              []byte
		key             *ecdh.PrivateKey
	}{
		{name: "whole", in: whole, want: strings.Join(texts, "")},
		{name: "another key", in: whole, key: newKey(t), err: ErrKey.Error()},
		{name: "head only", in: whole[:sealedHead]},
		{name: "half a head", in: whole[:sealedHead-1], err: "unexpected EOF"},
		{name: "without the last byte", in: whole[:len(whole)-1], want: strings.Join(texts[:3], "")},
		{name: "without the last piece", in: whole[:begin(3)], want: strings.Join(texts[:3], "")},
		{name: "with half a length", in: whole[:begin(3)+3], want: strings.Join(texts[:3], "")},
		{name: "without the second piece", in: cut(begin(1), begin(2)), err: "piece 1 was changed"},
		{name: "without the first piece", in: cut(begin(0), begin(1)), err: ErrKey.Error()},
		{name: "a bit of the key", in: flip(sealedHead - 1), err: ErrKey.Error()},
		{name: "a bit of the third piece", in: flip(begin(2) + 9), err: "piece 2 was changed"},
		{name: "a piece too long", in: flip(begin(1)), err: "not 1 to 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.key == nil {
				tt.key = key
			}
			got, err := unseal(tt.in, tt.key)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("%.20q, %v; want %s", got, err, tt.err)
				}
			} else if got != tt.want || err != nil {
				t.Fatalf("%d bytes, %v; want %d", len(got), err, len(tt.want))
			}
		})
	}
	r, size, err := Unseal(bytes.NewReader(whole), int64(len(whole)), key)
	if err == nil {
		err = iotest.TestReader(io.NewSectionReader(r, 0, size), []byte(strings.Join(texts, "")))
	}
	if err != nil {
		t.Error(err)
	}
}

// What is written in small parts is sealed in few pieces, and up to the last one that is full without Flush.
func TestSealedGathers(t *testing.T) {
	key := newKey(t)
	for _, n := range []int{pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize} {
		var out bytes.Buffer
		w, err := Seal(&out, key.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if _, err := w.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := unseal(out.Bytes(), key); len(text) != n-n%pieceSize || err != nil {
			t.Errorf("%d bytes: %d before Flush, %v", n, len(text), err)
		}
		for range 2 { // the second has nothing to do
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		pieces := (n + pieceSize - 1) / pieceSize
		text, err := unseal(out.Bytes(), key)
		if len(text) != n || err != nil || out.Len() != sealedHead+n+pieces*pieceMore {
			t.Errorf("%d bytes: %d in a file of %d, %v", n, len(text), out.Len(), err)
		}
	}
}

// A sealed recording is played as one that is not.
func TestSealedPlays(t *testing.T) {
	plain := write(t, work())
	key := newKey(t)
	b := seal(t, key, string(plain[:100]), string(plain[100:101]), string(plain[101:]))
	r, size, err := Unseal(bytes.NewReader(b), int64(len(b)), key)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(r, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, want := f.NewPlayer(), openAll(t, plain, nil).NewPlayer()
	for _, quarter := range []time.Duration{4, 0, 3, 2, 1} {
		p.Seek(f.Duration * quarter / 4)
		want.Seek(f.Duration * quarter / 4)
		if !bytes.Equal(p.Picture().Pix, want.Picture().Pix) {
			t.Errorf("another picture at %d/4", quarter)
		}
	}
}

// Whatever a sealed file holds, opening it does not crash.
func FuzzUnseal(f *testing.F) {
	key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(sealedMagic))
	whole := seal(f, key, "first", "second")
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Fuzz(func(t *testing.T, in []byte) {
		if text, err := unseal(in, key); err == nil && len(text) > len(in) {
			t.Fatalf("%d bytes of %d", len(text), len(in))
		}
	})
}

package main

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"flag"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/conf"
)

// makeKey runs record-key, and gives the public key by the settings that it prints.
func makeKey(t *testing.T, path string) string {
	t.Helper()
	var out bytes.Buffer
	if err := makeRecordKey(flag.NewFlagSet("", 0))(&call{Context: context.Background(), args: []string{path}, stdout: &out}); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(t.TempDir(), "hostd.toml")
	if err := os.WriteFile(settings, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := conf.LoadHost(settings)
	if err != nil {
		t.Fatal(err)
	}
	return string(c.Policy.PublicRecordKey())
}

// What record-key prints is a setting of hostd, and what is sealed for it opens with the file that it wrote, and with no other.
func TestRecordKey(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	public := makeKey(t, path("key.pem"))
	makeKey(t, path("other.pem"))
	key, err := readRecordKey(path("key.pem"))
	if err != nil || string(key.PublicKey().Bytes()) != public {
		t.Fatalf("the file has another key than was printed: %v", err)
	}
	for _, name := range []string{"plain.fbs", "sealed.fbs"} {
		file, err := os.Create(path(name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "sealed.fbs" {
			out, err := record.Seal(file, key.PublicKey())
			if err == nil {
				_, err = record.NewWriter(out, image.Pt(64, 48), "desk")
			}
			if err == nil {
				err = out.Flush()
			}
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err := record.NewWriter(file, image.Pt(64, 48), "desk"); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	for _, tt := range []struct{ file, key, err string }{
		{"plain.fbs", "", ""},
		{"plain.fbs", "key.pem", ""},
		{"sealed.fbs", "key.pem", ""},
		{"sealed.fbs", "", "the recording is sealed; name the file of its private key"},
		{"sealed.fbs", "other.pem", "other.pem: the recording does not open with this key"},
		{"sealed.fbs", "plain.fbs", "plain.fbs: this is no private key in PEM"},
		{"sealed.fbs", "missing.pem", "missing.pem: no such file"},
		{"key.pem", "", "this is no recording"},
	} {
		file, err := os.Open(path(tt.file))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if tt.key != "" {
			tt.key = path(tt.key)
		}
		f, err := openRecording(file, tt.key)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s with %q: %v, want %s", tt.file, tt.key, err, tt.err)
			}
		case err != nil || f.Name != "desk":
			t.Errorf("%s with %q: %v", tt.file, tt.key, err)
		}
	}
	if err := makeRecordKey(flag.NewFlagSet("", 0))(&call{args: []string{path("key.pem")}}); err == nil {
		t.Error("a key is written over another")
	}
}

// The index of a sealed recording is sealed, too. One that does not open, or is none, says nothing.
func TestReadIndex(t *testing.T) {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{byte(7 + i)}, 32)); err != nil {
			t.Fatal(err)
		}
	}
	plain := record.Key{Offset: 100, Whole: time.Second}.AppendTo(record.IndexHead())
	var sealed bytes.Buffer
	w, err := record.Seal(&sealed, keys[0].PublicKey())
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		key  *ecdh.PrivateKey
		want int
	}{
		{"in clear", plain, nil, 1},
		{"sealed", sealed.Bytes(), keys[0], 1},
		{"sealed for another key", sealed.Bytes(), keys[1], 0},
		{"in clear beside a sealed recording", plain, keys[0], 0},
		{"sealed beside a recording in clear", sealed.Bytes(), nil, 0},
		{"empty", nil, keys[0], 0},
	} {
		path := filepath.Join(t.TempDir(), "index")
		if err := os.WriteFile(path, tt.in, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if got := readIndex(file, tt.key); len(got) != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

package main

import (
	"testing"

	"github.com/helmline/helmline/hostd/desktop"
)

// What is printed is of what is there, and printing makes nothing.
func TestFingerprints(t *testing.T) {
	dir := t.TempDir()
	if f, err := fingerprints(dir); err != nil || f != (Fingerprints{}) {
		t.Fatalf("of nothing: %+v, %v", f, err)
	}
	key, err := desktop.RSAKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := desktop.Certificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Fingerprints{RSA: key.Fingerprint(), Certificate: desktop.Fingerprint(cert)}
	if f, err := fingerprints(dir); err != nil || f != want {
		t.Errorf("%+v, %v, not %+v", f, err, want)
	}
}

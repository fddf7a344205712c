package main

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/hostd/desktop"
	"github.com/helmline/helmline/hostd/part"
)

// The commands that the status advises are for the computer that it is of.
func TestStatusAdvises(t *testing.T) {
	for file, more := range map[string]string{"": "", "other.toml": " --config other.toml"} {
		fs := flag.NewFlagSet("", flag.PanicOnError)
		fs.String("config", file, "")
		var out strings.Builder
		printStatus(&out, &part.Status{Locked: []time.Time{time.Now()}}, fs.Lookup("config").Value)
		for _, want := range []string{"set an access code: hostd code set" + more + "\n", `"hostd unlock` + more + `" ends it`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("of %q: no %q in\n%s", file, want, out.String())
			}
		}
	}
}

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
	want := Fingerprints{RSA: key.Fingerprint(), Certificate: desktop.Fingerprint(cert), Pin: desktop.Pin(cert)}
	if f, err := fingerprints(dir); err != nil || f != want {
		t.Errorf("%+v, %v, not %+v", f, err, want)
	}
}

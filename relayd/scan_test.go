package main

import (
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/rfb"
)

// Names that ssh-audit of Debian 12 is too old to know; nothing is wrong with them.
var tooNew = []string{"mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com"}

func TestSSHDoorHasNoWeakAlgorithm(t *testing.T) {
	r := startRelay(t)
	host, port, _ := net.SplitHostPort(r.ports["ssh"])
	out, err := exec.CommandContext(minute(t), "ssh-audit", "-n", "-p", port, host).CombinedOutput()
	if len(out) == 0 {
		t.Fatalf("ssh-audit: %v", err)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		algorithm := regexp.MustCompile(`^\((kex|key|enc|mac)\) (\S+)`).FindStringSubmatch(line)
		if algorithm == nil {
			continue
		}
		found++
		known := algorithm[2] == tooNew[0] || algorithm[2] == tooNew[1]
		if strings.Contains(line, "[fail]") || strings.Contains(line, "[warn]") && !known {
			t.Error(strings.TrimSpace(line))
		}
	}
	if found < 8 {
		t.Errorf("ssh-audit names %d algorithms:\n%s", found, out)
	}
}

func TestTLSDoorsHaveNoWeakCipher(t *testing.T) {
	r := startRelay(t)
	for _, c := range []struct {
		door    string
		subtype uint32
	}{{"rfb", rfb.X509Plain}, {"rfb_code", rfb.X509Vnc}} {
		t.Run(c.door, func(t *testing.T) {
			address := r.behindVeNCrypt(r.ports[c.door], c.subtype)
			out, err := exec.CommandContext(minute(t), "sslscan", "--no-colour", "--no-heartbleed", address).CombinedOutput()
			if err != nil {
				t.Fatalf("sslscan: %v\n%s", err, out)
			}
			text := string(out)
			for _, want := range []string{"SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled", "TLSv1.3   enabled"} {
				if !strings.Contains(text, want) {
					t.Errorf("not: %s", want)
				}
			}
			ciphers := regexp.MustCompile(`(?m)^(?:Preferred|Accepted)\s+TLSv1\.\d\s+\d+ bits\s+(\S+)`).FindAllStringSubmatch(text, -1)
			if len(ciphers) < 5 {
				t.Errorf("%d ciphers", len(ciphers))
			}
			for _, m := range ciphers {
				if !strings.Contains(m[1], "GCM") && !strings.Contains(m[1], "CHACHA20") {
					t.Errorf("the cipher %s", m[1])
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// behindVeNCrypt is a port at which TLS begins at once: what comes before it, it does with the door.
func (r *relay) behindVeNCrypt(door string, subtype uint32) string {
	t := r.t
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				d, err := net.Dial("tcp", door)
				if err != nil {
					t.Error(err)
					return
				}
				defer d.Close()
				types := 1
				if door == r.ports["rfb_code"] {
					types = 2 // VncAuth in clear, on loopback
				}
				for _, step := range []struct {
					read int
					send []byte
				}{{12, []byte("RFB 003.008\n")}, {1 + types, []byte{19}}, {2, []byte{0, 2}}, {6, binary.BigEndian.AppendUint32(nil, subtype)}, {1, nil}} {
					if _, err := io.ReadFull(d, make([]byte, step.read)); err != nil {
						t.Errorf("before TLS: %v", err)
						return
					}
					if _, err := d.Write(step.send); err != nil {
						t.Errorf("before TLS: %v", err)
						return
					}
				}
				go func() {
					_, _ = io.Copy(d, c)
					d.Close()
				}()
				_, _ = io.Copy(c, d)
			}()
		}
	}()
	return l.Addr().String()
}

package gate

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/ssh"
)

// kexInit is a KEXINIT packet that offers these key exchanges.
func kexInit(names string) string {
	payload := append([]byte{20}, make([]byte, 16)...)
	payload = append(binary.BigEndian.AppendUint32(payload, uint32(len(names))), names...)
	payload = append(payload, make([]byte, 64)...)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1+4))
	return string(append(append(append(b, 4), payload...), 0, 0, 0, 0))
}

func TestStrictKeyExchange(t *testing.T) {
	const v = "SSH-2.0-Test\r\n"
	for _, c := range []struct{ name, in, err string }{
		{name: "strict, last", in: v + kexInit("curve25519-sha256,"+strictClient)},
		{name: "strict, alone", in: v + kexInit(strictClient)},
		{name: "line before the version", in: "hello\r\n" + v + kexInit(strictClient)},
		{name: "Terrapin", in: v + kexInit("curve25519-sha256,ext-info-c"), err: "CVE-2023-48795"},
		{name: "part of a name", in: v + kexInit("x"+strictClient+"x"), err: "CVE-2023-48795"},
		{name: "the server's name", in: v + kexInit("kex-strict-s-v00@openssh.com"), err: "CVE-2023-48795"},
		{name: "no SSH", in: "GET / HTTP/1.1\r\nHost: relay\r\n" + strings.Repeat("x", 300), err: "not SSH"},
		{name: "one byte over and over", in: strings.Repeat("S", 300), err: "not SSH"},
		{name: "a version that never ends", in: "SSH-2.0-" + strings.Repeat("x", 300), err: "not SSH"},
		{name: "another message first", in: v + "\x00\x00\x00\x0c\x0a\x05\x00\x00\x00\x00" + strings.Repeat("\x00", 40), err: "not KEXINIT"},
		{name: "list of 4 GiB", in: v + "\x00\x00\x00\xff\x04\x14" + strings.Repeat("\x00", 16) + "\xff\xff\xff\xff", err: "longer than 8 KiB"},
	} {
		for _, split := range []struct {
			name string
			r    io.Reader
		}{{"at once", strings.NewReader(c.in)}, {"byte by byte", iotest.OneByteReader(strings.NewReader(c.in))}} {
			t.Run(c.name+", "+split.name, func(t *testing.T) {
				conn := newStrictConn(fakeConn{r: split.r})
				close(conn.began)
				got, err := io.ReadAll(conn)
				if c.err == "" && (err != nil || string(got) != c.in) {
					t.Errorf("%d of %d bytes, %v", len(got), len(c.in), err)
				}
				if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			})
		}
	}
}

func TestWeakClientIsToldWhy(t *testing.T) {
	c, s := net.Pipe()
	defer c.Close()
	go ssh.NewServerConn(newStrictConn(s), (&Gate{HostKey: newKey(t)}).config(&visit{}))
	told := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(c)
		told <- string(b)
	}()
	if _, err := io.WriteString(c, "SSH-2.0-OpenSSH_9.5\r\n"+kexInit("curve25519-sha256")); err != nil {
		t.Fatal(err)
	}
	got := <-told
	end := strings.Index(got, errNotStrict.Error())
	if end < 0 || !strings.Contains(got[:end], "\x01\x00\x00\x00\x03") {
		t.Errorf("the client is told %q", got)
	}
	if !strings.Contains(got[:max(end, 0)], "kex-strict-s-v00@openssh.com") {
		t.Errorf("the end comes before the server's KEXINIT: %q", got)
	}
	if b := disconnect("x"); len(b)%8 != 0 || b[4] < 4 || int(binary.BigEndian.Uint32(b)) != len(b)-4 {
		t.Errorf("a packet of %d bytes, %d of them padding", len(b), b[4])
	}
}

func FuzzKexNames(f *testing.F) {
	f.Add([]byte("SSH-2.0-Test\r\n" + kexInit(strictClient)))
	f.Add([]byte("a\nSSH-"))
	f.Fuzz(func(t *testing.T, in []byte) {
		names, ok, err := kexNames(in)
		if ok && (err != nil || !bytes.Contains(in, []byte(names))) {
			t.Fatalf("%q: %q, %v", in, names, err)
		}
		if !ok && err == nil && len(in) > maxVersion+maxKexNames+64 {
			t.Fatalf("%d bytes and still no answer", len(in))
		}
		// What is known of a beginning does not change with what follows.
		for n := range in {
			before, was, berr := kexNames(in[:n])
			if was && before != names || berr != nil && err == nil {
				t.Fatalf("%q, then %q; %v, then %v", before, names, berr, err)
			}
		}
	})
}

// fakeConn is a connection that only reads.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Write(p []byte) (int, error) { return len(p), nil }

func (c fakeConn) Read(p []byte) (int, error) { return c.r.Read(p) }

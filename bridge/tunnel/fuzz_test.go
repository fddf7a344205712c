package tunnel

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

func TestReadHeader(t *testing.T) {
	whole := Header{Purpose: RFB, Role: RoleTake, Minor: 8, Session: "s", Account: "a@b", Viewer: "v", Code: "23456789"}
	b := whole.AppendTo(nil)
	noCode := whole
	noCode.Code = ""
	earlier := noCode.AppendTo(nil)
	earlier = earlier[:len(earlier)-1]
	earlier[1]--
	later := append(bytes.Clone(b), "what a later version says"...)
	later[1] += byte(len(later) - len(b))
	for _, c := range []struct {
		name, in, err string
		want          Header
	}{
		{name: "all fields", in: string(b), want: whole},
		{name: "a later version's", in: string(later), want: whole},
		{name: "an earlier version's", in: string(earlier), want: noCode},
		{name: "longest", in: string(longest().AppendTo(nil)), want: longest()},
		{name: "nothing", err: "EOF"},
		{name: "ends inside the length", in: "\x00", err: "unexpected EOF"},
		{name: "ends inside", in: string(b[:len(b)-1]), err: "unexpected EOF"},
		{name: "too short", in: "\x00\x02\x01\x02", err: "unexpected EOF"},
		{name: "too long", in: "\x04\x01", err: "1025 bytes of stream header, more than 1024"},
		{name: "version", in: "\x00\x01\x02", err: "version 2, not 1"},
		{name: "role", in: strings.Replace(string(b), "\x01\x03\x08", "\x01\x04\x08", 1), err: "role 4 is none of control, watch, take"},
		{name: "long session", in: "\x00\x05\x01\x02\x03\x08\x41", err: "65 bytes of session, more than 64"},
		{name: "long code", in: strings.Replace(string(b), "\x0823456789", "\x09234567890", 1), err: "9 bytes of code, more than 8"},
		{name: "line break", in: strings.Replace(string(b), "a@b", "a\nb", 1), err: "account holds characters that cannot be shown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadHeader(iotest.OneByteReader(strings.NewReader(c.in)))
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("%v, %v", got, err)
			}
		})
	}
}

func longest() Header {
	return Header{
		Purpose: 255, Role: RoleWatch, Minor: 255,
		Session: strings.Repeat("s", MaxSession), Account: strings.Repeat("a", MaxAccount), Viewer: strings.Repeat("v", MaxViewer),
		Code: strings.Repeat("c", MaxCode),
	}
}

func TestHeaderCutsWhatIsTooLong(t *testing.T) {
	h := Header{Session: strings.Repeat("s", 65), Account: strings.Repeat("ä", 200), Viewer: "a\nb"}
	got, err := ReadHeader(bytes.NewReader(h.AppendTo(nil)))
	if err != nil || len(got.Session) != 64 || len(got.Account) != 254 || got.Viewer != "a b" {
		t.Fatal(got, err)
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add(Header{Purpose: RFB, Session: "s", Account: "alice@example.com", Viewer: "192.0.2.1:5"}.AppendTo(nil))
	f.Add(longest().AppendTo(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		h, err := ReadHeader(r)
		if err != nil {
			return
		}
		if read := len(in) - r.Len(); read != 2+int(in[0])<<8+int(in[1]) {
			t.Fatalf("read %d bytes of %x", read, in)
		}
		if again, err := ReadHeader(bytes.NewReader(h.AppendTo(nil))); err != nil || again != h {
			t.Fatalf("wrote %v, read back %v, %v", h, again, err)
		}
	})
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{3})
	f.Add([]byte{2, byte(CodeFirst)})
	var b bytes.Buffer
	_ = WriteReply(&b, refuse.Offline.Of("desk7", "10:04"))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		facts, err := ReadReply(bytes.NewReader(in))
		var no *refuse.Refusal
		if !errors.As(err, &no) {
			if err == nil && in[0] != 0 && (in[0] != 2 || Facts(in[1]) != facts) || errors.Is(err, io.EOF) {
				t.Fatalf("%x: %v", in, err)
			}
			return
		}
		var b bytes.Buffer
		if err := WriteReply(&b, no); err != nil {
			t.Fatal(err)
		}
		if _, again := ReadReply(&b); !reflect.DeepEqual(again, err) || b.Len() != 0 {
			t.Fatalf("wrote %v, read back %v", err, again)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(Hello{Kind: Main, Instance: "i", Version: "1.0", OS: "Debian", Streams: 64}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if h, err := parseHello(in); err == nil {
			if again, err := parseHello(h.AppendTo(nil)); err != nil || again != h {
				t.Fatalf("wrote %v, read back %v, %v", h, again, err)
			}
		}
	})
}

func FuzzParseEnroll(f *testing.F) {
	f.Add([]byte("\x01\x02id\x06secret\x05desk7"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if id, secret, host, err := parseEnroll(in); err == nil && len(id)+len(secret)+len(host) > len(in) {
			t.Fatalf("%q %q %q from %d bytes", id, secret, host, len(in))
		}
		_, _ = readEnrolled(bytes.NewReader(in))
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{Relay: "relay.example:2222", Fingerprint: "SHA256:" + strings.Repeat("A", 43), ID: "i", Secret: "s"}.String())
	f.Fuzz(func(t *testing.T, in string) {
		if token, err := ParseToken(in); err == nil && token.String() != strings.TrimSpace(in) {
			t.Fatalf("%q was read as %q", in, token.String())
		}
	})
}

// FuzzFrames feeds a link what an arbitrary peer sends, while streams are open: whatever comes, memory stays within the
// windows and yamux sees frames without data only.
func FuzzFrames(f *testing.F) {
	f.Add(frames(peerOpen(0), frame{stream: 1, length: 40}, frame{kind: frameUpdate, stream: 1, flags: flagFIN}), uint8(7))
	f.Add(frames(frame{kind: frameUpdate, flags: flagACK, stream: 2, length: 1 << 20}, frame{stream: 2, length: 4000, flags: flagFIN}), uint8(200))
	f.Add(frames(frame{kind: framePing, flags: flagSYN}, frame{kind: frameGoAway}, frame{stream: 4, length: 5, flags: flagRST}), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		clock := time.Unix(1e9, 0)
		g := newGuard(Limits{Streams: 4}, false, func() time.Time { return clock })
		var sent bytes.Buffer
		l := newLink(struct {
			io.Reader
			io.Writer
		}{&shortReads{in, int(cut) + 1}, &sent}, io.NopCloser(nil), g)
		for _, id := range []uint32{2, 4} {
			if err := l.control(frame{kind: frameUpdate, flags: flagSYN, stream: id}); err != nil {
				t.Fatal(err)
			}
		}
		l.guard.find(4).deafen()
		p := make([]byte, 4096)
		for {
			n, err := l.Read(p)
			if err != nil {
				break
			}
			if n%frameHeader != 0 || parseFrame(p).data() != 0 {
				t.Fatalf("yamux gets %x", p[:n])
			}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.peers > 4 || g.peers+g.own != len(g.flows) || g.grown != 0 {
			t.Fatalf("%d and %d of %d streams, %d grown", g.own, g.peers, len(g.flows), g.grown)
		}
		for _, s := range g.flows {
			held := 0
			for c := s.in; c != nil; c = c.next {
				held += c.full - c.read
			}
			if held > firstWindow || s.deaf && held > 0 {
				t.Fatalf("stream %d holds %d bytes", s.id, held)
			}
		}
	})
}

func FuzzReadWord(f *testing.F) {
	f.Add([]byte("\x00\x0a{\"ping\":1}\x00\x00"))
	f.Add([]byte("\x10\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var again bytes.Buffer
		for {
			at := len(in) - r.Len()
			word, err := ReadWord(iotest.OneByteReader(r))
			if err != nil {
				if (err == io.EOF) != (at == len(in)) {
					t.Fatalf("%d bytes behind the last word: %v", len(in)-at, err)
				}
				if !bytes.Equal(again.Bytes(), in[:at]) {
					t.Fatalf("%x, written again %x", in[:at], again.Bytes())
				}
				return
			}
			if err := WriteWord(&again, word); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// shortReads gives at most n bytes at a time.
type shortReads struct {
	data []byte
	n    int
}

func (r *shortReads) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.n)], r.data)
	r.data = r.data[n:]
	return n, nil
}

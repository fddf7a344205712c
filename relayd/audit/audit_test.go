package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/refuse"
)

var quiet = slog.New(slog.DiscardHandler)

func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Write(t.Context(), Event{Kind: "test", Account: "alice@example.com", Detail: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func verified(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func whole(t testing.TB, dir string) Report {
	t.Helper()
	r := verified(t, dir)
	if len(r.Problems) > 0 {
		t.Fatalf("the log is not whole: %q", r.Problems)
	}
	return r
}

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "audit") }

func TestChainGoesOn(t *testing.T) {
	dir := newDir(t)
	for round := range 3 {
		l := openLog(t, dir)
		fill(t, l, 300)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r := whole(t, dir)
		if want := uint64(round+1) * 302; r.Records != want || r.Last != want || r.Sealed != want || r.Checkpoints != 2*(round+1) {
			t.Errorf("round %d: %+v; want %d records", round, r, want)
		}
	}
	for _, name := range []string{current, keyFile, pubFile, headFile} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestFirstLine(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	event := Event{Kind: "session.start", Account: "a@b", Computer: "a@b/desk", ComputerID: "u1", Role: "watch", Session: "s1", Door: "rfb", Source: "::1", Code: 5, Detail: "<b>\n\x1b[1m\xff " + strings.Repeat("ä", 300)}
	if err := l.Write(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, current))
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if !strings.HasPrefix(got, `{"seq":1,"prev":"`+strings.Repeat("0", 64)+`","time":"`) || strings.Count(got, "\n") != 1 {
		t.Error(got)
	}
	for _, want := range []string{`"kind":"session.start"`, `"account":"a@b"`, `"computer":"a@b/desk"`, `"computer_id":"u1"`, `"role":"watch"`, `"session":"s1"`, `"door":"rfb"`, `"source":"::1"`, `"code":5`, `"detail":" b   [1m`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if len(got) > maxLine {
		t.Errorf("line of %d bytes", len(got))
	}
}

// filled is the directory of a closed log with some 700 records.
func filled(t testing.TB) (dir string, text []byte) {
	dir = newDir(t)
	l := openLog(t, dir)
	fill(t, l, 700)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, current))
	if err != nil {
		t.Fatal(err)
	}
	return dir, text
}

func tamper(t testing.TB, dir string, text []byte) Report {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, current), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return verified(t, dir)
}

func TestEachFlippedByteIsFound(t *testing.T) {
	dir, text := filled(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		at, bit := random.IntN(len(text)), byte(1)<<random.IntN(8)
		text[at] ^= bit
		if r := tamper(t, dir, text); len(r.Problems) == 0 {
			t.Errorf("byte %d, bit %#x: not found", at, bit)
		}
		text[at] ^= bit
	}
}

func TestDeletionsSwapsAndCutsAreFound(t *testing.T) {
	dir, text := filled(t)
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 200 {
		bad := slices.Clone(lines)
		at := random.IntN(len(bad))
		what := ""
		switch i % 5 {
		case 0:
			what, bad = "delete", slices.Delete(bad, at, at+1)
		case 1:
			other := (at + 1 + random.IntN(len(bad)-1)) % len(bad)
			what = "swap"
			bad[at], bad[other] = bad[other], bad[at]
		case 2:
			what, bad = "cut off", bad[:at]
		case 3:
			what, bad = "repeat", slices.Insert(bad, at, bad[at])
		case 4:
			what, bad = "cut the beginning", bad[at+1:]
		}
		if r := tamper(t, dir, bytes.Join(bad, nil)); len(r.Problems) == 0 {
			t.Errorf("%s at line %d: not found", what, at+1)
		}
	}
	for n := 1; n < 300; n += 7 { // in the middle of a line
		if r := tamper(t, dir, text[:len(text)-n]); len(r.Problems) == 0 {
			t.Errorf("%d bytes cut off: not found", n)
		}
	}
	if r := tamper(t, dir, text); len(r.Problems) > 0 {
		t.Errorf("put back: %q", r.Problems)
	}
}

// TestRewritten: somebody without the key writes the chain anew from the middle on.
func TestRewritten(t *testing.T) {
	dir, _ := filled(t)
	other := newDir(t)
	l := openLog(t, other)
	fill(t, l, 1000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{current, headFile} {
		b, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := verified(t, dir); !strings.Contains(strings.Join(r.Problems, "\n"), "not signed by the relay's key") {
		t.Errorf("%q", r.Problems)
	}
	if err := os.Remove(filepath.Join(dir, headFile)); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); !strings.Contains(strings.Join(r.Problems, "\n"), "whether records were cut off") {
		t.Errorf("%q", r.Problems)
	}
	if _, err := Verify(t.TempDir()); err == nil || !strings.Contains(err.Error(), "there is no audit log") {
		t.Errorf("no log: %v", err)
	}
}

func TestTornTail(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	fill(t, l, 10)
	l.f.Close() // killed
	path := filepath.Join(dir, current)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for cut := last + 1; cut < len(text); cut += 13 {
		if err := os.WriteFile(path, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if r := whole(t, dir); !r.Unfinished || r.Last != 9 {
			t.Errorf("cut at %d: %+v", cut, r)
		}
		l := openLog(t, dir)
		fill(t, l, 2)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r := whole(t, dir); r.Torn != 1 || r.Records != 9+1+2+1 || r.Unfinished {
			t.Errorf("cut at %d: %+v", cut, r)
		}
		none := fmt.Sprintf("0 %064x\n", 0)
		if err := os.WriteFile(filepath.Join(dir, headFile), []byte(none), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCutBeforeCheckpointStaysBroken(t *testing.T) {
	dir, text := filled(t)
	tamper(t, dir, text[:len(text)/2])
	l := openLog(t, dir)
	fill(t, l, 300)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); !strings.Contains(strings.Join(r.Problems, "\n"), "relayd found the log broken when it started") {
		t.Errorf("%q", r.Problems)
	}
	os.Remove(filepath.Join(dir, keyFile))
	if _, err := Open(dir, quiet); err == nil || !strings.Contains(err.Error(), "restore it from the backup") {
		t.Errorf("no key: %v", err)
	}
}

func TestRotation(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	l.max = 20 << 10
	fill(t, l, 500)
	l.f.Close() // killed
	l = openLog(t, dir)
	l.max = 20 << 10
	fill(t, l, 500)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := parts(dir)
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	r := whole(t, dir)
	if r.Records < 1000 || r.Sealed != r.Last {
		t.Errorf("%+v", r)
	}
	// Killed between the two renames: the current file is not there yet.
	if err := os.Rename(filepath.Join(dir, current), filepath.Join(dir, fmt.Sprintf(olderName, openFirst(t, dir)))); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if again := whole(t, dir); again.Records != r.Records+2 {
		t.Errorf("%+v after %+v", again, r)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	if r := verified(t, dir); len(r.Problems) == 0 {
		t.Error("a file taken out is not found")
	}
}

// A rename that fails, whichever and however often, costs no record and no file.
func TestRotationGoesOnAfterAFailure(t *testing.T) {
	for _, c := range []struct {
		name string
		from string // the rename that fails
		kill bool   // relayd does not live to see the next try
	}{
		{"the full file stays", current, false},
		{"the full file stays, killed", current, true},
		{"the next file does not come", current + ".new", false},
		{"the next file does not come, killed", current + ".new", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			l := openLog(t, dir)
			l.max = 20 << 10
			l.rename = func(from, to string) error {
				if filepath.Base(from) == c.from {
					return unix.EIO
				}
				return os.Rename(from, to)
			}
			written := 0
			for failures := 0; failures < 3; {
				switch err := l.Write(t.Context(), Event{Kind: "test"}); {
				case err == nil:
					written++
				case refuse.StorageOut.Is(err):
					failures++
				default:
					t.Fatal(err)
				}
			}
			if r := whole(t, dir); r.Records < uint64(written) || r.Last != l.seq {
				t.Errorf("%d written: %+v", written, r)
			}
			if c.kill {
				l.f.Close()
				l = openLog(t, dir)
				l.max = 20 << 10
			}
			l.rename = os.Rename
			fill(t, l, 500)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if r := whole(t, dir); r.Records < uint64(written)+500 || r.Sealed != r.Last {
				t.Errorf("%d written: %+v", written+500, r)
			}
		})
	}
}

func openFirst(t *testing.T, dir string) uint64 {
	l := openLog(t, dir)
	return l.first
}

// Others leave space on the disk for what an administrator does.
func TestReserve(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	l.room = func() error { return refuse.StorageOut.Of() }
	if err := l.Write(t.Context(), Event{Kind: "session.refused", Door: "rfb"}); !refuse.StorageOut.Is(err) {
		t.Errorf("a session's record on a disk that is all but full: %v", err)
	}
	if err := l.Write(t.Context(), Event{Kind: "account.disable", Door: DoorLocal}); err != nil {
		t.Errorf("an administrator's record: %v", err)
	}
	l.room = func() error { return nil }
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, dir); r.Records != 3 {
		t.Errorf("%+v", r)
	}
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimit(time.Second, 2)
		for i, want := range []string{"x", "x", "", "", "x (2 before it not recorded)", ""} {
			if i == 4 {
				time.Sleep(time.Second)
			}
			e := Event{Detail: "x"}
			if ok := l.Pass(&e); ok != (want != "") || ok && e.Detail != want {
				t.Errorf("%d: %v, %q", i, ok, e.Detail)
			}
		}
	})
}

// A failing file stands for a disk.
type failing struct {
	file
	short  int // bytes of each write that still fit; -1: all
	sync   error
	cutErr error
}

func (f *failing) Write(b []byte) (int, error) {
	if f.short < 0 {
		return f.file.Write(b)
	}
	n, _ := f.file.Write(b[:min(f.short, len(b))])
	return n, unix.ENOSPC
}

func (f *failing) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.file.Sync()
}

func (f *failing) Truncate(n int64) error {
	if f.cutErr != nil {
		return f.cutErr
	}
	return f.file.Truncate(n)
}

func TestDiskFull(t *testing.T) {
	for _, c := range []struct {
		name string
		disk failing
	}{
		{"nothing fits", failing{short: 0}},
		{"half a line fits", failing{short: 30}},
		{"half a line fits and cannot be cut off", failing{short: 30, cutErr: unix.EIO}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := newDir(t)
			l := openLog(t, dir)
			fill(t, l, 5)
			disk := c.disk
			disk.file = l.f
			l.f = &disk
			for range 3 {
				if err := l.Write(t.Context(), Event{Kind: "signin.ok"}); !refuse.StorageOut.Is(err) {
					t.Fatalf("disk full: %v", err)
				}
			}
			disk.short, disk.cutErr = -1, nil
			fill(t, l, 5)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if r := whole(t, dir); r.Records != 11 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestSyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		l := openLog(t, dir)
		disk := &failing{file: l.f, short: -1, sync: unix.EIO}
		l.f = disk
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		fill(t, l, 1)
		time.Sleep(2 * syncAfter)
		synctest.Wait()
		if err := l.Write(t.Context(), Event{Kind: "signin.ok"}); !refuse.StorageOut.Is(err) {
			t.Errorf("the disk is broken: %v", err)
		}
		l.mu.Lock()
		disk.sync = nil
		l.mu.Unlock()
		fill(t, l, 1)
		stop()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
		whole(t, dir)
	})
}

func TestCheckpointAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDir(t)
		l := openLog(t, dir)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		fill(t, l, 3)
		time.Sleep(checkpointAfter - 2*time.Second)
		synctest.Wait()
		if r := whole(t, dir); r.Checkpoints != 0 {
			t.Errorf("too early: %+v", r)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if r := whole(t, dir); r.Sealed != 4 {
			t.Errorf("too late: %+v", r)
		}
		time.Sleep(time.Hour) // nothing happens: nothing is written
		synctest.Wait()
		if r := whole(t, dir); r.Records != 4 {
			t.Errorf("without a reason: %+v", r)
		}
		stop()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
		if err := l.Write(t.Context(), Event{}); err == nil {
			t.Error("written after the end")
		}
	})
}

func TestManyWriters(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if err := l.Write(context.Background(), Event{Kind: "test"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if r, err := Verify(dir); err != nil || len(r.Problems) > 0 {
			t.Errorf("while it is written: %q, %v", r.Problems, err)
		}
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := whole(t, dir); r.Records < 1600 {
		t.Errorf("%+v", r)
	}
}

func TestCancelled(t *testing.T) {
	l := openLog(t, newDir(t))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := l.Write(ctx, Event{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"seq":1,"prev":"","time":"","kind":"x"}`))
	f.Add([]byte(`{"seq":18446744073709551615,"prev":"00","time":"x","kind":"x","detail":"\u2028","code":-1,"sig":"AA=="}`))
	f.Add([]byte(`{"seq":1}{"seq":2}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if r, err := parse(line); err == nil && !bytes.Equal(r.line(), append(line, '\n')) {
			t.Errorf("%q read as %+v", line, r)
		}
	})
}

func FuzzVerify(f *testing.F) {
	first := record{Seq: 1, Prev: fmt.Sprintf("%064x", 0), Event: Event{Kind: "x"}}.line()
	f.Add(first)
	f.Add(append(first, record{Seq: 2, Prev: hash(first[:len(first)-1]), Event: Event{Kind: kindCheckpoint}, Sig: "AA=="}.line()...))
	f.Add([]byte("\n\n{}\n"))
	key := make(ed25519.PublicKey, ed25519.PublicKeySize)
	f.Fuzz(func(t *testing.T, text []byte) {
		r := Report{}
		v := verifier{report: &r, key: key, head: head{700, "00"}, prev: fmt.Sprintf("%064x", 0)}
		if err := v.file("x", bytes.NewReader(text), true); err != nil {
			t.Fatal(err)
		}
		if v.end(); len(r.Problems) == 0 || len(r.Problems) > maxProblems {
			t.Errorf("%q: %q", text, r.Problems)
		}
	})
}

package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/helmline/helmline/.ci/rig"
)

// maxStride is how far apart the bytes of a secret may lie to be found: UTF-32 has 4, key events of RFB 8, a key's press and release 16, those
// with scan codes 24.
const maxStride = 24

// disclosed says in which form text holds a secret of some length; "": in none that it knows.
func disclosed(text []byte, secret string) string {
	keys := keysIn(text)
	backwards := []byte(secret)
	slices.Reverse(backwards)
	for _, s := range []struct {
		name  string
		bytes []byte
	}{{"", []byte(secret)}, {" backwards", backwards}} {
		if n := strided(text, s.bytes); n > 0 {
			return fmt.Sprintf("as it is%s, a byte in %d", s.name, n)
		}
		if strided(keys, s.bytes) > 0 {
			return "as keys" + s.name
		}
		low := hex.EncodeToString(s.bytes)
		for _, form := range []string{low, strings.ToUpper(low), percent(low), percent(strings.ToUpper(low)), url.QueryEscape(string(s.bytes))} {
			if bytes.Contains(text, []byte(form)) {
				return "as " + form + s.name
			}
		}
		for offset := range 3 { // of the secret in what was encoded; the characters that others share are left out
			e := base64.StdEncoding.EncodeToString(append(make([]byte, offset), s.bytes...))
			e = e[[]int{0, 2, 3}[offset] : (offset+len(s.bytes))*8/6]
			for _, form := range []string{e, strings.NewReplacer("+", "-", "/", "_").Replace(e)} {
				if bytes.Contains(text, []byte(form)) {
					return "as base64" + s.name
				}
			}
		}
	}
	return ""
}

// keysIn are the ASCII keys that are pressed in messages of RFB, whatever stands between them.
func keysIn(text []byte) (keys []byte) {
	// RFC 6143, section 7.5.4, and QEMU's extended key event.
	forms := [][]byte{{4, 1, 0, 0, 0, 0, 0}, {255, 0, 0, 1, 0, 0, 0}}
	next := make([]int, len(forms))
	for i, form := range forms {
		next[i] = bytes.Index(text, form)
	}
	for {
		i := 0
		if next[0] < 0 || next[1] >= 0 && next[1] < next[0] {
			i = 1
		}
		end := next[i] + len(forms[i])
		if next[i] < 0 || end >= len(text) {
			return keys
		}
		keys = append(keys, text[end])
		if next[i] = bytes.Index(text[end:], forms[i]); next[i] >= 0 {
			next[i] += end
		}
	}
}

// percent is hex as in a URL.
func percent(hex string) string {
	var b strings.Builder
	for i := 0; i < len(hex); i += 2 {
		b.WriteString("%" + hex[i:i+2])
	}
	return b.String()
}

// strided is the distance at which the bytes of a secret follow each other in text, 0 if at none.
func strided(text, secret []byte) int {
	for at := 0; ; at++ {
		next := bytes.IndexByte(text[at:], secret[0])
		if next < 0 {
			return 0
		}
		at += next
		for n := 1; n <= maxStride && at+n*(len(secret)-1) < len(text); n++ {
			k := 1
			for k < len(secret) && text[at+n*k] == secret[k] {
				k++
			}
			if k == len(secret) {
				return n
			}
		}
	}
}

var blank [4096]byte

// memory is what a process has written into its memory and not given back: what a core dump holds, without pages of zeros.
func memory(pid int) ([]byte, error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var all []byte
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		part := make([]byte, to-from)
		n, err := io.ReadFull(io.NewSectionReader(mem, int64(from), int64(to-from)), part)
		if err != nil && n == 0 { // it is gone by now
			continue
		}
		for page := range slices.Chunk(part[:n], len(blank)) {
			if !bytes.Equal(page, blank[:len(page)]) {
				all = append(all, page...)
			}
		}
	}
	return all, lines.Err()
}

// relayHas is everything that belongs to the relay, by its name: its memory, its state, its log, its metrics, and hostd's log and more
// files.
func (w *World) relayHas(more ...string) map[string][]byte {
	w.T.Helper()
	text, err := memory(w.RelayProc.Pid)
	w.Check(err)
	metrics, err := w.metrics()
	w.Check(err)
	all := map[string][]byte{"memory": text, "metrics": []byte(metrics)}
	files := append([]string{w.log("relayd"), w.log("hostd")}, more...)
	w.Check(filepath.WalkDir(w.file("relayd"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if !errors.Is(err, fs.ErrNotExist) { // the store's log comes and goes
			w.Check(err)
		}
		all[filepath.Base(f)] = text
	}
	return all
}

// disclosing says what of it holds a secret, and in which form.
func disclosing(all map[string][]byte, secret string) (where []string) {
	for name, text := range all {
		if form := disclosed(text, secret); form != "" {
			where = append(where, name+" "+form)
		}
	}
	return where
}

// What looks for secrets finds them, in every form.
func TestDisclosed(t *testing.T) {
	const secret = "k7Rm/Q+z9w2"
	wide := utf16.Encode([]rune(secret))
	keys := []byte{}
	scans := []byte{}
	for _, c := range []byte(secret) {
		keys = append(keys, 4, 1, 0, 0, 0, 0, 0, c, 4, 0, 0, 0, 0, 0, 0, c)
		scans = append(scans, 255, 0, 0, 1, 0, 0, 0, c, 0, 0, 0, 9, 255, 0, 0, 0, 0, 0, 0, c, 0, 0, 0, 9)
	}
	backwards := ""
	for _, c := range secret {
		backwards = string(c) + backwards
	}
	le, _ := binary.Append(nil, binary.LittleEndian, wide)
	be, _ := binary.Append(nil, binary.BigEndian, wide)
	for name, text := range map[string]string{
		"as it is": secret, "UTF-16LE": string(le), "UTF-16BE": string(be), "hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64, 1": base64.StdEncoding.EncodeToString([]byte("x" + secret + "y")),
		"base64, 2": base64.StdEncoding.EncodeToString([]byte("xx" + secret)), "base64url": base64.RawURLEncoding.EncodeToString([]byte("user:" + secret)),
		"form": url.QueryEscape(secret), "URL, all": percent(hex.EncodeToString([]byte(secret))), "keys": string(keys), "scan codes": string(scans), "backwards": backwards,
		"keys between other messages": strings.ReplaceAll(string(scans), "\xff\x00\x00\x01", "\x03\x01\x00\x00\x02\xff\x00\x00\x01"),
	} {
		if got := disclosed([]byte("before"+text+"behind"), secret); got == "" {
			t.Errorf("%s is not found", name)
		}
		if got := disclosed([]byte("before"+text[:len(text)/2]+"behind"), secret); got != "" {
			t.Errorf("half of %s is found %s", name, got)
		}
	}
}

// A secret that a process has got is found in its memory.
func TestMemory(t *testing.T) {
	secret := rig.Secret(12)
	set := new(rig.Set)
	defer set.Close()
	p, err := set.Start(t.Context(), rig.Program{Args: []string{"sleep", "1000"}, Env: []string{"SECRET=" + secret}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Until(t.Context(), "it is found", func() (bool, error) { // it begins as a copy of this process
		text, err := memory(p.Pid)
		return disclosed(text, secret) != "", err
	}); err != nil {
		t.Error(err)
	}
}

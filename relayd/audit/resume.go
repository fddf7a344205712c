package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/helmline/helmline/relayd/store"
)

// tailSize is how much of the end of the log is read at the start, bytes: more than the records between two checkpoints.
const tailSize = 2 * checkpointEvery * maxLine

// parts are the files of a log, oldest first.
func parts(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, olderGlob))
	if err != nil {
		return nil, err
	}
	slices.Sort(files) // numbers of equal length
	path := filepath.Join(dir, current)
	if _, err := os.Lstat(path); err == nil {
		files = append(files, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return files, nil
}

// resume finds the end of the chain in files and opens the current one.
func (l *Log) resume(files []string) error {
	var tail []byte
	for _, path := range slices.Backward(files) { // the current file is empty after a change of files
		if err := store.PrivateFile(path); err != nil {
			return err
		}
		torn, err := cutTorn(path)
		if err != nil {
			return err
		}
		if torn > 0 {
			l.notes = append(l.notes, Event{Kind: kindTorn, Detail: fmt.Sprintf("a crash left %d bytes of the next record", torn)})
			l.log.Warn("audit log ended in half a record, which was cut off", "bytes", torn)
		}
		if tail, err = readTail(path); err != nil {
			return err
		}
		if len(tail) > 0 {
			break
		}
	}
	bad := l.follow(tail)
	if h, err := readHead(l.dir); err != nil {
		bad = err.Error()
	} else if h.Seq > l.seq {
		bad = fmt.Sprintf("the log ends with record %d, but its last checkpoint is record %d", l.seq, h.Seq)
		l.seq = h.Seq
	}
	if bad != "" {
		l.notes = append(l.notes, Event{Kind: kindBroken, Detail: bad})
		l.log.Error("audit log is broken: see relayd audit verify", "err", bad)
	}
	return l.openCurrent()
}

func (l *Log) openCurrent() error {
	path := filepath.Join(l.dir, current)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.first = l.seq + 1
	st, err := f.Stat()
	if err == nil && st.Size() > 0 {
		l.size = st.Size()
		head := make([]byte, min(maxLine, l.size))
		if _, err = f.ReadAt(head, 0); err == nil {
			line, _, _ := bytes.Cut(head, []byte("\n"))
			if r, err := parse(line); err == nil {
				l.first = r.Seq
			}
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	l.f = f
	return nil
}

// follow takes sequence number, hash and open records from the last lines of the log, and says what is wrong with them.
func (l *Log) follow(tail []byte) (bad string) {
	for line := range bytes.Lines(tail) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		l.prev = sha256.Sum256(line)
		r, err := parse(line)
		if err != nil {
			bad = fmt.Sprintf("what follows record %d is not a record", l.seq)
			continue
		}
		l.seq = r.Seq
		if l.open++; r.Kind == kindCheckpoint {
			l.open = 0
		}
	}
	return bad
}

// cutTorn takes from the end of a file what is not a whole line.
func cutTorn(path string) (torn int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, min(size, maxLine))
	if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
		return 0, err
	}
	torn = int64(len(buf) - 1 - bytes.LastIndexByte(buf, '\n'))
	if torn == 0 || torn == int64(len(buf)) && size > maxLine { // no line at all: damage, which is kept
		return 0, nil
	}
	return torn, errors.Join(f.Truncate(size-torn), f.Sync())
}

// readTail reads the last whole lines of a file.
func readTail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(size, tailSize))
	if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
		return nil, err
	}
	if size > tailSize {
		_, buf, _ = bytes.Cut(buf, []byte("\n"))
	}
	return buf, nil
}

// parse reads a line as this package writes them, and nothing else.
func parse(line []byte) (record, error) {
	var r record
	if len(line) > maxLine {
		return r, errors.New("the line is too long for a record")
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, errors.New("the line is not a record")
	}
	if !bytes.Equal(bytes.TrimSuffix(r.line(), []byte("\n")), line) {
		return r, errors.New("the line is not written as relayd writes records")
	}
	return r, nil
}

// A head is the last checkpoint, kept beside the log so that a log cut off before it is noticed.
type head struct {
	Seq  uint64
	Hash string // of the line
}

func (h head) text() []byte { return fmt.Appendf(nil, "%d %s\n", h.Seq, h.Hash) }

// readHead reads the last checkpoint. It is there from the beginning on, with Seq 0 before the first one.
func readHead(dir string) (h head, err error) {
	b, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return h, err
	}
	if _, err := fmt.Sscanf(string(b), "%d %64s\n", &h.Seq, &h.Hash); err != nil || string(h.text()) != string(b) {
		return head{}, fmt.Errorf("%s does not hold a checkpoint", headFile)
	}
	return h, nil
}

// loadKey reads the key that signs checkpoints, or makes it with the log.
func loadKey(dir string, first bool) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !first {
			return nil, fmt.Errorf("%s is missing: restore it from the backup of the keys, or move %s away to begin a new log", path, dir)
		}
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		text := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b) + "\n") }
		if err := writeFile(filepath.Join(dir, pubFile), text(key.Public().(ed25519.PublicKey))); err != nil {
			return nil, err
		}
		if err := writeFile(filepath.Join(dir, headFile), head{0, hex.EncodeToString(make([]byte, sha256.Size))}.text()); err != nil {
			return nil, err
		}
		return key, writeFile(path, text(key.Seed()))
	}
	if err != nil {
		return nil, err
	}
	if err := store.PrivateFile(path); err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s does not hold a key: restore it from the backup of the keys", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func loadPublic(dir string) (ed25519.PublicKey, error) {
	path := filepath.Join(dir, pubFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s does not hold a public key", path)
	}
	return key, nil
}

// Fingerprint is how people compare the public half of the key that signs a log.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// writeFile writes a file of mode 0600, whole or not at all.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left there after the rename
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// syncDir makes renames in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func hash(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

package audit

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/helmline/helmline/bridge/refuse"
)

// A Report is what Verify found.
type Report struct {
	Records     uint64   `json:"records"`
	Last        uint64   `json:"last"`            // number of the last record
	Checkpoints int      `json:"checkpoints"`     // whose signature is right
	Sealed      uint64   `json:"sealed"`          // number of the last checkpoint: all before is beyond doubt
	Torn        int      `json:"torn"`            // records that say a crash had left half a line
	Key         string   `json:"key"`             // fingerprint of the key that signs, to be compared with a copy
	Problems    []string `json:"problems"`        // none: the log is whole. At most maxProblems are listed
	More        int      `json:"more_problems"`   // beyond those listed
	Unfinished  bool     `json:"unfinished_line"` // the last line is half: relayd writes it now, or crashed
}

const maxProblems = 20

func (r *Report) add(format string, args ...any) {
	if len(r.Problems) >= maxProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Verify reads the whole log in dir, which may be in use, and checks chain, numbers and signatures. The error says that
// it could not be read; what is wrong with it is in the Report.
func Verify(dir string) (r Report, err error) {
	for range 3 { // a file that fills up while it is read changes its name
		var before, after []string
		if before, err = parts(dir); err != nil {
			return r, err
		}
		r, err = verify(dir)
		if after, _ = parts(dir); len(after) == len(before) {
			break
		}
	}
	return r, err
}

func verify(dir string) (Report, error) {
	r := Report{Problems: []string{}}
	key, err := loadPublic(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("there is no audit log in %s", dir)
	}
	if err != nil {
		return r, err
	}
	r.Key = Fingerprint(key)
	v := verifier{report: &r, key: key, prev: fmt.Sprintf("%064x", 0)}
	if v.head, err = readHead(dir); err != nil {
		r.add("whether records were cut off at the end cannot be told: %v", err)
	}
	files, err := parts(dir) // after the head, which may only be behind
	if err != nil {
		return r, err
	}
	for i, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return r, err
		}
		err = v.file(filepath.Base(path), f, i == len(files)-1)
		f.Close()
		if err != nil {
			return r, err
		}
	}
	v.end()
	return r, nil
}

// A verifier follows the chain.
type verifier struct {
	report *Report
	key    ed25519.PublicKey
	head   head
	seq    uint64 // of the last record
	prev   string // hash of the last line
	found  bool   // the line that head names
}

// file follows the chain through one file.
func (v *verifier) file(name string, from io.Reader, last bool) error {
	in := bufio.NewReaderSize(from, maxLine+1)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 && last {
				v.report.Unfinished = true
			} else if len(line) > 0 {
				v.report.add("%s, line %d: ends in the middle", name, n)
			}
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.report.add("%s, line %d: longer than any record", name, n)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			v.prev = "" // which no record names
		case err != nil:
			return err
		default:
			if at, bad := fmt.Sprintf("%s, line %d", name, n), v.line(line[:len(line)-1]); bad != "" {
				v.report.add("%s: %s", at, bad)
			}
		}
	}
}

// line checks one line and says what is wrong.
func (v *verifier) line(line []byte) (bad string) {
	prev := v.prev
	v.prev = hash(line)
	r, err := parse(line)
	if err != nil {
		return err.Error()
	}
	v.report.Records++
	expected := v.seq + 1
	v.seq, v.report.Last = r.Seq, r.Seq
	var all []string
	switch {
	case r.Seq != expected && r.Prev == prev:
		all = append(all, fmt.Sprintf("record %d stands where record %d belongs", r.Seq, expected))
	case r.Seq != expected:
		all = append(all, fmt.Sprintf("record %d stands where record %d belongs: records were taken out, put in or moved", r.Seq, expected))
	case r.Prev != prev:
		all = append(all, fmt.Sprintf("record %d does not fit the one before: that one was changed", r.Seq))
	}
	switch r.Kind {
	case kindCheckpoint:
		sig, err := base64.StdEncoding.DecodeString(r.Sig)
		if err != nil || !ed25519.Verify(v.key, signed(r.Seq, r.Prev, r.Time), sig) {
			all = append(all, fmt.Sprintf("checkpoint %d is not signed by the relay's key", r.Seq))
			break
		}
		v.report.Checkpoints++
		v.report.Sealed = r.Seq
	case kindTorn:
		v.report.Torn++
	case kindBroken:
		all = append(all, fmt.Sprintf("record %d: relayd found the log broken when it started: %s", r.Seq, refuse.Printable(r.Detail, maxText)))
	}
	if r.Seq == v.head.Seq {
		if v.found = v.prev == v.head.Hash; !v.found {
			all = append(all, fmt.Sprintf("record %d is not the checkpoint that %s names", r.Seq, headFile))
		}
	}
	return strings.Join(all, "; ")
}

func (v *verifier) end() {
	if v.head.Seq > v.seq {
		v.report.add("the log ends with record %d, but record %d was a checkpoint: its end was cut off", v.seq, v.head.Seq)
	} else if v.head.Seq > 0 && !v.found {
		v.report.add("checkpoint %d, which %s names, is not in the log", v.head.Seq, headFile)
	}
}

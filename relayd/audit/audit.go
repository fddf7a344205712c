// Package audit keeps who did what: an append-only log of JSON lines in which each line holds the SHA-256 of the one
// before, and signed checkpoints stand at least every 256 records and, while anything is recorded, every 60 s. Whoever
// changes, takes out, moves or cuts off anything up to the last checkpoint is found out by Verify.
//
// The directory holds audit.jsonl, older parts named by the number of their first record, the key that signs, its
// public half, and the last checkpoint once more. Copies of the last two kept elsewhere are what an intruder with all
// rights on the relay cannot change: each checkpoint goes to the daemon's own log, too.
package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// An Event is what happened. Empty fields are left out of the record. Texts are made printable and cut to 255 bytes.
type Event struct {
	Kind       string `json:"kind"` // as in "session.start"
	Account    string `json:"account,omitempty"`
	Computer   string `json:"computer,omitempty"`    // as people name it; the name of a session's one stands behind its owner and "/"
	ComputerID string `json:"computer_id,omitempty"` // UUID: names change, and each owner gives them anew
	Role       string `json:"role,omitempty"`        // of a session
	Session    string `json:"session,omitempty"`
	Door       string `json:"door,omitempty"`
	Source     string `json:"source,omitempty"` // address of the viewer, or who used the local socket
	Code       int    `json:"code,omitempty"`   // of a refusal
	Detail     string `json:"detail,omitempty"`
}

// DoorLocal is the Door of what an administrator does at the local socket. Such records are written as long as there is
// any space; all others leave a reserve for them, since what cannot be recorded is not done.
const DoorLocal = "local"

// Kinds that the log writes itself.
const (
	kindCheckpoint = "audit.checkpoint"
	kindTorn       = "audit.torn"   // a line that a crash had left half written was cut off
	kindBroken     = "audit.broken" // what is on the disk is not what was written
)

// A record is one line.
type record struct {
	Seq  uint64 `json:"seq"`  // 1, 2, 3 …
	Prev string `json:"prev"` // SHA-256 of the line before, hexadecimal; zeros before the first
	Time string `json:"time"` // RFC 3339, UTC
	Event
	Sig string `json:"sig,omitempty"` // of a checkpoint, see signed
}

// When checkpoints are made, and how large a file may grow before the next begins.
const (
	checkpointEvery = 256
	checkpointAfter = 60 * time.Second
	syncAfter       = time.Second
	maxText         = 255
	maxLine         = 4096
	rotateAt        = 64 << 20
)

// The files of the directory.
const (
	current   = "audit.jsonl"
	keyFile   = "audit.key"
	pubFile   = "audit.pub"
	headFile  = "audit.head"
	olderName = "audit-%016d.jsonl"
	olderGlob = "audit-*.jsonl"
)

// A Log is the open audit log. Its methods may be called by any goroutine.
type Log struct {
	dir string
	log *slog.Logger
	key ed25519.PrivateKey
	max int64 // bytes of a file

	rename func(from, to string) error // os.Rename; tests have others
	room   func() error                // store.Room; likewise

	tending sync.Mutex // held while the log is brought to the disk; guards noted
	noted   uint64     // number of the checkpoint that headFile names

	mu       sync.Mutex // guards what follows
	f        file
	size     int64    // of f, up to the end of the last whole line
	seq      uint64   // of the last record
	prev     [32]byte // its hash
	open     int      // records since the last checkpoint
	dirty    bool     // written, but not yet synced
	fault    error    // of the last sync: nothing is written until one succeeds
	closed   bool
	aside    bool      // f has its older name already, and the next file is still to come
	first    uint64    // of the first record in f
	unsealed time.Time // of the oldest record since the last checkpoint
	head     head      // of the last checkpoint
	notes    []Event   // of what was found at the start, still to be written
}

// A file is what a Log writes to; tests have others.
type file interface {
	Write([]byte) (int, error)
	Truncate(int64) error
	Sync() error
	Close() error
}

// Open opens the log in dir, making it at the first start, and goes on where the chain ended. A line that was left half
// written is cut off and a record says so. dir must be 0700 and its files 0600.
func Open(dir string, log *slog.Logger) (*Log, error) {
	if err := store.Private(dir); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{dir: dir, log: log, max: rotateAt, rename: os.Rename, room: func() error { return store.Room(dir) }}
	files, err := parts(dir)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if l.key, err = loadKey(dir, len(files) == 0); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if err := l.resume(files); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return l, nil
}

// Run writes checkpoints and brings the log to the disk until ctx ends. Close comes after the last Write.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(syncAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.tend(false) // which has logged its error, and comes again
		case <-ctx.Done():
			return nil
		}
	}
}

// tend makes a checkpoint that is due and brings what was written to the disk. Nobody waits for that.
func (l *Log) tend(last bool) error {
	l.tending.Lock()
	defer l.tending.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	var err error
	if l.open > 0 && (last || time.Since(l.unsealed) >= checkpointAfter) {
		err = l.checkpoint()
	}
	f, head, idle := l.f, l.head, !l.dirty && l.fault == nil && l.noted == l.head.Seq
	l.dirty = false
	l.mu.Unlock()
	if !idle {
		err = errors.Join(err, l.settle(f, head))
	}
	if err != nil {
		l.log.Error("audit log not on the disk", "err", err)
	}
	return err
}

// settle syncs f and then writes the last checkpoint in it down once more, beside the log.
func (l *Log) settle(f file, h head) error {
	if err := f.Sync(); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.f == f {
			l.fault, l.dirty = err, true
			return err
		}
		// The file is full, and was synced and closed before the next one began.
	}
	if h.Seq == l.noted {
		return nil
	}
	if err := writeFile(filepath.Join(l.dir, headFile), h.text()); err != nil {
		return err
	}
	l.noted = h.Seq
	l.log.Info("audit checkpoint", "seq", h.Seq, "hash", h.Hash)
	return nil
}

// Close makes a last checkpoint and closes the log.
func (l *Log) Close() error {
	err := l.tend(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return errors.Join(err, l.f.Close())
}

// Write appends a record. When it cannot, because the disk is full (or all but full, see DoorLocal) or broken, the error is refuse.StorageOut and
// nothing has been appended: whoever lets somebody in refuses then. The record survives a kill of relayd at once, and a
// loss of power one second later.
func (l *Log) Write(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Door != DoorLocal {
		if err := l.room(); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("audit log: closed")
	}
	if l.fault != nil {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if l.size >= l.max {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	for len(l.notes) > 0 {
		if err := l.append(l.notes[0]); err != nil {
			return err
		}
		l.notes = l.notes[1:]
	}
	if err := l.append(e); err != nil {
		return err
	}
	if l.open >= checkpointEvery {
		if err := l.checkpoint(); err != nil { // the record itself stands
			l.log.Error("audit checkpoint not written", "err", err)
		}
	}
	return nil
}

// append writes one line, or nothing.
func (l *Log) append(e Event) error {
	for _, s := range []*string{&e.Kind, &e.Account, &e.Computer, &e.ComputerID, &e.Role, &e.Session, &e.Door, &e.Source, &e.Detail} {
		*s = refuse.Printable(*s, maxText)
	}
	r := record{Seq: l.seq + 1, Prev: hex.EncodeToString(l.prev[:]), Time: time.Now().UTC().Format(time.RFC3339Nano), Event: e}
	if e.Kind == kindCheckpoint {
		r.Sig = base64.StdEncoding.EncodeToString(ed25519.Sign(l.key, signed(r.Seq, r.Prev, r.Time)))
	}
	line := r.line()
	n, err := l.f.Write(line)
	if err != nil || n < len(line) {
		if cut := l.f.Truncate(l.size); cut != nil && n > 0 {
			l.fault = cut // half a line stands in the file: sync tries again to cut it off
		}
		return fmt.Errorf("audit log: %w (%w)", refuse.StorageOut.Of(), err)
	}
	l.size += int64(n)
	l.seq++
	l.prev = sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
	if l.open++; l.open == 1 {
		l.unsealed = time.Now()
	}
	l.dirty = true
	return nil
}

// line is the record as it stands in the file.
func (r record) line() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		panic(err) // texts and numbers are always JSON
	}
	return b.Bytes()
}

// signed is what the signature of a checkpoint covers: by prev, all that stands before.
func signed(seq uint64, prev, at string) []byte {
	return fmt.Appendf(nil, "helmline audit checkpoint 1\n%d\n%s\n%s\n", seq, prev, at)
}

// checkpoint signs the chain. tend brings it to the disk and writes it down once more.
func (l *Log) checkpoint() error {
	if err := l.append(Event{Kind: kindCheckpoint}); err != nil {
		return err
	}
	l.open = 0
	l.head = head{l.seq, hex.EncodeToString(l.prev[:])}
	return nil
}

// sync mends a file that could not be written or synced, and syncs it.
func (l *Log) sync() error {
	if l.fault != nil {
		if err := l.f.Truncate(l.size); err != nil {
			return fmt.Errorf("audit log: %w (%w)", refuse.StorageOut.Of(), err)
		}
	}
	if l.fault = l.f.Sync(); l.fault != nil {
		return fmt.Errorf("audit log: %w (%w)", refuse.StorageOut.Of(), l.fault)
	}
	l.dirty = false
	return nil
}

// rotate puts the file that is full aside, named by its first record, and begins the next. The chain goes on across.
// What fails is tried again by the next Write, from there on: a full file is moved once, and nothing is ever moved in
// its place.
func (l *Log) rotate() error {
	if l.open > 0 {
		if err := l.checkpoint(); err != nil {
			return err
		}
	}
	if err := l.sync(); err != nil {
		return err
	}
	f, err := l.next()
	if err != nil {
		return fmt.Errorf("audit log: %w (%w)", refuse.StorageOut.Of(), err)
	}
	l.f.Close()
	l.f, l.size, l.first, l.aside = f, 0, l.seq+1, false
	return nil
}

// next moves the full file aside and gives the next one, empty.
func (l *Log) next() (_ *os.File, err error) {
	path := filepath.Join(l.dir, current)
	part := path + ".new"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_APPEND|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if !l.aside {
		if err := l.rename(path, filepath.Join(l.dir, fmt.Sprintf(olderName, l.first))); err != nil {
			return nil, err
		}
		l.aside = true
	}
	if err := l.rename(part, path); err != nil { // over nothing, or over the empty file of the try before
		return nil, err
	}
	return f, syncDir(l.dir)
}

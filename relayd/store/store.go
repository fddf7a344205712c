// Package store keeps what survives a restart of relayd: accounts and their keys, computers, shares, invitations and
// the failure budget, in one SQLite file. It knows tables and transactions, not rules: what a name or a password may
// be, and who may do what, is decided by its callers.
//
// Every write is one transaction that is on the disk when the method returns (synchronous=FULL), so a killed relayd
// loses nothing it has acknowledged. When the disk is full, read-only or broken, a write gives an error that is
// refuse.StorageOut and changes nothing.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/helmline/helmline/bridge/refuse"
)

// Errors of the methods, for errors.Is.
var (
	ErrNotFound = errors.New("not in the store")
	ErrExists   = errors.New("already in the store")
)

// A told is an error of a known kind in words for people.
type told struct {
	kind error
	text string
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.kind }

// Tell puts ErrNotFound or ErrExists into words: the result is of that kind for errors.Is, and reads as the format has it.
func Tell(kind error, format string, args ...any) error {
	return &told{kind, fmt.Sprintf(format, args...)}
}

// File is the name of the database in the state directory.
const File = "relayd.db"

// A Store is the open database. Its methods may be called by any goroutine: writes are made one at a time, reads do
// not wait for them.
type Store struct {
	dir   string
	write *sql.DB // one connection
	read  *sql.DB // query_only
	lock  *os.File
}

// Open opens the database in dir, making both when they are missing, and brings its schema up to date. dir must be
// 0700 and the file 0600, or it refuses. Only one process has a state directory open at a time.
func Open(ctx context.Context, dir string) (*Store, error) {
	return open(ctx, dir, migrations)
}

func open(ctx context.Context, dir string, steps []string) (_ *Store, err error) {
	if err := Private(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, File)
	if err := create(ctx, path, steps); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	if err := PrivateFile(path); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if s.write, err = connect(path, 1, false); err != nil {
		return nil, err
	}
	if err := migrate(ctx, s.write, path, steps); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	if s.read, err = connect(path, 4, true); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the use of the database.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} { // the writer last: it tidies up the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// reserve is how much space on the disk sign-ins leave for administrators, bytes.
const reserve = 1 << 20

// Room is Room for the store's directory.
func (s *Store) Room() error { return Room(s.dir) }

// Room says whether there is enough space on the disk of dir to let people in: nil or refuse.StorageOut. Below that, what
// an administrator changes can still be stored and recorded.
func Room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("state directory %s: %w (%w)", dir, refuse.StorageOut.Of(), err)
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree
	}
	if free := blocks * uint64(st.Bsize); free < reserve {
		return fmt.Errorf("state directory %s: %w (%d KiB are left)", dir, refuse.StorageOut.Of(), free>>10)
	}
	return nil
}

// Ping says whether the store can be read and written and has room, for a readiness check. It leaves no trace.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.Room(); err != nil {
		return err
	}
	return s.change(ctx, "check the store", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE meta SET value = value + 1 WHERE key = 'pings'`)
		return err
	})
}

// Private checks that dir belongs to this process's user and nobody else can enter it, making it when it is missing.
func Private(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("state directory %s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("state directory %s belongs to uid %d; it must belong to uid %d, which relayd runs as: chown %d %s", dir, st.Uid, os.Geteuid(), os.Geteuid(), dir)
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("state directory %s has mode %04o, so others can enter it: chmod 0700 %s", dir, st.Mode&0o777, dir)
	}
	return nil
}

// PrivateFile checks that a file belongs to this process's user and nobody else can read or write it.
func PrivateFile(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d; it must belong to uid %d, which relayd runs as: chown %d %s", path, st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	if st.Mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others can read or write it: chmod 0600 %s", path, st.Mode&0o777, path)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("state directory %s is in use by another relayd; stop that one, or give this one another state_dir", dir)
	}
	return f, nil
}

// create makes the database when there is none: whole, under another name first, so that a database without a schema is
// never the result of a first start that was killed, but always damage.
func create(ctx context.Context, path string, steps []string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	part := path + ".new"
	for _, left := range []string{part, part + "-wal", part + "-shm"} {
		if err := os.Remove(left); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // SQLite gives its log files the same mode
	if err != nil {
		return err
	}
	defer f.Close()
	db, err := connect(part, 1, false)
	if err != nil {
		return err
	}
	err = climb(ctx, db, 0, steps)
	if err := errors.Join(err, db.Close()); err != nil { // closing brings the log into the file
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return syncDir(path)
}

// syncDir makes a rename in the directory of path last.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func connect(path string, conns int, readOnly bool) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)"}}
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Set("_txlock", "immediate")
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// change runs one writing transaction: all of do, or nothing of it.
func (s *Store) change(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fault(what, err)
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return fault(what, err)
	}
	return fault(what, tx.Commit())
}

// fault gives an error of the database its meaning.
func fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%s: %w", what, ErrExists)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT,
		sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: %w (%w)", what, refuse.StorageOut.Of(), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

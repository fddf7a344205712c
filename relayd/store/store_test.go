package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func privateDir(t *testing.T) string { return filepath.Join(t.TempDir(), "state") }

func addAccount(t *testing.T, s *Store, email string) int64 {
	t.Helper()
	id, err := s.AddAccount(t.Context(), Account{Email: email, Password: "x", Created: time.Now()}, strings.ToLower(email))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAccountsSurviveARestart(t *testing.T) {
	dir := privateDir(t)
	s := openTest(t, dir)
	ctx := t.Context()
	id := addAccount(t, s, "Alice@example.com")
	if _, err := s.AddAccount(ctx, Account{Email: "alice@EXAMPLE.com"}, "alice@example.com"); !errors.Is(err, ErrExists) {
		t.Errorf("second account of one e-mail: %v", err)
	}
	key := Key{"SHA256:abc", []byte("key"), "laptop", time.UnixMilli(1000)}
	if err := s.AddKey(ctx, id, key, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.AddKey(ctx, id, Key{Fingerprint: "SHA256:def", Key: []byte("other")}, 1); err == nil || !strings.Contains(err.Error(), "has 1 keys") {
		t.Errorf("one key too many: %v", err)
	}
	if err := errors.Join(s.SetDisabled(ctx, id, true), s.SetPassword(ctx, id, "y"), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	a, err := s.Account(ctx, "alice@example.com")
	if err != nil || a.ID != id || a.Email != "Alice@example.com" || !a.Disabled || a.Password != "y" {
		t.Errorf("account after a restart: %+v, %v", a, err)
	}
	keys, err := s.Keys(ctx, id)
	if err != nil || len(keys) != 1 || keys[0].Comment != "laptop" || !keys[0].Created.Equal(key.Created) {
		t.Errorf("keys after a restart: %+v, %v", keys, err)
	}
	if has, err := s.HasKey(ctx, id, []byte("key")); !has || err != nil {
		t.Errorf("has the key: %v, %v", has, err)
	}
	if err := s.RemoveKey(ctx, id, "SHA256:zzz"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove an unknown key: %v", err)
	}
	if _, err := s.Account(ctx, "bob@example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown account: %v", err)
	}
}

func TestModes(t *testing.T) {
	dir := privateDir(t)
	openTest(t, dir).Close()
	for name, mode := range map[string]os.FileMode{".": 0o700, File: 0o600, "lock": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v; want %v", name, st.Mode(), err, mode)
		}
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
		err  string
	}{
		{dir, 0o750, "chmod 0700"},
		{dir, 0o701, "chmod 0700"},
		{filepath.Join(dir, File), 0o640, "chmod 0600"},
		{filepath.Join(dir, File), 0o602, "chmod 0600"},
	} {
		st, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s with mode %v: %v", c.path, c.mode, err)
		}
		if err := os.Chmod(c.path, st.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, dir)
	addAccount(t, s, "a@b")
	for _, name := range []string{File + "-wal", File + "-shm"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := privateDir(t)
	s := openTest(t, dir)
	if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "in use by another relayd") {
		t.Errorf("opened twice: %v", err)
	}
	s.Close()
	openTest(t, dir)
}

func TestMigrations(t *testing.T) {
	dir := privateDir(t)
	ctx := t.Context()
	s := openTest(t, dir)
	addAccount(t, s, "a@b")
	s.Close()

	broken := append(migrations[:len(migrations):len(migrations)], `CREATE TABLE extra (n INTEGER) STRICT; INSERT INTO extra VALUES ('text')`)
	if _, err := open(ctx, dir, broken); err == nil {
		t.Fatal("a step that fails is not reported")
	}
	next := append(migrations[:len(migrations):len(migrations)], `CREATE TABLE extra (n INTEGER) STRICT`)
	s, err := open(ctx, dir, next) // nothing of the broken step is left
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(ctx, "a@b"); err != nil {
		t.Error(err)
	}
	s.Close()
	if st, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%s.schema%d", File, len(migrations)))); err != nil || st.Mode().Perm() != 0o600 || st.Size() == 0 {
		t.Errorf("backup before the change: %v", err)
	}
	_, err = Open(ctx, dir)
	if want := fmt.Sprintf("has schema %d, made by a newer relayd; this one knows schemas up to %d", len(next), len(migrations)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("newer schema: %v", err)
	}
}

// TestSchema2 counts generations of what accounts sign in by, from 0 on for those of schema 1.
func TestSchema2(t *testing.T) {
	dir := privateDir(t)
	ctx := t.Context()
	s, err := open(ctx, dir, migrations[:1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.write.ExecContext(ctx, `INSERT INTO accounts VALUES (7, 'A@b', 'a@b', 1, 0, 'phc', 1000)`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openTest(t, dir)
	want := Account{ID: 7, Email: "A@b", Admin: true, Password: "phc", Created: time.UnixMilli(1000)}
	if a, err := s.Account(ctx, "a@b"); err != nil || a != want {
		t.Errorf("%+v, %v; want %+v", a, err, want)
	}
	for _, step := range []struct {
		name string
		do   func() error
		more int64
	}{
		{"a key is added", func() error { return s.AddKey(ctx, 7, Key{Fingerprint: "f", Key: []byte("k")}, 1) }, 0},
		{"a key is removed", func() error { return s.RemoveKey(ctx, 7, "f") }, 1},
		{"a key that is not there", func() error {
			if err := s.RemoveKey(ctx, 7, "f"); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("removed: %w", err)
			}
			return nil
		}, 0},
		{"another password", func() error { return s.SetPassword(ctx, 7, "other") }, 1},
		{"disabled", func() error { return s.SetDisabled(ctx, 7, true) }, 1},
		{"enabled", func() error { return s.SetDisabled(ctx, 7, false) }, 0},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		want.Generation += step.more
		if a, err := s.AccountByID(ctx, 7); err != nil || a.Generation != want.Generation {
			t.Errorf("%s: generation %d, %v; want %d", step.name, a.Generation, err, want.Generation)
		}
	}
}

func TestFirstStartThatWasKilled(t *testing.T) {
	dir := privateDir(t)
	if err := Private(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, File+".new"), []byte("half a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	openTest(t, dir)
}

func TestEmptiedDatabaseIsRefused(t *testing.T) {
	dir := privateDir(t)
	s := openTest(t, dir)
	addAccount(t, s, "a@b")
	s.Close()
	if err := os.Truncate(filepath.Join(dir, File), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "emptied") {
		t.Errorf("emptied database: %v", err)
	}
}

// TestDamage changes the file at 300 places: it must open with all that is readable, or be refused, and never be empty.
func TestDamage(t *testing.T) {
	dir := privateDir(t)
	s := openTest(t, dir)
	ctx := t.Context()
	for i := range 200 {
		addAccount(t, s, fmt.Sprintf("person%d@example.com", i))
	}
	s.Close()
	path := filepath.Join(dir, File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 300 {
		bad := append([]byte(nil), whole...)
		at := i * 7919 % len(bad)
		if i < 100 {
			at = i // the header
		}
		bad[at] ^= byte(1 << (i % 8))
		for _, ext := range []string{"-wal", "-shm"} {
			os.Remove(path + ext)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(ctx, dir)
		if err != nil {
			refused++
			continue
		}
		if all, err := s.Accounts(ctx); err == nil && len(all) < 199 {
			t.Errorf("byte %d changed: %d accounts are left and nothing was said", at, len(all))
		}
		s.Close()
	}
	t.Logf("%d of 300 refused", refused)
}

func TestEnrolOnce(t *testing.T) {
	s := openTest(t, privateDir(t))
	ctx := t.Context()
	owner := addAccount(t, s, "a@b")
	now := time.Now()
	v := Invitation{ID: "id", Secret: sha256.Sum256([]byte("secret")), Owner: owner, Expires: now.Add(time.Minute)}
	if err := s.Invite(ctx, v, now, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Invite(ctx, Invitation{ID: "two", Owner: owner, Expires: now.Add(time.Minute)}, now, 1); err == nil || !strings.Contains(err.Error(), "1 invitations") {
		t.Errorf("one invitation too many: %v", err)
	}
	made := 0
	enrol := func(n int, secret string, at time.Time) (Computer, error) {
		c, first, err := s.Enrol(ctx, "id", sha256.Sum256([]byte(secret)), fmt.Appendf(nil, "key %d", n), at,
			func(v Invitation, taken func(string) (bool, error)) (Computer, string, error) {
				return Computer{ID: fmt.Sprint("uuid ", n), Name: "Desk", Created: at}, "desk", nil
			}, func(Computer) error { return nil })
		if first {
			made++
		}
		return c, err
	}
	for _, c := range []struct {
		name, secret string
		at           time.Time
	}{{"wrong secret", "secreT", now}, {"no secret", "", now}, {"expired", "secret", now.Add(time.Minute)}} {
		if _, err := enrol(1, c.secret, c.at); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What cannot be recorded does not happen, and the token is still good.
	_, _, err := s.Enrol(ctx, "id", v.Secret, []byte("key"), now, func(Invitation, func(string) (bool, error)) (Computer, string, error) {
		return Computer{ID: "x", Name: "x"}, "x", nil
	}, func(Computer) error { return refuse.StorageOut.Of() })
	if !refuse.StorageOut.Is(err) {
		t.Errorf("not recorded: %v", err)
	}
	if c, err := enrol(1, "secret", now); err != nil || c.Email != "a@b" || made != 1 {
		t.Errorf("first use: %+v, %v", c, err)
	}
	if c, err := enrol(1, "secret", now); err != nil || c.ID != "uuid 1" || made != 1 {
		t.Errorf("same key again: %+v, %v", c, err)
	}
	if _, err := enrol(2, "secret", now); !errors.Is(err, ErrNotFound) {
		t.Errorf("other key: %v", err)
	}
	if _, err := enrol(1, "secret", now.Add(time.Minute)); !errors.Is(err, ErrNotFound) {
		t.Errorf("same key after the end: %v", err)
	}
	// A new invitation for a computer that is enrolled.
	other := addAccount(t, s, "c@d")
	for i, owner := range []int64{owner, other} {
		again := Invitation{ID: fmt.Sprint("again", i), Secret: v.Secret, Owner: owner, Expires: now.Add(time.Minute)}
		if err := s.Invite(ctx, again, now, 5); err != nil {
			t.Fatal(err)
		}
		recorded := 0
		c, first, err := s.Enrol(ctx, again.ID, v.Secret, []byte("key 1"), now, nil, func(Computer) error { recorded++; return nil })
		switch {
		case i == 0 && (err != nil || first || c.ID != "uuid 1" || recorded != 1):
			t.Errorf("same owner: %+v, %v, recorded %d times", c, err, recorded)
		case i == 1 && (!errors.Is(err, ErrExists) || recorded != 0):
			t.Errorf("other owner: %+v, %v", c, err)
		}
	}
	if err := s.RemoveComputer(ctx, "uuid 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := enrol(1, "secret", now); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the computer was removed: %v", err)
	}
}

func TestWritesBesideReads(t *testing.T) {
	s := openTest(t, privateDir(t))
	ctx := t.Context()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				if _, err := s.AddAccount(ctx, Account{Email: "x"}, fmt.Sprint(i, " ", j)); err != nil {
					t.Error(err)
				}
				if _, err := s.Accounts(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if list, err := s.Accounts(ctx); err != nil || len(list) != 200 {
		t.Errorf("%d accounts, %v", len(list), err)
	}
}

// limit makes SQLite see a full disk.
func limit(t *testing.T, s *Store, more int) (undo func()) {
	t.Helper()
	var pages int
	if err := s.write.QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	set := func(n int) {
		var now int
		if err := s.write.QueryRow(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)).Scan(&now); err != nil {
			t.Fatal(err)
		}
	}
	set(pages + more)
	return func() { set(1 << 30) }
}

func TestDiskFull(t *testing.T) {
	s := openTest(t, privateDir(t))
	ctx := t.Context()
	addAccount(t, s, "a@b")
	undo := limit(t, s, 0)
	var err error
	n := 0
	for err == nil {
		_, err = s.AddAccount(ctx, Account{Email: "x", Password: strings.Repeat("x", 1000)}, fmt.Sprint(n))
		n++
	}
	if !refuse.StorageOut.Is(err) {
		t.Errorf("disk full: %v", err)
	}
	if list, err := s.Accounts(ctx); err != nil || len(list) != n {
		t.Errorf("%d accounts after the disk was full, %v; want %d", len(list), err, n)
	}
	undo()
	addAccount(t, s, "c@d")
}

func TestReadOnly(t *testing.T) {
	s := openTest(t, privateDir(t))
	if _, err := s.write.Exec(`PRAGMA query_only = 1`); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !refuse.StorageOut.Is(err) {
		t.Errorf("read-only: %v", err)
	}
}

func TestFault(t *testing.T) {
	for _, c := range []struct {
		in   error
		want error
	}{{nil, nil}, {sql.ErrNoRows, ErrNotFound}, {context.Canceled, context.Canceled}} {
		if got := fault("x", c.in); !errors.Is(got, c.want) {
			t.Errorf("fault(%v) = %v", c.in, got)
		}
	}
}

func TestNoRoom(t *testing.T) {
	s := openTest(t, privateDir(t))
	if err := s.Room(); err != nil {
		t.Error(err)
	}
	s.dir = "/proc" // a file system on which nothing is free
	if err := s.Room(); !refuse.StorageOut.Is(err) || !strings.Contains(err.Error(), "0 KiB are left") {
		t.Errorf("nothing is free: %v", err)
	}
	if err := s.Ping(t.Context()); !refuse.StorageOut.Is(err) {
		t.Errorf("ready without room: %v", err)
	}
}

// TestVisits keeps those that were begun and seen late enough, and lets one be ended twice.
func TestVisits(t *testing.T) {
	s := openTest(t, privateDir(t))
	ctx := t.Context()
	a, err := s.AddAccount(ctx, Account{Email: "a@b"}, "a@b")
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) time.Time { return time.UnixMilli(n) }
	for i, v := range []struct{ begun, seen int64 }{{100, 200}, {101, 200}, {101, 201}, {150, 300}} {
		if err := s.AddVisit(ctx, Visit{Secret: [32]byte{byte(i)}, Account: a, Generation: 3, Name: "n", Agent: "g", Source: "s", Begun: at(v.begun), Seen: at(v.seen)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SeenVisit(ctx, [32]byte{3}, at(400)); err != nil {
		t.Fatal(err)
	}
	all, err := s.Visits(ctx, at(100), at(200))
	want := Visit{Secret: [32]byte{3}, Account: a, Generation: 3, Name: "n", Agent: "g", Source: "s", Begun: at(150), Seen: at(400)}
	if err != nil || len(all) != 2 || all[1] != want {
		t.Errorf("%+v, %v; the last is to be %+v", all, err, want)
	}
	for range 2 {
		if err := s.EndVisits(ctx, [][32]byte{{2}, {3}}); err != nil {
			t.Error(err)
		}
	}
	if all, err := s.Visits(ctx, at(0), at(0)); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v after their end", all, err)
	}
}

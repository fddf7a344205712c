package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
)

// appID marks the file as ours ("HLRD"), so that another program's database is not taken for an old one of relayd.
const appID = 0x484c5244

// migrations are the steps of the schema: step i leads from version i to i+1. A step that was released never changes.
// Times are Unix milliseconds.
var migrations = []string{`
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta VALUES ('pings', 0);

CREATE TABLE accounts (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	email    TEXT NOT NULL,
	email_key TEXT NOT NULL UNIQUE, -- as it is compared
	admin    INTEGER NOT NULL,
	disabled INTEGER NOT NULL,
	password TEXT NOT NULL,         -- PHC string
	created  INTEGER NOT NULL
) STRICT;

CREATE TABLE account_keys (
	account     INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	fingerprint TEXT NOT NULL,
	key         BLOB NOT NULL,      -- SSH wire format
	comment     TEXT NOT NULL,
	created     INTEGER NOT NULL,
	PRIMARY KEY (account, fingerprint)
) STRICT;

CREATE TABLE computers (
	id        TEXT PRIMARY KEY,     -- UUID
	owner     INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	name      TEXT NOT NULL,
	name_key  TEXT NOT NULL,        -- as it is compared
	key       BLOB NOT NULL UNIQUE, -- SSH wire format
	hostname  TEXT NOT NULL,
	created   INTEGER NOT NULL,
	last_seen INTEGER NOT NULL,     -- 0: never
	UNIQUE (owner, name_key)
) STRICT;

CREATE TABLE shares (
	computer TEXT NOT NULL REFERENCES computers ON DELETE CASCADE,
	account  INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	access   INTEGER NOT NULL,      -- 1 watch, 2 control
	expires  INTEGER NOT NULL,      -- 0: never
	PRIMARY KEY (computer, account)
) STRICT;
CREATE INDEX shares_by_account ON shares (account);

CREATE TABLE invitations (
	id       TEXT PRIMARY KEY,
	secret   BLOB NOT NULL,         -- SHA-256
	owner    INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	name     TEXT NOT NULL,         -- empty: the computer's own
	expires  INTEGER NOT NULL,
	computer TEXT REFERENCES computers ON DELETE CASCADE -- what it made
) STRICT;

CREATE TABLE failures (
	family INTEGER NOT NULL,
	key    BLOB NOT NULL,
	count  INTEGER NOT NULL,
	since  INTEGER NOT NULL,
	last   INTEGER NOT NULL,
	PRIMARY KEY (family, key)
) STRICT, WITHOUT ROWID;
`, `
ALTER TABLE accounts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0; -- of what it signs in by
`, `
CREATE TABLE visits (             -- browsers that are signed in
	secret     BLOB PRIMARY KEY,  -- SHA-256 of the cookie
	account    INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	generation INTEGER NOT NULL,  -- of what it was signed in by
	name       TEXT NOT NULL,
	agent      TEXT NOT NULL,
	source     TEXT NOT NULL,
	begun      INTEGER NOT NULL,
	seen       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, `
CREATE TABLE authenticators (     -- RFC 6238
	account   INTEGER PRIMARY KEY REFERENCES accounts ON DELETE CASCADE,
	secret    BLOB NOT NULL,      -- sealed
	last_step INTEGER NOT NULL,   -- of the last code that was taken
	created   INTEGER NOT NULL
) STRICT;

CREATE TABLE recovery_codes (
	account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	hash    BLOB NOT NULL,        -- SHA-256
	PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;

ALTER TABLE visits ADD COLUMN proved INTEGER NOT NULL DEFAULT 0; -- when the person has proven last who they are
`, `
CREATE TABLE welcomes (           -- codes by which a person sets the password of an account
	email_key TEXT PRIMARY KEY,
	hash      BLOB NOT NULL UNIQUE, -- SHA-256
	email     TEXT NOT NULL,
	admin     INTEGER NOT NULL,
	account   INTEGER REFERENCES accounts ON DELETE CASCADE, -- NULL: it makes the account
	expires   INTEGER NOT NULL
) STRICT;
`, `
CREATE TABLE passkeys (           -- WebAuthn
	id      BLOB PRIMARY KEY,     -- chosen by the authenticator
	account INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	name    TEXT NOT NULL,
	record  BLOB NOT NULL,        -- JSON of go-webauthn's Credential
	created INTEGER NOT NULL,
	used    INTEGER NOT NULL      -- 0: never
) STRICT;
CREATE INDEX passkeys_by_account ON passkeys (account);
`, `
CREATE TABLE devices (            -- browsers in which an account is not asked for its second factor
	secret     BLOB PRIMARY KEY,  -- SHA-256 of the cookie
	account    INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	generation INTEGER NOT NULL,  -- of what the account signed in by
	name       TEXT NOT NULL,
	agent      TEXT NOT NULL,
	source     TEXT NOT NULL,
	begun      INTEGER NOT NULL,
	expires    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_account ON devices (account);
`, `
ALTER TABLE computers ADD COLUMN away INTEGER NOT NULL DEFAULT 0; -- what it said when it went; 0: nothing
`, `
CREATE TABLE offers (             -- rights for e-mails that have no account yet
	computer  TEXT NOT NULL REFERENCES computers ON DELETE CASCADE,
	email_key TEXT NOT NULL,
	email     TEXT NOT NULL,
	access    INTEGER NOT NULL,   -- as in shares
	expires   INTEGER NOT NULL,
	PRIMARY KEY (computer, email_key)
) STRICT;
CREATE INDEX offers_by_email ON offers (email_key);
`, `
ALTER TABLE accounts ADD COLUMN hinted INTEGER NOT NULL DEFAULT 0; -- the offer to use a viewer of one's own was taken note of
`, `
CREATE TABLE tokens (             -- by which programs use the API
	secret     BLOB PRIMARY KEY,  -- SHA-256 of the token
	account    INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	generation INTEGER NOT NULL,  -- of what the account signed in by
	id         TEXT NOT NULL,
	name       TEXT NOT NULL,
	full       INTEGER NOT NULL,  -- it may change things
	admin      INTEGER NOT NULL,  -- it may what administrators may
	created    INTEGER NOT NULL,
	expires    INTEGER NOT NULL,
	used       INTEGER NOT NULL,  -- 0: never
	source     TEXT NOT NULL      -- address that used it last
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_account ON tokens (account);
`, `
CREATE TABLE marks (              -- how an account keeps computers on its list
	account   INTEGER NOT NULL REFERENCES accounts ON DELETE CASCADE,
	computer  TEXT NOT NULL REFERENCES computers ON DELETE CASCADE,
	favourite INTEGER NOT NULL,
	team      TEXT NOT NULL,      -- name of its group; empty: none
	PRIMARY KEY (account, computer)
) STRICT, WITHOUT ROWID;
`}

// migrate brings the schema to the last of steps. Each step and its version number are one transaction, so a killed
// relayd leaves the old schema or the new one. The file as it was is copied beside itself first.
func migrate(ctx context.Context, db *sql.DB, path string, steps []string) error {
	var app, version int
	if err := db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&app); err != nil {
		return damaged(err)
	}
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return damaged(err)
	}
	switch {
	case version > len(steps):
		return fmt.Errorf("it has schema %d, made by a newer relayd; this one knows schemas up to %d: start the newer relayd, or restore a backup", version, len(steps))
	case version < 1 || app != appID:
		return errors.New("it is not a database of relayd, or it was emptied: restore a backup, or move it away to begin without accounts")
	default:
		if err := check(ctx, db); err != nil {
			return err
		}
		if version < len(steps) {
			if err := backup(ctx, db, fmt.Sprintf("%s.schema%d", path, version)); err != nil {
				return fmt.Errorf("backup before the schema changes: %w", err)
			}
		}
	}
	return climb(ctx, db, version, steps)
}

// climb switches the write-ahead log on and takes the steps from version on.
func climb(ctx context.Context, db *sql.DB, version int, steps []string) error {
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return fault("write-ahead log", err)
	}
	if mode != "wal" {
		return fmt.Errorf("a write-ahead log is not possible here (mode %q): state_dir must be on a local file system", mode)
	}
	for v := version; v < len(steps); v++ {
		if err := step(ctx, db, v+1, steps[v]); err != nil {
			return fault(fmt.Sprintf("change to schema %d", v+1), err)
		}
	}
	return nil
}

func step(ctx context.Context, db *sql.DB, version int, sql string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, sql); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d`, appID, version)); err != nil {
		return err
	}
	return tx.Commit()
}

// check reads the whole file for damage. Stores of relayd are some megabytes: it takes milliseconds.
func check(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, `PRAGMA quick_check(3)`)
	if err != nil {
		return damaged(err)
	}
	defer rows.Close()
	var faults []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return damaged(err)
		}
		if line != "ok" {
			faults = append(faults, line)
		}
	}
	if err := rows.Err(); err != nil {
		return damaged(err)
	}
	if len(faults) > 0 {
		return damaged(errors.New(strings.Join(faults, "; ")))
	}
	return nil
}

func damaged(err error) error {
	return fmt.Errorf("it is damaged (%w): restore a backup", err)
}

// backup writes a copy of the database to a file of mode 0600, replacing an older one.
func backup(ctx context.Context, db *sql.DB, to string) error {
	part := to + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, part); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(part, to)
}

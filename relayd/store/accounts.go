package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// An Account is one person's row.
type Account struct {
	ID       int64
	Email    string // as it was given
	Admin    bool
	Disabled bool
	Password string // PHC string
	Created  time.Time

	// Generation grows when what the account signs in by no longer holds: the password is replaced, a key removed, the
	// account disabled.
	Generation int64

	Factor bool // it has a second factor; read only
}

// A Key is one SSH key of a person.
type Key struct {
	Fingerprint string // SHA256:…
	Key         []byte // SSH wire format
	Comment     string
	Created     time.Time
}

const accountColumns = `id, email, admin, disabled, password, created, generation,
	EXISTS (SELECT 1 FROM authenticators WHERE account = accounts.id) OR EXISTS (SELECT 1 FROM passkeys WHERE account = accounts.id)`

func scanAccount(row interface{ Scan(...any) error }) (Account, error) {
	var a Account
	var created int64
	err := row.Scan(&a.ID, &a.Email, &a.Admin, &a.Disabled, &a.Password, &created, &a.Generation, &a.Factor)
	a.Created = stamp(created)
	return a, err
}

// AddAccount adds an account, which gets what was offered to its e-mail; key is its e-mail as it is compared. ErrExists: the e-mail is taken.
func (s *Store) AddAccount(ctx context.Context, a Account, key string) (id int64, err error) {
	err = s.change(ctx, "add account", func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `INSERT INTO accounts (email, email_key, admin, disabled, password, created) VALUES (?,?,?,?,?,?)`,
			a.Email, key, a.Admin, a.Disabled, a.Password, millis(a.Created))
		if err != nil {
			return err
		}
		if id, err = r.LastInsertId(); err != nil {
			return err
		}
		return takeOffers(ctx, tx, id, key)
	})
	return id, err
}

// Account finds an account by its e-mail as it is compared. ErrNotFound: there is none.
func (s *Store) Account(ctx context.Context, key string) (Account, error) {
	a, err := scanAccount(s.read.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM accounts WHERE email_key = ?`, key))
	return a, fault("account", err)
}

// AccountByID finds an account by its number. ErrNotFound: there is none.
func (s *Store) AccountByID(ctx context.Context, id int64) (Account, error) {
	a, err := scanAccount(s.read.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM accounts WHERE id = ?`, id))
	return a, fault("account", err)
}

// Accounts are all accounts, by e-mail.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	return collect(ctx, s.read, "accounts", scanAccount, `SELECT `+accountColumns+` FROM accounts ORDER BY email_key`)
}

// SetDisabled switches an account off, which begins a generation and ends its welcome, or on. ErrNotFound: there is none.
func (s *Store) SetDisabled(ctx context.Context, id int64, disabled bool) error {
	if disabled {
		return s.begin(ctx, `UPDATE accounts SET disabled = TRUE, generation = generation + 1 WHERE id = ?1`, id)
	}
	return s.one(ctx, "account", `UPDATE accounts SET disabled = FALSE WHERE id = ?`, id)
}

// SetPassword replaces the PHC string of an account, begins a generation and ends its welcome. ErrNotFound: there is none.
func (s *Store) SetPassword(ctx context.Context, id int64, phc string) error {
	return s.begin(ctx, `UPDATE accounts SET password = ?2, generation = generation + 1 WHERE id = ?1`, id, phc)
}

// begin changes an account, the ?1 of query, and ends what was given out before to set its password.
func (s *Store) begin(ctx context.Context, query string, id int64, args ...any) error {
	return s.change(ctx, "account", func(tx *sql.Tx) error {
		if err := one(ctx, tx, query, append([]any{id}, args...)...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM welcomes WHERE account = ?`, id)
		return err
	})
}

// Hinted says whether SetHinted was called for an account. ErrNotFound: there is none.
func (s *Store) Hinted(ctx context.Context, id int64) (hinted bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT hinted FROM accounts WHERE id = ?`, id).Scan(&hinted)
	return hinted, fault("account", err)
}

// SetHinted says that an account needs no more hints. ErrNotFound: there is none.
func (s *Store) SetHinted(ctx context.Context, id int64) error {
	return s.one(ctx, "account", `UPDATE accounts SET hinted = 1 WHERE id = ?`, id)
}

// AddKey adds a key to an account that has fewer than max. ErrExists: it has this one already.
func (s *Store) AddKey(ctx context.Context, account int64, k Key, max int) error {
	return s.change(ctx, "add key", func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM account_keys WHERE account = ?`, account).Scan(&n); err != nil {
			return err
		}
		if n >= max {
			return fmt.Errorf("the account has %d keys, as many as it may have; remove one first", n)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO account_keys (account, fingerprint, key, comment, created) VALUES (?,?,?,?,?)`,
			account, k.Fingerprint, k.Key, k.Comment, millis(k.Created))
		return err
	})
}

// Keys are the keys of an account, oldest first.
func (s *Store) Keys(ctx context.Context, account int64) ([]Key, error) {
	scan := func(row interface{ Scan(...any) error }) (Key, error) {
		var k Key
		var created int64
		err := row.Scan(&k.Fingerprint, &k.Key, &k.Comment, &created)
		k.Created = stamp(created)
		return k, err
	}
	return collect(ctx, s.read, "keys", scan, `SELECT fingerprint, key, comment, created FROM account_keys WHERE account = ? ORDER BY created, fingerprint`, account)
}

// HasKey says whether an account has a key.
func (s *Store) HasKey(ctx context.Context, account int64, key []byte) (bool, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM account_keys WHERE account = ? AND key = ?`, account, key).Scan(&n)
	return n > 0, fault("keys", err)
}

// RemoveKey takes a key from an account and begins a generation. ErrNotFound: it has no such key.
func (s *Store) RemoveKey(ctx context.Context, account int64, fingerprint string) error {
	return s.change(ctx, "key", func(tx *sql.Tx) error {
		if err := one(ctx, tx, `DELETE FROM account_keys WHERE account = ? AND fingerprint = ?`, account, fingerprint); err != nil {
			return err
		}
		return one(ctx, tx, `UPDATE accounts SET generation = generation + 1 WHERE id = ?`, account)
	})
}

// one is a transaction of a single statement, which must change a row.
func (s *Store) one(ctx context.Context, what, query string, args ...any) error {
	return s.change(ctx, what, func(tx *sql.Tx) error { return one(ctx, tx, query, args...) })
}

// one runs a statement that must change a row.
func one(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	r, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	return err
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, what string, scan func(interface{ Scan(...any) error }) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fault(what, err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fault(what, err)
		}
		all = append(all, v)
	}
	return all, fault(what, rows.Err())
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func stamp(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

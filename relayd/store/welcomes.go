package store

import (
	"context"
	"database/sql"
	"time"
)

// A Welcome lets a person set the password of an account, once: a new account's, or that of an account there is.
type Welcome struct {
	Hash    [32]byte // SHA-256 of the code
	Email   string   // as it was given
	Admin   bool     // of a new account
	Account int64    // 0: it makes the account
	Expires time.Time
}

// SetWelcome stores a welcome; key is its e-mail as it is compared. An older one of that e-mail goes, and so do those that have
// expired by now.
func (s *Store) SetWelcome(ctx context.Context, w Welcome, key string, now time.Time) error {
	return s.change(ctx, "welcome", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM welcomes WHERE expires <= ?`, millis(now)); err != nil {
			return err
		}
		account := sql.NullInt64{Int64: w.Account, Valid: w.Account != 0}
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO welcomes (email_key, hash, email, admin, account, expires) VALUES (?,?,?,?,?,?)`,
			key, w.Hash[:], w.Email, w.Admin, account, millis(w.Expires))
		return err
	})
}

// Welcome is the one of that hash. ErrNotFound: there is none, or it has expired.
func (s *Store) Welcome(ctx context.Context, hash [32]byte, now time.Time) (Welcome, error) {
	w, err := welcome(s.read.QueryRowContext(ctx, selectWelcome, hash[:], millis(now)))
	return w, fault("welcome", err)
}

const selectWelcome = `SELECT email, admin, account, expires FROM welcomes WHERE hash = ? AND expires > ?`

func welcome(row *sql.Row) (Welcome, error) {
	var w Welcome
	var account sql.NullInt64
	var expires int64
	err := row.Scan(&w.Email, &w.Admin, &account, &expires)
	w.Account, w.Expires = account.Int64, stamp(expires)
	return w, err
}

// UseWelcome spends a welcome: it makes the account, with e-mail key and password, or replaces the password and begins a generation.
// ErrNotFound: it was spent, or has expired. ErrExists: the e-mail was taken meanwhile.
func (s *Store) UseWelcome(ctx context.Context, hash [32]byte, key, phc string, now time.Time) error {
	return s.change(ctx, "welcome", func(tx *sql.Tx) error {
		w, err := welcome(tx.QueryRowContext(ctx, selectWelcome, hash[:], millis(now)))
		if err != nil {
			return err
		}
		if err := one(ctx, tx, `DELETE FROM welcomes WHERE hash = ?`, hash[:]); err != nil {
			return err
		}
		if w.Account == 0 {
			r, err := tx.ExecContext(ctx, `INSERT INTO accounts (email, email_key, admin, disabled, password, created) VALUES (?,?,?,FALSE,?,?)`,
				w.Email, key, w.Admin, phc, millis(now))
			if err != nil {
				return err
			}
			id, err := r.LastInsertId()
			if err != nil {
				return err
			}
			return takeOffers(ctx, tx, id, key)
		}
		return one(ctx, tx, `UPDATE accounts SET password = ?, generation = generation + 1 WHERE id = ?`, phc, w.Account)
	})
}

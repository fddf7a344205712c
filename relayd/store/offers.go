package store

import (
	"context"
	"database/sql"
	"time"
)

// An offer is a right to a computer for an e-mail that has no account yet: the account gets it when it is made.

// SetOffer offers a right, or another one; key is the e-mail as it is compared.
func (s *Store) SetOffer(ctx context.Context, computer, key, email string, access int, expires time.Time) error {
	return s.change(ctx, "offer", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO offers (computer, email_key, email, access, expires) VALUES (?,?,?,?,?)`,
			computer, key, email, access, millis(expires))
		return err
	})
}

// RemoveOffer takes an offer back. ErrNotFound: there is none.
func (s *Store) RemoveOffer(ctx context.Context, computer, key string) error {
	return s.one(ctx, "offer", `DELETE FROM offers WHERE computer = ? AND email_key = ?`, computer, key)
}

// takeOffers gives a new account what was offered to its e-mail.
func takeOffers(ctx context.Context, tx *sql.Tx, account int64, key string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO shares (computer, account, access, expires) SELECT computer, ?, access, expires FROM offers WHERE email_key = ?`, account, key)
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM offers WHERE email_key = ?`, key)
	}
	return err
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// An Authenticator is what makes the codes of an account's second factor: RFC 6238.
type Authenticator struct {
	Account  int64
	Secret   []byte // sealed
	LastStep int64  // of the last code that was taken; no code of it or before is taken any more
	Created  time.Time
}

// SetAuthenticator gives an account its authenticator, in place of another, and the hashes of its recovery codes. No device is trusted
// any more.
func (s *Store) SetAuthenticator(ctx context.Context, a Authenticator, recovery [][32]byte) error {
	return s.change(ctx, "authenticator", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO authenticators (account, secret, last_step, created) VALUES (?,?,?,?)`,
			a.Account, a.Secret, a.LastStep, millis(a.Created))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM devices WHERE account = ?`, a.Account); err != nil {
			return err
		}
		return setRecovery(ctx, tx, a.Account, recovery)
	})
}

// Authenticator is that of an account. ErrNotFound: it has none.
func (s *Store) Authenticator(ctx context.Context, account int64) (Authenticator, error) {
	a := Authenticator{Account: account}
	var created int64
	err := s.read.QueryRowContext(ctx, `SELECT secret, last_step, created FROM authenticators WHERE account = ?`, account).Scan(&a.Secret, &a.LastStep, &created)
	a.Created = stamp(created)
	return a, fault("authenticator", err)
}

// Authenticators says whether any account has one.
func (s *Store) Authenticators(ctx context.Context) (any bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM authenticators)`).Scan(&any)
	return any, fault("authenticators", err)
}

// TakeStep takes the code of a step, once: the answer is false when this step, or a later one, was taken before.
func (s *Store) TakeStep(ctx context.Context, account, step int64) (bool, error) {
	return found(s.one(ctx, "authenticator", `UPDATE authenticators SET last_step = ?1 WHERE account = ?2 AND last_step < ?1`, step, account))
}

// SetRecovery replaces the recovery codes of an account, by their hashes.
func (s *Store) SetRecovery(ctx context.Context, account int64, hashes [][32]byte) error {
	return s.change(ctx, "recovery codes", func(tx *sql.Tx) error { return setRecovery(ctx, tx, account, hashes) })
}

func setRecovery(ctx context.Context, tx *sql.Tx, account int64, hashes [][32]byte) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM recovery_codes WHERE account = ?`, account); err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := tx.ExecContext(ctx, `INSERT INTO recovery_codes (account, hash) VALUES (?,?)`, account, h[:]); err != nil {
			return err
		}
	}
	return nil
}

// TakeRecovery spends a recovery code, by its hash: the answer is false when the account has none like it.
func (s *Store) TakeRecovery(ctx context.Context, account int64, hash [32]byte) (bool, error) {
	return found(s.one(ctx, "recovery code", `DELETE FROM recovery_codes WHERE account = ? AND hash = ?`, account, hash[:]))
}

// Recovery is how many recovery codes an account has left.
func (s *Store) Recovery(ctx context.Context, account int64) (n int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM recovery_codes WHERE account = ?`, account).Scan(&n)
	return n, fault("recovery codes", err)
}

// EndFactors takes every second factor from an account and begins a generation.
func (s *Store) EndFactors(ctx context.Context, account int64) error {
	return s.change(ctx, "second factor", func(tx *sql.Tx) error {
		for _, table := range []string{"authenticators", "passkeys", "recovery_codes", "devices"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE account = ?`, account); err != nil {
				return err
			}
		}
		return one(ctx, tx, `UPDATE accounts SET generation = generation + 1 WHERE id = ?`, account)
	})
}

// found turns ErrNotFound into false.
func found(err error) (bool, error) {
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

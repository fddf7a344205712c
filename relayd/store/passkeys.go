package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Passkey is a WebAuthn credential of an account.
type Passkey struct {
	ID      []byte // chosen by the authenticator
	Account int64
	Name    string
	Record  []byte // as package account writes it
	Created time.Time
	Used    time.Time // zero: never
}

// AddPasskey adds a passkey to an account that has fewer than max, and recovery codes to one that has no second factor yet; first says
// whether it has got them. ErrExists: the passkey is there already.
func (s *Store) AddPasskey(ctx context.Context, k Passkey, max int, recovery [][32]byte) (first bool, err error) {
	err = s.change(ctx, "passkey", func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM passkeys WHERE account = ?`, k.Account).Scan(&n); err != nil {
			return err
		}
		if n >= max {
			return fmt.Errorf("the account has %d passkeys, as many as it may have; remove one first", n)
		}
		err := tx.QueryRowContext(ctx, `SELECT NOT EXISTS (SELECT 1 FROM recovery_codes WHERE account = ?1) AND NOT `+hasFactor, k.Account).Scan(&first)
		if err == nil && first {
			err = setRecovery(ctx, tx, k.Account, recovery)
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO passkeys (id, account, name, record, created, used) VALUES (?,?,?,?,?,0)`, k.ID, k.Account, k.Name, k.Record, millis(k.Created))
		return err
	})
	return first, err
}

// hasFactor is whether the account ?1 has a second factor.
const hasFactor = `(EXISTS (SELECT 1 FROM authenticators WHERE account = ?1) OR EXISTS (SELECT 1 FROM passkeys WHERE account = ?1))`

// Passkeys are those of an account, the oldest first.
func (s *Store) Passkeys(ctx context.Context, account int64) ([]Passkey, error) {
	scan := func(row interface{ Scan(...any) error }) (Passkey, error) {
		k := Passkey{Account: account}
		var created, used int64
		err := row.Scan(&k.ID, &k.Name, &k.Record, &created, &used)
		k.Created, k.Used = stamp(created), stamp(used)
		return k, err
	}
	return collect(ctx, s.read, "passkeys", scan, `SELECT id, name, record, created, used FROM passkeys WHERE account = ? ORDER BY created, id`, account)
}

// UsePasskey records that a passkey was used. ErrNotFound: it is gone.
func (s *Store) UsePasskey(ctx context.Context, account int64, id, record []byte, at time.Time) error {
	return s.one(ctx, "passkey", `UPDATE passkeys SET record = ?, used = ? WHERE account = ? AND id = ?`, record, millis(at), account, id)
}

// RemovePasskey takes a passkey from an account and begins a generation. With the last of its second factors go the recovery codes and devices.
// ErrNotFound: it has no such passkey.
func (s *Store) RemovePasskey(ctx context.Context, account int64, id []byte) error {
	return s.change(ctx, "passkey", func(tx *sql.Tx) error {
		if err := one(ctx, tx, `DELETE FROM passkeys WHERE account = ? AND id = ?`, account, id); err != nil {
			return err
		}
		if err := dropRest(ctx, tx, account); err != nil {
			return err
		}
		return one(ctx, tx, `UPDATE accounts SET generation = generation + 1 WHERE id = ?`, account)
	})
}

// EndAuthenticator takes the authenticator from an account, and with the last of its second factors the recovery codes and devices.
func (s *Store) EndAuthenticator(ctx context.Context, account int64) error {
	return s.change(ctx, "authenticator", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM authenticators WHERE account = ?`, account); err != nil {
			return err
		}
		return dropRest(ctx, tx, account)
	})
}

// dropRest removes the recovery codes and devices of an account that has no second factor any more.
func dropRest(ctx context.Context, tx *sql.Tx, account int64) error {
	for _, table := range []string{"recovery_codes", "devices"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE account = ?1 AND NOT `+hasFactor, account); err != nil {
			return err
		}
	}
	return nil
}

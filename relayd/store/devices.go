package store

import (
	"context"
	"database/sql"
	"time"
)

// A Device is a browser in which an account is not asked for its second factor.
type Device struct {
	Secret     [32]byte // SHA-256 of the cookie
	Account    int64
	Generation int64  // of what the account signed in by when it was trusted
	Name       string // by which the account removes it
	Agent      string // what the browser says of itself
	Source     string // address of the sign-in
	Begun      time.Time
	Expires    time.Time
}

// AddDevice stores a device. Those that have expired by then go, and the account's oldest beyond max.
func (s *Store) AddDevice(ctx context.Context, d Device, max int) error {
	return s.change(ctx, "device", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM devices WHERE expires <= ?`, millis(d.Begun)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO devices (secret, account, generation, name, agent, source, begun, expires) VALUES (?,?,?,?,?,?,?,?)`,
			d.Secret[:], d.Account, d.Generation, d.Name, d.Agent, d.Source, millis(d.Begun), millis(d.Expires))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM devices WHERE account = ?1 AND secret NOT IN
			(SELECT secret FROM devices WHERE account = ?1 ORDER BY begun DESC LIMIT ?2)`, d.Account, max)
		return err
	})
}

// Devices are those of an account that hold at that time, the oldest first: they have its generation.
func (s *Store) Devices(ctx context.Context, account int64, now time.Time) ([]Device, error) {
	scan := func(row interface{ Scan(...any) error }) (Device, error) {
		d := Device{Account: account}
		var secret []byte
		var begun, expires int64
		err := row.Scan(&secret, &d.Generation, &d.Name, &d.Agent, &d.Source, &begun, &expires)
		copy(d.Secret[:], secret)
		d.Begun, d.Expires = stamp(begun), stamp(expires)
		return d, err
	}
	return collect(ctx, s.read, "devices", scan, `SELECT secret, generation, name, agent, source, begun, expires FROM devices
		WHERE account = ?1 AND expires > ?2 AND generation = (SELECT generation FROM accounts WHERE id = ?1) ORDER BY begun`, account, millis(now))
}

// RemoveDevice removes a device of an account, by its name. ErrNotFound: it has none of that name.
func (s *Store) RemoveDevice(ctx context.Context, account int64, name string) error {
	return s.one(ctx, "device", `DELETE FROM devices WHERE account = ? AND name = ?`, account, name)
}

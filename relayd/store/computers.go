package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Computer is one enrolled machine.
type Computer struct {
	ID       string // UUID
	Owner    int64
	Email    string // of the owner
	Name     string
	Key      []byte // SSH wire format
	Hostname string // what the computer calls itself
	Created  time.Time
	LastSeen time.Time // zero: never
	Away     uint8     // what it said when it went; 0: nothing

	// For the account that asked; see ComputersFor.
	Access  int       // 1 watch, 2 control
	Expires time.Time // of the share; zero: never
}

// A Share is a right that the owner of a computer gave to another account.
type Share struct {
	Account int64
	Email   string
	Access  int       // 1 watch, 2 control
	Expires time.Time // zero: never
}

// An Invitation lets one computer enrol.
type Invitation struct {
	ID      string
	Secret  [32]byte // SHA-256 of the secret
	Owner   int64
	Name    string // empty: the computer's own
	Expires time.Time
}

const computerColumns = `c.id, c.owner, a.email, c.name, c.key, c.hostname, c.created, c.last_seen, c.away`

func computerFields(c *Computer, created, seen *int64) []any {
	return []any{&c.ID, &c.Owner, &c.Email, &c.Name, &c.Key, &c.Hostname, created, seen, &c.Away}
}

func scanComputer(row interface{ Scan(...any) error }) (Computer, error) {
	var c Computer
	var created, seen int64
	err := row.Scan(computerFields(&c, &created, &seen)...)
	c.Created, c.LastSeen = stamp(created), stamp(seen)
	return c, err
}

func scanAccess(row interface{ Scan(...any) error }) (Computer, error) {
	var c Computer
	var created, seen, expires int64
	err := row.Scan(append(computerFields(&c, &created, &seen), &c.Access, &expires)...)
	c.Created, c.LastSeen, c.Expires = stamp(created), stamp(seen), stamp(expires)
	return c, err
}

// ComputersFor are the computers an account may use at now: its own (with control) by name, then those shared with it.
func (s *Store) ComputersFor(ctx context.Context, account int64, now time.Time) ([]Computer, error) {
	return collect(ctx, s.read, "computers", scanAccess, `
		SELECT * FROM (SELECT `+computerColumns+`, 2 AS access, 0 AS expires FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.owner = ?1 ORDER BY c.name_key)
		UNION ALL SELECT * FROM (SELECT `+computerColumns+`, s.access, s.expires FROM shares s JOIN computers c ON c.id = s.computer JOIN accounts a ON a.id = c.owner
			WHERE s.account = ?1 AND (s.expires = 0 OR s.expires > ?2) ORDER BY c.name_key, c.id)`, account, millis(now))
}

// FindFor is what ComputersFor gives, cut down to those whose name as it is compared, or whose UUID, is as given.
func (s *Store) FindFor(ctx context.Context, account int64, nameKey, id string, now time.Time) ([]Computer, error) {
	return collect(ctx, s.read, "computers", scanAccess, `
		SELECT `+computerColumns+`, 2, 0 FROM computers c JOIN accounts a ON a.id = c.owner
			WHERE c.owner = ?1 AND (c.name_key = ?2 OR c.id = ?3)
		UNION ALL SELECT `+computerColumns+`, s.access, s.expires FROM shares s JOIN computers c ON c.id = s.computer JOIN accounts a ON a.id = c.owner
			WHERE s.account = ?1 AND (s.expires = 0 OR s.expires > ?4) AND (c.name_key = ?2 OR c.id = ?3)`, account, nameKey, id, millis(now))
}

// Computers are all computers, by owner and name.
func (s *Store) Computers(ctx context.Context) ([]Computer, error) {
	return collect(ctx, s.read, "computers", scanComputer, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner ORDER BY a.email_key, c.name_key`)
}

// ComputersNamed are all computers, whoever owns them, with a name as it is compared.
func (s *Store) ComputersNamed(ctx context.Context, nameKey string) ([]Computer, error) {
	return collect(ctx, s.read, "computers", scanComputer, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.name_key = ? ORDER BY a.email_key`, nameKey)
}

// Computer finds a computer by its UUID. ErrNotFound: there is none.
func (s *Store) Computer(ctx context.Context, id string) (Computer, error) {
	c, err := scanComputer(s.read.QueryRowContext(ctx, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.id = ?`, id))
	return c, fault("computer", err)
}

// ComputerByKey finds a computer by its key. ErrNotFound: there is none.
func (s *Store) ComputerByKey(ctx context.Context, key []byte) (Computer, error) {
	c, err := scanComputer(s.read.QueryRowContext(ctx, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.key = ?`, key))
	return c, fault("computer", err)
}

// RenameComputer gives a computer another name. ErrExists: its owner has one of that name. ErrNotFound: there is none.
func (s *Store) RenameComputer(ctx context.Context, id, name, nameKey string) error {
	return s.one(ctx, "computer", `UPDATE computers SET name = ?, name_key = ? WHERE id = ?`, name, nameKey, id)
}

// RemoveComputer removes a computer with its shares. ErrNotFound: there is none.
func (s *Store) RemoveComputer(ctx context.Context, id string) error {
	return s.one(ctx, "computer", `DELETE FROM computers WHERE id = ?`, id)
}

// A Sight is when a computer was last online.
type Sight struct {
	At   time.Time
	Away uint8 // what it said when it went; 0: nothing, or it has not gone
}

// Seen records when computers were last online. Those that were removed meanwhile are left out.
func (s *Store) Seen(ctx context.Context, at map[string]Sight) error {
	return s.change(ctx, "last seen", func(tx *sql.Tx) error {
		st, err := tx.PrepareContext(ctx, `UPDATE computers SET last_seen = ?, away = ? WHERE id = ?`)
		if err != nil {
			return err
		}
		defer st.Close()
		for id, t := range at {
			if _, err := st.ExecContext(ctx, millis(t.At), t.Away, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetShare gives an account a right to a computer, or another one.
func (s *Store) SetShare(ctx context.Context, computer string, account int64, access int, expires time.Time) error {
	return s.change(ctx, "share", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO shares VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET access = excluded.access, expires = excluded.expires`,
			computer, account, access, millis(expires))
		return err
	})
}

// RemoveShare takes an account's right to a computer. ErrNotFound: it has none.
func (s *Store) RemoveShare(ctx context.Context, computer string, account int64) error {
	return s.one(ctx, "share", `DELETE FROM shares WHERE computer = ? AND account = ?`, computer, account)
}

// Shares are the rights others have to a computer, or are offered (with no account), expired ones included, by e-mail.
func (s *Store) Shares(ctx context.Context, computer string) ([]Share, error) {
	scan := func(row interface{ Scan(...any) error }) (Share, error) {
		var h Share
		var expires int64
		var key string
		err := row.Scan(&h.Account, &h.Email, &h.Access, &expires, &key)
		h.Expires = stamp(expires)
		return h, err
	}
	return collect(ctx, s.read, "shares", scan, `
		SELECT a.id, a.email, s.access, s.expires, a.email_key FROM shares s JOIN accounts a ON a.id = s.account WHERE s.computer = ?1
		UNION ALL SELECT 0, email, access, expires, email_key FROM offers WHERE computer = ?1 ORDER BY email_key`, computer)
}

// Invite stores an invitation, for an owner who has fewer than max live ones. Those that expired before now go away.
func (s *Store) Invite(ctx context.Context, v Invitation, now time.Time, max int) error {
	return s.change(ctx, "invitation", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM invitations WHERE expires <= ?`, millis(now)); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM invitations WHERE owner = ? AND computer IS NULL`, v.Owner).Scan(&n); err != nil {
			return err
		}
		if n >= max {
			return fmt.Errorf("%d invitations of this account are open, as many as it may have; wait until one has expired", n)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO invitations (id, secret, owner, name, expires) VALUES (?,?,?,?,?)`,
			v.ID, v.Secret[:], v.Owner, v.Name, millis(v.Expires))
		return err
	})
}

// Enrol uses the invitation id up and inserts the computer that choose makes for its owner and name, in one
// transaction. The same key may use the same invitation again until it expires, and gets the same computer; made tells
// the two apart. A key that the owner has enrolled before keeps its computer. ErrNotFound: no such invitation, wrong
// secret, expired, or used by another key. ErrExists: the key is that of another owner's computer.
//
// choose gets the invitation and learns whether a name, as it is compared, is taken. record is called last, before
// the invitation is used up for good; its error undoes all.
func (s *Store) Enrol(ctx context.Context, id string, secret [32]byte, key []byte, now time.Time,
	choose func(v Invitation, taken func(nameKey string) (bool, error)) (c Computer, nameKey string, err error),
	record func(Computer) error) (c Computer, made bool, err error) {
	err = s.change(ctx, "enrol", func(tx *sql.Tx) error {
		v := Invitation{ID: id}
		var hash []byte
		var expires int64
		var used sql.NullString
		var disabled bool
		err := tx.QueryRowContext(ctx, `SELECT v.secret, v.owner, v.name, v.expires, v.computer, a.disabled FROM invitations v JOIN accounts a ON a.id = v.owner WHERE v.id = ?`, id).
			Scan(&hash, &v.Owner, &v.Name, &expires, &used, &disabled)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		right := subtle.ConstantTimeCompare(hash, secret[:]) == 1 // an unknown id has no hash
		if err != nil || !right || disabled || expires <= millis(now) {
			return sql.ErrNoRows
		}
		if used.Valid {
			c, err = scanComputer(tx.QueryRowContext(ctx, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.id = ? AND c.key = ?`, used.String, key))
			return err
		}
		switch c, err = scanComputer(tx.QueryRowContext(ctx, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.key = ?`, key)); {
		case err == nil && c.Owner != v.Owner:
			return ErrExists
		case err == nil:
			if _, err := tx.ExecContext(ctx, `UPDATE invitations SET computer = ? WHERE id = ?`, c.ID, id); err != nil {
				return err
			}
			return record(c)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		var nameKey string
		c, nameKey, err = choose(v, func(nameKey string) (bool, error) {
			var n int
			err := tx.QueryRowContext(ctx, `SELECT count(*) FROM computers WHERE owner = ? AND name_key = ?`, v.Owner, nameKey).Scan(&n)
			return n > 0, err
		})
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO computers (id, owner, name, name_key, key, hostname, created, last_seen) VALUES (?,?,?,?,?,?,?,0)`,
			c.ID, v.Owner, c.Name, nameKey, key, c.Hostname, millis(c.Created)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE invitations SET computer = ? WHERE id = ?`, c.ID, id); err != nil {
			return err
		}
		made = true
		c, err = scanComputer(tx.QueryRowContext(ctx, `SELECT `+computerColumns+` FROM computers c JOIN accounts a ON a.id = c.owner WHERE c.id = ?`, c.ID))
		if err != nil {
			return err
		}
		return record(c)
	})
	return c, made && err == nil, err
}

package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Token lets a program use the API in the name of an account.
type Token struct {
	Secret     [32]byte // SHA-256 of the token
	Account    int64
	Generation int64  // of what the account signed in by when it was made
	ID         string // by which the account removes it
	Name       string
	Full       bool // it may change things
	Admin      bool // it may what an administrator may, as long as the account is one
	Created    time.Time
	Expires    time.Time
	Used       time.Time // zero: never
	Source     string    // address that used it
}

const tokenColumns = `secret, account, generation, id, name, full, admin, created, expires, used, source`

func scanToken(row interface{ Scan(...any) error }) (Token, error) {
	var t Token
	var secret []byte
	var created, expires, used int64
	err := row.Scan(&secret, &t.Account, &t.Generation, &t.ID, &t.Name, &t.Full, &t.Admin, &created, &expires, &used, &t.Source)
	copy(t.Secret[:], secret)
	t.Created, t.Expires, t.Used = stamp(created), stamp(expires), stamp(used)
	return t, err
}

// tokenHolds is a condition with the time as ?1.
const tokenHolds = `expires > ?1 AND generation = (SELECT generation FROM accounts WHERE id = account)`

// AddToken adds a token to an account that has fewer than max. Those that do not hold any more go.
func (s *Store) AddToken(ctx context.Context, t Token, max int) error {
	return s.change(ctx, "token", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE NOT (`+tokenHolds+`)`, millis(t.Created)); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM tokens WHERE account = ?`, t.Account).Scan(&n); err != nil {
			return err
		}
		if n >= max {
			return fmt.Errorf("the account has %d tokens, as many as it may have; remove one first", n)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO tokens (`+tokenColumns+`) VALUES (?,?,?,?,?,?,?,?,?,0,'')`,
			t.Secret[:], t.Account, t.Generation, t.ID, t.Name, t.Full, t.Admin, millis(t.Created), millis(t.Expires))
		return err
	})
}

// Token finds a token that holds at now, by its SHA-256. ErrNotFound: there is none.
func (s *Store) Token(ctx context.Context, secret [32]byte, now time.Time) (Token, error) {
	t, err := scanToken(s.read.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE secret = ?2 AND `+tokenHolds, millis(now), secret[:]))
	return t, fault("token", err)
}

// Tokens are those of an account that hold at now, the oldest first.
func (s *Store) Tokens(ctx context.Context, account int64, now time.Time) ([]Token, error) {
	return collect(ctx, s.read, "tokens", scanToken, `SELECT `+tokenColumns+` FROM tokens WHERE account = ?2 AND `+tokenHolds+` ORDER BY created, id`, millis(now), account)
}

// UsedToken records who used a token last. One that was removed meanwhile is left out.
func (s *Store) UsedToken(ctx context.Context, secret [32]byte, source string, at time.Time) error {
	return s.change(ctx, "token", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE tokens SET used = ?, source = ? WHERE secret = ?`, millis(at), source, secret[:])
		return err
	})
}

// RemoveToken removes a token of an account. ErrNotFound: it has none of that ID.
func (s *Store) RemoveToken(ctx context.Context, account int64, id string) error {
	return s.one(ctx, "token", `DELETE FROM tokens WHERE account = ? AND id = ?`, account, id)
}

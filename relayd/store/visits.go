package store

import (
	"context"
	"database/sql"
	"time"
)

// A Visit is an account signed in with one browser.
type Visit struct {
	Secret     [32]byte // SHA-256 of the cookie
	Account    int64
	Generation int64  // of what it was signed in by
	Name       string // by which the account ends it
	Agent      string // what the browser says of itself
	Source     string // address of the sign-in
	Begun      time.Time
	Seen       time.Time
	Proved     time.Time // when the person has proven last who they are
}

// AddVisit stores a visit.
func (s *Store) AddVisit(ctx context.Context, v Visit) error {
	return s.change(ctx, "visit", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO visits VALUES (?,?,?,?,?,?,?,?,?)`,
			v.Secret[:], v.Account, v.Generation, v.Name, v.Agent, v.Source, millis(v.Begun), millis(v.Seen), millis(v.Proved))
		return err
	})
}

// Visits are those that were begun and seen after the given times. The others go away.
func (s *Store) Visits(ctx context.Context, begun, seen time.Time) ([]Visit, error) {
	err := s.change(ctx, "visits", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM visits WHERE begun <= ? OR seen <= ?`, millis(begun), millis(seen))
		return err
	})
	if err != nil {
		return nil, err
	}
	scan := func(row interface{ Scan(...any) error }) (Visit, error) {
		var v Visit
		var secret []byte
		var begun, seen, proved int64
		err := row.Scan(&secret, &v.Account, &v.Generation, &v.Name, &v.Agent, &v.Source, &begun, &seen, &proved)
		copy(v.Secret[:], secret)
		v.Begun, v.Seen, v.Proved = stamp(begun), stamp(seen), stamp(proved)
		return v, err
	}
	return collect(ctx, s.read, "visits", scan, `SELECT secret, account, generation, name, agent, source, begun, seen, proved FROM visits`)
}

// SeenVisit records when a visit was seen. One that has ended meanwhile is left out.
func (s *Store) SeenVisit(ctx context.Context, secret [32]byte, at time.Time) error {
	return s.change(ctx, "visit", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE visits SET seen = ? WHERE secret = ?`, millis(at), secret[:])
		return err
	})
}

// RenewVisit gives a visit another secret: the answer is false when there is none.
func (s *Store) RenewVisit(ctx context.Context, from, to [32]byte, proved time.Time) (bool, error) {
	return found(s.one(ctx, "visit", `UPDATE visits SET secret = ?, proved = ? WHERE secret = ?`, to[:], millis(proved), from[:]))
}

// EndVisits removes visits; those that are gone already do not matter.
func (s *Store) EndVisits(ctx context.Context, secrets [][32]byte) error {
	if len(secrets) == 0 {
		return nil
	}
	return s.change(ctx, "visits", func(tx *sql.Tx) error {
		for _, k := range secrets {
			if _, err := tx.ExecContext(ctx, `DELETE FROM visits WHERE secret = ?`, k[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

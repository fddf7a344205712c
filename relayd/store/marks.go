package store

import (
	"context"
	"database/sql"
)

// A Mark is how an account keeps a computer on its list.
type Mark struct {
	Computer  string
	Favourite bool
	Group     string // empty: none
}

// Marks are those of an account.
func (s *Store) Marks(ctx context.Context, account int64) ([]Mark, error) {
	scan := func(row interface{ Scan(...any) error }) (m Mark, err error) {
		err = row.Scan(&m.Computer, &m.Favourite, &m.Group)
		return m, err
	}
	return collect(ctx, s.read, "marks", scan, `SELECT computer, favourite, team FROM marks WHERE account = ?`, account)
}

// SetFavourite has an account keep a computer among its favourites, or not any more.
func (s *Store) SetFavourite(ctx context.Context, account int64, computer string, favourite bool) error {
	return s.mark(ctx, `INSERT INTO marks VALUES (?,?,?,'') ON CONFLICT DO UPDATE SET favourite = excluded.favourite`, account, computer, favourite)
}

// SetGroup has an account keep a computer in a group, or with "" in none.
func (s *Store) SetGroup(ctx context.Context, account int64, computer, group string) error {
	return s.mark(ctx, `INSERT INTO marks VALUES (?,?,FALSE,?) ON CONFLICT DO UPDATE SET team = excluded.team`, account, computer, group)
}

// mark changes a mark, and removes it when it says nothing.
func (s *Store) mark(ctx context.Context, query string, args ...any) error {
	return s.change(ctx, "mark", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM marks WHERE account = ? AND NOT favourite AND team = ''`, args[0])
		return err
	})
}

package store

import (
	"context"
	"database/sql"
	"time"
)

// A Failure is one counter of the failure budget.
type Failure struct {
	Family int    // which table of the budget
	Key    []byte // opaque
	Count  int
	Since  time.Time // of the first failure that counts
	Last   time.Time
}

// Failures are all counters, the oldest first.
func (s *Store) Failures(ctx context.Context) ([]Failure, error) {
	scan := func(row interface{ Scan(...any) error }) (Failure, error) {
		var f Failure
		var since, last int64
		err := row.Scan(&f.Family, &f.Key, &f.Count, &since, &last)
		f.Since, f.Last = stamp(since), stamp(last)
		return f, err
	}
	return collect(ctx, s.read, "failures", scan, `SELECT family, key, count, since, last FROM failures ORDER BY last`)
}

// SetFailures writes counters; one whose Count is 0 is removed.
func (s *Store) SetFailures(ctx context.Context, all ...Failure) error {
	if len(all) == 0 {
		return nil
	}
	return s.change(ctx, "failures", func(tx *sql.Tx) error {
		for _, f := range all {
			var err error
			if f.Count == 0 {
				_, err = tx.ExecContext(ctx, `DELETE FROM failures WHERE family = ? AND key = ?`, f.Family, f.Key)
			} else {
				_, err = tx.ExecContext(ctx, `INSERT INTO failures VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET count = excluded.count, since = excluded.since, last = excluded.last`,
					f.Family, f.Key, f.Count, millis(f.Since), millis(f.Last))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

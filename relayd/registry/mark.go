package registry

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/store"
)

// MaxGroup is the longest name of a group, bytes.
const MaxGroup = 64

// marked gives the computers of an account's list its marks: favourites come first, then the groups by name, then the others.
func (s *Service) marked(ctx context.Context, acct *account.Account, all []Computer) error {
	marks, err := s.store.Marks(ctx, acct.ID)
	if err != nil || len(marks) == 0 {
		return err
	}
	by := map[string]store.Mark{}
	for _, m := range marks {
		by[m.Computer] = m
	}
	for i := range all {
		m := by[all[i].ID]
		all[i].Favourite, all[i].Group = m.Favourite, m.Group
	}
	slices.SortStableFunc(all, func(a, b Computer) int {
		if n := rank(a) - rank(b); n != 0 || a.Favourite {
			return n
		}
		if n := strings.Compare(strings.ToLower(a.Group), strings.ToLower(b.Group)); n != 0 {
			return n
		}
		return strings.Compare(a.Group, b.Group)
	})
	return nil
}

func rank(c Computer) int {
	switch {
	case c.Favourite:
		return 0
	case c.Group != "":
		return 1
	}
	return 2
}

// SetFavourite has acct keep a computer that it may use among its favourites, or not any more.
func (s *Service) SetFavourite(ctx context.Context, acct *account.Account, c *Computer, favourite bool) error {
	return s.store.SetFavourite(ctx, acct.ID, c.ID, favourite)
}

// SetGroup has acct keep a computer that it may use in a group, or with "" in none.
func (s *Service) SetGroup(ctx context.Context, acct *account.Account, c *Computer, group string) error {
	group = strings.TrimSpace(group)
	if group != refuse.Printable(group, MaxGroup) {
		return errors.New("that is not a name for a group; take at most 64 letters, digits and signs, without < and >")
	}
	return s.store.SetGroup(ctx, acct.ID, c.ID, group)
}

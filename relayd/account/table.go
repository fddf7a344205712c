package account

import (
	"time"

	"github.com/helmline/helmline/relayd/store"
)

// An entry is one counter. Times are the budget's milliseconds.
type entry struct {
	key         budgetKey
	count       int32
	since, last int64 // first and last failure that counts
	next        int64 // accounts: when the latest of the slowed tries may go
	older       int32 // neighbours in the order of last use; -1: none
	newer       int32
}

func (e *entry) stored(family int) store.Failure {
	return store.Failure{Family: family, Key: e.key[:], Count: int(e.count), Since: time.UnixMilli(e.since), Last: time.UnixMilli(e.last)}
}

// A table holds a bounded number of counters, some 100 bytes each; the one that failed longest ago makes room.
// A pointer to an entry is valid until the next touch or drop.
type table struct {
	max            int
	at             map[budgetKey]int32
	all            []entry
	free           []int32
	oldest, newest int32
}

func newTable(max int) *table {
	return &table{max: max, at: map[budgetKey]int32{}, oldest: -1, newest: -1}
}

func (t *table) get(k budgetKey) *entry {
	if i, ok := t.at[k]; ok {
		return &t.all[i]
	}
	return nil
}

// touch gives the counter of k, new or not, and makes it the newest. gone is the key of the one that made room.
func (t *table) touch(k budgetKey) (e *entry, gone *budgetKey) {
	i, ok := t.at[k]
	if ok {
		t.unlink(i)
	} else {
		if len(t.at) >= t.max {
			old := t.all[t.oldest].key
			gone = &old
			t.drop(old)
		}
		if n := len(t.free); n > 0 {
			i, t.free = t.free[n-1], t.free[:n-1]
		} else {
			i = int32(len(t.all))
			t.all = append(t.all, entry{})
		}
		t.all[i] = entry{key: k}
		t.at[k] = i
	}
	e = &t.all[i]
	e.older, e.newer = t.newest, -1
	if t.newest >= 0 {
		t.all[t.newest].newer = i
	} else {
		t.oldest = i
	}
	t.newest = i
	return e, gone
}

// drop forgets the counter of k.
func (t *table) drop(k budgetKey) {
	i, ok := t.at[k]
	if !ok {
		return
	}
	t.unlink(i)
	delete(t.at, k)
	t.free = append(t.free, i)
}

func (t *table) unlink(i int32) {
	e := t.all[i]
	if e.older >= 0 {
		t.all[e.older].newer = e.newer
	} else {
		t.oldest = e.newer
	}
	if e.newer >= 0 {
		t.all[e.newer].older = e.older
	} else {
		t.newest = e.older
	}
}

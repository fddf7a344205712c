package account

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/helmline/helmline/relayd/store"
)

// A Block is a source, or a network of sources, whose sign-ins are refused for now.
type Block struct {
	Source   netip.Prefix `json:"source"`
	Failures int          `json:"failures"`
	Last     time.Time    `json:"last"`
	Until    time.Time    `json:"until"`
}

// maxBlocks is how many Blocks gives.
const maxBlocks = 1000

// prefixes says how long the network of a family is. Counters of accounts cannot be shown: their keys are hashes.
var prefixes = map[int]int{source4: 32, net4: 24, source6: 64, net6: 56, site6: 48}

// Blocks are the sources that are refused, the one that is refused longest first.
func (s *Service) Blocks() []Block {
	b := s.budget
	b.mu.Lock()
	now, all := b.now(), []Block{}
	for family, bits := range prefixes {
		for k, i := range b.tables[family].at {
			left := b.blocked(pendingKey{family, k}, now)
			if left == 0 {
				continue
			}
			e := b.tables[family].all[i]
			all = append(all, Block{
				Source: netip.PrefixFrom(netip.AddrFrom16(k).Unmap(), bits), Failures: int(e.count),
				Last: time.UnixMilli(e.last), Until: time.UnixMilli(now + left),
			})
		}
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(x, y Block) int {
		return cmp.Or(y.Until.Compare(x.Until), x.Source.Addr().Compare(y.Source.Addr()))
	})
	return all[:min(len(all), maxBlocks)]
}

// Unblock forgets the failures of a source as Blocks has named it. store.ErrNotFound: there are none.
func (s *Service) Unblock(ctx context.Context, source netip.Prefix) error {
	for family, bits := range prefixes {
		k := budgetKey(source.Addr().As16())
		if bits != source.Bits() || source.Addr().Is4() != (family == source4 || family == net4) {
			continue
		}
		s.budget.mu.Lock()
		known := s.budget.tables[family].get(k) != nil
		s.budget.tables[family].drop(k)
		s.budget.mu.Unlock()
		if known {
			return s.store.SetFailures(ctx, store.Failure{Family: family, Key: k[:]})
		}
	}
	return store.Tell(store.ErrNotFound, "nothing is counted against %s", source)
}

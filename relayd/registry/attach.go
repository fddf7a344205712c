package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// How often what presence knows goes into the store: who came or went, and all who are online.
const (
	storeChanges = 5 * time.Second
	storeAll     = time.Minute
)

// hooks are what others want to hear of presence.
type hooks struct {
	mu      sync.Mutex // guards what follows
	online  []func(computerID string)
	offline []func(computerID string)
}

// OnOnline has f called when a computer has come online. f must not block.
func (s *Service) OnOnline(f func(computerID string)) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.online = append(s.hooks.online, f)
}

// OnOffline has f called when a computer has gone offline. f must not block.
func (s *Service) OnOffline(f func(computerID string)) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.offline = append(s.hooks.offline, f)
}

func (h *hooks) call(id string, came bool) {
	h.mu.Lock()
	all := h.offline
	if came {
		all = h.online
	}
	h.mu.Unlock()
	for _, f := range all {
		f(id)
	}
}

// Attach makes t the tunnel of a computer that ByKey has named. The newest of a kind wins: an older one is closed, and a
// new main tunnel of another instance closes the bulk one too. Attach returns at once; when t ends, the computer is
// offline. A tunnel of a computer that was removed meanwhile, or whose key two machines seem to have, is closed.
func (s *Service) Attach(computerID string, t *tunnel.Session) {
	c := s.online.attach(computerID, t)
	for _, old := range c.ended {
		s.spawn(func() { _ = old.CloseFor(tunnel.Replaced) }) // it is over either way
	}
	if c.last {
		s.hooks.call(computerID, false)
	}
	if c.replaced {
		s.record(computerID, "host.replaced", "another hostd with the same key took this computer's place")
	}
	if c.closed {
		_ = t.CloseFor(tunnel.Restarting)
		return
	}
	if c.refused {
		s.log.Warn("tunnel refused: two machines seem to have one key", "host", computerID, "viewer", t.RemoteAddr())
		if c.replaced {
			s.record(computerID, "host.quarantine", "several machines with the same key replaced each other")
		}
		s.spawn(func() { _ = t.CloseFor(tunnel.Replaced) })
		return
	}
	// Removed between ByKey and here: Remove deletes first and then looks for tunnels, so one of the two sees the other.
	if _, err := s.store.Computer(context.Background(), computerID); errors.Is(err, store.ErrNotFound) {
		s.spawn(func() { _ = t.CloseFor(tunnel.Removed) })
	}
	if c.first {
		s.log.Info("computer online", "host", computerID, "viewer", t.RemoteAddr(), "version", t.Hello().Version)
		s.hooks.call(computerID, true)
	}
	s.spawn(func() {
		<-t.Done()
		if c := s.online.detach(computerID, t, farewell(t.Err())); c.last {
			s.log.Info("computer offline", "host", computerID, "err", t.Err())
			s.hooks.call(computerID, false)
		}
	})
}

// Outdated says that a computer was refused since the relay does not know the version that its tunnel has.
func (s *Service) Outdated(computerID string) { s.online.outdate(computerID) }

// farewell is what a computer has said when it ended its tunnel; 0: nothing.
func farewell(err error) tunnel.Reason {
	if end, ok := errors.AsType[*tunnel.EndError](err); ok && end.Reason.Leaves() {
		return end.Reason
	}
	return 0
}

// spawn runs f beside the caller; Run waits for it. Once Run has ended it runs at once, and only ends tunnels.
func (s *Service) spawn(f func()) {
	s.mu.Lock()
	if !s.stopped {
		s.work.Go(f)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	f()
}

// Tunnel is the live tunnel of a computer.
func (s *Service) Tunnel(computerID string, kind tunnel.Kind) (*tunnel.Session, bool) {
	return s.online.get(computerID, kind)
}

// end closes the tunnels of a computer that was removed.
func (s *Service) end(computerID string, why tunnel.Reason) {
	for _, t := range s.online.tunnels(computerID) {
		s.spawn(func() {
			_ = t.CloseFor(why)
			s.online.forget(computerID)
		})
	}
	s.online.forget(computerID)
}

// record writes to the audit log what happened to a computer; it has happened either way.
func (s *Service) record(computerID, kind, detail string) {
	ctx := context.Background()
	name, owner := computerID, ""
	if row, err := s.store.Computer(ctx, computerID); err == nil {
		name, owner = row.Name, row.Email
	}
	if err := s.trail.Write(ctx, audit.Event{Kind: kind, Account: owner, Computer: name, ComputerID: computerID, Detail: detail}); err != nil {
		s.log.Error("not recorded", "host", name, "err", err)
	}
}

// Run stores when computers were last online, until ctx ends; then it closes the tunnels that are left.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(storeChanges)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
			all := time.Since(last) >= storeAll
			if all {
				last = time.Now()
			}
			s.save(all)
		case <-ctx.Done():
			s.stop()
			s.save(true)
			return nil
		}
	}
}

// stop closes all tunnels, and those that come yet.
func (s *Service) stop() {
	s.online.close()
	for _, t := range s.online.tunnels("") {
		s.spawn(func() { _ = t.CloseFor(tunnel.Restarting) })
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.work.Wait()
}

func (s *Service) save(all bool) {
	at := s.online.unstored(all)
	if len(at) == 0 {
		return
	}
	if err := s.store.Seen(context.Background(), at); err != nil {
		s.log.Error("times of computers not stored", "err", err)
		return
	}
	s.online.stored(at)
}

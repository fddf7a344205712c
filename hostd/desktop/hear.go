package desktop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// listen takes in what hostd says until it is gone. It never waits for a session.
func (s *server) listen(ctx context.Context) error {
	buf := make([]byte, ipc.MaxMessage)
	for {
		p, files, err := s.monitor.conn.Receive(buf)
		switch {
		case ctx.Err() != nil:
			ipc.CloseFiles(files)
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("hostd is gone")
		case err != nil:
			return fmt.Errorf("hostd: %w", err)
		}
		if t := ipc.Type(p[0]); t == ipc.TypeDesktop {
			err = s.desktop(ctx, p, files)
		} else {
			ipc.CloseFiles(files)
			err = s.hear(ctx, t, p)
		}
		if err != nil {
			return fmt.Errorf("hostd: message %d: %w", p[0], err)
		}
	}
}

// hear takes in a message without files.
func (s *server) hear(ctx context.Context, t ipc.Type, p []byte) error {
	switch t {
	case ipc.TypeWelcome:
		return hear(p, func(m ipc.Welcome) {
			if frame.CheckSize(m.Size) != nil {
				m.Size = image.Pt(1280, 800) // no desktop yet
			}
			s.mu.Lock()
			s.welcome = m
			s.mu.Unlock()
			s.greet.Do(func() { close(s.greeted) })
		})
	case ipc.TypeOpened:
		return hear(p, func(m ipc.Opened) { s.monitor.answered(m.ID, m) })
	case ipc.TypeLoggedIn:
		return hear(p, func(m ipc.LoggedIn) { s.monitor.answered(m.ID, m) })
	case ipc.TypeControlled:
		return hear(p, func(m ipc.Controlled) { s.monitor.answered(m.ID, m) })
	case ipc.TypeAttach:
		return hear(p, s.attach)
	case ipc.TypeDetach:
		return hear(p, func(m ipc.Detach) {
			s.tell(m.Session, true, func(n *news) { n.detached, n.refusal, n.attached, n.desk = true, m.Refusal, false, nil })
		})
	case ipc.TypeLease:
		return hear(p, s.leased)
	case ipc.TypeCopy:
		c, err := ipc.ParseClip(p)
		if err == nil {
			s.copied(c)
		}
		return err
	case ipc.TypeAsk:
		return hear(p, func(m ipc.Ask) { s.tell(m.Session, false, func(n *news) { n.asks = &m }) })
	case ipc.TypeEnded:
		return hear(p, func(m ipc.Ended) { s.tell(m.Session, false, func(n *news) { n.outcome = m.Outcome }) })
	case ipc.TypeEnd:
		return hear(p, func(m ipc.End) {
			if m.Refusal == nil {
				m.Refusal = refuse.Ended.Of("this computer")
			}
			s.tell(m.Session, true, func(n *news) { n.end = m.Refusal })
		})
	case ipc.TypeRecord:
		return hear(p, func(m ipc.Record) { s.record(ctx, m) })
	case ipc.TypeAway:
		return hear(p, func(m ipc.Away) {
			select { // only the newest counts
			case <-s.away:
			default:
			}
			s.away <- m.Why
		})
	case ipc.TypeReload:
		select {
		case s.reload <- struct{}{}:
		default:
		}
		return nil
	}
	return ipc.ErrMalformed
}

// hear decodes a message and hands it to f.
func hear[T any](p []byte, f func(T)) error {
	m, err := ipc.Decode[T](p)
	if err == nil {
		f(m)
	}
	return err
}

// desktop takes in the memory of a desktop.
func (s *server) desktop(ctx context.Context, p []byte, files []*os.File) error {
	m, err := ipc.Decode[ipc.Desktop](p)
	if err != nil {
		ipc.CloseFiles(files)
		return err
	}
	d := s.desk(m.Number)
	pic, err := openPicture(d, m, files)
	if err != nil {
		return err
	}
	d.set(pic, m.Name)
	s.work.Go(func() { pic.run(ctx, s.log) })
	return nil
}

// tell gives news to a session. away says that it must not see or type any more from now on.
func (s *server) tell(number uint32, away bool, f func(*news)) {
	s.mu.Lock()
	se := s.sessions[number]
	s.mu.Unlock()
	if se == nil {
		return
	}
	if away {
		se.epoch.Store(0)
	}
	se.mu.Lock()
	f(&se.news)
	if away && se.ready {
		se.view.hide()
	}
	se.mu.Unlock()
	se.nudge()
}

// copied hands a text of the desktop to the session in control.
func (s *server) copied(c ipc.Clip) {
	s.mu.Lock()
	se := s.sessions[c.Session]
	s.mu.Unlock()
	if se == nil {
		return
	}
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ready {
		se.view.tellClip(bytes.Clone(c.Text), c.Epoch)
	}
}

// desk is the desktop of that number, as long as someone is attached to it. Others whose worker is gone are forgotten.
func (s *server) desk(number uint32) *desk {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, d := range s.desks {
		if n != number && !d.alive() && !s.used(n) {
			d.set(nil, "")
			delete(s.desks, n)
		}
	}
	d := s.desks[number]
	if d == nil {
		d = newDesk(number, s.cache)
		d.relaid = func() { s.relaid(number) }
		s.desks[number] = d
	}
	return d
}

// used says whether a session is attached to a desktop. s.mu is held.
func (s *server) used(number uint32) bool {
	for _, se := range s.sessions {
		if se.at == number {
			return true
		}
	}
	return false
}

func (s *server) attach(m ipc.Attach) {
	d := s.desk(m.Desktop)
	s.mu.Lock()
	if se := s.sessions[m.Session]; se != nil {
		se.at = m.Desktop
	}
	s.mu.Unlock()
	s.tell(m.Session, false, func(n *news) {
		n.desk, n.user, n.force, n.ends, n.atEnd, n.attached, n.detached = d, m.User, m.Force, m.Ends, m.AtEnd, true, false
	})
}

// leased tells every session who controls; input of all others stops before this returns.
func (s *server) leased(l ipc.Lease) {
	s.mu.Lock()
	s.lease = l
	numbers := make([]uint32, 0, len(s.sessions))
	for n, se := range s.sessions {
		epoch := uint64(0)
		if n == l.Session {
			epoch = l.Epoch
		}
		se.epoch.Store(epoch)
		numbers = append(numbers, n)
	}
	s.mu.Unlock()
	for _, n := range numbers {
		s.tell(n, false, func(n *news) { n.lease = &l })
	}
}

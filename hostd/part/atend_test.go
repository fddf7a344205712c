package part

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/helmline/helmline/hostd/ipc"
)

// What becomes of the desktop at the end of a session.
func TestAtEnd(t *testing.T) {
	const account = "alice@example.com"
	key := bytes.Repeat([]byte{7}, ipc.KeySize)
	alices := SeatState{Kind: SeatUser, UID: alice.UID, Session: "3", Display: ":0"}
	unknown := alices
	unknown.Session = ""
	for _, c := range []struct {
		name  string
		seat  SeatState
		play  func(s *stage, w *actor, n uint32)
		want  string
		fails error
	}{
		{"it ends", alices, func(s *stage, _ *actor, n uint32) { s.net.send(ipc.TypeClose, ipc.Close{Session: n}) }, "1 3", nil},
		{"it is ended", alices, func(s *stage, _ *actor, n uint32) {
			s.m.post(func() { s.m.end(n, "an administrator", func(place) bool { return true }) })
		}, "1 3", nil},
		{"it does not come back", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.release(w)
			s.settle()
			s.m.post(func() {
				s.m.lease.Expire(s.m.lease.Deadline())
				s.m.forget(s.m.parted[0])
			})
		}, "1 3", nil},
		{"it comes back", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.release(w)
			n, in := s.resume(account, ipc.RoleTake, ipc.AppendProof(nil, key, 1))
			wantCode(s.t, in.Refusal, 0)
			if a := get[ipc.Attach](s.net, ipc.TypeAttach); a.Session != n || a.AtEnd != ipc.EndLocks {
				s.t.Errorf("it comes back as %+v", a)
			}
		}, "", nil},
		{"it has given control up", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeYield, ipc.Yield{Session: n})
			s.release(w)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
		}, "", nil},
		{"another waits for control", alices, func(s *stage, w *actor, n uint32) {
			o := s.enter("carol@example.com", "alice", ipc.RoleTake)
			s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: o, Take: true})
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
			s.release(w)
		}, "", nil},
		{"another is on the screen", alices, func(s *stage, w *actor, n uint32) {
			s.seat.set(bobsSeat)
			get[ipc.Detach](s.net, ipc.TypeDetach)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
		}, "", nil},
		{"its viewer is about to leave", alices, func(s *stage, _ *actor, n uint32) {
			s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLocks, Now: true})
			same(s.t, "what came of it", get[ipc.Ended](s.net, ipc.TypeEnded), ipc.Ended{Session: n, Outcome: ipc.OutcomeAsked})
			s.net.send(ipc.TypeClose, ipc.Close{Session: n}) // does nothing more
		}, "1 3", nil},
		{"its viewer is about to leave, in vain", alices, func(s *stage, _ *actor, n uint32) {
			s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLogsOff, Now: true})
			same(s.t, "what came of it", get[ipc.Ended](s.net, ipc.TypeEnded), ipc.Ended{Session: n, Outcome: ipc.OutcomeFailed})
		}, "2 3", errors.New("no such session")},
		{"its viewer is about to leave, and another is on the screen", alices, func(s *stage, w *actor, n uint32) {
			s.seat.set(bobsSeat)
			s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLocks, Now: true})
			get[ipc.Detach](s.net, ipc.TypeDetach)
		}, "", nil},
		{"logind does not know the session", unknown, func(s *stage, _ *actor, n uint32) { s.net.send(ipc.TypeClose, ipc.Close{Session: n}) }, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			did := make(chan string, 2)
			s := newStage(t, c.seat, func(cfg *Config) {
				cfg.Ends = func(_ context.Context, session string, how ipc.Ending) (ipc.Outcome, error) {
					did <- string('0'+byte(how)) + " " + session
					return ipc.OutcomeAsked, c.fails
				}
			})
			n := s.enterWith(account, "alice", bytes.Clone(key))
			w := s.worker()
			if a := get[ipc.Attach](s.net, ipc.TypeAttach); a.Ends != (c.seat.Session != "") {
				t.Errorf("attached as %+v", a)
			}
			s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLogsOff}) // not in control yet
			_, r := s.control(n, false, false)
			wantCode(t, r, 0)
			s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLocks})
			s.settle()
			c.play(s, w, n)
			s.settle()
			if c.want != "" {
				same(t, "what logind is told", recv(t, did), c.want)
			}
			select {
			case more := <-did:
				t.Errorf("logind is told %q", more)
			default:
			}
		})
	}
}

// While one end is being done, hostd-net starts no others.
func TestEndsOneAtATime(t *testing.T) {
	did, done := make(chan string, 8), make(chan struct{})
	s := newStage(t, SeatState{Kind: SeatUser, UID: alice.UID, Session: "3", Display: ":0"}, func(cfg *Config) {
		cfg.Ends = func(context.Context, string, ipc.Ending) (ipc.Outcome, error) {
			did <- "lock"
			<-done
			return ipc.OutcomeDone, nil
		}
	})
	n := s.enterWith("alice@example.com", "alice", bytes.Repeat([]byte{7}, ipc.KeySize))
	s.worker()
	_, r := s.control(n, false, false)
	wantCode(t, r, 0)
	for range 5 {
		s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLocks, Now: true})
	}
	recv(t, did)
	s.settle()
	close(done)
	same(t, "what came of it", get[ipc.Ended](s.net, ipc.TypeEnded), ipc.Ended{Session: n, Outcome: ipc.OutcomeDone})
	if len(did) != 0 {
		t.Errorf("%d more at once", len(did))
	}
	s.net.send(ipc.TypeAtEnd, ipc.AtEnd{Session: n, Do: ipc.EndLocks, Now: true})
	same(t, "what came of another", get[ipc.Ended](s.net, ipc.TypeEnded), ipc.Ended{Session: n, Outcome: ipc.OutcomeDone})
}

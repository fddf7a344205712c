package part

import (
	"bytes"
	"context"
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
		name string
		seat SeatState
		play func(s *stage, w *actor, n uint32)
		want string
	}{
		{"it ends", alices, func(s *stage, _ *actor, n uint32) { s.net.send(ipc.TypeClose, ipc.Close{Session: n}) }, "1 3"},
		{"it is ended", alices, func(s *stage, _ *actor, n uint32) {
			s.m.post(func() { s.m.end(n, "an administrator", func(*session) bool { return true }) })
		}, "1 3"},
		{"it does not come back", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.release(w)
			s.settle()
			s.m.post(func() {
				s.m.lease.Expire(s.m.lease.Deadline())
				s.m.forget(s.m.parted[0])
			})
		}, "1 3"},
		{"it comes back", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.release(w)
			n, in := s.resume(account, ipc.RoleTake, ipc.AppendProof(nil, key, 1))
			wantCode(s.t, in.Refusal, 0)
			if a := get[ipc.Attach](s.net, ipc.TypeAttach); a.Session != n || a.AtEnd != ipc.EndLocks {
				s.t.Errorf("it comes back as %+v", a)
			}
		}, ""},
		{"it has given control up", alices, func(s *stage, w *actor, n uint32) {
			s.net.send(ipc.TypeYield, ipc.Yield{Session: n})
			s.release(w)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
		}, ""},
		{"another waits for control", alices, func(s *stage, w *actor, n uint32) {
			o := s.enter("carol@example.com", "alice", ipc.RoleTake)
			s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: o, Take: true})
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
			s.release(w)
		}, ""},
		{"another is on the screen", alices, func(s *stage, w *actor, n uint32) {
			s.seat.set(bobsSeat)
			get[ipc.Detach](s.net, ipc.TypeDetach)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
		}, ""},
		{"logind does not know the session", unknown, func(s *stage, _ *actor, n uint32) { s.net.send(ipc.TypeClose, ipc.Close{Session: n}) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			did := make(chan string, 2)
			s := newStage(t, c.seat, func(cfg *Config) {
				cfg.Ends = func(_ context.Context, session string, how ipc.Ending) error {
					did <- string('0'+byte(how)) + " " + session
					return nil
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

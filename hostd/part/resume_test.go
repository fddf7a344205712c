package part

import (
	"bytes"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// enterWith logs a session in that can be resumed with a key.
func (s *stage) enterWith(account, user string, key []byte) uint32 {
	s.t.Helper()
	n, r := s.open(account, ipc.RoleControl)
	wantCode(s.t, r, 0)
	s.net.send(ipc.TypeLogin, ipc.Login{ID: s.id(), Session: n, Method: ipc.MethodPassword, User: user, Secret: []byte(user), Key: key})
	wantCode(s.t, get[ipc.LoggedIn](s.net, ipc.TypeLoggedIn).Refusal, 0)
	return n
}

// resume tries to go on as a session whose key one has.
func (s *stage) resume(account string, role ipc.Role, proof []byte) (uint32, ipc.LoggedIn) {
	s.t.Helper()
	n, r := s.open(account, role)
	wantCode(s.t, r, 0)
	s.net.send(ipc.TypeLogin, ipc.Login{ID: s.id(), Session: n, Method: ipc.MethodResume, Secret: proof})
	return n, get[ipc.LoggedIn](s.net, ipc.TypeLoggedIn)
}

// release has a worker say that all keys are up, which it is asked for.
func (s *stage) release(w *actor) {
	s.t.Helper()
	w.next(ipc.TypeRelease)
	w.send(ipc.TypeReleased, nil)
}

func TestResume(t *testing.T) {
	const account = "alice@example.com"
	key := bytes.Repeat([]byte{7}, ipc.KeySize)
	proof := func(count uint32) []byte { return ipc.AppendProof(nil, key, count) }
	for _, c := range []struct {
		name string
		play func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn)
		role ipc.Role
		code int
	}{
		{name: "after a cut", role: ipc.RoleControl, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "before the cut is noticed", role: ipc.RoleControl, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "the relay says watch", role: ipc.RoleWatch, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleWatch, proof(1))
		}},
		{name: "another has taken control", role: ipc.RoleWatch, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			o := s.enter("carol@example.com", "alice", ipc.RoleTake)
			s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: o, Force: true})
			s.release(w)
			wantCode(s.t, get[ipc.Controlled](s.net, ipc.TypeControlled).Refusal, 0)
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "after its end in good order", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n})
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "ended at the computer", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.m.post(func() { s.m.end(n, "an administrator", func(place) bool { return true }) })
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "all ended at the computer after the cut", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.settle()
			if r := s.m.serveOp(s.t.Context(), Request{Op: OpEnd}, bob.UID); r.Count != 0 {
				s.t.Errorf("another user has ended %d", r.Count)
			}
			if r := s.m.serveOp(s.t.Context(), Request{Op: OpEnd}, alice.UID); r.Count != 1 { // whose desktop it is
				s.t.Errorf("%d have ended, %s", r.Count, r.Error)
			}
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "another account", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume("bob@example.com", ipc.RoleTake, proof(1))
		}},
		{name: "another key", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleTake, ipc.AppendProof(nil, key[1:], 1))
		}},
		{name: "a count of another proof", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleTake, append([]byte{0, 0, 0, 2}, proof(1)[4:]...))
		}},
		{name: "the same proof twice", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			n, in := s.resume(account, ipc.RoleTake, proof(5))
			wantCode(s.t, in.Refusal, 0)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleTake, proof(5))
		}},
		{name: "the second time", role: ipc.RoleWatch, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			n, in := s.resume(account, ipc.RoleTake, proof(5))
			wantCode(s.t, in.Refusal, 0)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true}) // before it asked for control again
			return s.resume(account, ipc.RoleTake, proof(6))
		}},
		{name: "after three wrong proofs", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			for range maxProofs {
				_, in := s.resume(account, ipc.RoleTake, make([]byte, ipc.ProofSize))
				wantCode(s.t, in.Refusal, refuse.NotResumed.Code)
			}
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "the seat is another's now", code: refuse.NotResumed.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.seat.set(bobsSeat)
			get[ipc.Detach](s.net, ipc.TypeDetach)
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
		{name: "after the seat became another's", code: refuse.NoRight.Code, play: func(s *stage, w *actor, n uint32) (uint32, ipc.LoggedIn) {
			s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
			s.settle()
			s.seat.set(bobsSeat)
			s.settle()
			return s.resume(account, ipc.RoleTake, proof(1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, SeatState{Kind: SeatUser, UID: alice.UID, Session: "1", Display: ":0"}, nil)
			n := s.enterWith(account, "alice", bytes.Clone(key))
			w := s.worker()
			_, r := s.control(n, false, false)
			wantCode(t, r, 0)
			n, in := c.play(s, w, n)
			wantCode(t, in.Refusal, c.code)
			same(t, "role", in.Role, c.role)
			if in.Role == ipc.RoleControl {
				s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: n})
				s.release(w)
				wantCode(t, get[ipc.Controlled](s.net, ipc.TypeControlled).Refusal, 0)
			}
		})
	}
}

// Who logs in where another controls is told so, and goes on as what they want then without another log-in.
func TestHeldLogInIsKept(t *testing.T) {
	s := newStage(t, SeatState{Kind: SeatUser, UID: alice.UID, Session: "1", Display: ":0"}, nil)
	holder := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	_, r := s.control(holder, false, false)
	wantCode(t, r, 0)
	const carol = "carol@example.com"
	key := bytes.Repeat([]byte{7}, ipc.KeySize)
	// opened is a session of RSA-AES, which hostd-net logs in after an early refusal.
	opened := func(role ipc.Role, early int) uint32 {
		s.lastSes++
		s.net.send(ipc.TypeOpen, ipc.Open{ID: s.id(), Session: s.lastSes, Account: carol, Role: role, E2E: true})
		wantCode(t, get[ipc.Opened](s.net, ipc.TypeOpened).Refusal, early)
		return s.lastSes
	}
	logIn := func(n uint32, l ipc.Login) ipc.LoggedIn {
		l.ID, l.Session = s.id(), n
		s.net.send(ipc.TypeLogin, l)
		return get[ipc.LoggedIn](s.net, ipc.TypeLoggedIn)
	}
	typed := func(secret string) ipc.Login {
		return ipc.Login{Method: ipc.MethodPassword, User: "alice", Secret: []byte(secret), Key: bytes.Clone(key)}
	}
	proof := func(count uint32) ipc.Login {
		return ipc.Login{Method: ipc.MethodResume, Secret: ipc.AppendProof(nil, key, count)}
	}
	n := opened(ipc.RoleControl, 40010)
	wantCode(t, logIn(n, typed("wrong")).Refusal, 1326)
	wantCode(t, logIn(n, typed("alice")).Refusal, 40010)
	s.net.send(ipc.TypeClose, ipc.Close{Session: n})
	n = opened(ipc.RoleWatch, 0)
	wantCode(t, logIn(n, proof(1)).Refusal, 0)
	s.net.send(ipc.TypeClose, ipc.Close{Session: n, Vanished: true})
	n = opened(ipc.RoleTake, 0)
	in := logIn(n, proof(2))
	wantCode(t, in.Refusal, 0)
	same(t, "role while another controls", in.Role, ipc.RoleWatch)
	s.net.send(ipc.TypeClose, ipc.Close{Session: n})
	n = opened(ipc.RoleTake, 0)
	in = logIn(n, typed("alice"))
	wantCode(t, in.Refusal, 0)
	same(t, "role of who may ask", in.Role, ipc.RoleWatch)
	s.net.send(ipc.TypeClose, ipc.Close{Session: n})
	n = opened(ipc.RoleControl, 40010)
	wantCode(t, logIn(n, typed("alice")).Refusal, 40010)
	s.net.send(ipc.TypeYield, ipc.Yield{Session: holder})
	s.release(w)
	in = logIn(opened(ipc.RoleControl, 0), proof(1))
	wantCode(t, in.Refusal, 0)
	same(t, "role once nobody controls", in.Role, ipc.RoleControl)
}

package part

import (
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

// Limits of resuming.
const (
	resumeTime = 30 * time.Second // a session that was cut off can be resumed for so long
	maxParted  = 64               // sessions that wait for that
	maxOwn     = 8                // of them, of one account
	maxProofs  = 3                // wrong proofs that a way back bears
)

// A wayBack lets the viewer of a session come back after a cut without another log-in. Whoever has the key, which the viewer has made up
// and sent with its log-in, proves it; the relay has never seen it.
type wayBack struct {
	key     []byte
	count   uint32 // of the last proof
	wrong   int    // proofs of the account that were none
	account string
	user    *login.Account
	admin   bool
	control bool  // it was in control when it was cut off, or was refused it
	at      place // where that was
	atEnd   ipc.Ending
}

// keep lets a session that ends without a word, or where another controls, be resumed for a while; control says as what.
func (m *Monitor) keep(s *session, control bool) {
	b := s.back
	s.back = nil
	b.control, b.atEnd = control, s.atEnd
	if s.desktop != nil {
		b.at = s.desktop.place
	}
	own := 0
	for _, o := range m.parted {
		if o.account == b.account {
			own++
		}
	}
	if own >= maxOwn {
		m.forget(m.parted[slices.IndexFunc(m.parted, func(o *wayBack) bool { return o.account == b.account })])
	} else if len(m.parted) >= maxParted {
		m.forget(m.parted[0])
	}
	m.parted = append(m.parted, b)
	m.after(resumeTime, func() { m.forget(b) })
}

// forget ends a way back that nobody has come.
func (m *Monitor) forget(b *wayBack) {
	if i := slices.Index(m.parted, b); i >= 0 {
		clear(b.key)
		m.parted = slices.Delete(m.parted, i, i+1)
		if b.control {
			m.wrapUp(b.at, b.atEnd)
		}
	}
}

// resume lets a viewer go on with the session that it was cut off from. Another one of that session, whose end is not known yet, ends.
// It has control again if that is still its own, or nobody's.
func (m *Monitor) resume(n *netPart, s *session, l ipc.Login) {
	b := m.provenBack(s.account, l.Secret)
	refusal := refuse.NotResumed.Of(m.name())
	var at place
	if b != nil {
		at, refusal = m.placeFor(b.user, b.admin)
	}
	if refusal != nil {
		m.counts.Refused++
		m.log.Info("session not resumed", "viewer", s.viewer, "account", s.account, "code", refusal.Code)
		n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Refusal: refusal, Left: -1})
		return
	}
	s.user, s.admin, s.back, s.atEnd = b.user, b.admin, b, b.atEnd
	role := ipc.RoleWatch
	if b.control && s.role != ipc.RoleWatch && m.lease.Held(s.account) == nil {
		role = ipc.RoleControl
	}
	b.control = false
	m.log.Info("session resumed", "viewer", s.viewer, "account", s.account, "user", s.user.Name, "role", role)
	n.send(ipc.TypeLoggedIn, ipc.LoggedIn{ID: l.ID, Left: -1, User: s.user.Name, Role: role})
	if m.seatGone == nil { // else reseat finds it a desktop
		m.join(s, m.desktopAt(at))
	}
}

// provenBack takes the way back of an account whose key the proof shows; nil: there is none.
func (m *Monitor) provenBack(account string, proof []byte) *wayBack {
	if len(proof) != ipc.ProofSize {
		return nil
	}
	count := binary.BigEndian.Uint32(proof)
	proven := func(b *wayBack) bool {
		return b != nil && b.account == account && count > b.count && subtle.ConstantTimeCompare(ipc.AppendProof(nil, b.key, count), proof) == 1
	}
	for _, s := range m.sessions {
		if proven(s.back) {
			m.toNet(ipc.TypeEnd, ipc.End{Session: s.id, Refusal: refuse.Ended.Of("its viewer's return")})
			m.endSession(s.id, true)
			break
		}
	}
	for i, b := range m.parted {
		if proven(b) {
			b.count, b.wrong = count, 0
			m.parted = slices.Delete(m.parted, i, i+1)
			return b
		}
	}
	for _, b := range slices.Clone(m.parted) {
		if b.account == account {
			if b.wrong++; b.wrong >= maxProofs {
				m.forget(b)
			}
		}
	}
	return nil
}

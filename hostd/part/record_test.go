package part

import (
	"strings"
	"testing"

	"github.com/helmline/helmline/hostd/ipc"
)

func required(c *Config) { c.Recording = Recording{Required: true, Space: 1 << 30} }
func allowed(c *Config)  { c.Recording = Recording{Allowed: true, Space: 1 << 30} }

// asked waits until hostd-net is told to record, or not to.
func (s *stage) asked(on bool) ipc.Record {
	s.t.Helper()
	r := get[ipc.Record](s.net, ipc.TypeRecord)
	same(s.t, "on", r.On, on)
	return r
}

func TestRequiredRecordingComesFirst(t *testing.T) {
	s := newStage(t, SeatState{}, required)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	s.worker()
	s.net.next(ipc.TypeDesktop)
	r := s.asked(true)
	same(t, "the user", r.User, "alice")
	same(t, "the space", r.Space, int64(1<<30))
	_, refusal := s.control(n, false, false)
	wantCode(t, refusal, 40052) // not before it is recorded
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: r.Desktop})
	same(t, "the session", get[ipc.Attach](s.net, ipc.TypeAttach).Session, n)
	_, refusal = s.control(n, false, false)
	wantCode(t, refusal, 0)

	m := s.enter("bob@example.com", "bob", ipc.RoleWatch) // another desktop of another user
	s.worker()
	s.net.next(ipc.TypeDesktop)
	r2 := s.asked(true)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: r2.Desktop})
	same(t, "the session", get[ipc.Attach](s.net, ipc.TypeAttach).Session, m)
	s.net.send(ipc.TypeClose, ipc.Close{Session: m})
	same(t, "the desktop", s.asked(false).Desktop, r2.Desktop)

	if _, err := s.m.recordBy(t, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.m.recordBy(t, false); err == nil || !strings.Contains(err.Error(), "every session is recorded here") {
		t.Fatal(err)
	}
}

func TestRequiredRecordingThatCannotBeIsARefusal(t *testing.T) {
	s := newStage(t, SeatState{}, required)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	s.worker()
	r := s.asked(true)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: r.Desktop, Cause: "there is no space left"})
	end := get[ipc.End](s.net, ipc.TypeEnd)
	same(t, "the session", end.Session, n)
	wantCode(t, end.Refusal, 40043)
	if !strings.Contains(end.Refusal.Error(), "there is no space left") {
		t.Fatal(end.Refusal)
	}

	n = s.enter("alice@example.com", "alice", ipc.RoleControl) // it is tried again
	s.asked(true)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: r.Desktop})
	same(t, "the session", get[ipc.Attach](s.net, ipc.TypeAttach).Session, n)
	_, refusal := s.control(n, false, false)
	wantCode(t, refusal, 0)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: r.Desktop, Cause: "the recorder has failed"}) // and fails in the middle
	wantCode(t, get[ipc.End](s.net, ipc.TypeEnd).Refusal, 40043)
	s.settle()
	same(t, "the holder", s.m.serveOp(t.Context(), Request{Op: OpStatus}, 0).Status.Holder, "")
}

func TestRequiredRecordingHasLimitedTimeToBegin(t *testing.T) {
	times := longTimes()
	times.tape = short
	s := newStageTimes(t, SeatState{}, required, times)
	n := s.enter("alice@example.com", "alice", ipc.RoleWatch)
	s.worker()
	end := get[ipc.End](s.net, ipc.TypeEnd)
	same(t, "the session", end.Session, n)
	wantCode(t, end.Refusal, 40043)
}

func TestAllowedRecordingIsBegunByHand(t *testing.T) {
	s := newStage(t, SeatState{}, allowed)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	s.worker()
	d, _ := s.attach(n)
	if sessions, err := s.m.recordBy(t, true); err != nil || sessions != 1 {
		t.Fatal(sessions, err)
	}
	same(t, "the desktop", s.asked(true).Desktop, d.Number)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: d.Number})
	s.settle()
	if _, err := s.m.recordBy(t, false); err != nil {
		t.Fatal(err)
	}
	same(t, "the desktop", s.asked(false).Desktop, d.Number)

	if _, err := s.m.recordBy(t, true); err != nil {
		t.Fatal(err)
	}
	s.asked(true)
	s.net.send(ipc.TypeRecorded, ipc.Recorded{Desktop: d.Number, Cause: "there is no space left"})
	m := s.enter("alice@example.com", "alice", ipc.RoleWatch) // goes on without it
	same(t, "the session", get[ipc.Attach](s.net, ipc.TypeAttach).Session, m)
}

func TestRecordingIsOffUnlessSaidOtherwise(t *testing.T) {
	s := newStage(t, SeatState{}, nil)
	if _, err := s.m.recordBy(t, true); err == nil || !strings.Contains(err.Error(), `recording is "off"`) {
		t.Fatal(err)
	}
}

// recordBy is "hostd record start" or "stop".
func (m *Monitor) recordBy(t *testing.T, on bool) (sessions int, err error) {
	t.Helper()
	r := m.serveOp(t.Context(), Request{Op: OpRecord, On: on}, 0)
	if r.Error != "" {
		return 0, &replyError{r.Error}
	}
	return r.Count, nil
}

type replyError struct{ text string }

func (e *replyError) Error() string { return e.text }

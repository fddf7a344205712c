package part

import (
	"context"
	"testing"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// short is a time that runs out within a test; long is one that does not.
const (
	short = 50 * time.Millisecond
	long  = time.Hour
)

func longTimes() times {
	return times{lift: long, ready: long, down: long, idle: long, tape: long, seat: long, end: short}
}

// A worker that does not release the keys is ended, and control goes on.
func TestLiftTime(t *testing.T) {
	times := longTimes()
	times.lift = short
	s := newStageTimes(t, SeatState{}, nil, times)
	a := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	first, _ := s.control(a, false, false)
	s.key(a, first, 'a')
	s.wantKey(w, 'a')
	b := s.enter("carol@example.com", "alice", ipc.RoleTake)
	epoch, r := s.control(b, true, true)
	wantCode(t, r, 0)
	w.ended()
	w = s.worker()
	ipc.CloseFiles(s.net.next(ipc.TypeDesktop).files)
	s.key(a, first, 'b')
	s.key(b, epoch, 'c')
	s.wantKey(w, 'c')
}

// Ending a worker that does not release the keys may take systemd its time. The others are served meanwhile, and nobody controls.
func TestLiftKill(t *testing.T) {
	times := longTimes()
	times.lift = short
	slow := &slowKill{begun: make(chan struct{}, 1), wait: make(chan struct{})}
	s := newStageTimes(t, SeatState{}, func(c *Config) { c.Parts.(*fakeParts).slow = slow }, times)
	a := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	s.attach(a)
	first, _ := s.control(a, false, false)
	s.net.send(ipc.TypeClose, ipc.Close{Session: a})
	w.next(ipc.TypeRelease)
	recv(t, slow.begun)
	served := make(chan error, 1)
	go func() { served <- s.m.Alive(context.Background()) }()
	select {
	case <-served:
	case <-time.After(waitTime):
		t.Error("nobody is served")
	}
	b := s.enter("carol@example.com", "alice", ipc.RoleControl)
	s.net.send(ipc.TypeControl, ipc.Control{ID: s.id(), Session: b})
	s.settle()
	if passed, _ := s.m.gate.Counts(); passed != 0 {
		t.Fatal("keys passed")
	}
	close(slow.wait)
	if epoch := s.holds(b, first); epoch <= first {
		t.Fatal(epoch)
	}
}

// A worker that opens no display is ended.
func TestReadyTime(t *testing.T) {
	times := longTimes()
	times.ready = short
	s := newStageTimes(t, SeatState{}, nil, times)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	for range maxFails {
		recv(t, s.parts.workers).ended()
	}
	d := get[ipc.Detach](s.net, ipc.TypeDetach)
	same(t, "the session", d.Session, n)
	wantCode(t, d.Refusal, 40040)
}

// A display that does not come back: who looks at it gets the form after a while.
func TestDownTime(t *testing.T) {
	times := longTimes()
	times.down = 4 * short
	s := newStageTimes(t, SeatState{}, nil, times)
	n := s.enter("alice@example.com", "alice", ipc.RoleControl)
	w := s.worker()
	s.attach(n)
	w.proc.Kill()
	over := make(chan struct{})
	go func() {
		for {
			select {
			case w := <-s.parts.workers:
				w.conn.Send(ipc.TypeFailed, ipc.Failed{Cause: "gone"})
			case <-over:
				return
			}
		}
	}()
	t.Cleanup(func() { close(over) })
	d := get[ipc.Detach](s.net, ipc.TypeDetach)
	same(t, "the session", d.Session, n)
	wantCode(t, d.Refusal, 40040)
}

// A seat's worker ends when nobody looks any more; somebody who comes gets another.
func TestIdleTime(t *testing.T) {
	times := longTimes()
	times.idle = short
	s := newStageTimes(t, bobsSeat, nil, times)
	n := s.enter("bob@example.com", "bob", ipc.RoleControl)
	w := s.worker()
	s.attach(n)
	s.net.send(ipc.TypeClose, ipc.Close{Session: n})
	w.ended()
	n = s.enter("bob@example.com", "bob", ipc.RoleControl)
	s.worker()
	s.attach(n)
}

// Between a session and the log-on screen there may be nothing on the seat: viewers wait for what comes.
func TestSeatBetween(t *testing.T) {
	s := newStage(t, bobsSeat, nil)
	n := s.enter("bob@example.com", "bob", ipc.RoleControl)
	w := s.worker()
	d, _ := s.attach(n)
	first, _ := s.control(n, false, false)
	s.seat.set(SeatState{})
	w.ended()
	s.key(n, first, 'a')
	other := s.enter("alice@example.com", "alice", ipc.RoleWatch) // waits as well
	s.seat.set(SeatState{Kind: SeatGreeter, UID: 120, Display: ":0"})
	epoch := s.holds(n, first)
	g := s.worker()
	same(t, "the worker's user", g.who, gdm)
	m := s.net.next(ipc.TypeDesktop)
	ipc.CloseFiles(m.files)
	again, _ := ipc.Decode[ipc.Desktop](m.data)
	if again.Number == d.Number {
		t.Fatal("another desktop has the same number")
	}
	got := map[uint32]bool{get[ipc.Attach](s.net, ipc.TypeAttach).Session: true, get[ipc.Attach](s.net, ipc.TypeAttach).Session: true}
	same(t, "who sees the log-on screen", got, map[uint32]bool{n: true, other: true})
	s.key(n, epoch, 'b')
	s.wantKey(g, 'b')
}

// When nothing comes on the seat, its viewers get virtual displays.
func TestSeatNone(t *testing.T) {
	times := longTimes()
	times.seat = short
	s := newStageTimes(t, bobsSeat, nil, times)
	n := s.enter("bob@example.com", "bob", ipc.RoleControl)
	s.worker()
	s.attach(n)
	s.seat.set(SeatState{})
	w := recv(t, s.parts.workers)
	start, err := ipc.Decode[ipc.Start](w.next(ipc.TypeStart).data)
	if err != nil || start.Display != "" || start.Size != s.m.c.Size || w.who != bob {
		t.Fatalf("%+v of %v, %v", start, w.who, err)
	}
	w.send(ipc.TypeReady, ipc.Ready{Display: ":9", Size: screenSize})
	s.attach(n)

	// A session at the seat does not take a user's own virtual display away.
	s.seat.set(SeatState{Kind: SeatUser, UID: 1001, Display: ":0"})
	epoch, r := s.control(n, false, false)
	wantCode(t, r, 0)
	s.key(n, epoch, 'a')
	s.wantKey(w, 'a')
}

// When what went from the seat comes back, as an X server that was started again, so do those who lost it.
func TestSeatBack(t *testing.T) {
	times := longTimes()
	times.seat = short
	s := newStageTimes(t, bobsSeat, nil, times)
	n := s.enter("bob@example.com", "bob", ipc.RoleControl)
	s.worker()
	s.attach(n)
	epoch, _ := s.control(n, false, false)
	s.seat.set(SeatState{})
	epoch = s.holds(n, epoch)
	virtual := s.worker()
	s.attach(n)
	s.key(n, epoch, 'a')
	s.wantKey(virtual, 'a')

	s.seat.set(bobsSeat)
	virtual.next(ipc.TypeRelease)
	virtual.send(ipc.TypeReleased, nil)
	epoch = s.holds(n, epoch)
	w := s.worker()
	s.attach(n)
	s.key(n, epoch, 'b')
	s.wantKey(w, 'b')
}

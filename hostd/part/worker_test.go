package part

import (
	"image"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helmline/helmline/hostd/ipc"
)

// queued gives the bodies of the messages of that kind that wait for a part.
func queued[T any](t *testing.T, l *link, kind ipc.Type) []T {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []T
	for _, p := range l.queue {
		if ipc.Type(p.data[0]) == kind {
			v, err := ipc.Decode[T](p.data)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
	}
	return all
}

// events has what was posted called, as Run would.
func (m *Monitor) runEvents() {
	synctest.Wait()
	for len(m.events) > 0 {
		(<-m.events)()
	}
}

// TestManySizes has a worker whose display changes its size all the time. It gets a memory now and then, of the newest size; no more
// than one waits for it, or for hostd-net, however little they read.
func TestManySizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n := idleMonitor(t)
		ours, theirs, err := ipc.Pair()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ipc.FileConn(ours)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := ipc.FileConn(theirs)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		w := newWorkerPart(conn, nil)
		defer w.close()
		d := &desktop{number: 1, worker: w}
		defer func() { d.pic.close() }()
		m.sessions[1].desktop, m.sessions[1].user = d, alice

		size := func(x int) { m.workerReady(d, w, ipc.Ready{Size: image.Pt(x, 10)}) }
		memory := func() image.Point {
			t.Helper()
			got := queued[ipc.Memory](t, w.link, ipc.TypeMemory)
			if len(got) != 1 {
				t.Fatalf("%d memories wait for the worker", len(got))
			}
			return got[0].Size
		}
		for i := range 50 {
			size(100 + i)
		}
		same(t, "the memory", memory(), image.Pt(100, 10))
		time.Sleep(sizePause - 1)
		m.runEvents()
		same(t, "the memory just before the pause ends", memory(), image.Pt(100, 10))
		time.Sleep(time.Nanosecond)
		m.runEvents()
		same(t, "the memory after the pause", memory(), image.Pt(149, 10))

		// What the worker leaves unread it gets no more of.
		if err := conn.Send(ipc.TypeRelease, nil); err != nil {
			t.Fatal(err)
		}
		size(200)
		time.Sleep(10 * sizePause)
		m.runEvents()
		same(t, "the memory of one who does not read", memory(), image.Pt(149, 10))
		if _, _, err := reader.Receive(make([]byte, ipc.MaxMessage)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(sizePause)
		m.runEvents()
		same(t, "the memory of one who reads again", memory(), image.Pt(200, 10))

		// hostd-net, which has read nothing: one picture, and a size a second.
		if got := queued[ipc.Desktop](t, n.link, ipc.TypeDesktop); len(got) != 1 || got[0].Size != image.Pt(200, 10) {
			t.Fatalf("pictures for hostd-net: %+v", got)
		}
		before := len(queued[ipc.Welcome](t, n.link, ipc.TypeWelcome))
		for i := range 100 {
			size(300 + i)
			time.Sleep(sizePause)
			m.runEvents()
		}
		time.Sleep(sizeWelcome)
		m.runEvents()
		got := queued[ipc.Welcome](t, n.link, ipc.TypeWelcome)
		if told := len(got) - before; told < 10 || told > 12 || got[len(got)-1].Size != image.Pt(399, 10) {
			t.Fatalf("told %d sizes within 11 s, the last %v", told, got[len(got)-1].Size)
		}
	})
}

// TestWorkerFlood has a user's worker say more than it can have to. It is ended, and nobody else is.
func TestWorkerFlood(t *testing.T) {
	for _, kind := range []ipc.Type{ipc.TypeSize, ipc.TypeReleased} {
		s := newStage(t, SeatState{}, nil)
		n := s.enter("alice@example.com", "alice", ipc.RoleControl)
		w := s.worker()
		s.attach(n)
		for i := range 10 * workerBurst {
			if w.conn.Send(kind, ipc.Ready{Display: ":9", Size: screenSize.Add(image.Pt(i%7, 0))}) != nil {
				break
			}
		}
		w.ended()
		s.worker()
		d, _ := s.attachAgain()
		same(t, "the desktop after it", d.Size, screenSize)
		s.settle()
	}
}

// attachAgain waits until hostd-net has the picture of the first size.
func (s *stage) attachAgain() (ipc.Desktop, error) {
	s.t.Helper()
	for {
		m := s.net.next(ipc.TypeDesktop)
		ipc.CloseFiles(m.files)
		d, err := ipc.Decode[ipc.Desktop](m.data)
		if err != nil {
			return d, err
		}
		if d.Size == screenSize {
			return d, nil
		}
	}
}

// TestHandOutAgain has a picture that cannot be handed to hostd-net: nobody is shown the desktop before it can.
func TestHandOutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n := idleMonitor(t)
		broken, err := newPicture(screenSize)
		if err != nil {
			t.Fatal(err)
		}
		broken.close()
		d := &desktop{number: 1, pic: broken}
		m.sessions[1].user = alice
		m.join(m.sessions[1], d)
		m.attach(d)
		time.Sleep(handOutPause)
		m.runEvents()
		if got := queued[ipc.Attach](t, n.link, ipc.TypeAttach); len(got) > 0 || m.sessions[1].attached {
			t.Fatalf("attached without a picture: %+v", got)
		}
		if d.pic, err = newPicture(screenSize); err != nil {
			t.Fatal(err)
		}
		defer d.pic.close()
		time.Sleep(handOutPause)
		m.runEvents()
		if len(queued[ipc.Desktop](t, n.link, ipc.TypeDesktop)) != 1 || len(queued[ipc.Attach](t, n.link, ipc.TypeAttach)) != 1 {
			t.Fatal("not attached when there is a picture")
		}
	})
}

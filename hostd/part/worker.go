package part

import (
	"bytes"
	"fmt"
	"image"
	"time"

	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// killTime is how long a process has to be gone once it was killed.
const killTime = 5 * time.Second

// Limits of what a worker says: it is its user's, who may have it say anything.
const (
	workerRate  = 30                     // messages a second; one that says more is ended
	workerBurst = 120                    // of which a display that changes its size all the time makes most
	sizePause   = 100 * time.Millisecond // between two memories; of the sizes meanwhile the newest counts
	sizeWelcome = time.Second            // between two times that hostd-net is told a new size for its forms
)

// A workerPart is one life of a worker.
type workerPart struct {
	*link
	limit *rate.Limiter // used by the goroutine that receives

	// Owned by Run.
	lifting bool       // it has been told to release all keys and has not answered
	sized   time.Time  // when it was last given a memory for a size
	size    *ipc.Ready // the newest size that waits for a memory; nil: none
}

func newWorkerPart(conn *ipc.Conn, proc Process) *workerPart {
	return &workerPart{link: newLink(conn, proc), limit: rate.NewLimiter(workerRate, workerBurst)}
}

// superviseWorker keeps a desktop's worker running until the desktop is closed.
func (m *Monitor) superviseWorker(d *desktop) {
	for failures := 0; d.ctx.Err() == nil; {
		began := time.Now()
		err := m.runWorker(d)
		if d.ctx.Err() != nil {
			return
		}
		m.log.Warn("a worker has ended; it is started again", "uid", d.uid, "err", err)
		if failures++; time.Since(began) >= ranWell {
			failures = 1
		}
		m.pause(failures - 1)
	}
}

// runWorker starts a worker and returns after its end.
func (m *Monitor) runWorker(d *desktop) error {
	who, err := m.c.Lookup(d.ctx, d.uid)
	if err != nil {
		m.post(func() { m.workerGone(d, nil, err.Error()) })
		return err
	}
	conn, proc, err := m.c.Parts.Worker(d.ctx, who, d.kind != SeatGreeter)
	if err != nil {
		m.post(func() { m.workerGone(d, nil, err.Error()) })
		return err
	}
	w := newWorkerPart(conn, proc)
	m.post(func() { m.workerUp(d, w) })
	err = w.serve(d.ctx, func(p []byte) error { return m.fromWorker(d, w, p) })
	reap(proc, m.times.end)
	cause := "its worker ended"
	if err != nil {
		cause = err.Error()
	}
	m.post(func() { m.workerGone(d, w, cause) })
	return err
}

// reap waits for the end of a process and brings it about when it does not come by itself.
func reap(p Process, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-p.Done():
	case <-t.C:
	}
	p.Kill() // also what it has left behind
	t.Reset(killTime)
	select {
	case <-p.Done():
	case <-t.C:
	}
}

func (m *Monitor) workerUp(d *desktop, w *workerPart) {
	m.counts.WorkerStarts++
	if !m.desktops[d] {
		w.close()
		return
	}
	d.worker = w
	d.sink.Store(w)
	size := m.c.Size
	if d.kind == SeatNone && d.size != (image.Point{}) && d.failures == 0 {
		size = d.size // as it was
	}
	w.send(ipc.TypeStart, ipc.Start{Display: d.display, Cookie: []byte(d.cookie), Xauthority: d.xauthority,
		Greeter: d.kind == SeatGreeter, Size: size})
	if m.inputTo == d && m.mayCopy(d) {
		w.send(ipc.TypeListen, ipc.Listen{Clipboard: true})
	}
	m.after(m.times.ready, func() {
		if d.worker == w && d.pic == nil {
			d.cause = "its worker does not open the display"
			w.close()
		}
	})
}

// fromWorker takes one packet of a worker.
func (m *Monitor) fromWorker(d *desktop, w *workerPart, p []byte) error {
	if !w.limit.Allow() {
		return fmt.Errorf("it says more than %d things a second", workerRate)
	}
	switch t := ipc.Type(p[0]); t {
	case ipc.TypeReady, ipc.TypeSize:
		r, err := ipc.Decode[ipc.Ready](p)
		if err == nil {
			err = frame.CheckSize(r.Size)
		}
		if err != nil {
			return err
		}
		m.post(func() { m.workerReady(d, w, r) })
	case ipc.TypeFailed:
		f, err := ipc.Decode[ipc.Failed](p)
		if err != nil {
			return err
		}
		return fmt.Errorf("%s", refuse.Printable(f.Cause, 200))
	case ipc.TypeCopy:
		c, err := ipc.ParseClip(p)
		if err != nil {
			return err
		}
		text := bytes.Clone(c.Text)
		m.post(func() { m.copied(d, w, text) })
	case ipc.TypeReleased:
		m.post(func() { m.released(w) })
	default:
		return fmt.Errorf("a message of type %d: %w", t, ipc.ErrMalformed)
	}
	return nil
}

// workerReady takes in the display's size. The worker gets a memory for it when it has taken what it was sent before, and not too
// soon after the one before.
func (m *Monitor) workerReady(d *desktop, w *workerPart, r ipc.Ready) {
	waits := w.size != nil
	w.size = &r
	if !waits {
		m.sizeWorker(d, w)
	}
}

func (m *Monitor) sizeWorker(d *desktop, w *workerPart) {
	if d.worker != w {
		return
	}
	wait := time.Until(w.sized.Add(sizePause))
	if unread, err := w.conn.Unread(); err == nil && unread {
		wait = sizePause
	}
	if wait > 0 {
		m.after(wait, func() { m.sizeWorker(d, w) })
		return
	}
	r := *w.size
	w.size, w.sized = nil, time.Now()
	m.giveMemory(d, w, r)
}

// giveMemory gives the worker a memory of the display's size, and hostd-net the same when somebody looks.
func (m *Monitor) giveMemory(d *desktop, w *workerPart, r ipc.Ready) {
	d.name, d.size = refuse.Printable(r.Name, 80), r.Size
	pic, err := newPicture(r.Size)
	if err == nil {
		err = m.renew(d, pic)
	}
	if err != nil {
		m.log.Error("a worker is ended, as it cannot have a memory", "err", err)
		w.close()
		return
	}
	d.failures, d.down, d.cause = 0, time.Time{}, ""
	m.welcomeSize(r.Size)
	m.attach(d)
}

// resize hands a wish for another size on to the worker, if the session controls. Of those that the worker has not taken, the newest
// counts.
func (m *Monitor) resize(_ *netPart, r ipc.Resize) error {
	if r.Number == 0 || frame.CheckLayout(r.Size, r.Screens) != nil {
		return fmt.Errorf("hostd-net sent a layout that cannot be: %w", ipc.ErrMalformed)
	}
	if s := m.sessions[r.Session]; s != nil && s.desktop != nil && s.desktop.worker != nil && m.gate.Controls(r.Session, r.Epoch) {
		s.desktop.worker.sendFiles(slot{kind: ipc.TypeResize}, ipc.TypeResize, r)
	}
	return nil
}

// welcomeSize tells hostd-net the size that its forms should have, but not more often than anybody could want.
func (m *Monitor) welcomeSize(size image.Point) {
	if m.welcome.Size == size {
		return
	}
	m.welcome.Size = size
	if m.sizeLate != nil {
		return // it is told soon
	}
	tell := func() {
		m.sizeLate, m.sizeTold = nil, time.Now()
		m.sendWelcome()
	}
	if wait := time.Until(m.sizeTold.Add(sizeWelcome)); wait > 0 {
		m.sizeLate = m.after(wait, tell)
		return
	}
	tell()
}

// workerGone ends what a worker had; w is nil when it could not be started. Viewers wait for the next worker, but not for ever.
func (m *Monitor) workerGone(d *desktop, w *workerPart, cause string) {
	if w != nil {
		m.released(w)
	}
	if !m.desktops[d] || d.worker != w {
		return
	}
	d.worker = nil
	d.sink.Store(nil)
	if d.pic != nil {
		d.pic.close()
		d.pic, d.handed = nil, false
		d.down, d.failures = time.Now(), 0
	} else {
		d.failures++
	}
	if d.cause == "" {
		d.cause = cause
	}
	why := refuse.NoScreen.Of(m.name(), d.cause)
	late := time.Since(d.down) >= m.times.down
	for _, s := range m.sessions {
		if s.desktop == d && (late || d.failures >= maxFails && !s.attached) {
			m.detach(s, why)
		}
	}
	if late && m.viewers(d) == 0 {
		m.closeDesktop(d)
	}
}

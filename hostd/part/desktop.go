package part

import (
	"context"
	"image"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/login"
)

// maxFails is how many failures in a row to open a display there may be before a viewer who has not seen it is told.
const maxFails = 3

// handOutPause is how long it takes until a picture that could not be handed out, as for want of descriptors, is tried again.
const handOutPause = time.Second

// A place is where a desktop is. Two equal places are the same desktop.
type place struct {
	kind       SeatKind // SeatNone: a virtual display of the user
	uid        uint32   // as whom its worker runs
	session    string
	display    string
	cookie     string
	xauthority string
}

func (s SeatState) place() place {
	if s.Kind == SeatNone {
		return place{}
	}
	return place{s.Kind, s.UID, s.Session, s.Display, string(s.Cookie), s.Xauthority}
}

// A desktop is one display that viewers see. Its worker may be started several times. Run owns it, but for sink.
type desktop struct {
	place
	number   uint32
	ctx      context.Context // ends when the desktop is closed
	cancel   context.CancelFunc
	name     string
	size     image.Point // of its last picture; zero: it had none
	pic      *picture    // nil while there is no worker that is ready
	handed   bool        // hostd-net has pic
	worker   *workerPart // nil: there is none at the moment
	sink     atomic.Pointer[workerPart]
	failures int         // to open the display, in a row
	down     time.Time   // since when there is no picture
	cause    string      // why
	idle     *time.Timer // nil: somebody looks
	tape     tape
	tapeLate *time.Timer // when hostd-net should have begun to record
	again    *time.Timer // when the picture is handed out again after a failure; nil: there was none
}

// placeFor is DESIGN 7's rule of whose desktop a user may see: the seat's is for the user whose session it is, for
// administrators, and for everybody while it is the log-on screen. Where no seat is, a user gets a virtual display.
func (m *Monitor) placeFor(user *login.Account, admin bool) (place, *refuse.Refusal) {
	switch {
	case m.seat.Kind == SeatNone:
		return place{kind: SeatNone, uid: user.UID}, nil
	case m.seat.Kind == SeatGreeter, admin, m.seat.UID == user.UID:
		return m.seat.place(), nil
	}
	return place{}, refuse.NoRight.Of(user.Name)
}

// desktopAt is the desktop of a place, which is started if need be.
func (m *Monitor) desktopAt(p place) *desktop {
	for d := range m.desktops {
		if d.place == p {
			return d
		}
	}
	m.number++
	d := &desktop{place: p, number: m.number, down: time.Now()}
	d.ctx, d.cancel = context.WithCancel(m.ctx)
	m.desktops[d] = true
	m.spawn(func() { m.superviseWorker(d) })
	return d
}

// closeDesktop ends a desktop at once. Nobody may be attached to it any more, or the caller moves them.
func (m *Monitor) closeDesktop(d *desktop) {
	m.untape(d)
	delete(m.desktops, d)
	d.sink.Store(nil)
	if d.idle != nil {
		d.idle.Stop()
	}
	if d.pic != nil {
		d.pic.close()
		d.pic = nil
	}
	d.cancel()
}

// Input hands an event to the worker. It is called by the Gate, not by Run.
func (d *desktop) Input(in ipc.Input) {
	if w := d.sink.Load(); w != nil {
		w.input(in)
	}
}

// Paste hands a text to the worker, for the clipboard; the log-on screen has none. It is called by the Gate, not by Run.
func (d *desktop) Paste(text []byte) {
	if w := d.sink.Load(); w != nil && d.kind != SeatGreeter {
		w.sendClip(ipc.TypePaste, ipc.Clip{Text: text})
	}
}

// copied takes in what was copied on a desktop: it is for who controls that, and nobody else.
func (m *Monitor) copied(d *desktop, w *workerPart, text []byte) {
	s := m.lease.State()
	if d.worker != w || m.inputTo != d || m.net == nil || !m.mayCopy(d) {
		return
	}
	m.net.sendClip(ipc.TypeCopy, ipc.Clip{Session: s.Session, Epoch: s.Epoch, Text: text})
}

// mayCopy says whether what is copied on a desktop may go to who controls it: not from the log-on screen.
func (m *Monitor) mayCopy(d *desktop) bool { return m.c.Clipboard.ToViewer && d.kind != SeatGreeter }

// join gives a logged-in session its desktop. It is attached as soon as there is a picture.
func (m *Monitor) join(s *session, d *desktop) {
	s.desktop, s.attached = d, false
	if d.idle != nil {
		d.idle.Stop()
		d.idle = nil
	}
	m.attach(d)
}

// attach shows a desktop to whoever waits for it, once hostd-net has its picture.
func (m *Monitor) attach(d *desktop) {
	if d.pic == nil || m.net == nil || m.viewers(d) == 0 {
		return
	}
	if err := m.handOut(d); err != nil {
		m.log.Error("no picture for hostd-net; it is tried again", "err", err)
		if d.again == nil {
			d.again = m.after(handOutPause, func() {
				d.again = nil
				m.attach(d)
			})
		}
		return
	}
	if !m.taped(d) {
		return
	}
	for _, s := range m.sessions {
		if s.desktop == d && !s.attached {
			s.attached = true
			if d.tape == tapeRuns {
				m.logTaped(s)
			}
			m.net.send(ipc.TypeAttach, ipc.Attach{Session: s.id, Desktop: d.number, User: s.user.Name, Force: m.mayForce(s), Ends: m.mayEnd(s), AtEnd: s.atEnd})
		}
	}
}

// handOut gives hostd-net the picture, for reading, if it does not have it.
func (m *Monitor) handOut(d *desktop) error {
	if d.handed {
		return nil
	}
	files, err := d.pic.forNet()
	if err != nil {
		return err
	}
	d.handed = true
	m.net.sendFiles(slot{ipc.TypeDesktop, d.number}, ipc.TypeDesktop,
		ipc.Desktop{Number: d.number, Size: d.pic.size, Stride: d.pic.stride, Name: d.name}, files...)
	return nil
}

// renew gives a desktop a new picture of that size, which hostd-net does not have yet.
func (m *Monitor) renew(d *desktop, pic *picture) error {
	files, err := pic.forWorker()
	if err != nil {
		pic.close()
		return err
	}
	if d.pic != nil {
		d.pic.close()
	}
	d.pic, d.handed = pic, false
	d.worker.sendFiles(slot{kind: ipc.TypeMemory}, ipc.TypeMemory, ipc.Memory{Size: pic.size, Stride: pic.stride}, files...)
	return nil
}

// takeBack takes the picture away from hostd-net: what is drawn from now on goes to another memory.
func (m *Monitor) takeBack(d *desktop) {
	if !d.handed {
		return
	}
	d.handed = false
	if d.worker == nil {
		return
	}
	pic, err := newPicture(d.pic.size)
	if err == nil {
		err = m.renew(d, pic)
	}
	if err != nil {
		m.log.Error("a worker is ended, as it cannot have a new memory", "err", err)
		d.worker.close()
	}
}

// viewers counts the sessions of a desktop.
func (m *Monitor) viewers(d *desktop) int {
	n := 0
	for _, s := range m.sessions {
		if s.desktop == d {
			n++
		}
	}
	return n
}

// leaveDesktop takes a session from its desktop. When nobody looks any more, hostd-net loses the picture.
func (m *Monitor) leaveDesktop(s *session) {
	d := s.desktop
	s.desktop, s.attached = nil, false
	if d == nil || !m.desktops[d] || m.viewers(d) > 0 {
		return
	}
	m.untape(d)
	m.takeBack(d)
	if d.kind != SeatNone {
		d.idle = m.after(m.times.idle, func() {
			if m.desktops[d] && d.idle != nil && m.viewers(d) == 0 {
				m.closeDesktop(d)
			}
		})
	}
}

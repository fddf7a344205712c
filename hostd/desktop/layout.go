package desktop

import (
	"image"
	"slices"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// Limits of SetDesktopSize.
const (
	layoutPause = 200 * time.Millisecond // between two that are handed on; of those meanwhile the newest counts
	layoutTime  = 5 * time.Second        // for hostd's answer
	maxResults  = 256                    // that wait to be told
)

// A laidOut is what a desktop is made of: its size, and what the worker said last.
type laidOut struct {
	size image.Point
	ipc.Layout
}

// whole is a layout of one screen.
func whole(size image.Point) []frame.Screen {
	return []frame.Screen{{Rect: image.Rectangle{Max: size}}}
}

// setLayout takes in what screens a picture has. Until then it is not known what of it a viewer waits for.
func (d *desk) setLayout(p *picture, l ipc.Layout) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture != p {
		return
	}
	d.layout, p.laid = l, true
	d.wakeAll()
}

// laidOut is the layout of now; ok is false before the first and while a new picture is about to come.
func (d *desk) laidOut() (l laidOut, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture == nil || !d.picture.laid {
		return laidOut{}, false
	}
	return laidOut{d.picture.image.Rect.Max, d.layout}, true
}

// relayouts is what is known of a client's SetDesktopSize messages, each of which is answered. v.mu guards it.
type relayouts struct {
	results   []uint8     // of those that are not handed on
	wish      *ipc.Resize // the newest, to be handed on; nil: none
	asks      uint32      // Number of the one that is being worked on; 0: none
	late      time.Time   // when nothing more is expected of that
	next      time.Time   // when the next may be handed on
	described bool        // the client has asked for all of the picture, and is told the layout first
}

// refuseLayout answers a SetDesktopSize. It says no to a client that has many answered and reads none.
func (v *viewer) refuseLayout(result uint8) bool {
	v.mu.Lock()
	fits := len(v.relayouts.results) < maxResults
	if fits {
		v.relayouts.results = append(v.relayouts.results, result)
	}
	v.mu.Unlock()
	v.wakeUp()
	return fits
}

// wantLayout has a SetDesktopSize handed on, in place of one that still waits for that.
func (v *viewer) wantLayout(r ipc.Resize) bool {
	v.mu.Lock()
	old := v.relayouts.wish
	v.relayouts.wish = &r
	v.mu.Unlock()
	if old != nil {
		return v.refuseLayout(ipc.ResizeResources)
	}
	v.wakeUp()
	return true
}

// stepLayout tells the client at most one thing about the layout, in an update of its own. wait is after what time there will be something
// to do.
func (v *viewer) stepLayout(now time.Time) (told bool, wait time.Duration, err error) {
	v.mu.Lock()
	u := update{scene: v.scene, size: v.size, caps: v.caps}
	if !u.caps.ExtendedDesktopSize {
		v.relayouts = relayouts{}
		v.mu.Unlock()
		return false, 0, nil
	}
	v.mu.Unlock()
	wait = v.handOn(now)
	l := v.layoutOf(&u)
	reason, result, due := v.layoutNews(&l, now)
	if !due {
		return false, v.sooner(wait, now), nil
	}
	return true, 0, v.writeLayout(&u, reason, result, &l)
}

// layoutOf is what there is to tell: the desktop's layout, or that of forms, which changes nothing.
func (v *viewer) layoutOf(u *update) laidOut {
	if u.scene.desk != nil {
		if l, ok := u.scene.desk.laidOut(); ok {
			return l
		}
	}
	if v.send.laidOut.size == u.size {
		return v.send.laidOut
	}
	return laidOut{u.size, ipc.Layout{Screens: whole(u.size)}}
}

// handOn gives hostd the newest wish when the one before has been answered, or says how long that has to wait.
func (v *viewer) handOn(now time.Time) (wait time.Duration) {
	v.mu.Lock()
	r := &v.relayouts
	if r.wish == nil || r.asks != 0 {
		v.mu.Unlock()
		return 0
	}
	if wait = r.next.Sub(now); wait > 0 {
		v.mu.Unlock()
		return wait
	}
	ask := *r.wish
	r.wish, r.asks, r.next, r.late = nil, ask.Number, now.Add(layoutPause), now.Add(layoutTime)
	v.mu.Unlock()
	if result := v.ask(ask); result != ipc.ResizeDone {
		v.mu.Lock()
		r.asks, r.results = 0, append(r.results, result)
		v.mu.Unlock()
	}
	return 0
}

// sooner is the shorter of two waits, of which one is that for hostd's answer.
func (v *viewer) sooner(wait time.Duration, now time.Time) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.relayouts.asks == 0 {
		return wait
	}
	late := max(v.relayouts.late.Sub(now), 1)
	if wait == 0 {
		return late
	}
	return min(wait, late)
}

// layoutNews says what the client is to be told, if anything.
func (v *viewer) layoutNews(l *laidOut, now time.Time) (reason, result int, due bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := &v.relayouts
	told := &v.send.laidOut
	switch {
	case len(r.results) > 0:
		result = int(r.results[0])
		r.results = slices.Delete(r.results, 0, 1)
		return rfb.ReasonClient, result, true
	case r.asks != 0 && r.asks == l.Number:
		r.asks = 0
		return rfb.ReasonClient, int(l.Result), true
	case r.asks != 0 && !now.Before(r.late):
		r.asks = 0
		return rfb.ReasonClient, rfb.ResultResources, true
	}
	due = r.described || (v.asked || v.going) && (l.size != v.size || !slices.Equal(l.Screens, told.Screens))
	if l.Number != told.Number && l.Result == ipc.ResizeDone && told.Screens != nil {
		reason = rfb.ReasonOther
	}
	return reason, rfb.ResultOK, due
}

// writeLayout tells the client a layout, and with a good result also that of its picture. With a bad one the client's stays.
func (v *viewer) writeLayout(u *update, reason, result int, l *laidOut) error {
	screens := l.Screens
	if result == rfb.ResultOK {
		v.mu.Lock()
		v.relayouts.described = false
		v.mu.Unlock()
		v.send.laidOut = *l
		if l.size != u.size {
			v.resize(u, l.size)
		}
	} else if l.size != u.size {
		screens = whole(u.size)
	}
	v.send.head = rfb.AppendExtendedDesktopSize(rfb.AppendUpdateHeader(v.send.head[:0], 1), reason, result, u.size, screens)
	return v.write(v.send.head)
}

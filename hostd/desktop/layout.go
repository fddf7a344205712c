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
	maxForm     = 16 << 20               // pixels of a form
)

// A laidOut is what a client is to see, and what it is told of that.
type laidOut struct {
	size image.Point
	crop image.Rectangle // of the desktop; empty: all of it
	ipc.Layout
}

// whole is a layout of one screen.
func whole(size image.Point) []frame.Screen {
	return []frame.Screen{{Rect: image.Rectangle{Max: size}}}
}

// setLayout takes in what screens a picture has. Until then it is not known what of it a viewer waits for.
func (d *desk) setLayout(p *picture, l ipc.Layout) {
	d.mu.Lock()
	now := d.picture == p
	if now {
		d.layout, p.laid = l, true
		d.wakeAll()
	}
	d.mu.Unlock()
	if now && d.relaid != nil {
		d.relaid()
	}
}

// laidOut is the layout of now; ok is false before the first and while a new picture is about to come.
func (d *desk) laidOut() (l laidOut, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture == nil || !d.picture.laid {
		return laidOut{}, false
	}
	return laidOut{size: d.picture.image.Rect.Max, Layout: d.layout}, true
}

// relayouts is what is known of a client's SetDesktopSize messages, each of which is answered. v.mu guards it.
//
// Viewers wish a size as soon as they are connected, when there is only a form. That is theirs alone and gets it; the desktop does when they
// come to control it.
type relayouts struct {
	results   []uint8     // of those that are not handed on
	wish      *ipc.Resize // the newest, to be handed on; nil: none
	asks      uint32      // Number of the one that is being worked on; 0: none
	late      time.Time   // when nothing more is expected of that
	next      time.Time   // when the next may be handed on
	form      *ipc.Resize // the size that the form is to have, and the desktop after it
	formDue   bool        // the client has not been told that it has
	answered  uint32      // Number of that, which needs no answer any more
	described bool        // the client has asked for all of the picture, and is told the layout first
}

// holds says whether the desktop is about to get the form's size: until then the client's picture keeps that.
func (r *relayouts) holds() bool {
	return r.answered != 0 && (r.asks == r.answered || r.wish != nil && r.wish.Number == r.answered)
}

// shown notes that the desktop is shown instead of forms, to who controls it or others.
func (r *relayouts) shown(controls bool) {
	switch {
	case r.form == nil:
		return
	case controls && r.wish == nil:
		if r.wish = r.form; !r.formDue {
			r.answered = r.form.Number
		}
	case r.formDue:
		r.results = append(r.results, ipc.ResizeProhibited)
	}
	r.form, r.formDue = nil, false
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
	owed := old != nil && old.Number != v.relayouts.answered
	v.relayouts.wish = &r
	v.mu.Unlock()
	if owed {
		return v.refuseLayout(ipc.ResizeResources)
	}
	v.wakeUp()
	return true
}

// stepLayout tells the client at most one thing about the layout, in an update of its own. wait is after what time there will be something
// to do.
func (v *viewer) stepLayout(now time.Time) (told bool, wait time.Duration, err error) {
	v.mu.Lock()
	u := update{scene: v.scene, size: v.size, crop: v.crop, caps: v.caps}
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

// layoutOf is what there is to tell: the desktop's layout, or that of forms.
func (v *viewer) layoutOf(u *update) laidOut {
	if u.scene.desk != nil {
		if l, ok := u.scene.desk.laidOut(); ok {
			v.narrow(&l)
			return l
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.relayouts.form; f != nil && u.scene.desk == nil {
		return laidOut{size: f.Size, Layout: ipc.Layout{Screens: f.Screens}}
	}
	if v.send.laidOut.size == u.size {
		return v.send.laidOut
	}
	return laidOut{size: u.size, crop: v.crop, Layout: ipc.Layout{Screens: whole(u.size)}}
}

// choose has the client see one screen of the desktop, by its number, or all. While there is no such screen it sees all.
func (v *viewer) choose(one bool, screen uint32) {
	v.mu.Lock()
	v.one, v.screen = one, screen
	v.mu.Unlock()
	v.wakeUp()
}

// narrow makes a desktop's layout that of the screen which the client is to see.
func (v *viewer) narrow(l *laidOut) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.one {
		return
	}
	for _, s := range l.Screens {
		if s.ID == v.screen {
			l.size, l.crop = s.Rect.Size(), s.Rect
			v.send.seen[0] = frame.Screen{ID: s.ID, Rect: image.Rectangle{Max: l.size}}
			l.Screens = v.send.seen[:]
			return
		}
	}
}

// handOn gives hostd the newest wish when the one before has been answered, or says how long that has to wait.
func (v *viewer) handOn(now time.Time) (wait time.Duration) {
	v.mu.Lock()
	r := &v.relayouts
	if r.wish == nil || r.asks != 0 || r.formDue {
		v.mu.Unlock()
		return 0
	}
	if wait = r.next.Sub(now); wait > 0 {
		v.mu.Unlock()
		return wait
	}
	ask := *r.wish
	r.wish, r.next = nil, now.Add(layoutPause)
	switch {
	case v.scene.desk != nil && v.one: // the size of one screen is not all there is
		r.results = append(r.results, ipc.ResizeProhibited)
		v.mu.Unlock()
		return 0
	case v.scene.desk == nil:
		if area(image.Rectangle{Max: ask.Size}) > maxForm {
			r.results = append(r.results, ipc.ResizeResources)
		} else {
			r.form, r.formDue = &ask, true
		}
		v.mu.Unlock()
		return 0
	}
	r.asks, r.late = ask.Number, now.Add(layoutTime)
	v.mu.Unlock()
	if result := v.ask(ask); result != ipc.ResizeDone {
		v.mu.Lock()
		if r.asks = 0; ask.Number != r.answered {
			r.results = append(r.results, result)
		}
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
	case r.formDue:
		r.formDue = false
		return rfb.ReasonClient, rfb.ResultOK, true
	case r.asks != 0 && (r.asks == l.Number || !now.Before(r.late)):
		result = rfb.ResultResources
		if r.asks == l.Number {
			result = int(l.Result)
		}
		own := r.asks != r.answered
		if r.asks = 0; own {
			return rfb.ReasonClient, result, true
		}
	case r.holds():
		return 0, 0, false
	}
	due = r.described || (v.asked || v.going) && (l.size != v.size || l.crop != v.crop || !slices.Equal(l.Screens, told.Screens))
	if l.Number != told.Number && l.Number != r.answered && l.Result == ipc.ResizeDone && told.Screens != nil {
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
		v.send.laidOut.Screens = slices.Clone(l.Screens)
		if l.size != u.size || l.crop != u.crop {
			v.resize(u, l)
			v.mu.Lock()
			v.answered()
			v.mu.Unlock()
		}
	} else if l.size != u.size {
		screens = whole(u.size)
	}
	v.send.head = rfb.AppendExtendedDesktopSize(rfb.AppendUpdateHeader(v.send.head[:0], 1), reason, result, u.size, screens)
	return v.write(v.send.head)
}

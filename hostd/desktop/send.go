package desktop

import (
	"context"
	"errors"
	"image"
	"runtime"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
)

// errManyRects cannot come up: maxUpdate bounds what an update holds.
var errManyRects = errors.New("an update of more rectangles than can be counted")

// A sender is what sendLoop keeps from one update to the next. Its memory is used again.
type sender struct {
	stream   rfb.StreamState
	lossy    frame.Region // what the client has with losses
	notDesk  frame.Region // where the client has a page, the cursor or the background
	overlays [maxPages]overlay
	drawn    time.Time // when a page was drawn last
	cursor   drawnCursor
	hurried  bool // the last update was the cursor's alone: see takeCursor
	arrow    frame.Cursor
	ground   frame.Image // the background, as wide as the picture
	said     said
	knows    rfb.Optional    // what has been announced by rectangles
	seen     [1]frame.Screen // the only one that the client sees
	laidOut  laidOut         // what the client was told last; its Screens are nil before

	copies           []frame.Copy // of this update
	work, part, rest frame.Region
	moving           frame.Region
	rects, cut       []image.Rectangle
	first            rfb.Batch // cursor and name, before any pixels: see rfb.AppendCursor; and then the copies
	own              rfb.Batch // pages, background, cursors: of this viewer alone
	head             []byte
	began            time.Time // the update
	pings            bool      // it has pings around it
	photos           bool      // it has something by JPEG
	pinged           uint64    // position in the stream of the last ping
	room             int       // bytes that may wait for an update; 0: not known
	parts            []*encoding

	task   task // of slices
	slices []slice
	sliced sync.WaitGroup
}

// A slice is a part of an update, which is encoded beside others.
type slice struct {
	part     frame.Region
	rects    []image.Rectangle // scratch memory
	encoding *encoding         // of part
	run      func()            // encodes; made once, as starting a goroutine with it takes no memory
}

// A task is what slices are of.
type task struct {
	cache   *cache
	picture *picture
	at      image.Point // of desk in picture
	desk    frame.Image
	params  rfb.Params
}

// Sizes of slices, pixels, and the most that are encoded at once.
const (
	minSlice  = 1 << 15
	maxSlice  = 1 << 18 // takes 1 to 4 ms
	maxSlices = 4
)

// prepare makes the slices. s is not to be moved any more.
func (s *sender) prepare() {
	s.slices = make([]slice, min(runtime.GOMAXPROCS(0), maxSlices))
	for i := range s.slices {
		s.slices[i].run = func() {
			s.encodeSlice(i)
			s.sliced.Done()
		}
	}
}

// encode encodes the first n slices.
func (s *sender) encode(n int) {
	for i := 1; i < n; i++ {
		s.sliced.Add(1)
		go s.slices[i].run()
	}
	s.encodeSlice(0)
	s.sliced.Wait()
}

func (s *sender) encodeSlice(i int) {
	t, sl := &s.task, &s.slices[i]
	sl.encoding = t.cache.encode(t.picture, t.picture.sequence, t.at, &sl.part, t.params, t.desk, &sl.rects)
}

// said is what the client was told of cursor, name and lock keys.
type said struct {
	cursor bool
	desk   *desk // whose cursor; nil: the arrow
	shape  uint32
	title  string
	locks  uint8 // with locksKnown
}

// An update is one FramebufferUpdate in the making.
type update struct {
	scene  *scene
	caps   rfb.Capabilities
	format rfb.PixelFormat
	size   image.Point
	crop   image.Rectangle // see viewer
	area   image.Rectangle // all that may be sent
	asked  image.Rectangle // of it, what requests have asked for
}

// sendLoop sends updates until ctx ends or the client cannot be written to.
func (v *viewer) sendLoop(ctx context.Context) error {
	later := time.NewTimer(time.Hour)
	defer later.Stop()
	v.send.arrow = arrow()
	defer func() {
		for i := range v.send.overlays {
			v.send.overlays[i].close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		case <-later.C:
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			var wait time.Duration
			if more, wait, err = v.step(time.Now()); err != nil {
				return err
			}
			if wait > 0 {
				later.Reset(wait)
			}
		}
	}
}

// step sends at most one update. more says that it did, wait after what time there will be something to send.
func (v *viewer) step(now time.Time) (more bool, wait time.Duration, err error) {
	if more, err = v.stepReplies(); more {
		return more, 0, err
	}
	more, later, err := v.stepLayout(now)
	if more {
		return more, 0, err
	}
	more, wait, err = v.stepUpdate(now)
	if wait == 0 || later > 0 && later < wait {
		wait = later
	}
	return more, wait, err
}

// stepReplies sends the messages that go before the next update.
func (v *viewer) stepReplies() (more bool, err error) {
	v.mu.Lock()
	if len(v.replies) == 0 {
		m := v.takeClip()
		v.mu.Unlock()
		return m.Action != 0, v.writeClip(m)
	}
	v.send.head = append(v.send.head[:0], v.replies...)
	v.replies = v.replies[:0]
	v.mu.Unlock()
	return true, v.write(v.send.head)
}

// stepUpdate is step for what is seen.
func (v *viewer) stepUpdate(now time.Time) (more bool, wait time.Duration, err error) {
	v.mu.Lock()
	goes := v.going && !v.flow.congested(now)
	if !v.asked && !goes && !v.map8 {
		v.mu.Unlock()
		return false, 0, nil
	}
	u := update{scene: v.scene, caps: v.caps.Coarser(v.flow.coarser), format: v.format, size: v.size, crop: v.crop, area: v.area}
	map8 := v.map8
	v.map8 = false
	if v.anew {
		v.anew, v.send.said = false, said{}
	}
	if v.full {
		if wait = v.nextFull.Sub(now); wait > 0 && !map8 {
			v.mu.Unlock()
			return false, wait, nil
		}
		v.full, v.nextFull = false, now.Add(fullTime)
		v.drawCopies()
		v.dirty.Add(v.area)
	}
	asked := v.asked || goes
	v.mu.Unlock()

	switch {
	case map8:
		return true, 0, v.write(rfb.AppendColourMap(v.send.head[:0]))
	case !asked:
		return false, 0, nil
	}
	if told, err := v.follow(&u); told || err != nil {
		return true, 0, err
	}
	if wait = v.send.drawn.Add(frameTime).Sub(now); wait > 0 && v.redraws(&u) {
		return false, wait, nil // a page is drawn as often as a picture is captured
	}
	more, err = v.compose(&u, now)
	return more, 0, err
}

// follow fits the picture of a client that knows nothing of layouts, and says whether the client was told of a new size. One whose size
// cannot change sees what there is room for.
func (v *viewer) follow(u *update) (told bool, err error) {
	if u.scene.desk == nil || u.caps.ExtendedDesktopSize {
		return false, nil
	}
	l := v.layoutOf(u)
	old := u.size
	if !u.caps.DesktopSize {
		l.size = old
	}
	if l.size != old || l.crop != u.crop {
		v.resize(u, &l)
	}
	if l.size == old {
		return false, nil
	}
	v.mu.Lock()
	v.answered()
	v.mu.Unlock()
	return true, v.write(rfb.AppendDesktopSize(rfb.AppendUpdateHeader(v.send.head[:0], 1), l.size))
}

// resize gives the client's picture another size or another part of the desktop.
func (v *viewer) resize(u *update, l *laidOut) {
	u.size, u.crop = l.size, l.crop
	v.mu.Lock()
	v.size, v.crop = l.size, l.crop
	v.dirty.Reset(v.size)
	v.dirty.Add(v.dirty.Bounds())
	v.copies = v.copies[:0]
	v.goes = v.goes.Intersect(v.dirty.Bounds())
	v.mu.Unlock()
	v.send.lossy.Reset(u.size)
	v.send.notDesk.Reset(u.size)
	v.send.cursor.box = image.Rectangle{}
}

// answered says that the client's requests are answered. v.mu is held.
func (v *viewer) answered() {
	v.asked, v.area = false, image.Rectangle{}
	v.hungry.Store(false)
}

// waits says that there was nothing to answer the client's requests with.
func (v *viewer) waits(u *update) {
	v.mu.Lock()
	if !u.asked.Empty() {
		v.asked, v.area = true, v.area.Union(u.asked)
	}
	v.mu.Unlock()
	if !v.hungry.Swap(true) && u.scene.desk != nil {
		u.scene.desk.hungry()
	}
}

func (v *viewer) write(b []byte) error {
	if _, err := v.out.Write(b); err != nil {
		return err
	}
	return v.out.Flush()
}

// announce appends what the client has to be told of cursor, name, lock keys and what it may send.
func (v *viewer) announce(u *update) {
	s := &v.send
	var now said
	now.title = s.said.title
	if u.scene.owner {
		now.desk = u.scene.desk
	}
	if u.caps.Cursor != rfb.CursorNone {
		now.cursor = true
		cur := s.arrow
		if now.desk != nil {
			cur, now.shape, _ = now.desk.pointing()
		}
		if !s.said.cursor || s.said.desk != now.desk || s.said.shape != now.shape {
			s.first.Bytes = rfb.AppendCursor(s.first.Bytes, cur, u.caps.Cursor, u.format)
			s.first.Count++
		}
	}
	if u.caps.DesktopName && u.scene.title != "" && u.scene.title != now.title {
		now.title = u.scene.title
		s.first.Bytes = rfb.AppendDesktopName(s.first.Bytes, now.title)
		s.first.Count++
	}
	now.locks = s.said.locks
	if now.desk != nil && (u.caps.QEMULED || u.caps.VMwareLED) {
		if now.locks = now.desk.lockState(); now.locks != s.said.locks {
			s.first.Bytes = u.caps.AppendLED(s.first.Bytes, now.locks&^locksKnown)
			s.first.Count++
		}
	}
	s.said = now
	for _, a := range [...]struct {
		has      bool
		allow    rfb.Optional
		encoding int32
	}{{u.caps.QEMUKey, rfb.AllowQEMUKeys, rfb.PseudoQEMUKey}, {u.caps.ExtendedMouse, rfb.AllowExtendedMouse, rfb.PseudoExtendedMouse}} {
		if a.has && s.knows&a.allow == 0 {
			s.knows |= a.allow
			v.allow(a.allow)
			s.first.Bytes = rfb.AppendAnnounce(s.first.Bytes, a.encoding)
			s.first.Count++
		}
	}
}

// finish writes the update, unless it is empty.
func (v *viewer) finish(u *update) (sent bool, err error) {
	s := &v.send
	defer func() {
		for _, e := range s.parts {
			v.cache.release(e)
		}
		s.parts = s.parts[:0]
	}()
	count := s.first.Count + s.own.Count
	for _, e := range s.parts {
		count += e.batch.Count
	}
	if count == 0 {
		v.waits(u)
		return false, nil
	}
	if count >= rfb.UnknownRects {
		return false, errManyRects
	}
	v.cache.stats.updates.Add(1)
	s.head = v.beginUpdate(s.head[:0])
	s.head = append(rfb.AppendUpdateHeader(s.head, count), s.first.Bytes...)
	if _, err := v.out.Write(s.head); err != nil {
		return false, err
	}
	s.stream.OneStream = u.caps.OneStream
	for _, e := range s.parts {
		if err := e.batch.Send(v.out, &s.stream); err != nil {
			return false, err
		}
	}
	if err := s.own.Send(v.out, &s.stream); err != nil { // the cursor lies over the desktop
		return false, err
	}
	return true, v.endUpdate()
}

// beginUpdate appends the ping before an update, for a viewer that answers.
func (v *viewer) beginUpdate(dst []byte) []byte {
	s := &v.send
	s.began = time.Now()
	v.mu.Lock()
	s.pings = v.fences
	n, ok := uint32(0), false
	if s.pings {
		n, ok = v.flow.before(s.began)
	}
	v.mu.Unlock()
	if !ok {
		return dst
	}
	return appendPing(dst, n)
}

// endUpdate appends the ping behind an update and writes what is left of that.
func (v *viewer) endUpdate() error {
	s := &v.send
	size := v.pieces.total + uint64(v.out.Buffered()) - s.pinged
	s.pinged += size
	v.mu.Lock()
	if !s.pings {
		v.flow.plainly(size, s.photos, s.began)
		v.mu.Unlock()
		return v.out.Flush()
	}
	n := v.flow.after(size, s.photos, s.began)
	s.room = int(v.flow.window / 2)
	v.mu.Unlock()
	s.head = appendPing(s.head[:0], n)
	return v.write(s.head)
}

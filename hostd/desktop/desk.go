package desktop

import (
	"image"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// settleTime is half of how long a part of the picture must rest before what was sent of it with losses is sent exactly.
const settleTime = 250 * time.Millisecond

// A desk is one desktop with all who see it. Locks are taken in the order desk.mu, viewer.mu.
type desk struct {
	number uint32
	cache  *cache
	relaid func() // is called when the layout may be another; nil: nobody wants to know

	mu      sync.Mutex // guards what follows, and parts of every picture
	picture *picture   // of now; nil at the end
	name    string
	viewers []*viewer

	layout ipc.Layout // of picture, once that is laid

	recorded atomic.Bool
	size0    image.Point // of the recording
	resized  func()      // called when a picture has another size; nil: there is no recording

	cursor  frame.Cursor
	shape   uint32 // counts cursors
	pointer image.Point
	locks   uint8 // of the lock keys, with locksKnown once they are

	recent  [2]frame.Region // what has changed since the last beat of settle, and between that and the one before
	settle  *time.Timer
	running bool              // settle runs
	rects   []image.Rectangle // scratch memory
}

func newDesk(number uint32, c *cache) *desk {
	d := &desk{number: number, cache: c, cursor: arrow()}
	d.settle = time.AfterFunc(time.Hour, d.beat)
	d.settle.Stop()
	return d
}

// set gives the desk a picture, which is in use from its first frame on.
func (d *desk) set(p *picture, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.picture
	d.picture, d.name = p, name
	if old != nil {
		old.retire()
		d.cache.forget(old)
	}
	if p == nil {
		d.settle.Stop()
		return
	}
	if d.resized != nil && p.image.Rect.Max != d.size0 {
		d.resized()
	}
	p.look()
	d.wakeAll()
}

// onResize gives the size of the picture, zero before the first, and has f called when it gets another; nil ends that. The desk's mutex
// is held then.
func (d *desk) onResize(f func()) image.Point {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size0, d.resized = image.Point{}, f
	if d.picture != nil {
		d.size0 = d.picture.image.Rect.Max
	}
	return d.size0
}

// alive says whether there is a worker.
func (d *desk) alive() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.picture != nil && !d.picture.dead
}

// join adds a viewer, who is told of every change from now on.
func (d *desk) join(v *viewer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.viewers, v) {
		d.viewers = append(d.viewers, v)
	}
	if p := d.picture; p != nil {
		if p.sequence > 0 {
			v.mu.Lock()
			v.begin(p) // what was sent before may lack what has changed since
			v.mu.Unlock()
		}
		p.look()
	}
}

func (d *desk) part(v *viewer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.viewers, v); i >= 0 {
		d.viewers = slices.Delete(d.viewers, i, i+1)
	}
	d.drop()
}

// drop gives up the memory of a worker that is gone when nobody looks any more. d.mu is held.
func (d *desk) drop() {
	if p := d.picture; p != nil && p.dead && len(d.viewers) == 0 {
		d.picture = nil
		p.retire()
		d.cache.forget(p)
	}
}

// wanted says whether a viewer waits for a picture. d.mu is held.
func (d *desk) wanted() bool {
	for _, v := range d.viewers {
		if v.hungry.Load() {
			return true
		}
	}
	return false
}

// wakeAll has every viewer look for something to send. d.mu is held.
func (d *desk) wakeAll() {
	for _, v := range d.viewers {
		v.wakeUp()
	}
}

// hungry says that a viewer has begun to wait for a picture.
func (d *desk) hungry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.picture; p != nil && (p.damaged || !p.begun) {
		p.look()
	}
}

func (d *desk) setCursor(p *picture, c frame.Cursor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture != p {
		return
	}
	d.cursor = c
	d.shape++
	d.wakeAll()
}

func (d *desk) setPointer(p *picture, at image.Point) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture != p || d.pointer == at {
		return
	}
	d.pointer = at
	for _, v := range d.viewers {
		if v.draws.Load() {
			v.wakeUp()
		}
	}
}

// locksKnown beside the state of the lock keys says that there is one.
const locksKnown = 0x80

// setLocks takes in the state of the lock keys.
func (d *desk) setLocks(p *picture, state uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.picture == p && d.locks != state|locksKnown {
		d.locks = state | locksKnown
		d.wakeAll()
	}
}

// lockState is the state of the lock keys with locksKnown; 0: not known yet.
func (d *desk) lockState() uint8 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locks
}

// ring rings the bell of who controls.
func (d *desk) ring(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.viewers {
		v.ring(now)
	}
}

// pointing gives the cursor, which is never changed but replaced, its number and where it points.
func (d *desk) pointing() (frame.Cursor, uint32, image.Point) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursor, d.shape, d.pointer
}

// rested takes out of r, which lies at a place on the desktop, what has changed in the last 250 to 500 ms.
func (d *desk) rested(r *frame.Region, at image.Point) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.recent {
		d.without(r, at, &d.recent[i])
	}
}

// still takes out of r what changed lately, but for the last 250 ms or less, while something is to be refined.
func (d *desk) still(r *frame.Region, at image.Point) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		d.without(r, at, &d.recent[1])
	}
}

// without takes a region of the desktop out of r, which lies at a place on it. d.mu is held.
func (d *desk) without(r *frame.Region, at image.Point, changed *frame.Region) {
	if changed.Size() == r.Size() && at == (image.Point{}) {
		r.Without(changed)
		return
	}
	d.rects = changed.AppendRects(d.rects[:0])
	for _, rect := range d.rects { // a client that cannot change its size, or sees one screen
		r.Sub(rect.Sub(at))
	}
}

// refine has settle run: a viewer was sent something with losses.
func (d *desk) refine() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running && d.picture != nil {
		d.running = true
		d.settle.Reset(settleTime)
	}
}

// beat is settle's: it wakes the viewers that have something to refine.
func (d *desk) beat() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recent[1].Set(&d.recent[0])
	d.recent[0].Clear()
	more := false
	for _, v := range d.viewers {
		if v.coarse.Load() {
			more = true
			v.wakeUp()
		}
	}
	d.running = more && d.picture != nil
	if d.running {
		d.settle.Reset(settleTime)
	}
}

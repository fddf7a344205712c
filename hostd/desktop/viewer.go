package desktop

import (
	"bufio"
	"image"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// Limits of what is sent.
const (
	maxUpdate    = 12 << 20               // pixels of one update: its rectangles can be counted in 16 bits
	pieceIdle    = 1 << 18                // pixels that are refined at once when nothing else is to be sent
	pieceBusy    = 1 << 15                // and beside a small change
	smallChange  = 1 << 16                // pixels
	fullTime     = 100 * time.Millisecond // between two updates that are not incremental
	writePiece   = 64 << 10               // bytes written at once
	bellPause    = 200 * time.Millisecond // between two bells; those between are not heard
	maxReplies   = 16 << 10               // bytes of answers that wait
	writeTimeout = 30 * time.Second       // for one such piece
)

// A scene is what a viewer is shown: pages over a desktop, or over the background. It is replaced, never changed.
type scene struct {
	desk  *desk        // nil: not a pixel of any desktop
	pages []*form.Page // topmost first; views
	owner bool         // the viewer moves the desktop's pointer, so its own cursor is the desktop's
	title string
}

// page is the i-th page from the top, or nil.
func (s *scene) page(i int) *form.Page {
	if i < len(s.pages) {
		return s.pages[i]
	}
	return nil
}

// A viewer is one RFB connection as far as its picture goes. sendLoop is the only one that writes to it.
type viewer struct {
	cache   *cache
	painter *form.Painter
	out     *bufio.Writer
	pieces  *pieces                // below out
	wake    chan struct{}          // 1; to sendLoop: look for something to send
	ask     func(ipc.Resize) uint8 // hands a wish on to hostd, or gives the result that refuses it

	hungry atomic.Bool // the client waits for an update
	coarse atomic.Bool // something was sent with losses
	draws  atomic.Bool // the desktop's cursor is drawn into the picture

	control *atomic.Uint64     // the session's epoch
	allow   func(rfb.Optional) // has the session's reader take messages, when they are announced

	mu        sync.Mutex // guards what follows
	size      image.Point
	crop      image.Rectangle // what of the desktop it shows; empty: all
	one       bool            // one screen is to be shown, of that number
	screen    uint32
	format    rfb.PixelFormat
	caps      rfb.Capabilities
	asked     bool
	area      image.Rectangle // of the requests not yet answered
	full      bool            // of them, one was not incremental
	dirty     frame.Region    // what the client's picture lacks
	copies    []frame.Copy    // and what it can get by copying before, in order; see copies.go
	spare     frame.Region    // scratch memory, as is rects
	rects     []image.Rectangle
	from      *picture // the latest that damage came from; nil: none since the scene has changed
	scene     *scene
	anew      bool // the client has to be told cursor and name again
	map8      bool // the client has to be sent the colour map
	nextFull  time.Time
	replies   []byte          // messages that go before the next update: answers to fences and the like, in order
	fences    bool            // the client knows of fences
	ends      bool            // and of continuous updates
	going     bool            // continuous updates are on
	goes      image.Rectangle // their area
	flow      flow
	relayouts relayouts
	clip      clip
	rang      time.Time // the bell, last

	send sender // owned by sendLoop
}

// newViewer makes a viewer of a client that was told that size in ServerInit.
func newViewer(conn net.Conn, size image.Point, c *cache, painter *form.Painter) *viewer {
	v := &viewer{
		cache: c, painter: painter, wake: make(chan struct{}, 1), size: size,
		format: rfb.Native, caps: rfb.ParseEncodings(nil), scene: &scene{}, control: new(atomic.Uint64), allow: func(rfb.Optional) {},
	}
	v.pieces = &pieces{conn: conn, stats: c.stats}
	v.out = bufio.NewWriterSize(v.pieces, 16<<10)
	v.flow.window = firstWindow
	v.dirty.Reset(size)
	v.dirty.Add(v.dirty.Bounds())
	v.send.lossy.Reset(size)
	v.send.notDesk.Reset(size)
	v.send.prepare()
	return v
}

// pieces writes to a connection in pieces that have between two thirds of writeTimeout and all of it each.
type pieces struct {
	conn  net.Conn
	stats *stats
	until time.Time // the deadline that is set: setting one is dear in a tunnel
	total uint64    // bytes written
}

func (w *pieces) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		if now := time.Now(); w.until.Sub(now) < writeTimeout*2/3 {
			w.until = now.Add(writeTimeout)
			if err = w.conn.SetWriteDeadline(w.until); err != nil {
				break
			}
		}
		m := 0
		m, err = w.conn.Write(p[:min(len(p), writePiece)])
		w.stats.bytes.Add(uint64(m))
		w.total += uint64(m)
		n, p = n+m, p[m:]
	}
	return n, err
}

func (v *viewer) wakeUp() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// damage notes what changed with a frame of p: first the copies, in order, then the change. The desk's mutex is held.
func (v *viewer) damage(p *picture, copies []frame.Copy, change *frame.Region) {
	v.mu.Lock()
	if v.from != p { // also what it does not cover
		v.begin(p)
	} else {
		for _, c := range copies {
			v.copied(c, change.Size())
		}
	}
	v.add(change)
	v.mu.Unlock()
	v.wakeUp()
}

// begin says that damage comes from p from now on, or from none that is known: the client has nothing of it yet. v.mu is held.
func (v *viewer) begin(p *picture) {
	v.from = p
	v.dirty.Add(v.dirty.Bounds())
	v.copies = v.copies[:0]
}

// add puts a region of a picture, whatever its size, into dirty. v.mu is held.
func (v *viewer) add(change *frame.Region) {
	if change.Size() == v.dirty.Size() && v.crop.Min == (image.Point{}) {
		v.dirty.Union(change)
		return
	}
	v.rects = change.AppendRects(v.rects[:0])
	for _, r := range v.rects {
		v.dirty.Add(r.Sub(v.crop.Min))
	}
}

// show sets what the viewer sees.
func (v *viewer) show(s *scene) {
	v.mu.Lock()
	old := v.scene
	v.scene = s
	if s.desk != old.desk {
		v.begin(nil)
		if s.desk != nil {
			v.relayouts.shown(s.owner)
		}
	}
	v.mu.Unlock()
	if s.desk != old.desk {
		if old.desk != nil {
			old.desk.part(v)
		}
		if s.desk != nil {
			s.desk.join(v)
		}
	}
	v.wakeUp()
}

// hide takes the desktop out of what the viewer sees, at once.
func (v *viewer) hide() {
	v.mu.Lock()
	s := *v.scene
	v.mu.Unlock()
	if s.desk != nil {
		s.desk, s.owner, s.title = nil, false, ""
		v.show(&s)
	}
}

// ring rings the client's bell if it is the one in control.
func (v *viewer) ring(now time.Time) {
	v.mu.Lock()
	due := v.scene.owner && now.Sub(v.rang) >= bellPause
	if due {
		v.rang = now
	}
	v.mu.Unlock()
	if due {
		v.reply(rfb.AppendBell(nil)) // a client that does not read hears nothing
	}
}

// bounds is the size of the client's picture.
func (v *viewer) bounds() image.Point {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.size
}

// place is where a place in the client's picture is on the desktop.
func (v *viewer) place(x, y int) image.Point {
	v.mu.Lock()
	defer v.mu.Unlock()
	return image.Pt(min(max(x, 0), v.size.X-1), min(max(y, 0), v.size.Y-1)).Add(v.crop.Min)
}

// What follows is called by the session's reader.

// setPixelFormat also takes the answer, or none, to a fence that waits for this message: what follows that answer is in the new format, and
// what was sent before it in the old one. Like reply it says no to a client that reads no answers.
func (v *viewer) setPixelFormat(f rfb.PixelFormat, answer []byte) bool {
	v.mu.Lock()
	v.format = f
	v.anew, v.map8 = true, !f.TrueColour
	fits := v.queue(answer)
	v.mu.Unlock()
	v.wakeUp()
	return fits
}

// setEncodings gives the messages that the client may send from now on.
func (v *viewer) setEncodings(list []int32) rfb.Optional {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.caps = rfb.ParseEncodings(list)
	v.anew = true
	v.wakeUp()
	if v.caps.Fence && !v.fences {
		v.fences = true
		v.replies = rfb.AppendFence(v.replies, rfb.FenceRequest, fenceHello)
	}
	if v.caps.Fence && v.caps.ContinuousUpdates && !v.ends {
		v.ends = true
		v.replies = rfb.AppendEndOfCU(v.replies)
	}
	v.clip.caps = v.caps.ExtendedClipboard // each time
	return v.caps.Optional() & (rfb.AllowFence | rfb.AllowContinuousUpdates | rfb.AllowDesktopSize | rfb.AllowClipboard)
}

// reply has a message sent before the next update. It says no to a client that has many answered and reads none.
func (v *viewer) reply(message []byte) bool {
	v.mu.Lock()
	fits := v.queue(message)
	v.mu.Unlock()
	v.wakeUp()
	return fits
}

// queue is reply. v.mu is held.
func (v *viewer) queue(message []byte) bool {
	if len(v.replies)+len(message) > maxReplies {
		return false
	}
	v.replies = append(v.replies, message...)
	return true
}

// pong is a ping that has come back.
func (v *viewer) pong(n uint32, now time.Time) {
	v.mu.Lock()
	v.flow.pong(n, now)
	v.mu.Unlock()
	v.wakeUp()
}

// continuous turns continuous updates on, for an area, or off.
func (v *viewer) continuous(on bool, area image.Rectangle) {
	v.mu.Lock()
	v.going, v.goes = on, area.Intersect(image.Rectangle{Max: v.size})
	d := v.scene.desk
	v.mu.Unlock()
	if on && !v.hungry.Swap(true) && d != nil {
		d.hungry()
	}
	v.wakeUp()
}

func (v *viewer) request(incremental bool, r image.Rectangle) {
	v.mu.Lock()
	r = r.Intersect(image.Rectangle{Max: v.size})
	v.area = v.area.Union(r)
	v.asked = true
	if !incremental {
		v.full, v.relayouts.described = true, true
	}
	if !v.fences {
		v.flow.requested(time.Now())
	}
	d := v.scene.desk
	v.mu.Unlock()
	if !v.hungry.Swap(true) && d != nil {
		d.hungry()
	}
	v.wakeUp()
}

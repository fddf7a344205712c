package desktop

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/hostd/ipc"
)

// frameTime is the time between two captures while the picture keeps changing, on average: one may come earlier by as much. What is drawn
// sixty times a second never waits then, however uneven its pace and ours, nor does what follows on a key after a moment.
const frameTime = time.Second / 60

// A picture is one frame memory, which hostd gave out, and the socket to the worker that fills it. A desk gets another one
// when its size or its worker changes.
//
// The memory is a turnstile. Viewers that encode enter and leave it; when the worker has damage to report, nobody more may
// enter, and after the last one has left the worker owns the memory from Grab to Frame.
type picture struct {
	desk  *desk
	conn  *ipc.Conn
	mem   []byte // mapped, readable only
	image frame.Image
	kick  chan struct{} // 1; to grabLoop: look again

	// Guarded by desk.mu.
	readable bool      // the memory is not the worker's and holds a picture
	begun    bool      // a Grab has been sent
	damaged  bool      // there is something to grab
	due      bool      // a Grab waits for the last reader
	laid     bool      // the desk knows its layout
	dead     bool      // the worker is gone, the last picture stays
	retired  bool      // no more used; unmapped when the last reader leaves
	readers  int       // viewers that encode
	sequence uint32    // of frames
	pace     time.Time // when the next capture would be due at an even pace

	frame  ipc.Frame    // owned by receiveLoop
	change frame.Region // owned by receiveLoop: what the frame changed, but for its copies
}

// openPicture maps the memory of a Desktop message. It closes the files.
func openPicture(d *desk, m ipc.Desktop, files []*os.File) (*picture, error) {
	if len(files) != 2 {
		ipc.CloseFiles(files)
		return nil, fmt.Errorf("a desktop came with %d files, not its memory and its socket", len(files))
	}
	mem, err := mapMemory(files[0], m.Size, m.Stride)
	files[0].Close()
	if err != nil {
		files[1].Close()
		return nil, err
	}
	conn, err := ipc.FileConn(files[1])
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	return &picture{
		desk: d, conn: conn, mem: mem, kick: make(chan struct{}, 1),
		image: frame.Image{Pix: mem, Stride: m.Stride, Rect: image.Rectangle{Max: m.Size}},
	}, nil
}

// mapMemory maps a frame memory after it has made sure that it is large enough and cannot shrink.
func mapMemory(f *os.File, size image.Point, stride int) ([]byte, error) {
	if err := frame.CheckSize(size); err != nil {
		return nil, err
	}
	if stride < size.X*frame.BytesPerPixel || stride > 2*frame.MaxSide*frame.BytesPerPixel {
		return nil, fmt.Errorf("rows of %d bytes for %d pixels", stride, size.X)
	}
	length := stride * size.Y
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var mem []byte
	var inner error
	err = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if inner = unix.Fstat(int(fd), &st); inner != nil {
			return
		}
		seals, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
		if err != nil || seals&unix.F_SEAL_SHRINK == 0 || st.Size < int64(length) {
			inner = fmt.Errorf("the frame memory of %d bytes is too small or may shrink", st.Size)
			return
		}
		mem, inner = unix.Mmap(int(fd), 0, length, unix.PROT_READ, unix.MAP_SHARED)
	})
	return mem, errors.Join(err, inner)
}

// run serves the picture until ctx ends, it is retired or the worker is gone.
func (p *picture) run(ctx context.Context, log *slog.Logger) {
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	stop := context.AfterFunc(ctx, func() { p.conn.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.grabLoop(ctx)
	}()
	err := p.receiveLoop()
	cancel()
	stop()
	p.conn.Close()
	<-done
	if !p.ended() && outer.Err() == nil && !errors.Is(err, io.EOF) {
		log.Warn("lost the picture of a desktop", "desktop", p.desk.number, "err", err)
	}
}

// ended notes that the worker is gone: the memory is the viewers' to read, with what was last in it, but not if it was the worker's: no
// Frame has said that viewers may see what the worker wrote there. It says whether the end was to be expected.
func (p *picture) ended() bool {
	d := p.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	p.dead, p.due = true, false
	expected := p.retired
	d.wakeAll()
	d.drop()
	return expected
}

func (p *picture) receiveLoop() error {
	buf := make([]byte, ipc.MaxMessage)
	for {
		packet, files, err := p.conn.Receive(buf)
		if err != nil {
			return err
		}
		ipc.CloseFiles(files)
		switch ipc.Type(packet[0]) {
		case ipc.TypeDamaged:
			p.desk.mu.Lock()
			p.damaged = true
			p.desk.mu.Unlock()
			var wait time.Duration
			if wait, err = p.grab(time.Now()); wait > 0 { // else it is sent: what is quick need not wait for another goroutine
				p.look()
			}
		case ipc.TypeFrame:
			err = p.took(packet)
		case ipc.TypeCursor:
			var c frame.Cursor
			if c, err = ipc.ParseCursor(packet); err == nil {
				p.desk.setCursor(p, c)
			}
		case ipc.TypeLayout:
			var l ipc.Layout
			if l, err = ipc.ParseLayout(packet, p.image.Rect.Max); err == nil {
				p.desk.setLayout(p, l)
			}
		case ipc.TypePointer:
			var at ipc.Pointer
			if at, err = ipc.ParsePointer(packet); err == nil {
				p.desk.setPointer(p, image.Pt(int(at.X), int(at.Y)))
			}
		case ipc.TypeLocks:
			if len(packet) != 2 {
				return ipc.ErrMalformed
			}
			p.desk.setLocks(p, packet[1]&7)
		case ipc.TypeBell:
			p.desk.ring(time.Now())
		default:
			err = ipc.ErrMalformed
		}
		if err != nil {
			return err
		}
	}
}

// errNoLayout is a worker that does not say which screens there are.
var errNoLayout = errors.New("a frame came before the layout")

// took is a Frame: the memory is the viewers' again.
func (p *picture) took(packet []byte) error {
	if err := p.frame.Parse(packet, p.image.Rect.Max); err != nil {
		return err
	}
	d := p.desk
	d.cache.stats.captures.Add(1)
	d.cache.stats.captured.Add(uint64(p.frame.Captured))
	p.change.Reset(p.image.Rect.Max)
	for _, r := range p.frame.Rects {
		p.change.Add(r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.retired {
		return io.EOF
	}
	p.sequence++
	if p.sequence == 1 {
		p.change.Add(p.image.Rect)
	}
	if !p.laid {
		return errNoLayout
	}
	p.readable = true
	if d.recent[0].Size() != p.change.Size() {
		d.recent[0].Reset(p.change.Size())
		d.recent[1].Reset(p.change.Size())
	}
	d.recent[0].Union(&p.change)
	for _, c := range p.frame.Copies {
		d.recent[0].Add(c.To)
	}
	for _, v := range d.viewers {
		v.damage(p, p.frame.Copies, &p.change)
	}
	p.look()
	return nil
}

// look has grabLoop look whether a Grab can be sent.
func (p *picture) look() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// grabLoop sends a Grab when there is something to grab, somebody waits for it, the pace allows it and nobody reads the
// memory.
func (p *picture) grabLoop(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-t.C:
		}
		wait, err := p.grab(time.Now())
		if err != nil {
			return // receiveLoop sees the end, too
		}
		if wait > 0 {
			t.Reset(wait)
		}
	}
}

// grab sends a Grab if one can be sent now, or says how long to wait until the pace allows it.
func (p *picture) grab(now time.Time) (wait time.Duration, err error) {
	grab, full, wait := p.next(now)
	if !grab {
		return wait, nil
	}
	var packet [8]byte
	return 0, p.conn.SendPacket(ipc.Grab{Full: full}.AppendTo(packet[:0]))
}

// next says whether to send a Grab now, or how long to wait until the pace allows it.
func (p *picture) next(now time.Time) (grab, full bool, wait time.Duration) {
	d := p.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !p.begun
	if p.dead || p.retired || !first && (!p.readable || !p.damaged || !d.wanted()) {
		return false, false, 0
	}
	if wait = p.wait(now); wait > 0 {
		return false, false, wait
	}
	if p.readers > 0 {
		p.due = true
		return false, false, 0
	}
	p.readable, p.due, p.damaged, p.begun = false, false, false, true
	if p.pace.Before(now) {
		p.pace = now
	}
	p.pace = p.pace.Add(frameTime)
	return true, first, 0
}

// wait is how long the pace has the next capture wait. desk.mu is held.
func (p *picture) wait(now time.Time) time.Duration { return p.pace.Add(-frameTime).Sub(now) }

// enter lets a viewer read the memory until it calls leave; nil: not now. When there is news to grab first, enter says
// no: the frame wakes the viewer.
func (d *desk) enter(now time.Time) *picture {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.picture
	if p == nil || !p.readable || p.due {
		return nil
	}
	if p.damaged && !p.dead && p.wait(now) <= 0 {
		p.look()
		return nil
	}
	p.readers++
	return p
}

// awaited says that the worker waits for the memory: who reads it should soon leave.
func (p *picture) awaited() bool {
	p.desk.mu.Lock()
	defer p.desk.mu.Unlock()
	return p.due
}

func (p *picture) leave() {
	d := p.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	p.readers--
	if p.readers > 0 {
		return
	}
	if p.retired {
		p.unmap()
	} else if p.due {
		p.look()
	}
}

// retire takes the picture out of use. desk.mu is held.
func (p *picture) retire() {
	p.retired, p.readable = true, false
	p.conn.Close()
	if p.readers == 0 {
		p.unmap()
	}
}

// unmap gives the memory back. desk.mu is held.
func (p *picture) unmap() {
	if p.mem != nil {
		_ = unix.Munmap(p.mem) // fails only for what is not mapped
		p.mem, p.image.Pix = nil, nil
	}
}

package desktop

import (
	"context"
	"errors"
	"image"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/record/tap"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/hostd/ipc"
)

// How a desktop is recorded. The recorder is a watcher at the other end of a pipe, with a pace of its own: after rest a change is recorded at
// once, and while the picture keeps changing what has changed in the meantime is put together.
//
// From time to time it asks for all of the picture, exactly, so that a player can begin there: a key. That is when what was written since the
// last one is keyShare times as much as that took, so that keys are no more than one byte in keyShare, and what has to be read to get
// to any place of a recording is a bounded number of times the size of its picture.
//
// What it costs, measured once on 2026-11-28, for 10 s each, on 2 cores with Xvfb at 1920×1080, TURBO=1, beside one viewer of Tight at quality 8;
// CPU is what all of hostd needs more, % of a core; the viewer's latency was the same with and without, within what it varies by:
//
//	                        CPU   file, MB an hour   memory, MiB
//	nothing changes         0     0                  0
//	typing, 11 keys a s     0.4   4                  3
//	terminal, 25 lines a s  2.6   235                8
//	film 1280×720, 30 fps   7     2,700              22
//
// A jump to the end of 12 s of that film took 44 ms, of the terminal's 92 ms.
const (
	tapePause  = 100 * time.Millisecond // between two updates
	restTime   = tapePause * 5          // without an update, after which what was gathered is sealed,
	gatherTime = 2 * time.Second        // and while updates go on: the most that a kill of hostd-net takes off the end of a sealed recording
	syncTime   = 5 * time.Second        // between two fsyncs of what was written
	settles    = 500 * time.Millisecond // after a recording of less than shortReel, before the next is begun
	shortReel  = 2 * time.Second
	longReel   = record.MaxTime - time.Minute
	keyShare   = 160
	maxKey     = 64 // updates, until which a key has to be whole
)

// A recording keeps what a desk shows in files, each with an index beside it, from one Record message to the next.
type recording struct {
	srv    *server
	desk   *desk
	user   string
	space  int64  // for all recordings, bytes
	key    []byte // it is sealed for; empty: it is not sealed
	cancel context.CancelFunc
}

// record begins or ends a recording, as hostd says.
func (s *server) record(ctx context.Context, m ipc.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.tapes[m.Desktop]; r != nil {
		r.cancel()
		delete(s.tapes, m.Desktop)
	}
	if !m.On {
		return
	}
	d := s.desks[m.Desktop]
	if d == nil {
		s.work.Go(func() { s.recorded(m.Desktop, "it has no such desktop") })
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &recording{srv: s, desk: d, user: refuse.Printable(m.User, 80), space: m.Space, key: m.Key, cancel: cancel}
	s.tapes[m.Desktop] = r
	s.work.Go(func() { r.run(ctx) })
}

// recorded tells hostd how a recording goes.
func (s *server) recorded(desktop uint32, cause string) {
	if err := s.monitor.conn.Send(ipc.TypeRecorded, ipc.Recorded{Desktop: desktop, Cause: cause}); err != nil {
		s.log.Warn("cannot tell hostd about a recording", "err", err)
	}
}

// errNext is that a recording goes on in another file.
var errNext = errors.New("the recording goes on in another file")

// run records until ctx ends, or says why it cannot.
func (r *recording) run(ctx context.Context) {
	defer r.mark(false)
	begun := false
	for {
		start := time.Now()
		err := r.file(ctx, func() {
			if !begun {
				begun = true
				r.mark(true)
				r.srv.recorded(r.desk.number, "")
			}
		})
		switch {
		case ctx.Err() != nil:
			return
		case !errors.Is(err, errNext):
			r.srv.log.Error("recording failed", "desktop", r.desk.number, "err", err)
			r.srv.recorded(r.desk.number, cause(err))
			return
		}
		if time.Since(start) < shortReel && !pause(ctx, settles) {
			return
		}
	}
}

// pause waits, or says no when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// cause is what people far away are told of an error.
func cause(err error) string {
	switch {
	case errors.Is(err, errSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "there is no space left"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, errFolder):
		return "the folder of recordings cannot be written"
	}
	return "the recorder has failed"
}

// mark tells whoever sees the desktop that it is recorded, or is not.
func (r *recording) mark(on bool) {
	if r.desk.recorded.Swap(on) == on {
		return
	}
	s := r.srv
	s.mu.Lock()
	numbers := make([]uint32, 0, len(s.sessions))
	for n := range s.sessions {
		numbers = append(numbers, n)
	}
	s.mu.Unlock()
	for _, n := range numbers {
		s.tell(n, false, func(n *news) { n.marked = true })
	}
}

// file records into one file. It returns errNext when another has to follow. begun is called once there is a picture in it.
func (r *recording) file(ctx context.Context, begun func()) error {
	ours, theirs := net.Pipe()
	var resized atomic.Bool
	size := r.desk.onResize(func() {
		resized.Store(true)
		ours.Close()
	})
	defer r.desk.onResize(nil)
	if size == (image.Point{}) {
		return errNext
	}
	start := r.srv.now()
	t, err := r.create(start, size)
	if err != nil {
		ours.Close()
		return err
	}
	r.srv.log.Info("recording", "desktop", r.desk.number, "user", r.user, "file", t.path)

	after := func() time.Duration { return r.srv.now().Sub(start) }
	g, inner := errgroup.WithContext(ctx)
	stop := context.AfterFunc(inner, func() { ours.Close(); theirs.Close() })
	defer stop()
	g.Go(func() error { return r.serve(inner, ours, size) })
	g.Go(func() error { return t.keepSynced(inner) })
	g.Go(func() error {
		w := watch{reel: t, pause: func() bool { return pause(inner, r.srv.taping) }, begun: begun, after: after}
		return w.run(theirs)
	})
	err = g.Wait()
	err = errors.Join(err, t.close(after()))
	r.srv.log.Info("recording ends", "desktop", r.desk.number, "file", t.path, "after", after().Round(time.Second), "bytes", t.written())
	if resized.Load() {
		return errNext
	}
	return err
}

// serve is the server's end of the pipe.
func (r *recording) serve(ctx context.Context, conn net.Conn, size image.Point) error {
	if _, err := rfb.ReadClientInit(conn); err != nil {
		return err
	}
	if _, err := conn.Write(rfb.AppendServerInit(nil, size, rfb.Native, r.srv.title(r.user))); err != nil {
		return err
	}
	v := newViewer(conn, size, r.srv.cache, r.srv.painter)
	v.show(&scene{desk: r.desk})
	defer v.show(&scene{})
	g, inner := errgroup.WithContext(ctx)
	stop := context.AfterFunc(inner, func() { conn.Close() })
	defer stop()
	g.Go(func() error { return v.sendLoop(inner) })
	g.Go(func() error {
		in := rfb.NewReader(conn)
		for {
			if err := in.Next(recorderInput{v}); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

// recorderInput takes what a recorder sends.
type recorderInput struct{ v *viewer }

var errRecorder = errors.New("the recorder sent what it should not")

func (h recorderInput) SetEncodings(list []int32) error { h.v.setEncodings(list); return nil }
func (h recorderInput) UpdateRequest(incremental bool, r image.Rectangle) error {
	h.v.request(incremental, r)
	return nil
}
func (recorderInput) SetPixelFormat(rfb.PixelFormat) error             { return errRecorder }
func (recorderInput) Key(bool, uint32, uint32) error                   { return errRecorder }
func (recorderInput) Pointer(uint16, int, int) error                   { return errRecorder }
func (recorderInput) CutText([]byte) error                             { return errRecorder }
func (recorderInput) Clipboard(rfb.ClipMessage) error                  { return errRecorder }
func (recorderInput) ContinuousUpdates(bool, image.Rectangle) error    { return errRecorder }
func (recorderInput) Fence(uint32, []byte) error                       { return errRecorder }
func (recorderInput) SetDesktopSize(image.Point, []frame.Screen) error { return errRecorder }

// A watch is the recorder's end of the pipe.
type watch struct {
	reel  *reel
	after func() time.Duration // since the start of the recording
	pause func() bool          // waits for the next update's time; no: it is over
	begun func()               // called when the first key is whole

	conn    net.Conn
	tap     *tap.Tap
	missing frame.Region // what the key lacks
	cost    int64        // of the last key, bytes
	last    int64        // where in the recording that ended
}

// run records until the pipe is closed or the file has to end.
func (w *watch) run(conn net.Conn) error {
	var err error
	w.conn = conn
	if w.tap, err = tap.New(conn); err != nil {
		return err
	}
	for keys := 0; ; {
		if err := w.makeKey(); err != nil {
			return err
		}
		if keys++; keys == 1 {
			w.begun()
		}
		for w.reel.Size()-w.last < keyShare*w.cost {
			if !w.pause() {
				return nil
			}
			if _, err := w.update(true); err != nil {
				return err
			}
			if w.reel.written() > w.reel.most || w.after() > longReel {
				return errNext
			}
		}
	}
}

// update asks for an update and writes it.
func (w *watch) update(incremental bool) ([]image.Rectangle, error) {
	if err := w.tap.Request(incremental); err != nil {
		return nil, err
	}
	if err := w.wait(); err != nil {
		return nil, err
	}
	w.reel.Begin(w.after())
	rects, err := w.tap.Next(w.reel)
	return rects, errors.Join(err, w.reel.end())
}

// wait returns when an update has begun to come. What was gathered waits for it no longer than restTime.
func (w *watch) wait() error {
	if w.reel.tape.Buffered() == 0 {
		return w.tap.Wait()
	}
	err := w.conn.SetReadDeadline(time.Now().Add(restTime))
	if err == nil {
		err = w.tap.Wait()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = w.reel.flush()
	}
	if err == nil {
		err = w.conn.SetReadDeadline(time.Time{})
	}
	if err == nil {
		err = w.tap.Wait()
	}
	return err
}

// makeKey records all of the picture, exactly. It may come in several updates; there are no copies in them, which could take along
// what is missing.
func (w *watch) makeKey() error {
	if err := w.tap.SetEncodings(true); err != nil {
		return err
	}
	from := w.reel.Size()
	w.missing.Reset(w.tap.Size)
	w.missing.Add(w.missing.Bounds())
	for n := 0; n < maxKey && !w.missing.Empty(); n++ {
		rects, err := w.update(n > 0)
		if err != nil {
			return err
		}
		for _, r := range rects {
			w.missing.Sub(r)
		}
	}
	if w.missing.Empty() {
		if err := w.reel.addKey(record.Key{Offset: from, Whole: w.after()}); err != nil {
			return err
		}
	}
	w.last = w.reel.Size()
	w.cost = w.last - from
	return w.tap.SetEncodings(false)
}

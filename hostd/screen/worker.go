// Package screen shows a desktop: it is the worker of hostd, which runs as the user whose desktop it is, and it tells
// hostd whose desktop is on the seat.
//
// A worker has an X display open. It watches what is drawn (DAMAGE), reads only that from the server (MIT-SHM), puts
// what really differs into the frame memory that hostd gave it, and says where. Whoever shows the picture asks for
// it: there is no clock, and nothing is read that nobody wants.
package screen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/helmline/helmline/hostd/clipboard"
	"github.com/helmline/helmline/hostd/input"
	"github.com/helmline/helmline/hostd/ipc"
)

// ErrDisplayGone is the end of a worker whose X server has ended.
var ErrDisplayGone = errors.New("the display is gone")

// startTime bounds the wait for the first message.
const startTime = 30 * time.Second

// endTime is how long the X server has to release the keys when the worker ends.
const endTime = 500 * time.Millisecond

// RunWorker serves one desktop over conn until ctx ends, hostd ends it or the display is gone. It is the whole life
// of a worker process: it expects Start first and tells hostd Ready or Failed.
func RunWorker(ctx context.Context, conn *ipc.Conn, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start, err := receiveStart(conn)
	if err != nil {
		return err
	}
	w, err := openWorker(ctx, conn, start, log)
	if err != nil {
		conn.Send(ipc.TypeFailed, ipc.Failed{Cause: err.Error()})
		return err
	}
	defer w.close()
	err = w.run(ctx, cancel)
	if errors.Is(err, ErrDisplayGone) {
		conn.Send(ipc.TypeFailed, ipc.Failed{Cause: err.Error()})
	}
	return err
}

func receiveStart(conn *ipc.Conn) (ipc.Start, error) {
	conn.SetReadDeadline(time.Now().Add(startTime))
	defer conn.SetReadDeadline(time.Time{})
	p, files, err := conn.Receive(make([]byte, ipc.MaxMessage))
	ipc.CloseFiles(files)
	if err != nil {
		return ipc.Start{}, fmt.Errorf("wait for the first message: %w", err)
	}
	if ipc.Type(p[0]) != ipc.TypeStart {
		return ipc.Start{}, ipc.ErrMalformed
	}
	defer clear(p)
	return ipc.Decode[ipc.Start](p)
}

// A worker is one display and those who look at it. loop owns the screen, hands the input, clip the clipboard; receive hands on to
// them.
type worker struct {
	conn    *ipc.Conn
	log     *slog.Logger
	d       *display
	virtual *virtual // nil: somebody else's display
	greeter *greeter // nil: no log-on screen
	pending *pending
	hands   *hands
	clip    *clipboard.Clipboard
	memory  chan *picture   // to loop; holds the newest
	resizes chan ipc.Resize // likewise
}

func openWorker(ctx context.Context, conn *ipc.Conn, start ipc.Start, log *slog.Logger) (_ *worker, err error) {
	w := &worker{conn: conn, log: log, pending: newPending(), memory: make(chan *picture, 1), resizes: make(chan ipc.Resize, 1)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if start.Display == "" {
		if w.virtual, err = startVirtual(ctx, start.Size, start.StateDir, log); err != nil {
			return nil, err
		}
		start.Display, start.Cookie = w.virtual.display, w.virtual.cookie
	}
	if start.Greeter {
		if w.greeter, err = newGreeter(start.Display); err != nil {
			return nil, err
		}
	}
	if w.d, err = openDisplay(start.Display, findCookies(start), w.pending.event, log); err != nil {
		return nil, err
	}
	if w.virtual != nil {
		w.d.paintRoot()
		w.virtual.populate(w.d)
	}
	keys, err := input.New(w.d.x, w.d.root)
	if err != nil {
		return nil, fmt.Errorf("display %s: %w", start.Display, err)
	}
	w.clip = clipboard.New(w.d.x, w.d.root, w.d.first["XFIXES"], func(text []byte) error {
		return conn.SendPacket(ipc.Clip{Text: text}.AppendTo(nil, ipc.TypeCopy))
	})
	w.hands = newHands(keys, func() error { return conn.Send(ipc.TypeReleased, nil) }, w.greeter.still, w.clip.Own, w.pending.setLocks)
	w.pending.begin(w.d, func(e []byte) (rang bool) {
		w.clip.Event(e)
		switch keys.Event(e) {
		case input.Locked:
			w.hands.nudge()
		case input.Rang:
			rang = true
		}
		return rang
	})
	return w, nil
}

func (w *worker) close() {
	if w.d != nil {
		w.d.close()
	}
	if w.virtual != nil {
		w.virtual.close()
	}
}

// run serves until something ends.
func (w *worker) run(ctx context.Context, cancel context.CancelCauseFunc) error {
	if err := w.conn.Send(ipc.TypeReady, w.ready()); err != nil {
		return err
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(w.receive(ctx))
	}()
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		if err := w.hands.work(ctx.Done()); err != nil {
			cancel(err)
		}
	}()
	clipped := make(chan struct{})
	go func() {
		defer close(clipped)
		if err := w.clip.Run(ctx.Done()); err != nil {
			cancel(err)
		}
	}()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		w.conn.SetReadDeadline(time.Now())
		select { // an X server that answers no more keeps nobody waiting
		case <-ended:
		case <-time.After(endTime):
			w.d.stream.Close()
		}
	})
	defer stop()
	defer close(ended)
	err := w.loop(ctx)
	cancel(err)
	<-received
	<-worked
	<-clipped
	select { // a memory that came too late
	case p := <-w.memory:
		p.close()
	default:
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (w *worker) ready() ipc.Ready {
	return ipc.Ready{Display: w.d.name, Size: w.d.size, Name: title()}
}

// errStopped is the end that hostd wants.
var errStopped = errors.New("stopped by hostd")

// receive takes hostd's messages. It waits for nobody but hostd.
func (w *worker) receive(ctx context.Context) error {
	var latest *picture // may be closed already; hung up so that loop never waits for its other end
	defer func() {
		if latest != nil {
			latest.hangUp()
		}
	}()
	buf := make([]byte, ipc.MaxMessage)
	for {
		p, files, err := w.conn.Receive(buf)
		if err != nil {
			if ctx.Err() != nil {
				return errStopped
			}
			return fmt.Errorf("the socket to hostd: %w", err)
		}
		if ipc.Type(p[0]) != ipc.TypeMemory {
			ipc.CloseFiles(files)
		}
		switch ipc.Type(p[0]) {
		case ipc.TypeInput:
			in, err := ipc.ParseInput(p)
			if err != nil {
				return err
			}
			w.hands.add(in)
		case ipc.TypePaste:
			c, err := ipc.ParseClip(p)
			if err != nil {
				return err
			}
			if w.clip.Paste(c.Text) {
				w.hands.add(ipc.Input{Kind: kindPaste})
			}
		case ipc.TypeListen:
			l, err := ipc.Decode[ipc.Listen](p)
			if err != nil {
				return err
			}
			w.clip.Listen(l.Clipboard)
		case ipc.TypeRelease:
			w.hands.letGo()
		case ipc.TypeMemory:
			if latest != nil {
				latest.hangUp()
			}
			m, err := ipc.Decode[ipc.Memory](p)
			if err != nil {
				ipc.CloseFiles(files)
				return err
			}
			if latest, err = newPicture(m, files); err != nil {
				return err
			}
			select { // the one before was never looked at
			case old := <-w.memory:
				old.close()
			default:
			}
			w.memory <- latest
		case ipc.TypeResize:
			m, err := ipc.Decode[ipc.Resize](p)
			if err != nil {
				return err
			}
			select {
			case <-w.resizes:
			default:
			}
			w.resizes <- m
		case ipc.TypeStop:
			return errStopped
		default:
			return ipc.ErrMalformed
		}
	}
}

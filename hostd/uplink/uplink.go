// Package uplink keeps a computer's tunnel to its relay up: it dials, backs off, dials again, and hands every stream
// that the relay opens to a handler.
package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
)

// Times of an uplink.
const (
	dialTimeout = 5 * time.Second // for one attempt, to the open tunnel
	bulkIdle    = time.Minute     // a bulk tunnel without a stream for so long is closed
	replyTime   = 5 * time.Second // to write a reply of this package's own
	awayTime    = time.Minute     // awake, after which a computer that said it goes has not gone
)

// A Handler serves one stream and closes it. It answers the header with tunnel.WriteReply. ctx ends with the tunnel.
type Handler func(ctx context.Context, stream net.Conn, h tunnel.Header)

// Status is how the main tunnel is.
type Status struct {
	Online bool
	Since  time.Time // of this state
	Err    error     // why it is offline; nil while online and before the first attempt has ended
}

// Config is what Run needs.
type Config struct {
	Dialer  tunnel.Dialer        // Kind is set by Run, and Instance when it is empty
	Streams int                  // streams served at once over both tunnels; 0: tunnel.DefaultStreams
	Away    <-chan tunnel.Reason // why the computer is about to go: the main tunnel ends with it, and none is dialled until 0 comes or for awayTime; may be nil
	Bye     func() tunnel.Reason // what the relay is told when ctx ends; 0, or nil: nothing
	Status  func(Status)         // called at each change, by one goroutine at a time; may be nil
	Log     *slog.Logger
}

// An uplink is one Run.
type uplink struct {
	cfg    Config
	handle Handler
	slots  chan struct{} // one for each stream that is served
	bulk   chan struct{} // one while a bulk tunnel is up or being dialled
	work   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	main    *tunnel.Session
	away    tunnel.Reason // 0: the computer is here
	changed chan struct{} // closed at the next change of away
	telling chan struct{} // closed when the relay has been told why the main tunnel ends; nil: it need not be
}

// Run keeps the main tunnel up until ctx ends, and a bulk tunnel while the relay asks for it. It returns nil when ctx
// ends, and a *tunnel.KeyError at once when the relay shows another key than at enrolment: dialling again would not
// help. When it returns, every handler has returned.
func Run(ctx context.Context, cfg Config, handle Handler) error {
	return run(ctx, cfg, handle, networkState)
}

func run(ctx context.Context, cfg Config, handle Handler, network func() string) error {
	if cfg.Streams <= 0 {
		cfg.Streams = tunnel.DefaultStreams
	}
	if cfg.Dialer.Hello.Instance == "" {
		cfg.Dialer.Hello.Instance = rand.Text()
	}
	if cfg.Bye == nil {
		cfg.Bye = func() tunnel.Reason { return 0 }
	}
	if cfg.Status == nil {
		cfg.Status = func(Status) {}
	}
	u := &uplink{cfg: cfg, handle: handle, slots: make(chan struct{}, cfg.Streams), bulk: make(chan struct{}, 1), changed: make(chan struct{})}
	defer u.work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the bulk tunnel, too
	u.work.Go(func() { u.heed(ctx) })
	return u.keepMain(ctx, network)
}

// keepMain dials the main tunnel again and again.
func (u *uplink) keepMain(ctx context.Context, network func() string) error {
	wait, state := newBackoff(time.Now()), Status{Since: time.Now()}
	u.cfg.Status(state)
	for {
		if u.stayAway(ctx) {
			wait = newBackoff(time.Now())
		}
		s, err := u.dial(ctx, tunnel.Main)
		if err == nil {
			u.hold(s)
			state = Status{Online: true, Since: s.Since()}
			u.cfg.Status(state)
			u.cfg.Log.Info("the tunnel to the relay is up", "relay", u.cfg.Dialer.Addr)
			u.serve(ctx, s)
			u.hold(nil)
			err = s.Err()
			if time.Since(state.Since) >= steady {
				wait = newBackoff(time.Now())
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if state.Online || state.Err == nil { // the first failure in a row
			state = Status{Since: time.Now()}
			u.cfg.Log.Warn("no tunnel to the relay", "relay", u.cfg.Dialer.Addr, "err", err)
		}
		state.Err = err
		u.cfg.Status(state)
		if _, wrong := errors.AsType[*tunnel.KeyError](err); wrong {
			return err
		}
		if !u.isAway() && !wait.sleep(ctx, err, network) {
			return nil
		}
	}
}

func (u *uplink) dial(ctx context.Context, kind tunnel.Kind) (*tunnel.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := u.cfg.Dialer
	d.Hello.Kind = kind
	return d.Dial(ctx)
}

// serve accepts streams until the session or ctx ends.
func (u *uplink) serve(ctx context.Context, s *tunnel.Session) {
	life, cancel := context.WithCancelCause(ctx) // of the session
	defer func() { cancel(s.Err()) }()
	gone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gone)
		if why := u.cfg.Bye(); why != 0 && s.Hello().Kind == tunnel.Main {
			_ = s.CloseFor(why)
		}
		_ = s.Close()
	})
	defer func() {
		if !stop() {
			<-gone
		}
		u.told()
		_ = s.Close()
	}()
	for {
		stream, h, err := s.Accept()
		if err != nil {
			return
		}
		select {
		case u.slots <- struct{}{}:
		default:
			answer(stream, refuse.TooMany.Of("this computer"))
			continue
		}
		u.work.Go(func() {
			defer func() { <-u.slots }()
			if h.Purpose == tunnel.DialBulk {
				answer(stream, u.startBulk(ctx))
				return
			}
			u.handle(life, stream, h)
		})
	}
}

// answer replies to a stream that no handler gets.
func answer(stream net.Conn, r *refuse.Refusal) {
	_ = stream.SetDeadline(time.Now().Add(replyTime))
	_ = tunnel.WriteReply(stream, r) // the other side may be gone
	_ = stream.Close()
}

// startBulk dials the bulk tunnel, unless it is up or being dialled. The tunnel outlives the main one that asked for it.
func (u *uplink) startBulk(ctx context.Context) *refuse.Refusal {
	select {
	case u.bulk <- struct{}{}:
	default:
		return nil
	}
	s, err := u.dial(ctx, tunnel.Bulk)
	if err != nil {
		<-u.bulk
		u.cfg.Log.Warn("no bulk tunnel to the relay", "relay", u.cfg.Dialer.Addr, "err", err)
		return refuse.NotRunning.Of("the computer")
	}
	u.work.Go(func() {
		defer func() { <-u.bulk }()
		u.work.Go(func() { closeIdle(s) })
		u.serve(ctx, s)
	})
	return nil
}

// closeIdle closes a bulk tunnel that has had no stream at two looks in a row.
func closeIdle(s *tunnel.Session) {
	t := time.NewTicker(bulkIdle / 2)
	defer t.Stop()
	for idle := 0; idle < 2; {
		select {
		case <-s.Done():
			return
		case <-t.C:
		}
		if idle++; s.Streams() > 0 {
			idle = 0
		}
	}
	_ = s.CloseFor(tunnel.Idle)
}

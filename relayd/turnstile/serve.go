package turnstile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// A Door accepts connections and takes each through the turnstile.
type Door struct {
	Name      string // in logs and metrics
	Log       *slog.Logger
	Turnstile *Turnstile
	Penalties *Penalties // nil: none
	Counts    *Counts

	// Handle serves one connection, which is closed after it. It settles at its place once the peer has proved to
	// speak the protocol, and leaves it once the peer is no stranger any more. What it returns is logged, in one line;
	// nil, where the end is logged elsewhere.
	Handle func(ctx context.Context, conn net.Conn, at *Place) error
}

// Counts are the metrics that all doors share.
type Counts struct {
	reg     prometheus.Registerer
	dropped *prometheus.CounterVec
}

// NewCounts registers the metrics with reg.
func NewCounts(reg prometheus.Registerer) *Counts {
	c := &Counts{
		reg: reg,
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relayd_door_dropped_total", Help: "Connections that got no place or lost it to others, by door and reason.",
		}, []string{"door", "reason"}),
	}
	reg.MustRegister(c.dropped)
	return c
}

// Serve accepts from l until l is closed or ctx ends; it closes l, and returns when every connection is over. The end
// of ctx closes them. Every other end of l is an error.
func (d *Door) Serve(ctx context.Context, l net.Listener) error {
	d.Counts.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relayd_door_waiting", Help: "Connections that have not signed in yet, by door.",
		ConstLabels: prometheus.Labels{"door": d.Name},
	}, func() float64 { return float64(d.Turnstile.Inside()) }))
	var guests sync.WaitGroup
	defer guests.Wait()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	lines := &lines{log: d.Log, limit: rate.NewLimiter(10, 50)}
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of descriptors, as a rule: those who are in go on, and some will leave.
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); ctx.Err() == nil {
				lines.warn("no connection accepted", "door", d.Name, "err", err)
			}
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		pause = 0
		place, reason := d.enter(conn)
		if reason != "" {
			d.Counts.dropped.WithLabelValues(d.Name, reason).Inc()
			conn.Close()
			continue
		}
		guests.Go(func() { d.serve(ctx, conn, place, lines) })
	}
}

// enter gives the reason why a connection may not come in, or its place.
func (d *Door) enter(conn net.Conn) (_ *Place, reason string) {
	src := Source(conn).Addr()
	trusted := false
	if d.Penalties != nil {
		if d.Penalties.Blocked(src) > 0 {
			return nil, "blocked"
		}
		trusted = d.Penalties.Trusted(src)
	}
	p, err := d.Turnstile.Enter(src, trusted, func() { conn.Close() })
	switch {
	case errors.Is(err, ErrSource):
		return nil, "source"
	case err != nil:
		return nil, "crowded"
	}
	return p, ""
}

func (d *Door) serve(ctx context.Context, conn net.Conn, at *Place, lines *lines) {
	from := Source(conn)
	defer func() {
		// One peer that makes this code panic must not end the sessions of all others.
		if p := recover(); p != nil {
			d.Log.Error("connection panicked", "door", d.Name, "viewer", from, "err", p, "stack", string(debug.Stack()))
			if d.Penalties != nil {
				d.Penalties.Add(from.Addr(), Broken)
			}
		}
	}()
	defer at.Leave()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err := d.Handle(ctx, conn, at)
	if at.Evicted() {
		d.Counts.dropped.WithLabelValues(d.Name, "evicted").Inc()
		err = ErrEvicted
	}
	if err != nil {
		lines.info("connection ended", "door", d.Name, "viewer", from, "err", err)
	}
}

// lines bounds what strangers can write to the log.
type lines struct {
	log    *slog.Logger
	limit  *rate.Limiter
	silent atomic.Int64 // lines left out since the last one
}

func (l *lines) info(msg string, args ...any) { l.write(slog.LevelInfo, msg, args) }
func (l *lines) warn(msg string, args ...any) { l.write(slog.LevelWarn, msg, args) }

func (l *lines) write(level slog.Level, msg string, args []any) {
	if !l.limit.Allow() {
		l.silent.Add(1)
		return
	}
	if n := l.silent.Swap(0); n > 0 {
		args = append(args, "unlogged", n)
	}
	l.log.Log(context.Background(), level, msg, args...)
}

// A TimeError says that a peer took too long over one step.
type TimeError struct {
	Step  string
	Limit time.Duration
}

func (e *TimeError) Error() string { return fmt.Sprintf("no %s within %v", e.Step, e.Limit) }

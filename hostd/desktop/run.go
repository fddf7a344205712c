package desktop

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
	"github.com/helmline/helmline/hostd/uplink"
)

// Config is what hostd-net is given.
type Config struct {
	Monitor  *ipc.Conn // hostd; Run closes it
	StateDir string    // keys, certificate, enrolment, recordings; belongs to hostd-net's user
	Version  string
	OS       string // for the relay's list of computers
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: none
}

// A server is one Run.
type server struct {
	log     *slog.Logger
	monitor *monitor
	painter *form.Painter
	cache   *cache
	stats   *stats
	heed    time.Duration      // heedTime, but in tests
	taping  time.Duration      // tapePause, likewise
	now     func() time.Time   // for recordings
	dir     string             // Config.StateDir
	reload  chan struct{}      // 1; the enrolment has changed
	away    chan tunnel.Reason // why the computer is about to go
	greeted chan struct{}      // closed at hostd's first Welcome
	greet   sync.Once
	work    sync.WaitGroup // questions and pictures
	resizes numbers        // of SetDesktopSize

	mu        sync.Mutex // guards what follows
	welcome   ipc.Welcome
	enrolment Enrolment   // zero: none
	tls       *tls.Config // nil before the first enrolment
	rsa       *rfb.RSAKey // likewise
	lease     ipc.Lease
	desks     map[uint32]*desk
	sessions  map[uint32]*session
	tapes     map[uint32]*recording // that run, by the desk's number
	writing   map[string]bool       // files of recordings
	last      uint32                // number of a session
}

// numbers counts, and leaves 0 out.
type numbers struct{ last atomic.Uint32 }

func (n *numbers) next() uint32 {
	for {
		if i := n.last.Add(1); i != 0 {
			return i
		}
	}
}

func newServer(cfg Config) (*server, error) {
	s := &server{
		log: cfg.Log, monitor: newMonitor(cfg.Monitor), painter: form.NewPainter(), stats: &stats{}, heed: heedTime, taping: tapePause, now: time.Now,
		reload: make(chan struct{}, 1), away: make(chan tunnel.Reason, 1), greeted: make(chan struct{}), desks: make(map[uint32]*desk), sessions: make(map[uint32]*session),
		dir: cfg.StateDir, tapes: make(map[uint32]*recording), writing: make(map[string]bool),
	}
	s.cache = newCache(s.stats)
	s.resizes.last.Store(rand.Uint32()) // a worker may still know one of before
	return s, s.stats.register(cfg.Metrics)
}

// enrolled takes in which relay this computer belongs to. Its certificate and its RSA key are made now at the latest; the
// certificate is for the name that the computer has there, too.
func (s *server) enrolled(cfg Config, e Enrolment) error {
	cert, err := Certificate(cfg.StateDir, e.Name)
	if err != nil {
		return err
	}
	key, err := RSAKey(cfg.StateDir)
	if err != nil {
		return err
	}
	s.log.Info("the certificate for end-to-end sessions", "sha256", Fingerprint(cert), "file", filepath.Join(cfg.StateDir, CertificateFile))
	s.log.Info("the RSA key for end-to-end sessions", "fingerprint", key.Fingerprint())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enrolment, s.tls, s.rsa = e, rfb.ServerTLS(cert), key
	return nil
}

// Run is hostd-net. It returns nil when ctx ends, and an error when hostd is gone or something is wrong with the state
// directory.
func Run(ctx context.Context, cfg Config) error {
	s, err := newServer(cfg)
	if err != nil {
		cfg.Monitor.Close()
		return err
	}
	return s.run(ctx, cfg, func(inner context.Context) error {
		return s.keepUplink(inner, cfg, func() tunnel.Reason {
			if ctx.Err() != nil {
				return tunnel.Stopped
			}
			return 0 // hostd is gone, or the enrolment is another
		})
	})
}

// run serves hostd and up, which brings viewers and starts after hostd's Welcome.
func (s *server) run(ctx context.Context, cfg Config, up func(context.Context) error) error {
	g, inner := errgroup.WithContext(ctx)
	stop := context.AfterFunc(inner, func() { cfg.Monitor.Close() })
	defer stop()
	g.Go(func() error { return s.listen(inner) })
	g.Go(func() error {
		select {
		case <-s.greeted:
			return up(inner)
		case <-inner.Done():
			return nil
		}
	})
	g.Go(func() error {
		select {
		case <-s.greeted:
			s.expire(inner)
		case <-inner.Done():
		}
		return nil
	})
	g.Go(func() error { return s.monitor.conn.Send(ipc.TypeHello, ipc.Hello{Version: cfg.Version}) })
	err := g.Wait()
	cfg.Monitor.Close()
	s.mu.Lock()
	for _, d := range s.desks {
		d.set(nil, "")
	}
	s.mu.Unlock()
	s.work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// keepUplink keeps the tunnel to the relay up, anew after each change of the enrolment.
func (s *server) keepUplink(ctx context.Context, cfg Config, bye func() tunnel.Reason) error {
	key, err := TunnelKey(cfg.StateDir)
	if err != nil {
		return err
	}
	for {
		e, err := LoadEnrolment(cfg.StateDir)
		inner, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = errors.New("not enrolled; run \"hostd enroll\" with the token that \"relayd host invite\" prints")
			}
			s.log.Warn("no relay", "err", err)
			s.online(e, uplink.Status{Since: time.Now(), Err: err})
			close(done)
		} else {
			if err := s.enrolled(cfg, e); err != nil {
				cancel()
				return err
			}
			go func() {
				defer close(done)
				err := uplink.Run(inner, uplink.Config{
					Dialer: tunnel.Dialer{
						Addr: e.Addr, Key: key, RelayKey: e.RelayKey,
						Hello: tunnel.Hello{Version: cfg.Version, OS: cfg.OS},
					},
					Away: s.away, Bye: bye,
					Status: func(st uplink.Status) { s.online(e, st) },
					Log:    s.log,
				}, s.serve)
				if err != nil {
					s.log.Error("given up on the relay until this computer is enrolled again", "err", err)
				}
			}()
		}
		select {
		case <-ctx.Done():
		case <-s.reload:
		}
		cancel()
		<-done
		if ctx.Err() != nil {
			return nil
		}
	}
}

// online tells hostd how the tunnel is.
func (s *server) online(e Enrolment, st uplink.Status) {
	o := ipc.Online{Online: st.Online, Relay: e.Addr, Name: e.Name, Since: st.Since}
	if st.Err != nil {
		o.Err = refuse.Printable(st.Err.Error(), refuse.MaxText)
	}
	if err := s.monitor.conn.Send(ipc.TypeOnline, o); err != nil {
		s.log.Warn("cannot tell hostd about the tunnel", "err", err)
	}
}

// newSession makes a session that hostd does not know yet.
func (s *server) newSession(relay, account string, role ipc.Role, e2e bool) (*session, *refuse.Refusal) {
	if role != ipc.RoleControl && role != ipc.RoleTake {
		role = ipc.RoleWatch
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= maxSessions {
		return nil, refuse.TooMany.Of(s.called())
	}
	s.last++
	se := &session{
		srv: s, number: s.last, relay: relay, account: account, talk: newTalk(), role: role, e2e: e2e, passes: !e2e, lease: s.lease,
		events: make(chan event, maxEvents), results: make(chan result, 1), note: make(chan struct{}, 1),
	}
	if s.lease.Holder == "" {
		se.lease.Holder, se.lease.Since = s.welcome.Holder, s.welcome.Since
	}
	se.in = rfb.NewReader(&begins{se})
	se.form.Code, se.form.Left = s.welcome.CodeFirst, -1
	s.sessions[se.number] = se
	return se, nil
}

func (s *server) forget(se *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(se.talk.over)
	delete(s.sessions, se.number)
}

// welcomed is what hostd says of itself.
func (s *server) welcomed() ipc.Welcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.welcome
}

// name is what people call this computer: its name at the relay, else what its OS calls it.
func (s *server) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.called()
}

// called is name while mu is held.
func (s *server) called() string {
	if s.enrolment.Name != "" {
		return s.enrolment.Name
	}
	return s.welcome.Name
}

// names are both of the computer's names.
func (s *server) names() string {
	name, own := s.name(), s.welcomed().Name
	if own == "" || strings.EqualFold(name, own) {
		return name
	}
	return name + " (" + own + ")"
}

// title is a viewer's title for the desktop of an OS user.
func (s *server) title(user string) string {
	if user == "" {
		return s.name()
	}
	return user + "@" + s.name()
}

// relay is what people call the relay.
func (s *server) relay() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enrolment.RelayName != "" {
		return s.enrolment.RelayName
	}
	host, _, err := net.SplitHostPort(s.enrolment.Addr)
	if err != nil {
		return s.enrolment.Addr
	}
	return host
}

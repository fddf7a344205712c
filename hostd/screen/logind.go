package screen

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of logind on the bus. org.freedesktop.login1(5).
const (
	login1         = "org.freedesktop.login1"
	login1Path     = "/org/freedesktop/login1"
	login1Manager  = login1 + ".Manager"
	login1Session  = login1 + ".Session"
	login1Seat     = login1 + ".Seat"
	busProperties  = "org.freedesktop.DBus.Properties"
	nameOwnerEvent = "NameOwnerChanged"
)

// A session is one that logind knows.
type session struct {
	id, user, class, kind, display, state string
	uid                                   int
	vt                                    int // virtual terminal that it was begun on; 0: none
	active                                bool
}

// A logind asks logind on the system bus. One goroutine uses it.
type logind struct {
	log     *slog.Logger
	changed chan struct{} // holds one when something may have changed
	conn    *dbus.Conn    // nil: no bus
	told    bool          // that there is none
}

func newLogind(log *slog.Logger) *logind {
	return &logind{log: log, changed: make(chan struct{}, 1)}
}

// connect connects to the system bus, which $DBUS_SYSTEM_BUS_ADDRESS may name, and asks for logind's signals.
func (l *logind) connect(ctx context.Context) bool {
	conn, err := dialBus(ctx)
	if err != nil {
		if !l.told {
			l.log.Info("no system bus; the seat's user is told from its processes", "err", err)
			l.told = true
		}
		return false
	}
	l.conn, l.told = conn, false
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go func() { // ends with the connection, which closes the channel
		for range signals {
			select {
			case l.changed <- struct{}{}:
			default:
			}
		}
	}()
	return true
}

func dialBus(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	for _, m := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(login1)},
		{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember(nameOwnerEvent), dbus.WithMatchArg(0, login1)},
	} {
		if err := conn.AddMatchSignalContext(ctx, m...); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

func (l *logind) connected() bool { return l.conn != nil }

// lost is closed when the bus has gone. It is nil without one.
func (l *logind) lost() <-chan struct{} {
	if l.conn == nil {
		return nil
	}
	return l.conn.Context().Done()
}

func (l *logind) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// active is the session that has the seat. One without an id is nobody's; known is false where logind does not answer.
func (l *logind) active(ctx context.Context, seat string) (s session, known bool) {
	if l.conn == nil {
		return session{}, false
	}
	var path dbus.ObjectPath
	if l.call(ctx, login1Path, login1Manager+".GetSeat", &path, seat) != nil {
		return session{}, false
	}
	var v dbus.Variant
	if l.call(ctx, path, busProperties+".Get", &v, login1Seat, "ActiveSession") != nil {
		return session{}, false
	}
	var active struct {
		ID   string
		Path dbus.ObjectPath
	}
	if v.Store(&active) != nil || active.ID == "" {
		return session{}, false
	}
	if s, err := l.session(ctx, active.ID, active.Path); err == nil {
		return s, true
	}
	return session{id: active.ID}, false
}

// onDisplay is the session that has an X server's display: one that is active before others, a user's before a log-on screen.
func (l *logind) onDisplay(ctx context.Context, x xserverProcess) (best session, ok bool) {
	if l.conn == nil {
		return session{}, false
	}
	var list []struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	if l.call(ctx, login1Path, login1Manager+".ListSessions", &list) != nil {
		return session{}, false
	}
	rank := func(s session) int {
		r := 0
		if s.active {
			r += 2
		}
		if s.class == "user" {
			r++
		}
		return r
	}
	for _, e := range list {
		s, err := l.session(ctx, e.ID, e.Path)
		if err != nil || s.kind != "x11" || s.state == "closing" || s.class != "greeter" && !strings.HasPrefix(s.class, "user") {
			continue
		}
		n, err := displayNumber(s.display)
		if err == nil && n == x.number && x.serves(s) && (!ok || rank(s) > rank(best)) {
			best, ok = s, true
		}
	}
	return best, ok
}

// session reads the properties of a session.
func (l *logind) session(ctx context.Context, id string, path dbus.ObjectPath) (session, error) {
	var props map[string]dbus.Variant
	if err := l.call(ctx, path, busProperties+".GetAll", &props, login1Session); err != nil {
		return session{}, err
	}
	s := session{id: id, uid: -1}
	for name, to := range map[string]*string{
		"Name": &s.user, "Class": &s.class, "Type": &s.kind, "Display": &s.display, "State": &s.state,
	} {
		if v, ok := props[name].Value().(string); ok {
			*to = v
		}
	}
	s.active, _ = props["Active"].Value().(bool)
	vt, _ := props["VTNr"].Value().(uint32)
	s.vt = int(vt)
	var user struct {
		UID  uint32
		Path dbus.ObjectPath
	}
	if err := props["User"].Store(&user); err != nil {
		return session{}, err
	}
	s.uid = int(user.UID)
	return s, nil
}

func (l *logind) call(ctx context.Context, path dbus.ObjectPath, method string, to any, args ...any) error {
	return l.conn.Object(login1, path).CallWithContext(ctx, method, 0, args...).Store(to)
}

// A backoff is the waits between attempts: longer each time, and never the same for all.
type backoff struct{ d time.Duration }

func newBackoff() *backoff { return &backoff{200 * time.Millisecond} }

func (b *backoff) next() time.Duration {
	b.d = min(b.d*3/2, 30*time.Second)
	return b.d/2 + rand.N(b.d/2)
}

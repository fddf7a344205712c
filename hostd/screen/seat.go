package screen

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// SeatKind says what is on the seat.
type SeatKind uint8

// Seat kinds.
const (
	SeatNone    SeatKind = iota // no X display: a virtual one may be made
	SeatGreeter                 // the log-on screen
	SeatUser                    // a user's session
)

func (k SeatKind) String() string {
	switch k {
	case SeatNone:
		return "none"
	case SeatGreeter:
		return "log-on screen"
	case SeatUser:
		return "user"
	}
	return fmt.Sprintf("SeatKind(%d)", uint8(k))
}

// SeatState is whose desktop is on the seat.
type SeatState struct {
	Kind       SeatKind
	UID        int    // whom the session belongs to; a log-on screen's is the display manager's own user, often root
	User       string // that user's name
	Session    string // logind's id of the session, empty: unknown. Another one is another session, even of the same user
	Display    string // ":0"
	Cookie     []byte // MIT-MAGIC-COOKIE-1 of the X server, for a worker; empty: the user's own programs know it
	Xauthority string // a file of the user's that holds it; may be empty
}

// Equal says whether nothing has changed.
func (s SeatState) Equal(o SeatState) bool {
	return s.Kind == o.Kind && s.UID == o.UID && s.User == o.User && s.Session == o.Session && s.Display == o.Display &&
		s.Xauthority == o.Xauthority && bytes.Equal(s.Cookie, o.Cookie)
}

// A Seat knows whose desktop is on the seat.
type Seat interface {
	Current() SeatState
	Changes() <-chan struct{} // holds one after Current has changed
}

// Sources of a picture, beside the name of a display.
const (
	SourceAuto    = "auto"    // what logind says is active on seat0, else the X server of a display manager
	SourceVirtual = "virtual" // always a virtual display
)

// How often the seat is looked at where nobody tells of changes.
const (
	lookGreeter = 100 * time.Millisecond // a user's session must not be taken for the log-on screen any longer than this
	lookUser    = time.Second
	lookNone    = 2 * time.Second
	lookTold    = 10 * time.Second // where logind tells
	busLimit    = 5 * time.Second  // an answer of the bus
)

// NewSeat starts to watch the seat until ctx ends; what it finds first is known when it returns. source is one of the
// sources, or the name of a display such as ":0". Without root, only the desktop of the own user is looked for: that
// of the display named, with SourceAuto that of $DISPLAY.
func NewSeat(ctx context.Context, source string, log *slog.Logger) (Seat, error) {
	s := &seat{log: log, changes: make(chan struct{}, 1), display: source}
	switch source {
	case SourceVirtual:
		return s, nil
	case SourceAuto:
		if s.display = ""; os.Geteuid() != 0 {
			s.display = os.Getenv("DISPLAY")
		}
	}
	if s.display != "" {
		n, err := displayNumber(s.display)
		switch {
		case err == nil:
			s.number, s.display = n, fmt.Sprintf(":%d", n)
		case source != SourceAuto:
			return nil, err
		default: // of another computer, by ssh -X
			s.display = ""
		}
	}
	if s.display == "" && os.Geteuid() != 0 {
		return s, nil
	}
	s.logind = newLogind(log)
	if os.Geteuid() == 0 {
		s.logind.connect(ctx)
	}
	s.set(s.look(ctx))
	select {
	case <-s.changes: // the first state is no change
	default:
	}
	go s.run(ctx)
	return s, nil
}

// A seat looks at logind, at X servers and at their processes.
type seat struct {
	log     *slog.Logger
	display string // fixed; empty: any
	number  int
	logind  *logind
	servers map[int]xserverProcess // seen last; owned by look

	changes chan struct{}
	mu      sync.Mutex
	state   SeatState
}

func (s *seat) Current() SeatState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *seat) Changes() <-chan struct{} { return s.changes }

func (s *seat) set(now SeatState) {
	s.mu.Lock()
	changed := !s.state.Equal(now)
	s.state = now
	s.mu.Unlock()
	if changed {
		select {
		case s.changes <- struct{}{}:
		default:
		}
	}
}

// run looks again when the bus says that something has changed, and from time to time.
func (s *seat) run(ctx context.Context) {
	defer s.logind.close()
	retry := newBackoff()
	var again <-chan time.Time // nil while there is a bus
	for {
		if os.Geteuid() == 0 && !s.logind.connected() && again == nil {
			again = time.After(retry.next())
		}
		every := lookNone
		switch now := s.Current(); {
		case now.Session != "":
			every = lookTold
		case now.Kind == SeatGreeter:
			every = lookGreeter
		case now.Kind != SeatNone:
			every = lookUser
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.logind.changed:
		case <-s.logind.lost():
			s.log.Warn("the system bus is gone; looking for it again")
			s.logind.close()
		case <-again:
			if again = nil; s.logind.connect(ctx) {
				retry = newBackoff()
			}
		case <-timer.C:
		}
		timer.Stop()
		s.set(s.look(ctx))
	}
}

// look finds out what is on the seat now.
func (s *seat) look(ctx context.Context) SeatState {
	if os.Geteuid() != 0 {
		return s.own()
	}
	ctx, cancel := context.WithTimeout(ctx, busLimit)
	defer cancel()
	servers := s.findServers()
	if s.display != "" {
		x, ok := servers[s.number]
		if !ok {
			return SeatState{}
		}
		if session, ok := s.logind.onDisplay(ctx, x); ok {
			return x.state(session)
		}
		return x.judge()
	}
	session, known := s.logind.active(ctx, "seat0")
	switch {
	case session.id == "": // nobody, no logind, or a display manager that does not tell it
		return s.managed(servers)
	case !known || session.kind != "x11":
		return SeatState{}
	}
	number, err := displayNumber(session.display)
	if err != nil {
		if number, err = displayOf(session); err != nil {
			return SeatState{}
		}
	}
	x, ok := servers[number]
	if !ok || !x.serves(session) {
		return SeatState{}
	}
	return x.state(session)
}

// own is the desktop of the user who runs this: it is there when its X server is.
func (s *seat) own() SeatState {
	if !serverListens(s.number) {
		return SeatState{}
	}
	return SeatState{Kind: SeatUser, UID: os.Getuid(), User: userName(os.Getuid()), Display: s.display,
		Xauthority: os.Getenv("XAUTHORITY")}
}

// managed is the desktop of the display manager's X server with the lowest number.
func (s *seat) managed(servers map[int]xserverProcess) SeatState {
	best := SeatState{}
	lowest := 1 << 30
	for n, x := range servers {
		if n < lowest && x.manager != 0 {
			best, lowest = x.judge(), n
		}
	}
	return best
}

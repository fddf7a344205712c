package screen

import (
	"errors"
	"os"
	"slices"
)

// errTaken is the end of a worker whose log-on screen has become the screen of a user's session.
var errTaken = errors.New("somebody has logged in at the log-on screen")

// A greeter is a display with a log-on screen, on which a session may begin at any moment. The seat is told of that, or looks, a
// moment later; until then no picture of the session may be sent and no key injected into it. nil is any other display.
type greeter struct {
	server xserverProcess
}

// newGreeter finds out which display manager's the display is. One of none has no sessions to look for.
func newGreeter(display string) (*greeter, error) {
	n, err := displayNumber(display)
	if err != nil {
		return nil, err
	}
	x, err := askServer(n)
	if err != nil {
		return nil, err
	}
	g := &greeter{x}
	return g, g.still()
}

// still is nil while no user has a process there. It costs reading a few files of /proc. A worker without root's rights sees only its
// own processes and relies on what hostd is told of the seat.
func (g *greeter) still() error {
	if g == nil || g.server.manager == 0 {
		return nil
	}
	own := os.Getuid()
	// The kernel's list of children may lack one while another ends, so a look that sees nobody is not believed alone.
	for range 3 {
		if _, taken := g.server.below(true, func(uid int) bool { return uid != own && !slices.Contains(greeters, userName(uid)) }); taken {
			return errTaken
		}
	}
	return nil
}

package registry

import (
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
)

// Away is what a computer that is not online said when it went.
type Away string

// What a computer says.
const (
	Asleep    Away = "asleep"
	Rebooting Away = "rebooting"
	ShutDown  Away = "shut down"
	Stopped   Away = "stopped" // hostd was, the computer was not
)

// Barred is why an enrolled computer that comes is not let in.
type Barred string

// What bars a computer.
const (
	Doubled  Barred = "doubled"  // two machines come with its key
	Outdated Barred = "outdated" // it and the relay do not talk the same version of the tunnel
)

// rebootTime is how long a computer may take to reboot before it is merely offline.
const rebootTime = 10 * time.Minute

// awayOf is what a computer said that was seen last at a time; empty: nothing that still holds.
func awayOf(why tunnel.Reason, last time.Time) Away {
	switch why {
	case tunnel.Asleep:
		return Asleep
	case tunnel.Rebooting:
		if time.Since(last) < rebootTime {
			return Rebooting
		}
	case tunnel.ShutDown:
		return ShutDown
	case tunnel.Stopped:
		return Stopped
	}
	return ""
}

// Absent is why nobody reaches a computer that is not online.
func (c *Computer) Absent() *refuse.Refusal {
	switch c.Barred {
	case Doubled:
		return refuse.Doubled.Of(c.Name)
	case Outdated:
		return refuse.TooOld.Of(c.Name)
	}
	switch c.Away {
	case Asleep:
		return refuse.Asleep.Of(c.Name, seen(c.LastSeen))
	case Rebooting:
		return refuse.Rebooting.Of(c.Name, seen(c.LastSeen))
	case Stopped:
		return refuse.Stopped.Of(c.Name, seen(c.LastSeen))
	}
	return refuse.Offline.Of(c.Name, seen(c.LastSeen))
}

// seen is a time as refusals have it. It is UTC, as the reader's time zone is not known.
func seen(t time.Time) string {
	t = t.UTC()
	switch now := time.Now().UTC(); {
	case t.IsZero():
		return "never"
	case now.Sub(t) < 12*time.Hour:
		return t.Format("15:04 MST")
	case t.Year() == now.Year():
		return t.Format("2 January, 15:04 MST")
	}
	return t.Format("2 January 2006")
}

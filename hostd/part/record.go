package part

import (
	"errors"
	"fmt"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// Recording is the computer's policy of recording.
type Recording struct {
	Allowed  bool          // by hand
	Required bool          // no session without it
	Space    int64         // for all recordings, bytes
	Keep     time.Duration // how long a recording is kept after its end; 0: while there is space
	Key      []byte        // public key of X25519 that recordings are sealed for; empty: they are not
}

// tape is how far the recording of a desktop is.
type tape uint8

const (
	tapeNone   tape = iota
	tapeAsked       // hostd-net has been told to begin
	tapeRuns        // and has
	tapeFailed      // or could not, or not go on; it is tried again after the last viewer has left
)

// taped says whether a desktop may be shown as far as recording goes. When it is to be recorded that begins first, and attach is called
// again. hostd-net is the one that records, so that this holds as long as hostd-net is what it should be.
func (m *Monitor) taped(d *desktop) bool {
	if !m.taping {
		return true
	}
	switch d.tape {
	case tapeNone:
		d.tape = tapeAsked
		m.net.send(ipc.TypeRecord, ipc.Record{Desktop: d.number, On: true, User: m.ownerOf(d), Space: m.c.Recording.Space, Key: m.c.Recording.Key})
		var late *time.Timer
		late = m.after(m.times.tape, func() {
			if m.desktops[d] && d.tape == tapeAsked && d.tapeLate == late {
				m.notTaped(d, "hostd-net does not answer")
			}
		})
		d.tapeLate = late
		return false
	case tapeAsked:
		return false
	case tapeFailed:
		if m.c.Recording.Required {
			m.next = append(m.next, func() { m.endNotTaped(d, "it has failed") })
			return false
		}
	}
	return true
}

// ownerOf is the name of a user who looks at a desktop, its owner's first.
func (m *Monitor) ownerOf(d *desktop) string {
	name := ""
	for _, s := range m.sessions {
		if s.desktop == d && (name == "" || s.user.UID == d.uid) {
			name = s.user.Name
		}
	}
	return name
}

// untape ends the recording of a desktop.
func (m *Monitor) untape(d *desktop) {
	if d.tape == tapeAsked || d.tape == tapeRuns {
		m.toNet(ipc.TypeRecord, ipc.Record{Desktop: d.number})
	}
	d.tape = tapeNone
}

// recorded takes in how a recording goes. It may be of a desktop that is gone.
func (m *Monitor) recorded(_ *netPart, r ipc.Recorded) error {
	for d := range m.desktops {
		switch {
		case d.number != r.Desktop || d.tape != tapeAsked && d.tape != tapeRuns:
		case r.Cause != "":
			m.notTaped(d, refuse.Printable(r.Cause, 120))
		case d.tape == tapeAsked:
			d.tape = tapeRuns
			for _, s := range m.sessions {
				if s.desktop == d && s.attached {
					m.logTaped(s)
				}
			}
			m.attach(d)
		}
	}
	return nil
}

// logTaped keeps who is recorded.
func (m *Monitor) logTaped(s *session) {
	m.log.Info("recorded", "viewer", s.viewer, "account", s.account, "user", s.user.Name)
}

// notTaped is that a desktop cannot be recorded. Where it has to be, its sessions end.
func (m *Monitor) notTaped(d *desktop, cause string) {
	m.log.Error("no recording", "desktop", d.number, "cause", cause, "required", m.c.Recording.Required)
	m.untape(d)
	d.tape = tapeFailed
	if m.c.Recording.Required {
		m.endNotTaped(d, cause)
		return
	}
	m.attach(d)
}

func (m *Monitor) endNotTaped(d *desktop, cause string) {
	for id, s := range m.sessions {
		if s.desktop == d {
			m.toNet(ipc.TypeEnd, ipc.End{Session: id, Refusal: refuse.NotRecorded.Of(m.name(), cause)})
			m.endSession(id, false)
		}
	}
}

// setTaping turns recording on or off by hand.
func (m *Monitor) setTaping(on bool) error {
	switch {
	case m.c.Recording.Required && !on:
		return errors.New("every session is recorded here: [policy] recording is \"required\"")
	case !m.c.Recording.Allowed && !m.c.Recording.Required:
		return errors.New("nothing is recorded here: [policy] recording is \"off\"; set it to \"allowed\" and restart hostd")
	}
	m.log.Info("recording by hand", "on", on)
	m.taping = on
	for d := range m.desktops {
		if !on || d.tape == tapeFailed {
			m.untape(d)
		}
		m.attach(d)
	}
	return nil
}

// viewing counts the sessions that see a desktop.
func (m *Monitor) viewing() int {
	n := 0
	for _, s := range m.sessions {
		if s.attached {
			n++
		}
	}
	return n
}

// tapes counts the recordings that run.
func (m *Monitor) tapes() int {
	n := 0
	for d := range m.desktops {
		if d.tape == tapeRuns {
			n++
		}
	}
	return n
}

// recordingText is for people: what is recorded, and how many recordings run.
func (m *Monitor) recordingText() string {
	switch {
	case m.c.Recording.Required:
		return fmt.Sprintf("every session; %d running", m.tapes())
	case m.taping:
		return fmt.Sprintf("on until \"hostd record stop\"; %d running", m.tapes())
	case m.c.Recording.Allowed:
		return "off; \"hostd record start\" begins it"
	}
	return "off"
}

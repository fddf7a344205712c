package e2e

import (
	"testing"
	"time"
)

// An administrator looks at every page of the relay, ends a session, and hostd says goodbye when it is stopped: the list, the computer's
// page and the API say that it was, with number and remedy.
func TestOffice(t *testing.T) {
	w := NewWorld(t, Options{Time: 4 * time.Minute})
	const root = "root@example.com"
	_, err := w.Relayd.Do(w.Ctx, w.Password+"\n", "account", "add", root, "--admin", "--password-stdin")
	w.Check(err)
	b := w.Chromium(false)
	b.SignIn("alice", Account, w.Password)
	b.SignIn("root", root, w.Password)
	b.Do(step{"who": "alice", "page": 1, "go": "/computers/" + Computer + "/connect?role=watch"}, step{"who": "alice", "page": 1, "code": w.Code})
	b.Do(step{"who": "root", "go": "/admin/accounts", "see": "Invite a person", "look": "accounts"},
		step{"who": "root", "go": "/admin/computers", "see": "of " + Account, "look": "computers"},
		step{"who": "root", "go": "/admin/blocks", "see": "No address is refused", "look": "blocks"},
		step{"who": "root", "go": "/admin/audit?kind=session", "see": "session.start", "look": "audit"},
		step{"who": "root", "go": "/admin/sessions", "see": Account, "look": "sessions"},
		step{"who": "root", "click": "form[action='/admin/sessions/end'] button", "see": "Nobody is joined"},
		step{"who": "root", "go": "/admin/nothing", "see": "40060", "look": "nothing"})
	b.Do(step{"who": "alice", "page": 1, "see": "40014"},
		step{"who": "alice", "page": 0, "go": "/computers/" + Computer, "see": "vncviewer -via helmline " + Computer, "look": "computer"},
		step{"who": "alice", "page": 0, "go": "/admin/accounts", "see": "40060"},
		step{"who": "alice", "page": 0, "go": "/computers", "see": "Online"})
	w.HostProc.End()
	b.Do(step{"who": "alice", "page": 0, "see": "its host service was stopped", "look": "stopped"},
		step{"who": "alice", "page": 0, "go": "/computers/" + Computer, "see": "40003", "look": "computer-stopped"},
		step{"who": "alice", "page": 0, "go": "/computers/" + Computer + "/connect", "see": "40003"})
}

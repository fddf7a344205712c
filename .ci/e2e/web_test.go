package e2e

import (
	"testing"
	"time"
)

// A person with nothing but a browser signs in, opens the computer, logs in to it and types; a second tab may watch, and no more; a
// computer whose key has changed gets nothing. No page breaks its own policy or WCAG AA.
func TestBrowser(t *testing.T) {
	w := NewWorld(t, Options{Time: 5 * time.Minute})
	d := w.Furnish()
	w.Browse(
		step{"go": "/computers", "see": "Sign in", "axe": true, "shot": "email"},
		step{"fill": step{"#email": Account}, "see": "Password of your account", "axe": true, "shot": "password"},
		step{"fill": step{"#password": "wrong"}, "see": "40050", "axe": true},
		step{"fill": step{"#password": w.Password}, "see": "Online", "axe": true, "shot": "computers"},
		step{"click": "a.name", "see": "Log in to this computer", "axe": true, "shot": "login"},
		step{"code": w.Password, "see": "1326", "axe": true, "shot": "wrong"},
		step{"code": w.Code, "see": "Full screen", "axe": true},
		step{"type": "from a browser\n", "shot": "desk"},

		step{"page": 1, "go": "/computers", "click": "a.name"},
		step{"page": 1, "code": w.Code, "see": "40010", "axe": true, "shot": "held"},
		step{"page": 1, "click": "#offer a"},
		step{"page": 1, "code": w.Code, "see": "you watch", "shot": "watch"},
		step{"page": 1, "type": "not this\n"},
		step{"page": 1, "close": true},
		step{"type": "and again\n"},
		step{"click": "#leave", "see": "It lasted", "axe": true, "shot": "ended"},

		step{"forge": true, "click": "#ended .again", "see": "The key of this computer has changed", "axe": true, "shot": "changed"},
		step{"click": "#trust", "see": "Log in to this computer"},
	)
	d.WaitTyped("from a browser\nand again\n")
}

// A computer that only takes sessions encrypted from end to end says so to a browser, and asks it for nothing.
func TestBrowserAtEndToEndOnly(t *testing.T) {
	w := NewWorld(t, Options{Host: "[policy]\nrequire_e2e = true\n"})
	w.Browse(
		step{"go": "/computers"},
		step{"fill": step{"#email": Account}, "see": "Password of your account"},
		step{"fill": step{"#password": w.Password}, "see": "Online"},
		step{"click": "a.name", "see": "40017", "axe": true, "shot": "e2e"},
		step{"see": "come through the SSH door"},
	)
}

package e2e

import "testing"

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

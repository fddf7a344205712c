package web

import "testing"

func TestLines(t *testing.T) {
	w := Ways{RFB: "relay.example:5900", SSH: "[2001:db8::1]:2222"}
	for _, c := range []struct{ got, want string }{
		{linesOf(w, "alice@example.com", "desk7", false).User, "alice@example.com/desk7"},
		{linesOf(w, "alice@example.com", "desk7", true).User, "alice@example.com/desk7/watch"},
		{linesOf(w, "alice@example.com", "desk7", false).TigerVNC, "vncviewer -SecurityTypes=X509Plain relay.example::5900"},
		{linesOf(Ways{RFB: "[2001:db8::1]:5900"}, "a@b.c", "desk7", false).TigerVNC, "vncviewer -SecurityTypes=X509Plain [2001:db8::1]::5900"},
		{linesOf(w, "alice@example.com", "desk7", true).Via, "vncviewer -via helmline watch.desk7:0"},
		{linesOf(w, "o'hara;reboot@example.com", "desk7", false).Forward, `ssh -N -p 2222 -l 'o'\''hara;reboot@example.com' -L 5999:desk7:5900 2001:db8::1`},
		{linesOf(Ways{}, "alice@example.com", "desk7", false).Forward, ""}, // the door is off
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

package main

import "testing"

func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		may          bool
	}{
		{"relayd", "relayd/door", true},
		{"relayd/door", "relayd/broker", true},
		{"relayd/door", "bridge/rfb", true},
		{"relayd/door", "conf", true},
		{"relayd/door", "hostd/ipc", false},
		{"hostd/desktop", "relayd/door", false},
		{"hostd", "hostdx/a", false},
		{"bridge/rfb", "bridge/wire", true},
		{"bridge/rfb", "bridge/frame", true},
		{"bridge/rfb", "bridge/refuse", true},
		{"bridge/rfb", "bridge/rfb/rfbtest", true},
		{"bridge/rfb/rfbtest", "bridge/rfb", true},
		{"bridge/rfb", "bridge/rfbx", false},
		{"bridge/rfb", "bridge/tunnel", false},
		{"bridge/rfb", "conf", false},
		{"bridge/wire", "hostd/ipc", false},
		{"conf", "bridge/wire", false},
	} {
		if got := forbidden(module+c.pkg, module+c.imports) == ""; got != c.may {
			t.Errorf("%s imports %s: allowed %v, want %v", c.pkg, c.imports, got, c.may)
		}
	}
	if forbidden(module+"bridge/rfb", "log/slog") == "" || forbidden(module+"hostd", "log/slog") != "" {
		t.Error("only bridge has no logger")
	}
}

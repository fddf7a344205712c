package door

import (
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/tunnel"
)

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Name
	}{
		{"alice@example.com/desk7", Name{"alice@example.com", "desk7", tunnel.RoleControl}},
		{"alice@example.com/desk7/watch", Name{"alice@example.com", "desk7", tunnel.RoleWatch}},
		{"alice@example.com/desk7/TAKE", Name{"alice@example.com", "desk7", tunnel.RoleTake}},
		{"alice@example.com/desk7/", Name{"alice@example.com", "desk7", tunnel.RoleControl}},
		{"alice@example.com", Name{"alice@example.com", "", tunnel.RoleControl}},
		{"alice@example.com/", Name{"alice@example.com", "", tunnel.RoleControl}},
		{"alice@example.com//watch", Name{"alice@example.com", "", tunnel.RoleWatch}},
		{"a/b@example.com/desk7", Name{"a/b@example.com", "desk7", tunnel.RoleControl}},
		{`"a@b"@example.com/desk7`, Name{`"a@b"@example.com`, "desk7", tunnel.RoleControl}},
		{"alice/desk7", Name{"alice", "desk7", tunnel.RoleControl}},
		{"alice/desk7/watch", Name{"alice", "desk7", tunnel.RoleWatch}},
		{"alice@example.com/desk7/look", Name{"alice@example.com", "desk7/look", tunnel.RoleControl}},
		{"alice@example.com/a/b/watch", Name{"alice@example.com", "a/b", tunnel.RoleWatch}},
		{"alice@example.com/watch", Name{"alice@example.com", "watch", tunnel.RoleControl}},
		{" alice@example.com / desk7 / watch ", Name{"alice@example.com", "desk7", tunnel.RoleWatch}},
		{"alice@example.com/büro", Name{"alice@example.com", "büro", tunnel.RoleControl}},
		{" ", Name{"", "", tunnel.RoleControl}},
		{"", Name{"", "", tunnel.RoleControl}},
		{"/desk7", Name{"", "desk7", tunnel.RoleControl}},
	} {
		if got := ParseName(c.in); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.in, got, c.want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"alice@example.com/desk7/watch", "a/b@c/d", "//", "@/@/take", "\x00/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n := ParseName(in)
		if !strings.Contains(in, n.Account) || !strings.Contains(in, n.Computer) {
			t.Fatalf("%q: %+v holds what was not there", in, n)
		}
		if n.Role != tunnel.RoleControl && n.Role != tunnel.RoleWatch && n.Role != tunnel.RoleTake {
			t.Fatalf("%q: role %v", in, n.Role)
		}
		if at := strings.LastIndexByte(in, '@'); at >= 0 && strings.ContainsRune(n.Computer, '@') {
			t.Fatalf("%q: the computer is %q", in, n.Computer)
		}
	})
}

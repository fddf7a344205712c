package web

import (
	"net"
	"net/netip"
	"testing"

	"github.com/helmline/helmline/relayd/turnstile"
)

// An account has many connections beside those of strangers, but not all that the relay could have; what it has closed makes room.
func TestConnectionsOfOneAccountAreBounded(t *testing.T) {
	strangers := turnstile.New(turnstile.Limits{PerSource: 2 * maxConns, DropFrom: 2 * maxConns, Max: 2 * maxConns})
	var conns slots
	come := func(account int64) *held {
		at, err := strangers.Enter(netip.MustParseAddr("192.0.2.1"), false, func() {})
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		h := &held{Conn: near, at: at, closed: make(chan struct{})}
		h.known(&conns, account)
		return h
	}
	var all []*held
	for range maxConns {
		all = append(all, come(1))
	}
	if n := strangers.Inside(); n != 0 {
		t.Errorf("%d of %d count as strangers", n, maxConns)
	}
	late := come(1)
	if n := strangers.Inside(); n != 1 {
		t.Errorf("one too many: %d count as strangers", n)
	}
	if come(2); strangers.Inside() != 1 {
		t.Error("another account has no place")
	}
	all[0].known(&conns, 1) // a request more
	for range 2 {
		all[0].Close()
	}
	late.known(&conns, 1)
	if n := strangers.Inside(); n != 0 {
		t.Errorf("after one was closed %d count as strangers", n)
	}
	if all[0].known(&conns, 1); conns.open[1] != maxConns {
		t.Errorf("%d are counted", conns.open[1])
	}
}

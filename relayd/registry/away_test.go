package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/tunnel"
)

func TestSeen(t *testing.T) {
	for age, layout := range map[time.Duration]string{time.Minute: "15:04 UTC", 11 * time.Hour: "15:04 UTC", 400 * 24 * time.Hour: "2 January 2006"} {
		at := time.Now().Add(-age)
		if got := seen(at); got != at.UTC().Format(layout) {
			t.Errorf("%v ago: %q", age, got)
		}
	}
	if seen(time.Time{}) != "never" {
		t.Error(seen(time.Time{}))
	}
}

// What a computer said when it went decides what people are told.
func TestAway(t *testing.T) {
	for _, c := range []struct {
		why  tunnel.Reason
		ago  time.Duration
		want string
	}{
		{0, 0, "40001: desk is offline"},
		{tunnel.Replaced, 0, "40001: desk is offline"}, // no farewell
		{tunnel.ShutDown, 0, "40001: desk is offline"},
		{tunnel.Asleep, 30 * 24 * time.Hour, "40002: desk is asleep since"},
		{tunnel.Stopped, time.Hour, "40003: the host service of desk was stopped"},
		{tunnel.Rebooting, rebootTime - time.Minute, "40001: desk reboots"},
		{tunnel.Rebooting, rebootTime, "40001: desk is offline"}, // it did not come back
	} {
		at := time.Now().Add(-c.ago)
		computer := Computer{Name: "desk", LastSeen: at, Away: awayOf(c.why, at)}
		if got := computer.Absent().Error(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v, %v ago: %q, want %q", c.why, c.ago, got, c.want)
		}
	}
}

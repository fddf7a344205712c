package e2e

import (
	"testing"
	"time"
)

// The computer is behind a network that drops everything inbound, the viewer has no route to it, and after its link was cut for 20
// seconds the computer is online within 10 seconds of the link's return.
func TestLinkCut(t *testing.T) {
	w := NewWorld(t, Options{})
	if conn, err := w.Net.Dial(w.Ctx, "viewer", hostAddr+":22"); err == nil {
		conn.Close()
		t.Fatal("the viewer reaches the computer")
	}
	furniture := w.Furnish()
	v := w.TigerVNC("")
	v.LogIn()
	v.WaitEqual(w.Desk)

	w.Check(w.Net.Cut(w.Ctx, "host", "relay", true))
	cut := time.Now()
	w.Within(25*time.Second, "the relay notices", func() (bool, error) {
		computers, err := w.Computers()
		return err == nil && !computers[0].Online, err
	})
	t.Logf("offline after %v", time.Since(cut).Round(100*time.Millisecond))
	w.Until("20 seconds are over", func() (bool, error) { return time.Since(cut) >= 20*time.Second, nil })
	w.Check(w.Net.Cut(w.Ctx, "host", "relay", false))
	back := time.Now()
	w.Within(10*time.Second, "the computer is online again", func() (bool, error) {
		computers, err := w.Computers()
		return err == nil && computers[0].Online, err
	})
	t.Logf("online %v after the link's return", time.Since(back).Round(100*time.Millisecond))

	again := w.TigerVNC("")
	again.LogIn()
	again.WaitEqual(w.Desk)
	again.Type("back\n")
	furniture.WaitTyped("back\n")
}

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// hostPart is the process of a part of hostd, "net" or "worker"; 0: it does not run.
func (w *World) hostPart(name string) int {
	for _, pid := range rig.Children(w.HostProc.Pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has ended
		}
		if args := strings.Split(string(b), "\x00"); len(args) > 1 && args[1] == name {
			return pid
		}
	}
	return 0
}

// control brings a viewer of our own into control, by taking it where somebody who has vanished still holds it.
func (w *World) control() *rfbtest.Client {
	w.T.Helper()
	var c *rfbtest.Client
	w.Until("a viewer is let in", func() (come bool, err error) { // the computer may have just come back
		c, err = w.Client(Account, w.Password, "/take")
		return err == nil, err
	})
	w.Check(c.Type(w.Code + "\n"))
	w.Until("control", func() (bool, error) {
		sessions, err := w.hostSessions()
		return len(sessions) == 1 && sessions[0].Control, err
	})
	return c
}

// Whichever part is killed, however often and while it is in use: the computer is online again by itself within 10 seconds, the
// next viewer takes the helm, and nothing that was stored is lost. relayd and hostd are started again as a service manager does;
// hostd starts its own parts again.
func TestKills(t *testing.T) {
	w := NewWorld(t, Options{Time: 8 * time.Minute})
	d := w.Furnish()
	before := w.stored()
	typed := ""
	kills := []struct {
		name string
		kill func()
	}{
		{"relayd", func() {
			w.RelayProc.Kill()
			w.RelayProc.Clear()
			w.RestartRelay()
		}},
		{"hostd", func() {
			w.HostProc.Kill()
			w.RestartHost() // beside what the killed one has left behind, which must end by itself
		}},
		{"hostd-net", func() { w.killPart("net") }},
		{"worker", func() { w.killPart("worker") }},
	}
	for i := range 20 {
		k := kills[rand.IntN(len(kills))]
		c := w.control()
		k.kill()
		started := time.Now()
		w.Within(10*time.Second, fmt.Sprintf("the computer is online after kill %d, of %s", i, k.name), func() (bool, error) {
			computers, err := w.Computers()
			return err == nil && computers[0].Online, err
		})
		t.Logf("kill %d, of %s: online after %v", i, k.name, time.Since(started).Round(10*time.Millisecond))
		c.Close()

		c = w.control()
		line := fmt.Sprintf("after %d\n", i)
		w.Check(c.Type(line))
		typed += line
		d.WaitTyped(typed)
		c.Close()
		_, err := w.Relayd.Do(w.Ctx, "", "audit", "verify")
		w.Check(err)
	}
	if after := w.stored(); after != before {
		t.Errorf("the relay's store held %s, holds %s", before, after)
	}
}

// killPart kills a part of hostd and returns when another runs in its place.
func (w *World) killPart(name string) {
	w.T.Helper()
	var pid int
	w.Until(name+" runs", func() (bool, error) { pid = w.hostPart(name); return pid != 0, nil })
	p, err := os.FindProcess(pid)
	w.Check(err)
	w.Check(p.Kill())
	if name == "worker" {
		return // it comes back with the next viewer
	}
	w.Until(name+" runs again", func() (bool, error) { now := w.hostPart(name); return now != 0 && now != pid, nil })
}

// stored is what must outlive everything: the accounts, and the computers without what changes by itself.
func (w *World) stored() string {
	w.T.Helper()
	accounts, err := w.Relayd.Do(w.Ctx, "", "account", "list", "--json")
	w.Check(err)
	var computers []struct{ ID, Name, Owner string }
	out, err := w.Relayd.Do(w.Ctx, "", "host", "list", "--json")
	w.Check(err)
	w.Check(json.Unmarshal([]byte(out), &computers))
	return fmt.Sprint(accounts, computers)
}

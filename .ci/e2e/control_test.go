package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// holder is the account in control of the computer and the epoch of its control.
func (w *World) holder() (account string, epoch uint64) {
	w.T.Helper()
	out, err := w.Hostd.Do(w.Ctx, "", "status", "--json")
	w.Check(err)
	var status struct {
		Holder string
		Epoch  uint64
	}
	w.Check(json.Unmarshal([]byte(out), &status))
	return status.Holder, status.Epoch
}

// keyLog covers the computer's desktop with a window of xev that has the keyboard: every key and button that X gets is in the file
// that it gives.
func (w *World) keyLog() string {
	w.T.Helper()
	log := w.file("keys.log")
	_, err := w.Set.Start(w.Ctx, rig.Program{
		Args: []string{"xev", "-geometry", "1024x768+0+0", "-name", "Keys", "-event", "keyboard", "-event", "button"},
		User: w.Owner, Env: w.Desk.Env(), Log: log,
	})
	w.Check(err)
	w.window("Keys")
	_, err = w.Desk.Output(w.Ctx, "xdotool", "search", "--sync", "--name", "^Keys$", "windowfocus", "--sync")
	w.Check(err)
	return log
}

// crowd is how many viewers ask for control at once.
const crowd = 50

// Of 50 viewers that log in at once exactly one gets control, the others are refused by its name, and no key of theirs
// arrives. When the holder is gone without a word, control is free within 15 seconds and no key stays pressed.
func TestCrowd(t *testing.T) {
	w := NewWorld(t, Options{Host: "[policy]\nmax_sessions = 100\n", Time: 5 * time.Minute})
	keys := w.keyLog()
	clients := make([]*rfbtest.Client, crowd)
	errs := make(chan error, crowd)
	turn := make(chan struct{}, 4) // a relay on two processors hashes no more passwords at once, and what is tried here is control
	for i := range clients {
		go func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			var err error
			clients[i], err = w.clientFrom(fmt.Sprintf("127.0.1.%d", i+1))
			if err == nil {
				err = clients[i].Type(w.Code)
			}
			errs <- err
		}()
	}
	for range clients {
		w.Check(<-errs)
	}
	for _, c := range clients {
		defer c.Close()
	}
	// All of them are at the form, the code is typed: now they all press Return, then each types on.
	for i, c := range clients {
		go func() {
			err := c.Press(0xff0d)
			if err == nil {
				err = c.Type(strings.Repeat(letter(i), 3))
			}
			errs <- err
		}()
	}
	for range clients {
		w.Check(<-errs)
	}
	w.Until("one holds control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
	w.Until("all have logged in", func() (bool, error) {
		sessions, err := w.hostSessions()
		n := 0
		for _, s := range sessions {
			if s.User != "" {
				n++
			}
		}
		return n == crowd, err
	})
	sessions, err := w.hostSessions()
	w.Check(err)
	in := 0
	for _, s := range sessions {
		if s.Control {
			in++
		}
	}
	if in != 1 {
		t.Fatalf("%d of %d sessions are in control", in, len(sessions))
	}

	// Whoever it is: the holder's keys arrive, nobody else's.
	for i, c := range clients {
		w.Check(c.Type(letter(i)))
	}
	w.Until("the holder's keys arrive", func() (bool, error) {
		pressed, err := pressedKeys(keys)
		return len(pressed) > 0, err
	})
	pressed, err := pressedKeys(keys)
	w.Check(err)
	if len(pressed) != 1 {
		t.Fatalf("keys of %d viewers arrived: %v", len(pressed), pressed)
	}
	var winner int
	for i := range clients {
		if pressed[letter(i)] {
			winner = i
		}
	}

	// The holder presses a key, and is gone: the whole of its network, so that nobody is told.
	w.Check(clients[winner].Key(true, uint32('a')))
	w.Until("the key is down", func() (bool, error) { p, err := pressedKeys(keys); return p["a"], err })
	gone := time.Now()
	clients[winner].Close()
	w.Within(15*time.Second, "control is free", func() (bool, error) { account, _ := w.holder(); return account == "", nil })
	t.Logf("control was free after %v", time.Since(gone).Round(10*time.Millisecond))
	w.Until("the key is up", func() (bool, error) {
		b, err := os.ReadFile(keys)
		return strings.Count(string(b), "KeyPress event") == strings.Count(string(b), "KeyRelease event"), err
	})
}

// letter is what viewer i types: fifty of them, none twice, and none of the access code's use afterwards.
func letter(i int) string {
	return string(rune("bcdefghijklmnopqrstuvwxyz0123456789BCDEFGHIJKLMNOPQ"[i]))
}

// pressedKeys are the names of the keys that xev saw go down.
func pressedKeys(path string) (map[string]bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool)
	for _, event := range strings.Split(string(b), "\n\n") {
		if !strings.Contains(event, "KeyPress event") {
			continue
		}
		_, rest, _ := strings.Cut(event, "keysym 0x")
		_, name, _ := strings.Cut(rest, ", ")
		name, _, _ = strings.Cut(name, ")")
		if !strings.HasPrefix(name, "Shift") {
			keys[name] = true
		}
	}
	return keys, nil
}

type hostSession struct {
	User    string `json:"user"`
	Control bool   `json:"control"`
	Role    string `json:"role"`
}

func (w *World) hostSessions() (all []hostSession, err error) {
	out, err := w.Hostd.Do(w.Ctx, "", "sessions", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	return all, err
}

// clientFrom is Client, in the relay's network and from an address of its loopback.
func (w *World) clientFrom(address string) (*rfbtest.Client, error) {
	conn, err := w.Net.DialFrom(w.Ctx, "relay", address, net.JoinHostPort("127.0.0.1", PortRFB))
	if err != nil {
		return nil, err
	}
	return w.handshake(conn, rfbtest.Config{ServerName: "localhost", User: Account + "/" + Computer, Password: w.Password})
}

// A watcher sees, and nothing that it sends reaches the computer: no key, no pointer, no clipboard, no size.
func TestWatcherSendsInVain(t *testing.T) {
	w := NewWorld(t, Options{})
	keys := w.keyLog()
	before, err := w.Desk.Output(w.Ctx, "xdotool", "getmouselocation")
	w.Check(err)
	c, err := w.Client(Account, w.Password, "/watch")
	w.Check(err)
	defer c.Close()
	w.Check(c.Type(w.Code + "\n"))
	w.Until("the watcher has logged in", func() (bool, error) {
		sessions, err := w.hostSessions()
		return len(sessions) == 1 && sessions[0].User == w.Owner.Name, err
	})
	for i := range 50 {
		w.Check(c.Type("x"))
		w.Check(c.Pointer(uint16(i&1), 100+i, 200))
		w.Check(c.CutText("from a watcher"))
		w.Check(c.SetDesktopSize(c.Size().Sub(c.Size().Div(2)), frame.Screen{Rect: c.Picture().Rect.Inset(200).Sub(c.Picture().Rect.Inset(200).Min)}))
	}
	// A controller's key comes after all of that, and is the only one.
	v, err := w.Client(Account, w.Password, "")
	w.Check(err)
	defer v.Close()
	w.Check(v.Type(w.Code + "\n"))
	w.Until("control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
	w.Until("the controller's key arrives", func() (bool, error) {
		if err := v.Type("k"); err != nil {
			return false, err
		}
		p, err := pressedKeys(keys)
		return p["k"], err
	})
	pressed, err := pressedKeys(keys)
	w.Check(err)
	if len(pressed) != 1 {
		t.Errorf("keys arrived: %v", pressed)
	}
	b, err := os.ReadFile(keys)
	w.Check(err)
	if strings.Contains(string(b), "ButtonPress") {
		t.Error("a button arrived")
	}
	after, err := w.Desk.Output(w.Ctx, "xdotool", "getmouselocation")
	w.Check(err)
	if after != before {
		t.Errorf("the pointer was at %s, is at %s", before, after)
	}
	if size := c.Size(); size.X != 1024 || size.Y != 768 {
		t.Errorf("the desktop's size is %v", size)
	}
	for _, selection := range []string{"primary", "clipboard"} {
		ctx, cancel := context.WithTimeout(w.Ctx, 5*time.Second)
		out, _ := w.Set.Output(ctx, rig.Program{Args: []string{"xclip", "-o", "-selection", selection}, User: w.Owner, Env: w.Desk.Env()})
		cancel()
		if out != "" {
			t.Errorf("the %s selection holds %q", selection, out)
		}
	}
}

// hostd as root runs in parts with a user each: the network part has no privilege, root has no internet socket, and the worker is
// the desktop's owner, on the owner's display.
func TestThreeUsers(t *testing.T) {
	w := NewWorld(t, Options{})
	c, err := w.Client(Account, w.Password, "")
	w.Check(err)
	defer c.Close()
	w.Check(c.Type(w.Code + "\n"))
	w.Until("control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
	part, worker := w.hostPart("net"), w.hostPart("worker")
	if part == 0 || worker == 0 {
		t.Fatalf("hostd-net is %d, the worker %d", part, worker)
	}
	for _, c := range []struct {
		name string
		pid  int
		user *rig.User
	}{{"hostd-net", part, w.NetUser}, {"worker", worker, w.Owner}} {
		status := procStatus(t, c.pid)
		for _, id := range strings.Fields(status["Uid"]) {
			if id != fmt.Sprint(c.user.UID) {
				t.Errorf("%s: uids %s, want %d", c.name, status["Uid"], c.user.UID)
			}
		}
		for _, id := range strings.Fields(status["Gid"]) {
			if id != fmt.Sprint(c.user.GID) {
				t.Errorf("%s: gids %s, want %d", c.name, status["Gid"], c.user.GID)
			}
		}
		if status["CapEff"] != strings.Repeat("0", 16) || status["CapPrm"] != strings.Repeat("0", 16) {
			t.Errorf("%s: capabilities %s, %s", c.name, status["CapEff"], status["CapPrm"])
		}
	}
	if got := procStatus(t, part)["NoNewPrivs"]; got != "1" {
		t.Errorf("hostd-net: NoNewPrivs is %s: a program with the setuid bit would give it privileges", got)
	}
	if n := inetSockets(t, w.HostProc.Pid); n != 0 {
		t.Errorf("root's hostd holds %d internet sockets", n)
	}
	if n := inetSockets(t, part); n == 0 {
		t.Error("hostd-net holds no internet socket: the test does not see them")
	}
	if n := inetSockets(t, worker); n != 0 {
		t.Errorf("the worker holds %d internet sockets", n)
	}
}

func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// inetSockets counts the internet sockets among a process's descriptors.
func inetSockets(t *testing.T, pid int) int {
	t.Helper()
	inet := make(map[string]bool)
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 {
				inet["socket:["+f[9]+"]"] = true
			}
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && inet[to] {
			n++
		}
	}
	return n
}

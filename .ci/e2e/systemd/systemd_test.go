package systemd

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

const (
	account  = "alice@example.com"
	computer = "desk7"
	user     = "desk" // the OS user that the access code stands for
)

// The installed units come up, are as locked down as they say, serve a viewer, and come back by themselves however often any
// part of them is killed.
func TestUnits(t *testing.T) {
	m := boot(t)
	password, code := rig.Secret(16), rig.Secret(12)
	m.run("systemd-sysusers")
	m.run("useradd", "--create-home", "--shell", "/bin/bash", user)
	m.say(fmt.Sprintf("[display]\nsource = \"virtual\"\n[login]\naccess_account = %q\n", user), "tee", "/etc/helmline/hostd.toml")
	m.run("systemctl", "start", "relayd.socket", "relayd.service", "hostd.service", "hostd-net.service")

	m.say(password+"\n", "relayd", "account", "add", account, "--password-stdin")
	token := ""
	for _, word := range strings.Fields(m.run("relayd", "host", "invite", account, "--name", computer)) {
		if strings.HasPrefix(word, "hl1.") {
			token = word
		}
	}
	m.say(token+"\n", "hostd", "enroll", "--token-stdin")
	m.say(code+"\n", "hostd", "code", "set", "--stdin")
	m.online()

	t.Run("locked down", func(t *testing.T) { m.lockedDown(t) })
	m.session(password, code, "before")
	t.Run("worker", func(t *testing.T) { m.worker(t) })

	parts := []func() int{
		func() int { return m.main("relayd.service") },
		func() int { return m.main("hostd.service") },
		func() int { return m.main("hostd-net.service") },
		func() int { return m.workerPid() },
	}
	for i := range 20 {
		k := rand.IntN(len(parts))
		viewer := m.control(password, code) // so that every part is in use
		m.until("the part to run", func() (bool, error) { return parts[k]() != 0, nil })
		m.run("kill", "-9", fmt.Sprint(parts[k]()))
		started := time.Now()
		m.until(fmt.Sprintf("all parts to be back after kill %d of part %d", i, k), func() (bool, error) {
			return m.main("relayd.service") != 0 && m.main("hostd.service") != 0 && m.main("hostd-net.service") != 0, nil
		})
		m.online()
		t.Logf("kill %d of part %d: online after %v", i, k, time.Since(started).Round(10*time.Millisecond))
		viewer.Close()
		if out, err := m.try("relayd", "audit", "verify"); err != nil {
			t.Fatalf("audit verify: %v %s", err, out)
		}
	}
	m.session(password, code, "after")
	if list := m.run("relayd", "account", "list", "--json"); !strings.Contains(list, account) {
		t.Fatalf("accounts: %s", list)
	}
	t.Run("at the end", func(t *testing.T) { m.atEnd(t, password, code) })
	t.Run("faillock", func(t *testing.T) { m.faillock(t, password) })
}

// online waits until the relay lists the computer as online.
func (m *machine) online() {
	m.t.Helper()
	m.until("the computer to be online", func() (bool, error) {
		out, err := m.try("relayd", "host", "list", "--json")
		if err != nil {
			return false, nil // the relay is restarting
		}
		var hosts []struct{ Online bool }
		if err := json.Unmarshal([]byte(out), &hosts); err != nil {
			return false, err
		}
		return len(hosts) == 1 && hosts[0].Online, nil
	})
}

// control signs in, logs in with the access code and waits for control.
func (m *machine) control(password, code string) *rfbtest.Client {
	m.t.Helper()
	var c *rfbtest.Client
	m.until("a viewer to be let in", func() (come bool, err error) {
		c, err = m.view(account+"/"+computer+"/take", password)
		return err == nil, nil // the computer has just come back
	})
	m.t.Cleanup(c.Close)
	if err := c.Type(code + "\n"); err != nil {
		m.t.Fatal(err)
	}
	m.until("control", func() (bool, error) {
		// The lease of one that vanished stands on for a while, so its holder's name proves nothing: this viewer must have it.
		out, err := m.try("hostd", "sessions", "--json")
		if err != nil {
			return false, err
		}
		var sessions []struct{ Control bool }
		err = json.Unmarshal([]byte(out), &sessions)
		return len(sessions) == 1 && sessions[0].Control, err
	})
	return c
}

// session types into the terminal of the desktop.
func (m *machine) session(password, code, word string) {
	m.t.Helper()
	c := m.control(password, code)
	defer c.Close()
	file := "/home/" + user + "/" + word
	m.until("typed text to arrive", func() (bool, error) {
		if err := c.Type("echo " + word + " > " + file + "\n"); err != nil {
			return false, err
		}
		out, _ := m.try("cat", file)
		return out == word, nil
	})
}

// lockedDown looks at what the running units may do.
func (m *machine) lockedDown(t *testing.T) {
	for _, unit := range []string{"relayd.service", "hostd-net.service"} {
		pid := m.main(unit)
		for field, want := range map[string]string{"CapEff": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
			if got := m.status(pid, field); got != want {
				t.Errorf("%s: %s is %s, want %s", unit, field, got, want)
			}
		}
		if uid := strings.Fields(m.status(pid, "Uid"))[0]; uid == "0" {
			t.Errorf("%s runs as root", unit)
		}
	}
	hostd := m.main("hostd.service")
	if m.status(hostd, "NoNewPrivs") != "1" || m.status(hostd, "Seccomp") != "2" {
		t.Error("hostd has no seccomp filter")
	}
	// The network that hostd sees has a loopback that is down, and nothing else.
	if dev := m.run("cat", fmt.Sprintf("/proc/%d/net/dev", hostd)); strings.Count(dev, ":") != 1 {
		t.Errorf("hostd has a network:\n%s", dev)
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		if lines := strings.Count(m.run("cat", fmt.Sprintf("/proc/%d/net/%s", hostd, table))+"\n", "\n"); lines != 1 {
			t.Errorf("hostd has %s sockets", table)
		}
	}
}

// workerPid is the process of the worker; 0: none.
func (m *machine) workerPid() int {
	out, err := m.try("pgrep", "-f", "-o", "hostd worker")
	if err != nil {
		return 0
	}
	var pid int
	fmt.Sscan(out, &pid)
	return pid
}

// worker asserts that the worker is the user's and inherits nothing of hostd's confinement.
func (m *machine) worker(t *testing.T) {
	pid := m.workerPid()
	if pid == 0 {
		t.Fatal("no worker")
	}
	if uid, want := strings.Fields(m.status(pid, "Uid"))[0], m.run("id", "-u", user); uid != want {
		t.Errorf("the worker runs as %s, want %s", uid, want)
	}
	if got := m.status(pid, "NoNewPrivs"); got != "0" {
		t.Errorf("the worker's NoNewPrivs is %s: sudo would not work on the desktop", got)
	}
}

// faillock counts failures at the form in pam_faillock's own table, under the hardened unit.
func (m *machine) faillock(t *testing.T, password string) {
	m.say(strings.Join([]string{
		"auth required pam_faillock.so preauth deny=3",
		"auth [success=1 default=ignore] pam_unix.so nullok",
		"auth [default=die] pam_faillock.so authfail deny=3",
		"auth required pam_faillock.so authsucc deny=3",
		"auth required pam_permit.so",
	}, "\n")+"\n", "tee", "/etc/pam.d/common-auth")
	m.say(user+":right secret\n", "chpasswd")
	c, err := m.view(account+"/"+computer+"/watch", password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const tab, enter = 0xff09, 0xff0d // the form asks for the code first: to "use a user name instead", its third stop
	for _, key := range []uint32{tab, tab, tab, enter} {
		if err := c.Press(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Type(user + "\twrong secret\n"); err != nil {
		t.Fatal(err)
	}
	m.until("pam_faillock to have counted", func() (bool, error) {
		out, err := m.try("faillock", "--user", user)
		return strings.Contains(out, "SVC") || strings.Contains(out, "RHOST") || strings.Contains(out, " V"), err
	})
}

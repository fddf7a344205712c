package systemd

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/helmline/helmline/.ci/rig"
)

// Names of logind on the bus.
const (
	login1        = "org.freedesktop.login1"
	login1Path    = "/org/freedesktop/login1"
	login1Session = login1 + ".Session"
)

// atEnd has a session in a browser lock, and then log off, a desktop that logind knows.
func (m *machine) atEnd(t *testing.T, password, code string) {
	m.say(fmt.Sprintf("[display]\nsource = \":7\"\n[login]\naccess_account = %q\n", user), "tee", "/etc/helmline/hostd.toml")
	m.run("systemctl", "restart", "hostd.service", "hostd-net.service")
	bus, err := dbus.Connect(fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	desktop := m.desktop(t, bus)
	signals := make(chan *dbus.Signal, 64)
	bus.Signal(signals)
	if err := bus.AddMatchSignal(dbus.WithMatchInterface(login1Session), dbus.WithMatchMember("Lock")); err != nil {
		t.Fatal(err)
	}
	locked := make(chan error, 1)
	go func() { // a locker, which does not heed what comes first
		<-signals
		<-signals
		locked <- bus.Object(login1, desktop).Call(login1Session+".SetLockedHint", 0, true).Err
	}()
	m.online()
	end := func(how, says string) []step {
		return []step{{"go": "/computers"}, {"click": "a.name"}, {"code": code}, {"see": "You control"}, {"choose": step{"#at-end": how}}, {"click": "#leave", "see": says}}
	}
	steps := []step{{"go": "/computers"}, {"fill": step{"#email": account}, "see": "Password of your account"}, {"fill": step{"#password": password}, "see": computer}}
	steps = append(steps, end("lock", "Its screen was told to lock, and does not say that it is locked.")...)
	steps = append(steps, end("lock", "Its screen is locked.")...)
	steps = append(steps, end("log off", "Its user is being logged off.")...)
	m.browse(t, steps...)
	if err := <-locked; err != nil {
		t.Error(err)
	}
	m.until("the desktop to be gone", func() (bool, error) {
		out, err := m.try("loginctl", "list-sessions", "--no-legend")
		return !strings.Contains(out, "seat0") && m.main("desktop.service") == 0, err
	})
}

// desktop starts one in a session of logind's, as a display manager does, and gives the session's object.
func (m *machine) desktop(t *testing.T, bus *dbus.Conn) dbus.ObjectPath {
	m.run("systemd-run", "--unit=desktop", "--uid="+user, "sh", "-c", "until [ -e /tmp/go ]; do sleep .1; done; Xvfb :7 & DISPLAY=:7 exec xterm")
	uid, err := strconv.ParseUint(m.run("id", "-u", user), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	type property struct {
		Name  string
		Value dbus.Variant
	}
	made := bus.Object(login1, login1Path).Call(login1+".Manager.CreateSession", 0, uint32(uid), uint32(m.main("desktop.service")),
		"xdm", "x11", "user", "", "seat0", uint32(0), "", ":7", false, "", "", []property{})
	if made.Err != nil {
		t.Fatal(made.Err)
	}
	fifo := os.NewFile(uintptr(made.Body[3].(dbus.UnixFD)), "session") // the session ends with it
	t.Cleanup(func() { fifo.Close() })
	m.run("touch", "/tmp/go")
	return made.Body[1].(dbus.ObjectPath)
}

// A step is one of .ci/browser/drive.mjs.
type step map[string]any

// browse has a browser in the machine's network take steps at relayd's pages.
func (m *machine) browse(t *testing.T, steps ...step) {
	t.Helper()
	block, _ := pem.Decode([]byte(m.run("cat", "/var/lib/helmline/relayd/tls.pem")))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	var orders strings.Builder
	out := json.NewEncoder(&orders)
	_ = out.Encode(map[string]any{"site": "https://localhost:8443", "spki": base64.StdEncoding.EncodeToString(spki[:]), "shots": t.TempDir()})
	_ = out.Encode(steps)
	program, err := filepath.Abs("../../browser/drive.mjs")
	if err != nil {
		t.Fatal(err)
	}
	answer, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	log := filepath.Join(t.TempDir(), "browser")
	said, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.CommandContext(m.ctx, "nsenter", "--target", strconv.Itoa(m.pid), "--net", "--", "node", program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = strings.NewReader(orders.String()), said, said, []*os.File{write}
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	var result struct {
		Failed string
		Faults []string
	}
	line, _ := bufio.NewReader(answer).ReadBytes('\n') // none: cut short
	err = json.Unmarshal(line, &result)
	_ = cmd.Wait() // what it has said counts
	if err != nil || result.Failed != "" || len(result.Faults) > 0 {
		t.Fatalf("the browser: %v %+v\n%s", err, result, rig.Tail(log, 20))
	}
}

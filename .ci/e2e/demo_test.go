package e2e

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

// demoFacts are the variables of .demo/env, and whether they must have a value.
var demoFacts = map[string]bool{
	"HELMLINE_RFB": true, "HELMLINE_RFB_CODE": true, "HELMLINE_SSH": true, "HELMLINE_WEB": true, "HELMLINE_RDP": false, "HELMLINE_METRICS": true,
	"HELMLINE_ACCOUNT": true, "HELMLINE_PASSWORD": true, "HELMLINE_COMPUTER": true, "HELMLINE_CODE": true, "HELMLINE_CA": true,
	"HELMLINE_DISPLAY": true, "HELMLINE_RELAYD_CONFIG": true, "HELMLINE_HOSTD_CONFIG": true, "HELMLINE_RELAYD_PID": true, "HELMLINE_HOSTD_PID": true,
}

// "make demo" on a machine without a display comes up by itself, says everything in .demo/env, gives a desktop to whoever has read
// that, and leaves nothing behind.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var set rig.Set
	defer set.Close()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(top, ".demo", "env")
	log := filepath.Join(t.TempDir(), "log")
	defer func() {
		if t.Failed() {
			t.Log(rig.Tail(log, 30))
		}
	}()
	began := time.Now()
	demo, err := set.Start(ctx, rig.Program{Args: []string{"make", "demo"}, Dir: top, Log: log, Env: []string{"DISPLAY=", "WAYLAND_DISPLAY="}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Until(ctx, "the demonstration is ready", func() (bool, error) {
		select {
		case <-demo.Done():
			t.Fatal("it ended")
		default:
		}
		st, err := os.Stat(env)
		return err == nil && st.ModTime().After(began), err
	}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Minute {
		t.Errorf("it took %v", took)
	}
	facts := readFacts(t, env)
	for name, needed := range demoFacts {
		if value, there := facts[name]; !there || needed && value == "" {
			t.Errorf("%s is %q, there: %v", name, value, there)
		}
	}
	if len(facts) != len(demoFacts) {
		t.Errorf("%d facts, want %d", len(facts), len(demoFacts))
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), facts["HELMLINE_CODE"]) || !strings.Contains(string(text), facts["HELMLINE_PASSWORD"]) {
		t.Error("the secrets are not printed")
	}
	useDemo(t, ctx, facts)

	started := descendants(demo.Pid)
	if err := syscall.Kill(-demo.Pid, syscall.SIGINT); err != nil { // as Ctrl-C does
		t.Fatal(err)
	}
	select {
	case <-demo.Done():
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
	for pid, name := range started {
		if now, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(now) == name {
			t.Errorf("%s (%d) still runs", strings.TrimSpace(name), pid)
		}
	}
	if _, err := os.Stat(env); err == nil {
		t.Error(".demo/env is still there")
	}
	for _, name := range []string{"helmline-demo", "helmline-demo-net"} {
		if _, err := user.Lookup(name); err == nil {
			t.Errorf("the user %s is still there", name)
		}
	}
	for _, door := range []string{"HELMLINE_RFB", "HELMLINE_RFB_CODE", "HELMLINE_SSH", "HELMLINE_METRICS"} {
		if c, err := net.Dial("tcp", facts[door]); err == nil {
			c.Close()
			t.Errorf("%s is still open", door)
		}
	}
}

// readFacts reads shell variables with single-quoted values, of which nothing else may be in the file.
func readFacts(t *testing.T, path string) map[string]string {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", path, st.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^([A-Z_]+)='([^']*)'$`)
	facts := make(map[string]string)
	for l := range strings.Lines(string(text)) {
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Fatalf("%q is no variable", l)
		}
		facts[m[1]] = m[2]
	}
	return facts
}

// useDemo does what the facts are for: it signs in, logs in and sees the desktop.
func useDemo(t *testing.T, ctx context.Context, facts map[string]string) {
	t.Helper()
	pem, err := os.ReadFile(facts["HELMLINE_CA"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := rfbtest.Dial(ctx, facts["HELMLINE_RFB"], rfbtest.Config{Security: uint8(rfb.SecVeNCrypt), Roots: roots, ServerName: "localhost",
		User: facts["HELMLINE_ACCOUNT"] + "/" + facts["HELMLINE_COMPUTER"], Password: facts["HELMLINE_PASSWORD"]})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > 0 }, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	const enter = 0xff0d
	for _, key := range append([]rune(facts["HELMLINE_CODE"]), enter) {
		for _, down := range []bool{true, false} {
			if err := c.Key(down, uint32(key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	background := uint32(rig.Background)
	if err := c.WaitFor(func(c *rfbtest.Client) bool { return Count(c.Picture(), background) > 100_000 }, 20*time.Second); err != nil {
		t.Errorf("the desktop is not shown: %v", err)
	}
}

// descendants are the processes below pid, by name.
func descendants(pid int) map[int]string {
	all := make(map[int]string)
	for _, child := range rig.Children(pid) {
		if name, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/comm"); err == nil {
			all[child] = string(name)
		}
		for p, name := range descendants(child) {
			all[p] = name
		}
	}
	return all
}

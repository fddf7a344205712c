package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/rfb/rfbtest"
)

const (
	otherAccount  = "mallory@example.com"
	otherPassword = "a quite long secret"
)

// refused gives the reason with which the relay's RFB door, or the computer behind it, does not let somebody in.
func (w *World) refused(user, password string) string {
	w.T.Helper()
	c, err := w.ClientAs(user, password)
	if err == nil {
		c.Close()
		w.T.Fatalf("%s was let in", user)
	}
	var refused *rfbtest.RefusedError
	if !errors.As(err, &refused) {
		w.T.Fatalf("%s: %v", user, err)
	}
	return refused.Reason
}

// Refusals before the computer's form: each has its number and its words, and none tells of other people's computers.
func TestRefusals(t *testing.T) {
	w := NewWorld(t, Options{})
	w.AddAccount(otherAccount, otherPassword)
	const none, wrong = "40008: no computer of that name is yours or shared with you", "40050: the account name or password is not right"
	for _, c := range []struct{ name, user, password, want string }{
		{"unknown computer", otherAccount + "/desk99", otherPassword, none},
		{"someone else's computer", otherAccount + "/" + Computer, otherPassword, none},
		{"no computer named", Account, w.Password, "40009: no computer named; your computers: "},
		{"wrong password", Account + "/" + Computer, "not the password", wrong},
		{"unknown account", "nobody@example.com/" + Computer, "not the password", wrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := w.refused(c.user, c.password); !strings.HasPrefix(got, c.want) {
				t.Errorf("refused by %q, want %q", got, c.want)
			} else if !strings.HasPrefix(c.user, Account) && strings.Contains(got, Account) {
				t.Errorf("%q names the owner", got)
			}
		})
	}
	t.Run("expired and used code", func(t *testing.T) {
		code := w.OneTimeCode()
		for i, want := range []string{"", "40024"} {
			c, err := w.codeClient(code)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("use %d: %v", i+1, err)
			}
			if err == nil {
				c.Close()
			}
		}
	})
	t.Run("stock viewer shows the reason", func(t *testing.T) {
		v := w.TigerVNCAs(Account, "not the password", "")
		w.Until("vncviewer says why", func() (bool, error) {
			b, err := os.ReadFile(w.log("viewer1-tigervnc"))
			return strings.Contains(string(b), "40050"), err
		})
		v.Proc.Kill()
	})
	t.Run("offline computer", func(t *testing.T) {
		w.HostProc.Kill()
		w.HostProc.Clear()
		w.Until("the computer is offline", func() (bool, error) {
			computers, err := w.Computers()
			return err == nil && !computers[0].Online, err
		})
		got := w.refused(Account+"/"+Computer, w.Password)
		if ok, _ := regexp.MatchString(`^40001: desk is offline, last seen \d\d:\d\d`, got); !ok {
			t.Errorf("refused by %q", got)
		}
	})
	t.Run("six failures", func(t *testing.T) {
		var last string
		for range 6 {
			last = w.refused("nobody@example.com/"+Computer, "not the password")
		}
		if !strings.HasPrefix(last, "40051: too many failed sign-ins; try again after ") {
			t.Errorf("refused by %q", last)
		}
		if got := w.refused(Account+"/"+Computer, w.Password); !strings.HasPrefix(got, "40051") {
			t.Errorf("a blocked source with the right password: %q", got)
		}
	})
	w.trace(t, "40008", "40050", "40024", "40001", "40051")
}

// trace checks that each refusal stands in the audit log and in the metrics.
func (w *World) trace(t *testing.T, codes ...string) {
	t.Helper()
	log := ""
	for _, f := range must(os.ReadDir(w.file("relayd/audit"))) {
		log += string(must(os.ReadFile(w.file("relayd/audit/" + f.Name()))))
	}
	metrics, err := w.metrics()
	w.Check(err)
	for _, code := range codes {
		if !strings.Contains(log, `"code":`+code) {
			t.Errorf("%s is not in the audit log", code)
		}
		if !strings.Contains(metrics, `="`+code+`"`) {
			t.Errorf("%s is not in the metrics", code)
		}
	}
	if strings.Contains(metrics, "example.com") || strings.Contains(metrics, `"`+Computer+`"`) {
		t.Error("a name is in the metrics")
	}
	_, err = w.Relayd.Do(w.Ctx, "", "audit", "verify")
	w.Check(err)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// metrics is what Prometheus would get.
func (w *World) metrics() (string, error) {
	conn, err := w.Net.Dial(w.Ctx, "relay", net.JoinHostPort("127.0.0.1", PortMetrics))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(b), "HTTP/1.0 "+http.StatusText(http.StatusOK)) && !strings.Contains(string(b[:min(len(b), 20)]), "200") {
		err = errors.New(string(b[:min(len(b), 80)]))
	}
	return string(b), err
}

// codeClient comes to the code door, inside TLS.
func (w *World) codeClient(code string) (*rfbtest.Client, error) {
	conn, err := w.Net.Dial(w.Ctx, "viewer", net.JoinHostPort(relayFront, PortCode))
	if err != nil {
		return nil, err
	}
	return w.handshake(conn, rfbtest.Config{ServerName: RelayName, Code: code})
}

// At the form: a wrong code is 1326, the fourth failure in a row meets the lock-out, 1909, and not one pixel of the desktop is sent.
func TestFormRefusals(t *testing.T) {
	w := NewWorld(t, Options{})
	w.Furnish()
	c, err := w.Client(Account, w.Password, "")
	w.Check(err)
	defer c.Close()
	for i := range 3 {
		w.Check(c.Type("not the code\n"))
		w.Until("a refusal", func() (bool, error) { return w.logged("code=1326") == i+1, nil })
	}
	for i := range 3 {
		w.Check(c.Type(w.Code + "\n")) // the right code: locked is locked
		w.Until("the lock-out", func() (bool, error) { return w.logged("code=1909") > i, nil })
	}
	w.Check(c.WaitFor(func(c *rfbtest.Client) bool { return c.Updates() > 0 }, 10*time.Second))
	if n := Count(c.Picture(), background); n != 0 {
		t.Errorf("%d pixels of the desktop's background", n)
	}
	_, err = w.Hostd.Do(w.Ctx, "", "unlock")
	w.Check(err)
	w.Check(c.Type(w.Code + "\n"))
	w.Until("control", func() (bool, error) { account, _ := w.holder(); return account == Account, nil })
}

// logged counts lines of hostd's log that hold a text.
func (w *World) logged(text string) int {
	return strings.Count(string(must(os.ReadFile(w.log("hostd")))), text)
}

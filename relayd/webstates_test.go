package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
)

// What a computer says when it goes is what people read: on the list, on its page, in the API and at the doors.
func TestWebStates(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	alice := r.browser()
	alice.signIn("alice@example.com", password, "")
	for i, c := range []struct {
		why                  tunnel.Reason // 0: it just vanishes
		state, list, refusal string
		code                 int
	}{
		{tunnel.Asleep, "asleep", "Asleep, since <time", "is asleep since", 40002},
		{tunnel.Rebooting, "rebooting", "Rebooting…", "reboots", 40001},
		{tunnel.Stopped, "offline", "Offline, its host service was stopped <time", "the host service of", 40003},
		{tunnel.ShutDown, "offline", "Offline, shut down <time", "is offline", 40001},
		{0, "offline", "Offline, last seen <time", "is offline", 40001},
	} {
		name := fmt.Sprintf("desk%d", i)
		desk := r.computer("alice@example.com", name, echo)
		told := alice.events()
		for now := within(t, told, "first event"); now.Computers[i].State != "online"; {
			now = within(t, told, "event of the computer's beginning")
		}
		if c.why != 0 {
			_ = desk.CloseFor(c.why)
		} else {
			desk.Close()
		}
		gone := within(t, told, "event of the computer's end")
		for gone.Computers[i].State == "online" { // of what came together with its beginning
			gone = within(t, told, "event of the computer's end")
		}
		if got := gone.Computers[i]; got.Name != name || got.State != c.state {
			t.Errorf("%v: told %+v", c.why, got)
		}
		if _, page, _ := alice.get("/computers"); !strings.Contains(page, c.list) {
			t.Errorf("%v: the list does not say %q:\n%s", c.why, c.list, page)
		}
		_, body, _ := alice.get("/api/hosts/" + name + "/connectability")
		var why struct {
			Checks []struct{ Refusal *refuse.Refusal }
		}
		if err := json.Unmarshal([]byte(body), &why); err != nil || len(why.Checks) < 2 || why.Checks[1].Refusal == nil {
			t.Fatalf("%v: %v %s", c.why, err, body)
		}
		no := why.Checks[1].Refusal
		if no.Code != c.code || !strings.Contains(no.Detail, c.refusal) {
			t.Errorf("%v: the API says %v", c.why, no)
		}
		if status, page, _ := alice.get("/computers/" + name); status != http.StatusOK || !strings.Contains(page, fmt.Sprint(no.Code, ": ", no.Detail)) {
			t.Errorf("%v: the page does not say %v:\n%s", c.why, no, page)
		}
		if _, at := alice.reach(name, "control"); at == nil || *at != *no {
			t.Errorf("%v: the door says %v, the API %v", c.why, at, no)
		}
	}
}

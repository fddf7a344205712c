package e2e

import (
	"encoding/json"
	"strings"

	"github.com/helmline/helmline/relayd/admin"
)

// Computers lists the computers of the relay.
func (w *World) Computers() ([]admin.Host, error) {
	var all []admin.Host
	return all, w.list(&all, "host", "list")
}

// Sessions lists the sessions that the relay has open.
func (w *World) Sessions() ([]admin.SessionInfo, error) {
	var all []admin.SessionInfo
	return all, w.list(&all, "session", "list")
}

func (w *World) list(all any, command ...string) error {
	out, err := w.Relayd.Do(w.Ctx, "", append(command, "--json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), all)
}

// OneTimeCode has the relay make a one-time code for the computer; more are flags of "relayd code".
func (w *World) OneTimeCode(more ...string) string {
	w.T.Helper()
	out, err := w.Relayd.Do(w.Ctx, "", append([]string{"code", Account, Computer, "--json"}, more...)...)
	w.Check(err)
	var c admin.Code
	w.Check(json.Unmarshal([]byte(out), &c))
	return strings.TrimSpace(c.Code)
}

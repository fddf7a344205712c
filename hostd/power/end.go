package power

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/helmline/helmline/hostd/ipc"
)

// End has logind lock the screen of a session, or end it with all that runs in it. Whether a screen can be locked is its desktop's to
// know: logind only tells it to.
func End(ctx context.Context, session string, how ipc.Ending) error {
	method := map[ipc.Ending]string{ipc.EndLocks: "LockSession", ipc.EndLogsOff: "TerminateSession"}[how]
	if method == "" {
		return fmt.Errorf("there is no end %d", how)
	}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Object(login1, path).CallWithContext(ctx, manager+"."+method, 0, session).Err
}

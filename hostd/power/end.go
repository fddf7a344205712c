package power

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/helmline/helmline/hostd/ipc"
)

// How long a desktop has to lock its screen, and how often it is looked at meanwhile.
const (
	lockTime  = 2 * time.Second
	lookEvery = 100 * time.Millisecond
)

// End has logind lock the screen of a session, or end it with all that runs in it. Logind only tells a desktop to lock: the outcome is
// OutcomeAsked when that does not say within lockTime that it has.
func End(ctx context.Context, session string, how ipc.Ending) (ipc.Outcome, error) {
	method := map[ipc.Ending]string{ipc.EndLocks: "LockSession", ipc.EndLogsOff: "TerminateSession"}[how]
	if method == "" {
		return ipc.OutcomeFailed, fmt.Errorf("there is no end %d", how)
	}
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return ipc.OutcomeFailed, err
	}
	defer conn.Close()
	if err := conn.Object(login1, path).CallWithContext(ctx, manager+"."+method, 0, session).Err; err != nil {
		return ipc.OutcomeFailed, err
	}
	if how == ipc.EndLogsOff || locks(ctx, conn, session) {
		return ipc.OutcomeDone, nil
	}
	return ipc.OutcomeAsked, nil
}

// locks waits until a session's desktop says that its screen is locked.
func locks(ctx context.Context, conn *dbus.Conn, session string) bool {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	var at dbus.ObjectPath
	if conn.Object(login1, path).CallWithContext(ctx, manager+".GetSession", 0, session).Store(&at) != nil {
		return false
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var hint dbus.Variant
		err := conn.Object(login1, at).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, login1+".Session", "LockedHint").Store(&hint)
		if locked, _ := hint.Value().(bool); err != nil || locked {
			return locked
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

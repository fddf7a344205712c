package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/relayd/broker"
)

// What systemd is told.
const (
	ready    = daemon.SdNotifyReady
	stopping = daemon.SdNotifyStopping
	alive    = daemon.SdNotifyWatchdog
)

// notify tells systemd, if it started us and asks for it.
func notify(state string) {
	_, _ = daemon.SdNotify(false, state) // without systemd nobody listens, which is well
}

// tellSystemd says twice in each watchdog period that relayd is alive, and reads the certificate again on each value of
// reload.
func tellSystemd(ctx context.Context, desks *broker.Broker, cert *certificate, reload <-chan os.Signal, log *slog.Logger) error {
	var tick <-chan time.Time
	if period, err := daemon.SdWatchdogEnabled(false); err == nil && period > 0 {
		t := time.NewTicker(period / 2)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			desks.List() // does not return when the broker hangs
			notify(alive)
		case <-reload:
			notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonic().Microseconds()))
			if err := cert.reload(); err != nil {
				log.Error("the certificate stays as it was", "err", err)
			}
			notify(ready)
		}
	}
}

// monotonic is the clock that systemd compares reloads by.
func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails never
	return time.Duration(t.Nano())
}

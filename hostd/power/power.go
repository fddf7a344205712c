// Package power hears from logind, before it happens, that the computer goes to sleep, reboots or is shut down, and has it lock or end
// sessions of users.
package power

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/helmline/helmline/bridge/tunnel"
)

// Names of logind on the bus. org.freedesktop.login1(5).
const (
	login1  = "org.freedesktop.login1"
	path    = "/org/freedesktop/login1"
	manager = login1 + ".Manager"
)

const (
	callTime  = 5 * time.Second
	tellTime  = 2 * time.Second // for the relay to hear of it; logind itself waits 5 s for all who delay it
	redialMin = time.Second     // between attempts to reach the bus
	redialMax = time.Minute
)

// Watch calls away with the reason why the computer is about to go, which logind delays until away returns, and with 0 when it is here
// again. It returns when ctx ends. Without logind it does nothing but look for it.
func Watch(ctx context.Context, log *slog.Logger, away func(ctx context.Context, why tunnel.Reason)) {
	told := false
	for wait := redialMin; ; wait = min(2*wait, redialMax) {
		w, err := newWatch(ctx, away)
		if err == nil {
			wait, told = redialMin, false
			err = w.run(ctx)
			w.close()
		}
		if !told && ctx.Err() == nil {
			log.Info("logind does not tell when the computer goes to sleep; the relay will only see that it is gone", "err", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// A watch is one connection to the system bus.
type watch struct {
	away    func(ctx context.Context, why tunnel.Reason)
	conn    *dbus.Conn
	signals chan *dbus.Signal
	lock    *os.File // delays logind while it is open; nil: none
	reboots bool     // what is prepared is a reboot
}

// newWatch connects to the system bus, which $DBUS_SYSTEM_BUS_ADDRESS may name.
func newWatch(ctx context.Context, away func(context.Context, tunnel.Reason)) (*watch, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	w := &watch{away: away, conn: conn, signals: make(chan *dbus.Signal, 16)}
	conn.Signal(w.signals)
	late, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = conn.AddMatchSignalContext(late, dbus.WithMatchSender(login1), dbus.WithMatchInterface(manager))
	if err == nil {
		err = w.delay(late)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// delay makes logind wait from now on.
func (w *watch) delay(ctx context.Context) error {
	if w.lock != nil {
		return nil
	}
	var fd dbus.UnixFD
	err := w.conn.Object(login1, path).CallWithContext(ctx, manager+".Inhibit", 0,
		"sleep:shutdown", "Helmline", "to tell the relay", "delay").Store(&fd)
	if err == nil {
		w.lock = os.NewFile(uintptr(fd), "inhibitor")
	}
	return err
}

// release lets logind go on.
func (w *watch) release() {
	if w.lock != nil {
		w.lock.Close()
		w.lock = nil
	}
}

func (w *watch) close() {
	w.release()
	w.conn.Close()
}

// run heeds logind's signals until the bus or ctx is gone.
func (w *watch) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-w.signals:
			if !ok {
				return dbus.ErrClosed
			}
			if err := w.heed(ctx, s); err != nil {
				return err
			}
		}
	}
}

// heed takes in one signal.
func (w *watch) heed(ctx context.Context, s *dbus.Signal) error {
	var begins bool
	if len(s.Body) == 0 || dbus.Store(s.Body[:1], &begins) != nil {
		return nil
	}
	switch s.Name {
	case manager + ".PrepareForSleep":
		return w.turn(ctx, begins, tunnel.Asleep)
	case manager + ".PrepareForShutdownWithMetadata": // systemd 255; just before the one without
		var about map[string]dbus.Variant
		if len(s.Body) == 2 && dbus.Store(s.Body[1:], &about) == nil {
			kind, _ := about["type"].Value().(string)
			w.reboots = kind == "reboot" || kind == "soft-reboot" || kind == "kexec"
		}
	case manager + ".PrepareForShutdown":
		why := tunnel.ShutDown
		if w.reboots || w.scheduled(ctx) == "reboot" {
			why = tunnel.Rebooting
		}
		w.reboots = false
		return w.turn(ctx, begins, why)
	}
	return nil
}

// turn tells that the computer goes, or that it is here.
func (w *watch) turn(ctx context.Context, goes bool, why tunnel.Reason) error {
	late, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if !goes {
		w.away(late, 0)
		return w.delay(late)
	}
	w.away(late, why)
	w.release()
	return nil
}

// scheduled is what the shutdown that logind has planned is to be; empty: it does not say.
func (w *watch) scheduled(ctx context.Context) string {
	late, cancel := context.WithTimeout(ctx, callTime/10)
	defer cancel()
	var v dbus.Variant
	err := w.conn.Object(login1, path).CallWithContext(late, "org.freedesktop.DBus.Properties.Get", 0, manager, "ScheduledShutdown").Store(&v)
	var plan struct {
		Kind string
		At   uint64 // microseconds
	}
	if err != nil || v.Store(&plan) != nil {
		return ""
	}
	return plan.Kind
}

// Package replay shows a recording to VNC viewers. Each viewer has a place of its own in it, and keys to go elsewhere; whatever its pixel
// format and encodings, it sees exactly what was recorded. Nothing leaves this machine: the listener is a loopback one.
package replay

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/rfb"
)

// Limits.
const (
	MinSpeed, MaxSpeed = 1.0 / 16, 64.0

	maxViewers    = 16
	handshakeTime = 30 * time.Second // people type the password
	wrongPause    = time.Second      // before the answer to a wrong password
	writeTime     = 30 * time.Second // for one update
)

// Keys says what keys do, for people.
const Keys = "space: pause · ←/→: 10 s · page up/down: 1 min · ↑/↓: speed · home, end · 0…9: tenths · esc: hide this"

// Config says how a recording is shown.
type Config struct {
	File     *record.File
	Speed    float64       // 1 is as it was recorded; MinSpeed to MaxSpeed
	At       time.Duration // where every viewer begins
	Paused   bool          // and does not go on by itself
	Bar      time.Duration // how long the bar stays after a key
	Password string        // up to eight characters, for VncAuth
}

// Serve shows a recording to whoever connects to l and has the password, until ctx ends. told is called with what went wrong with a viewer,
// by any goroutine.
func Serve(ctx context.Context, l net.Listener, cfg Config, told func(viewer string, err error)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, maxViewers)
	painter := form.NewPainter()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			if err := serve(ctx, conn, cfg, painter); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
				told(conn.RemoteAddr().String(), err)
			}
		})
	}
}

// serve serves one viewer.
func serve(ctx context.Context, conn net.Conn, cfg Config, painter *form.Painter) error {
	conn.SetDeadline(time.Now().Add(handshakeTime))
	if err := logIn(ctx, conn, cfg.Password); err != nil {
		return err
	}
	if _, err := rfb.ReadClientInit(conn); err != nil {
		return err
	}
	if _, err := conn.Write(rfb.AppendServerInit(nil, cfg.File.Size, rfb.Native, title(cfg.File, cfg.At))); err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	return newViewer(conn, cfg, painter).run(ctx)
}

var errPassword = errors.New("the password is wrong")

func logIn(ctx context.Context, conn net.Conn, password string) error {
	minor, err := rfb.ServerVersion(conn)
	if err != nil {
		return err
	}
	if _, err := rfb.OfferSecurity(conn, minor, rfb.SecVncAuth); err != nil {
		return err
	}
	challenge, response, err := rfb.Challenge(conn)
	if err != nil {
		return err
	}
	if want := rfb.VncResponse(password, challenge); subtle.ConstantTimeCompare(want[:], response[:]) == 1 {
		return rfb.WriteResult(conn, minor, "")
	}
	select {
	case <-time.After(wrongPause):
	case <-ctx.Done():
	}
	return errors.Join(errPassword, rfb.WriteResult(conn, minor, errPassword.Error()))
}

// title is the window's: where in the recording it is.
func title(f *record.File, at time.Duration) string {
	return fmt.Sprintf("%s / %s · %s", Clock(at), Clock(f.Duration), f.Name)
}

// Clock is a time as hours, minutes and seconds.
func Clock(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

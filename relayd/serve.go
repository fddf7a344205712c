package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/admin"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/door"
	"github.com/helmline/helmline/relayd/gate"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/store"
	"github.com/helmline/helmline/relayd/turnstile"
	"github.com/helmline/helmline/relayd/web"
)

// auditDir is the folder of the audit log in the state directory.
const auditDir = "audit"

// drainTime is how long sessions and handshakes have to end when relayd is stopped.
const drainTime = 5 * time.Second

// serve runs relayd until SIGTERM or SIGINT, or until a part fails.
func serve(c *conf.Relay) error {
	log := newLog(c.Log, os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends relayd at once
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return run(ctx, c, log, hup)
}

// run starts the parts of relayd. It returns when ctx ends, everything being drained and closed, or when a part fails.
// Each value of reload has the certificate read again.
func run(ctx context.Context, c *conf.Relay, log *slog.Logger, reload <-chan os.Signal) (err error) {
	defer runtime.KeepAlive(tunnel.Ballast())
	// What survives a restart.
	db, err := store.Open(ctx, c.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	trail, err := audit.Open(filepath.Join(c.StateDir, auditDir), log)
	if err != nil {
		return err
	}
	seal := runTrail(trail)
	defer func() { err = errors.Join(err, seal()) }() // after all who write to it
	key, err := hostKey(c.StateDir, log)
	if err != nil {
		return err
	}
	cert, err := loadCertificate(c, log)
	if err != nil {
		return err
	}
	log.Info("SSH host key", "sha256", ssh.FingerprintSHA256(key.PublicKey()))

	// People, computers, and the sessions that join them.
	reg := newMetrics()
	people, err := account.New(ctx, c.StateDir, db, trail, log, reg)
	if err != nil {
		return err
	}
	hosts := registry.New(db, people, trail, log, reg)
	desks := broker.New(log, reg, people, hosts, hosts.Codes(), trail)

	// The doors.
	lobby := &lobby{log: log, penalties: turnstile.NewPenalties(), counts: turnstile.NewCounts(reg)}
	sshDoor := &gate.Gate{Log: log, Name: c.Name, HostKey: key, People: people, Computers: hosts, Desks: desks, Penalties: lobby.penalties}
	rfbDoor := &door.RFB{TLS: cert.server(), People: people, Desks: desks}
	codeDoor := &door.Code{TLS: cert.server(), Codes: hosts.Codes(), Guesses: people, Desks: desks, Offers: []rfb.SecurityType{rfb.SecVeNCrypt}}
	clearDoor := &door.Code{Codes: hosts.Codes(), Guesses: people, Desks: desks, Offers: []rfb.SecurityType{rfb.SecVncAuth}}
	people.OnRevoke(func(id int64, why string) {
		desks.EndAccount(id, why)
		sshDoor.EndAccount(id)
	})
	hosts.OnRights(desks.RightChanged)

	// Every port is opened before anybody is served.
	ports, err := openPorts(c, log)
	if err != nil {
		return err
	}
	defer ports.close()
	if isLoopback(ports.rfbCode) {
		codeDoor.Offers = append(codeDoor.Offers, rfb.SecVncAuth)
	}

	webDoor, err := web.New(ctx, web.Config{
		Log: log, Name: c.Name, TLS: cert.server(), People: people, Computers: hosts, Desks: desks, Sessions: desks, Trail: trail, Kept: db, Ways: ways(c, ports, key),
	})
	if err != nil {
		return err
	}

	local, err := admin.Listen(c.Socket())
	if err != nil {
		return err
	}
	defer local.Close()
	office := &admin.Server{
		People: people, Computers: hosts, Sessions: desks, Trail: trail, Log: log,
		Relay: net.JoinHostPort(c.Name, port(ports.ssh)), HostKey: ssh.FingerprintSHA256(key.PublicKey()),
		Fingerprints: func() []admin.Fingerprint { return fingerprints(key, cert) },
	}

	health := &health{store: db}
	g, working := errgroup.WithContext(context.Background())
	registered, endHosts := context.WithCancel(context.Background())
	defer endHosts()
	hostsEnded := make(chan struct{})
	g.Go(func() error { defer close(hostsEnded); return hosts.Run(registered) })
	g.Go(func() error { return lobby.serve(working, gate.Door, ports.ssh, sshDoor.Handle) })
	g.Go(func() error { return lobby.serve(working, door.DoorRFB, ports.rfb, rfbDoor.Handle) })
	g.Go(func() error { return lobby.serve(working, door.DoorCode, ports.rfbCode, codeDoor.Handle) })
	g.Go(func() error {
		return lobby.serve(working, door.DoorCode+"-clear", ports.rfbCodeClear, clearDoor.Handle)
	})
	g.Go(func() error { return lobby.serve(working, web.Door, ports.web, webDoor.Handle) })
	g.Go(func() error { return serveMetrics(working, ports.metrics, reg, health, log) })
	g.Go(func() error { return office.Serve(working, local) })
	g.Go(func() error { return tellSystemd(working, desks, cert, reload, log) })
	g.Go(func() error { // stops the others in order
		select {
		case <-ctx.Done():
		case <-working.Done():
		}
		health.draining.Store(true)
		notify(stopping)
		log.Info("stopping")
		ports.closeDoors()
		webDoor.Stop()
		drain, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		desks.Shutdown(drain)
		endHosts()
		<-hostsEnded
		return errStopped
	})
	health.serving.Store(true)
	notify(ready)
	log.Info("ready", "name", c.Name, "version", versionText())
	if err := g.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// ways are the doors as pages name them: those that can be reached by the relay's name.
func ways(c *conf.Relay, p *ports, key ssh.Signer) web.Ways {
	at := func(l net.Listener) string {
		if l == nil {
			return ""
		}
		return net.JoinHostPort(c.Name, port(l))
	}
	code := p.rfbCode
	if addr, err := netip.ParseAddr(c.Name); code == nil && (c.Name == "localhost" || err == nil && addr.IsLoopback() || !isLoopback(p.rfbCodeClear)) {
		code = p.rfbCodeClear
	}
	return web.Ways{RFB: at(p.rfb), Code: at(code), SSH: at(p.ssh), HostKey: ssh.FingerprintSHA256(key.PublicKey())}
}

// errStopped ends run's parts once sessions are drained.
var errStopped = errors.New("stopped")

// A lobby is what the doors share: a source that misbehaved at one of them, and the metrics.
type lobby struct {
	log       *slog.Logger
	penalties *turnstile.Penalties
	counts    *turnstile.Counts
}

// serve lets people in at one door until l is closed and they have gone. A door that is off has no l.
func (b *lobby) serve(ctx context.Context, name string, l net.Listener, handle func(ctx context.Context, conn net.Conn, at *turnstile.Place) error) error {
	if l == nil {
		return nil
	}
	d := &turnstile.Door{Name: name, Log: b.log, Turnstile: turnstile.New(turnstile.Standard()), Counts: b.counts, Handle: handle}
	if name == gate.Door {
		d.Penalties = b.penalties
	}
	return d.Serve(ctx, l)
}

// runTrail keeps the audit log on the disk until the function it returns is called, which closes the log.
func runTrail(trail *audit.Log) (seal func() error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- trail.Run(ctx) }()
	return func() error {
		stop()
		return errors.Join(<-ended, trail.Close())
	}
}

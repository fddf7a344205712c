package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/hostd/desktop"
)

// Names for people and things that are there for the bench alone.
const (
	account   = "bench@example.com"
	computer  = "bench"
	ownerName = "helmline-bench"
	netName   = "helmline-bench-n"
)

// A server is one way to serve the display. It runs only while it is measured.
type server struct {
	name  string
	start func(context.Context) (*serving, error)
	many  bool // it is measured with several viewers, too
	logs  string
}

// log is the end of what the server said.
func (s *server) log(b *bench) string { return rig.Tail(b.file(s.logs), 8) }

// A serving is a server that runs.
type serving struct {
	procs   []*rig.Process // to measure
	address string         // for the viewer
	more    string         // for further viewers
	args    []string       // of the viewer
	code    string         // that further viewers type
	end     func()
}

func (s *serving) roots() []int {
	var pids []int
	for _, p := range s.procs {
		pids = append(pids, p.Pid)
	}
	return pids
}

// The servers' names in the table. The goals are ratios to the peers.
const (
	ours     = "hostd"
	relayed  = "hostd behind relayd"
	x0vnc    = "x0tigervncserver"
	x11tuned = "x11vnc tuned"
	x11plain = "x11vnc"
)

func (b *bench) servers() []*server {
	return []*server{
		{ours, b.startHostd, true, "bare.log"},
		{relayed, b.startRelayed, false, "joined.log"},
		{x0vnc, b.peer("X0tigervnc", func(port string) []string {
			args := []string{"-display", b.desk.Display, "-rfbport", port, "-SecurityTypes", "None"}
			if !b.away() {
				args = append(args, "-localhost")
			}
			return args
		}), true, "X0tigervnc.log"},
		{x11tuned, b.peer("x11vnc", func(port string) []string { return b.x11vnc(port, "-wait", "2", "-defer", "2") }), true, "x11vnc.log"},
		{x11plain, b.peer("x11vnc", func(port string) []string { return b.x11vnc(port) }), true, "x11vnc.log"},
	}
}

func (b *bench) x11vnc(port string, more ...string) []string {
	return append([]string{"-display", b.desk.Display, "-auth", b.desk.Xauthority, "-rfbport", port, "-listen", b.far.address, "-noipv6", "-forever", "-shared", "-nopw", "-q"}, more...)
}

// peer starts a server of somebody else's, where the screen is and as its owner: X shares memory with no other user.
func (b *bench) peer(program string, args func(port string) []string) func(context.Context) (*serving, error) {
	return func(ctx context.Context) (*serving, error) {
		const port = "5999" // of this run alone where there is a link; else the first that is free from here on
		at, err := b.freePort(port)
		if err != nil {
			return nil, err
		}
		p, err := b.set.Start(ctx, rig.Program{
			Args: append([]string{program}, args(at)...), Env: []string{"XAUTHORITY=" + b.desk.Xauthority}, User: b.desk.User, Network: b.far.namespace, Log: b.file(program + ".log"),
		})
		if err != nil {
			return nil, err
		}
		address := net.JoinHostPort(b.far.address, at)
		err = rig.Until(ctx, program+" listens", func() (bool, error) {
			out, err := b.set.Output(ctx, rig.Program{Args: []string{"ss", "-Hltn", "sport = :" + at}, Network: b.far.namespace})
			return out != "", err
		})
		if err != nil {
			p.End()
			return nil, fmt.Errorf("%w\n%s", err, rig.Tail(b.file(program+".log"), 5))
		}
		return &serving{procs: []*rig.Process{p}, address: address, more: address, end: p.End}, nil
	}
}

func (b *bench) freePort(first string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", first))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// prepareHosts makes two computers out of one: one whose tunnel ends at a door and one that belongs to a relay. Both door
// and relay stand where the viewers are and run all the time; hostd only while it is measured.
func (b *bench) prepareHosts(ctx context.Context) error {
	var err error
	if b.netUser, err = b.set.MakeUser(ctx, netName, true); err != nil {
		return err
	}
	b.code, b.password = rig.Secret(10), rig.Secret(12)
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := b.set.Start(ctx, rig.Program{Args: []string{exe, "door", b.near.address, b.file("ways")}, Network: b.near.namespace, Log: b.file("door.log"), Notify: true}); err != nil {
		return err
	}
	text, err := os.ReadFile(b.file("ways"))
	if err == nil {
		err = json.Unmarshal(text, &b.ways)
	}
	if err != nil {
		return err
	}
	if err := b.prepareRelay(ctx); err != nil {
		return err
	}
	if b.bare, err = b.prepareHost(ctx, "bare", nil); err != nil {
		return err
	}
	e := desktop.Enrolment{Addr: b.ways.SSH, RelayKey: b.ways.Key, ID: "1", Name: computer, RelayName: "bench"}
	dir := b.file("bare-net")
	if err := errors.Join(e.Save(dir), os.Chown(filepath.Join(dir, desktop.EnrolmentFile), b.netUser.UID, b.netUser.GID)); err != nil {
		return err
	}
	b.joined, err = b.prepareHost(ctx, "joined", func(d *rig.Daemon) error { return rig.Enrol(ctx, b.relay, d, account, computer) })
	return err
}

// prepareHost runs hostd for the first time, which makes its state.
func (b *bench) prepareHost(ctx context.Context, name string, enrol func(*rig.Daemon) error) (*rig.Daemon, error) {
	config := fmt.Sprintf("state_dir = %q\n[display]\nsource = %q\nxauthority = %q\n[login]\naccess_account = %q\n[net]\nuser = %q\n",
		b.file(name), b.desk.Display, b.desk.Xauthority, ownerName, netName)
	if err := os.WriteFile(b.file(name+".toml"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	d := b.set.Host(b.binaries, b.file(name+".toml"), b.file(name+".log"))
	d.Network = b.far.namespace
	p, err := d.Serve(ctx)
	if err != nil {
		return nil, err
	}
	defer p.End()
	if enrol != nil {
		if err := enrol(d); err != nil {
			return nil, err
		}
	}
	_, err = d.Do(ctx, b.code+"\n", "code", "set", "--stdin")
	return d, err
}

// Doors of relayd; it has an address of its own or ports that nobody else is likely to have.
const relaySSH, relayRFB = "22222", "25900"

func (b *bench) prepareRelay(ctx context.Context) error {
	config := fmt.Sprintf("name = %q\nstate_dir = %q\n[ssh]\nlisten = %q\n[rfb]\nlisten = %q\n[rfb_code]\nlisten = \"\"\n[web]\nlisten = \"\"\n[metrics]\nlisten = \"\"\n",
		b.near.address, b.file("relayd"), net.JoinHostPort(b.near.address, relaySSH), net.JoinHostPort(b.near.address, relayRFB))
	if err := os.WriteFile(b.file("relayd.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	b.relay = b.set.Relay(b.binaries, b.file("relayd.toml"), b.file("relayd.log"))
	b.relay.Network = b.near.namespace
	var err error
	if b.relayProc, err = b.relay.Serve(ctx); err != nil {
		return err
	}
	_, err = b.relay.Do(ctx, b.password+"\n", "account", "add", account, "--password-stdin")
	return err
}

// startHostd starts hostd with its tunnel to the door. hostd alone is measured.
func (b *bench) startHostd(ctx context.Context) (*serving, error) {
	p, err := b.serveHost(ctx, b.bare)
	if err != nil {
		return nil, err
	}
	return &serving{procs: []*rig.Process{p}, address: b.ways.Control, more: b.ways.Watch, args: []string{"type=" + b.code}, code: b.code, end: p.End}, nil
}

// startRelayed starts hostd with its tunnel to relayd. Both are measured, and the viewer's TLS ends at relayd.
func (b *bench) startRelayed(ctx context.Context) (*serving, error) {
	p, err := b.serveHost(ctx, b.joined)
	if err != nil {
		return nil, err
	}
	args := []string{"type=" + b.code, "user=" + account + "/" + computer, "password=" + b.password, "ca=" + filepath.Join(b.file("relayd"), "tls.pem")}
	return &serving{procs: []*rig.Process{p, b.relayProc}, address: net.JoinHostPort(b.near.address, relayRFB), args: args, end: p.End}, nil
}

// serveHost starts hostd and returns when its tunnel is up.
func (b *bench) serveHost(ctx context.Context, d *rig.Daemon) (*rig.Process, error) {
	p, err := d.Serve(ctx)
	if err != nil {
		return nil, err
	}
	err = rig.Until(ctx, "hostd is online", func() (bool, error) {
		out, err := d.Do(ctx, "", "status", "--json")
		return strings.Contains(out, `"online": true`), err
	})
	if err != nil {
		p.End()
		return nil, err
	}
	return p, nil
}

// Command screen measures hostd's RFB server beside x11vnc and x0tigervncserver: the same work on one display, served by
// each in turns within one run, to a viewer that decodes (libvncclient). Only ratios taken in one run count. It needs root,
// Xvfb, gcc with libvncclient, the peers, and for a link ip and tc, and prints a table in Markdown.
//
//	go run ./.ci/bench/screen -rounds 1 -seconds 5 -only typing,film
//
// hostd's tunnel ends at a door that only joins (door.go), so its figures hold the tunnel's encryption, which the peers do
// not have; a second column is taken behind relayd, with relayd's work and the viewer's TLS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/.ci/bench/link"
	"github.com/helmline/helmline/.ci/rig"
)

// parts are the processes that a bench is made of.
var parts = map[string]func(args []string) error{"door": door, "skim": skim}

func main() {
	var err error
	if len(os.Args) > 1 && parts[os.Args[1]] != nil {
		err = parts[os.Args[1]](os.Args[2:])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "screen bench:", err)
		os.Exit(1)
	}
}

// What a bench does.
type options struct {
	rounds  int
	seconds int
	only    []string
	beside  []string
	rate    int // Mbit/s of the link between viewer and computer; 0: no limit
	trip    int // ms of its round trip; 0 with rate 0: no link
	many    bool
	bin     string
}

func run() error {
	var o options
	var only, servers string
	flag.IntVar(&o.rounds, "rounds", 5, "how often each figure is taken; medians are printed")
	flag.IntVar(&o.seconds, "seconds", 10, "of each measurement")
	flag.StringVar(&only, "only", "", "loads whose names begin so, separated by commas")
	flag.StringVar(&servers, "servers", "", "servers of exactly these names, separated by commas")
	flag.IntVar(&o.rate, "rate", 0, "Mbit/s of a link between viewer and computer; 0: no limit")
	flag.IntVar(&o.trip, "trip", 0, "ms of the link's round trip; 0: no link, unless there is a rate")
	flag.BoolVar(&o.many, "many", true, "measure the film with 4 and 10 viewers, too, and typing with 10, one of them behind a slow link")
	flag.StringVar(&o.bin, "bin", "bin", "folder of relayd and hostd")
	flag.Parse()
	o.only = strings.FieldsFunc(only, comma)
	o.beside = strings.FieldsFunc(servers, comma)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	b := &bench{options: o, set: new(rig.Set)}
	err := b.all(ctx)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	b.set.Close()
	if len(b.cells) > 0 {
		b.print(os.Stdout)
	}
	return err
}

func comma(r rune) bool { return r == ',' }

// A place is where a process runs: a network namespace and its address, or this machine's loopback.
type place struct{ namespace, address string }

// A bench keeps what was started and what was measured.
type bench struct {
	options
	set       *rig.Set
	dir       string
	binaries  rig.Binaries
	near, far place // of viewers, doors and relays; of the computer
	desk      *rig.Desktop

	netUser        *rig.User
	code, password string // of the computer; of the account
	ways           ways
	relay          *rig.Daemon
	relayProc      *rig.Process
	bare, joined   *rig.Daemon

	cells map[cell][]*figures // of each round
	links string              // what lies between viewer and computer, for the table
}

// away says that a link lies between viewer and computer.
func (b *bench) away() bool { return b.rate > 0 || b.trip > 0 }

func (b *bench) gate() gate {
	if b.rate > 0 {
		return coarse
	}
	return good
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// A row is a load with a number of viewers.
type row struct {
	*load
	viewers int
	slow    bool // one of the further viewers reads no more than slowRate
}

func (r row) title() string {
	switch {
	case r.slow:
		return fmt.Sprintf("%s, %d viewers, one of them at 50 kbit/s", r.name, r.viewers)
	case r.viewers > 1:
		return fmt.Sprintf("%s, %d viewers", r.name, r.viewers)
	}
	return r.name
}

// A cell is what one server did with one row.
type cell struct {
	row    row
	server string
}

func (b *bench) all(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can do this: it makes users")
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	servers := slices.DeleteFunc(b.servers(), func(s *server) bool { return len(b.beside) > 0 && !slices.Contains(b.beside, s.name) })
	b.cells = make(map[cell][]*figures)
	for round := range b.rounds {
		for _, r := range b.rows() {
			if err := b.round(ctx, r, servers, round); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return nil
}

// rows are what is measured.
func (b *bench) rows() []row {
	var rows []row
	for _, l := range loads {
		if len(b.only) > 0 && !slices.ContainsFunc(b.only, func(begin string) bool { return strings.HasPrefix(l.name, begin) }) {
			continue
		}
		rows = append(rows, row{l, 1, false})
		if b.many && l == manyLoad {
			rows = append(rows, row{l, 4, false}, row{l, 10, false})
		}
		if b.many && l.typed {
			rows = append(rows, row{l, 10, false}, row{l, 10, true})
		}
	}
	return rows
}

// round measures a row once with every server, in another order each time.
func (b *bench) round(ctx context.Context, r row, servers []*server, round int) error {
	s, err := newStage(b.desk)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := r.setUp(s)
	if err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	alone := b.alone(ctx, s, p, r.load)
	for i := range servers {
		sv := servers[(i+round)%len(servers)]
		if r.viewers > 1 && !sv.many {
			continue
		}
		f, err := b.measure(ctx, s, p, r, sv)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s, %s: %v\n%s\n", r.name, sv.name, err, sv.log(b))
			continue
		}
		f.x -= alone
		b.cells[cell{r, sv.name}] = append(b.cells[cell{r, sv.name}], f)
		fmt.Fprintf(os.Stderr, "%d of %d: %s, %s: %s\n", round+1, b.rounds, r.title(), sv.name, f)
	}
	return nil
}

// prepare starts what runs all the time.
func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.dir, err = os.MkdirTemp("/tmp", "helmline-bench-"); err != nil {
		return err
	}
	b.set.Cleanup(func() { os.RemoveAll(b.dir) })
	if err := os.Chmod(b.dir, 0o711); err != nil {
		return err
	}
	b.binaries = rig.Binaries(b.file("bin"))
	if err := os.Mkdir(string(b.binaries), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"relayd", "hostd", "hostd-pam"} {
		if err := rig.CopyFile(filepath.Join(b.bin, name), filepath.Join(string(b.binaries), name), 0o755); err != nil {
			return fmt.Errorf("%w; make build", err)
		}
	}
	b.near, b.far, b.links = place{"", "127.0.0.1"}, place{"", "127.0.0.1"}, "loopback"
	if b.away() {
		l, err := link.New(fmt.Sprintf("sb%d", os.Getpid()%10000), link.Path{Delay: time.Duration(b.trip) * time.Millisecond / 2, Rate: b.rate * 1e6})
		if err != nil {
			return err
		}
		b.set.Cleanup(func() { _ = l.Close() })
		b.near, b.far = place{l.A.Namespace, l.A.Addr.String()}, place{l.B.Namespace, l.B.Addr.String()}
		b.links = fmt.Sprintf("a round trip of %d ms", b.trip)
		if b.rate > 0 {
			b.links = fmt.Sprintf("%d Mbit/s and %s", b.rate, b.links)
		}
	}
	owner, err := b.set.MakeUser(ctx, ownerName, false)
	if err != nil {
		return err
	}
	home := b.file("desktop")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, owner.UID, owner.GID)); err != nil {
		return err
	}
	size := fmt.Sprintf("%dx%d", screenSize.X, screenSize.Y)
	if b.desk, err = b.set.StartDesktop(ctx, owner, rig.Xvfb, size, home, b.file("desktop.log")); err != nil {
		return err
	}
	if err := b.buildViewer(ctx); err != nil {
		return err
	}
	return b.prepareHosts(ctx)
}

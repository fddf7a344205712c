// Command relay measures a tunnel beside OpenSSH's -R: a raw TCP service stands behind each, and both carry the same
// traffic in turns within one run. Only ratios taken in one run count. It needs root, sshd, ip and tc, and prints a
// table in Markdown.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/.ci/bench/link"
)

func main() {
	var err error
	if len(os.Args) > 1 && parts[os.Args[1]] != nil {
		err = parts[os.Args[1]](os.Args[2:])
	} else {
		err = bench()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay bench:", err)
		os.Exit(1)
	}
}

// What a bench does.
type options struct {
	rounds int
	bytes  int64
	pings  int
	secs   int
	only   string
}

func bench() error {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each figure is taken; medians are printed")
	flag.Int64Var(&o.bytes, "mb", 1000, "megabytes of a transfer on loopback")
	flag.IntVar(&o.pings, "pings", 3000, "pings on the idle tunnel")
	flag.IntVar(&o.secs, "seconds", 8, "of pings beside bulk")
	flag.StringVar(&o.only, "only", "", `"loopback" or "link"`)
	flag.Parse()
	o.bytes *= 1e6

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, unix.SIGTERM)
	failed := make(chan error, 1)
	b := &run{options: o}
	go func() { failed <- b.all() }()
	var err error
	select {
	case err = <-failed:
	case <-stop:
		err = errors.New("interrupted")
	}
	b.clean()
	if err == nil {
		b.print(os.Stdout)
	}
	return err
}

func (b *run) all() error {
	dir, err := os.MkdirTemp("", "relay-bench")
	if err != nil {
		return err
	}
	b.later(func() { _ = os.RemoveAll(dir) })
	b.dir = dir
	if b.only != "link" {
		if err := b.loopback(); err != nil {
			return err
		}
	}
	if b.only != "loopback" {
		return b.link()
	}
	return nil
}

// loopback measures both tunnels where nothing but this machine is the limit.
func (b *run) loopback() error {
	systems, err := b.start(here, here)
	if err != nil {
		return err
	}
	defer b.stop()
	mb := fmt.Sprint(b.bytes)
	for range b.rounds {
		for _, s := range systems {
			for _, t := range []struct{ row, kind, streams string }{
				{"one stream down, MB/s", "down", "1"},
				{"one stream up, MB/s", "up", "1"},
				{"8 streams down, MB/s", "down", "8"},
			} {
				before := s.cpu()
				r, err := b.client(here, s, t.kind, mb, t.streams)
				if err != nil {
					return err
				}
				b.note(t.row, s.name, r.Rate/1e6)
				if t.row == "one stream down, MB/s" {
					b.note("CPU of both daemons, s/GB, one stream down", s.name, (s.cpu()-before)/float64(b.bytes)*1e9)
				}
			}
			r, err := b.client(here, s, "ping", fmt.Sprint(b.pings), "0")
			if err != nil {
				return err
			}
			b.note("ping idle, p50 µs", s.name, r.P50)
			b.note("ping idle, p99 µs", s.name, r.P99)
			r, err = b.client(here, s, "load-down", "2", "5ms")
			if err != nil {
				return err
			}
			b.note("ping beside bulk on loopback, p50 µs", s.name, r.P50)
			b.note("ping beside bulk on loopback, p99 µs", s.name, r.P99)
		}
	}
	return nil
}

// The path of the loaded pings.
const (
	linkRate  = 100e6 // bits a second
	linkDelay = 20 * time.Millisecond
)

// link measures pings beside a transfer that fills a slow path.
func (b *run) link() error {
	l, err := link.New(fmt.Sprintf("rb%d", os.Getpid()%10000), link.Path{Delay: linkDelay, Rate: linkRate})
	if err != nil {
		return err
	}
	b.later(func() { _ = l.Close() })
	relay, host := place{l.A.Namespace, l.A.Addr.String()}, place{l.B.Namespace, l.B.Addr.String()}
	systems, err := b.start(relay, host)
	if err != nil {
		return err
	}
	defer b.stop()
	for range b.rounds {
		for _, s := range systems {
			r, err := b.client(relay, s, "ping", "50", "0")
			if err != nil {
				return err
			}
			b.note("40 ms: ping idle, p50 ms", s.name, r.P50/1e3)
			for _, way := range []string{"down", "up"} {
				r, err := b.client(relay, s, "load-"+way, fmt.Sprint(b.secs), "50ms")
				if err != nil {
					return err
				}
				b.note("100 Mbit/s, 40 ms, bulk "+way+": ping p50 ms", s.name, r.P50/1e3)
				b.note("100 Mbit/s, 40 ms, bulk "+way+": ping p99 ms", s.name, r.P99/1e3)
				b.note("100 Mbit/s, 40 ms, bulk "+way+": share of the link, %", s.name, r.Rate*8/linkRate*100)
			}
		}
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

// Demo is "make demo": it starts relayd and hostd with throw-away state, makes an account, enrols this computer, sets an access
// code, says where to point a viewer, and runs until it is interrupted. Then it ends everything that it started.
// Scripts find the same facts in .demo/env. It is run at the top of the tree, after the programs were built into bin/.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/.ci/rig"
)

// startTime is how long everything together may take to come up.
const startTime = 2 * time.Minute

func main() {
	address := flag.String("address", loopback, "where the doors listen; 0.0.0.0 lets other machines come, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	runtime.LockOSThread() // the kernel ties the next to a thread
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err := run(ctx, *address); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// run starts the parts one by one and keeps them running until ctx ends.
func run(ctx context.Context, address string) error {
	if _, err := netip.ParseAddr(address); err != nil {
		return fmt.Errorf("-address %q is no IP address; write one, as in 0.0.0.0", address)
	}
	p, err := newPlace()
	if err != nil {
		return err
	}
	defer p.close()
	var set rig.Set
	defer say("ended; everything that was started is gone")
	defer set.Close()

	d := &demo{place: p, set: &set, address: address}
	if err := d.packages(ctx); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, step := range []func(context.Context) error{
		d.users, d.screen, d.settings, d.relay, d.host, d.people, d.try, d.tell,
	} {
		if err := step(starting); err != nil {
			return interrupted(ctx, err)
		}
	}
	cancel()
	return interrupted(ctx, d.watch(ctx))
}

// interrupted drops an error that only says that the person has had enough.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		say("interrupted, ending")
		return nil
	}
	return err
}

func say(format string, args ...any) { fmt.Printf("demo: "+format+"\n", args...) }

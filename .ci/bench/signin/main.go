// Signin measures whether the time of a refused sign-in tells if the account is there: medians of 400 tries each, in turn,
// with a wrong password, at an unknown account and at a disabled one, with the costs that relayd really has. It fails
// when two medians differ by 5 % or more.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/store"
)

// most is how much two medians may differ.
const most = 0.05

func main() {
	tries := flag.Int("tries", 400, "sign-ins of each kind")
	flag.Parse()
	if err := run(*tries); err != nil {
		fmt.Fprintln(os.Stderr, "signin:", err)
		os.Exit(1)
	}
}

// A kind is one way to be refused.
type kind struct {
	name  string
	email string // with a place for a number
	times []time.Duration
}

func (k *kind) median() time.Duration {
	slices.Sort(k.times)
	return k.times[len(k.times)/2]
}

func run(tries int) error {
	top, err := os.MkdirTemp("", "signin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	ctx, dir := context.Background(), filepath.Join(top, "state")
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer st.Close()
	trail, err := audit.Open(filepath.Join(dir, "audit"), log)
	if err != nil {
		return err
	}
	defer trail.Close()
	people, err := account.New(ctx, dir, st, trail, log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	kinds := []*kind{{name: "wrong password", email: "alice%d@example.com"}, {name: "unknown account", email: "nobody%d@example.com"}, {name: "disabled account", email: "off%d@example.com"}}
	for n := range (tries + perAccount - 1) / perAccount {
		known, off := fmt.Sprintf(kinds[0].email, n), fmt.Sprintf(kinds[2].email, n)
		for _, email := range []string{known, off} {
			if _, err := people.Add(ctx, email, []byte("a long enough word"), false); err != nil {
				return err
			}
		}
		if err := people.Disable(ctx, off); err != nil {
			return err
		}
	}
	for i := range tries {
		for j := range kinds { // in turn, so that what else the machine does hits all alike
			k := kinds[(i+j)%len(kinds)]
			took, err := refusal(ctx, people, fmt.Sprintf(k.email, i/perAccount), i)
			if err != nil {
				return fmt.Errorf("%s, try %d: %w", k.name, i+1, err)
			}
			k.times = append(k.times, took)
		}
	}
	first := kinds[0].median()
	fmt.Printf("refused sign-ins, median of %d\n", tries)
	worst := 0.0
	for _, k := range kinds {
		off := float64(k.median()-first) / float64(first)
		worst = max(worst, math.Abs(off))
		fmt.Printf("%-18s %8.2f ms %+6.2f %%\n", k.name, float64(k.median().Microseconds())/1000, 100*off)
	}
	if worst >= most {
		return fmt.Errorf("the medians differ by %.1f %%; less than %.0f %% is wanted", 100*worst, 100*most)
	}
	return nil
}

// perAccount is how many failures at one account relayd takes before it slows the next ones down.
const perAccount = 50

// refusal times one sign-in that is refused. Each comes from a source of its own.
func refusal(ctx context.Context, people *account.Service, email string, i int) (time.Duration, error) {
	src := netip.AddrFrom4([4]byte{198, byte(18 + i>>8), byte(i), 1}) // each in a network of its own: failures are counted for that, too
	began := time.Now()
	_, err := people.SignIn(ctx, email, []byte("a wrong password"), src, "bench")
	took := time.Since(began)
	if !refuse.SignIn.Is(err) {
		return 0, fmt.Errorf("not refused as a wrong password is: %w", err)
	}
	return took, nil
}

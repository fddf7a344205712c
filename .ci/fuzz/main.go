// Fuzz runs every fuzz target of the module for a while, as many at a time as there are processors, and fails if one
// finds something. What a target found stands in its testdata/fuzz, to be committed with the repair.
//
//	go run ./.ci/fuzz -time 12s
//	go run ./.ci/fuzz -time 10m -keep     also copies what widened the coverage into testdata/fuzz, short inputs first
//	go run ./.ci/fuzz -only FuzzReader    only targets whose name holds this
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What -keep copies for one target at most.
const (
	maxKept      = 12
	maxKeptBytes = 2 << 10 // each
)

// A target is one fuzz function in a test program that was built once for its package.
type target struct {
	pkg, dir, program, name string
}

func main() {
	each := flag.Duration("time", 12*time.Second, "how long each target runs")
	parallel := flag.Int("parallel", runtime.NumCPU(), "targets at a time")
	only := flag.String("only", "", "part of a target's name")
	keep := flag.Bool("keep", false, "copy what widened the coverage into testdata/fuzz")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *each, *parallel, *only, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration, parallel int, only string, keep bool) error {
	programs, err := os.MkdirTemp("", "helmline-fuzz-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	targets, err := build(ctx, programs)
	if err != nil {
		return err
	}
	targets = slices.DeleteFunc(targets, func(t target) bool { return !strings.Contains(t.name, only) })
	if len(targets) == 0 {
		return errors.New("no target found")
	}
	fmt.Printf("fuzz: %d targets, %v each, %d at a time\n", len(targets), each, parallel)

	var (
		wait   sync.WaitGroup
		mu     sync.Mutex // guards failed and the order of what is printed
		failed []string
		slots  = make(chan struct{}, parallel)
	)
	for _, t := range targets {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			out, err := t.run(ctx, each)
			if err == nil && keep {
				err = t.keep()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fmt.Printf("--- %s %s: %v\n%s\n", t.pkg, t.name, err, out)
				failed = append(failed, t.name)
				return
			}
			fmt.Printf("ok  %s %s  %s\n", t.pkg, t.name, last(out))
		})
	}
	wait.Wait()
	if failed != nil {
		return fmt.Errorf("%s failed", strings.Join(failed, ", "))
	}
	return ctx.Err()
}

// build makes one instrumented test program for each package that has fuzz targets, and lists them.
func build(ctx context.Context, into string) ([]target, error) {
	list, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{join .TestGoFiles \"\t\"}}\t{{join .XTestGoFiles \"\t\"}}", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var targets []target
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if !slices.ContainsFunc(f[2:], func(file string) bool {
			text, err := os.ReadFile(filepath.Join(f[1], file))
			return err == nil && bytes.Contains(text, []byte("\nfunc Fuzz"))
		}) {
			continue
		}
		program := filepath.Join(into, strings.NewReplacer("/", "_", ".", "_").Replace(f[0]))
		if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=.", "-o", program, f[0]).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", f[0], err, out)
		}
		cmd := exec.CommandContext(ctx, program, "-test.list", "^Fuzz")
		cmd.Dir = f[1]
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("list the targets of %s: %w", f[0], err)
		}
		for _, name := range strings.Fields(string(out)) {
			targets = append(targets, target{f[0], f[1], program, name})
		}
	}
	return targets, nil
}

// cache is where the Go tool keeps what a target has found interesting, so that runs by hand and by this program share it.
func (t target) cache() (string, error) {
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "fuzz", t.pkg), err
}

func (t target) run(ctx context.Context, each time.Duration) (output []byte, err error) {
	cache, err := t.cache()
	if err != nil {
		return nil, err
	}
	// An input that only widens the coverage is made smaller for a second at most, not for the default of a minute.
	cmd := exec.CommandContext(ctx, t.program, "-test.run", "^$", "-test.fuzz", "^"+t.name+"$", "-test.fuzztime", each.String(),
		"-test.fuzzminimizetime", "1s", "-test.fuzzcachedir", cache, "-test.parallel", "1", "-test.timeout", (each + 5*time.Minute).String())
	cmd.Dir = t.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends its workers
	output, err = cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil && ranOut(output) {
		err = nil
	}
	return output, err
}

// ranOut says that the one thing the fuzzer complains of is the end of its own time: now and then the Go tool reports that as a failure
// when it comes while a worker is being told. A finding names the failing input or gives the target's own words, so it is never taken for this.
func ranOut(output []byte) bool {
	_, verdict, failed := strings.Cut(string(output), "\n--- FAIL: ")
	_, verdict, _ = strings.Cut(verdict, "\n")
	return failed && strings.TrimSpace(verdict) == "context deadline exceeded\nFAIL"
}

// keep copies inputs that widened the coverage from the cache into the tree, the shortest first.
func (t target) keep() error {
	cache, err := t.cache()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(cache, t.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var inputs [][]byte
	for _, e := range entries {
		in, err := os.ReadFile(filepath.Join(cache, t.name, e.Name()))
		if err != nil {
			return err
		}
		if len(in) <= maxKeptBytes {
			inputs = append(inputs, in)
		}
	}
	slices.SortFunc(inputs, func(a, b []byte) int { return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b)) })
	into := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	step := max(1, len(inputs)/maxKept) // some of every length
	for i := 0; i < len(inputs) && i/step < maxKept; i += step {
		sum := sha256.Sum256(inputs[i])
		if err := os.WriteFile(filepath.Join(into, fmt.Sprintf("%x", sum[:8])), inputs[i], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// last is the last progress line that the fuzzer printed.
func last(out []byte) string {
	line := ""
	for l := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(l, "fuzz: elapsed: "); ok {
			line = strings.TrimSpace(rest)
		}
	}
	return line
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A place is where a process runs: a network namespace and its address, or this machine's loopback.
type place struct{ namespace, addr string }

var here = place{"", "127.0.0.1"}

func (p place) command(name string, args ...string) *exec.Cmd {
	if p.namespace == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", p.namespace, name}, args...)...)
}

// A system is one tunnel that is measured.
type system struct {
	name  string
	entry string // host:port at the relay that leads to the service
	pids  []int  // of its daemons
}

// A run keeps what was started and what was measured.
type run struct {
	options
	dir     string
	rows    []string
	figures map[string]map[string][]float64 // row, system

	mu       sync.Mutex // guards what follows
	cleanups []func()
	procs    []*exec.Cmd
}

func (b *run) later(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, f)
}

// stop ends the processes, the computers' before the relays'.
func (b *run) stop() {
	b.mu.Lock()
	procs := b.procs
	b.procs = nil
	b.mu.Unlock()
	slices.Reverse(procs)
	for _, p := range procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
}

func (b *run) clean() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
}

func (b *run) note(row, name string, value float64) {
	if b.figures == nil {
		b.figures = make(map[string]map[string][]float64)
	}
	if b.figures[row] == nil {
		b.figures[row] = make(map[string][]float64)
		b.rows = append(b.rows, row)
	}
	b.figures[row][name] = append(b.figures[row][name], value)
}

func (b *run) print(w io.Writer) {
	fmt.Fprintf(w, "| medians of %d | %s |", b.rounds, ours)
	for _, p := range peers {
		fmt.Fprintf(w, " %s | ratio |", p.name)
	}
	fmt.Fprintf(w, "\n|---|---|%s\n", strings.Repeat("---|---|", len(peers)))
	for _, row := range b.rows {
		h := median(b.figures[row][ours])
		fmt.Fprintf(w, "| %s | %.4g |", row, h)
		for _, p := range peers {
			o := median(b.figures[row][p.name])
			fmt.Fprintf(w, " %.4g | %.2f |", o, h/o)
		}
		fmt.Fprintln(w)
	}
}

// spawn starts a command and waits for the line "ready WORD", whose word it returns.
func (b *run) spawn(c *exec.Cmd) (string, error) {
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	b.mu.Lock()
	b.procs = append(b.procs, c)
	b.mu.Unlock()
	line, err := bufio.NewReader(out).ReadString('\n')
	word, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		return "", fmt.Errorf("%s said %q, %v", strings.Join(c.Args, " "), line, err)
	}
	return word, nil
}

func (b *run) self(p place, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		exe = "/proc/self/exe"
	}
	return p.command(exe, args...)
}

// start starts both systems with the relay in one place and the computer in another.
func (b *run) start(relay, host place) ([]*system, error) {
	service, err := b.spawn(b.self(host, "service", "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	h, err := b.startHelmline(relay, host, service)
	if err != nil {
		return nil, err
	}
	systems := []*system{h}
	for _, p := range peers {
		o, err := b.startOpenSSH(relay, host, service, p.name, p.cipher)
		if err != nil {
			return nil, err
		}
		systems = append(systems, o)
	}
	return systems, nil
}

const ours = "Helmline"

// OpenSSH as it comes, and with the cipher that is its fastest and Helmline's.
var peers = []struct{ name, cipher string }{
	{"OpenSSH -R", ""},
	{"OpenSSH -R -c aes128-gcm", "aes128-gcm@openssh.com"},
}

func (b *run) startHelmline(relay, host place, service string) (*system, error) {
	r := b.self(relay, "relayd", relay.addr+":0")
	words, err := b.spawn(r)
	if err != nil {
		return nil, err
	}
	w := strings.Split(words, ",") // SSH door, viewers' door, fingerprint
	h := b.self(host, "hostd", w[0], w[2], service)
	if _, err := b.spawn(h); err != nil {
		return nil, err
	}
	return &system{ours, w[1], []int{r.Process.Pid, h.Process.Pid}}, nil
}

// A result is what a client measured.
type result struct {
	Rate     float64 // bytes a second
	P50, P99 float64 // µs
}

func (b *run) client(p place, s *system, args ...string) (result, error) {
	c := b.self(p, append([]string{"client", s.entry}, args...)...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: client %s: %w", s.name, strings.Join(args, " "), err)
	}
	var r result
	return r, json.Unmarshal(out, &r)
}

// cpu is the time that the system's processes and their children have used, seconds.
func (s *system) cpu() float64 {
	parents := make(map[int]int)
	used := make(map[int]float64)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parents[pid], _ = strconv.Atoi(f[1])
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		used[pid] = (user + system) / 100
	}
	var sum float64
	for pid, t := range used {
		for p := pid; p > 1; p = parents[p] {
			if p == s.pids[0] || p == s.pids[1] {
				sum += t
				break
			}
		}
	}
	return sum
}

// waitFor tries until ok, at most 10 s.
func waitFor(what string, ok func() bool) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return nil
		}
	}
	return fmt.Errorf("%s did not happen within 10 s", what)
}

package rig

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Close ends the program, its children, and a child that left its group and session before its parent died.
func TestCloseLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var set Set
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	p, err := set.Start(ctx, Program{Log: log, Args: []string{"sh", "-c",
		`trap "" TERM; sleep 1000 & echo child $!; setsid sh -c 'echo orphan $$; exec sleep 1000' & sleep 1000`}})
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := Until(ctx, "both pids", func() (bool, error) {
		b, err := os.ReadFile(log)
		text = string(b)
		return strings.Count(text, "\n") == 2, err
	}); err != nil {
		t.Fatal(err)
	}
	p.Kill() // the orphan is now a child of this process
	set.Close()
	if left := Children(os.Getpid()); len(left) > 0 {
		t.Errorf("children are left: %v", left)
	}
	if err := syscall.Kill(-p.Pid, 0); err == nil {
		t.Error("the group is left")
	}
	if _, err := set.Start(ctx, Program{Args: []string{"true"}}); err == nil {
		t.Error("a closed set starts programs")
	}
}

func TestNotify(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var set Set
	defer set.Close()
	log := filepath.Join(t.TempDir(), "log")
	_, err := set.Start(ctx, Program{Notify: true, Log: log, Args: []string{"sh", "-c", "echo the reason; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("a program that ends before it is ready: %v", err)
	}
	soon, cancelSoon := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelSoon()
	if _, err := set.Start(soon, Program{Notify: true, Args: []string{"sleep", "1000"}}); err == nil {
		t.Error("a program that never says so is ready")
	}
	if out, err := set.Output(ctx, Program{Args: []string{"cat"}, Stdin: strings.NewReader("in")}); out != "in" || err != nil {
		t.Errorf("cat gives %q, %v", out, err)
	}
}

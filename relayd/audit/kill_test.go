package audit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// child is set for a process that writes to the log in the directory it names until it is killed.
const child = "HELMLINE_TEST_AUDIT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func writeForever(dir string) error {
	l, err := Open(dir, quiet)
	if err != nil {
		return err
	}
	l.max = 100 << 10
	go func() {
		for {
			l.tend(false)
		}
	}()
	for {
		if err := l.Write(context.Background(), Event{Kind: "test"}); err != nil {
			return err
		}
		l.mu.Lock()
		n := l.seq
		l.mu.Unlock()
		fmt.Println(n)
	}
}

// TestKill kills a writing process 30 times: the chain goes on, and holds each record that was acknowledged.
func TestKill(t *testing.T) {
	dir := newDir(t)
	for round := range 30 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 1+round*17 && lines.Scan(); n++ {
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		last := lines.Text()
		for lines.Scan() {
			last = lines.Text()
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
		acknowledged, err := strconv.ParseUint(last, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if r := whole(t, dir); r.Last < acknowledged {
			t.Fatalf("round %d: record %d was acknowledged, but %d is the last", round, acknowledged, r.Last)
		}
	}
	if files, err := parts(dir); err != nil || len(files) < 3 {
		t.Errorf("%d files, %v: the kills met no change of files", len(files), err)
	}
}

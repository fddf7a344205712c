package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// child is set for a process that writes to the store in the directory it names until it is killed.
const child = "HELMLINE_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// writeForever enrols computers, each by an invitation of its own, and says which were acknowledged.
func writeForever(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	first := os.Getpid() * 100000
	for n := first; ; n++ {
		owner, err := s.AddAccount(ctx, Account{Email: "x"}, fmt.Sprint(n))
		if err != nil {
			return err
		}
		id, now := fmt.Sprint(n), time.Now()
		if err := s.Invite(ctx, Invitation{ID: id, Secret: sha256.Sum256(nil), Owner: owner, Expires: now.Add(time.Hour)}, now, 10); err != nil {
			return err
		}
		_, _, err = s.Enrol(ctx, id, sha256.Sum256(nil), []byte(id), now, func(Invitation, func(string) (bool, error)) (Computer, string, error) {
			return Computer{ID: id, Name: "desk"}, "desk", nil
		}, func(Computer) error { return nil })
		if err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// TestKill kills a writing process 20 times, each time after another number of writes: what it acknowledged is there,
// and an invitation is never used up without its computer.
func TestKill(t *testing.T) {
	dir := privateDir(t)
	acknowledged := map[string]bool{}
	for round := range 20 {
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
		for n := 0; n <= round%7 && lines.Scan(); n++ {
			if lines.Text() != "ready" {
				acknowledged[lines.Text()] = true
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
	}
	s := openTest(t, dir)
	all, err := s.Computers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		delete(acknowledged, c.ID)
	}
	if len(acknowledged) > 0 {
		t.Errorf("acknowledged, but lost: %v", acknowledged)
	}
	var lost int
	if err := s.read.QueryRow(`SELECT count(*) FROM invitations WHERE computer IS NOT NULL AND computer NOT IN (SELECT id FROM computers)`).Scan(&lost); err != nil || lost > 0 {
		t.Errorf("%d invitations used up without a computer, %v", lost, err)
	}
	if len(all) < 20 {
		t.Errorf("only %d computers were made", len(all))
	}
}

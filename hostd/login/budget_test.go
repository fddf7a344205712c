package login

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func openBudget(t *testing.T, dir string) *Budget {
	t.Helper()
	b, err := OpenBudget(filepath.Join(dir, BudgetFile))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fail makes an attempt that is wrong. It gives the lock-out that follows, or refused when it could not be made.
func fail(t *testing.T, b *Budget, target string) (lock time.Duration, refused bool) {
	t.Helper()
	a, err := b.Begin(t.Context(), target)
	var locked *LockedError
	if errors.As(err, &locked) {
		return time.Until(locked.Until), true
	}
	if err != nil {
		t.Fatal(err)
	}
	_, until := a.Fail()
	if until.IsZero() {
		return 0, false
	}
	return time.Until(until), false
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := openBudget(t, dir)
		locks := []time.Duration{0, 0, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute,
			8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute}
		for i, want := range locks {
			if got, refused := fail(t, b, "x"); got != want || refused {
				t.Fatalf("failure %d locks for %v (refused: %v), want %v", i+1, got, refused, want)
			}
			if lock, refused := fail(t, b, fmt.Sprint("y", i)); lock != 0 || refused {
				t.Fatalf("after failure %d another target is locked as well: %v", i+1, lock)
			}
			if want == 0 {
				continue
			}
			time.Sleep(want - time.Second)
			b = openBudget(t, dir) // a restart changes nothing
			if left, refused := fail(t, b, "x"); !refused || left > time.Second {
				t.Fatalf("after failure %d an attempt was made a second early (left %v)", i+1, left)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestBudgetForgives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBudget(t, t.TempDir())
		for range 4 {
			fail(t, b, "x")
			time.Sleep(time.Minute)
		}
		time.Sleep(Forgiven - 2*time.Minute)
		if got, _ := fail(t, b, "x"); got != time.Minute {
			t.Fatalf("the 5th failure locks for %v", got)
		}
		time.Sleep(Forgiven + time.Second) // takes off one
		if got, _ := fail(t, b, "x"); got != time.Minute {
			t.Fatalf("after %v the failure locks for %v", Forgiven, got)
		}
		time.Sleep(5 * Forgiven)
		if got, _ := fail(t, b, "x"); got != 0 {
			t.Fatalf("after all is forgiven a failure locks for %v", got)
		}
	})
}

func TestBudgetSuccess(t *testing.T) {
	dir := t.TempDir()
	b := openBudget(t, dir)
	fail(t, b, "x")
	fail(t, b, "x")
	a, err := b.Begin(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Succeed(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if lock, refused := fail(t, b, "x"); lock != 0 || refused {
			t.Fatalf("failure %d after a success: %v %v", i+1, lock, refused)
		}
	}
}

// TestBudgetKill ends hostd in the middle of an attempt: it was counted before it was made.
func TestBudgetKill(t *testing.T) {
	dir := t.TempDir()
	for i := range FreeFailures {
		if _, err := openBudget(t, dir).Begin(t.Context(), "x"); err != nil {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	var locked *LockedError
	if _, err := openBudget(t, dir).Begin(t.Context(), "x"); !errors.As(err, &locked) {
		t.Fatalf("%d attempts that hostd did not survive were not counted: %v", FreeFailures, err)
	}
}

func TestBudgetDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBudget(t, t.TempDir())
		start := time.Now()
		n := 0
		for time.Since(start) < 24*time.Hour {
			if left, refused := fail(t, b, "x"); refused {
				time.Sleep(left)
			} else {
				n++
			}
		}
		if n > 60 {
			t.Fatalf("%d guesses in a day, more than 60", n)
		}
	})
}

func TestBudgetOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBudget(t, t.TempDir())
		first, err := b.Begin(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() {
			a, err := b.Begin(t.Context(), "x")
			if err == nil {
				a.Fail()
			}
			second <- err
		}()
		if a, err := b.Begin(t.Context(), "y"); err != nil {
			t.Fatal(err)
		} else {
			a.Fail()
		}
		synctest.Wait()
		select {
		case err := <-second:
			t.Fatalf("a second attempt was made at the same time: %v", err)
		default:
		}
		first.Fail()
		if err := <-second; err != nil {
			t.Fatal(err)
		}
	})
}

func TestBudgetClockSetBack(t *testing.T) {
	dir := t.TempDir()
	b := openBudget(t, dir)
	r := &record{Failures: 12}
	r.stamp(time.Now().AddDate(10, 0, 0))
	b.f.Targets[b.key("x")] = r
	if lock, refused := fail(t, b, "x"); !refused || lock > LongestLock {
		t.Fatalf("locked for %v, refused: %v", lock, refused)
	}
}

// fill counts failures of as many made-up names as there is space for.
func fill(b *Budget, failures int) {
	for i := 0; len(b.f.Targets) < MaxTargets; i++ {
		r := &record{Failures: failures}
		r.stamp(time.Now())
		b.f.Targets[b.key(fmt.Sprint("made up ", i))] = r
	}
}

// TestBudgetFlood has names made up between the guesses: neither the access code's failures nor a user's are forgotten for that.
func TestBudgetFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBudget(t, t.TempDir())
		guesses, locked := 0, time.Duration(0)
		for range 4 { // a guesser comes back after each flood
			for _, target := range []string{codeTarget, "user alice"} {
				for {
					lock, refused := fail(t, b, target)
					if refused {
						break
					}
					if guesses++; lock > 0 {
						locked = lock
					}
				}
			}
			fill(b, 2*FreeFailures)
			for i := range 100 {
				fail(t, b, fmt.Sprint("user more ", i))
			}
		}
		if guesses != 2*FreeFailures || locked != FirstLock {
			t.Fatalf("%d guesses at two targets, the last locks for %v", guesses, locked)
		}
		if n := len(b.f.Targets); n > MaxTargets+1 {
			t.Fatalf("%d targets", n)
		}
	})
}

// TestBudgetFull is that new names are counted together while there is no space, and the access code by itself even then.
func TestBudgetFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := openBudget(t, dir)
		fill(b, 1)
		for i := range FreeFailures {
			if _, refused := fail(t, b, fmt.Sprint("user new ", i)); refused {
				t.Fatalf("new name %d is locked", i)
			}
		}
		if lock, refused := fail(t, b, "user alice"); !refused || lock != FirstLock {
			t.Fatalf("new names are not counted together: %v %v", lock, refused)
		}
		if _, refused := fail(t, b, codeTarget); refused {
			t.Fatal("the access code is counted with the names")
		}
		time.Sleep(FirstLock)
		a, err := b.Begin(t.Context(), "user alice")
		if err == nil {
			err = a.Succeed()
		}
		if err != nil {
			t.Fatal(err)
		}
		if lock, refused := fail(t, b, "user bob"); lock != 2*FirstLock || refused {
			t.Fatalf("one user's success has changed what is counted for the others: %v %v", lock, refused)
		}
		if n, err := b.Unlock("user alice"); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if _, refused := fail(t, b, "user alice"); refused {
			t.Fatal("still locked")
		}
		b = openBudget(t, dir)
		if n := len(b.f.Targets); n != MaxTargets+2 {
			t.Fatalf("%d targets in the file", n)
		}
		time.Sleep(Forgiven) // makes space
		fail(t, b, "user alice")
		if b.f.Targets[b.key("user alice")] == nil {
			t.Fatal("a name is not counted by itself, though there is space")
		}
	})
}

func TestBudgetDiskFull(t *testing.T) {
	dir := t.TempDir()
	b := openBudget(t, dir)
	b.path = filepath.Join(dir, "gone", BudgetFile)
	for range 5 {
		if _, err := b.Begin(t.Context(), "x"); err == nil {
			t.Fatal("an attempt was made that could not be counted")
		}
	}
	b.path = filepath.Join(dir, BudgetFile)
	if lock, refused := fail(t, b, "x"); lock != 0 || refused {
		t.Fatalf("attempts that were not made were counted: %v %v", lock, refused)
	}
}

func TestBudgetDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), BudgetFile)
	if err := os.WriteFile(path, []byte(`{"targets": 3`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenBudget(path); err == nil || !strings.Contains(err.Error(), "move the file away") {
		t.Fatal(err)
	}
}

func TestUnlock(t *testing.T) {
	dir := t.TempDir()
	b := openBudget(t, dir)
	for range FreeFailures {
		fail(t, b, userTarget("Alice"))
		fail(t, b, codeTarget)
	}
	if n := len(b.Locked()); n != 2 {
		t.Fatalf("%d locked", n)
	}
	if n, err := Unlock(dir, "alice", false); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b = openBudget(t, dir)
	if _, refused := fail(t, b, userTarget("alice")); refused {
		t.Fatal("alice is still locked out")
	}
	if _, refused := fail(t, b, codeTarget); !refused {
		t.Fatal("the code is unlocked as well")
	}
	if n, err := Unlock(dir, "", true); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

func FuzzBudgetFile(f *testing.F) {
	f.Add([]byte(`{"salt":"AAAA","targets":{"x":{"failures":3,"last":"2026-01-01T00:00:00Z"},"y":null}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var b budgetFile
		if b.read(bytes.NewReader(in)) != nil {
			return
		}
		now := time.Now()
		for key, r := range b.Targets {
			if until := r.settle(now); r.Failures < 0 || until.After(now) && r.Last.After(now) {
				t.Fatalf("%s: %+v", key, r)
			}
		}
	})
}

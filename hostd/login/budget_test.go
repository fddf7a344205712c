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
			if want == 0 {
				continue
			}
			if _, refused := fail(t, b, "y"); refused && i < 3 {
				t.Fatal("another target is locked as well")
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

func TestBudgetFull(t *testing.T) {
	b := openBudget(t, t.TempDir())
	for i := range MaxTargets {
		b.f.Targets[b.key(fmt.Sprint(i))] = &record{Failures: 2, Last: time.Now()}
	}
	b.f.Targets[b.key("0")].Failures = 9
	b.f.Targets[b.key("0")].stamp(time.Now())
	for i := range 3 {
		fail(t, b, fmt.Sprintf("new %d", i))
	}
	if n := len(b.f.Targets); n > MaxTargets {
		t.Fatalf("%d targets, more than %d", n, MaxTargets)
	}
	if _, refused := fail(t, b, "0"); !refused {
		t.Fatal("a flood of other names has unlocked a target")
	}
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

package main

import "testing"

func TestRanOut(t *testing.T) {
	for _, c := range []struct {
		name, output string
		want         bool
	}{
		{"the fuzzer's own time", "fuzz: elapsed: 2s, execs: 40868 (20045/sec)\n--- FAIL: FuzzHello (2.04s)\n    context deadline exceeded\nFAIL\n", true},
		{"a finding", "fuzz: elapsed: 2s\n--- FAIL: FuzzHello (2.04s)\n    --- FAIL: FuzzHello (0.00s)\n        fuzz_test.go:110: wrote 1, read back 2\n    \n    Failing input written to testdata/fuzz/FuzzHello/1\nFAIL\n", false},
		{"a finding that says the same", "fuzz: elapsed: 2s\n--- FAIL: FuzzHello (2.04s)\n    fuzz_test.go:110: context deadline exceeded\n    context deadline exceeded\nFAIL\n", false},
		{"a crash", "fuzz: elapsed: 2s\npanic: index out of range\nFAIL\n", false},
		{"nothing", "", false},
	} {
		if got := ranOut([]byte(c.output)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

package refuse

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/helmline/helmline/bridge/wire"
)

func TestTextsOfTheCatalogue(t *testing.T) {
	for _, k := range All() {
		args := make([]any, strings.Count(k.Detail+k.Remedy, "%s"))
		for i := range args {
			args[i] = strings.Repeat("x", 300) // a peer's name at its longest
		}
		text := k.Text(args...)
		if len(text) > MaxText || strings.ContainsAny(text, "%\n<>") || !strings.HasPrefix(text, fmt.Sprint(k.Code, ":")) {
			t.Errorf("%d %s: %q", k.Code, k.Title, text)
		}
		if k.Remedy == "" || k.Title == "" {
			t.Errorf("%d has no title or no remedy", k.Code)
		}
	}
}

func TestHeldReadsAsTheStyleSays(t *testing.T) {
	if got := Held.Text("alice@example.com", "10:04"); !strings.HasPrefix(got, "40010: alice@example.com has been in control since 10:04; watch, or ask for control") {
		t.Fatal(got)
	}
}

// TigerVNC 1.12 shows a reason up to its first @.
func TestReasonSaysWhatHelpsBeforeAnAddress(t *testing.T) {
	for _, c := range []struct {
		r    *Refusal
		want string
	}{
		{Held.Of("alice@example.com", "10:04"), "40010: controlled; watch, or ask for control: alice@example.com has been in control since 10:04"},
		{Held.Of("", "10:04"), Held.Text("", "10:04")},
		{&Refusal{Code: 40010, Detail: "a@b", Remedy: "wait"}, "40010: a@b; wait"}, // a computer may leave the title out
	} {
		if got := c.r.Reason(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestWrongUserAndWrongPasswordAreOneNumber(t *testing.T) {
	if !WrongLogin.Is(fmt.Errorf("wrapped: %w", WrongCode.Of())) || WrongLogin.Is(NoRight.Of("bob")) {
		t.Fatal("1326 is one number, 5 another")
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"desk7":                        "desk7",
		"a\nb\x00c":                    "a b c",
		"<img src=x onerror=alert(1)>": " img src=x onerror=alert(1) ",
		"bad\xffutf8":                  "bad utf8",
		"rtl\u202eoverride":            "rtl override",
		"Büro 中":                       "Büro 中",
	} {
		if got := Printable(in, 80); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for n := range 12 {
		if s := Printable("ÄÖÜ中中", n); len(s) > n || !utf8.ValidString(s) {
			t.Errorf("%d: %q", n, s)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Held.Of("alice@example.com", "10:04").AppendTo(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(strings.NewReader(string(in)))
		got := Read(r)
		if r.Err() != nil {
			return
		}
		if text := got.Error(); len(text) > MaxText || !utf8.ValidString(text) || strings.ContainsAny(text, "\n<>") {
			t.Fatalf("%q", text)
		}
		r = wire.NewReader(strings.NewReader(string(got.AppendTo(nil))))
		if again := Read(r); r.Err() != nil || *again != *got {
			t.Fatalf("%v, read back %v, %v", got, again, r.Err())
		}
	})
}

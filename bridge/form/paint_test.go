package form

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
)

// pages are one of each kind, and the log-on form in its fullest state.
func pages() map[string]*Page {
	logon := &LogOn{Computer: "desk7", Account: "alice@example.com", Relay: "relay.example.com", OSLogin: true, CodeSet: true,
		Passes: true, Left: -1}
	first := logon.Page()
	first.Set(UserField, "alice")
	wrong := *logon
	wrong.User, wrong.Refusal, wrong.Left = "alice", refuse.WrongLogin.Of(), 2
	code := *logon
	code.Code, code.Greeter = true, true
	locked := code
	locked.Refusal, locked.Left = refuse.LockedOut.Of("10:14:30"), -1
	lockedPage := locked.Page()
	lockedPage.Set(SecretField, "a secret of 24 characters")
	busy := *logon
	busy.User, busy.Busy = "alice", true
	long := *logon
	long.Account, long.Relay, long.Computer = "somebody.with.a.very.long.name@a.very.long.domain.example.com", "a-relay-with-a-long-name.example.com", "a-computer-with-a-name-that-no-heading-can-hold-in-one-line-of-text.example.com"
	long.Refusal, long.Left = refuse.NoRight.Of("somebody"), -1
	longPage := long.Page()
	longPage.Set(UserField, "a user name that is so long that the field has to scroll to show where the caret is ÄΩ€")
	return map[string]*Page{
		"logon": first, "wrong": wrong.Page(), "code": code.Page(), "locked": lockedPage, "busy": busy.Page(), "long": longPage,
		"taken":    Taken("desk7", "bob", refuse.Held.Of("alice@example.com", "10:04"), true, false),
		"forceful": Taken("desk7", "bob", refuse.Held.Of("alice@example.com", "10:04"), true, true),
		"asking":   Asking("desk7", "alice@example.com", 9, true),
		"wait":     Wait("desk7", "You are logged in. The desktop is being opened."),
		"over":     Over("desk7", refuse.Ended.Of("the owner of the computer")),
		"question": Question("bob@example.com", 10),
		"notice":   Notice("alice@example.com is in control", "You are watching."),
	}
}

// TestDraw draws every page at every usual size. With HELMLINE_FORM_DIR set, it leaves the pictures there.
func TestDraw(t *testing.T) {
	p := NewPainter()
	dir := os.Getenv("HELMLINE_FORM_DIR")
	for name, page := range pages() {
		for _, size := range []image.Point{{1, 1}, {320, 240}, {640, 480}, {800, 600}, {1280, 800}, {1366, 768}, {1920, 1080}, {3840, 2160}} {
			b := p.Bounds(page, size)
			whole := image.Rectangle{Max: size}
			if !b.In(whole) || b.Empty() {
				t.Fatalf("%s on %v: drawn at %v", name, size, b)
			}
			if b.Min.X%frame.Tile != 0 || b.Min.Y%frame.Tile != 0 ||
				b.Max.X%frame.Tile != 0 && b.Max.X != size.X || b.Max.Y%frame.Tile != 0 && b.Max.Y != size.Y {
				t.Errorf("%s on %v: %v is not on the tiles", name, size, b)
			}
			img := frame.New(b)
			p.Draw(page.View(), size, img)
			if dir != "" {
				save(t, filepath.Join(dir, name+"-"+size.String()+".png"), img, size)
			}
		}
	}
}

// save writes a picture of that size that holds img.
func save(t *testing.T, name string, img frame.Image, size image.Point) {
	t.Helper()
	out := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			i := out.PixOffset(x, y)
			b, g, r := byte(Background&0xff), byte(Background>>8&0xff), byte(Background>>16)
			if (image.Point{X: x, Y: y}).In(img.Rect) {
				px := img.Row(y, x, x+1)
				b, g, r = px[0], px[1], px[2]
			}
			out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = r, g, b, 0xff
		}
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, out); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkDraw(b *testing.B) {
	p := NewPainter()
	page := (&LogOn{Computer: "desk7", Account: "alice@example.com", CodeSet: true, Passes: true, Refusal: refuse.WrongCode.Of(),
		Until: time.Unix(0, 0)}).Page()
	size := image.Pt(1920, 1080)
	img := frame.New(p.Bounds(page, size))
	for b.Loop() {
		p.Draw(page, size, img)
	}
}

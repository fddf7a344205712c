package e2e

import (
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
)

// background of the computer's desktop during a test; nothing else has this colour.
const background = 0xd911b4

// Furniture is what stands on the computer's desktop during a test.
type Furniture struct {
	w     *World
	typed string // file that the terminal in front writes what is typed into
}

// Furnish opens several windows on the computer's desktop: a photograph, a terminal full of text, and in front, with the
// keyboard, a terminal that writes into a file what is typed.
func (w *World) Furnish() *Furniture {
	w.T.Helper()
	conn, err := w.Desk.Dial()
	w.Check(err)
	w.T.Cleanup(conn.Close)
	w.Check(paint(conn, background))
	w.Check(showPicture(conn, "Photograph", photograph(image.Pt(420, 300)), image.Pt(590, 30)))
	w.window("Photograph")
	full := filepath.Join(w.Owner.Home, "full")
	_, err = w.Desk.Terminal(w.Ctx, "60x18+10+10", "Full", "sh", "-c",
		`i=0; while [ $i -lt 40 ]; do printf '\033[3%dm%s the quick brown fox jumps over the lazy dog\033[0m\n' $((i%8)) $i; i=$((i+1)); done; : >`+full+`; exec cat`)
	w.Check(err)
	w.window("Full")
	f := &Furniture{w: w, typed: filepath.Join(w.Owner.Home, "typed")}
	_, err = w.Desk.Terminal(w.Ctx, "60x12+60+420", "Typing", "sh", "-c", `exec cat >`+f.typed)
	w.Check(err)
	w.window("Typing")
	w.Until("the terminals run", func() (bool, error) {
		for _, path := range []string{f.typed, full} {
			if _, err := os.Stat(path); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	w.Until("the terminal in front has the keyboard", func() (bool, error) {
		out, err := w.Desk.Output(w.Ctx, "xdotool", "getwindowfocus", "getwindowname")
		return strings.TrimSpace(out) == "Typing", err
	})
	return f
}

// window waits until a window of that name is shown.
func (w *World) window(name string) {
	w.T.Helper()
	w.Until("the window "+name, func() (bool, error) {
		out, err := w.Desk.Output(w.Ctx, "xdotool", "search", "--onlyvisible", "--name", "^"+name+"$")
		return err == nil && strings.TrimSpace(out) != "", err
	})
}

// Typed is what has been typed into the terminal in front, up to the last Return.
func (f *Furniture) Typed() (string, error) {
	b, err := os.ReadFile(f.typed)
	return string(b), err
}

// WaitTyped returns when exactly text has been typed since the start.
func (f *Furniture) WaitTyped(text string) {
	f.w.T.Helper()
	f.w.Until(fmt.Sprintf("%q is typed", text), func() (bool, error) {
		got, err := f.Typed()
		if err == nil && got != text {
			err = fmt.Errorf("the file holds %q", got)
		}
		return err == nil, err
	})
}

package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
)

// A clipboard is how text is copied and pasted on a viewer's screen.
type clipboard struct {
	selection string // "primary" or "clipboard"
	target    string // "UTF8_STRING", or "STRING", which is Latin-1
}

const latinText = "Ä é\nsecond line\n"

// swapTexts copies each text on the viewer's screen and pastes it on the computer from both selections; then the other way, from each of
// them. One way after the other: Remmina takes what is copied right behind a text of the computer for its echo.
func (v *Viewer) swapTexts(c clipboard, texts ...string) {
	w := v.w
	w.T.Helper()
	for _, text := range texts {
		v.copied(v.Screen, c, text, w.Desk, clipboard{"clipboard", "UTF8_STRING"}, clipboard{"primary", "UTF8_STRING"})
	}
	for _, text := range texts {
		for _, selection := range []string{"clipboard", "primary"} {
			v.copied(w.Desk, clipboard{selection, "UTF8_STRING"}, selection+" "+text, v.Screen, c)
		}
	}
}

// copied copies a text on one screen and returns when programs on the other paste it. Before each look the pointer leaves the viewer and
// comes back, as old viewers deal with the clipboard then. After a while it copies the text again, as people do: Remmina drops what
// comes within a second of another text, either way.
func (v *Viewer) copied(from *rig.Desktop, c clipboard, text string, to *rig.Desktop, as ...clipboard) {
	v.w.T.Helper()
	var last time.Time
	for _, p := range as {
		v.wait(fmt.Sprintf("%d bytes of text in %s of %s", len(text), p.selection, to.Display), func() (bool, error) {
			if time.Since(last) > 3*time.Second {
				last = time.Now()
				v.w.copyOn(from, c, text)
			}
			v.xdotool("mousemove", "0", "0")
			v.enter()
			got, err := to.Output(v.w.Ctx, "xclip", "-o", "-selection", p.selection, "-t", p.target)
			if err == nil && got != encoded(p.target, text) {
				err = fmt.Errorf("%d bytes, %.40q", len(got), got)
			}
			return err == nil, err
		})
	}
}

// copyOn has a program copy a text; it owns the selection until another does. Old viewers ask when that was, which of the two programs
// only xsel knows.
func (w *World) copyOn(d *rig.Desktop, c clipboard, text string) {
	w.T.Helper()
	args := []string{"xclip", "-quiet", "-i", "-selection", c.selection, "-t", c.target}
	if c.target == "STRING" {
		args = []string{"xsel", "--input", "--nodetach", "--" + c.selection}
	}
	_, err := w.Set.Start(w.Ctx, rig.Program{
		Args: args, Stdin: strings.NewReader(encoded(c.target, text)), User: d.User, Env: d.Env(), Log: w.log("copies"),
	})
	w.Check(err)
}

// encoded is a text as programs pass it under that target.
func encoded(target, text string) string {
	if target == "STRING" {
		return string(rfb.Latin1(text))
	}
	return text
}

// swapTexts copies a text on the computer, and it comes into the session page's clipboard; then the page sends one, and programs on the
// computer paste it from both selections.
func (b *Chromium) swapTexts(page int, text string) {
	w := b.w
	w.T.Helper()
	b.Do(step{"page": page, "click": "#clipboard-open", "see": "Clipboard of the computer"})
	for _, selection := range []string{"clipboard", "primary"} {
		want := selection + " " + text
		w.copyOn(w.Desk, clipboard{selection, "UTF8_STRING"}, want)
		w.Until("the page has what was copied in "+selection, func() (bool, error) {
			got := b.Do(step{"page": page, "eval": "document.querySelector('#clipboard-text').value"})[0]
			return got == want, fmt.Errorf("it has %.60q", got)
		})
	}
	b.Do(step{"page": page, "fill": step{"#clipboard-text": text}}, step{"page": page, "click": "#clipboard-send"}) // Return in the field is of the text
	for _, selection := range []string{"clipboard", "primary"} {
		w.Until("a program pastes from "+selection+" what the page sent", func() (bool, error) {
			got, err := w.Desk.Output(w.Ctx, "xclip", "-o", "-selection", selection, "-t", "UTF8_STRING")
			return err == nil && got == text+"\n", fmt.Errorf("it pastes %.60q, %v", got, err)
		})
	}
}

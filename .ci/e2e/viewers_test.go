package e2e

import (
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
)

// takeTheHelm is what every viewer must be able to do: show the form and not a pixel of the desktop, log in by the access code, show
// the desktop exactly, and type.
func takeTheHelm(w *World, d *Furniture, v *Viewer, text string) {
	w.T.Helper()
	v.WaitForm()
	m, err := Shot(v.Screen)
	w.Check(err)
	if n := Count(m, background); n > 0 {
		w.T.Fatalf("%d pixels of the desktop's background before the host login", n)
	}
	v.LogIn()
	v.WaitEqual(w.Desk)
	v.Type(text + "\n")
	d.WaitTyped(text + "\n")
	v.WaitEqual(w.Desk)
}

// followsTheDesktop is what a viewer must do that knows of sizes: show a desktop that gets another one.
func (v *Viewer) followsTheDesktop() {
	w := v.w
	w.T.Helper()
	_, err := w.Desk.Output(w.Ctx, "xrandr", "-s", "800x600")
	w.Check(err)
	w.waitSize(w.Desk, image.Pt(800, 600))
	v.WaitEqual(w.Desk)
}

func TestTigerVNC(t *testing.T) {
	w := NewWorld(t, Options{})
	v := w.TigerVNC("")
	takeTheHelm(w, w.Furnish(), v, "helm ÄΩ€中")
	long := strings.Repeat("0123456789abcdé\n", 200<<10/17)
	v.swapTexts(clipboard{"clipboard", "UTF8_STRING"}, "plain", "ÄΩ€中😀\nsecond line\n", long)
}

// hostd as packages have it: a program with cgo, which gets rid of its privileges in another way.
func TestTurbo(t *testing.T) {
	w := NewWorld(t, Options{Turbo: true})
	takeTheHelm(w, w.Furnish(), w.TigerVNC(""), "helm ÄΩ€中")
	if got := procStatus(t, w.hostPart("net"))["NoNewPrivs"]; got != "1" {
		t.Errorf("hostd-net: NoNewPrivs is %s", got)
	}
}

// Remmina at each of its qualities: JPEG that becomes exact once the screen rests, and, at the best, zlib alone.
func TestRemmina(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc, Time: 6 * time.Minute})
	d := w.Furnish()
	typed := ""
	for _, quality := range []int{9, 2, 1, 0} {
		v := w.Remmina(quality)
		v.LogIn()
		v.WaitEqual(w.Desk)
		text := fmt.Sprintf("helm ÄΩ€中 %d\n", quality)
		typed += text
		v.Type(text)
		d.WaitTyped(typed)
		v.WaitEqual(w.Desk)
		if quality == 2 {
			v.swapTexts(clipboard{"clipboard", "UTF8_STRING"}, "plain", latinText)
		}
		if quality == 0 {
			v.followsTheDesktop()
		}
		v.Proc.End()
	}
}

// gvncviewer has no clipboard.
func TestGVncViewer(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc})
	v := w.GVncViewer()
	takeTheHelm(w, w.Furnish(), v, "helm ÄΩ€中")
	v.followsTheDesktop()
}

// The two old X viewers know only the characters that are on the keyboard.

func TestXTightVNC(t *testing.T) {
	w := NewWorld(t, Options{})
	v := w.XTightVNC()
	takeTheHelm(w, w.Furnish(), v, "helm Ä€")
	v.swapTexts(clipboard{"primary", "STRING"}, "plain", latinText)
}

func TestSSVNC(t *testing.T) {
	w := NewWorld(t, Options{Server: rig.Xtigervnc})
	v := w.SSVNC()
	takeTheHelm(w, w.Furnish(), v, "helm Ä€")
	v.swapTexts(clipboard{"primary", "STRING"}, "plain", latinText)
	v.followsTheDesktop()
}

// vncsnapshot speaks RFB 3.3, cannot type, and takes one picture: that of the form.
func TestVNCSnapshot(t *testing.T) {
	w := NewWorld(t, Options{})
	w.Furnish()
	want := w.FormPicture(image.Point{})
	out := filepath.Join(w.folder("snapshot", w.Viewer), "picture.jpg")
	_, err := w.Set.Output(w.Ctx, rig.Program{
		Args: []string{"vncsnapshot", "-passwd", w.passwordFile("vncsnapshot"), "-quality", "100", "127.0.0.1:2", out}, // display 2 is PortClear
		User: w.Viewer, Network: w.Net.Name("relay"), Dir: w.Viewer.Home,
	})
	w.Check(err)
	got, err := readJPEG(out)
	w.Check(err)
	if got.Rect != want.Rect {
		t.Fatalf("the picture is %v, the form %v", got.Rect, want.Rect)
	}
	if db := psnr(got, want); db < 35 {
		t.Errorf("the picture differs from the form: %.1f dB", db)
	}
	desk, err := Shot(w.Desk)
	w.Check(err)
	if db := psnr(got, desk); db > 15 {
		t.Errorf("the picture is like the desktop: %.1f dB", db)
	}
}

func readJPEG(path string) (frame.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return frame.Image{}, err
	}
	defer f.Close()
	in, err := jpeg.Decode(f)
	if err != nil {
		return frame.Image{}, fmt.Errorf("%s: %w", path, err)
	}
	m := frame.New(in.Bounds())
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		row := m.Row(y, m.Rect.Min.X, m.Rect.Max.X)
		for x := range m.Rect.Dx() {
			r, g, b, _ := in.At(m.Rect.Min.X+x, y).RGBA()
			row[4*x], row[4*x+1], row[4*x+2] = byte(b>>8), byte(g>>8), byte(r>>8)
		}
	}
	return m, nil
}

// psnr says how alike two pictures of one size are, dB; infinite when they are equal.
func psnr(a, b frame.Image) float64 {
	sum := 0.0
	for i := range a.Pix {
		if i%4 != 3 {
			d := float64(a.Pix[i]) - float64(b.Pix[i])
			sum += d * d
		}
	}
	return 10 * math.Log10(255*255*float64(len(a.Pix)/4*3)/sum)
}

package desktop

import (
	"errors"
	"image"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/jezek/xgb/xproto"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// A family are a display that can be resized and viewers of every kind.
type family struct {
	*xserver
	s          *server
	h          *fakeHost
	controller *rfbtest.Client // knows of layouts, like watcher
	watcher    *rfbtest.Client
	sized      *rfbtest.Client // knows of sizes only
	fixed      *rfbtest.Client // keeps its first
}

var familySize = image.Pt(640, 480)

func newFamily(t *testing.T) *family {
	t.Helper()
	t.Parallel() // the most of such a test is waiting for notices to go
	f := &family{xserver: startServer(t, "Xtigervnc", "-geometry", "640x480", "-depth", "24", "-rfbport", "-1")}
	f.s, f.h = start(t, familySize)
	f.h.real(f.xserver)
	with := func(more ...int32) []int32 {
		return append([]int32{rfb.Tight, rfb.CopyRect, rfb.PseudoQuality0 + 8, rfb.PseudoCursor}, more...)
	}
	enter := func(who string, role tunnel.Role, list []int32) *rfbtest.Client {
		c := view(t, f.s, who, role, rfbtest.Config{Encodings: list})
		logIn(t, f.s, who, c)
		return c
	}
	f.controller = enter("alice@example.com", tunnel.RoleControl, nil)
	f.watcher = enter("bob@example.com", tunnel.RoleWatch, with(rfb.PseudoExtendedDesktopSize, rfb.PseudoDesktopSize))
	f.sized = enter("carol@example.com", tunnel.RoleWatch, with(rfb.PseudoDesktopSize))
	f.fixed = enter("dora@example.com", tunnel.RoleWatch, with())
	f.h.await("control", func() bool { return f.h.holder != 0 })
	rests(t, f.s, 4)
	return f
}

func (f *family) viewers() []*rfbtest.Client {
	return []*rfbtest.Client{f.controller, f.watcher, f.sized, f.fixed}
}

// resize asks for one screen.
func (f *family) resize(c *rfbtest.Client, size image.Point) {
	f.t.Helper()
	f.check(c.SetDesktopSize(size, whole(size)...))
}

func (f *family) waitFor(what string, c *rfbtest.Client, cond func(*rfbtest.Client) bool) {
	f.t.Helper()
	if err := c.WaitFor(cond, patience); err != nil {
		f.t.Fatalf("%s: %v; %+v", what, err, c.Layout())
	}
}

func has(size image.Point) func(*rfbtest.Client) bool {
	return func(c *rfbtest.Client) bool { return c.Size() == size }
}

// answers are the results of a viewer's own wishes.
func answers(c *rfbtest.Client) (all []int) {
	for _, l := range c.Layouts() {
		if l.Reason == rfb.ReasonClient {
			all = append(all, l.Result)
		}
	}
	return all
}

// draw paints something else at each size, which every viewer is to see.
func (f *family) draw(size image.Point, seed uint32) {
	f.size = size
	for i := range 8 {
		r := image.Rect(size.X*i/8, size.Y*i/9, size.X, size.Y)
		f.fill(f.root.Root, r, seed*2654435761>>8+uint32(i)*0x1f1f1f&0xffffff)
	}
	f.exact(seed)
}

// exact compares what every viewer sees with the display, but for the pointer that watchers see.
func (f *family) exact(seed uint32) {
	f.t.Helper()
	mark := image.Pt(2, min(f.size.Y, familySize.Y)-3)
	f.fill(f.root.Root, image.Rect(0, mark.Y, 4, mark.Y+2), seed) // what was drawn before has come when this has
	for _, c := range f.viewers() {
		sees(f.t, c, mark.X, mark.Y, seed)
	}
	eventually(f.t, "the notices to go", func() bool { // they stay for some seconds
		return len(f.s.texts("bob@example.com"))+len(f.s.texts("carol@example.com"))+len(f.s.texts("dora@example.com")) == 0
	})
	rests(f.t, f.s, 4)
	want := f.shot()
	pointer := []image.Rectangle{f.pointer()}
	for name, c := range map[string]*rfbtest.Client{"controller": f.controller, "watcher": f.watcher, "sized": f.sized} {
		if diff := differ(want, c.Picture(), pointer); diff != "" {
			f.t.Errorf("%s: %s", name, diff)
		}
	}
	letterbox := frame.Solid(image.Rectangle{Max: familySize}, form.Background)
	framed := frame.New(letterbox.Rect)
	for y := range familySize.Y {
		copy(framed.Row(y, 0, familySize.X), letterbox.Row(y, 0, familySize.X))
		if y < want.Rect.Max.Y {
			copy(framed.Row(y, 0, familySize.X), want.Row(y, 0, min(want.Rect.Max.X, familySize.X)))
		}
	}
	if diff := differ(framed, f.fixed.Picture(), pointer); diff != "" {
		f.t.Errorf("fixed: %s", diff)
	}
}

// pointer is where the pointer may be seen.
func (f *family) pointer() image.Rectangle {
	f.t.Helper()
	q, err := xproto.QueryPointer(f.x, f.root.Root).Reply()
	f.check(err)
	at := image.Pt(int(q.RootX), int(q.RootY))
	return image.Rectangle{Min: at.Sub(image.Pt(32, 32)), Max: at.Add(image.Pt(32, 32))}
}

// The controller changes the size; each kind of viewer is told in its way, and sees the display as it is.
func TestSetDesktopSize(t *testing.T) {
	f := newFamily(t)
	if l := f.controller.Layout(); l.Reason != rfb.ReasonServer || l.Result != rfb.ResultOK || l.Size != familySize || len(l.Screens) != 1 {
		t.Errorf("at first: %+v", l)
	}
	size := image.Pt(801, 603)
	f.resize(f.controller, size)
	f.waitFor("the answer", f.controller, func(c *rfbtest.Client) bool { return len(answers(c)) == 1 })
	if l := f.controller.Layout(); l.Result != rfb.ResultOK || l.Size != size || f.controller.Size() != size || l.Screens[0].Rect.Max != size {
		t.Errorf("%+v", l)
	}
	f.waitFor("the other viewer", f.watcher, has(size))
	if l := f.watcher.Layout(); l.Reason != rfb.ReasonOther || l.Result != rfb.ResultOK || l.Size != size {
		t.Errorf("the other viewer: %+v", l)
	}
	f.waitFor("the viewer that knows sizes only", f.sized, has(size))
	f.draw(size, 1)

	f.resize(f.watcher, image.Pt(500, 400))
	f.waitFor("a watcher's refusal", f.watcher, func(c *rfbtest.Client) bool { return slices.Equal(answers(c), []int{rfb.ResultProhibited}) })
	f.check(f.controller.SetDesktopSize(size, frame.Screen{Rect: image.Rect(0, 0, 802, 10)}))
	f.resize(f.controller, image.Pt(16384, 4097))
	f.resize(f.controller, image.Pt(20, 20)) // less than this display can be
	f.waitFor("refusals", f.controller, func(c *rfbtest.Client) bool {
		return slices.Equal(answers(c), []int{rfb.ResultOK, rfb.ResultLayout, rfb.ResultLayout, rfb.ResultLayout})
	})

	left, right := frame.Screen{ID: 5, Rect: image.Rect(0, 0, 400, 603)}, frame.Screen{ID: 6, Rect: image.Rect(400, 0, 801, 603)}
	f.check(f.controller.SetDesktopSize(size, left, right))
	split := func(c *rfbtest.Client) bool { return slices.Equal(c.Layout().Screens, []frame.Screen{left, right}) }
	f.waitFor("two screens", f.controller, split)
	f.waitFor("two screens", f.watcher, split)
	xrandr(t, f.xserver, "--delmonitor", "screen-00000006")
	f.waitFor("a screen that was unplugged", f.controller, func(c *rfbtest.Client) bool {
		return slices.Equal(c.Layout().Screens, []frame.Screen{left}) && c.Layout().Reason == rfb.ReasonServer
	})

	xrandr(t, f.xserver, "-s", "1024x768")
	f.size = image.Pt(1024, 768)
	for _, c := range []*rfbtest.Client{f.controller, f.watcher, f.sized} {
		f.waitFor("a size by the computer's own", c, has(f.size))
	}
	if l := f.controller.Layout(); l.Reason != rfb.ReasonServer || l.Result != rfb.ResultOK {
		t.Errorf("by the computer's own: %+v", l)
	}
	f.exact(99)

	before := len(f.controller.Layouts())
	f.check(f.controller.Request(false))
	f.waitFor("the layout before a whole picture", f.controller, func(c *rfbtest.Client) bool { return len(c.Layouts()) > before })
	if f.fixed.Size() != familySize {
		t.Errorf("a viewer whose size cannot change has %v", f.fixed.Size())
	}
}

// Viewers wish a size as soon as they are connected, as TigerVNC with -DesktopSize does. The form gets it, and then the desktop of who
// controls: the picture's size does not change in between.
func TestSetDesktopSizeOnTheForm(t *testing.T) {
	for _, c := range []struct {
		name string
		role tunnel.Role
		size image.Point
		sees image.Point // in the end
		says []int
	}{
		{"in control", tunnel.RoleControl, image.Pt(801, 603), image.Pt(801, 603), []int{rfb.ResultOK}},
		{"in control, too small for the display", tunnel.RoleControl, image.Pt(900, 31), familySize, []int{rfb.ResultOK}},
		{"watching", tunnel.RoleWatch, image.Pt(801, 603), familySize, []int{rfb.ResultOK}},
		{"too large for a form", tunnel.RoleControl, image.Pt(8192, 2049), familySize, []int{rfb.ResultResources}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := startServer(t, "Xtigervnc", "-geometry", "640x480", "-depth", "24", "-rfbport", "-1")
			f := &family{xserver: x}
			f.s, f.h = start(t, familySize)
			f.h.real(x)
			v := view(t, f.s, "alice@example.com", c.role, rfbtest.Config{})
			f.resize(v, c.size)
			f.waitFor("the answer", v, func(v *rfbtest.Client) bool { return slices.Equal(answers(v), c.says) })
			if c.says[0] == rfb.ResultOK && v.Size() != c.size {
				t.Fatalf("the form has the size %v", v.Size())
			}
			f.fill(f.root.Root, image.Rect(0, 0, 20, 20), 0xabcdef)
			logIn(t, f.s, "alice@example.com", v)
			sees(t, v, 5, 15, 0xabcdef)
			f.waitFor("the size", v, has(c.sees))
			if !slices.Equal(answers(v), c.says) {
				t.Errorf("more answers than wishes: %v", answers(v))
			}
			sizes := []image.Point{}
			for _, l := range v.Layouts() {
				if n := len(sizes); n == 0 || sizes[n-1] != l.Size {
					sizes = append(sizes, l.Size)
				}
			}
			if c.size == c.sees && len(sizes) > 2 {
				t.Errorf("sizes %v", sizes)
			}
		})
	}
}

// 200 wishes at once, while the display is drawn on and somebody else changes its size as well: each is answered, the last one
// counts, and every viewer sees the display as it is.
func TestResizeStorm(t *testing.T) {
	f := newFamily(t)
	const wishes = 200
	began := time.Now()
	size := func(i int) image.Point { return image.Pt(300+i*37%700, 200+i*53%500) }
	for i := range wishes {
		f.resize(f.controller, size(i))
		f.check(f.controller.Pointer(0, i, i))
		f.fill(f.root.Root, image.Rect(i, i, i+90, i+60), uint32(i)*0x10203)
		if i%50 == 25 {
			xrandr(t, f.xserver, "-s", []string{"1024x768", "640x480"}[i/50%2])
		}
	}
	last := size(wishes - 1)
	f.waitFor("an answer to each", f.controller, func(c *rfbtest.Client) bool { return len(answers(c)) == wishes && c.Size() == last })
	if all := answers(f.controller); all[wishes-1] != rfb.ResultOK && !slices.Contains(all[wishes-10:], rfb.ResultOK) {
		t.Errorf("%v", all)
	}
	most := 2 + int(time.Since(began)/layoutPause)
	for _, c := range []*rfbtest.Client{f.watcher, f.sized} {
		f.waitFor("the last size", c, has(last))
	}
	f.draw(last, 7)
	f.h.with(func() {
		if n := len(f.h.resizes); n > most {
			t.Errorf("%d wishes reached the computer, more than %d", n, most)
		}
	})
	for _, c := range f.viewers() {
		f.check(c.Err())
	}
}

// A viewer that has chosen a screen sees that one, and its pointer is there; when the screen goes it sees all.
func TestOneScreen(t *testing.T) {
	f := newFamily(t)
	left, right := frame.Screen{ID: 5, Rect: image.Rect(0, 0, 333, 480)}, frame.Screen{ID: 6, Rect: image.Rect(333, 7, 640, 470)}
	f.check(f.controller.SetDesktopSize(familySize, left, right))
	f.waitFor("two screens", f.controller, func(c *rfbtest.Client) bool { return len(c.Layout().Screens) == 2 })
	for _, who := range []string{"alice", "carol", "dora"} {
		f.s.session(who+"@example.com").view.choose(true, right.ID)
	}
	f.s.session("bob@example.com").view.choose(true, left.ID)
	only := image.Rectangle{Max: right.Rect.Size()}
	f.waitFor("the right screen", f.controller, has(only.Max))
	if l := f.controller.Layout(); l.Reason != rfb.ReasonServer || l.Result != rfb.ResultOK || !slices.Equal(l.Screens, []frame.Screen{{ID: right.ID, Rect: only}}) {
		t.Errorf("%+v", l)
	}
	f.waitFor("the left screen", f.watcher, has(left.Rect.Max))
	f.waitFor("the right screen", f.sized, has(only.Max))

	eventually(t, "the notices to go", func() bool {
		return len(f.s.texts("alice@example.com"))+len(f.s.texts("bob@example.com"))+len(f.s.texts("dora@example.com")) == 0
	})
	f.check(f.controller.Pointer(0, 10, 20))
	f.check(f.controller.Pointer(0, 20, 30))
	at := right.Rect.Min.Add(image.Pt(20, 30))
	f.h.await("the pointer on the right screen", func() bool {
		all := f.h.inputs[f.h.holder]
		return len(all) > 0 && image.Pt(int(all[len(all)-1].X), int(all[len(all)-1].Y)) == at
	})
	pointer := f.pointer()
	grain := frame.New(image.Rect(0, 0, 300, 200))
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range grain.Pix {
		grain.Pix[i] = byte(i/1200 + rnd.IntN(40))
	}
	photo := f.pixmap(grain)
	for i := range 12 { // a photograph that moves over both screens and more
		f.copy(photo, xproto.Drawable(f.root.Root), image.Rect(0, 0, 300, 200), image.Pt(100+17*i, 40+11*i))
		for _, v := range []struct {
			c      *rfbtest.Client
			screen frame.Screen
		}{{f.controller, right}, {f.watcher, left}, {f.sized, right}, {f.fixed, right}} {
			rgb, mark := uint32(0x102030*(i+1)), image.Pt(5, 440)
			f.fill(f.root.Root, image.Rectangle{Min: v.screen.Rect.Min.Add(mark), Max: v.screen.Rect.Min.Add(mark).Add(image.Pt(4, 4))}, rgb)
			sees(t, v.c, mark.X+1, mark.Y+1, rgb)
		}
	}
	rests(t, f.s, 4)
	want := f.shot()
	for name, v := range map[string]struct {
		c      *rfbtest.Client
		screen frame.Screen
	}{"controller": {f.controller, right}, "watcher": {f.watcher, left}, "sized": {f.sized, right}} {
		if diff := differ(want.Part(v.screen.Rect), v.c.Picture(), []image.Rectangle{pointer.Sub(v.screen.Rect.Min)}); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	fixed := f.fixed.Picture()
	if fixed.Rect.Max != familySize {
		t.Errorf("the viewer of a fixed size has %v", fixed.Rect)
	}
	if diff := differ(want.Part(right.Rect), fixed.Part(only), []image.Rectangle{pointer.Sub(right.Rect.Min)}); diff != "" {
		t.Errorf("fixed: %s", diff)
	}

	f.resize(f.controller, image.Pt(300, 300))
	f.waitFor("a refusal", f.controller, func(c *rfbtest.Client) bool {
		return slices.Equal(answers(c), []int{rfb.ResultOK, rfb.ResultProhibited})
	})
	xrandr(t, f.xserver, "--delmonitor", "screen-00000006")
	f.waitFor("all of the desktop", f.controller, has(familySize))
	f.s.session("bob@example.com").view.choose(false, 0)
	f.exact(77)
}

// Where there are several screens, everybody is offered to see one of them, for some time and by a click.
func TestOfferOfScreens(t *testing.T) {
	f := newFamily(t)
	const who = "bob@example.com" // who watches
	f.check(f.controller.SetDesktopSize(familySize, frame.Screen{ID: 5, Rect: image.Rect(0, 0, 300, 480)}, frame.Screen{ID: 6, Rect: image.Rect(300, 0, 640, 480)}))
	says(t, f.s, who, f.watcher, "This desktop has 2 screens.")
	says(t, f.s, "alice@example.com", f.controller, "This desktop has 2 screens.")
	at := f.s.painter.Where(f.s.session(who).prompt.Load().page, familySize, form.AllScreens+2).Min.Add(image.Pt(3, 3))
	f.check(errors.Join(f.watcher.Pointer(1, at.X, at.Y), f.watcher.Pointer(0, at.X, at.Y)))
	f.waitFor("the second screen", f.watcher, has(image.Pt(340, 480)))
	eventually(t, "the offer to go", func() bool { return len(f.s.texts(who)) == 0 })
	if p := f.s.session(who).prompt.Load(); p != nil {
		t.Error("clicks still go to a page")
	}
	f.check(f.controller.Press('x')) // the offer takes no keys
	f.h.await("a key", func() bool { all := f.h.inputs[f.h.holder]; return len(all) > 0 && all[0].A == 'x' })
	f.resize(f.controller, familySize)
	f.waitFor("all of the desktop", f.watcher, has(familySize))
	eventually(t, "the offer to go", func() bool { return len(f.s.texts("alice@example.com")) == 0 })
}

func xrandr(t *testing.T, x *xserver, args ...string) {
	t.Helper()
	cmd := exec.Command("xrandr", args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+x.name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(errors.Join(err, errors.New(string(out))))
	}
}

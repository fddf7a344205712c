package form

import (
	"image"
	"strings"
	"testing"

	"github.com/helmline/helmline/bridge/refuse"
)

// press types keysyms into a page and gives the last ID chosen.
func press(p *Page, syms ...uint32) (chosen int) {
	for _, s := range syms {
		chosen, _ = p.Key(s, false)
	}
	return chosen
}

func text(s string) (syms []uint32) {
	for _, c := range s {
		sym := uint32(c)
		if c > 0xff {
			sym += 0x01000000
		}
		syms = append(syms, sym)
	}
	return syms
}

func logOn() *Page {
	return (&LogOn{Computer: "desk7", OSLogin: true, CodeSet: true, Left: -1}).Page()
}

func TestKeys(t *testing.T) {
	tests := []struct {
		name         string
		syms         []uint32
		chosen       int
		user, secret string
	}{
		{name: "type", syms: text("alice"), user: "alice"},
		{name: "beyond Latin-1", syms: text("ÄΩ€中"), user: "ÄΩ€中"},
		{name: "keysyms with an alphabet", syms: []uint32{0x7d9, 0x20ac, 0x6c1}, user: "Ω€а"},
		{name: "keypad", syms: []uint32{0xffb7, 0xffae}, user: "7."},
		{name: "tab", syms: append(text("a"), append([]uint32{KeyTab}, text("b")...)...), user: "a", secret: "b"},
		{name: "back tab", syms: append([]uint32{KeyTab, KeyLeftTab}, text("b")...), user: "b"},
		{name: "enter goes to the empty field", syms: append(text("a"), append([]uint32{KeyReturn}, text("b")...)...), user: "a", secret: "b"},
		{name: "enter in the last field", syms: append(text("a"), KeyReturn, 'b', KeyEnter), chosen: LogIn, user: "a", secret: "b"},
		{name: "escape", syms: []uint32{KeyEscape}, chosen: Cancel},
		{name: "back space", syms: append(text("a中"), KeyBackSpace, KeyBackSpace, KeyBackSpace), user: ""},
		{name: "in the middle", syms: append(text("ac"), KeyLeft, 'b', KeyEnd, 'd', KeyHome, KeyDelete), user: "bcd"},
		{name: "space on a button", syms: []uint32{KeyTab, KeyTab, KeyTab, ' '}, chosen: Cancel},
		{name: "enter on the link", syms: []uint32{KeyUp, KeyReturn}, chosen: Switch},
		{name: "keys without a character", syms: []uint32{KeyShiftL, KeyF1, 0xffff0000, 0x01ffffff, 0}, user: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := logOn()
			if got := press(p, tt.syms...); got != tt.chosen {
				t.Errorf("chose %d, want %d", got, tt.chosen)
			}
			if u, s := string(p.Value(UserField)), string(p.Value(SecretField)); u != tt.user || s != tt.secret {
				t.Errorf("typed %q, %q, want %q, %q", u, s, tt.user, tt.secret)
			}
		})
	}
}

// Whoever types on behind the access code once cancelled the session with the next Enter.
func TestTypingOnDoesNotCancelTheWait(t *testing.T) {
	p := Wait("desk7", "You are logged in. The desktop is being opened.")
	if got := press(p, append(text("ls "), KeyTab, ' ', KeyReturn, KeyEnter)...); got != 0 {
		t.Errorf("chose %d", got)
	}
	if got := press(p, KeyEscape); got != Cancel {
		t.Errorf("escape chose %d", got)
	}
	if got, _ := p.Click(len(p.Items) - 1); got != Cancel {
		t.Errorf("a click on the button chose %d", got)
	}
}

func TestFieldIsBounded(t *testing.T) {
	for _, n := range []int{MaxField - 1, MaxField, MaxField + 1} {
		p := logOn()
		p.Paste(strings.Repeat("x", n) + "\nnot this")
		if got := len(p.Value(UserField)); got != min(n, MaxField) {
			t.Errorf("pasted %d bytes, kept %d", n, got)
		}
		press(p, 'y', 0x010020ac)
		if got := len(p.Value(UserField)); got > MaxField {
			t.Errorf("%d bytes after typing on", got)
		}
	}
}

// A view must not hold the secret, and Wipe must leave nothing of it in the page's memory.
func TestSecret(t *testing.T) {
	p := logOn()
	press(p, append([]uint32{KeyTab}, text("hunter2")...)...)
	memory := p.Value(SecretField)[:MaxField]
	for _, it := range p.View().Items {
		if strings.Contains(string(it.value[:cap(it.value)]), "hunter") {
			t.Fatal("the view holds the secret")
		}
	}
	press(p, KeyHome, KeyDelete, KeyDelete, KeyDelete)
	p.Wipe(SecretField)
	if s := strings.Trim(string(memory), "\x00"); s != "" {
		t.Fatalf("%q is left in memory", s)
	}
}

func TestBusy(t *testing.T) {
	l := LogOn{Computer: "desk7", OSLogin: true, Busy: true}
	p := l.Page()
	if got := press(p, append(text("a"), KeyReturn)...); got != 0 || len(p.Value(UserField)) != 0 {
		t.Errorf("typed while busy: %d, %q", got, p.Value(UserField))
	}
	if got := press(p, KeyEscape); got != Cancel {
		t.Errorf("escape chose %d", got)
	}
}

func TestClick(t *testing.T) {
	painter, p, size := NewPainter(), logOn(), image.Pt(1280, 800)
	want := map[int]bool{UserField: true, SecretField: true, LogIn: true, Cancel: true, Switch: true}
	for y := 0; y < size.Y; y += 8 {
		for x := 0; x < size.X; x += 8 {
			i := painter.At(p, size, image.Pt(x, y))
			if i < 0 {
				continue
			}
			id, _ := p.Click(i)
			if typed := p.Items[i].typed(); typed && (id != 0 || p.Focus != i) || !typed && id != p.Items[i].ID {
				t.Fatalf("click on item %d chose %d, focus %d", i, id, p.Focus)
			}
			delete(want, p.Items[i].ID)
		}
	}
	if len(want) > 0 {
		t.Errorf("never hit: %v", want)
	}
}

func TestRefusalText(t *testing.T) {
	l := LogOn{Refusal: refuse.WrongLogin.Of(), Left: 1}
	if s := l.refusal(); !strings.HasPrefix(s, "Error 1326: Wrong log-in\nThe user name") || !strings.HasSuffix(s, "One attempt left before a lock-out.") {
		t.Error(s)
	}
	if s := explain(refuse.Held.Of("alice@example.com", "10:04")); !strings.Contains(s, "\nalice@example.com has") {
		t.Error(s)
	}
}

func FuzzPage(f *testing.F) {
	f.Add([]byte("abc\x08\x09\xff"), uint16(640), uint16(480))
	painter := NewPainter()
	f.Fuzz(func(t *testing.T, in []byte, w, h uint16) {
		p := logOn()
		for _, b := range in {
			sym := uint32(b)
			if b < ' ' || b >= 0x80 {
				sym = 0xff00 | uint32(b)
			}
			p.Key(sym, b&1 != 0)
		}
		p.Paste(string(in))
		size := image.Pt(int(w)%2000+1, int(h)%1200+1)
		if b := painter.Bounds(p.View(), size); !b.In(image.Rectangle{Max: size}) {
			t.Fatalf("drawn at %v of %v", b, size)
		}
		if len(p.Value(UserField)) > MaxField || len(p.Value(SecretField)) > MaxField {
			t.Fatal("a field is too long")
		}
	})
}

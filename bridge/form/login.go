package form

import (
	"fmt"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
)

// IDs of the items on the pages made here.
const (
	UserField = iota + 1
	SecretField
	LogIn
	Switch // to the other kind of log-in
	Cancel
	Watch
	Ask
	HandOver
	Keep
	TakeNow
	AllScreens // the screens' own have the numbers after it
)

// MaxScreens is how many screens can be chosen from.
const MaxScreens = 8

// A LogOn says what a log-on form shows.
type LogOn struct {
	Computer string
	Account  string // at the relay; empty: none is known
	Relay    string // name of the relay; empty: not known
	Code     bool   // asks for the access code, else for user name and password
	CodeSet  bool   // there is an access code
	OSLogin  bool   // user names are accepted
	Passes   bool   // what is typed passes through the relay in clear
	Greeter  bool   // nobody is logged in at the computer
	User     string // put into the field
	Refusal  *refuse.Refusal
	Left     int       // attempts left after Refusal, -1: not told
	Until    time.Time // end of a lock-out, zero: none
	Busy     bool      // what was entered is being checked
}

// Page makes the log-on form. Its secret is empty.
func (l *LogOn) Page() *Page {
	items := []Item{
		{Kind: Heading, Text: "Log in to this computer"},
		{Kind: Subject, Text: refuse.Printable(l.Computer, 80)},
		{Kind: Small, Text: l.through()},
	}
	if l.Refusal != nil {
		items = append(items, Item{Kind: Error, Text: l.refusal()})
	}
	if l.Code {
		items = append(items,
			Item{Kind: Text, Text: "Enter the access code that was chosen on this computer."},
			Item{Kind: Secret, ID: SecretField, Text: "Access code"})
	} else {
		items = append(items,
			Item{Kind: Text, Text: "Enter the user name and password you would type sitting at it."},
			Item{Kind: Field, ID: UserField, Text: "User name"},
			Item{Kind: Secret, ID: SecretField, Text: "Password"})
	}
	items = append(items, Item{Kind: Strong, Text: "Not your account password."})
	submit := "Log in"
	if l.Busy {
		submit = "Checking…"
	}
	items = append(items,
		Item{Kind: Button, ID: LogIn, Text: submit, Primary: true},
		Item{Kind: Button, ID: Cancel, Text: "Cancel", Cancel: true})
	switch {
	case l.Code && l.OSLogin:
		items = append(items, Item{Kind: Link, ID: Switch, Text: "Use a user name instead"})
	case !l.Code && l.CodeSet:
		items = append(items, Item{Kind: Link, ID: Switch, Text: "Use the access code instead"})
	}
	items = append(items, Item{Kind: Rule})
	if l.Greeter {
		items = append(items, Item{Kind: Small, Text: "Nobody is logged in: you will see its log-on screen."})
	}
	if l.Code {
		items = append(items, Item{Kind: Small, Text: "Forgotten? It can be changed only at the computer itself: hostd code set"})
	}
	if l.Passes {
		items = append(items, Item{Kind: Small, Text: "The relay can see what you type here; the SSH door is end to end."})
	} else {
		items = append(items, Item{Kind: Small, Text: "End to end: the relay cannot see what you type here."})
	}
	p := NewPage(items...)
	p.Busy = l.Busy
	if l.User != "" && !l.Code {
		p.Set(UserField, l.User)
		p.FocusOn(SecretField)
	}
	return p
}

func (l *LogOn) through() string {
	account, relay := refuse.Printable(l.Account, 120), refuse.Printable(l.Relay, 120)
	switch {
	case account != "" && relay != "":
		return fmt.Sprintf("You came through %s as %s.", relay, account)
	case account != "":
		return fmt.Sprintf("You came through the relay as %s.", account)
	case relay != "":
		return fmt.Sprintf("You came through %s.", relay)
	}
	return "You came without a relay."
}

func (l *LogOn) refusal() string {
	text := explain(l.Refusal)
	if more := Chances(l.Refusal, l.Left, l.Until); more != "" {
		text += " " + more + "."
	}
	return text
}

// Chances says behind a refused log-in when the lock-out ends, or how many attempts are left once they are few; else it is empty.
func Chances(r *refuse.Refusal, left int, until time.Time) string {
	switch {
	case !until.IsZero() && !refuse.LockedOut.Is(r): // which says it itself
		return "Locked until " + until.Format("15:04:05")
	case left == 1:
		return "One attempt left before a lock-out"
	case left == 0 || left == 2:
		return fmt.Sprintf("%d attempts left before a lock-out", left)
	}
	return ""
}

// explain is a refusal for a box: the number and the title, then cause and next step as sentences.
func explain(r *refuse.Refusal) string {
	return fmt.Sprintf("Error %d: %s\n%s. %s.", r.Code, r.Title, sentence(r.Detail), sentence(r.Remedy))
}

// sentence makes the first letter of s a capital one, unless s begins with an address or a name in another case.
func sentence(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if s == "" || s[0] < 'a' || s[0] > 'z' || strings.ContainsAny(first, "@./") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Taken is the page for someone who is logged in but may not control now, and what still works. User is whom they
// are logged in as; ask says that they may ask for control, force that they may also take it without asking.
func Taken(computer, user string, r *refuse.Refusal, ask, force bool) *Page {
	items := []Item{
		{Kind: Heading, Text: "This computer is in use"},
		{Kind: Subject, Text: refuse.Printable(computer, 80)},
		{Kind: Info, Text: explain(r)},
		{Kind: Text, Text: "You are logged in. You may watch until control is free, or ask for it now: " +
			"whoever has it sees your name and has 10 seconds to answer."},
		{Kind: Button, ID: Watch, Text: "Watch", Primary: true},
	}
	if user = refuse.Printable(user, 80); user != "" {
		items[3].Text = "You are logged in as " + user + items[3].Text[len("You are logged in"):]
	}
	if ask {
		items = append(items, Item{Kind: Button, ID: Ask, Text: "Ask for control"})
	}
	if force {
		items = append(items, takeNow)
	}
	items = append(items, Item{Kind: Button, ID: Cancel, Text: "Cancel", Cancel: true})
	return NewPage(items...)
}

// takeNow is the button for those who may take control without asking.
var takeNow = Item{Kind: Button, ID: TakeNow, Text: "Take control now"}

// Asking is the page while the holder is asked for control, with so many seconds left. force says that whoever waits may take it
// without asking. No button has the focus, since whoever types on while the page comes up does not mean one.
func Asking(computer, holder string, seconds int, force bool) *Page {
	items := []Item{
		{Kind: Heading, Text: "One moment"},
		{Kind: Subject, Text: refuse.Printable(computer, 80)},
		{Kind: Text, Text: fmt.Sprintf("Asking %s for control. %d s left.", refuse.Printable(holder, 120), seconds)},
	}
	if force {
		items = append(items, takeNow)
	}
	p := NewPage(append(items, Item{Kind: Button, ID: Cancel, Text: "Cancel", Cancel: true})...)
	p.Focus = 0
	return p
}

// Wait is a page that says what is being waited for. Escape or a click cancels; Enter does not, since whoever types on while
// the page comes up does not mean its button.
func Wait(computer, text string) *Page {
	p := NewPage(
		Item{Kind: Heading, Text: "One moment"},
		Item{Kind: Subject, Text: refuse.Printable(computer, 80)},
		Item{Kind: Text, Text: text},
		Item{Kind: Button, ID: Cancel, Text: "Cancel", Cancel: true})
	p.Busy = true
	return p
}

// Over is the last page of a session.
func Over(computer string, r *refuse.Refusal) *Page {
	return NewPage(
		Item{Kind: Heading, Text: r.Title},
		Item{Kind: Subject, Text: refuse.Printable(computer, 80)},
		Item{Kind: Info, Text: explain(r)},
		Item{Kind: Small, Text: "This window closes by itself."})
}

// Question asks who is in control to hand it over within so many seconds.
func Question(account string, seconds int) *Page {
	p := NewPage(
		Item{Kind: Strong, Text: refuse.Printable(account, 120) + " asks for control."},
		Item{Kind: Small, Text: fmt.Sprintf("Without an answer you keep it. %d s left. Keys: F9 hands over, F10 keeps.", seconds)},
		Item{Kind: Button, ID: HandOver, Text: "Hand over"},
		Item{Kind: Button, ID: Keep, Text: "Keep", Primary: true})
	p.Box, p.Focus = Top, -1
	return p
}

// Screens offers to show one of n screens, two or more.
func Screens(n int) *Page {
	items := []Item{
		{Kind: Strong, Text: fmt.Sprintf("This desktop has %d screens.", n)},
		{Kind: Small, Text: "Click to see only one. Without that you see all."},
		{Kind: Button, ID: AllScreens, Text: "All", Primary: true},
	}
	for i := range min(n, MaxScreens) {
		items = append(items, Item{Kind: Button, ID: AllScreens + 1 + i, Text: fmt.Sprint(i + 1)})
	}
	p := NewPage(items...)
	p.Box, p.Focus = Top, -1
	return p
}

// Notice is a short message in a corner. Text may be empty.
func Notice(title, text string) *Page {
	items := []Item{{Kind: Strong, Text: title}}
	if text != "" {
		items = append(items, Item{Kind: Small, Text: text})
	}
	p := NewPage(items...)
	p.Box = Corner
	return p
}

// Told is a notice of a refusal.
func Told(r *refuse.Refusal) *Page {
	return Notice(fmt.Sprintf("%d: %s", r.Code, r.Detail), sentence(r.Remedy)+".")
}

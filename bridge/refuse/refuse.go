// Package refuse is the one catalogue of refusals: a number, a cause and a next step, worded the same on a page, in
// the picture, on the command line and in the API. Numbers below 40000 are those Windows gives for the same cause.
package refuse

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/helmline/helmline/bridge/wire"
)

// A Kind is one line of the catalogue. Detail is a format for fmt; its arguments are named in the comment beside it.
type Kind struct {
	Code   int
	Title  string
	Detail string
	Remedy string
}

// The catalogue. Names and texts that come from a peer go in as arguments and are made printable.
var (
	// The host login. 1326 has a text for each of the two things that a form asks for, which whoever typed knows anyway; neither
	// says whether there is such a user or such a code.
	WrongLogin   = add(1326, "Wrong log-in", "the user name or password is not right; this computer wants its own, not your account password", "try again with what you would type sitting at it")
	WrongCode    = add(1326, "Wrong log-in", "the access code is not right; this computer wants its own, not your account password", "try again, or use a user name instead")
	NoRight      = add(5, "No right", "%s may not log in to this computer, or not to the desktop on its screen", "ask an administrator of this computer") // user
	Restricted   = add(1327, "Account restricted", "%s is restricted on this computer", "ask an administrator of this computer")                          // user
	OutsideHours = add(1328, "Outside hours", "%s may not log in at this time", "come back later or ask an administrator of this computer")               // user
	NewPassword  = add(1330, "Password expired", "the password of %s must be changed first", "change it at the computer")                                 // user
	Disabled     = add(1331, "Account expired", "the user account of %s has expired or is disabled", "ask an administrator of this computer")             // user
	LockedOut    = add(1909, "Locked out", "too many failures; log-in is locked until %s", "wait, or run \"hostd unlock\" at the computer")               // time of day
	HostStorage  = add(112, "Storage full", "this computer cannot write to its storage, so it lets nobody in", "free some space at the computer")

	// Reaching the computer.
	Offline      = add(40001, "Offline", "%s is offline, last seen %s", "switch it on and check its network")                                   // computer, time
	Asleep       = add(40002, "Asleep", "%s is asleep since %s", "wake it: press a key at it, or its power button")                             // computer, time
	Rebooting    = add(40001, "Rebooting", "%s reboots, last seen %s", "try again in a minute or two")                                          // computer, time
	Stopped      = add(40003, "Host service stopped", "the host service of %s was stopped at %s", "at the computer: \"systemctl start hostd\"") // computer, time
	NotRunning   = add(40003, "Not ready", "%s answers, but its host service is not ready", "try again; at the computer: \"hostd doctor\"")     // computer
	Restarting   = add(40004, "Relay restarting", "the relay is restarting", "try again in some seconds")
	NotAccepted  = add(40005, "Not accepted", "%s is enrolled, but its key is not accepted any more", "enrol it again at the computer")                                                                           // computer
	Doubled      = add(40005, "Not accepted", "%s is enrolled, but two machines come with its key, and neither is let in", "at the copy, remove tunnel.key from hostd's state directory, and enrol it by itself") // computer
	TooOld       = add(40006, "Version too old", "%s runs a version of hostd that this relay cannot talk to", "update hostd there, or ask the operator to update the relay")                                      // computer
	NoRoute      = add(40007, "Not reached", "%s", "try again in some seconds")                                                                                                                                   // how far it came
	NoComputer   = add(40008, "No such computer", "no computer of that name is yours or shared with you", "look it up on the relay's list of your computers")
	NameComputer = add(40009, "No computer named", "add /COMPUTER to the user name, as in %s/NAME", "your computers: %s") // account, names

	OtherOwner = add(40025, "Enrolled already", "this computer is enrolled for another account of the relay", "have it removed there first: \"relayd host remove\"")

	// Control.
	Held        = add(40010, "Controlled", "%s has been in control since %s", "watch, or ask for control")                          // holder, time
	Denied      = add(40011, "Request denied", "%s did not hand over control", "watch, or ask again later")                         // holder
	AskTimeout  = add(40012, "Request timed out", "%s did not answer the request for control", "watch, or ask again later")         // holder
	TakenOver   = add(40013, "Control taken", "%s has taken control", "you go on watching, and may ask for control")                // taker
	Ended       = add(40014, "Session ended", "the session was ended by %s", "ask them, or sign in again")                          // who
	Idle        = add(40014, "Session ended", "nobody typed into the form of %s", "sign in again")                                  // computer
	SignedOut   = add(40014, "Session ended", "you have been signed out of the relay %s", "sign in again")                          // after what
	WatchOnly   = add(40015, "Watch only", "you may watch %s, not control it", "watch it, or ask its owner for the right")          // computer
	TooMany     = add(40016, "Too many sessions", "%s serves as many sessions as it can", "try again later")                        // computer
	NeedsE2E    = add(40017, "End to end only", "%s only accepts end-to-end sessions", "come through the SSH door: vncviewer -via") // computer
	YourLimit   = add(40018, "Too many of yours", "you have %s sessions on %s, as many as a guest may", "end one first")            // number, computer
	TooOften    = add(40018, "Too many of yours", "that is more sessions than the relay opens for one account at once", "try again in some seconds")
	YourPages   = add(40018, "Too many of yours", "you have sessions in %s pages, as many as one may", "end one first")                 // number
	NotResumed  = add(40019, "Log in again", "the session with %s is over, and cannot go on by itself", "log in to the computer again") // computer
	CodeInvalid = add(40024, "Code not valid", "the one-time code is wrong, used or expired", "make a new one")

	WelcomeInvalid = add(40024, "Code not valid", "the code is wrong, used or expired", "ask whoever gave it to you for a new one")

	TicketInvalid = add(40024, "Page not valid", "what the page opens its session with was used, has expired, or belongs to another sign-in", "load the page again")

	// Recording.
	NotRecorded = add(40043, "Not recorded", "%s records every session and cannot do so now: %s", "at the computer: \"journalctl -u hostd-net\" says more") // computer, cause

	// The account.
	SignIn       = add(40050, "Sign-in failed", "the account name or password is not right", "try again")
	SlowDown     = add(40051, "Too many failures", "too many failed sign-ins; try again after %s", "wait") // time
	Busy         = add(40052, "Too busy", "too many people are signing in at this moment", "try again in some seconds")
	StorageOut   = add(40053, "Storage full", "the relay cannot write to its storage, so it lets nobody in", "tell the operator of the relay")
	NeedsFactor  = add(40054, "Second factor", "%s signs in with a second factor, which this door cannot ask for", "open the list of your computers and approve it there, make a one-time code for the code door, or use the SSH door") // account
	NotApproved  = add(40057, "Not approved", "the sign-in was refused on a page of the account", "whoever did not refuse it changes the password")
	WrongFactor  = add(40055, "Wrong code", "the code is wrong, or it was used already", "wait for the next one, or use a recovery code")
	WrongPasskey = add(40056, "Passkey not accepted", "the relay does not know this passkey, or the answer came too late", "try again, or sign in with the password")

	// Pages of the relay.
	NotYours = add(40061, "Not yours", "only %s, whose it is, may do that", "ask them") // owner
	ReadOnly = add(40062, "Read only", "the token may only read", "make one that may change things, on your account's page")
	Unproven = add(40063, "Confirm first", "that takes a proof of who you are that is no older than ten minutes", "confirm it on your account's page, or use a token")
	NotDone  = add(40064, "Not done", "%s", "look at what was sent") // cause
	TooFast  = add(40065, "Too many changes", "that is more changes than the relay takes from one account at once", "wait some seconds")
	NoPage   = add(40060, "Not found", "there is nothing at this address, or nothing for you", "go back to the list of your computers")

	ByPerson  = add(40066, "Not by a token", "that is not done by a token: %s", "sign in with a browser, and do it there") // why
	AuditRead = add(40067, "Too much at once", "others read the audit log at this moment", "try again in some seconds")
	Watched   = add(40067, "Too much at once", "as many pages and programs as may are told what changes on the account's list", "end one first")

	// The screen.
	NoScreen    = add(40040, "No screen", "%s has no screen to show: %s", "at the computer: \"hostd doctor\"")                                              // computer, cause
	NotOffered  = add(40041, "Security type", "the viewer does not support %s", "use TigerVNC, Remmina or gvncviewer, or a one-time code at the code port") // types
	ViewerLimit = add(40042, "Protocol limit", "the viewer broke a limit of the protocol: %s", "update the viewer")                                         // limit
)

var catalogue []*Kind

func add(code int, title, detail, remedy string) *Kind {
	k := &Kind{code, title, detail, remedy}
	catalogue = append(catalogue, k)
	return k
}

// All is the catalogue in order of its numbers.
func All() []*Kind {
	return slices.SortedStableFunc(slices.Values(catalogue), func(a, b *Kind) int { return a.Code - b.Code })
}

// Titles are the titles by number; of a number that has several, the first.
func Titles() map[int]string {
	t := map[int]string{}
	for _, k := range All() {
		if t[k.Code] == "" {
			t[k.Code] = k.Title
		}
	}
	return t
}

// A Refusal is one refusal as a person reads it. It is an error.
type Refusal struct {
	Code   int    `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
}

// Of makes the refusal with its arguments, in the order that the catalogue names them: first those of Detail, then
// those of Remedy.
func (k *Kind) Of(args ...any) *Refusal {
	for i, a := range args {
		args[i] = Printable(fmt.Sprint(a), 80)
	}
	n := min(strings.Count(k.Detail, "%s"), len(args))
	return &Refusal{k.Code, k.Title, fmt.Sprintf(k.Detail, args[:n]...), fmt.Sprintf(k.Remedy, args[n:]...)}
}

// OffersRole says whether another role is what helps.
func (r *Refusal) OffersRole() bool {
	switch r.Code {
	case Held.Code, Denied.Code, AskTimeout.Code, TakenOver.Code, WatchOnly.Code:
		return true
	}
	return false
}

// Where is the refusal as it reads where how says how one takes another role.
func (r *Refusal) Where(how string) *Refusal {
	if !r.OffersRole() {
		return r
	}
	said := *r
	said.Remedy += " (" + how + ")"
	return &said
}

// Text is the refusal as one line of at most 256 bytes.
func (k *Kind) Text(args ...any) string { return k.Of(args...).Error() }

// Is says whether err is a refusal of this kind's number.
func (k *Kind) Is(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Code == k.Code
}

// MaxText is the longest line that Error gives, bytes: what every viewer shows.
const MaxText = 256

// Error is the refusal as one line: "40010: alice@example.com has been in control since 10:04; watch, or ask for control".
func (r *Refusal) Error() string {
	return Printable(fmt.Sprintf("%d: %s; %s", r.Code, r.Detail, r.Remedy), MaxText)
}

// Reason is the refusal as viewers show it. TigerVNC's shows nothing behind the first @, so a detail that has one comes last:
// "40010: controlled; watch, or ask for control: alice@example.com has been in control since 10:04".
func (r *Refusal) Reason() string {
	if r.Title == "" || !strings.Contains(r.Detail, "@") {
		return r.Error()
	}
	return Printable(fmt.Sprintf("%d: %s; %s: %s", r.Code, strings.ToLower(r.Title), r.Remedy, r.Detail), MaxText)
}

// Printable makes s one line of at most max bytes: control and formatting characters, invalid UTF-8 and angle
// brackets become spaces.
func Printable(s string, max int) string {
	s = strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsGraphic(c) || c == '<' || c == '>' {
			return ' '
		}
		return c
	}, s)
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "") // a character cut in half goes
	}
	return s
}

// AppendTo appends the refusal for a tunnel: code, title, detail and remedy.
func (r *Refusal) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(r.Code>>24), byte(r.Code>>16), byte(r.Code>>8), byte(r.Code))
	dst = wire.AppendString8(dst, Printable(r.Title, 80))
	dst = wire.AppendString8(dst, Printable(r.Detail, 255))
	return wire.AppendString8(dst, Printable(r.Remedy, 255))
}

// Read reads what AppendTo wrote. The texts are the peer's: they are made printable.
func Read(r *wire.Reader) *Refusal {
	f := &Refusal{Code: int(r.U32() & 0xfffff)}
	f.Title = Printable(r.String8("title", 80), 80)
	f.Detail = Printable(r.String8("detail", 255), 255)
	f.Remedy = Printable(r.String8("remedy", 255), 255)
	return f
}

// Package ipc is what the parts of hostd say to each other over Unix sockets. Each message is one packet of a
// SOCK_SEQPACKET socket: a type byte, then JSON, but for input, pictures, pointer moves and clipboards, which are binary records
// because they are many or large. File descriptors travel beside a message.
//
//	hostd-net ── Conn ── hostd ── Conn ── worker        control and input; hostd checks every input's epoch
//	hostd-net ─────── Conn (picture) ─────── worker     Damaged, Grab, Frame, Cursor; made by hostd, handed to both
//
// hostd believes nothing that hostd-net says: it may open and close sessions and try log-ins, but who is logged in, who controls
// and which memory a session may see is hostd's own knowledge.
package ipc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"image"
	"time"

	"github.com/helmline/helmline/bridge/frame"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
)

// MaxMessage is the longest packet, bytes. A cursor of 256×256 pixels, the longest text of a clipboard and a list of 4,000
// rectangles fit.
const MaxMessage = 257 << 10

// MaxFiles is the largest number of descriptors beside a message.
const MaxFiles = 2

// Type tells messages apart.
type Type uint8

// Messages of hostd-net to hostd. Those with an answer carry an ID that the answer repeats.
const (
	TypeHello    Type = iota + 1 // Hello, first message of hostd-net; answered by a Welcome
	TypeOpen                     // Open → Opened
	TypeLogin                    // Login → LoggedIn
	TypeControl                  // Control → Controlled
	TypeAnswer                   // Answer to an Ask
	TypeClose                    // Close
	TypeOnline                   // Online: the tunnel's state, for "hostd status"
	TypeInput                    // Input, binary; from hostd to the worker too
	TypeResize                   // Resize; from hostd to the worker too
	TypePaste                    // Clip, binary: what the desktop's clipboard shall hold; from hostd to the worker too
	TypeRecorded                 // Recorded, answer to a Record, and later when a recording has failed
	TypeYield                    // Yield
	TypeAtEnd                    // AtEnd
)

// Messages of hostd to hostd-net.
const (
	TypeWelcome Type = iota + 32
	TypeOpened
	TypeLoggedIn
	TypeControlled
	TypeDesktop // Desktop, with two descriptors: the frame memory, readable only, and the picture socket
	TypeAttach  // Attach
	TypeDetach  // Detach
	TypeLease   // Lease
	TypeAsk     // Ask
	TypeEnd     // End
	TypeReload  // the enrolment has changed; no body
	TypeRecord  // Record
	TypeAway    // Away
	TypeEnded   // Ended
)

// Messages of hostd to the worker.
const (
	TypeStart   Type = iota + 64 // Start, first message
	TypeMemory                   // Memory, with two descriptors: the frame memory and the picture socket
	TypeRelease                  // release every pressed key and button; no body
	TypeStop                     // end; no body
	TypeListen                   // Listen
)

// Messages of the worker to hostd.
const (
	TypeReady    Type = iota + 96 // Ready: the display is open
	TypeSize                      // Ready again, as the display has a new size: the worker waits for new Memory
	TypeFailed                    // Failed: the display cannot be had, or is gone; the worker ends
	TypeReleased                  // answer to TypeRelease, when all keys are up; no body
	TypeCopy                      // Clip, binary: what was copied on the desktop; from hostd to hostd-net too
)

// Messages on a picture socket. Between Grab and Frame the worker owns the frame memory, else hostd-net does.
const (
	TypeDamaged Type = iota + 128 // worker → hostd-net: something changed; sent once until the next Grab; no body
	TypeGrab                      // hostd-net → worker: Grab, binary: bring the memory up to date
	TypeFrame                     // worker → hostd-net: Frame, binary
	TypeCursor                    // worker → hostd-net: frame.Cursor, binary
	TypePointer                   // worker → hostd-net: Pointer, binary: where the pointer is now
	TypeLocks                     // worker → hostd-net: one byte, the state of the lock keys: Scroll Lock 1, Num Lock 2, Caps Lock 4
	TypeBell                      // worker → hostd-net: the bell rings; no body
	TypeLayout                    // worker → hostd-net: Layout, binary: before the first Frame, and when it is another
)

// Hello is hostd-net's first message.
type Hello struct {
	Version string
}

// Welcome tells hostd-net what it needs to draw a log-on form and to answer before one. It is sent again when
// something in it changes.
type Welcome struct {
	Name       string        // of the computer, as its OS calls it
	Size       image.Point   // of the desktop that a form should have, pixels
	CodeFirst  bool          // the form asks for the access code first
	CodeSet    bool          // an access code exists
	OSLogin    bool          // user name and password can be checked
	Greeter    bool          // the log-on screen is on the computer's screen
	RequireE2E bool          // refuse sessions that start at ClientInit
	BootID     string        // differs at each start of hostd
	Clipboard  Clipboard     // which ways text may go
	Taped      bool          // no session without a recording
	KeepTapes  time.Duration // how long a recording is kept after its end; 0: while there is space
	Holder     string        // account in control, empty: nobody
	Since      time.Time     // of the holder
}

// Clipboard says which ways the text of clipboards may go, and only ever that of who controls.
type Clipboard struct {
	ToHost   bool
	ToViewer bool
}

// Role is what a session wants to be.
type Role uint8

// Roles. Take asks the holder for control, then controls.
const (
	RoleControl Role = iota + 1
	RoleWatch
	RoleTake
)

func (r Role) String() string {
	switch r {
	case RoleControl:
		return "control"
	case RoleWatch:
		return "watch"
	case RoleTake:
		return "take"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// Open announces a session before its viewer has logged in. Account, Viewer and Session are the relay's words.
type Open struct {
	ID      uint32
	Session uint32 // hostd-net's number for it, never used twice by one hostd-net
	Relay   string // the relay's session id, for the record
	Account string
	Viewer  string // address as the relay saw it
	Role    Role
	E2E     bool // the viewer's RFB security ends here
}

// Opened answers Open. A refusal (held, too many, end-to-end only) is early advice. An end-to-end session that is refused as held exists
// all the same, for a log-in with a Key.
type Opened struct {
	ID      uint32
	Refusal *refuse.Refusal
}

// Method of a log-in.
type Method uint8

// Methods.
const (
	MethodPassword Method = iota + 1 // OS user and password
	MethodCode                       // Computer Access Code
	MethodResume                     // a proof that this is the viewer of a session that was cut off: AppendProof
)

// Login tries a log-in. Secret is wiped by whoever has used it.
type Login struct {
	ID      uint32
	Session uint32
	Method  Method
	User    string
	Secret  []byte
	Key     []byte // KeySize bytes that the session can be resumed with after a cut; empty: it cannot
}

// Sizes of what resumes a session, bytes.
const (
	KeySize   = 32
	ProofSize = 4 + sha256.Size
)

// AppendProof appends the proof of whoever has the key: a count, which grows with each use, in four bytes, and the HMAC-SHA256 of
// "helmline resume" and the count.
func AppendProof(dst, key []byte, count uint32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, count)
	h := hmac.New(sha256.New, key)
	h.Write([]byte("helmline resume"))
	h.Write(dst[len(dst)-4:])
	return h.Sum(dst)
}

// LoggedIn answers Login. After success an Attach (or a Detach with a refusal) follows.
type LoggedIn struct {
	ID      uint32
	Refusal *refuse.Refusal // nil: logged in
	Left    int             // attempts before a lock-out, when a refusal may be tried again; -1: not told
	Until   time.Time       // end of a lock-out, zero: none
	User    string          // OS user
	Role    Role            // what the session goes on as; 0: as it was opened
}

// Control asks for control for a logged-in session. Force takes it without asking the holder, if hostd allows; it may follow a
// Take that has no answer yet, which it then replaces.
type Control struct {
	ID      uint32
	Session uint32
	Take    bool // ask the holder, who has 10 s; the answer to this message comes after that
	Force   bool
}

// Controlled answers Control.
type Controlled struct {
	ID      uint32
	Refusal *refuse.Refusal
	Epoch   uint64
}

// Answer is the holder's answer to an Ask.
type Answer struct {
	Session uint32 // the holder's
	Asker   uint32 // the asking session's, from the Ask
	Grant   bool
}

// Yield gives a session's control up, and what it has asked for it.
type Yield struct {
	Session uint32
}

// Ending is what becomes of the OS session on the computer's screen when a session of ours ends that controls it.
type Ending uint8

// Endings.
const (
	EndLeaves  Ending = iota // it stays as it is
	EndLocks                 // its screen is locked
	EndLogsOff               // it ends, with all that runs in it
)

// AtEnd says what a session in control, whose Attach allows it, wants at its end.
type AtEnd struct {
	Session uint32
	Do      Ending
	Now     bool // its viewer is about to leave, and waits for the Ended
}

// Outcome is what has come of an Ending.
type Outcome uint8

// Outcomes.
const (
	OutcomeNone   Outcome = iota
	OutcomeFailed         // all is as it was
	OutcomeAsked          // the desktop was told, and has not said that it has done it
	OutcomeDone
)

// Ended says what has come of an AtEnd that was for now.
type Ended struct {
	Session uint32
	Outcome Outcome
}

// Close ends a session. Vanished keeps its control for the grace time.
type Close struct {
	Session  uint32
	Vanished bool
}

// Resize asks for another size and layout of the desktop that a session controls. The Layout that comes after it says what has come of
// it; none comes when hostd drops it, since the session does not control.
type Resize struct {
	Session uint32
	Epoch   uint64
	Number  uint32 // hostd-net's, not 0
	Size    image.Point
	Screens []frame.Screen
}

// Online is the state of the tunnel.
type Online struct {
	Online bool
	Relay  string // host:port
	Name   string // of this computer there; empty: not known
	Since  time.Time
	Err    string // why not
}

// Away says why the computer is about to go, or with 0 that it is here again. hostd-net tells the relay, and then with an Online that it has.
type Away struct {
	Why tunnel.Reason
}

// Record begins or ends the recording of a desktop that hostd-net has.
type Record struct {
	Desktop uint32
	On      bool
	User    string // OS user whose desktop it is, for the recording's title
	Space   int64  // for all recordings, bytes
	Key     []byte // of X25519, public: the recording is sealed for it; empty: it is not sealed
}

// Recorded says that the recording of a desktop runs or, with a cause, that it cannot begin or go on.
type Recorded struct {
	Desktop uint32
	Cause   string
}

// Desktop hands out the memory and the picture socket of a desktop. A later Desktop with the same Number replaces
// the earlier: its size changed, or its worker was started again.
type Desktop struct {
	Number uint32
	Size   image.Point
	Stride int
	Name   string // of the desktop, for the viewer's title
}

// Attach shows a desktop to a session. It follows the Desktop's first message.
type Attach struct {
	Session uint32
	Desktop uint32
	User    string
	Force   bool // it may take control of this desktop without asking
	Ends    bool // AtEnd is heeded
	AtEnd   Ending
}

// Detach takes the desktop away from a session, which gets the form again.
type Detach struct {
	Session uint32
	Refusal *refuse.Refusal
}

// Lease tells every session's hostd-net who controls.
type Lease struct {
	Epoch   uint64
	Session uint32 // 0: nobody, or a holder that has vanished
	Holder  string // account; empty: nobody
	Since   time.Time
}

// Ask asks the holder to hand over control.
type Ask struct {
	Session uint32 // the holder's
	Asker   uint32 // the asking session; 0: nobody asks any more
	Account string // who asks
	Until   time.Time
}

// End ends a session at once.
type End struct {
	Session uint32
	Refusal *refuse.Refusal
}

// Start tells a worker which display to open.
type Start struct {
	Display    string      // ":0"; empty: start a virtual display
	Cookie     []byte      // MIT-MAGIC-COOKIE-1; empty: find it as a program of the user would
	Xauthority string      // file to look in first; may be empty
	Greeter    bool        // a log-on screen: the worker ends as soon as it is a user's session
	Size       image.Point // of a virtual display
	StateDir   string      // for a virtual display's files; may be empty
}

// Memory gives a worker a frame memory and the picture socket it belongs to; it replaces an earlier one.
type Memory struct {
	Size   image.Point
	Stride int
}

// Listen says whether a worker tells what is copied on its desktop. It does not before it was told to.
type Listen struct {
	Clipboard bool
}

// Ready says that a worker has its display open.
type Ready struct {
	Display string
	Size    image.Point
	Name    string
}

// Failed says why a worker has no display.
type Failed struct {
	Cause string
}

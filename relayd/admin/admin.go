// Package admin is how a running relayd is administered: HTTP with JSON over a Unix socket that only root and relayd's
// own user may use, and the client that relayd's commands use. Every change is in the audit log before it is made.
package admin

import (
	"time"

	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/registry"
)

// SessionInfo is one live session.
type SessionInfo struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	Computer string    `json:"computer"`
	Role     string    `json:"role"` // control, watch or take
	Door     string    `json:"door"`
	Viewer   string    `json:"viewer"` // address and port
	Since    time.Time `json:"since"`
}

// Host is a computer as an administrator sees it.
type Host struct {
	ID       string           `json:"id"` // UUID
	Owner    string           `json:"owner"`
	Name     string           `json:"name"`
	Online   bool             `json:"online"`
	LastSeen *time.Time       `json:"last_seen"` // null: never
	Hostname string           `json:"hostname"`  // what the computer calls itself
	Version  string           `json:"version"`   // of its hostd, while it is online
	Key      string           `json:"key"`       // fingerprint, SHA256:…
	Created  time.Time        `json:"created"`
	Shares   []registry.Share `json:"shares"`
}

// Fingerprint is how people compare a key of the relay.
type Fingerprint struct {
	What string `json:"what"` // ssh: the SSH door's host key; tls: the certificate of the TLS doors
	Type string `json:"type"` // as in ED25519; hex or pin-sha256: the same as browsers or TigerVNC show it
	Hash string `json:"hash"` // SHA256:… but for those
}

// Invitation lets one computer enrol.
type Invitation struct {
	Token   string    `json:"token"` // secret: for hostd enroll
	Expires time.Time `json:"expires"`
}

// Code is a one-time code.
type Code struct {
	Code     string    `json:"code"` // secret: the password for the code door
	Computer string    `json:"computer"`
	Role     string    `json:"role"`
	Expires  time.Time `json:"expires"`
}

// What the operations take.
type (
	none struct{}

	emailArg struct {
		Email string `json:"email"`
	}
	passwordArg struct {
		Email    string `json:"email"`
		Password string `json:"password"`
		Admin    bool   `json:"admin"`
	}
	keyArg struct {
		Email string `json:"email"`
		Key   string `json:"key"` // a line of a .pub file to add, a fingerprint to remove
	}
	inviteArg struct {
		Email string `json:"email"`
		Name  string `json:"name"`
	}
	hostArg struct {
		Host string `json:"host"` // UUID, OWNER/NAME or NAME
		Name string `json:"name"`
	}
	shareArg struct {
		Host    string         `json:"host"`
		Email   string         `json:"email"`
		Right   registry.Right `json:"right"`
		Expires time.Time      `json:"expires,omitzero"`
	}
	sessionArg struct {
		ID string `json:"id"`
	}
	codeArg struct {
		Email string `json:"email"`
		Host  string `json:"host"`
		Watch bool   `json:"watch"`
	}
)

// The operations: each is a POST to /v1/NAME.
const (
	opAccountList     = "account.list"
	opAccountAdd      = "account.add"
	opAccountDisable  = "account.disable"
	opAccountEnable   = "account.enable"
	opAccountPassword = "account.password"
	opFactorReset     = "account.factor.reset"
	opKeyAdd          = "account.key.add"
	opKeyList         = "account.key.list"
	opKeyRemove       = "account.key.remove"
	opHostInvite      = "host.invite"
	opHostList        = "host.list"
	opHostRemove      = "host.remove"
	opHostRename      = "host.rename"
	opHostShare       = "host.share"
	opSessionList     = "session.list"
	opSessionEnd      = "session.end"
	opCode            = "code"
	opFingerprint     = "fingerprint"
)

// failure is the body of an answer that is not 200.
type failure struct {
	Error string `json:"error"`
}

// maxBody is the longest request or answer, bytes; lists of many computers are long.
const (
	maxBody   = 64 << 10
	maxAnswer = 64 << 20
)

// Account and Key are as account has them.
type (
	Account = account.Account
	Key     = account.Key
)

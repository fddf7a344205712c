package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Figures of the access code.
const (
	MinCode = 8   // characters
	MaxCode = 255 // bytes

	codeMemory = 64 << 10 // KiB
	codeTime   = 3
	codeLanes  = 1
	saltSize   = 16 // bytes
	tagSize    = 32 // bytes
)

// CodeFile is the name of the access code's file in hostd's folder of state.
const CodeFile = "access-code.json"

// A Code is the Computer Access Code as it is stored: it can be checked, not read.
type Code struct {
	User   string    `json:"user"` // the OS user it stands for
	UID    uint32    `json:"uid"`  // of that user when the code was set; another user of the same name does not inherit it
	Set    time.Time `json:"set"`
	Memory uint32    `json:"memory"` // KiB, of argon2id
	Time   uint32    `json:"time"`
	Salt   []byte    `json:"salt"`
	Tag    []byte    `json:"tag"`
}

// CheckCode says whether secret can be an access code.
func CheckCode(secret []byte) error {
	if n := utf8.RuneCount(secret); n < MinCode {
		return fmt.Errorf("the access code has %d characters; it needs at least %d", n, MinCode)
	}
	if len(secret) > MaxCode {
		return fmt.Errorf("the access code is longer than %d bytes", MaxCode)
	}
	return nil
}

// SetCode makes secret the access code that stands for a. The secret is wiped.
func SetCode(stateDir string, secret []byte, a *Account) error {
	defer clear(secret)
	if err := CheckCode(secret); err != nil {
		return err
	}
	c := Code{User: a.Name, UID: a.UID, Set: time.Now().Round(time.Second), Memory: codeMemory, Time: codeTime, Salt: make([]byte, saltSize)}
	rand.Read(c.Salt)
	c.Tag = c.hash(secret)
	data, err := json.Marshal(&c)
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(stateDir, CodeFile), append(data, '\n'))
}

// ClearCode removes the access code and says whether there was one.
func ClearCode(stateDir string) (bool, error) {
	err := os.Remove(filepath.Join(stateDir, CodeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// LoadCode reads the access code; nil without an error means that there is none.
func LoadCode(stateDir string) (*Code, error) {
	path := filepath.Join(stateDir, CodeFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("access code: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("access code: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); info.Mode().Perm()&0o077 != 0 || ok && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("access code: %s may be read or was written by others (%v); set it anew with \"hostd code set\"", path, info.Mode())
	}
	var c Code
	if err := json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(&c); err != nil {
		return nil, fmt.Errorf("access code: %s: %w", path, err)
	}
	if c.User == "" || len(c.Salt) < saltSize || len(c.Tag) != tagSize || c.Memory < 8 || c.Memory > 1<<20 || c.Time < 1 || c.Time > 20 {
		return nil, fmt.Errorf("access code: %s is damaged; set it anew with \"hostd code set\"", path)
	}
	return &c, nil
}

func (c *Code) hash(secret []byte) []byte {
	defer debug.FreeOSMemory() // of the 64 MiB nothing stays with a daemon that may run for months
	return argon2.IDKey(secret, c.Salt, c.Time, c.Memory, codeLanes, tagSize)
}

// Matches says whether secret is the code.
func (c *Code) Matches(secret []byte) bool {
	if len(secret) > MaxCode {
		secret = nil
	}
	return subtle.ConstantTimeCompare(c.hash(secret), c.Tag) == 1
}

// Account is the OS user that the code stands for, if that user still exists and is the one it was set for.
func (c *Code) Account(ctx context.Context) (*Account, error) {
	a, err := Lookup(ctx, c.User)
	if err != nil {
		return nil, err
	}
	if a.UID != c.UID {
		return nil, fmt.Errorf("the access code was set for %s with the number %d, who has the number %d now: %w", c.User, c.UID, a.UID, ErrNoAccount)
	}
	return a, nil
}

// noCode stands in where no code is set, so that trying one costs the same time.
func noCode() *Code {
	return &Code{Memory: codeMemory, Time: codeTime, Salt: make([]byte, saltSize), Tag: make([]byte, tagSize)}
}

package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/store"
)

// Limits of an account password, characters.
const (
	MinPassword = 10
	MaxPassword = 128
)

// Costs of one password check, and how many may be under way: two keep memory at 128 MiB and serve some 14 a second.
const (
	memoryKiB = 64 << 10
	passes    = 3
	saltBytes = 16
	tagBytes  = 32
	atOnce    = 2
	maxQueue  = 64
	maxWait   = 5 * time.Second
)

// What a stored PHC string may ask for at most.
const (
	maxMemoryKiB = 256 << 10
	maxPasses    = 10
	maxSalt      = 64
	maxTag       = 64
	maxPHC       = 512
)

// CheckPassword says what is wrong with a new password.
func CheckPassword(email string, password []byte) error {
	if !utf8.Valid(password) {
		return errors.New("the password is not valid UTF-8")
	}
	n := utf8.RuneCount(password)
	if n < MinPassword || n > MaxPassword {
		return fmt.Errorf("the password has %d characters; it must have %d to %d", n, MinPassword, MaxPassword)
	}
	lower, name := strings.ToLower(string(password)), EmailKey(email)
	local, _, _ := cutLast(name, '@')
	if rest := strings.ReplaceAll(strings.ReplaceAll(lower, name, ""), local, ""); rest != lower && strings.Trim(rest, around) == "" {
		return errors.New("the password is the account's name; choose another")
	}
	if easy(lower) {
		return errors.New("the password is among the first that a guesser tries; choose another")
	}
	return nil
}

// A costs is what one hash takes.
type costs struct {
	memory, passes uint32
}

// A phc is a password hash in the form $argon2id$v=19$m=65536,t=3,p=1$salt$tag.
type phc struct {
	costs
	salt, tag []byte
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, p.memory, p.passes, b64.EncodeToString(p.salt), b64.EncodeToString(p.tag))
}

// parsePHC reads what String wrote, and nothing that would cost more than the limits allow.
func parsePHC(s string) (phc, error) {
	var p phc
	if len(s) > maxPHC {
		return p, errors.New("password hash is too long")
	}
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v=19" {
		return p, errors.New("password hash is not argon2id, version 19")
	}
	cost := strings.Split(part[3], ",")
	if len(cost) != 3 || cost[2] != "p=1" {
		return p, errors.New("password hash does not have m, t and p=1")
	}
	var err error
	if p.memory, err = number(cost[0], "m=", maxMemoryKiB); err != nil {
		return p, err
	}
	if p.passes, err = number(cost[1], "t=", maxPasses); err != nil {
		return p, err
	}
	b64 := base64.RawStdEncoding.Strict()
	if p.salt, err = b64.DecodeString(part[4]); err != nil || len(p.salt) < 8 || len(p.salt) > maxSalt {
		return p, errors.New("password hash has no good salt")
	}
	if p.tag, err = b64.DecodeString(part[5]); err != nil || len(p.tag) < 16 || len(p.tag) > maxTag {
		return p, errors.New("password hash has no good tag")
	}
	return p, nil
}

func number(s, prefix string, max uint64) (uint32, error) {
	digits, found := strings.CutPrefix(s, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	if !found || err != nil || n == 0 || n > max || digits[0] == '0' {
		return 0, fmt.Errorf("password hash has no good %q", prefix)
	}
	return uint32(n), nil
}

// A hasher makes and checks password hashes, few at a time.
type hasher struct {
	pepper [32]byte
	costs  costs
	slots  chan struct{}
	queued atomic.Int64
	count  func() // called for each argon2id
	dummy  phc    // what the password of an unknown account is checked against
}

func newHasher(pepper [32]byte, c costs, count func()) *hasher {
	h := &hasher{pepper: pepper, costs: c, slots: make(chan struct{}, atOnce), count: count}
	h.dummy = phc{c, make([]byte, saltBytes), make([]byte, tagBytes)}
	rand.Read(h.dummy.salt)
	rand.Read(h.dummy.tag)
	return h
}

// make hashes a new password.
func (h *hasher) make(ctx context.Context, password []byte) (string, error) {
	p := phc{h.costs, make([]byte, saltBytes), nil}
	rand.Read(p.salt)
	var err error
	p.tag, err = h.run(ctx, password, p.costs, p.salt, tagBytes)
	return p.String(), err
}

// check compares a password with a hash; it runs argon2id exactly once, whatever it is given.
// The error is refuse.Busy, or ctx's.
func (h *hasher) check(ctx context.Context, password []byte, hash string) (bool, error) {
	p, bad := parsePHC(hash)
	if bad != nil {
		p = h.dummy
	}
	tag, err := h.run(ctx, password, p.costs, p.salt, len(p.tag))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(tag, p.tag) == 1 && bad == nil, nil
}

// run waits for one of the slots, at most maxWait and behind at most maxQueue others, and hashes.
func (h *hasher) run(ctx context.Context, password []byte, c costs, salt []byte, size int) ([]byte, error) {
	if h.queued.Add(1) > maxQueue+atOnce {
		h.queued.Add(-1)
		return nil, refuse.Busy.Of()
	}
	defer h.queued.Add(-1)
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case h.slots <- struct{}{}:
	case <-wait.C:
		return nil, refuse.Busy.Of()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	h.count()
	mac := hmac.New(sha256.New, h.pepper[:])
	mac.Write(norm.NFC.Bytes(password)) // the same password from every keyboard
	return argon2.IDKey(mac.Sum(nil), salt, c.passes, c.memory, 1, uint32(size)), nil
}

// pepperFile is beside the database, so that a copy of the database alone cannot be guessed at.
const pepperFile = "pepper.key"

// loadKey reads a key of 32 bytes, or makes it at the first start. What was made with it is worth nothing without it, so that it is
// never made again once there is such a thing.
func loadKey(dir, file string, first bool) (key [32]byte, err error) {
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if !first {
			return key, fmt.Errorf("%s is missing, and nobody can sign in without it: restore it from the backup of the keys", path)
		}
		rand.Read(key[:])
		return key, writeKey(path, key[:])
	}
	if err != nil {
		return key, err
	}
	if err := store.PrivateFile(path); err != nil {
		return key, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(raw) != len(key) {
		return key, fmt.Errorf("%s does not hold a key of %d bytes: restore it from the backup of the keys", path, len(key))
	}
	return [32]byte(raw), nil
}

// writeKey writes a new key file, whole or not at all.
func writeKey(path string, key []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/admin"
)

func accountCommands() []command {
	return []command{
		{path: "account add", args: "EMAIL [--admin] [--password-stdin]", about: "Make an account. Its password is asked for twice, or read from standard input.", min: 1, max: 1,
			more: fmt.Sprintf("A password has %d to %d characters.", account.MinPassword, account.MaxPassword), flags: accountAdd},
		{path: "account list", about: "List the accounts.", list: true, flags: plain(accountList)},
		{path: "account disable", args: "EMAIL", about: "Keep an account out, and end its sessions now.", min: 1, max: 1, flags: plain(func(k *call) error {
			if err := k.relay().DisableAccount(k, k.args[0]); err != nil {
				return err
			}
			k.note("%s is disabled; its sessions end now", k.args[0])
			return nil
		})},
		{path: "account enable", args: "EMAIL", about: "Let an account in again.", min: 1, max: 1, flags: plain(func(k *call) error {
			if err := k.relay().EnableAccount(k, k.args[0]); err != nil {
				return err
			}
			k.note("%s may sign in again", k.args[0])
			return nil
		})},
		{path: "account reset-factor", args: "EMAIL", about: "Take the second factor from an account, whose authenticator is lost, and end its sessions now.", min: 1, max: 1, flags: plain(func(k *call) error {
			if err := k.relay().ResetFactors(k, k.args[0]); err != nil {
				return err
			}
			k.note("the password of %s alone signs in; its sessions end now", k.args[0])
			return nil
		})},
		{path: "account password", args: "EMAIL [--password-stdin]", about: "Replace an account's password, and end its sessions now.", min: 1, max: 1, flags: accountPassword},
	}
}

func accountAdd(f *flag.FlagSet) func(*call) error {
	isAdmin := f.Bool("admin", false, "")
	fromStdin := f.Bool("password-stdin", false, "")
	return func(k *call) error {
		email := k.args[0]
		if err := account.CheckEmail(email); err != nil {
			return err
		}
		password, err := k.password(*fromStdin)
		if err != nil {
			return err
		}
		a, err := k.relay().AddAccount(k, email, password, *isAdmin)
		if err != nil {
			return err
		}
		k.note("account %s made; invite its computers with: relayd host invite %s", a.Email, a.Email)
		return nil
	}
}

func accountPassword(f *flag.FlagSet) func(*call) error {
	fromStdin := f.Bool("password-stdin", false, "")
	return func(k *call) error {
		password, err := k.password(*fromStdin)
		if err != nil {
			return err
		}
		if err := k.relay().SetPassword(k, k.args[0], password); err != nil {
			return err
		}
		k.note("the password of %s is changed; its sessions end now", k.args[0])
		return nil
	}
}

func accountList(k *call) error {
	all, err := k.relay().Accounts(k)
	if err != nil {
		return err
	}
	return table(k, all, "EMAIL ADMIN STATE CREATED", func(a admin.Account) []string {
		state := "enabled"
		if a.Disabled {
			state = "disabled"
		}
		return []string{a.Email, yes(a.Admin), state, date(a.Created)}
	})
}

func keyCommands() []command {
	return []command{
		{path: "account key add", args: "EMAIL [FILE]", about: "Let an account sign in at the SSH door with the public keys in FILE, or on standard input.", min: 1, max: 2,
			more: "One key per line, as in a .pub file: ed25519, ECDSA, their sk- forms, or RSA of at least 3072 bits.", flags: plain(keyAdd)},
		{path: "account key list", args: "EMAIL", about: "List an account's SSH keys.", min: 1, max: 1, list: true, flags: plain(keyList)},
		{path: "account key remove", args: "EMAIL FINGERPRINT", about: "Take an SSH key from an account, and end its sessions now.", min: 2, max: 2,
			more: "FINGERPRINT is as in \"relayd account key list\"; a .pub file is taken too.", flags: plain(keyRemove)},
	}
}

// maxKeyFile is the longest file of keys, bytes.
const maxKeyFile = 1 << 20

func readKeys(k *call, path string) ([]byte, error) {
	in := k.stdin
	if path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("more than %d bytes are not a file of public keys", maxKeyFile)
	}
	return text, err
}

func keyAdd(k *call) error {
	text, err := readKeys(k, k.arg(1))
	if err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		return errors.New("this is a private key, which nobody else should ever see; give the public one, from the file that ends in .pub")
	}
	var lines []string
	for n, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if _, _, err := account.ParseKey([]byte(line)); err != nil {
			return fmt.Errorf("line %d: %w; nothing was added", n+1, err)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return errors.New("there is no key to add")
	}
	for _, line := range lines {
		key, err := k.relay().AddKey(k, k.args[0], line)
		if err != nil {
			return err
		}
		k.note("%s may sign in with %s %s", k.args[0], key.Type, key.Fingerprint)
	}
	return nil
}

func keyList(k *call) error {
	all, err := k.relay().Keys(k, k.args[0])
	if err != nil {
		return err
	}
	return table(k, all, "FINGERPRINT TYPE COMMENT ADDED", func(key admin.Key) []string {
		return []string{key.Fingerprint, key.Type, key.Comment, date(key.Created)}
	})
}

func keyRemove(k *call) error {
	fingerprint := k.args[1]
	if !strings.HasPrefix(fingerprint, "SHA256:") {
		text, err := readKeys(k, fingerprint)
		if err != nil {
			return fmt.Errorf("%q is neither a fingerprint nor a file: %w", fingerprint, err)
		}
		if fingerprint, err = account.KeyFingerprint(text); err != nil {
			return err
		}
	}
	if err := k.relay().RemoveKey(k, k.args[0], fingerprint); err != nil {
		return err
	}
	k.note("%s may no longer sign in with %s; its sessions end now", k.args[0], fingerprint)
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// date is a time in a list.
func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

//go:build cgo

// Command hostd-pam checks one user against PAM and ends. hostd starts one for each attempt, so that PAM's modules, which
// are foreign code and not made for threads, never run in hostd itself.
//
//	hostd-pam [-service NAME] [-confdir DIR] auth|account
//
// Standard input is the user name and the secret, each behind its length in two bytes. Standard output is one line: a verdict of
// hostd/login and, when the secret was right, the name under which PAM knows the user.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"
)

const (
	limit   = 10 * time.Second // of the whole attempt
	maxItem = 1024             // bytes of name or secret
)

func main() {
	service := flag.String("service", "hostd", "PAM service")
	confdir := flag.String("confdir", "", "folder of services instead of /etc/pam.d")
	flag.Parse()
	signal.Ignore(syscall.SIGPIPE)
	out, err := ownOutput()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	end := func(verdict string, err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		fmt.Fprintln(out, verdict)
		os.Exit(0)
	}
	if err := harden(); err != nil {
		end("error", err)
	}
	time.AfterFunc(limit, func() { end("error", errors.New("no answer in time")) })
	user, secret, err := read(os.Stdin)
	if err != nil {
		end("error", err)
	}
	verdict, err := check(*service, *confdir, flag.Arg(0), user, secret)
	clear(secret)
	end(verdict, err)
}

// ownOutput takes standard output away from PAM's modules, which then write to standard error.
func ownOutput() (*os.File, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "answer"), unix.Dup3(2, 1, 0)
}

// harden keeps the secret out of core files and from other processes of the user.
//
// The umask is for pam_faillock, which gives its file of a user's failures to that user and writes it later as one of the
// group: hostd's own umask would shut it out where it may not override permissions.
func harden() error {
	unix.Umask(0o007)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

func read(r io.Reader) (user string, secret []byte, err error) {
	item := func() []byte {
		var n [2]byte
		if err == nil {
			_, err = io.ReadFull(r, n[:])
		}
		b := make([]byte, binary.BigEndian.Uint16(n[:]))
		if len(b) > maxItem {
			err = fmt.Errorf("an item of %d bytes, more than %d", len(b), maxItem)
		}
		if err == nil {
			_, err = io.ReadFull(r, b)
		}
		return b
	}
	return string(item()), item(), err
}

// check asks PAM. The error explains a verdict that is PAM's own problem.
func check(service, confdir, mode, user string, secret []byte) (string, error) {
	answer := pam.ConversationFunc(func(style pam.Style, _ string) (string, error) {
		switch style {
		case pam.PromptEchoOff:
			return string(secret), nil
		case pam.PromptEchoOn:
			return user, nil
		}
		return "", nil
	})
	var t *pam.Transaction
	var err error
	if confdir != "" {
		t, err = pam.StartConfDir(service, user, answer, confdir)
	} else {
		t, err = pam.Start(service, user, answer)
	}
	if err != nil {
		return "error", err
	}
	defer t.End()
	switch mode {
	case "auth":
		if err := t.Authenticate(pam.DisallowNullAuthtok); err != nil {
			return authVerdict(err)
		}
	case "account":
	default:
		return "error", fmt.Errorf("%q is neither auth nor account", mode)
	}
	verdict, err := accountVerdict(t.AcctMgmt(pam.DisallowNullAuthtok))
	if name, nameErr := t.GetItem(pam.User); nameErr == nil && name != "" {
		user = name
	}
	return verdict + " " + user, err
}

// authVerdict names a failure before the secret was found right: whatever the cause, only that it failed may be told, but for PAM's
// own count of failures.
func authVerdict(err error) (string, error) {
	switch {
	case errors.Is(err, pam.ErrMaxtries):
		return "tries", nil
	case errors.Is(err, pam.ErrAuth), errors.Is(err, pam.ErrUserUnknown), errors.Is(err, pam.ErrPermDenied),
		errors.Is(err, pam.ErrAcctExpired), errors.Is(err, pam.ErrNewAuthtokReqd), errors.Is(err, pam.ErrCredExpired):
		return "wrong", nil
	}
	return "error", fmt.Errorf("authenticate: %w", err)
}

// accountVerdict names what PAM says about the account, once the secret was right.
func accountVerdict(err error) (string, error) {
	switch {
	case err == nil:
		return "ok", nil
	case errors.Is(err, pam.ErrNewAuthtokReqd), errors.Is(err, pam.ErrAuthtokExpired), errors.Is(err, pam.ErrCredExpired):
		return "new-password", nil
	case errors.Is(err, pam.ErrAcctExpired):
		return "expired", nil
	case errors.Is(err, pam.ErrMaxtries):
		return "tries", nil
	}
	return "denied", fmt.Errorf("account: %w", err)
}

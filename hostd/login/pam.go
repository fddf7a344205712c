package login

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// PAMTime is how long one attempt may take.
const PAMTime = 10 * time.Second

// A Verdict is what PAM says about a user.
type Verdict string

// Verdicts, as hostd-pam writes them. All but VerdictWrong, VerdictTries and VerdictError mean that the secret was right.
const (
	VerdictOK          Verdict = "ok"
	VerdictWrong       Verdict = "wrong" // user unknown or secret wrong
	VerdictTries       Verdict = "tries" // too many failures, in the books of PAM
	VerdictDenied      Verdict = "denied"
	VerdictNewPassword Verdict = "new-password"
	VerdictExpired     Verdict = "expired"
	VerdictError       Verdict = "error" // PAM itself has a problem
)

// PAM runs hostd-pam, one process for each attempt.
type PAM struct {
	Helper  string   // path of hostd-pam; empty: there is none
	Service string   // of /etc/pam.d
	Args    []string // further arguments, for tests
	Env     []string // environment of the helper; nil: a minimal one
}

// Authenticate asks PAM about a user and a secret, then about the account. It gives the name under which PAM knows the user.
func (p *PAM) Authenticate(ctx context.Context, user string, secret []byte) (Verdict, string, error) {
	return p.run(ctx, "auth", user, secret)
}

// Judge asks PAM about the account of a user who has shown another secret.
func (p *PAM) Judge(ctx context.Context, user string) (Verdict, error) {
	v, _, err := p.run(ctx, "account", user, nil)
	return v, err
}

func (p *PAM) run(ctx context.Context, mode, user string, secret []byte) (Verdict, string, error) {
	if p.Helper == "" {
		return VerdictError, "", errors.New("hostd-pam is not installed")
	}
	if checkName(user) != nil || len(secret) > MaxSecret {
		return VerdictWrong, "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, PAMTime)
	defer cancel()
	in := make([]byte, 0, 4+len(user)+len(secret)) // not to be moved by append: it is wiped
	in = binary.BigEndian.AppendUint16(in, uint16(len(user)))
	in = append(in, user...)
	in = binary.BigEndian.AppendUint16(in, uint16(len(secret)))
	in = append(in, secret...)
	defer clear(in)

	cmd := exec.CommandContext(ctx, p.Helper, slices.Concat([]string{"-service", p.Service}, p.Args, []string{mode})...)
	cmd.Stdin = bytes.NewReader(in)
	var out, diag limited
	cmd.Stdout, cmd.Stderr = &out, &diag
	if cmd.Env = p.Env; cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a module's children end with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			err = fmt.Errorf("no answer within %v", PAMTime)
		case ctx.Err() != nil:
			err = ctx.Err()
		}
		return VerdictError, "", fmt.Errorf("hostd-pam: %w %s", err, strings.TrimSpace(diag.String()))
	}
	verdict, name, _ := strings.Cut(strings.TrimSuffix(out.String(), "\n"), " ")
	switch v := Verdict(verdict); v {
	case VerdictOK, VerdictDenied, VerdictNewPassword, VerdictExpired:
		return v, name, nil
	case VerdictWrong, VerdictTries:
		return v, "", nil
	}
	return VerdictError, "", fmt.Errorf("hostd-pam: %s", strings.TrimSpace(diag.String()))
}

// limited keeps the first 512 bytes written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), 512-min(l.Len(), 512))])
	return len(p), nil
}

// Available says whether the helper can be run.
func (p *PAM) Available() bool {
	info, err := os.Stat(p.Helper)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

package login

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// MaxSecret is the longest password, bytes.
const MaxSecret = 511

// BudgetFile is the name of the counted failures' file in hostd's folder of state.
const BudgetFile = "failures.json"

// step is what the answer to a failed attempt is delayed to, from its start: a multiple of it. PAM delays failures by up to
// 2.5 s, so that a user who does not exist is not told from a wrong password by the time it takes.
const step = 3 * time.Second

// Config of a Service.
type Config struct {
	StateDir string
	PAM      PAM
	// AccessAccount is the OS user that the access code must stand for; empty: the one it was set for, but not root.
	AccessAccount string
	Log           *slog.Logger
}

// A Service checks log-ins.
type Service struct {
	c      Config
	budget *Budget
	only   *Account      // the one user who may log in, when hostd is not root's
	slots  chan struct{} // attempts under way
}

// maxAttempts is how many attempts run at once; more wait.
const maxAttempts = 4

// New opens the counted failures.
func New(ctx context.Context, c Config) (*Service, error) {
	b, err := OpenBudget(filepath.Join(c.StateDir, BudgetFile))
	if err != nil {
		return nil, err
	}
	s := &Service{c: c, budget: b, slots: make(chan struct{}, maxAttempts)}
	if uid := os.Geteuid(); uid != 0 {
		if s.only, err = LookupID(ctx, uint32(uid)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

const codeTarget = "code"

// userTarget is what is counted for a typed name. Some name services take alice and Alice for the same user. What cannot be a
// name is all one target.
func userTarget(name string) string {
	if checkName(name) != nil {
		return "no user"
	}
	return "user " + strings.ToLower(name)
}

// A Result is the answer to an attempt.
type Result struct {
	Account *Account        // who has logged in; nil: refused
	Refusal *refuse.Refusal // nil: logged in
	Left    int             // free failures left, when another attempt makes sense; -1: not told
	Until   time.Time       // end of a lock-out; zero: none
}

// Login tries a log-in. It wipes the secret. The answer to a failure takes a multiple of 3 s; ctx may end it early, and the attempt
// counts all the same.
func (s *Service) Login(ctx context.Context, method ipc.Method, user string, secret []byte) Result {
	defer clear(secret)
	target := userTarget(user)
	if method == ipc.MethodCode {
		target = codeTarget
	}
	attempt, err := s.budget.Begin(ctx, target)
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return Result{Refusal: refuse.LockedOut.Of(clock(locked.Until)), Until: locked.Until, Left: -1}
	case err != nil:
		if ctx.Err() == nil {
			s.c.Log.Error("nobody can log in", "err", err)
		}
		return Result{Refusal: refuse.HostStorage.Of(), Left: -1}
	}
	began := time.Now()
	r, right := s.check(ctx, method, user, secret)
	if right {
		if err := attempt.Succeed(); err != nil {
			s.c.Log.Error("forget log-in failures", "err", err)
		}
		return r
	}
	late := time.NewTimer(step - time.Since(began)%step)
	defer late.Stop()
	select {
	case <-late.C:
	case <-ctx.Done():
	}
	left, until := attempt.Fail()
	if r.Left >= 0 {
		r.Left, r.Until = left, until
	}
	return r
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// check says what comes of an attempt, and whether its secret was right.
func (s *Service) check(ctx context.Context, method ipc.Method, user string, secret []byte) (Result, bool) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return Result{Refusal: refuse.WrongLogin.Of()}, false
	}
	if method == ipc.MethodCode {
		return s.checkCode(ctx, secret)
	}
	verdict, name, err := s.c.PAM.Authenticate(ctx, user, secret)
	if err != nil && ctx.Err() == nil {
		s.c.Log.Error("check a password", "err", err)
	}
	switch verdict {
	case VerdictWrong, VerdictError:
		return Result{Refusal: refuse.WrongLogin.Of()}, false
	case VerdictTries:
		return Result{Refusal: refuse.LockedOut.Of("the computer's own lock ends"), Left: -1}, false
	}
	if name == "" {
		name = user
	}
	a, err := Lookup(ctx, name)
	if err != nil {
		s.c.Log.Error("a user whom PAM knows", "err", err)
		return Result{Refusal: refuse.NoRight.Of(name), Left: -1}, true
	}
	return s.admit(a, verdict), true
}

// checkCode tries the access code. A code whose user is gone is as if it had never been set.
func (s *Service) checkCode(ctx context.Context, secret []byte) (Result, bool) {
	wrong := Result{Refusal: refuse.WrongCode.Of()}
	c, a, err := s.code(ctx)
	if err != nil {
		s.c.Log.Error("the access code cannot be used", "err", err)
	}
	if c == nil {
		noCode().Matches(secret)
		return wrong, false
	}
	if !c.Matches(secret) {
		return wrong, false
	}
	if a == nil {
		return wrong, false
	}
	verdict, err := s.judge(ctx, a)
	if err != nil && ctx.Err() == nil {
		s.c.Log.Error("ask about the account of the access code", "err", err)
	}
	return s.admit(a, verdict), true
}

// code loads the access code and the user it stands for. The code is nil when none can be used, and err says why, if not
// because none is set.
func (s *Service) code(ctx context.Context) (*Code, *Account, error) {
	c, err := LoadCode(s.c.StateDir)
	if c == nil || err != nil {
		return nil, nil, err
	}
	if want := s.c.AccessAccount; want != "" && want != c.User {
		return nil, nil, &staleError{c.User, want}
	}
	a, err := c.Account(ctx)
	if err != nil {
		return c, nil, err
	}
	if a.UID == 0 && s.c.AccessAccount == "" {
		return nil, nil, &staleError{c.User, "not set"}
	}
	return c, a, nil
}

type staleError struct{ was, is string }

func (e *staleError) Error() string {
	return "the access code was set for " + e.was + ", and [login] access_account is now " + e.is + "; set it anew with \"hostd code set\""
}

// judge asks whether the account of the access code may be used. Without hostd-pam the shadow file answers.
func (s *Service) judge(ctx context.Context, a *Account) (Verdict, error) {
	if !s.c.PAM.Available() {
		return judgeShadow("/etc/shadow", a.Name, time.Now())
	}
	return s.c.PAM.Judge(ctx, a.Name)
}

// admit turns a verdict about a right secret into a result.
func (s *Service) admit(a *Account, v Verdict) Result {
	r := Result{Left: -1}
	switch v {
	case VerdictOK:
		if s.only != nil && s.only.UID != a.UID {
			r.Refusal = refuse.NoRight.Of(a.Name)
			return r
		}
		r.Account = a
	case VerdictNewPassword:
		r.Refusal = refuse.NewPassword.Of(a.Name)
	case VerdictExpired:
		r.Refusal = refuse.Disabled.Of(a.Name)
	case VerdictTries:
		r.Refusal = refuse.LockedOut.Of("the computer's own lock ends")
	default:
		r.Refusal = refuse.NoRight.Of(a.Name)
	}
	return r
}

// CodeSet says whether an access code can be tried.
func (s *Service) CodeSet(ctx context.Context) bool {
	_, a, err := s.code(ctx)
	return a != nil && err == nil
}

// OSLogin says whether user names and passwords can be checked.
func (s *Service) OSLogin() bool { return s.c.PAM.Available() }

// Unlock forgets the failures of a user name, of the access code (user "", code true), or all. It says of how many targets.
func (s *Service) Unlock(user string, code bool) (int, error) { return unlock(s.budget, user, code) }

// Unlock does the same while no Service runs with that folder of state.
func Unlock(stateDir, user string, code bool) (int, error) {
	b, err := OpenBudget(filepath.Join(stateDir, BudgetFile))
	if err != nil {
		return 0, err
	}
	return unlock(b, user, code)
}

func unlock(b *Budget, user string, code bool) (int, error) {
	switch {
	case user != "":
		return b.Unlock(userTarget(user))
	case code:
		return b.Unlock(codeTarget)
	}
	return b.Unlock("")
}

// Locked lists when the lock-outs end that hold now, the last first.
func (s *Service) Locked() []time.Time { return s.budget.Locked() }

package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/audit"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/store"
)

// Sessions are the live sessions.
type Sessions interface {
	List() []SessionInfo
	End(id string) error
}

// Trail is the audit log.
type Trail interface {
	Write(ctx context.Context, e audit.Event) error
}

// A Server answers at the local socket.
type Server struct {
	People       *account.Service
	Computers    *registry.Service
	Sessions     Sessions
	Trail        Trail
	Relay        string               // host:port at which computers reach the SSH door
	HostKey      string               // its fingerprint, SHA256:…
	Fingerprints func() []Fingerprint // of the keys in use
	Log          *slog.Logger
}

// Listen makes the socket at path, mode 0660, in place of one that a killed relayd has left.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("local socket %s: another relayd answers there; stop it first", path)
	} else if !errors.Is(err, unix.ENOENT) {
		if err := removeSocket(path); err != nil {
			return nil, fmt.Errorf("local socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("local socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("local socket: %w", err)
	}
	return l, nil
}

func removeSocket(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket; move it away", path)
	}
	return os.Remove(path)
}

// Serve answers on l, a Unix socket, until ctx ends. Requests under way are finished first.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.handler(), ConnContext: withPeer,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if h.Shutdown(late) != nil {
			h.Close()
		}
	})
	err := h.Serve(l)
	if !stop() {
		<-stopped
	}
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// A peer is the user at the other end of the socket.
type peer struct {
	uid uint32
	pid int32
}

func (p peer) String() string { return fmt.Sprintf("uid %d", p.uid) }

type peerKey struct{}

// withPeer asks the kernel who has connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer{cred.Uid, cred.Pid})
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	read := func(name string, h http.Handler) { mux.Handle("POST /v1/"+name, h) }
	s.accountOps(read)
	s.hostOps(read)
	s.otherOps(read)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(peer)
		if !ok || p.uid != 0 && p.uid != uint32(os.Geteuid()) {
			s.Log.Warn("local socket: refused", "viewer", p.String())
			w.Header().Set("Connection", "close")
			answer(w, http.StatusForbidden, failure{fmt.Sprintf("%v may not administer the relay; run this as root", p)})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// look is an operation that changes nothing.
func look[Arg, Result any](do func(ctx context.Context, a Arg) (Result, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := decode[Arg](w, r)
		if !ok {
			return
		}
		result, err := do(r.Context(), a)
		finish(w, result, err)
	})
}

// alter is an operation that changes something: event says what, and is recorded first. What cannot be recorded is not
// done; what then fails is recorded once more.
func alter[Arg, Result any](s *Server, event func(a Arg) audit.Event, do func(ctx context.Context, a Arg) (Result, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := decode[Arg](w, r)
		if !ok {
			return
		}
		ctx := context.WithoutCancel(r.Context()) // a command that is interrupted has its effect, or none
		e := event(a)
		e.Door, e.Source = audit.DoorLocal, r.Context().Value(peerKey{}).(peer).String()
		var result Result
		err := s.Trail.Write(ctx, e)
		if err == nil {
			if result, err = do(ctx, a); err != nil {
				e.Kind, e.Detail = e.Kind+".failed", err.Error()
				if err := s.Trail.Write(ctx, e); err != nil {
					s.Log.Error("failure not recorded", "err", err)
				}
			}
		}
		finish(w, result, err)
	})
}

func decode[Arg any](w http.ResponseWriter, r *http.Request) (a Arg, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		a, err = parse[Arg](body)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, failure{"the request is not understood: " + refuse.Printable(err.Error(), 200)})
	}
	return a, err == nil
}

// parse reads one JSON value and nothing behind it.
func parse[T any](body []byte) (v T, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, err
	}
	if _, err := d.Token(); err != io.EOF {
		return v, errors.New("there is more than one value")
	}
	return v, nil
}

func finish(w http.ResponseWriter, result any, err error) {
	if err == nil {
		answer(w, http.StatusOK, result)
		return
	}
	status := http.StatusBadRequest
	var r *refuse.Refusal
	switch {
	case errors.Is(err, store.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, store.ErrExists):
		status = http.StatusConflict
	case errors.As(err, &r):
		status = http.StatusServiceUnavailable
	}
	answer(w, status, failure{err.Error()})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the client has gone
}

// role is what a code is for.
func role(watch bool) tunnel.Role {
	if watch {
		return tunnel.RoleWatch
	}
	return tunnel.RoleControl
}

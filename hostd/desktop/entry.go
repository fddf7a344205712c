package desktop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// Times of a handshake.
const (
	versionTime = 10 * time.Second  // for the client's version and its choice of security
	tlsTime     = 30 * time.Second  // for VeNCrypt and TLS; some viewers ask their user for a certificate in between
	loginTime   = 150 * time.Second // for all of a log-in by RFB security: people type
	initTime    = 10 * time.Second  // for ClientInit
)

// maxSessions is the largest number of sessions at once, those that log in included. hostd may allow fewer.
const maxSessions = 128

// serve serves one stream that the relay opened, until it ends.
// ctx ends with the tunnel.
func (s *server) serve(ctx context.Context, c net.Conn, h tunnel.Header) {
	conn := &stream{Conn: c}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	account := refuse.Printable(h.Account, tunnel.MaxAccount)
	if h.Purpose != tunnel.RFB && h.Purpose != tunnel.RFBInit {
		s.reply(conn, trouble(s.name()))
		return
	}
	se, r := s.newSession(account, ipc.Role(h.Role), h.Purpose == tunnel.RFB)
	if r != nil {
		s.reply(conn, r)
		return
	}
	defer s.forget(se)
	log := s.log.With("viewer", account, "session", h.Session, "from", h.Viewer)
	opened, err := s.monitor.open(ctx, ipc.Open{
		Session: se.number, Relay: h.Session, Account: account, Viewer: h.Viewer, Role: se.role, E2E: se.e2e,
	})
	if err != nil {
		log.Warn("no session", "err", err)
		opened.Refusal = trouble(s.name())
	}
	if opened.Refusal != nil && !se.e2e { // end to end, the viewer is to show the reason itself
		log.Info("viewer refused", "err", opened.Refusal)
		s.reply(conn, opened.Refusal)
		s.close(se, false)
		return
	}
	if err := s.reply(conn, nil); err != nil {
		s.close(se, true)
		return
	}
	start := time.Now()
	minor := int(h.Minor)
	if se.e2e {
		minor, err = s.secure(ctx, conn, se, opened.Refusal)
	} else {
		se.conn = conn
	}
	if err == nil {
		log.Info("viewer came", "role", se.role, "rfb", minor, "e2e", se.e2e)
		err = se.serve(ctx)
	}
	vanished := conn.vanished() || ctx.Err() != nil
	s.close(se, vanished)
	if se.cause != "" {
		err = errors.New(se.cause)
	}
	log.Info("viewer left", "after", time.Since(start).Round(time.Second), "vanished", vanished, "err", err)
}

// reply answers the header of a stream.
func (s *server) reply(conn net.Conn, r *refuse.Refusal) error {
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return tunnel.WriteReply(conn, r)
}

// close tells hostd that a session is over.
func (s *server) close(se *session, vanished bool) {
	se.epoch.Store(0)
	if err := s.monitor.conn.Send(ipc.TypeClose, ipc.Close{Session: se.number, Vanished: vanished}); err != nil {
		s.log.Warn("cannot tell hostd that a session is over", "err", err)
	}
}

// secure does RFB's security with the viewer: its credentials are the host login. early is the refusal that it gets
// whatever they are.
func (s *server) secure(ctx context.Context, conn net.Conn, se *session, early *refuse.Refusal) (minor int, err error) {
	start := time.Now()
	conn.SetDeadline(start.Add(versionTime))
	if minor, err = rfb.ServerVersion(conn); err != nil {
		return 0, fmt.Errorf("version: %w", err)
	}
	if _, err = rfb.OfferSecurity(conn, minor, rfb.SecVeNCrypt); err != nil {
		return 0, err
	}
	conn.SetDeadline(start.Add(tlsTime))
	s.mu.Lock()
	cfg := s.tls
	s.mu.Unlock()
	t, err := rfb.X509(conn, cfg, rfb.X509Plain)
	if err != nil {
		return 0, fmt.Errorf("VeNCrypt: %w", err)
	}
	conn.SetDeadline(start.Add(loginTime))
	user, secret, err := rfb.ReadPlain(t)
	if err != nil {
		return 0, fmt.Errorf("log-in: %w", err)
	}
	refusal := early
	if refusal == nil {
		refusal = s.logIn(ctx, se, user, secret)
	}
	clear(secret)
	if refusal != nil {
		err := rfb.WriteResult(t, minor, refusal.Error())
		return 0, errors.Join(refusal, err, t.Close())
	}
	if err := rfb.WriteResult(t, minor, ""); err != nil {
		return 0, err
	}
	conn.SetDeadline(time.Time{})
	se.conn, se.loggedIn = t, true
	return minor, nil
}

// logIn has hostd check credentials of RFB security: without a user name it is the access code.
func (s *server) logIn(ctx context.Context, se *session, user string, secret []byte) *refuse.Refusal {
	l := ipc.Login{Session: se.number, Method: ipc.MethodPassword, User: user, Secret: secret}
	if user == "" || user == " " { // some viewers send a space for nothing
		l.Method, l.User = ipc.MethodCode, ""
	}
	if len(secret) == 0 {
		if l.Method == ipc.MethodCode {
			return refuse.WrongCode.Of()
		}
		return refuse.WrongLogin.Of()
	}
	in, err := s.monitor.login(ctx, l)
	if err != nil {
		s.log.Warn("no answer to a log-in", "viewer", se.account, "err", err)
		return trouble(s.name())
	}
	se.user = in.User
	return in.Refusal
}

// serve serves the session from ClientInit on. It returns nil when the viewer has left.
func (s *session) serve(ctx context.Context) error {
	s.conn.SetDeadline(time.Now().Add(initTime))
	if _, err := rfb.ReadClientInit(s.conn); err != nil {
		return fmt.Errorf("ClientInit: %w", err)
	}
	w := s.srv.welcomed()
	if _, err := s.conn.Write(rfb.AppendServerInit(nil, w.Size, rfb.Native, s.srv.name())); err != nil {
		return err
	}
	s.conn.SetDeadline(time.Time{})
	s.view = newViewer(s.conn, w.Size, s.srv.cache, s.srv.painter)
	s.srv.stats.viewers.Add(1)
	defer s.srv.stats.viewers.Add(-1)
	defer s.view.show(&scene{})
	s.mu.Lock()
	s.ready = true // from here on the monitor's loop may use view
	s.mu.Unlock()

	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	s.begin(ctx)
	g.Go(func() error { // the first to return ends the others
		s.run(ctx)
		return errOver
	})
	g.Go(func() error { return s.view.sendLoop(ctx) })
	g.Go(func() error { return s.readLoop(ctx) })
	if err := g.Wait(); !errors.Is(err, errOver) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// errOver says that the session is over by its own decision.
var errOver = errors.New("the session is over")

// A stream is a connection that remembers what ended it.
type stream struct {
	net.Conn
	end atomic.Int32
}

// What ended a stream.
const (
	endOpen  = iota // nothing yet
	endOurs         // this side
	endPeer         // the other side, in good order
	endFault        // neither: it has vanished
)

func (c *stream) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.ends(err)
}

func (c *stream) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.ends(err)
}

func (c *stream) ends(err error) error {
	if errors.Is(err, io.EOF) {
		c.end.CompareAndSwap(endOpen, endPeer)
	} else if err != nil {
		c.end.CompareAndSwap(endOpen, endFault)
	}
	return err
}

func (c *stream) Close() error {
	c.end.CompareAndSwap(endOpen, endOurs)
	return c.Conn.Close()
}

// vanished says whether the other side has gone without a word.
func (c *stream) vanished() bool { return c.end.Load() == endFault }

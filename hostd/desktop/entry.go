package desktop

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/helmline/helmline/bridge/form"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/rfb"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/hostd/ipc"
)

// Times of a handshake.
const (
	versionTime = 10 * time.Second  // for the client's version and its choice of security
	tlsTime     = 10 * time.Second  // for VeNCrypt and TLS
	loginTime   = 150 * time.Second // for all of a log-in by RFB security: people compare fingerprints and type
	initTime    = 10 * time.Second  // for ClientInit
)

// maxSessions is the largest number of sessions at once, those that log in included. hostd may allow fewer.
const maxSessions = 128

// serve serves one stream that the relay opened, until it ends.
// ctx ends with the tunnel; its cause says how.
func (s *server) serve(ctx context.Context, c net.Conn, h tunnel.Header) {
	conn := &stream{Conn: c}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	account := refuse.Printable(h.Account, tunnel.MaxAccount)
	if h.Purpose == tunnel.Talk {
		s.talk(ctx, conn, h)
		return
	}
	if h.Purpose != tunnel.RFB && h.Purpose != tunnel.RFBInit {
		s.reply(conn, trouble(s.name()))
		return
	}
	se, r := s.newSession(h.Session, account, ipc.Role(h.Role), h.Purpose == tunnel.RFB)
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
	if opened.Refusal == nil {
		opened.Refusal = s.recordable()
	}
	if opened.Refusal != nil && !se.e2e { // end to end, the viewer is to show the reason itself
		log.Info("viewer refused", "err", opened.Refusal)
		s.reply(conn, opened.Refusal)
		s.close(se, false)
		return
	}
	if err := s.accept(conn, h); err != nil {
		s.close(se, true)
		return
	}
	start := time.Now()
	minor := int(h.Minor)
	if se.e2e {
		var t rfb.SecurityType
		if minor, t, err = s.secure(ctx, conn, se, h.Code, opened.Refusal); err == nil {
			log = log.With("security", t.String())
		}
	} else {
		se.conn = conn
	}
	if err == nil {
		log.Info("viewer came", "role", se.role, "rfb", minor, "e2e", se.e2e)
		err = se.serve(ctx)
	}
	vanished := conn.vanished() || ctx.Err() != nil && !removed(context.Cause(ctx))
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

// accept answers the header of a stream that a viewer is to log in through.
func (s *server) accept(conn net.Conn, h tunnel.Header) error {
	if !h.Facts {
		return s.reply(conn, nil)
	}
	w, f := s.welcomed(), tunnel.Facts(0)
	if w.CodeFirst && w.CodeSet {
		f |= tunnel.CodeFirst
	}
	if w.Greeter {
		f |= tunnel.Nobody
	}
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return tunnel.WriteFacts(conn, f)
}

// close tells hostd that a session is over.
func (s *server) close(se *session, vanished bool) {
	se.epoch.Store(0)
	if err := s.monitor.conn.Send(ipc.TypeClose, ipc.Close{Session: se.number, Vanished: vanished}); err != nil {
		s.log.Warn("cannot tell hostd that a session is over", "err", err)
	}
}

// security lists the types that a viewer may choose from when its RFB is with this computer from the first byte.
//
// The order is for viewers that take the first type they know. TigerVNC from 1.13 on, bVNC and others that know RSA-AES take
// RA2_256. Those without it (TigerVNC 1.12, Remmina, gtk-vnc, TurboVNC) take VeNCrypt, and UltraVNC and RealVNC choose by themselves. noVNC
// knows RA2ne and VeNCrypt, the latter without TLS only, so that RA2ne has to stand before it.
//
// RA2ne and RA2ne_256 protect the log-in, and nothing behind it: the relay could read and change the session. They are for browsers,
// whose page comes from the relay, which therefore sees the session anyhow. The relay does not say which door a viewer came through,
// and it would not have to be believed: the list of types is sent in clear, and a hostile relay could shorten it to RA2ne for any viewer
// that can do that. Hence a computer that requires end-to-end sessions does not offer these types at all.
//
// VncAuth is offered where the relay has spent a one-time code on the stream, and last: whoever can log in to the computer by RFB's
// security does. It brings a viewer that can do nothing else to the form, which is typed into in clear behind the relay's SSH. A
// computer that requires end-to-end sessions does not offer it; X509Vnc, with the same code inside of TLS, is offered there too.
func security(requireE2E, code bool) []rfb.SecurityType {
	if requireE2E {
		return []rfb.SecurityType{rfb.SecRA2256, rfb.SecRA2, rfb.SecVeNCrypt}
	}
	all := []rfb.SecurityType{rfb.SecRA2256, rfb.SecRA2, rfb.SecRA2ne, rfb.SecVeNCrypt, rfb.SecRA2ne256}
	if code {
		all = append(all, rfb.SecVncAuth)
	}
	return all
}

// secure does RFB's security with the viewer: its credentials are the host login, or they are code, unless that is empty, and the log-in
// follows in the form. early is the refusal that it gets whatever they are: RSA-AES has no place for a reason before them, and an empty list of
// types would turn away the page, too, which may go on with its log-in as a watcher.
func (s *server) secure(ctx context.Context, conn net.Conn, se *session, code string, early *refuse.Refusal) (minor int, t rfb.SecurityType, err error) {
	start := time.Now()
	conn.SetDeadline(start.Add(versionTime))
	if minor, err = rfb.ServerVersion(conn); err != nil {
		return 0, 0, fmt.Errorf("version: %w", err)
	}
	if t, err = rfb.OfferSecurity(conn, minor, security(s.welcomed().RequireE2E, code != "")...); err != nil {
		return 0, 0, err
	}
	var c *credentials
	switch t {
	case rfb.SecVeNCrypt:
		c, err = s.x509(conn, start, code)
	case rfb.SecVncAuth:
		conn.SetDeadline(start.Add(loginTime))
		c, err = showCode(conn, code)
	default:
		c, err = s.rsaAES(conn, t, start)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%v: %w", t, err)
	}
	refusal := early
	switch {
	case c.code && !c.right:
		refusal = refuse.CodeInvalid.Of()
	case refusal == nil && c.proof != nil:
		refusal = s.logInAs(ctx, se, ipc.Login{Method: ipc.MethodResume, Secret: c.proof})
	case (refusal == nil || refuse.Held.Is(refusal) && len(c.key) > 0) && !c.code: // it may come back as a watcher
		refusal = s.logIn(ctx, se, c.user, c.secret, c.key)
	}
	clear(c.secret)
	clear(c.key)
	if refusal != nil {
		reason := refusal.Error()
		if t != rfb.SecRA2ne { // a page offers roles itself
			reason = refusal.Where("a role stands before the name: watch." + s.name() + ", take." + s.name()).Reason()
		}
		next, err := c.result(minor, reason)
		return 0, 0, errors.Join(refusal, err, next.Close())
	}
	if se.conn, err = c.result(minor, ""); err != nil {
		return 0, 0, err
	}
	conn.SetDeadline(time.Time{})
	se.loggedIn, se.passes = !c.code, se.conn == conn
	return minor, t, nil
}

// credentials are what a viewer logs in with.
type credentials struct {
	user   string // empty: secret is the access code
	secret []byte
	key    []byte // what the session can be resumed with; empty: it cannot
	proof  []byte // it is to be resumed, and this shows by whom; nil: it is a log-in
	code   bool   // it showed a one-time code instead, which is
	right  bool   // or is not the right one

	// result tells the viewer how it went, success when reason is empty, and gives what the session goes on with.
	result func(minor int, reason string) (net.Conn, error)
}

// x509 reads them inside TLS. With a code the viewer may show that instead.
func (s *server) x509(conn net.Conn, start time.Time, code string) (*credentials, error) {
	conn.SetDeadline(start.Add(tlsTime))
	s.mu.Lock()
	cfg := s.tls
	s.mu.Unlock()
	subtypes := []uint32{rfb.X509Plain}
	if code != "" {
		subtypes = append(subtypes, rfb.X509Vnc)
	}
	t, chosen, err := rfb.X509(conn, cfg, subtypes...)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(start.Add(loginTime))
	if chosen == rfb.X509Vnc {
		return showCode(t, code)
	}
	c := &credentials{result: resultOn(t)}
	if c.user, c.secret, err = rfb.ReadPlain(t); err != nil {
		return nil, fmt.Errorf("log-in: %w", err)
	}
	return c, nil
}

// resultOn writes the result as it is.
func resultOn(conn net.Conn) func(minor int, reason string) (net.Conn, error) {
	return func(minor int, reason string) (net.Conn, error) { return conn, rfb.WriteResult(conn, minor, reason) }
}

// showCode has the viewer show the one-time code.
func showCode(conn net.Conn, code string) (*credentials, error) {
	challenge, response, err := rfb.Challenge(conn)
	if err != nil {
		return nil, fmt.Errorf("log-in: %w", err)
	}
	return &credentials{code: true, right: rfb.Answers(code, challenge, response), result: resultOn(conn)}, nil
}

// rsaAES reads them inside RSA-AES. Viewers show the key's fingerprint to their user before they send a key of their own, so all of it
// may take as long as people do.
func (s *server) rsaAES(conn net.Conn, t rfb.SecurityType, start time.Time) (*credentials, error) {
	conn.SetDeadline(start.Add(loginTime))
	s.mu.Lock()
	key, ask := s.rsa, rfb.AskUser
	if !s.welcome.OSLogin {
		ask = rfb.AskPassword
	}
	s.mu.Unlock()
	r, err := rfb.RA2(conn, t, key)
	if err != nil {
		return nil, err
	}
	c := &credentials{result: r.WriteResult}
	if c.user, c.secret, err = r.ReadLogin(ask); err != nil {
		return nil, fmt.Errorf("log-in: %w", err)
	}
	if ask == rfb.AskPassword {
		c.user = ""
	}
	if t == rfb.SecRA2ne {
		c.unfold()
	}
	return c, nil
}

// unfold takes apart what the relay's page sends as the password, in which no secret holds a NUL: SECRET NUL KEY to log in, and NUL PROOF
// to resume a session, with key and proof in base64url. Other viewers send a secret alone.
func (c *credentials) unfold() {
	at := bytes.IndexByte(c.secret, 0)
	if at < 0 {
		return
	}
	more, err := base64.RawURLEncoding.AppendDecode(nil, c.secret[at+1:])
	switch {
	case err != nil:
	case at == 0 && len(more) == ipc.ProofSize:
		c.proof = more
	case at > 0 && len(more) == ipc.KeySize:
		c.key = more
	}
	clear(c.secret[at:])
	c.secret = c.secret[:at]
}

// logIn has hostd check credentials of RFB security: without a user name it is the access code.
func (s *server) logIn(ctx context.Context, se *session, user string, secret, key []byte) *refuse.Refusal {
	l := ipc.Login{Method: ipc.MethodPassword, User: user, Secret: secret, Key: key}
	if user == "" || user == " " { // some viewers send a space for nothing
		l.Method, l.User = ipc.MethodCode, ""
	}
	if len(secret) == 0 {
		if l.Method == ipc.MethodCode {
			return refuse.WrongCode.Of()
		}
		return refuse.WrongLogin.Of()
	}
	return s.logInAs(ctx, se, l)
}

// logInAs has hostd check a log-in.
func (s *server) logInAs(ctx context.Context, se *session, l ipc.Login) *refuse.Refusal {
	l.Session = se.number
	in, err := s.monitor.login(ctx, l)
	if err != nil {
		s.log.Warn("no answer to a log-in", "viewer", se.account, "err", err)
		return trouble(s.name())
	}
	if se.user = in.User; in.Role != 0 {
		se.role = in.Role
	}
	if r := in.Refusal; r != nil {
		if more := form.Chances(r, in.Left, in.Until); more != "" {
			r.Remedy += ". " + more
		}
	}
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
	s.view.ask = s.resize
	s.view.control, s.view.allow = &s.epoch, s.in.Allow
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
	if errors.Is(err, io.EOF) || removed(err) {
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

// removed says whether the tunnel has ended since the computer was removed from its relay: nobody comes back to it through that.
func removed(err error) bool {
	end, ok := errors.AsType[*tunnel.EndError](err)
	return ok && end.Reason == tunnel.Removed
}

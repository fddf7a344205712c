package tunnel

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
)

// ServeTunnel takes the tunnel of a computer that signed in as UserTunnel; conn, chans and reqs are what
// ssh.NewServerConn gave over a connection from Wrap. The computer has 10 s to open it, and may not open streams: there
// is no purpose for one yet. After an error the connection is closed.
func ServeTunnel(conn ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) (*Session, error) {
	return ServeTunnelWith(Limits{Streams: -1}, conn, chans, reqs)
}

// ServeTunnelWith is ServeTunnel with other limits on what the computer may ask for. Where it may open streams, somebody
// has to call Accept.
func ServeTunnelWith(limits Limits, conn ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) (*Session, error) {
	nc, err := firstChannel(channelTunnel, chans, reqs)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	hello, err := parseHello(nc.ExtraData())
	if err != nil {
		why := refuse.TooOld.Text("this relay")
		if !errors.Is(err, ErrVersion) {
			why = err.Error()
		}
		_ = nc.Reject(ssh.Prohibited, why)
		_ = conn.Close()
		return nil, fmt.Errorf("hello of a computer: %w", err)
	}
	ch, chReqs, err := nc.Accept()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s, err := newSession(channel{conn, chans, reqs, ch, chReqs}, hello, limits, false)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// firstChannel waits for the first channel, which must be of this kind.
func firstChannel(kind string, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) (ssh.NewChannel, error) {
	limit := newBucket(maxSSH, time.Now())
	timeout := time.NewTimer(channelTimeout)
	defer timeout.Stop()
	for {
		select {
		case nc, ok := <-chans:
			switch {
			case !ok:
				return nil, errors.New("the computer closed the connection before it opened a channel")
			case nc.ChannelType() == kind:
				return nc, nil
			}
			_ = nc.Reject(ssh.UnknownChannelType, "only "+kind)
			return nil, fmt.Errorf("the computer opened a channel %q, not %q", refuse.Printable(nc.ChannelType(), 64), kind)
		case r, ok := <-reqs:
			if !ok {
				return nil, errors.New("the computer closed the connection before it opened a channel")
			}
			if !limit.take(time.Now()) {
				return nil, overLimit("more than %d SSH requests a second", maxSSH)
			}
			_ = r.Reply(false, nil)
		case <-timeout.C:
			return nil, fmt.Errorf("the computer opened no channel within %v", channelTimeout)
		}
	}
}

// police refuses every channel and request beside the tunnel, until the connection ends, and ends the session when
// there are too many of them.
func (s *Session) police(ch channel) {
	chans, reqs, own := ch.chans, ch.reqs, ch.own
	limit := newBucket(maxSSH, time.Now())
	// SSH ends only when what it has read is taken from it, so this goroutine cannot wait for the end.
	end := func(cause error) {
		_ = s.link.fail(cause)
		s.work.Go(func() { s.end(cause) })
	}
	for chans != nil || reqs != nil || own != nil {
		var r *ssh.Request
		var nc ssh.NewChannel
		var ok bool
		select {
		case nc, ok = <-chans:
			if !ok {
				chans = nil
				continue
			}
			_ = nc.Reject(ssh.Prohibited, "only one tunnel")
		case r, ok = <-reqs:
			if !ok {
				reqs = nil
				continue
			}
		case r, ok = <-own:
			if !ok {
				own = nil
				continue
			}
		}
		if r != nil {
			if r.Type == requestEnd && len(r.Payload) == 1 {
				end(&EndError{Reason(r.Payload[0])})
			}
			_ = r.Reply(false, nil) // sends nothing unless an answer is wanted
		}
		if s.Err() == nil && !limit.take(time.Now()) {
			end(overLimit("more than %d SSH requests a second", maxSSH))
		}
	}
}

// A Reason is why one side ends a session.
type Reason uint8

// The reasons.
const (
	Replaced   Reason = 1 // a newer tunnel with the same key and of the same kind has come
	Restarting Reason = 2 // the relay restarts; dial again soon
	Removed    Reason = 3 // the computer was removed from the relay
	Idle       Reason = 4 // a bulk tunnel that nothing uses

	// What a computer says when it goes, before it has gone.
	Asleep    Reason = 5 // it is suspended or hibernates
	Rebooting Reason = 6
	ShutDown  Reason = 7
	Stopped   Reason = 8 // hostd was stopped, the computer was not
)

// Leaves says whether a computer that ends its main tunnel for r has gone, and so knew it.
func (r Reason) Leaves() bool { return r >= Asleep && r <= Stopped }

func (r Reason) String() string {
	switch r {
	case Replaced:
		return "another hostd with the same key has taken this computer's place; if this one was copied, enrol it anew"
	case Restarting:
		return "the relay is restarting"
	case Removed:
		return "this computer was removed from the relay"
	case Idle:
		return "nothing used the tunnel"
	case Asleep:
		return "the computer goes to sleep"
	case Rebooting:
		return "the computer reboots"
	case ShutDown:
		return "the computer is shut down"
	case Stopped:
		return "hostd was stopped"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// An EndError says why the other side, or CloseFor on this one, ended the session.
type EndError struct{ Reason Reason }

func (e *EndError) Error() string { return "the tunnel was ended: " + e.Reason.String() }

// CloseFor tells the other side why and closes the session like Close.
func (s *Session) CloseFor(r Reason) error {
	_ = s.link.fail(&EndError{r}) // the other side may close as soon as it is told
	told := make(chan struct{})
	s.work.Go(func() {
		defer close(told)
		_, _, _ = s.conn.SendRequest(requestEnd, true, []byte{byte(r)}) // answered, or the connection is closed: it was read
	})
	t := time.NewTimer(lastWords) // a peer that does not read is closed without a word
	select {
	case <-told:
	case <-t.C:
	}
	t.Stop()
	return s.Close()
}

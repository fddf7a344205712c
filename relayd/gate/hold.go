package gate

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxHold is the longest "sleep" that is served.
const maxHold = 24 * time.Hour

// session serves a session channel. "sleep N" holds it open, so that "ssh -f -L … sleep 20", which is what vncviewer
// -via runs, keeps its connection until a viewer has come and gone. Nothing else runs here.
func (p *person) session(ctx context.Context, nc ssh.NewChannel) {
	select {
	case p.holds <- struct{}{}:
		defer func() { <-p.holds }()
	default:
		_ = nc.Reject(ssh.ResourceShortage, fmt.Sprintf("more than %d of \"sleep\" in one connection", maxHolds))
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	p.discard(ch)
	defer p.refuseAll(reqs)
	defer ch.Close()
	for req := range reqs {
		if !p.ask.Allow() {
			p.conn.Close()
			return
		}
		switch req.Type {
		case "exec":
			p.exec(ctx, ch, reqs, req)
			return
		case "shell":
			p.explain(ch, req, "")
			return
		case "subsystem":
			p.explain(ch, req, "files are not served here yet; ")
			return
		}
		// A terminal, variables, X11, an agent: nothing that could use them runs here.
		_ = answer(req, false)
	}
}

// discard reads what the client sends to a channel for which nobody has a use, so that it is not kept.
func (p *person) discard(ch ssh.Channel) {
	for _, r := range []io.Reader{ch, ch.Stderr()} {
		p.channels.Go(func() { _, _ = io.Copy(io.Discard, r) }) // ends with the channel
	}
}

// explain fails what the client wanted to run. The request itself is granted: ssh leaves without printing the text
// when it is not.
func (p *person) explain(ch ssh.Channel, req *ssh.Request, cause string) {
	at := p.account.Email + "@" + p.gate.Name
	_ = answer(req, true)
	fmt.Fprintf(ch.Stderr(), "%sthis relay gives no shell: try \"vncviewer -via %s COMPUTER\", or \"ssh -N -L 5901:COMPUTER:5900 %s\" and a viewer at localhost:5901\r\n", cause, at, at)
	exit(ch, 1)
}

func (p *person) exec(ctx context.Context, ch ssh.Channel, reqs <-chan *ssh.Request, req *ssh.Request) {
	var command struct{ Text string }
	_ = ssh.Unmarshal(req.Payload, &command) // what cannot be read is no sleep
	d, ok := holdTime(command.Text)
	if !ok {
		p.explain(ch, req, fmt.Sprintf("no command runs here but \"sleep SECONDS\", at most %.0f; ", maxHold.Seconds()))
		return
	}
	_ = answer(req, true)
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			exit(ch, 0)
			return
		case <-ctx.Done():
			return
		case req, ok := <-reqs:
			if !ok {
				return
			}
			if !p.ask.Allow() {
				p.conn.Close()
				return
			}
			_ = answer(req, false)
		}
	}
}

// holdTime reads "sleep N": whole seconds, at most maxHold.
func holdTime(command string) (time.Duration, bool) {
	words := strings.Fields(command)
	if len(words) != 2 || words[0] != "sleep" {
		return 0, false
	}
	n, err := strconv.ParseUint(words[1], 10, 32)
	d := time.Duration(n) * time.Second
	return d, err == nil && d <= maxHold
}

// exit tells the client the status of its command. RFC 4254, section 6.10.
func exit(ch ssh.Channel, status uint32) {
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

package part

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/helmline/helmline/hostd/ipc"
)

// maxQueue is how many packets may wait for a part. A part that leaves more unread is ended.
const maxQueue = 4096

// A link is the monitor's end of the socket to another part. Sending never waits.
type link struct {
	conn *ipc.Conn
	proc Process
	wake chan struct{} // something is in the queue, or the link has been closed

	mu     sync.Mutex // guards what follows
	queue  []packet
	closed bool
}

// A packet is either data with files beside it or one input event.
type packet struct {
	data  []byte
	files []*os.File
	slot  slot
	input ipc.Input // Kind 0: none
}

// A slot is what a packet with files, or a long one, is about. Of each no more than the newest waits, since a part that does not take
// its packets must not cost descriptors or memory without end.
type slot struct {
	kind   ipc.Type // 0: no slot
	number uint32   // of a desktop
}

func newLink(conn *ipc.Conn, proc Process) *link {
	return &link{conn: conn, proc: proc, wake: make(chan struct{}, 1)}
}

// send queues a message.
func (l *link) send(t ipc.Type, body any) { l.sendFiles(slot{}, t, body) }

// sendFiles queues a message with files beside it, in place of one of the same slot that still waits. The files become the link's.
func (l *link) sendFiles(s slot, t ipc.Type, body any, files ...*os.File) {
	data, err := ipc.Marshal(t, body)
	if err != nil { // not reached: every body is ours and short
		ipc.CloseFiles(files)
		l.close()
		return
	}
	l.put(packet{data: data, files: files, slot: s})
}

// sendClip queues the text of a clipboard in place of one that still waits.
func (l *link) sendClip(t ipc.Type, c ipc.Clip) {
	l.put(packet{data: c.AppendTo(nil, t), slot: slot{kind: t}})
}

// input queues one input event. A pointer that only moves on replaces the move before it.
func (l *link) input(in ipc.Input) {
	l.mu.Lock()
	if n := len(l.queue); n > 0 && in.Kind == ipc.InputPointer {
		if last := &l.queue[n-1].input; last.Kind == ipc.InputPointer && last.A == in.A && last.Epoch == in.Epoch && last.Session == in.Session {
			*last = in
			l.mu.Unlock()
			return
		}
	}
	l.mu.Unlock()
	l.put(packet{input: in})
}

func (l *link) put(p packet) {
	l.mu.Lock()
	if p.slot != (slot{}) {
		if i := slices.IndexFunc(l.queue, func(old packet) bool { return old.slot == p.slot }); i >= 0 {
			old := l.queue[i]
			l.queue[i] = p
			l.mu.Unlock()
			ipc.CloseFiles(old.files)
			return
		}
	}
	full := len(l.queue) >= maxQueue
	if l.closed || full {
		l.mu.Unlock()
		ipc.CloseFiles(p.files)
		if full {
			l.close()
		}
		return
	}
	l.queue = append(l.queue, p)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// dropInput forgets the input events that wait, and what was to be pasted.
func (l *link) dropInput() {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.queue[:0]
	for _, p := range l.queue {
		if p.input.Kind == 0 && p.slot.kind != ipc.TypePaste {
			kept = append(kept, p)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
}

// next waits for a packet; false means that the link is closed.
func (l *link) next() (packet, bool) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return packet{}, false
		}
		if len(l.queue) > 0 {
			p := l.queue[0]
			l.queue[0] = packet{}
			if l.queue = l.queue[1:]; len(l.queue) == 0 {
				l.queue = nil
			}
			l.mu.Unlock()
			return p, true
		}
		l.mu.Unlock()
		<-l.wake
	}
}

// serve sends what is queued and hands each packet received to f, until the part ends, breaks the protocol or ctx ends, or
// until close is called. It closes the link and returns when nothing of it runs any more; nil is the part's orderly end.
func (l *link) serve(ctx context.Context, f func(p []byte) error) error {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		l.sendLoop()
	}()
	err := l.receiveLoop(f)
	l.close()
	<-sent
	return err
}

func (l *link) sendLoop() {
	var buf []byte
	for {
		p, ok := l.next()
		if !ok {
			return
		}
		if p.input.Kind != 0 {
			buf = p.input.AppendTo(buf[:0])
			p.data = buf
		}
		err := l.conn.SendPacket(p.data, p.files...)
		ipc.CloseFiles(p.files)
		if err != nil {
			l.close()
			return
		}
	}
}

func (l *link) receiveLoop(f func(p []byte) error) error {
	buf := make([]byte, ipc.MaxMessage)
	for {
		p, files, err := l.conn.Receive(buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			l.mu.Lock()
			closed := l.closed
			l.mu.Unlock()
			if closed {
				return nil
			}
			return err
		}
		ipc.CloseFiles(files) // no part sends the monitor any
		if err := f(p); err != nil {
			return err
		}
	}
}

// close ends the link; serve returns soon after.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	for _, p := range l.queue {
		ipc.CloseFiles(p.files)
	}
	l.queue = nil
	l.conn.Close()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

package desktop

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// Times within which hostd answers.
const (
	openTimeout  = 10 * time.Second
	loginTimeout = 60 * time.Second // PAM may wait in front of its answer
	takeTimeout  = 30 * time.Second // the holder has 10 s to answer
)

// errMonitor is what a question ends with when hostd does not answer in time.
var errMonitor = errors.New("hostd does not answer")

// A monitor is hostd, at the other end of the socket: questions and their answers. Its methods may be called by any
// goroutine.
type monitor struct {
	conn *ipc.Conn

	mu      sync.Mutex // guards what follows
	last    uint32
	waiting map[uint32]question
}

// A question waits for its answer.
type question struct {
	answer chan any  // with room for it
	heard  func(any) // called by the monitor's loop before anything else that hostd says; may be nil
}

func newMonitor(conn *ipc.Conn) *monitor {
	return &monitor{conn: conn, waiting: make(map[uint32]question)}
}

// ask sends a question, made with its number, and waits for the answer.
func (m *monitor) ask(ctx context.Context, t ipc.Type, timeout time.Duration, heard func(any), body func(id uint32) any) (any, error) {
	answer := make(chan any, 1)
	m.mu.Lock()
	m.last++
	id := m.last
	m.waiting[id] = question{answer, heard}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	if err := m.conn.Send(t, body(id)); err != nil {
		return nil, err
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case a := <-answer:
		return a, nil
	case <-late.C:
		return nil, errMonitor
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answered hands an answer to whoever waits for it.
func (m *monitor) answered(id uint32, a any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q, ok := m.waiting[id]; ok {
		delete(m.waiting, id)
		if q.heard != nil {
			q.heard(a)
		}
		q.answer <- a
	}
}

func (m *monitor) open(ctx context.Context, o ipc.Open) (ipc.Opened, error) {
	a, err := m.ask(ctx, ipc.TypeOpen, openTimeout, nil, func(id uint32) any { o.ID = id; return o })
	opened, _ := a.(ipc.Opened)
	return opened, err
}

// login tries a log-in and wipes the secret.
func (m *monitor) login(ctx context.Context, l ipc.Login) (ipc.LoggedIn, error) {
	a, err := m.ask(ctx, ipc.TypeLogin, loginTimeout, nil, func(id uint32) any { l.ID = id; return l })
	clear(l.Secret)
	in, _ := a.(ipc.LoggedIn)
	return in, err
}

// control asks for control. granted is called with the epoch before a later loss of control can be heard of.
func (m *monitor) control(ctx context.Context, c ipc.Control, granted func(epoch uint64)) (ipc.Controlled, error) {
	heard := func(a any) {
		if got, ok := a.(ipc.Controlled); ok && got.Refusal == nil {
			granted(got.Epoch)
		}
	}
	a, err := m.ask(ctx, ipc.TypeControl, takeTimeout, heard, func(id uint32) any { c.ID = id; return c })
	got, _ := a.(ipc.Controlled)
	return got, err
}

// trouble is what a person is told when hostd does not answer.
func trouble(computer string) *refuse.Refusal { return refuse.NotRunning.Of(computer) }

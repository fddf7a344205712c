package web

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/broker"
)

// What a page may say beside its session.
const (
	maxText   = tunnel.MaxWord // bytes of a message that is text
	maxWords  = 8              // that wait for the computer
	textEvery = 100 * time.Millisecond
	textBurst = 20
	talkTime  = 10 * time.Second // for the computer to take what is said
)

// words are what a page and its computer say to each other beside the picture. The relay passes it on and does not look into it; what it
// knows itself it adds.
type words struct {
	ws      *websocket.Conn
	session *broker.Session
	active  func()               // called when the page says that the person does something
	said    chan json.RawMessage // by the page, to the computer
	pace    *rate.Limiter        // owned by hear
}

// joined is one of those who are joined to the computer, as its session page shows them.
type joined struct {
	broker.Joined
	Session string `json:"session"` // as the computer names who has control
	Own     bool   `json:"own"`     // this page's
}

// hear takes a text of the page: a ping, that the person does something, or a word to the computer.
func (w *words) hear(text []byte) error {
	if w.pace == nil {
		w.pace = rate.NewLimiter(rate.Every(textEvery), textBurst)
	}
	var m struct {
		Ping   uint32          `json:"ping"`
		Active bool            `json:"active"`
		Host   json.RawMessage `json:"host"`
	}
	if err := json.Unmarshal(text, &m); err != nil || !w.pace.Allow() {
		return errUnheard
	}
	if m.Active {
		w.active()
	}
	if m.Ping != 0 {
		here := []joined{}
		for _, j := range w.session.Company() {
			here = append(here, joined{j, j.Session, j.Session == w.session.ID})
		}
		if err := say(w.ws, word{Pong: m.Ping, Joined: here}); err != nil {
			return err
		}
	}
	if m.Host != nil {
		select {
		case w.said <- m.Host:
		default:
			return errUnheard // the computer does not listen
		}
	}
	return nil
}

// errUnheard ends the session of a page that says what it may not, or too much.
var errUnheard = errors.New("a text that is not heard")

// run passes words on until ctx ends.
func (w *words) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	var stream net.Conn
	defer func() {
		if stream != nil {
			stream.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case word := <-w.said:
			if stream == nil {
				late, cancel := context.WithTimeout(ctx, talkTime)
				s, err := w.session.Talk(late)
				cancel()
				if err != nil {
					continue // it is of a version that does not talk, or it is gone: so is the session, then
				}
				stream = s
				work.Go(func() { w.answer(s) })
			}
			_ = stream.SetWriteDeadline(time.Now().Add(talkTime)) // WriteWord tells
			if tunnel.WriteWord(stream, word) != nil {
				stream.Close()
				stream = nil
			}
		}
	}
}

// answer passes the computer's words on to the page until either is gone.
func (w *words) answer(stream net.Conn) {
	for {
		b, err := tunnel.ReadWord(stream)
		if err != nil || !json.Valid(b) || say(w.ws, word{Host: b}) != nil {
			stream.Close()
			return
		}
	}
}

package tunnel

import "sync"

// A turn is the right to write to the wire. Streams that have sent little lately go before those that send without
// end, so that a key press waits for one piece of a transfer and not for one of each.
type turn struct {
	mu    sync.Mutex // guards what follows
	taken bool
	first []chan struct{} // waiting, oldest first
	rest  []chan struct{}
	ahead int    // of first, served one after another while rest waited
	aside []byte // frames without data, for whoever has the turn
}

// maxAhead is how many of the favoured go before one of the rest.
const maxAhead = 16

// take waits for the turn. It reports false when down or late was closed first. mine is an empty channel for one value,
// which nobody else uses meanwhile.
func (t *turn) take(mine chan struct{}, favoured bool, down, late <-chan struct{}) bool {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return true
	}
	queue := t.queue(favoured)
	*queue = append(*queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return true
	case <-down:
	case <-late:
	}
	t.mu.Lock()
	for i, c := range *queue {
		if c == mine {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			t.mu.Unlock()
			return false
		}
	}
	t.mu.Unlock()
	<-mine // it has become this one's turn just now
	return true
}

func (t *turn) queue(favoured bool) *[]chan struct{} {
	if favoured {
		return &t.first
	}
	return &t.rest
}

// leave puts a frame aside when the turn is taken; its holder sends it. Otherwise the turn is the caller's.
func (t *turn) leave(f frame) (mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		t.aside = f.appendTo(t.aside)
		return false
	}
	t.taken = true
	return true
}

// left gives what was put aside, for the holder of the turn to send; nil when there is nothing, and then the turn goes
// to the next.
func (t *turn) left(buf []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.aside) > 0 {
		buf = append(buf[:0], t.aside...)
		t.aside = t.aside[:0]
		return buf
	}
	t.next()
	return nil
}

func (t *turn) next() {
	from := &t.first
	if len(t.first) == 0 || t.ahead >= maxAhead && len(t.rest) > 0 {
		from = &t.rest
	}
	if t.ahead++; from == &t.rest || len(t.rest) == 0 {
		t.ahead = 0
	}
	if len(*from) == 0 {
		t.taken = false
		return
	}
	c := (*from)[0]
	*from = append((*from)[:0], (*from)[1:]...)
	c <- struct{}{}
}

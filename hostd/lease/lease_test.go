package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/hostd/ipc"
)

// A desk is a desktop that notes what happens to it. Its gate is the real one.
type desk struct {
	lease    *Lease
	gate     Gate
	pressed  map[uint32]bool // sessions with keys down
	injected []ipc.Input
	shut     bool // Shut was called and is not yet answered
	log      []string
}

func newDesk() *desk {
	d := &desk{pressed: make(map[uint32]bool)}
	d.lease = New(d, 100)
	return d
}

func (d *desk) note(format string, args ...any) { d.log = append(d.log, fmt.Sprintf(format, args...)) }

func (d *desk) Shut() {
	d.gate.Shut()
	d.shut = true
	d.note("shut")
}

func (d *desk) released() {
	d.shut = false
	clear(d.pressed)
	d.lease.Released()
}

func (d *desk) Granted(p Party, epoch uint64) {
	d.note("granted %d", p.Session)
	d.gate.Open(p.Session, epoch, d)
}

func (d *desk) Input(in ipc.Input) {
	d.injected = append(d.injected, in)
	d.pressed[in.Session] = true
}

func (d *desk) Paste([]byte) {}

func (d *desk) Refused(session uint32, why *refuse.Refusal) {
	d.note("refused %d %d", session, why.Code)
}
func (d *desk) Ask(holder, asker Party, _ time.Time) {
	d.note("ask %d %d", holder.Session, asker.Session)
}
func (d *desk) Changed() {}

// take gives what was noted since the last call.
func (d *desk) take() []string {
	l := d.log
	d.log = nil
	return l
}

func party(session uint32) Party {
	return Party{session, fmt.Sprintf("user%d@example.com", session%10), "user"}
}

var start = time.Date(2026, 1, 1, 10, 4, 0, 0, time.UTC)

func TestLease(t *testing.T) {
	type step struct {
		at   time.Duration
		do   func(d *desk, now time.Time)
		want []string
	}
	take := func(s uint32, how How) func(*desk, time.Time) {
		return func(d *desk, now time.Time) { d.lease.Take(party(s), how, now) }
	}
	leave := func(s uint32, vanished bool) func(*desk, time.Time) {
		return func(d *desk, now time.Time) { d.lease.Leave(s, vanished, now) }
	}
	answer := func(s, asker uint32, grant bool) func(*desk, time.Time) {
		return func(d *desk, now time.Time) { d.lease.Answer(s, asker, grant, now) }
	}
	expire := func(d *desk, now time.Time) { d.lease.Expire(now) }
	released := func(d *desk, _ time.Time) { d.released() }
	tests := []struct {
		name  string
		steps []step
	}{
		{"the second is refused", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, take(2, Plain), []string{"refused 2 40010"}},
			{2, leave(1, false), []string{"shut"}},
			{3, take(2, Plain), nil}, // the keys are not up yet
			{4, released, []string{"granted 2"}},
		}},
		{"the holder again", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, take(1, Force), []string{"granted 1"}},
		}},
		{"asked and granted", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, take(2, Ask), []string{"ask 1 2"}},
			{1, take(3, Ask), []string{"refused 3 40010"}},
			{2, answer(1, 3, true), nil},
			{2, answer(2, 2, true), nil},
			{2, answer(1, 0, true), nil},
			{2, answer(1, 2, true), []string{"shut"}},
			{3, released, []string{"granted 2"}},
			{4, answer(1, 2, true), nil},
		}},
		{"asked and denied", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, take(2, Ask), []string{"ask 1 2"}},
			{2, answer(1, 2, false), []string{"refused 2 40011"}},
			{3, answer(1, 2, true), nil},
		}},
		{"asked and not answered: 10 s", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, take(2, Ask), []string{"ask 1 2"}},
			{AskFor - 1, expire, nil},
			{AskFor, expire, []string{"refused 2 40012"}},
			{AskFor + 1, answer(1, 2, true), nil},
		}},
		{"the asked one leaves", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, take(2, Ask), []string{"ask 1 2"}},
			{1, leave(1, false), []string{"shut"}},
			{2, released, []string{"granted 2"}},
		}},
		{"the asker leaves", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, take(2, Ask), []string{"ask 1 2"}},
			{1, leave(2, false), []string{"ask 1 0"}}, // the question is withdrawn
			{2, answer(1, 2, true), nil},
		}},
		{"the asker leaves while the holder is gone", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, leave(1, true), []string{"shut"}},
			{1, released, nil},
			{1, take(2, Ask), nil},
			{2, leave(2, false), nil},
		}},
		{"asked by the same person", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, take(11, Plain), []string{"refused 11 40010"}},
			{1, take(11, Ask), []string{"shut"}},
			{2, released, []string{"granted 11"}},
		}},
		{"forced while another is asked", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, take(2, Ask), []string{"ask 1 2"}},
			{1, take(3, Force), []string{"refused 2 40010", "shut"}},
			{2, released, []string{"granted 3"}},
		}},
		{"vanished: 15 s", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, leave(1, true), []string{"shut"}},
			{2, released, nil},
			{3, take(2, Plain), []string{"refused 2 40010"}},
			{Grace, expire, nil},
			{Grace + 1, expire, nil},
			{Grace + 2, take(2, Plain), []string{"granted 2"}},
		}},
		{"vanished, and back at once as another session", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, leave(1, true), []string{"shut"}},
			{2, released, nil},
			{3, take(11, Plain), []string{"granted 11"}},
		}},
		{"vanished, and asked for", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{0, leave(1, true), []string{"shut"}},
			{1, released, nil},
			{8 * time.Second, take(2, Ask), nil},
			{Grace, expire, []string{"granted 2"}},
		}},
		{"moved to another desktop", []step{
			{0, take(1, Plain), []string{"granted 1"}},
			{1, func(d *desk, _ time.Time) { d.lease.Pause() }, []string{"shut"}},
			{2, released, nil},
			{3, func(d *desk, _ time.Time) { d.lease.Renew() }, []string{"granted 1"}},
			{4, func(d *desk, _ time.Time) { d.lease.Pause(); d.lease.Renew() }, []string{"shut"}},
			{5, released, []string{"granted 1"}},
			{6, func(d *desk, _ time.Time) { d.lease.Pause() }, []string{"shut"}},
			{7, leave(1, false), nil},
			{8, released, nil},
			{9, func(d *desk, _ time.Time) { d.lease.Renew() }, nil},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk()
			for i, s := range tt.steps {
				s.do(d, start.Add(s.at))
				if got := d.take(); !slices.Equal(got, s.want) {
					t.Fatalf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

func TestHeldText(t *testing.T) {
	d := newDesk()
	d.lease.Take(party(1), Plain, start)
	if got := d.lease.Held("other@example.com").Error(); got != "40010: user1@example.com has been in control since 10:04; watch, or ask for control" {
		t.Fatal(got)
	}
	d.lease.Leave(1, true, start)
	if r := d.lease.Held("user1@example.com"); r != nil {
		t.Fatal(r)
	}
}

// TestOneHolder does things at random and checks after each that at most one session's input passes, with an epoch never seen
// before it, and that no key of one holder is down when the next begins.
func TestOneHolder(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := newDesk()
		now := start
		epochs := make(map[uint64]uint32) // who had it
		alive := make(map[uint32]bool)
		next := uint32(1)
		for range 400 {
			now = now.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
			some := uint32(r.IntN(int(next))) + 1
			switch r.IntN(9) {
			case 0, 1:
				alive[next] = true
				d.lease.Take(party(next), How(r.IntN(3)), now)
				next++
			case 2:
				if alive[some] {
					d.lease.Take(party(some), How(r.IntN(3)), now)
				}
			case 3:
				delete(alive, some)
				d.lease.Leave(some, r.IntN(2) == 0, now)
			case 4:
				d.lease.Answer(some, uint32(r.IntN(int(next)+1)), r.IntN(2) == 0, now)
			case 5:
				d.lease.Pause()
			case 6:
				d.lease.Renew()
			case 7:
				if d.shut {
					d.released()
				}
			}
			if dl := d.lease.Deadline(); !dl.IsZero() && !now.Before(dl) {
				d.lease.Expire(now)
			}
			holders := 0
			for s := range next + 1 {
				before := len(d.injected)
				for e := d.lease.epoch - min(3, d.lease.epoch); e <= d.lease.epoch+1; e++ {
					d.gate.Pass(ipc.Input{Session: s, Epoch: e})
				}
				switch n := len(d.injected) - before; {
				case n > 1:
					t.Fatalf("seed %d: input of session %d passed with %d epochs", seed, s, n)
				case n == 1:
					holders++
					e := d.injected[before].Epoch
					if was, seen := epochs[e]; seen && was != s {
						t.Fatalf("seed %d: sessions %d and %d had the epoch %d", seed, was, s, e)
					}
					epochs[e] = s
					if !alive[s] {
						t.Fatalf("seed %d: session %d is over and controls", seed, s)
					}
				}
			}
			if holders > 1 || len(d.pressed) > 1 {
				t.Fatalf("seed %d: %d sessions control, keys of %d are down", seed, holders, len(d.pressed))
			}
			if holders == 1 && d.shut {
				t.Fatalf("seed %d: input passes while keys are being released", seed)
			}
		}
	}
}

// inputs are what passed a gate: A of input, and the texts' lengths.
type inputs []uint32

func (g *inputs) Input(in ipc.Input) { *g = append(*g, in.A) }
func (g *inputs) Paste(text []byte)  { *g = append(*g, uint32(len(text))) }

func TestGate(t *testing.T) {
	var g Gate
	var got inputs
	in := func(session uint32, epoch uint64) {
		g.Pass(ipc.Input{Session: session, Epoch: epoch, A: session*100 + uint32(epoch)})
	}
	in(0, 0) // never opened
	g.Open(3, 7, &got)
	in(3, 6)
	in(3, 7)
	in(3, 8)
	in(2, 7)
	in(3, 0)
	g.Shut()
	in(3, 7)
	in(0, 0)
	if !slices.Equal(got, []uint32{307}) {
		t.Fatal(got)
	}
	if p, d := g.Counts(); p != 1 || d != 7 {
		t.Fatal(p, d)
	}
}

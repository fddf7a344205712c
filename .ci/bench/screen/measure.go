package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
)

// Figures are what one measurement of one server gave.
type figures struct {
	server, x  float64 // CPU, % of a core; x: what it adds to the X server
	viewer     float64 // CPU of the viewer that decodes, % of a core: when it is near 100, it is the limit
	bytes      float64 // a second, to one viewer
	frames     float64 // distinct pictures a second that were seen
	others     float64 // updates a second of the further viewer that had the fewest
	p50        float64 // ms from drawing until seen; for a typed load from pressing a key
	p95, p99   float64
	lost       int     // keys that were not seen within a second, which counts as one
	rss, grown float64 // MiB; grown: of it, since the measurement began
	load, rest verdict // of the picture while it changed, and once the screen had rested
	rested     float64 // s until the picture was exact; infinite: never
}

func (f *figures) String() string {
	return fmt.Sprintf("%.1f + %.1f %%, %.3g MB/s, %.1f/s (others %.1f/s), %.1f / %.1f ms, %.0f MiB, %.1f dB, %.2f %% off, rest %.1f dB after %.1f s, %d lost",
		f.server, f.x, f.bytes/1e6, f.frames, f.others, f.p50, f.p99, f.rss, f.load.psnr, 100*f.load.off, f.rest.psnr, f.rested, f.lost)
}

// Times of a measurement.
const (
	warmUp   = 1500 * time.Millisecond // of a server under load before it counts
	restTime = 3 * time.Second         // until a picture must be exact
	snaps    = 4                       // pictures looked at under load
)

// play starts to draw; the function it gives ends that.
func (b *bench) play(ctx context.Context, s *stage, p *play, l *load, typed bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx, s, l.rate, typed)
	}()
	return func() {
		cancel()
		<-done
	}
}

// alone is what the load costs the X server when nobody watches, % of a core.
func (b *bench) alone(ctx context.Context, s *stage, p *play, l *load) float64 {
	x := []int{b.desk.Server.Pid}
	stop := b.play(ctx, s, p, l, false)
	defer stop()
	pause(ctx, warmUp)
	before, from := cpu(x), now()
	pause(ctx, time.Duration(b.seconds)*time.Second)
	return (cpu(x) - before) / (now() - from).Seconds() * 100
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// measure runs one server under one load.
func (b *bench) measure(ctx context.Context, s *stage, p *play, r row, sv *server) (*figures, error) {
	ready, cancel := context.WithTimeout(ctx, viewerTime)
	defer cancel()
	run, err := sv.start(ready)
	if err != nil {
		return nil, err
	}
	defer run.end()
	v, err := b.view(ctx, run, r.load)
	if err != nil {
		return nil, err
	}
	defer v.close()
	var others *crowd
	if r.viewers > 1 {
		if others, err = b.join(ctx, run, r.viewers-1, r.slow); err != nil {
			return nil, err
		}
		defer others.close()
		pause(ctx, 3*time.Second) // their log-ins
	}
	stop := b.play(ctx, s, p, r.load, r.typed)
	rep, f, err := b.watch(ctx, r, run, v, others)
	stop()
	if err != nil {
		return nil, err
	}
	f.delays(p, r, rep)
	if err := f.look(b.gate(), p, s, r.load, rep); err != nil {
		return nil, err
	}
	return f, b.settle(ctx, s, p, v, f)
}

// watch takes the figures while the load runs.
func (b *bench) watch(ctx context.Context, r row, run *serving, v *viewer, others *crowd) (*report, *figures, error) {
	pause(ctx, warmUp)
	pids, x := tree(run.roots()...), []int{b.desk.Server.Pid}
	word := "go"
	if r.typed {
		word = "keys"
	}
	if err := v.say("%s", word); err != nil {
		return nil, nil, err
	}
	if others != nil {
		if err := others.say("go"); err != nil {
			return nil, nil, err
		}
	}
	memoryBefore := memory(pids)
	before, beforeX, beforeV, from := cpu(pids), cpu(x), cpu([]int{v.proc.Pid}), now()
	part := time.Duration(b.seconds) * time.Second / (snaps + 1)
	for i := range snaps {
		pause(ctx, part)
		if r.rate > 0 {
			if err := v.say("snap %s", b.file(fmt.Sprintf("snap%d", i))); err != nil {
				return nil, nil, err
			}
		}
	}
	pause(ctx, part)
	took := (now() - from).Seconds()
	f := &figures{server: (cpu(pids) - before) / took * 100, x: (cpu(x) - beforeX) / took * 100, rss: memory(tree(run.roots()...))}
	f.grown = f.rss - memoryBefore
	f.viewer = (cpu([]int{v.proc.Pid}) - beforeV) / took * 100
	rep, err := v.stop()
	if err != nil {
		return nil, nil, err
	}
	f.bytes, f.frames = rep.bytes/took, float64(len(rep.seen))/took
	if others != nil {
		least, err := others.stop()
		if err != nil {
			return nil, nil, err
		}
		f.others = least / took
	}
	return rep, f, nil
}

// delays finds how long it took from drawing, or from a key, until it was seen.
func (f *figures) delays(p *play, r row, rep *report) {
	var took []time.Duration
	if r.typed {
		for _, d := range rep.keys {
			if d < 0 {
				f.lost++
				d = time.Second
			}
			took = append(took, d)
		}
	} else {
		for n, at := range rep.seen {
			if d := at - p.shown[n]; p.shown[n] > 0 && d < time.Minute { // else it was drawn before the marker's numbers went round
				took = append(took, d)
			}
		}
	}
	slices.Sort(took)
	f.p50, f.p95, f.p99 = quantile(took, 0.5), quantile(took, 0.95), quantile(took, 0.99)
}

// quantile is one of sorted times, ms; NaN when there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Nanoseconds()) / 1e6
}

// look judges the pictures that were taken under load. A server takes the parts of a screen one after the other, so a part
// may be of any picture that was drawn within a tenth of a second of that with the marker.
func (f *figures) look(g gate, p *play, s *stage, l *load, rep *report) error {
	f.load = verdict{psnr: math.Inf(1)}
	for _, sn := range rep.snaps {
		got, err := readPicture(sn.file)
		if err != nil {
			return err
		}
		n := p.n - (p.n-sn.marker)&0xffff // the picture whose marker that is
		near := max(1, l.rate/10)
		var wants []frame.Image
		for k := max(0, n-near); k <= min(p.n, n+near); k++ {
			wants = append(wants, p.draw(s, k))
		}
		if len(wants) == 0 {
			return fmt.Errorf("a marker %d after picture %d", sn.marker, p.n)
		}
		f.load = f.load.worse(judge(g, got, wants...))
	}
	return nil
}

// draw is the whole screen with picture n.
func (p *play) draw(s *stage, n int) frame.Image {
	m := frame.New(s.under.Rect)
	copy(m.Pix, s.under.Pix)
	p.picture(n, m)
	return m
}

// settle waits until the viewer's picture is exactly the screen, at most restTime.
func (b *bench) settle(ctx context.Context, s *stage, p *play, v *viewer, f *figures) error {
	start := now()
	want, err := s.shot()
	if err != nil {
		return err
	}
	if w := judge(good, want, p.draw(s, p.n)); !math.IsInf(w.psnr, 1) {
		return fmt.Errorf("the screen does not show picture %d: %.1f dB, %.2f %% of the blocks off", p.n, w.psnr, 100*w.off)
	}
	ctx, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	f.rested = math.Inf(1)
	var last error
	_ = rig.Until(ctx, "an exact picture", func() (bool, error) { // its time may run out
		got, err := v.saved(b.file("rest"))
		if last = err; err != nil {
			return true, err
		}
		if f.rest = judge(good, got, want); math.IsInf(f.rest.psnr, 1) {
			f.rested = (now() - start).Seconds()
			return true, nil
		}
		pause(ctx, 200*time.Millisecond)
		return false, nil
	})
	return last
}

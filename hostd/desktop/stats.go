package desktop

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stats counts what the picture pipeline does.
type stats struct {
	captures atomic.Uint64 // frames brought up to date by the worker
	captured atomic.Uint64 // pixels it read from the display for them
	encodes  atomic.Uint64 // parts of a desktop's picture that were encoded
	shared   atomic.Uint64 // parts that were sent without encoding them again
	updates  atomic.Uint64
	bytes    atomic.Uint64 // written to viewers
	viewers  atomic.Int64
	inputs   atomic.Uint64 // handed to hostd
	dropped  atomic.Uint64 // input of sessions that do not control
}

func (s *stats) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	counter := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hostd_desktop_" + name, Help: help},
			func() float64 { return float64(n.Load()) })
	}
	for _, c := range []prometheus.Collector{
		counter("captures_total", "Frames captured from the display.", &s.captures),
		counter("captured_pixels_total", "Pixels read from the display.", &s.captured),
		counter("encodes_total", "Parts of a picture encoded.", &s.encodes),
		counter("shared_encodes_total", "Parts of a picture sent again without encoding.", &s.shared),
		counter("updates_total", "Updates sent to viewers.", &s.updates),
		counter("viewer_bytes_total", "Bytes written to viewers.", &s.bytes),
		counter("inputs_total", "Input events handed on.", &s.inputs),
		counter("dropped_inputs_total", "Input events of sessions that do not control.", &s.dropped),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostd_desktop_viewers", Help: "Connected viewers."},
			func() float64 { return float64(s.viewers.Load()) }),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

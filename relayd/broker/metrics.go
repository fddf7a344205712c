package broker

import (
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/helmline/helmline/bridge/refuse"
)

// metrics never carry the name of a person or a computer.
type metrics struct {
	sessions   *prometheus.GaugeVec
	refusals   *prometheus.CounterVec
	toViewer   prometheus.Counter
	fromViewer prometheus.Counter
	known      map[int]bool // numbers of the catalogue: a computer could send any
}

func newMetrics(reg prometheus.Registerer) *metrics {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "relayd_session_bytes_total", Help: "Bytes passed between viewers and computers.",
	}, []string{"direction"})
	m := &metrics{
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "relayd_sessions", Help: "Viewers joined to a computer now, by door.",
		}, []string{"door"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relayd_refusals_total", Help: "Sessions that were refused, by number.",
		}, []string{"code"}),
		toViewer:   bytes.WithLabelValues("to_viewer"),
		fromViewer: bytes.WithLabelValues("to_host"),
		known:      make(map[int]bool),
	}
	for _, k := range refuse.All() {
		m.known[k.Code] = true
	}
	for _, door := range []string{"rfb", "code", "ssh", "web"} {
		m.sessions.WithLabelValues(door) // shown before the first comes
	}
	reg.MustRegister(m.sessions, bytes, m.refusals)
	return m
}

func (m *metrics) refused(code int) {
	label := "other"
	if m.known[code] {
		label = strconv.Itoa(code)
	}
	m.refusals.WithLabelValues(label).Inc()
}

// counted counts what passes a viewer's connection, while it passes, and notices the first direction's end.
type counted struct {
	net.Conn
	read, written prometheus.Counter
	ended         func() // called when one direction has ended; only its first call does something
	late          *time.Timer
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(float64(n))
	if err != nil {
		c.ended()
	}
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(float64(n))
	return n, err
}

// CloseWrite ends the stream towards the viewer and leaves the other direction open, where the connection can do so.
func (c *counted) CloseWrite() error {
	c.ended()
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Conn.Close()
}

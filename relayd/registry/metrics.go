package registry

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted for the whole relay: no label names a person or a computer.
type metrics struct {
	online     prometheus.Gauge
	codes      prometheus.Gauge
	tunnels    *prometheus.CounterVec
	enrolments *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		online: prometheus.NewGauge(prometheus.GaugeOpts{Name: "relayd_hosts_online", Help: "Computers with a live main tunnel."}),
		codes:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "relayd_codes_live", Help: "One-time codes that can still be used, expired ones that nobody has tried included."}),
		tunnels: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relayd_tunnels_total", Help: "Tunnels of computers by what became of them: attached, replaced, refused (too many replaced each other)."},
			[]string{"event"}),
		enrolments: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relayd_enrolments_total", Help: "Enrolments of computers by result: ok, refused."}, []string{"result"}),
	}
	reg.MustRegister(m.online, m.codes, m.tunnels, m.enrolments)
	for _, l := range []string{"attached", "replaced", "refused"} {
		m.tunnels.WithLabelValues(l)
	}
	for _, l := range []string{"ok", "refused"} {
		m.enrolments.WithLabelValues(l)
	}
	return m
}

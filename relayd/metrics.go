package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newMetrics is the registry that every part registers with, holding what is known of the process.
func newMetrics() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "relayd_build_info", Help: "Always 1; the version is in the label.",
		ConstLabels: prometheus.Labels{"version": versionText()},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// health answers whether relayd lives, and whether it is ready for people.
type health struct {
	store    interface{ Ping(context.Context) error }
	serving  atomic.Bool // every door is open
	draining atomic.Bool
}

// readyTime bounds a check of the database.
const readyTime = 3 * time.Second

func (h *health) ready(ctx context.Context) error {
	switch {
	case h.draining.Load():
		return errors.New("relayd is stopping")
	case !h.serving.Load():
		return errors.New("not every door is open yet")
	}
	ctx, stop := context.WithTimeout(ctx, readyTime)
	defer stop()
	if err := h.store.Ping(ctx); err != nil {
		return errors.New("the database cannot be written")
	}
	return nil
}

// serveMetrics answers /metrics, /healthz and /readyz on l until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, reg *prometheus.Registry, h *health, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := h.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

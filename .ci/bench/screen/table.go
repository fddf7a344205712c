package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A line is one figure in the table.
type line struct {
	name string
	of   func(*figures, row) float64 // NaN: there is none
}

var lines = []line{
	{"CPU of the server and what it adds to X, % of a core", func(f *figures, _ row) float64 { return f.server + f.x }},
	{"CPU for a picture, ms", func(f *figures, r row) float64 {
		if r.rate == 0 || f.frames == 0 {
			return math.NaN()
		}
		return (f.server + f.x) * 10 / f.frames
	}},
	{"CPU of the viewer itself, % of a core", func(f *figures, _ row) float64 { return f.viewer }},
	{"to one viewer, kB/s", func(f *figures, _ row) float64 { return f.bytes / 1e3 }},
	{"pictures seen a second", func(f *figures, r row) float64 { return orNone(r.rate > 0, f.frames) }},
	{"updates a second of the worst further viewer", func(f *figures, r row) float64 { return orNone(r.viewers > 1, f.others) }},
	{"until seen, p50 ms", func(f *figures, r row) float64 { return orNone(r.rate > 0, f.p50) }},
	{"until seen, p95 ms", func(f *figures, r row) float64 { return orNone(r.rate > 0, f.p95) }},
	{"until seen, p99 ms", func(f *figures, r row) float64 { return orNone(r.rate > 0, f.p99) }},
	{"memory, MiB", func(f *figures, _ row) float64 { return f.rss }},
	{"memory that came meanwhile, KiB", func(f *figures, r row) float64 { return orNone(r.rate == 0, f.grown*1024) }},
}

func orNone(there bool, v float64) float64 {
	if there {
		return v
	}
	return math.NaN()
}

// right says whether a picture was what it should be. Ours has to be exact at rest as well; x11vnc never sends again what
// it has sent with losses, so from peers it is enough that it is good.
func (f *figures) right(g gate, server string) bool {
	exact := math.IsInf(f.rest.psnr, 1)
	return f.load.right(g) && (exact || server != ours && server != relayed && f.rest.right(good))
}

// print writes the table.
func (b *bench) print(w io.Writer) {
	var names []string
	for _, s := range b.servers() {
		if slices.ContainsFunc(b.rows(), func(r row) bool { return len(b.cells[cell{r, s.name}]) > 0 }) {
			names = append(names, s.name)
		}
	}
	fmt.Fprintf(w, "%s, %s, hostd %s, viewers over %s, %d s each, Xvfb %d×%d×24, Tight quality 8\n\n",
		time.Now().Format(time.DateOnly), machine(), jpeg(filepath.Join(b.bin, "hostd")), b.links, b.seconds, screenSize.X, screenSize.Y)
	fmt.Fprintf(w, "| medians of %d | %s | %s : %s | %s : %s |\n|%s\n", b.rounds, strings.Join(names, " | "), ours, x0vnc, ours, x11tuned,
		strings.Repeat("---|", len(names)+3))
	for _, r := range b.rows() {
		fmt.Fprintf(w, "| **%s** |%s\n", r.title(), strings.Repeat(" |", len(names)+2))
		for _, l := range lines {
			b.line(w, l, r, names)
		}
		fmt.Fprint(w, "| picture under load; at rest")
		for _, name := range names {
			fmt.Fprintf(w, " | %s", b.picture(r, name))
		}
		fmt.Fprint(w, " | | |\n")
	}
}

// line writes one figure of one row, unless nobody has it.
func (b *bench) line(w io.Writer, l line, r row, names []string) {
	values := make(map[string]float64)
	texts, some := make([]string, len(names)), false
	for i, name := range names {
		all := b.cells[cell{r, name}]
		var v []float64
		wrong := false
		for _, f := range all {
			v = append(v, l.of(f, r))
			wrong = wrong || !f.right(b.gate(), name)
		}
		m := median(v)
		some = some || !math.IsNaN(m)
		switch {
		case len(all) == 0 || math.IsNaN(m):
			texts[i] = "–"
		case wrong:
			texts[i] = fmt.Sprintf("invalid (%.4g)", m)
		default:
			texts[i], values[name] = fmt.Sprintf("%.4g", m), m
		}
	}
	if !some {
		return
	}
	fmt.Fprintf(w, "| %s | %s", l.name, strings.Join(texts, " | "))
	for _, peer := range []string{x0vnc, x11tuned} {
		h, ok1 := values[ours]
		p, ok2 := values[peer]
		if ok1 && ok2 && p > 0 {
			fmt.Fprintf(w, " | %.2f", h/p)
		} else {
			fmt.Fprint(w, " | ")
		}
	}
	fmt.Fprint(w, " |\n")
}

// picture says how good the picture was, in the worst round.
func (b *bench) picture(r row, name string) string {
	all := b.cells[cell{r, name}]
	if len(all) == 0 {
		return "–"
	}
	load, rest, rested, lost := all[0].load, all[0].rest, 0.0, 0
	for _, f := range all {
		load, rest, rested, lost = load.worse(f.load), rest.worse(f.rest), max(rested, f.rested), lost+f.lost
	}
	text := ""
	if r.rate > 0 {
		text = decibel(load) + "; "
	}
	if math.IsInf(rest.psnr, 1) {
		text += fmt.Sprintf("exact in %.1f s", rested)
	} else {
		text += decibel(rest)
	}
	if lost > 0 {
		text += fmt.Sprintf("; %d keys late", lost)
	}
	return text
}

func decibel(v verdict) string {
	if math.IsInf(v.psnr, 1) {
		return "exact"
	}
	return fmt.Sprintf("%.1f dB, %.2f %% off", v.psnr, 100*v.off)
}

// median is the middle one; NaN when one is missing.
func median(v []float64) float64 {
	if len(v) == 0 || slices.ContainsFunc(v, math.IsNaN) {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

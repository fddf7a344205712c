package main

import (
	"debug/buildinfo"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/helmline/helmline/.ci/rig"
)

// tree is processes and all their children.
func tree(roots ...int) []int {
	var all []int
	for _, pid := range roots {
		all = append(all, pid)
		all = append(all, tree(rig.Children(pid)...)...)
	}
	return all
}

// cpu is the processor time that processes have used, with that of children that have ended, seconds.
func cpu(pids []int) float64 {
	sum := 0.0
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue // it has ended, and its parent counts it
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, v := range f[11:15] { // utime, stime and those of the children
			ticks, _ := strconv.ParseFloat(v, 64)
			sum += ticks / 100
		}
	}
	return sum
}

// memory is what processes have in memory, MiB. What several of them share, as hostd's parts share the frame and the program, counts
// once (PSS).
func memory(pids []int) float64 {
	sum := 0.0
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); f[0] == "Pss:" {
				kib, _ := strconv.ParseFloat(f[1], 64)
				sum += kib / 1024
			}
		}
	}
	return sum
}

// machine says on what the bench ran.
func machine() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strconv.Itoa(runtime.NumCPU()) + " × " + strings.TrimSpace(value)
		}
	}
	return strconv.Itoa(runtime.NumCPU()) + " processors"
}

// jpeg says which encoder of JPEG a build of hostd has.
func jpeg(program string) string {
	if info, err := buildinfo.ReadFile(program); err == nil {
		for _, s := range info.Settings {
			if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "turbo") {
				return "with libjpeg-turbo"
			}
		}
	}
	return "without libjpeg-turbo"
}

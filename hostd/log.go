package main

import (
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/helmline/helmline/conf"
)

// version is set by the linker: -X main.version=1.2.3.
var version string

// versionText is the version, or the commit hostd was built from.
func versionText() string {
	if version != "" {
		return strings.TrimPrefix(version, "v")
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

// newLog writes to w as the settings say. part tells the parts of hostd apart. The journal keeps the time itself.
func newLog(c conf.Log, part string, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked when the settings were read
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)).With("part", part)
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(w, o)).With("part", part)
}

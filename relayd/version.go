package main

import (
	"runtime/debug"
	"strings"
)

// version is set by the linker: -X main.version=1.2.3.
var version string

// versionText is the version, or the commit relayd was built from.
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

// Package conf holds the settings of relayd and hostd: what can be set, what holds when nothing is, and how a mistake is
// told. A setting that is not known is an error, so that a typing mistake does not switch one off. The files
// relayd.toml and hostd.toml beside this text list every setting with its default.
package conf

import (
	_ "embed"
	"os"
)

// Where the daemons look when no --config is given.
const (
	RelayFile = "/etc/helmline/relayd.toml"
	HostFile  = "/etc/helmline/hostd.toml"
)

// The commented example files. Loading one gives the defaults.
var (
	//go:embed relayd.toml
	RelayExample string
	//go:embed hostd.toml
	HostExample string
)

// Log says what is written to standard error, and how.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn or error
	Format string `toml:"format"` // text or json
}

func (l Log) check(c *checker) {
	c.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Format, "text", "json")
}

// LoadRelay reads the settings of relayd. An empty path is RelayFile, and the defaults where that does not exist.
// The error lists every problem found, one a line, each with file, line and key; it unwraps to Problem values.
func LoadRelay(path string) (*Relay, error) {
	c := DefaultRelay()
	text, err := load(path, RelayFile, c)
	if err != nil {
		return nil, err
	}
	if err := text.locate(c.Validate()); err != nil {
		return nil, err
	}
	if c.Name == "" {
		if c.Name, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// LoadHost reads the settings of hostd, as LoadRelay does those of relayd.
func LoadHost(path string) (*Host, error) {
	c := DefaultHost()
	text, err := load(path, HostFile, c)
	if err != nil {
		return nil, err
	}
	if err := text.locate(c.Validate()); err != nil {
		return nil, err
	}
	return c, nil
}

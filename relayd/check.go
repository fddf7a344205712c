package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/helmline/helmline/conf"
	"github.com/helmline/helmline/relayd/store"
)

// check says whether relayd could run with settings that were read already. It makes and changes nothing.
func check(c *conf.Relay, out io.Writer) error {
	if c.TLS.Cert != "" {
		t := &certificate{conf: c, log: slog.New(slog.DiscardHandler)}
		if err := t.reload(); err != nil {
			return err
		}
	}
	switch _, err := os.Stat(c.StateDir); {
	case errors.Is(err, fs.ErrNotExist): // serve makes it
	case err != nil:
		return fmt.Errorf("state_dir: %w", err)
	default:
		if err := store.Private(c.StateDir); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "the settings are good")
	return nil
}

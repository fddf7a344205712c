package part

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/helmline/helmline/hostd/login"
)

// EpochFile is the name of the file that counts the starts of hostd.
const EpochFile = "epoch"

// NextEpoch gives the epoch that leases of this start of hostd begin behind. It is above every epoch of an earlier start: the upper 32 bits
// count the starts, the lower the grants. With an error from reading or writing it may not be new. A damaged count goes on from
// the clock, in seconds, as no computer starts hostd more often than that; the error says so once.
func NextEpoch(stateDir string) (uint64, error) {
	path := filepath.Join(stateDir, EpochFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 1 << 32, fmt.Errorf("count of starts: %w", err)
	}
	n, damaged := uint64(0), error(nil)
	if err == nil {
		if n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err != nil {
			damaged = fmt.Errorf("count of starts: %s was damaged (%w); it goes on from the clock", path, err)
			n = uint64(uint32(time.Now().Unix()))
		}
	}
	n++
	if err := login.WriteFile(path, fmt.Appendln(nil, n)); err != nil {
		return n << 32, fmt.Errorf("count of starts: %w; nobody can log in while nothing can be written to %s", err, stateDir)
	}
	return n << 32, damaged
}

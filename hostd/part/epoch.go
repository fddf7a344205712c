package part

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/helmline/helmline/hostd/login"
)

// EpochFile is the name of the file that counts the starts of hostd.
const EpochFile = "epoch"

// NextEpoch gives the epoch that leases of this start of hostd begin behind. It is above every epoch of an earlier start: the upper 32 bits
// count the starts, the lower the grants. With an error it may not be new.
func NextEpoch(stateDir string) (uint64, error) {
	path := filepath.Join(stateDir, EpochFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 1 << 32, fmt.Errorf("count of starts: %w", err)
	}
	n := uint64(0)
	if err == nil {
		if n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err != nil {
			return 1 << 32, fmt.Errorf("count of starts: %s is damaged: %w", path, err)
		}
	}
	n++
	if err := login.WriteFile(path, fmt.Appendln(nil, n)); err != nil {
		return n << 32, fmt.Errorf("count of starts: %w", err)
	}
	return n << 32, nil
}

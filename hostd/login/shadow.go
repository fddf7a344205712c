package login

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"
)

// judgeShadow says whether the account of a user has expired, from a file as /etc/shadow. A user who is not in it has no date
// of expiry.
func judgeShadow(path, name string, now time.Time) (Verdict, error) {
	f, err := os.Open(path)
	if err != nil {
		if os.Geteuid() != 0 {
			return VerdictOK, nil // one's own account, in use at this moment
		}
		return VerdictError, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 9 || fields[0] != name || fields[7] == "" {
			continue
		}
		days, err := strconv.ParseInt(fields[7], 10, 32)
		if err != nil {
			return VerdictError, err
		}
		if now.Unix()/(24*60*60) >= days {
			return VerdictExpired, nil
		}
	}
	return VerdictOK, nil
}

package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A Problem is one thing that is wrong with the settings and what to write instead.
type Problem struct {
	File string // empty where the settings come from no file
	Line int    // 1 is the first; 0 where the key does not stand in the file
	Key  string // as in "ssh.listen"
	Text string // follows the key
}

func (p *Problem) Error() string {
	switch s := strings.TrimSpace(p.Key + " " + p.Text); {
	case p.File == "":
		return s
	case p.Line == 0:
		return fmt.Sprintf("%s: %s", p.File, s)
	default:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, s)
	}
}

// A checker gathers problems.
type checker struct{ problems []error }

func (c *checker) err() error { return errors.Join(c.problems...) }

func (c *checker) add(key, format string, args ...any) {
	c.problems = append(c.problems, &Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		last := len(allowed) - 1
		c.add(key, "is %q; write %s or %q", value, quoted(allowed[:last]), allowed[last])
	}
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = strconv.Quote(w)
	}
	return strings.Join(q, ", ")
}

func (c *checker) absolute(key, path, example string) {
	if !filepath.IsAbs(path) {
		c.add(key, "%q is not an absolute path; write one, as in %q", path, example)
	}
}

// socket checks that a path fits a Unix socket's address: 107 bytes on Linux.
func (c *checker) socket(key, path string) {
	if len(path) > 107 {
		c.add(key, "is too long for the socket in it: %q has %d bytes, more than 107; write a shorter path", path, len(path))
	}
}

func (c *checker) port(key, listen string) {
	if listen != "" && !isListen(listen) {
		c.add(key, "%q is no address to listen on; write host:port or :port, as in \":5900\", or \"\" to keep it closed", listen)
	}
}

// distinct checks that no two doors want the same port of the same address.
func (c *checker) distinct(doors []door) {
	for i, a := range doors {
		for _, b := range doors[:i] {
			ah, ap, aerr := net.SplitHostPort(a.listen)
			bh, bp, berr := net.SplitHostPort(b.listen)
			if aerr == nil && berr == nil && ap == bp && ap != "0" && (ah == bh || isAny(ah) || isAny(bh)) {
				c.add(a.key, "%q is the port of %s too; write another", a.listen, b.key)
			}
		}
	}
}

// readable checks a file that the daemon will need. Others must not write it, nor read it if it holds a secret.
func (c *checker) readable(key, path string, secret bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold the daemon up
	if errors.Is(err, fs.ErrPermission) {
		c.add(key, "%q is not readable (permission denied); it must belong to the user the daemon runs as", path)
		return
	}
	if err != nil {
		c.add(key, "%q cannot be opened (%v); write the path of a PEM file", path, errors.Unwrap(err))
		return
	}
	defer f.Close()
	if err := checkMode(f, secret); err != nil {
		c.add(key, "%v", err)
	}
}

// checkMode refuses a file that more people can write, or if it is a secret read, than its owner. A group may read: that
// is how systemd's LoadCredential= and groups such as ssl-cert hand a key to a service.
func checkMode(f *os.File, secret bool) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	switch mode := st.Mode(); {
	case !mode.IsRegular():
		return fmt.Errorf("%q is not a regular file", f.Name())
	case mode.Perm()&0o022 != 0:
		return fmt.Errorf("%q can be written by others (mode %04o); run: chmod go-w %s", f.Name(), mode.Perm(), f.Name())
	case secret && mode.Perm()&0o007 != 0:
		return fmt.Errorf("%q is a secret that others can read (mode %04o); run: chmod o= %s", f.Name(), mode.Perm(), f.Name())
	}
	return nil
}

// isListen says whether s is an address that can be listened on: an IP address, "localhost" or nothing, and a port.
func isListen(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || host == "" || host == "localhost"
}

func isAny(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

func isLoopback(listen string) bool {
	host, _, _ := net.SplitHostPort(listen)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// isHost says whether s is an IP address or a host name as RFC 1123, section 2.1, has it.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, letters+"-") != "" {
			return false
		}
	}
	return true
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// isName says whether s can name an OS user, a group or a PAM service.
func isName(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '-' && s[0] != '.' && strings.Trim(s, letters+"_-.@\\") == ""
}

// isDisplay says whether s is an X display of this machine: ":", its number, and perhaps a screen.
func isDisplay(s string) bool {
	number, screen, _ := strings.Cut(strings.TrimPrefix(s, ":"), ".")
	if _, err := strconv.ParseUint(number, 10, 16); err != nil || !strings.HasPrefix(s, ":") {
		return false
	}
	_, err := strconv.ParseUint("0"+screen, 10, 16)
	return err == nil
}

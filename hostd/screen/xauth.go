package screen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Families of an entry's address, as Xauth.h names them.
const (
	familyLocal = 256
	familyWild  = 65535
)

const cookieName = "MIT-MAGIC-COOKIE-1"

// cookieSize is the length of such a cookie, bytes.
const cookieSize = 16

// maxXauthority is the longest authority file read, bytes.
const maxXauthority = 256 << 10

var errNoCookie = errors.New("it holds no cookie for this display")

// readXauthority finds the cookies for a display in an authority file, best first: entries that name this host, then
// those that name any, then those of another host with that display, since a host's name may have changed since.
func readXauthority(path string, display int) ([][]byte, error) {
	b, err := readSmall(path, maxXauthority)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	cookies := parseXauthority(b, host, display)
	if len(cookies) == 0 {
		return nil, fmt.Errorf("%s: %w", path, errNoCookie)
	}
	return cookies, nil
}

// parseXauthority reads the entries of an authority file until they end or make no sense. Each is a family and four
// counted strings: address, display number, name and data of the cookie.
func parseXauthority(b []byte, host string, display int) [][]byte {
	var rank [3][][]byte
	number := strconv.Itoa(display)
	for len(b) >= 2 {
		family := binary.BigEndian.Uint16(b)
		b = b[2:]
		var field [4][]byte
		for i := range field {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				b = nil
				break
			}
			n := 2 + int(binary.BigEndian.Uint16(b))
			field[i], b = b[2:n], b[n:]
		}
		if len(field[3]) != cookieSize || string(field[2]) != cookieName ||
			len(field[1]) > 0 && string(field[1]) != number {
			continue
		}
		at := 2
		switch {
		case family == familyLocal && string(field[0]) == host:
			at = 0
		case family == familyWild:
			at = 1
		}
		rank[at] = append(rank[at], field[3])
	}
	return append(append(rank[0], rank[1]...), rank[2]...)
}

// appendXauthority appends an entry that fits every address and, with a negative display, every display.
func appendXauthority(dst []byte, display int, cookie []byte) []byte {
	number := ""
	if display >= 0 {
		number = strconv.Itoa(display)
	}
	dst = binary.BigEndian.AppendUint16(dst, familyWild)
	for _, f := range [][]byte{nil, []byte(number), []byte(cookieName), cookie} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// readSmall reads a regular file of at most limit bytes. Whoever owns the file may have put anything in its place: a
// link is followed, but neither a pipe nor a device is waited for.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return buf.Bytes(), nil
}

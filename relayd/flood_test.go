package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Security yardstick L6, small: silent strangers from many sources on every port. Few of them are held, those who are
// in go on, and somebody new with something to say comes in.
func TestFloodOfStrangers(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	session := r.jump("alice@example.com", "desk7")
	within(t, desk.headers, "stream")

	var flood sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	defer flood.Wait()
	defer stop()
	for _, door := range []string{"ssh", "rfb", "rfb_code"} {
		for i := range 300 {
			flood.Go(func() {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(2+i/250), byte(1+i%250))}}
				for pause(ctx, time.Second) { // who is dropped comes again
					c, err := d.DialContext(ctx, "tcp", r.ports[door])
					if err != nil {
						continue
					}
					stop := context.AfterFunc(ctx, func() { c.Close() })
					_, _ = io.Copy(io.Discard, c)
					stop()
					c.Close()
				}
			})
		}
	}
	for _, door := range []string{"ssh", "rfb", "code"} {
		late := minute(t)
		for held := 0; held < 100; { // they have arrived
			if held = r.waiting(door); held > 200 {
				t.Fatalf("%s holds %d strangers", door, held)
			}
			if !pause(late, 50*time.Millisecond) {
				t.Fatalf("%s holds %d strangers after a minute", door, held)
			}
		}
	}
	session.check(false)

	// From a source that nobody knows, with a crowd that is two seconds old.
	var err error
	for late := minute(t); pause(late, 50*time.Millisecond); {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 9, 9)}, Timeout: 20 * time.Second}
		var c net.Conn
		if c, err = d.Dial("tcp", r.ports["ssh"]); err != nil {
			continue
		}
		var conn ssh.Conn
		conn, _, _, err = ssh.NewClientConn(c, "relay", &ssh.ClientConfig{
			User: "alice@example.com", Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err == nil {
			conn.Close()
			break
		}
		c.Close()
	}
	if err != nil {
		t.Errorf("nobody new comes in: %v", err)
	}
	for _, door := range []string{"ssh", "rfb", "code"} {
		if held := r.waiting(door); held > 200 {
			t.Errorf("%s holds %d strangers", door, held)
		}
	}
	session.check(false)
}

// pause waits for d. It reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// waiting is how many strangers stand at a door.
func (r *relay) waiting(door string) int {
	r.t.Helper()
	for line := range strings.Lines(r.get("/metrics")) {
		if n, ok := strings.CutPrefix(line, fmt.Sprintf("relayd_door_waiting{door=%q} ", door)); ok {
			held, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				r.t.Fatal(err)
			}
			return held
		}
	}
	r.t.Fatalf("no metric of the door %s", door)
	return 0
}

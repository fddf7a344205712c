package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client measures one thing through the port args[0] and prints a result: down and up take bytes and streams, ping
// takes a count and a pause, load-down and load-up take seconds and a pause between pings.
func client(args []string) error {
	number, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	var r result
	switch args[1] {
	case "down", "up":
		streams, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		r, err = transfer(args[0], args[1], number, streams)
		if err != nil {
			return err
		}
	case "ping":
		pause, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		if r, err = ping(args[0], int(number), pause, time.Hour); err != nil {
			return err
		}
	case "load-down", "load-up":
		pause, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		if r, err = load(args[0], args[1] == "load-down", time.Duration(number)*time.Second, pause); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func open(entry string, kind byte, n int64) (net.Conn, error) {
	c, err := net.Dial("tcp", entry)
	if err != nil {
		return nil, err
	}
	_, err = c.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(n)))
	return c, err
}

func transfer(entry, way string, bytes int64, streams int) (result, error) {
	each := bytes / int64(streams)
	errs := make([]error, streams)
	var work sync.WaitGroup
	start := time.Now()
	for i := range streams {
		work.Go(func() { errs[i] = move(entry, way, each) })
	}
	work.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return result{}, err
		}
	}
	return result{Rate: float64(each*int64(streams)) / took.Seconds()}, nil
}

func move(entry, way string, n int64) error {
	if way == "down" {
		c, err := open(entry, 'D', n)
		if err != nil {
			return err
		}
		defer c.Close()
		return take(c, n)
	}
	c, err := open(entry, 'U', n)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 256<<10)
	for left := n; left > 0; {
		m, err := c.Write(b[:min(left, int64(len(b)))])
		if err != nil {
			return err
		}
		left -= int64(m)
	}
	return take(c, 1)
}

// take reads n bytes. io.Copy to nowhere would use small reads.
func take(c io.Reader, n int64) error {
	b := make([]byte, 256<<10)
	for n > 0 {
		m, err := c.Read(b)
		if err != nil {
			return fmt.Errorf("%d bytes before the end: %w", n, err)
		}
		n -= int64(m)
	}
	return nil
}

// ping sends count pings, or as many as fit in d; the first tenth does not count.
func ping(entry string, count int, pause, d time.Duration) (result, error) {
	c, err := open(entry, 'E', 0)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	b := make([]byte, 64)
	var took []time.Duration
	for end := time.Now().Add(d); len(took) < count && time.Now().Before(end); time.Sleep(pause) {
		start := time.Now()
		if _, err := c.Write(b); err != nil {
			return result{}, err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return result{}, err
		}
		took = append(took, time.Since(start))
	}
	return pings(took[len(took)/10:]), nil
}

func pings(took []time.Duration) result {
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[min(len(took)-1, int(q*float64(len(took))))].Nanoseconds()) / 1e3
	}
	return result{P50: at(0.5), P99: at(0.99)}
}

// load sends pings beside a transfer that goes on all the while.
func load(entry string, down bool, d, pause time.Duration) (result, error) {
	const much = 1 << 50
	kind := byte('U')
	if down {
		kind = 'D'
	}
	c, err := open(entry, kind, much)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var moved atomic.Int64
	go func() {
		b := make([]byte, 64<<10)
		for {
			var n int
			var err error
			if down {
				n, err = c.Read(b)
			} else {
				n, err = c.Write(b)
			}
			moved.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	time.Sleep(d / 4) // until the path is full
	before, start := moved.Load(), time.Now()
	r, err := ping(entry, 1<<30, pause, d)
	r.Rate = float64(moved.Load()-before) / time.Since(start).Seconds()
	return r, err
}

package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/record"
	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/replay"
)

func replayCommand() command {
	return command{
		path: "replay", args: "FILE [--listen ADDRESS] [--speed X] [--at TIME] [--paused] [--key FILE]", min: 1, max: 1, flags: replayFile,
		about: "Show a recording that hostd made to VNC viewers on this machine.",
		more: "It needs no relay. ADDRESS is a loopback one, 127.0.0.1:5999 else; TIME is as in 90s or 1:02:30.\n" +
			"--key has the private key that \"relayd record-key\" made, for a recording that was sealed.\n" +
			"Keys in the viewer: " + replay.Keys,
	}
}

// barTime is how long a viewer shows where it is and what keys do.
const barTime = 4 * time.Second

func replayFile(f *flag.FlagSet) func(*call) error {
	listen := f.String("listen", "127.0.0.1:5999", "")
	speed := f.Float64("speed", 1, "")
	at := f.String("at", "0s", "")
	paused := f.Bool("paused", false, "")
	key := f.String("key", "", "")
	return func(k *call) error {
		start, err := parseTime(*at)
		switch {
		case err != nil:
			return wrongUsage("%v", err)
		case !(*speed >= replay.MinSpeed && *speed <= replay.MaxSpeed):
			return wrongUsage("--speed %g is out of range; write %g to %g", *speed, replay.MinSpeed, replay.MaxSpeed)
		case !onLoopback(*listen):
			return wrongUsage("--listen %q is no loopback address; a recording is shown on this machine only. From elsewhere: ssh -L 5999:localhost:5999", *listen)
		}
		file, err := os.Open(k.args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		r, err := openRecording(file, *key)
		if err != nil {
			return fmt.Errorf("%s: %w", k.args[0], err)
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		password := strings.ToLower(rand.Text()[:8])
		fmt.Fprintf(k.stdout, "%s, %s long, %d×%d pixels\npoint a VNC viewer at %s, password %s\nkeys in the viewer: %s\n",
			refuse.Printable(r.Name, record.MaxName), replay.Clock(r.Duration), r.Size.X, r.Size.Y, l.Addr(), password, replay.Keys)
		cfg := replay.Config{File: r, Speed: *speed, At: start, Paused: *paused, Bar: barTime, Password: password}
		return replay.Serve(k, l, cfg, func(viewer string, err error) { k.note("viewer %s: %v", viewer, err) })
	}
}

// openRecording opens a recording by the index beside it, if there is one, both with the private key in a file where they are sealed.
func openRecording(file *os.File, keyFile string) (*record.File, error) {
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("this is no file")
	}
	in, size := io.ReaderAt(file), st.Size()
	var key *ecdh.PrivateKey
	if record.Sealed(file) {
		if keyFile == "" {
			return nil, errors.New("the recording is sealed; name the file of its private key, as in --key recordings.pem")
		}
		if key, err = readRecordKey(keyFile); err == nil {
			in, size, err = record.Unseal(file, size, key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", keyFile, err)
		}
	}
	index, err := os.Open(strings.TrimSuffix(file.Name(), ".fbs") + ".idx")
	if err == nil {
		defer index.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return record.Open(in, size, readIndex(index, key))
}

// readIndex reads an index, which is sealed if there is a key. What is no index, or none of this key, is none: keys are found again.
func readIndex(index *os.File, key *ecdh.PrivateKey) []record.Key {
	st, err := index.Stat()
	if err != nil {
		return nil
	}
	in, size := io.ReaderAt(index), st.Size()
	if key != nil {
		if in, size, err = record.Unseal(index, size, key); err != nil {
			return nil
		}
	}
	keys, err := record.ReadIndex(io.NewSectionReader(in, 0, size))
	if err != nil {
		return nil
	}
	return keys
}

// onLoopback says whether an address to listen on reaches this machine alone.
func onLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	a, err2 := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || err2 == nil && a.Unmap().IsLoopback())
}

// parseTime reads a time in a recording: 90s, 1h2m, 62:30 or 1:02:30.
func parseTime(s string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is no time in a recording; write it as in 90s or 1:02:30", s)
	if !strings.Contains(s, ":") {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, wrong
		}
		return d, nil
	}
	var total int64
	for i, p := range strings.Split(s, ":") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || i > 2 || i > 0 && n > 59 {
			return 0, wrong
		}
		total = total*60 + int64(n)
	}
	return time.Duration(total) * time.Second, nil
}

package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/frame"
)

// viewerSource is the viewer that decodes; its head says what it understands.
//
//go:embed viewer/viewer.c
var viewerSource string

// buildViewer compiles the viewer.
func (b *bench) buildViewer(ctx context.Context) error {
	_, err := b.set.Output(ctx, rig.Program{
		Args:  []string{"gcc", "-O2", "-o", b.file("viewer"), "-x", "c", "-", "-lvncclient", "-lpthread"},
		Stdin: strings.NewReader(viewerSource),
	})
	return err
}

// A viewer is one that decodes and measures.
type viewer struct {
	proc *rig.Process
	in   *os.File
	out  *bufio.Reader
	file *os.File // below out
}

// viewerTime is how long a viewer may take until it has something to say.
const viewerTime = 20 * time.Second

// view starts a viewer and returns when it sees the marker.
func (b *bench) view(ctx context.Context, s *serving, l *load) (*viewer, error) {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return nil, err
	}
	words, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer words.Close()
	out, answers, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer answers.Close()
	v := &viewer{in: in, out: bufio.NewReader(out), file: out}
	args := append([]string{b.file("viewer"), host, port, fmt.Sprint(l.marker.X), fmt.Sprint(l.marker.Y)}, s.args...)
	if l.exact {
		args = append(args, "encodings=zrle copyrect raw")
	}
	if v.proc, err = b.set.Start(ctx, rig.Program{Args: args, Network: b.near.namespace, Stdin: words, Files: []*os.File{answers}, Log: b.file("viewer.log")}); err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	words.Close()
	answers.Close() // so that the end of the viewer is the end of out
	if _, err := v.expect("ready"); err != nil {
		v.close()
		return nil, fmt.Errorf("the viewer does not see the screen: %w\n%s", err, rig.Tail(b.file("viewer.log"), 5))
	}
	return v, nil
}

func (v *viewer) close() {
	v.in.Close()
	v.proc.End()
	v.file.Close()
}

func (v *viewer) say(format string, args ...any) error {
	_, err := fmt.Fprintf(v.in, format+"\n", args...)
	return err
}

// expect reads the line that begins with a word, and skips those before.
func (v *viewer) expect(word string) (string, error) {
	_ = v.file.SetReadDeadline(time.Now().Add(viewerTime))
	for {
		line, err := v.out.ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = errors.New("the viewer has ended")
		}
		if err != nil || strings.HasPrefix(line, word) {
			return strings.TrimSpace(line), err
		}
	}
}

// A report is what a viewer has seen.
type report struct {
	seen    map[int]time.Duration // when a marker was first seen
	keys    []time.Duration       // negative: never seen
	bytes   float64
	updates float64
	snaps   []snap
}

// A snap is a picture that a viewer wrote under load.
type snap struct {
	file   string
	marker int
}

// stop ends what go or keys has begun.
func (v *viewer) stop() (*report, error) {
	if err := v.say("stop"); err != nil {
		return nil, err
	}
	_ = v.file.SetReadDeadline(time.Now().Add(viewerTime))
	r := &report{seen: make(map[int]time.Duration)}
	for {
		line, err := v.out.ReadString('\n')
		if err != nil {
			return nil, err
		}
		var n int
		var at int64
		switch word, _, _ := strings.Cut(line, " "); word {
		case "seen":
			if _, err := fmt.Sscanf(line, "seen %d %d", &n, &at); err != nil {
				return nil, err
			}
			r.seen[n] = time.Duration(at)
		case "key":
			if _, err := fmt.Sscanf(line, "key %d", &at); err != nil {
				return nil, err
			}
			r.keys = append(r.keys, time.Duration(at))
		case "snapped":
			s := snap{}
			if _, err := fmt.Sscanf(line, "snapped %s %d", &s.file, &s.marker); err != nil {
				return nil, err
			}
			r.snaps = append(r.snaps, s)
		case "bytes":
			_, err := fmt.Sscanf(line, "bytes %g updates %g", &r.bytes, &r.updates)
			return r, err
		}
	}
}

// saved has the viewer write its picture of now, and reads it.
func (v *viewer) saved(path string) (frame.Image, error) {
	if err := v.say("save %s", path); err != nil {
		return frame.Image{}, err
	}
	if _, err := v.expect("saved"); err != nil {
		return frame.Image{}, err
	}
	return readPicture(path)
}

// readPicture reads a picture that a viewer wrote, and removes it.
func readPicture(path string) (frame.Image, error) {
	m := frame.New(image.Rectangle{Max: screenSize})
	pix, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if len(pix) != len(m.Pix) {
		return m, fmt.Errorf("a picture of %d bytes", len(pix))
	}
	m.Pix = pix
	return m, os.Remove(path)
}

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/helmline/helmline/.ci/rig"
	"github.com/helmline/helmline/bridge/rfb"
)

// Further viewers take part in all but decoding: they ask, read every rectangle to its end and ask again, so that the
// processors are left to the server. skim runs args[1] of them in a process of its own, at the address args[0]; each types
// args[2]; args[3] is how many of them read no more than slowRate. A line "go" or "stop" on its input begins and ends a count; then it tells the fewest updates that one had.
func skim(args []string) error {
	var count, slow int
	if _, err := fmt.Sscan(args[1]+" "+args[3], &count, &slow); err != nil {
		return err
	}
	all := make([]*skimmer, count)
	failed := make(chan error, count)
	for i := range all {
		s, err := dialSkimmer(args[0], args[2], i < slow)
		if err != nil {
			return err
		}
		all[i] = s
		go func() { failed <- s.run() }()
	}
	lines := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		close(lines)
	}()
	out := os.NewFile(3, "answers")
	for {
		select {
		case err := <-failed:
			return err
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			least := all[slow].updates.Load()
			for _, s := range all[slow:] {
				least = min(least, s.updates.Swap(0))
			}
			if line == "stop" {
				fmt.Fprintf(out, "least %d\n", least)
			}
		}
	}
}

// A skimmer is a viewer that decodes nothing.
type skimmer struct {
	conn    net.Conn
	r       *bufio.Reader
	size    [2]uint16
	updates atomic.Int64
}

// slowRate is 50 kbit/s, in bytes.
const slowRate = 50_000 / 8

// A slowConn reads slowRate a second and has little room for more.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), slowRate/10)])
	time.Sleep(time.Duration(n) * time.Second / slowRate)
	return n, err
}

func dialSkimmer(address, typed string, slow bool) (*skimmer, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &skimmer{conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	if slow {
		if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			return nil, err
		}
		conn = slowConn{conn}
		s.conn, s.r = conn, bufio.NewReader(conn)
	}
	_ = conn.SetDeadline(time.Now().Add(viewerTime))
	if err := s.begin(typed); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("a further viewer: %w", err)
	}
	return s, conn.SetDeadline(time.Time{})
}

// begin chooses the security type None, says what it can do, and types.
func (s *skimmer) begin(typed string) error {
	b := make([]byte, 256)
	if _, err := io.ReadFull(s.r, b[:12]); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, "RFB 003.008\n"); err != nil {
		return err
	}
	n, err := s.r.ReadByte()
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(s.r, b[:n]); err != nil {
		return err
	}
	if _, err := s.conn.Write([]byte{1}); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.r, b[:4]); err != nil {
		return err
	}
	if _, err := s.conn.Write([]byte{1}); err != nil { // ClientInit: shared
		return err
	}
	if _, err := io.ReadFull(s.r, b[:24]); err != nil {
		return err
	}
	s.size = [2]uint16{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
	if err := s.skip(int(binary.BigEndian.Uint32(b[20:]))); err != nil {
		return err
	}
	format := []byte{0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0}
	out := append(format, 2, 0, 0, 5)
	for _, e := range []int32{rfb.Tight, rfb.CopyRect, rfb.Raw, rfb.PseudoQuality0 + 8, rfb.PseudoLastRect} {
		out = binary.BigEndian.AppendUint32(out, uint32(e))
	}
	out = s.request(out, 0)
	if typed != "" {
		for _, c := range typed + "\r" {
			key := uint32(c)
			if c == '\r' {
				key = 0xff0d
			}
			out = binary.BigEndian.AppendUint32(append(out, 4, 1, 0, 0), key)
			out = binary.BigEndian.AppendUint32(append(out, 4, 0, 0, 0), key)
		}
	}
	_, err = s.conn.Write(out)
	return err
}

func (s *skimmer) request(b []byte, incremental byte) []byte {
	b = append(b, 3, incremental, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, s.size[0]), s.size[1])
}

func (s *skimmer) skip(n int) error {
	_, err := s.r.Discard(n)
	return err
}

// run reads messages until the connection ends.
func (s *skimmer) run() error {
	head := make([]byte, 12)
	for {
		kind, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		switch kind {
		case 0:
			if err = s.update(head); err == nil {
				s.updates.Add(1)
				_, err = s.conn.Write(s.request(nil, 1))
			}
		case 2: // a bell
		case 3:
			if _, err = io.ReadFull(s.r, head[:7]); err == nil {
				err = s.skip(int(binary.BigEndian.Uint32(head[3:])))
			}
		default:
			err = fmt.Errorf("a message of type %d", kind)
		}
		if err != nil {
			return err
		}
	}
}

func (s *skimmer) update(head []byte) error {
	if _, err := io.ReadFull(s.r, head[:3]); err != nil {
		return err
	}
	for n := int(binary.BigEndian.Uint16(head[1:])); n > 0; n-- {
		if _, err := io.ReadFull(s.r, head); err != nil {
			return err
		}
		w, h := int(binary.BigEndian.Uint16(head[4:])), int(binary.BigEndian.Uint16(head[6:]))
		var err error
		switch encoding := int32(binary.BigEndian.Uint32(head[8:])); encoding {
		case rfb.PseudoLastRect:
			return nil
		case rfb.Raw:
			err = s.skip(4 * w * h)
		case rfb.CopyRect:
			err = s.skip(4)
		case rfb.Tight:
			err = s.tight(w, h)
		default:
			err = fmt.Errorf("a rectangle of encoding %d", encoding)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tight skips a rectangle of Tight.
func (s *skimmer) tight(w, h int) error {
	control, err := s.r.ReadByte()
	if err != nil {
		return err
	}
	bytes := 3 * w * h
	switch kind := control >> 4; {
	case kind == 8:
		return s.skip(3)
	case kind == 9:
		return s.compact()
	case kind&4 != 0:
		filter, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		if filter == 1 {
			colours, err := s.r.ReadByte()
			if err != nil {
				return err
			}
			if err := s.skip(3 * (int(colours) + 1)); err != nil {
				return err
			}
			bytes = w * h
			if colours == 1 {
				bytes = (w + 7) / 8 * h
			}
		}
	}
	if bytes < 12 {
		return s.skip(bytes)
	}
	return s.compact()
}

// compact skips what a length of one to three bytes stands before.
func (s *skimmer) compact() error {
	n := 0
	for i := range 3 {
		b, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		if i == 2 {
			n |= int(b) << 14
			break
		}
		n |= int(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			break
		}
	}
	return s.skip(n)
}

// A crowd is further viewers.
type crowd struct {
	proc    *rig.Process
	in, out *os.File
}

// join starts count further viewers.
func (b *bench) join(ctx context.Context, s *serving, count int, slow bool) (*crowd, error) {
	exe, err := os.Executable()
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
	c := &crowd{in: in, out: out}
	c.proc, err = b.set.Start(ctx, rig.Program{Args: []string{exe, "skim", s.more, fmt.Sprint(count), s.code, map[bool]string{false: "0", true: "1"}[slow]}, Network: b.near.namespace,
		Stdin: words, Files: []*os.File{answers}, Log: b.file("skim.log")})
	if err != nil {
		in.Close()
		out.Close()
	}
	return c, err
}

func (c *crowd) say(word string) error {
	_, err := fmt.Fprintln(c.in, word)
	return err
}

// stop gives the updates of the viewer that had the fewest.
func (c *crowd) stop() (least float64, err error) {
	if err := c.say("stop"); err != nil {
		return 0, err
	}
	_ = c.out.SetReadDeadline(time.Now().Add(viewerTime))
	_, err = fmt.Fscanf(c.out, "least %g\n", &least)
	return least, err
}

func (c *crowd) close() {
	c.in.Close()
	c.proc.End()
	c.out.Close()
}

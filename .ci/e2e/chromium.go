package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/helmline/helmline/.ci/rig"
)

// A step is one of .ci/browser/drive.mjs.
type step map[string]any

// A Chromium is the viewer's browser, driven by .ci/browser/drive.mjs.
type Chromium struct {
	w      *World
	proc   *rig.Process
	orders io.WriteCloser
	told   *bufio.Reader
	pipe   *os.File // told reads it
	dir    string   // screenshots, and what has gone through WebSockets
	log    string
}

// Chromium starts the viewer's browser. With record it keeps what goes through WebSockets. The test's end takes it away, and puts
// its screenshots into .ci/artefacts/shots.
func (w *World) Chromium(record bool) *Chromium {
	w.T.Helper()
	pemBytes, err := os.ReadFile(w.CA)
	w.Check(err)
	block, _ := pem.Decode(pemBytes)
	cert, err := x509.ParseCertificate(block.Bytes)
	w.Check(err)
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	program, err := filepath.Abs("../browser/drive.mjs")
	w.Check(err)
	in, orders, err := os.Pipe()
	w.Check(err)
	told, out, err := os.Pipe()
	w.Check(err)
	id := "browser-" + strings.ReplaceAll(w.T.Name(), "/", "-") // of each part of a test
	b := &Chromium{w: w, orders: orders, told: bufio.NewReader(told), pipe: told, dir: w.folder(id, w.Viewer), log: w.log(id)}
	b.proc, err = w.Set.Start(w.Ctx, rig.Program{
		Args: []string{"node", program}, User: w.Viewer, Network: w.Net.Name("viewer"), Dir: w.Viewer.Home, Stdin: in, Files: []*os.File{out}, Log: b.log,
	})
	in.Close()
	out.Close()
	w.Check(err)
	w.T.Cleanup(func() {
		b.close()
		told.Close()
		w.keepShots(b.dir)
	})
	b.send(map[string]any{"site": "https://" + RelayName + ":" + PortWeb, "spki": base64.StdEncoding.EncodeToString(spki[:]), "shots": b.dir, "record": record})
	return b
}

// close ends the browser.
func (b *Chromium) close() {
	b.orders.Close()
	select {
	case <-b.proc.Done():
	case <-b.w.Ctx.Done():
	}
	b.proc.End()
}

// kill kills the browser's processes, as kill -9 does.
func (b *Chromium) kill() {
	b.w.T.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.proc.Pid))
	b.w.Check(err)
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		b.w.Check(err)
		b.w.Check(syscall.Kill(-pid, syscall.SIGKILL)) // each has a process group of its own
	}
}

func (b *Chromium) send(v any) {
	b.w.T.Helper()
	line, err := json.Marshal(v)
	b.w.Check(err)
	_, err = b.orders.Write(append(line, '\n'))
	b.w.Check(err)
}

// Do takes steps and returns when all have come true, with the values of those that ask for one. No page may throw an error or break its
// Content-Security-Policy meanwhile.
func (b *Chromium) Do(steps ...step) []any {
	b.w.T.Helper()
	b.send(steps)
	deadline, _ := b.w.Ctx.Deadline()
	b.w.Check(b.pipe.SetReadDeadline(deadline))
	line, err := b.told.ReadBytes('\n')
	if err != nil {
		b.w.T.Fatalf("the browser: %v\n%s", err, rig.Tail(b.log, 20))
	}
	var said struct {
		Values []any
		Failed string
		Faults []string
	}
	b.w.Check(json.Unmarshal(line, &said))
	if said.Failed != "" || len(said.Faults) > 0 {
		b.w.T.Fatalf("the browser: %s\n%s", said.Failed, strings.Join(said.Faults, "\n"))
	}
	return said.Values
}

// SignIn signs an account in, in somebody's browser, and leaves it at the list of computers.
func (b *Chromium) SignIn(who, email, password string) {
	b.w.T.Helper()
	b.Do(step{"who": who, "go": "/computers"}, step{"who": who, "fill": step{"#email": email}, "see": "Password of your account"},
		step{"who": who, "fill": step{"#password": password}, "at": "/computers"})
}

// Browse has a browser of its own take steps.
func (w *World) Browse(steps ...step) {
	w.T.Helper()
	b := w.Chromium(false)
	b.Do(steps...)
	b.close()
}

// keepShots copies screenshots to where people look at them.
func (w *World) keepShots(from string) {
	to := filepath.Join("..", "artefacts", "shots", strings.ReplaceAll(w.T.Name(), "/", "-"))
	shots, _ := filepath.Glob(filepath.Join(from, "*.png"))
	err := os.MkdirAll(to, 0o755)
	for _, s := range shots {
		if err == nil {
			err = rig.CopyFile(s, filepath.Join(to, filepath.Base(s)), 0o644)
		}
	}
	if err != nil {
		w.T.Log(err)
	}
}

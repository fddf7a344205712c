package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/helmline/helmline/conf"
)

func TestKeysAreMadeOnceAndKept(t *testing.T) {
	c := conf.DefaultRelay()
	c.Name, c.StateDir = "relay.example.org", t.TempDir()
	var log bytes.Buffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	key, err := hostKey(c.StateDir, l)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := loadCertificate(c, l)
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.current.Load().Leaf
	for _, want := range []string{"SSH host key made", "TLS certificate made", fingerprint(leaf.Raw)} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	again, err := hostKey(c.StateDir, l)
	if err != nil || !bytes.Equal(again.PublicKey().Marshal(), key.PublicKey().Marshal()) {
		t.Errorf("the host key has changed; %v", err)
	}
	c.Name = "another.example.org"
	log.Reset()
	cert, err = loadCertificate(c, l)
	if err != nil || !bytes.Equal(cert.current.Load().Leaf.Raw, leaf.Raw) {
		t.Errorf("the certificate has changed; %v", err)
	}
	if !strings.Contains(log.String(), "not accept the certificate") {
		t.Errorf("no warning of a certificate for another name: %s", log.String())
	}
	pem, err := os.ReadFile(filepath.Join(c.StateDir, tlsCertFile))
	if err != nil || bytes.Contains(pem, []byte("PRIVATE")) {
		t.Fatalf("the certificate for viewers: %v\n%s", err, pem)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, name := range []string{"relay.example.org", "localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("as its own CA file, for %s: %v", name, err)
		}
	}
	if left := time.Until(leaf.NotAfter); left < 9*365*24*time.Hour {
		t.Errorf("the certificate holds for %v", left)
	}
}

// A socket of systemd is taken by its name or port, whatever address its unit gives it.
func TestClearDoorOnAPublicSocket(t *testing.T) {
	for _, c := range []struct {
		name, address string
		named, allow  bool
		err           string
	}{
		{"loopback", "127.0.0.1:0", false, false, ""},
		{"loopback, named", "127.0.0.1:0", true, false, ""},
		{"public", ":0", false, false, "rfb_code.clear_listen: [::]:"},
		{"public, named", "0.0.0.0:0", true, false, "allow_clear_public"},
		{"public, as it is set", ":0", false, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", c.address)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			name := "relayd.socket"
			if c.named {
				name = "rfb_code_clear"
			}
			s := &conf.Relay{RFBCode: conf.RFBCode{ClearListen: "127.0.0.1:" + port(l), AllowClearPublic: c.allow}}
			o := &opener{log: slog.New(slog.DiscardHandler), inherited: map[string][]net.Listener{name: {l}}}
			p, err := o.all(s)
			if err == nil {
				defer p.close()
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if err == nil && p.rfbCodeClear != l {
				t.Error("the socket is not taken")
			}
		})
	}
}

// Pages name the code door in clear where it can be reached by the relay's name: its port is on the loopback otherwise.
func TestWays(t *testing.T) {
	listen := func(address string) net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	key, err := hostKey(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	tls, loopback, public := listen("127.0.0.1:0"), listen("127.0.0.1:0"), listen(":0")
	for _, c := range []struct {
		name            string
		code, clear, is net.Listener
	}{
		{"relay.example", tls, public, tls},
		{"relay.example", nil, public, public},
		{"relay.example", nil, loopback, nil},
		{"localhost", nil, loopback, loopback},
		{"127.0.0.1", nil, loopback, loopback},
		{"192.0.2.1", nil, loopback, nil},
		{"localhost", nil, nil, nil},
	} {
		want := ""
		if c.is != nil {
			want = c.name + ":" + port(c.is)
		}
		if got := ways(&conf.Relay{Name: c.name}, &ports{rfbCode: c.code, rfbCodeClear: c.clear}, key).Code; got != want {
			t.Errorf("%s: %q, not %q", c.name, got, want)
		}
	}
}

func TestKeyFilesThatOthersCanRead(t *testing.T) {
	for _, file := range []string{hostKeyFile, tlsKeyFile} {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
			c := conf.DefaultRelay()
			c.StateDir, c.Name = t.TempDir(), "localhost"
			start := func() error {
				l := slog.New(slog.DiscardHandler)
				if _, err := hostKey(c.StateDir, l); err != nil {
					return err
				}
				_, err := loadCertificate(c, l)
				return err
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(c.StateDir, file), mode); err != nil {
				t.Fatal(err)
			}
			if err := start(); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
				t.Errorf("%s, mode %04o: %v", file, mode, err)
			}
		}
	}
}

func TestDamagedKeysAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, hostKeyFile)
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hostKey(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "garbage" {
		t.Errorf("the file is %q", b)
	}
}

// CVE-2011-1775, CVE-2020-26117: whoever trusts the relay's own certificate trusts no other of the relay.
func TestCertificateIsNoAuthority(t *testing.T) {
	pair, err := selfSigned("relay.example")
	if err != nil {
		t.Fatal(err)
	}
	p, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}
	other := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"bank.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, other, p.Leaf, p.Leaf.PublicKey, p.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.Leaf)
	if _, err := p.Leaf.Verify(x509.VerifyOptions{DNSName: "relay.example", Roots: roots}); err != nil {
		t.Error(err)
	}
	if _, err := forged.Verify(x509.VerifyOptions{DNSName: "bank.example", Roots: roots}); err == nil {
		t.Error("it is an authority")
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func() []byte {
		pair, err := selfSigned("localhost")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{cert, key} {
			if err := os.WriteFile(path, pair, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := tls.X509KeyPair(pair, pair)
		if err != nil {
			t.Fatal(err)
		}
		return p.Leaf.Raw
	}
	first := write()
	r := startRelay(t, func(c *conf.Relay) { c.TLS.Cert, c.TLS.Key = cert, key })
	if got := r.leaf(); !bytes.Equal(got, first) {
		t.Error("not the certificate of the settings")
	}
	second := write()
	r.reload <- syscall.SIGHUP
	within(t, r.log.seen(fingerprint(second)), "the new certificate in the log")
	if got := r.leaf(); !bytes.Equal(got, second) {
		t.Error("not the new certificate")
	}
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload <- syscall.SIGHUP
	within(t, r.log.seen("the certificate stays as it was"), "a complaint about the certificate in the log")
	if got := r.leaf(); !bytes.Equal(got, second) {
		t.Error("not the last good certificate")
	}
}

// leaf is the certificate that the RFB door shows.
func (r *relay) leaf() []byte {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.behindVeNCrypt(r.ports["rfb"], 262), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Raw
}

// Under systemd: sockets come from it, by number and by name, and it is told what goes on.
func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "relayd") // under this name the test binary is relayd, see TestMain
	if err := os.Symlink(exe, bin); err != nil {
		t.Fatal(err)
	}
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	var files []*os.File
	var ports []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
		ports = append(ports, l.Addr().String())
	}
	_, sshPort, _ := net.SplitHostPort(ports[0])
	settings := filepath.Join(dir, "relayd.toml")
	text := `name = "localhost"
state_dir = "` + filepath.Join(dir, "state") + `"
ssh.listen = ":` + sshPort + `"
rfb.listen = ":1"
rfb_code.listen = ""
web.listen = ""
metrics.listen = ""
`
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, bin, settings)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=3", "LISTEN_FDNAMES=relayd.socket:rfb:relayd.socket",
		"NOTIFY_SOCKET="+told.LocalAddr().String(), "WATCHDOG_USEC=200000")
	cmd.ExtraFiles = files
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hear := func(want string) {
		t.Helper()
		_ = told.SetReadDeadline(time.Now().Add(20 * time.Second))
		for b := make([]byte, 4096); ; {
			n, err := told.Read(b)
			if err != nil {
				t.Fatalf("systemd is not told %s: %v", want, err)
			}
			if strings.HasPrefix(string(b[:n]), want) {
				return
			}
		}
	}
	hear("READY=1")
	hear("WATCHDOG=1")
	for i, want := range []string{"SSH-2.0-Helmline", "RFB 003.008\n"} {
		c, err := net.Dial("tcp", ports[i])
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(want))
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(b); err != nil || string(b) != want {
			t.Errorf("socket %d: %q, %v; want %q", i, b, err, want)
		}
		c.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hear("RELOADING=1\nMONOTONIC_USEC=")
	hear("READY=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("relayd ended with %v", err)
	}
	if !strings.Contains(log.String(), `msg="systemd passed a socket that no door uses" name=relayd.socket`) {
		t.Error("the third socket is not complained about")
	}
	if t.Failed() {
		t.Logf("log of relayd:\n%s", log.String())
	}
}

func TestBusyPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := conf.DefaultRelay()
	c.Name, c.StateDir = "localhost", filepath.Join(t.TempDir(), "state")
	c.SSH.Listen, c.RFB.Listen, c.RFBCode.Listen, c.Metrics.Listen = "127.0.0.1:0", l.Addr().String(), "", ""
	c.Web.Listen = ""
	err = run(context.Background(), c, slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "rfb.listen: listen tcp "+l.Addr().String()) {
		t.Errorf("%v", err)
	}
}

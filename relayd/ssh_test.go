package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/rfb/rfbtest"
	"github.com/helmline/helmline/bridge/tunnel"
)

// key makes an SSH key of a person and gives the account that key.
func (r *relay) key(email string) ssh.Signer {
	r.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		r.t.Fatal(err)
	}
	if email != "" {
		if _, err := r.admin.AddKey(context.Background(), email, string(ssh.MarshalAuthorizedKey(key.PublicKey()))); err != nil {
			r.t.Fatal(err)
		}
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.keyFile(key), pem.EncodeToMemory(block), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return key
}

// keyFile is where key stored the private half.
func (r *relay) keyFile(key ssh.Signer) string {
	return filepath.Join(filepath.Dir(r.dir), strings.Map(func(c rune) rune {
		if c == '/' || c == ':' {
			return '_'
		}
		return c
	}, ssh.FingerprintSHA256(key.PublicKey())))
}

// ssh is the stock client, with nothing of this machine's settings.
func (r *relay) ssh(ctx context.Context, user string, key ssh.Signer, args ...string) *exec.Cmd {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.ports["ssh"])
	known := filepath.Join(filepath.Dir(r.dir), "known_hosts")
	b, err := os.ReadFile(filepath.Join(r.dir, hostKeyFile))
	if err != nil {
		r.t.Fatal(err)
	}
	hostKey, err := ssh.ParsePrivateKey(b)
	if err != nil {
		r.t.Fatal(err)
	}
	line := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(hostKey.PublicKey()))
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		r.t.Fatal(err)
	}
	all := []string{"-F", "none", "-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", r.keyFile(key), "-l", user, "-p", port}
	cmd := exec.CommandContext(ctx, "ssh", append(append(all, host), args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// before puts options before the host's name.
func before(cmd *exec.Cmd, options ...string) *exec.Cmd {
	cmd.Args = append(append([]string{cmd.Args[0]}, options...), cmd.Args[1:]...)
	return cmd
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestSSHJumpReachesTheComputer(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	key := r.key("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	for target, role := range map[string]tunnel.Role{
		"desk7": tunnel.RoleControl, "watch.desk7": tunnel.RoleWatch, "take.desk7": tunnel.RoleTake, "WATCH.DESK7": tunnel.RoleWatch,
	} {
		cmd := before(r.ssh(minute(t), "alice@example.com", key), "-W", target+":5900")
		cmd.Stdin = strings.NewReader("RFB 003.008\n")
		out, err := cmd.Output()
		if err != nil || string(out) != "RFB 003.008\n" {
			t.Errorf("%s: %q, %v", target, out, err)
		}
		if h := within(t, desk.headers, "stream"); h.Purpose != tunnel.RFB || h.Role != role || h.Account != "alice@example.com" {
			t.Errorf("%s: the computer is told %+v", target, h)
		}
		if err := within(t, desk.ended, "end"); err != nil {
			t.Errorf("%s: the computer's stream ended with: %v", target, err)
		}
	}
}

// A live one-time code goes with the stream that it is for, once, and is then worth nothing at the code door.
func TestSSHTakesACodeAlong(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	key := r.key("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	code, err := r.admin.MakeCode(minute(t), "alice@example.com", "desk7", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ target, want string }{{"desk7", ""}, {"watch.desk7", code.Code}, {"watch.desk7", ""}} {
		cmd := before(r.ssh(minute(t), "alice@example.com", key), "-W", c.target+":5900")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if h := within(t, desk.headers, "stream"); h.Code != c.want {
			t.Errorf("%s: the computer is told the code %q", c.target, h.Code)
		}
	}
	_, err = rfbtest.Dial(minute(t), r.ports["rfb_code"], rfbtest.Config{Security: 2, Code: code.Code})
	if !strings.Contains(fmt.Sprint(err), "40024") {
		t.Errorf("a spent code: %v", err)
	}
}

// vncviewer -via runs "ssh -f -L L:H:R GATEWAY sleep 20", and connects to L once ssh is in the background.
func TestSSHHoldsForAViewer(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	key := r.key("alice@example.com")
	desk := r.computer("alice@example.com", "desk7", echo)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := l.Addr().String()
	l.Close()
	// Not -f: the test could not tell when it ends. ExitOnForwardFailure and the greeting on stderr say it is up.
	cmd := before(r.ssh(minute(t), "alice@example.com", key, "sleep 2"), "-v", "-o", "ExitOnForwardFailure=yes", "-L", local+":desk7:5900")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "Sending command: sleep 2") {
	}
	c, err := net.Dial("tcp", local)
	if err != nil {
		t.Fatal(err)
	}
	within(t, desk.headers, "stream")
	for lines.Scan() && !strings.Contains(lines.Text(), "exit-status") {
	}
	// The hold is over, and the viewer goes on.
	if _, err := c.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "still here" {
		t.Errorf("%q, %v", b, err)
	}
	c.Close()
	_, _ = io.Copy(io.Discard, stderr)
	if err := cmd.Wait(); err != nil {
		t.Errorf("ssh ended with %v", err)
	}
}

func TestSSHRefusals(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	key := r.key("alice@example.com")
	r.computer("alice@example.com", "desk7", echo)
	r.computer("bob@example.com", "desk8", echo)
	for _, c := range []struct {
		name    string
		options []string
		args    []string
		want    string // part of what ssh prints
	}{
		{"shell", nil, nil, "this relay gives no shell: try \"vncviewer -via alice@example.com@localhost COMPUTER\""},
		{"terminal", []string{"-tt"}, nil, "PTY allocation request failed"},
		{"command", nil, []string{"id"}, `no command runs here but "sleep SECONDS"`},
		{"command behind a sleep", nil, []string{"sleep 1; id"}, `no command runs here but "sleep SECONDS"`},
		{"sleep of a fraction", nil, []string{"sleep 0.1"}, `no command runs here but "sleep SECONDS"`},
		{"sleep of a year", nil, []string{"sleep 31536000"}, `no command runs here but "sleep SECONDS"`},
		{"subsystem", []string{"-s"}, []string{"sftp"}, "files are not served here yet"},
		{"remote forward", []string{"-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22"}, nil, "remote port forwarding failed"},
		{"unknown computer", []string{"-W", "desk1:5900"}, nil, "40008: no computer of that name is yours"},
		{"somebody else's computer", []string{"-W", "desk8:5900"}, nil, "40008: no computer of that name is yours"},
		{"another machine", []string{"-W", "127.0.0.1:5900"}, nil, "40008: no computer of that name is yours"},
		{"ssh port", []string{"-W", "desk7:22"}, nil, "the SSH server of a computer is not reached through this relay yet"},
		{"rdp port", []string{"-W", "desk7:3389"}, nil, "RDP is not served by this relay yet"},
		{"other port", []string{"-W", "desk7:80"}, nil, "port 80 of a computer is not served"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := before(r.ssh(minute(t), "alice@example.com", key, c.args...), c.options...)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Error("ssh succeeded")
			}
			if !bytes.Contains(out, []byte(c.want)) {
				t.Errorf("ssh prints %q, want %q", out, c.want)
			}
		})
	}
	out, err := r.ssh(minute(t), "alice@example.com", key, "sleep 0").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("sleep 0: %q, %v", out, err)
	}
}

// dial signs in with x/crypto/ssh.
func (r *relay) dial(user string, auth ...ssh.AuthMethod) (*ssh.Client, string, error) {
	banner := ""
	c, err := ssh.Dial("tcp", r.ports["ssh"], &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second,
		BannerCallback: func(m string) error { banner += m; return nil },
	})
	return c, banner, err
}

func TestSSHSignIn(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	alices, bobs := r.key("alice@example.com"), r.key("bob@example.com")
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := ssh.NewSignerFromKey(weak)
	if err != nil {
		t.Fatal(err)
	}
	r.computer("alice@example.com", "desk7", echo) // whose neighbours are not penalised: 127.0.0.1 may fail often
	for _, c := range []struct {
		name, user string
		auth       ssh.AuthMethod
		ok         bool
		banner     string
	}{
		{"key", "alice@example.com", ssh.PublicKeys(alices), true, ""},
		{"key, other case", "Alice@Example.com", ssh.PublicKeys(alices), true, ""},
		{"two keys", "alice@example.com", ssh.PublicKeys(bobs, alices), true, ""},
		{"password", "alice@example.com", ssh.Password(password), true, ""},
		{"keyboard-interactive", "alice@example.com", answers(password), true, ""},
		{"somebody else's key", "alice@example.com", ssh.PublicKeys(bobs), false, ""},
		{"victim's key, own signature (CVE-2024-45337)", "alice@example.com", ssh.PublicKeys(impostor{alices.PublicKey(), bobs}), false, ""},
		{"weak RSA key", "alice@example.com", ssh.PublicKeys(rsaKey), false, ""},
		{"wrong password", "alice@example.com", ssh.Password("wrong"), false, "40050: "},
		{"empty password", "bob@example.com", ssh.Password(""), false, "40050: "},
		{"unknown account", "mallory@example.com", ssh.Password(password), false, "40050: "},
		{"nothing", "alice@example.com", nil, false, ""},
		{"a computer's name with a person's key", tunnel.UserTunnel, ssh.PublicKeys(alices), false, ""},
		{"a computer's name with a password", tunnel.UserTunnel, ssh.Password(password), false, ""},
		{"an enrolment with a password", tunnel.UserEnroll, answers(password), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var auth []ssh.AuthMethod
			if c.auth != nil {
				auth = append(auth, c.auth)
			}
			client, banner, err := r.dial(c.user, auth...)
			if err == nil {
				client.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("signed in: %v, want %v", err, c.ok)
			}
			if !strings.HasPrefix(banner, c.banner) || c.banner == "" && banner != "" {
				t.Errorf("banner %q, want %q", banner, c.banner)
			}
		})
	}
}

// answers answers one question after the other, and those that are left over like the last.
func answers(texts ...string) ssh.AuthMethod {
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		all := make([]string, len(questions))
		for i := range all {
			all[i] = texts[0]
			if len(texts) > 1 {
				texts = texts[1:]
			}
		}
		return all, nil
	})
}

// An impostor offers one key and signs with another.
type impostor struct {
	shown ssh.PublicKey
	ssh.Signer
}

func (i impostor) PublicKey() ssh.PublicKey { return i.shown }

// Who offers a victim's key last, and then proves a key of their own, is nobody but themselves.
func TestSSHIdentityIsThatOfTheProvenKey(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	r.account("bob@example.com")
	alices, bobs := r.key("alice@example.com"), r.key("bob@example.com")
	r.computer("alice@example.com", "desk7", echo)
	client, _, err := r.dial("bob@example.com", ssh.PublicKeys(impostor{alices.PublicKey(), alices}, bobs))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Dial("tcp", "desk7:5900")
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Message, "40008: ") {
		t.Errorf("bob reaches alice's computer: %v", err)
	}
}

func TestSSHBoundsWhatAClientAsks(t *testing.T) {
	r := startRelay(t)
	r.account("alice@example.com")
	key := r.key("alice@example.com")
	t.Run("holds", func(t *testing.T) {
		client, _, err := r.dial("alice@example.com", ssh.PublicKeys(key))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for i := 1; i <= 5; i++ {
			s, err := client.NewSession()
			if (err == nil) != (i <= 4) {
				t.Fatalf("hold %d: %v", i, err)
			}
			if s != nil {
				defer s.Close()
			}
		}
	})
	t.Run("channels of an account", func(t *testing.T) {
		r.computer("alice@example.com", "desk7", echo)
		for i := range 65 {
			client, _, err := r.dial("alice@example.com", ssh.PublicKeys(key))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for range 3 {
				c, err := client.Dial("tcp", "desk7:5900")
				if err != nil {
					if i != 21 || !strings.Contains(err.Error(), "the account has 64 channels already") {
						t.Errorf("connection %d: %v", i+1, err)
					}
					return
				}
				defer c.Close()
			}
		}
		t.Error("there is no limit")
	})
	t.Run("requests", func(t *testing.T) {
		client, _, err := r.dial("alice@example.com", ssh.PublicKeys(key))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		asked := 0
		for ; asked < 10_000; asked++ {
			ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
			if err != nil {
				break
			}
			if ok {
				t.Fatal("a global request was granted")
			}
		}
		if asked < 100 || asked > 1000 {
			t.Errorf("the connection was closed after %d requests", asked)
		}
	})
	t.Run("odd channels", func(t *testing.T) {
		client, _, err := r.dial("alice@example.com", ssh.PublicKeys(key))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for _, c := range []struct {
			kind  string
			extra []byte
		}{
			{"direct-tcpip", nil},
			{"direct-tcpip", []byte("\xff\xff\xff\xff")},
			{"direct-streamlocal@openssh.com", ssh.Marshal(struct {
				Path, From string
				Port       uint32
			}{"/run/relayd/relayd.sock", "", 0})},
			{"tunnel@helmline", tunnel.Hello{Kind: tunnel.Main, Instance: "x"}.AppendTo(nil)},
			{"x11", nil}, {"tun@openssh.com", nil}, {"forwarded-tcpip", nil},
		} {
			if _, _, err := client.OpenChannel(c.kind, c.extra); err == nil {
				t.Errorf("a channel %q was opened", c.kind)
			}
		}
	})
}

package gate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/bridge/tunnel"
	"github.com/helmline/helmline/relayd/account"
	"github.com/helmline/helmline/relayd/broker"
	"github.com/helmline/helmline/relayd/registry"
	"github.com/helmline/helmline/relayd/turnstile"
)

// all is everybody that a gate asks. It knows one person, by password and key, and one computer.
type all struct {
	person, computer ssh.PublicKey
	refusal          error // instead of looking at a key or password
	revoked          bool  // what anybody signed in by holds no more
	failed           int
	attached         []*tunnel.Session
}

const email = "alice@example.com"

func (a *all) Password(_ context.Context, who string, password []byte, _ netip.Addr, _ string) (*account.Account, *account.Half, error) {
	if a.refusal != nil {
		return nil, nil, a.refusal
	}
	if who == email && string(password) == "secret" {
		return &account.Account{ID: 1, Email: email}, nil, nil
	}
	return nil, nil, refuse.SignIn.Of()
}

func (a *all) SecondFactor(context.Context, *account.Half, string, netip.Addr, string) (*account.Account, error) {
	return nil, refuse.WrongFactor.Of()
}

func (a *all) ByKey(_ context.Context, who string, key ssh.PublicKey, _ netip.Addr) (*account.Account, error) {
	if a.refusal != nil {
		return nil, a.refusal
	}
	if who == email && a.person != nil && bytes.Equal(key.Marshal(), a.person.Marshal()) {
		return &account.Account{ID: 1, Email: email}, nil
	}
	return nil, refuse.SignIn.Of()
}

func (a *all) Holds(context.Context, *account.Account) error {
	if a.revoked {
		return refuse.SignIn.Of()
	}
	return nil
}
func (a *all) Failed(context.Context, string, netip.Addr, string) error { a.failed++; return nil }
func (a *all) Succeeded(context.Context, *account.Account, netip.Addr, string) error {
	return nil
}

// computers are all as the gate's Computers.
type computers struct{ *all }

func (a computers) ByKey(_ context.Context, key ssh.PublicKey) (*registry.Computer, error) {
	if a.computer != nil && bytes.Equal(key.Marshal(), a.computer.Marshal()) {
		return &registry.Computer{ID: "1", Name: "desk7"}, nil
	}
	return nil, refuse.NotAccepted.Of("this computer")
}

func (a computers) Enroll(context.Context, string, string, string, ssh.PublicKey, netip.Addr) (registry.Computer, error) {
	return registry.Computer{}, refuse.CodeInvalid.Of()
}
func (a computers) Attach(_ string, s *tunnel.Session) { a.attached = append(a.attached, s) }
func (a computers) Outdated(string)                    {}

func (a *all) Open(_ context.Context, r broker.Request) (*broker.Session, error) {
	if r.Computer == "panic" {
		panic("boo")
	}
	return nil, refuse.NoComputer.Of()
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// viewerAddr is where the tests' clients come from.
var viewerAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:40000"))

// A pipe is one end of a connection whose writes are buffered, as an SSH handshake needs it: both sides speak first.
type pipe struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newPipe(pumps *sync.WaitGroup) (client, server net.Conn) {
	c, s := net.Pipe()
	return buffered(c, pumps), buffered(s, pumps)
}

func buffered(c net.Conn, pumps *sync.WaitGroup) net.Conn {
	p := &pipe{Conn: c, out: make(chan []byte, 1000), closed: make(chan struct{})}
	pumps.Go(func() {
		defer c.Close()
		for {
			select {
			case b := <-p.out:
				if _, err := c.Write(b); err != nil {
					return
				}
				continue
			default: // all is sent
			}
			select {
			case b := <-p.out:
				if _, err := c.Write(b); err != nil {
					return
				}
			case <-p.closed:
				if len(p.out) == 0 {
					return
				}
			}
		}
	})
	return p
}

func (p *pipe) Write(b []byte) (n int, err error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	case p.out <- bytes.Clone(b):
		return len(b), nil
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() {
		_ = p.SetReadDeadline(time.Unix(1, 0)) // fails never
		_ = p.SetWriteDeadline(time.Now().Add(time.Second))
		close(p.closed)
	})
	return nil
}

func (p *pipe) RemoteAddr() net.Addr { return viewerAddr }

// meet has a gate serve what client does; it gives how long it took by the bubble's clock, what the source has to wait,
// and the gate's error.
func meet(t *testing.T, a *all, client func(c net.Conn)) (took, penalty time.Duration, err error) {
	g := &Gate{
		Log: slog.New(slog.DiscardHandler), Name: "relay.example", HostKey: newKey(t), People: a, Computers: computers{a},
		Desks: a, Penalties: turnstile.NewPenalties(),
	}
	var pumps sync.WaitGroup
	defer pumps.Wait()
	c, s := newPipe(&pumps)
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		client(c)
	}()
	at, err := turnstile.New(turnstile.Standard()).Enter(viewerAddr.AddrPort().Addr(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = g.Handle(context.Background(), s, at)
	took = time.Since(began)
	// Penalties show from 15 s on. A source that is trusted has none.
	g.Penalties.Add(viewerAddr.AddrPort().Addr(), 15*time.Second)
	penalty = max(0, g.Penalties.Blocked(viewerAddr.AddrPort().Addr())-15*time.Second)
	s.Close()
	c.Close()
	<-done
	return took, penalty, err
}

func client(user string, auth ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: auth, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
}

func TestBrokenHandshakes(t *testing.T) {
	const version = "SSH-2.0-Test\r\n"
	says := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	for _, c := range []struct {
		name    string
		client  func(net.Conn)
		err     string
		took    time.Duration
		penalty time.Duration
	}{
		{"says nothing", says(""), "no key exchange within 20s", 20 * time.Second, turnstile.TimedOut},
		{"version only", says(version), "no key exchange within 20s", 20 * time.Second, turnstile.TimedOut},
		{"half a packet", says(version + "\x00\x00\x01\x00\x04\x14"), "no key exchange within 20s", 20 * time.Second, turnstile.TimedOut},
		{"offers keys, then nothing", says(version + kexInit(strictClient)), "ssh: ", 0, turnstile.AuthFailed},
		{"a byte a second", func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for _, b := range []byte(version + kexInit(strictClient)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, "no key exchange within 20s", 20 * time.Second, turnstile.TimedOut},
		{"leaves", func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); c.Close() }, "EOF", 0, turnstile.NoAuth},
		{"no SSH", says(strings.Repeat("GET / HTTP/1.1\r\n", 20)), "not SSH", 0, turnstile.AuthFailed},
		{"a packet of 4 GiB", says(version + kexInit(strictClient) + "\xff\xff\xff\xff"), "ssh: ", 0, turnstile.AuthFailed},
		{"no strict key exchange", says(version + kexInit("curve25519-sha256")), "CVE-2023-48795", 0, turnstile.AuthFailed},
		{"computer without a known key", func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(tunnel.UserTunnel, ssh.PublicKeys(newKey(t))))
		}, "40005: this computer is enrolled, but its key is not accepted any more", 0, turnstile.UnknownKey},
		{"signs in, but does not say how", func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(email))
		}, "no auth passed yet", 0, turnstile.NoAuth},
		{"wrong password", func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(email, ssh.Password("wrong")))
		}, "40050: ", 0, turnstile.AuthFailed},
		{"thinks for long about the password", func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(email, ssh.PasswordCallback(func() (string, error) {
				time.Sleep(time.Hour)
				return "secret", nil
			})))
		}, "no sign-in within 2m0s", 120 * time.Second, turnstile.TimedOut},
		{"tries seven passwords", func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(email, ssh.RetryableAuthMethod(ssh.Password("wrong"), 7)))
		}, "40050: ", 0, turnstile.AuthFailed},
		{"computer that opens no tunnel", func(c net.Conn) {
			conn, _, _, err := ssh.NewClientConn(c, "relay", client(tunnel.UserTunnel, ssh.PublicKeys(theComputer)))
			if err == nil {
				_ = conn.Wait()
			}
		}, "opened no channel within 10s", 10 * time.Second, 0},
		{"enrols with nothing", func(c net.Conn) {
			conn, _, _, err := ssh.NewClientConn(c, "relay", client(tunnel.UserEnroll, ssh.PublicKeys(newKey(t))))
			if err == nil {
				_ = conn.Wait()
			}
		}, "enrolment: ", 30 * time.Second, turnstile.AuthFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, penalty, err := meet(t, &all{computer: theComputer.PublicKey()}, c.client)
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if took > c.took+time.Second {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if penalty != c.penalty {
					t.Errorf("the source waits %v, want %v", penalty, c.penalty)
				}
			})
		})
	}
}

var theComputer = func() ssh.Signer {
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		panic(err)
	}
	return key
}()

func TestPersonMayThinkAboutThePassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, penalty, err := meet(t, &all{}, func(c net.Conn) {
			conn, _, _, err := ssh.NewClientConn(c, "relay", client(email, ssh.PasswordCallback(func() (string, error) {
				time.Sleep(100 * time.Second)
				return "secret", nil
			})))
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Hour) // and do nothing at all
			conn.Close()
		})
		if err != nil || took < time.Hour || penalty != 0 {
			t.Errorf("%v after %v, penalty %v", err, took, penalty)
		}
	})
}

func TestKeysThatDoNotFitCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &all{}
		_, penalty, err := meet(t, a, func(c net.Conn) {
			_, _, _, _ = ssh.NewClientConn(c, "relay", client(email, ssh.PublicKeys(newKey(t), newKey(t), newKey(t))))
		})
		if !refuse.SignIn.Is(err) || a.failed != 1 || penalty != turnstile.AuthFailed {
			t.Errorf("%v, %d failures, penalty %v", err, a.failed, penalty)
		}
		a.person = theComputer.PublicKey() // a key that fits after one that does not
		_, penalty, err = meet(t, a, func(c net.Conn) {
			conn, _, _, err := ssh.NewClientConn(c, "relay", client(email, ssh.PublicKeys(newKey(t), theComputer)))
			if err != nil {
				t.Error(err)
				return
			}
			_, _, _ = conn.SendRequest("are you there", true, nil)
			conn.Close()
		})
		if err != nil || a.failed != 1 || penalty != 0 {
			t.Errorf("%v, %d failures, penalty %v", err, a.failed, penalty)
		}
	})
}

// signedIn has a gate serve a person who does what client does.
func signedIn(t *testing.T, a *all, do func(c *ssh.Client)) {
	t.Helper()
	_, _, err := meet(t, a, func(c net.Conn) {
		conn, chans, reqs, err := ssh.NewClientConn(c, "relay", client(email, ssh.Password("secret")))
		if err != nil {
			t.Error(err)
			return
		}
		client := ssh.NewClient(conn, chans, reqs)
		do(client)
		client.Close()
	})
	if err != nil {
		t.Error(err)
	}
}

// hold opens a session channel that sleeps.
func hold(t *testing.T, c *ssh.Client) (ssh.Channel, error) {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(reqs)
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"sleep 3600"}))
	if err != nil || !ok {
		t.Errorf("sleep: %v, %v", ok, err)
	}
	return ch, nil
}

// What is sent to a hold is read and thrown away: a window of x/crypto/ssh is 2 MiB, and would stay in memory.
func TestHoldKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signedIn(t, &all{}, func(c *ssh.Client) {
			late := time.AfterFunc(time.Minute, func() { t.Error("what is sent is not read"); c.Close() })
			defer late.Stop()
			ch, err := hold(t, c)
			if err != nil {
				t.Error(err)
				return
			}
			for _, w := range []io.Writer{ch, ch.Stderr()} {
				if n, err := w.Write(make([]byte, 5<<20)); err != nil {
					t.Errorf("after %d bytes: %v", n, err)
				}
			}
		})
	})
}

func TestHoldsOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signedIn(t, &all{}, func(c *ssh.Client) {
			var last ssh.Channel
			for i := range maxHolds {
				ch, err := hold(t, c)
				if err != nil {
					t.Errorf("hold %d: %v", i, err)
				}
				last = ch
			}
			if _, err := hold(t, c); err == nil || !strings.Contains(err.Error(), "more than 4") {
				t.Errorf("one more: %v", err)
			}
			last.Close()
			synctest.Wait()
			if _, err := hold(t, c); err != nil {
				t.Errorf("after one has ended: %v", err)
			}
		})
	})
}

func TestGuests(t *testing.T) {
	var g guests
	conns := make([]*ssh.ServerConn, maxConns+1)
	for i := range conns {
		conns[i] = new(ssh.ServerConn)
		if err := g.add(1, conns[i]); (err == nil) != (i < maxConns) {
			t.Errorf("connection %d: %v", i+1, err)
		}
	}
	if err := g.add(2, conns[maxConns]); err != nil {
		t.Error(err)
	}
	for i := range maxChannels + 1 {
		if ok := g.open(1); ok != (i < maxChannels) {
			t.Errorf("channel %d: %v", i+1, ok)
		}
	}
	if g.close(1); !g.open(2) || !g.open(1) || g.open(1) {
		t.Error("the channels of two accounts are mixed up")
	}
	for _, c := range conns[:maxConns] {
		g.remove(1, c)
	}
	if g.remove(2, conns[maxConns]); len(g.all) != 0 {
		t.Errorf("%d accounts are left over", len(g.all))
	}
}

// What a person signs in by is looked up when it is offered; a client may take two minutes to prove that it has the key.
func TestRevokedDuringTheHandshake(t *testing.T) {
	for name, auth := range map[string]ssh.AuthMethod{"key": ssh.PublicKeys(theComputer), "password": ssh.Password("secret")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &all{person: theComputer.PublicKey(), revoked: true}
				_, _, err := meet(t, a, func(c net.Conn) {
					conn, _, _, err := ssh.NewClientConn(c, "relay", client(email, auth))
					if err == nil {
						_ = conn.Wait()
					}
				})
				if !refuse.SignIn.Is(err) {
					t.Errorf("served: %v", err)
				}
			})
		})
	}
}

// A source that must wait, or a relay that cannot look, is no wrong key and no wrong password: a refusal that counted as
// one would feed itself.
// Who has only passkeys as second factor, which SSH cannot ask for, is told how they come in.
func TestSecondFactorAsksForWhatThereIs(t *testing.T) {
	for codes, want := range map[bool]string{true: "Code of your authenticator, or a recovery code", false: "Come with an SSH key that your account has, or type a recovery code"} {
		v := &visit{gate: &Gate{People: &all{}}, ctx: t.Context()}
		_, err := v.secondFactor(&account.Half{Codes: codes}, func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) != 1 || !strings.Contains(questions[0], want) {
				t.Errorf("asked %q, not %q", questions, want)
			}
			return []string{"000000"}, nil
		})
		if !refuse.WrongFactor.Is(err) {
			t.Error(err)
		}
	}
}

func TestOnlyWrongSecretsCount(t *testing.T) {
	auths := map[string]ssh.AuthMethod{"key": ssh.PublicKeys(theComputer), "password": ssh.Password("secret")}
	for _, k := range []*refuse.Kind{refuse.SlowDown, refuse.StorageOut, refuse.Busy} {
		for name, auth := range auths {
			t.Run(k.Title+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := &all{refusal: k.Of("10:04")}
					_, penalty, err := meet(t, a, func(c net.Conn) {
						_, _, _, _ = ssh.NewClientConn(c, "relay", client(email, auth))
					})
					if !k.Is(err) || a.failed != 0 || penalty != turnstile.NoAuth {
						t.Errorf("%v, %d failures, penalty %v", err, a.failed, penalty)
					}
				})
			})
		}
	}
}

// A channel that makes the relay panic ends its own connection.
func TestChannelPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, penalty, err := meet(t, &all{}, func(c net.Conn) {
			conn, chans, reqs, err := ssh.NewClientConn(c, "relay", client(email, ssh.Password("secret")))
			if err != nil {
				t.Error(err)
				return
			}
			client := ssh.NewClient(conn, chans, reqs)
			if _, err := client.Dial("tcp", "panic:5900"); err == nil {
				t.Error("joined")
			}
			_ = client.Wait()
		})
		if err != nil || penalty != turnstile.Broken {
			t.Errorf("%v, penalty %v", err, penalty)
		}
	})
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		host string
		port uint32
		want target
		err  string
	}{
		{"desk7", 5900, target{"desk7", tunnel.RoleControl}, ""},
		{"watch.desk7", 5900, target{"desk7", tunnel.RoleWatch}, ""},
		{"TAKE.desk7", 5900, target{"desk7", tunnel.RoleTake}, ""},
		{"watcher.desk7", 5900, target{"watcher.desk7", tunnel.RoleControl}, ""},
		{"desk7.watch", 5900, target{"desk7.watch", tunnel.RoleControl}, ""},
		{"watch.take.desk7", 5900, target{"take.desk7", tunnel.RoleWatch}, ""},
		{"127.0.0.1", 5900, target{"127.0.0.1", tunnel.RoleControl}, ""},
		{"", 5900, target{"", tunnel.RoleControl}, ""},
		{strings.Repeat("x", 255), 5900, target{strings.Repeat("x", 255), tunnel.RoleControl}, ""},
		{strings.Repeat("x", 256), 5900, target{}, "256 bytes, more than 255"},
		{"desk7", 22, target{}, "SSH server"},
		{"desk7", 3389, target{}, "RDP"},
		{"desk7", 5901, target{}, "port 5901"},
		{"desk7", 0, target{}, "port 0"},
	} {
		got, err := parseTarget(ssh.Marshal(directTCPIP{c.host, c.port, "127.0.0.1", 1}))
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q:%d: %+v, %v; want %+v, %q", c.host, c.port, got, err, c.want, c.err)
		}
	}
	// CVE class GO-2026-5054: what stands behind the target names no other one.
	if _, err := parseTarget(append(ssh.Marshal(directTCPIP{"desk7", 5900, "127.0.0.1", 1}), "desk8"...)); err == nil {
		t.Error("bytes behind the target are accepted")
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add(ssh.Marshal(directTCPIP{"watch.desk7", 5900, "127.0.0.1", 1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := parseTarget(in)
		if err == nil && (len(got.computer) > maxComputer || got.role < tunnel.RoleControl || got.role > tunnel.RoleTake || !bytes.Contains(in, []byte(got.computer))) {
			t.Fatalf("%q: %+v", in, got)
		}
	})
}

func TestHoldTime(t *testing.T) {
	for command, want := range map[string]time.Duration{
		"sleep 20": 20 * time.Second, "sleep 0": 0, " sleep  1 ": time.Second, "sleep 86400": 24 * time.Hour,
		"sleep 86401": -1, "sleep": -1, "sleep -1": -1, "sleep 1 2": -1, "sleep 1s": -1, "sleep 4294967296": -1,
		"sleep 1;id": -1, "/bin/sleep 1": -1, "": -1, "sleep $(id)": -1,
	} {
		if d, ok := holdTime(command); ok != (want >= 0) || ok && d != want {
			t.Errorf("%q: %v, %v", command, d, ok)
		}
	}
}

func FuzzHoldTime(f *testing.F) {
	f.Add("sleep 20")
	f.Fuzz(func(t *testing.T, command string) {
		if d, ok := holdTime(command); ok && (d < 0 || d > maxHold) {
			t.Fatalf("%q: %v", command, d)
		}
	})
}

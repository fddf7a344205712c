package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// startOpenSSH starts Debian's sshd and ssh -R with keys and settings of their own, and with the cipher that they choose
// or another one.
func (b *run) startOpenSSH(relay, host place, service, name, cipher string) (*system, error) {
	dir, err := os.MkdirTemp(b.dir, "ssh")
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, key := range []string{"hostkey", "userkey"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file(key)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	pub, err := os.ReadFile(file("userkey.pub"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file("authorized_keys"), pub, 0o600); err != nil {
		return nil, err
	}
	port, err := freePort(relay)
	if err != nil {
		return nil, err
	}
	entry, err := freePort(relay)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("ListenAddress %s:%s\nHostKey %s\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"+
		"AuthorizedKeysFile %s\nAllowTcpForwarding yes\nX11Forwarding no\nPrintMotd no\n",
		relay.addr, port, file("hostkey"), file("authorized_keys"))
	if err := os.WriteFile(file("sshd_config"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd confines its unprivileged half
		return nil, err
	}
	d := relay.command("/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config"))
	if err := b.background(d, file("sshd.log")); err != nil {
		return nil, err
	}
	if err := waitFor("sshd listening", func() bool { return listens(relay, port) }); err != nil {
		return nil, err
	}
	args := []string{"-F", "none", "-N", "-i", file("userkey"), "-p", port,
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=" + file("known_hosts"), "-o", "BatchMode=yes",
		"-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:" + entry + ":" + service}
	if cipher != "" {
		args = append(args, "-c", cipher)
	}
	c := host.command("ssh", append(args, "root@"+relay.addr)...)
	if err := b.background(c, file("ssh.log")); err != nil {
		return nil, err
	}
	if err := waitFor("ssh -R", func() bool { return listens(relay, entry) }); err != nil {
		log, _ := os.ReadFile(file("ssh.log"))
		return nil, fmt.Errorf("%w: %s", err, log)
	}
	return &system{name, "127.0.0.1:" + entry, []int{d.Process.Pid, c.Process.Pid}}, nil
}

// background starts a command whose words go to a file.
func (b *run) background(c *exec.Cmd, log string) error {
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return err
	}
	b.mu.Lock()
	b.procs = append(b.procs, c)
	b.mu.Unlock()
	return nil
}

// freePort is a port that was free a moment ago.
func freePort(p place) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// listens says whether a process listens on the port there.
func listens(p place, port string) bool {
	out, err := p.command("ss", "-Hltn", "sport = :"+port).Output()
	return err == nil && len(out) > 0
}

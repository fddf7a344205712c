package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/helmline/helmline/relayd/store"
)

// hostKeyFile is the SSH host key in the state directory. Every enrolled computer has its fingerprint pinned, so it
// never changes by itself.
const hostKeyFile = "ssh_host_ed25519_key"

// hostKey reads the SSH host key, or makes it at the first start.
func hostKey(dir string, log *slog.Logger) (ssh.Signer, error) {
	path := filepath.Join(dir, hostKeyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = makeHostKey(path); err == nil {
			log.Info("SSH host key made", "file", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	if err := store.PrivateFile(path); err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("SSH host key %s: %w; restore it from a backup, since a new one makes every computer refuse this relay", path, err)
	}
	if key.PublicKey().Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("SSH host key %s is of type %s, not %s", path, key.PublicKey().Type(), ssh.KeyAlgoED25519)
	}
	return key, nil
}

func makeHostKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "helmline relay")
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(block)
	return b, writeNew(path, b, 0o600)
}

// writeNew makes a file that is there whole or not at all, and never takes the place of another.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

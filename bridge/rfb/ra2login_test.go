package rfb

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// exchange is a viewer of RA2 or RA2ne that knows what it does up to its hash, which the caller sends.
func exchange(conn net.Conn, server *rsa.PrivateKey) (c *RA2Conn, hash []byte, err error) {
	own, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		return nil, nil, err
	}
	theirs := make([]byte, 4+512)
	if _, err := io.ReadFull(conn, theirs); err != nil {
		return nil, nil, err
	}
	public := binary.BigEndian.AppendUint32(nil, 1024)
	public = append(public, own.N.FillBytes(make([]byte, 128))...)
	public = append(public, big.NewInt(int64(own.E)).FillBytes(make([]byte, 128))...)
	if _, err := conn.Write(public); err != nil {
		return nil, nil, err
	}
	message := make([]byte, 2+128)
	if _, err := io.ReadFull(conn, message); err != nil {
		return nil, nil, err
	}
	//lint:ignore SA1019 the protocol has this padding
	servers, err := rsa.DecryptPKCS1v15(nil, own, message[2:])
	if err != nil {
		return nil, nil, err
	}
	random := []byte("sixteen bytes...")
	//lint:ignore SA1019 the protocol has this padding
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &server.PublicKey, random)
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(append([]byte{1, 0}, sealed...)); err != nil {
		return nil, nil, err
	}
	up, down := sha1.Sum(append(servers[:16:16], random...)), sha1.Sum(append(random[:16:16], servers...))
	if c, err = newRA2Conn(conn, down[:16], up[:16], maxLogin); err != nil {
		return nil, nil, err
	}
	c.bare = true // it reads nothing ahead, whatever the type
	if _, err := io.ReadFull(c, make([]byte, 20)); err != nil {
		return nil, nil, err
	}
	h := sha1.Sum(append(public, theirs...))
	return c, h[:], nil
}

// What comes inside right messages: the hash, and the log-in, which is a stream.
func TestRA2Login(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewRSAKey(private)
	if err != nil {
		t.Fatal(err)
	}
	const login = "\x05alice\x06geheim"
	for _, tt := range []struct {
		name     string
		t        SecurityType
		hash     byte // what its first byte is changed by
		messages []string
		want     string
		err      error
	}{
		{name: "whole", t: SecRA2, messages: []string{login}, want: "alice geheim"},
		{name: "bytes", t: SecRA2, messages: strings.Split(login, ""), want: "alice geheim"},
		{name: "bytes", t: SecRA2ne, messages: strings.Split(login, ""), want: "alice geheim"},
		{name: "empty messages between", t: SecRA2ne, messages: []string{"\x05al", "", "", "ice\x06", "", "geheim"}, want: "alice geheim"},
		{name: "more behind it", t: SecRA2, messages: []string{login + "\x01"}, want: "alice geheim"}, // as protected as what comes later
		{name: "more behind it", t: SecRA2ne, messages: []string{login + "\x01"}, err: ErrExchange},
		{name: "another hash", t: SecRA2, hash: 1, err: ErrExchange},
		{name: "another hash", t: SecRA2ne, hash: 0x80, err: ErrExchange},
		{name: "half a log-in", t: SecRA2, messages: []string{login[:8]}, err: io.ErrUnexpectedEOF},
		{name: "no log-in", t: SecRA2, err: io.ErrUnexpectedEOF},
	} {
		t.Run(tt.t.String()+"/"+tt.name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			a.SetDeadline(time.Now().Add(20 * time.Second))
			done := make(chan error, 1)
			go func() {
				defer b.Close()
				c, hash, err := exchange(b, private)
				if err == nil {
					hash[0] ^= tt.hash
					_, err = c.Write(hash)
				}
				if err == nil && tt.hash == 0 {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				for _, m := range tt.messages {
					if m == "" { // Write sends none
						empty := make([]byte, messageMore)
						c.seals.seal(empty[2:], nil, &c.sealed, empty[:2])
						count(&c.sealed)
						b.Write(empty)
					}
					c.Write([]byte(m))
				}
				done <- err
			}()
			var user string
			var password []byte
			c, err := RA2(a, tt.t, key)
			if err == nil {
				user, password, err = c.ReadLogin(AskUser)
			}
			if viewer := <-done; viewer != nil {
				t.Fatal(viewer)
			}
			if tt.err != nil {
				if !errors.Is(err, tt.err) || user != "" || password != nil {
					t.Errorf("%q, %q, %v", user, password, err)
				}
				return
			}
			if got := user + " " + string(password); got != tt.want || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			clear(password)
			if strings.Contains(string(c.received), "geheim") {
				t.Error("the password is still there")
			}
		})
	}
}

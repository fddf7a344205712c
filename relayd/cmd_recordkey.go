package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func recordKeyCommand() command {
	return command{
		path: "record-key", args: "FILE", min: 1, max: 1, flags: makeRecordKey,
		about: "Make a key pair that recordings are sealed for.",
		more: "The private key goes into FILE, which must not exist yet; keep it where neither relayd nor hostd runs.\n" +
			"What is printed belongs into the hostd.toml of each computer whose recordings it is to open.",
	}
}

func makeRecordKey(*flag.FlagSet) func(*call) error {
	return func(k *call) error {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(k.args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(pem.Encode(file, &pem.Block{Type: pkcs8, Bytes: der}), file.Sync(), file.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(k.stdout, "[policy]\nrecord_key = %q\n", base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()))
		return err
	}
}

// pkcs8 is the type of a PEM block with a private key. RFC 7468, section 10.
const pkcs8 = "PRIVATE KEY"

// readRecordKey reads what record-key has written, or openssl genpkey -algorithm x25519.
func readRecordKey(path string) (*ecdh.PrivateKey, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the rest repeats the path
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pkcs8 {
		return nil, errors.New("this is no private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdh.PrivateKey)
	if err != nil || !ok || key.Curve() != ecdh.X25519() {
		return nil, errors.New("this is no private key of X25519")
	}
	return key, nil
}

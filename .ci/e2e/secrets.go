package e2e

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/base64"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hide turns the first eight bytes of a secret into what vncpasswd writes: DES under a key that is the same everywhere, its bits in
// the order that VNC has them.
func hide(secret string) []byte {
	key := []byte{23, 82, 107, 6, 35, 78, 88, 7}
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	block, err := des.NewCipher(key)
	if err != nil {
		panic(err) // the key has eight bytes
	}
	out := make([]byte, 8)
	copy(out, secret)
	block.Encrypt(out, out)
	return out
}

// remminaProfile writes Remmina's settings and a profile for the computer, and gives the profile's path.
func (w *World) remminaProfile(account, password string, quality int) (string, error) {
	key := []byte("0123456789abcdefghijklmnopqrstuv") // 24 bytes key, 8 bytes vector
	block, err := des.NewTripleDESCipher(key[:24])
	if err != nil {
		return "", err
	}
	secret := append([]byte(password), make([]byte, 8-len(password)%8)...)
	cipher.NewCBCEncrypter(block, key[24:]).CryptBlocks(secret, secret)

	profile := filepath.Join(w.Viewer.Home, "desk.remmina")
	files := map[string]string{
		filepath.Join(w.Viewer.Home, ".config", "remmina", "remmina.pref"): fmt.Sprintf(
			"[remmina_pref]\nsecret=%s\ndisable_news=1\ndisable_stats=1\n", base64.StdEncoding.EncodeToString(key)),
		profile: strings.Join([]string{"[remmina]", "name=" + Computer, "protocol=VNC", "server=" + RelayName + ":" + PortRFB,
			"username=" + account + "/" + Computer, "password=" + base64.StdEncoding.EncodeToString(secret), "cacert=" + w.CA,
			"quality=" + strconv.Itoa(quality), "colordepth=32", "viewmode=1", "scale=0", "window_width=1300", "window_height=1000", "disableserverbell=1"}, "\n") + "\n",
	}
	for path, text := range files {
		for _, dir := range []string{filepath.Dir(filepath.Dir(path)), filepath.Dir(path)} {
			if dir == filepath.Dir(w.Viewer.Home) || dir == w.Viewer.Home {
				continue
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return "", err
			}
			if err := os.Chown(dir, w.Viewer.UID, w.Viewer.GID); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		if err := os.Chown(path, w.Viewer.UID, w.Viewer.GID); err != nil {
			return "", err
		}
	}
	return profile, nil
}

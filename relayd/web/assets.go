package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// The bundle; "make web" makes it from src.
//
//go:embed dist
var dist embed.FS

// An asset is a file of the bundle, as it is sent.
type asset struct {
	kind      string // MIME type
	plain, gz []byte
}

// Assets are the files that pages load. Their addresses hold a hash of the contents, so that a browser keeps them for ever.
type Assets struct {
	files map[string]asset  // by address
	named map[string]string // address by name, as in "session.js"
}

// NewAssets reads the bundle and compresses it, once.
func NewAssets() (*Assets, error) {
	a := &Assets{files: map[string]asset{}, named: map[string]string{}}
	list, err := dist.ReadDir("dist")
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		b, err := dist.ReadFile("dist/" + f.Name())
		if err != nil {
			return nil, err
		}
		var gz bytes.Buffer
		w, _ := gzip.NewWriterLevel(&gz, gzip.BestCompression)
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		ext := path.Ext(f.Name())
		sum := sha256.Sum256(b)
		url := "/assets/" + strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:8]) + ext
		a.files[url] = asset{mime.TypeByExtension(ext), b, gz.Bytes()}
		a.named[f.Name()] = url
	}
	return a, nil
}

// URL is the address of a file of the bundle; empty: there is no such file.
func (a *Assets) URL(name string) string { return a.named[name] }

// ServeHTTP serves GET /assets/.
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gz
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

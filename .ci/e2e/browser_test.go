package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/helmline/helmline/.ci/rig"
)

// portPage is where the viewer's network has the page with noVNC.
const portPage = "8090"

// NoVNC starts Chromium with a page that has noVNC. The page's WebSocket leads to a TCP port in the viewer's network.
func (w *World) NoVNC(port, user, password string) *Viewer {
	w.T.Helper()
	told, err := w.Hostd.Do(w.Ctx, "", "fingerprint")
	w.Check(err)
	keys := regexp.MustCompile(`\b([0-9a-f]{2}-){7}[0-9a-f]{2}\b`).FindAllString(told, -1)
	if len(keys) != 1 {
		w.T.Fatalf("hostd has the RSA keys %q", keys)
	}
	const novnc = "../novnc"
	pages := http.NewServeMux()
	pages.Handle("/", http.FileServer(http.Dir(filepath.Join(novnc, "node_modules/@novnc/novnc"))))
	pages.HandleFunc("/{$}", func(out http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.T.Logf("noVNC's page comes anew after %s", r.URL.RawQuery)
		}
		http.ServeFile(out, r, filepath.Join(novnc, "page.html"))
	})
	pages.HandleFunc("/credentials", func(out http.ResponseWriter, r *http.Request) {
		json.NewEncoder(out).Encode(map[string]string{"username": user, "password": password})
	})
	pages.HandleFunc("/key", func(out http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != keys[0] {
			http.Error(out, "another key", http.StatusForbidden)
		}
	})
	pages.HandleFunc("/stream", func(out http.ResponseWriter, r *http.Request) {
		c, err := w.Net.Dial(w.Ctx, "viewer", "127.0.0.1:"+port)
		if err == nil {
			err = webSocket(out, r, c)
		}
		w.T.Logf("noVNC's stream ended: %v", err)
	})
	l, err := w.Net.Listen("viewer", "127.0.0.1:"+portPage)
	w.Check(err)
	server := &http.Server{Handler: pages}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	w.T.Cleanup(func() { server.Close(); <-done })
	return w.start("novnc", "viewer", " - noVNC - Chromium$", nil, "chromium", "--kiosk", "--no-sandbox", "--no-first-run", "--disable-gpu",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--password-store=basic",
		"--force-color-profile=srgb", "--force-device-scale-factor=1", "--window-position=0,0", "--window-size="+strings.Replace(viewerScreen, "x", ",", 1),
		"--user-data-dir="+filepath.Join(w.Viewer.Home, "chromium"), "http://127.0.0.1:"+portPage+"/")
}

// noVNC in Chromium logs in by RA2ne with user name and password, and shows, and types. What the relay passes on holds nothing of that
// log-in.
func TestNoVNC(t *testing.T) {
	pamService(t, "", "")
	w := NewWorld(t, Options{Login: pamLogin, Time: 5 * time.Minute})
	w.sshHome()
	d := w.Furnish()
	secret := rig.Secret(12)
	w.Check(w.Set.SetPassword(w.Ctx, w.Owner, secret))
	port := w.forward(Computer)
	passed := w.capture("viewer", port, func() {
		v := w.NoVNC(port, w.Owner.Name, secret)
		v.WaitEqual(w.Desk)
		v.Type("helm ÄΩ€中\n")
		d.WaitTyped("helm ÄΩ€中\n")
		v.WaitEqual(w.Desk)
		v.Proc.End()
	})
	if !bytes.Contains(passed, []byte(w.Owner.Name+"@"+Computer)) {
		t.Error("the capture does not hold the session, which is in clear behind RA2ne")
	}
	if bytes.Contains(passed, []byte(secret)) || holdsKeys(passed, secret) == len(secret) {
		t.Error("the host login passes through the relay in clear")
	}
}

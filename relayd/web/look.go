package web

import (
	"bytes"
	"embed"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/helmline/helmline/bridge/refuse"
	"github.com/helmline/helmline/relayd/account"
)

//go:embed pages
var pages embed.FS

// policy is the Content-Security-Policy of every page. noVNC shows JPEG pictures and cursors as data URLs.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'"

// A look shows pages.
type look struct {
	log   *slog.Logger
	pages *template.Template
}

func newLook(a *Assets, log *slog.Logger) (*look, error) {
	t, err := template.New("").Funcs(template.FuncMap{"asset": a.URL, "when": when, "to": to, "at": at, "browser": browser, "lower": strings.ToLower, "noSection": func() section { return section{} }, "scope": scope, "noAsk": func() account.Ask { return account.Ask{} }, "blank": func() listed { return listed{State: "offline"} }}).ParseFS(pages, "pages/*.html")
	return &look{log, t}, err
}

// when is a time as people read it where no script tells it in their own time zone.
func when(t time.Time) string {
	return t.UTC().Format("2 January 2006, 15:04 MST")
}

// A step is where a form leads, and where what it asks for leads in the end.
type step struct{ To, Next string }

func to(to, next string) step { return step{to, next} }

// A place is where a page stands among those that its top leads to.
type place struct {
	Account any
	Page    string
}

func at(account any, page string) place { return place{account, page} }

// browser is what people call the browser that sends a User-Agent; the header itself if that names none that is known.
func browser(agent string) string {
	named := func(names [][2]string) string {
		for _, n := range names { // the first that is there: they claim to be each other
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	name := named([][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}})
	on := named([][2]string{{"Windows", "Windows"}, {"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}})
	if name == "" || on == "" {
		return agent
	}
	return name + " on " + on
}

// show writes one page.
func (l *look) show(w http.ResponseWriter, r *http.Request, status int, page string, data any) {
	var b bytes.Buffer
	if err := l.pages.ExecuteTemplate(&b, page, data); err != nil {
		l.log.Error("page not made", "page", page, "err", err)
		http.Error(w, "the relay cannot show this page", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever does not read it has left
}

// refuse writes a page that says why there is no other.
func (l *look) refuse(w http.ResponseWriter, r *http.Request, status int, why *refuse.Refusal) {
	l.show(w, r, status, "refused.html", why)
}

// guarded gives every answer the headers that keep pages apart from other sites, and bounds what is read of any request.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

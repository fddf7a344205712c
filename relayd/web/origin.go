package web

import "net/http"

// ownPages refuses what may change something and was not sent by a page of this very origin.
func ownPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions: // change nothing
		default:
			if !fromHere(r) {
				http.Error(w, "another origin", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// fromHere is whether a page of this origin sent a request, or no page at all. Pages here hide where they are (Referrer-Policy), so
// their forms have the Origin "null", as a stranger's may; then the browser's own word counts, Sec-Fetch-Site. What has neither
// is no browser's of these years, and gets nothing by a cookie.
func fromHere(r *http.Request) bool {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case origin != "" && origin != "null" && origin != "https://"+r.Host:
		return false
	case site != "":
		return site == "same-origin" || site == "none" // none: the person's own doing
	case origin == "":
		return r.Header.Get("Cookie") == ""
	}
	return origin != "null"
}

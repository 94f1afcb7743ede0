package web

import (
	"net/http"
	"strings"
)

// csp lets the page load its own style sheet, script and pictures, and nothing
// else; it has no inline script or style.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// sandboxCSP is for what comes from a snapshot: if a browser showed it as a page
// in spite of all, it would have no origin, no script and nothing to load.
const sandboxCSP = "sandbox; default-src 'none'; frame-ancestors 'none'"

// maxForm bounds the body of a request, in bytes.
const maxForm = 16 << 10

// guard refuses what a browser was made to send by somebody else, and puts the
// headers on every answer.
func (w *Web) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.log.Warn("web: request of another site refused")
		http.Error(rw, "this request came from another site", http.StatusForbidden)
	}))
	protected := cross.Handler(next)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		if !w.hosts[strings.ToLower(r.Host)] {
			http.Error(rw, "coffer answers on this machine only, by the name and port that \"coffer web\" prints; "+
				"through a tunnel, use the same port on both sides", http.StatusMisdirectedRequest)
			return
		}
		if !ownRequest(r) {
			w.log.Warn("web: request of another site refused")
			http.Error(rw, "this request came from another site", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(rw, r.Body, maxForm)
		protected.ServeHTTP(rw, r)
	})
}

// ownRequest reports whether a reading request was begun by our own page or the
// user. Another site may only lead here, as by a link: it must not embed us, and
// sites on other ports of this host are others too, although they get the cookie sent.
func ownRequest(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	}
	return true
}

// signedIn lets a request with a session through.
func (w *Web) signedIn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.access.signedIn(r) {
			next.ServeHTTP(rw, r)
			return
		}
		if r.Header.Get("Sec-Fetch-Dest") == "empty" || r.Method != http.MethodGet {
			http.Error(rw, "not signed in", http.StatusUnauthorized)
			return
		}
		w.loginPage(rw, r, http.StatusUnauthorized, "")
	})
}

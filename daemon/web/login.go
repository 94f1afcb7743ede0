package web

import (
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
)

// loginPage is what everybody may see: where to get a link. Its script sends the
// token that is in the fragment of the link.
func (w *Web) loginPage(rw http.ResponseWriter, r *http.Request, status int, problem string) {
	w.render(rw, r, status, "login", page{Title: "Sign in", Problem: problem})
}

// login spends a one-time token.
func (w *Web) login(rw http.ResponseWriter, r *http.Request) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	if i := strings.LastIndexByte(token, '#'); i >= 0 {
		token = token[i+1:] // the whole link was pasted
	}
	cookie, limited := w.access.login(token, time.Now())
	switch {
	case limited:
		w.log.Warn("web: too many wrong login links", zap.Duration("wait", badEvery))
		rw.Header().Set("Retry-After", "6")
		w.loginPage(rw, r, http.StatusTooManyRequests, "Too many wrong links. Wait a few seconds and try again.")
	case cookie == "":
		w.log.Warn("web: login with a wrong, used or old link")
		w.loginPage(rw, r, http.StatusForbidden, "This link was used already, or is older than five minutes.")
	default:
		w.log.Info("web: signed in")
		w.access.logout(r) // a session that the browser had: its cookie is replaced
		w.access.set(rw, cookie)
		http.Redirect(rw, r, "/", http.StatusSeeOther)
	}
}

func (w *Web) logout(rw http.ResponseWriter, r *http.Request) {
	w.access.logout(r)
	w.access.set(rw, "")
	w.log.Info("web: signed out")
	http.Redirect(rw, r, "/login", http.StatusSeeOther)
}

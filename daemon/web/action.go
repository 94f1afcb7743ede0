package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"coffer/daemon"
)

// askTime is how long a request to back up is listened to for an error; the
// backup goes on after it.
const askTime = 300 * time.Millisecond

// maxPause bounds a pause that ends by itself.
const maxPause = 31 * 24 * time.Hour

func (w *Web) backupNow(rw http.ResponseWriter, r *http.Request) {
	var names []string
	if name := r.PostFormValue("source"); name != "" {
		names = []string{name}
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	_, err := w.c.Daemon.Backup(ctx, names, nil)
	switch {
	case errors.Is(err, daemon.ErrLocked):
		w.failRepo(rw, r, err)
	case errors.Is(err, daemon.ErrUnknownSource):
		w.fail(rw, r, http.StatusNotFound, "There is no such source.")
	default: // asked; how it ends is seen on the page
		back(rw, r)
	}
}

func (w *Web) pause(rw http.ResponseWriter, r *http.Request) {
	length := time.Duration(0)
	if text := r.PostFormValue("for"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length <= 0 || length > maxPause {
			w.fail(rw, r, http.StatusBadRequest, "A pause lasts between a moment and a month.")
			return
		}
	}
	w.c.Daemon.Pause(length)
	back(rw, r)
}

func (w *Web) resume(rw http.ResponseWriter, r *http.Request) {
	w.c.Daemon.Resume()
	back(rw, r)
}

// back leads to the view that the form was on.
func back(rw http.ResponseWriter, r *http.Request) {
	to := "/"
	if r.PostFormValue("view") == "/sources" {
		to = "/sources"
	}
	http.Redirect(rw, r, to, http.StatusSeeOther)
}

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// controlTask runs a task and answers when it has ended. A client that leaves
// does not stop it.
func (d *Daemon) controlTask(w http.ResponseWriter, r *http.Request, stop <-chan struct{}) {
	var body struct {
		Task string `json:"task"`
	}
	if !readBody(w, r, &body) {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	st, err := d.RunTask(ctx, body.Task)
	var cut *stopped
	if st.Name == "" || errors.As(err, &cut) || errors.Is(err, ErrLocked) {
		if err == nil || errors.Is(err, context.Canceled) {
			err = errors.New("the daemon stopped before the task ended")
		}
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(st) // a client that left needs no answer
}

func (d *Daemon) controlReload(w http.ResponseWriter) {
	now, err := d.ReloadConfig()
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(now) // a client that left needs no answer
}

func (d *Daemon) controlNotify(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(d.TestNotify(r.Context())) // a client that left needs no answer
}

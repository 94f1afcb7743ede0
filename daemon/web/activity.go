package web

import (
	"net/http"
	"slices"
	"time"

	"coffer/daemon"
)

// activity shows the events that the daemon keeps, the newest first.
func (w *Web) activity(rw http.ResponseWriter, r *http.Request) {
	source, trouble := r.FormValue("source"), r.FormValue("show") == "trouble"
	now := time.Now()
	var all []eventView
	for _, e := range w.kept() {
		v, ok := viewEvent(e, now)
		if !ok || source != "" && e.Source != source || trouble && v.Tone != toneWarn && v.Tone != toneBad {
			continue
		}
		all = append(all, v)
	}
	slices.Reverse(all)
	st := w.c.Daemon.Status()
	var names []string
	for _, s := range st.Sources {
		names = append(names, s.Name)
	}
	w.render(rw, r, http.StatusOK, "activity", page{Title: "Activity", View: "/activity", Body: struct {
		Events  []eventView
		Sources []string
		Source  string
		Trouble bool
		Started stamp
	}{all, names, source, trouble, moment(st.Started, now, "")}})
}

// kept is what a new subscriber is given at once.
func (w *Web) kept() (all []daemon.Event) {
	events, cancel := w.c.Daemon.Subscribe(0)
	defer cancel()
	for {
		select {
		case e := <-events:
			all = append(all, e)
		default:
			return all
		}
	}
}

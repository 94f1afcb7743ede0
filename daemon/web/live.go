package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"coffer/daemon"
	"coffer/internal/human"
)

const (
	liveEvery   = 400 * time.Millisecond // at most so often the state is sent ...
	liveRefresh = 10 * time.Second       // ... and at least so often: "5 minutes ago" gets older
	liveWrite   = 10 * time.Second       // for one message
)

// events is the stream that keeps an open page up to date (server-sent events):
// "status" is a statusView, "event" an eventView.
func (w *Web) events(rw http.ResponseWriter, r *http.Request) {
	select {
	case w.streams <- struct{}{}:
		defer func() { <-w.streams }()
	default:
		http.Error(rw, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	events, cancel := w.c.Daemon.Subscribe(w.c.Daemon.Status().Seq)
	defer cancel()
	rw.Header().Set("Content-Type", "text/event-stream")
	send := stream(rw)
	if send("status", w.view(w.c.Daemon.Status(), time.Now())) != nil {
		return
	}
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	changed, sent := false, time.Now()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-w.stop:
			return
		case e := <-events:
			changed = true
			if v, ok := viewEvent(e, time.Now()); ok {
				err = send("event", v)
			}
		case <-tick.C:
			if !changed && time.Since(sent) < liveRefresh {
				continue
			}
			if !w.access.signedIn(r) {
				return // signed out meanwhile; the page asks again and is told
			}
			changed, sent = false, time.Now()
			err = send("status", w.view(w.c.Daemon.Status(), sent))
		}
		if err != nil {
			return
		}
	}
}

// stream returns a function that sends one message.
func stream(rw http.ResponseWriter) func(name string, v any) error {
	c := http.NewResponseController(rw)
	return func(name string, v any) error {
		b, err := json.Marshal(v) // one line: JSON has no newline of its own
		if err != nil {
			return err
		}
		if err := c.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(rw, "event: %s\ndata: %s\n\n", name, b); err != nil {
			return err
		}
		return c.Flush()
	}
}

// eventView is a line of the activity log.
type eventView struct {
	Time   stamp      `json:"time"`
	Source string     `json:"source"`
	Text   string     `json:"text"`
	Tone   string     `json:"tone"`
	Failed []fileNote `json:"-"` // files that could not be read
	More   int        `json:"-"` // and how many beside those
}

type fileNote struct{ Path, Err string }

// maxNotes bounds the files listed with one event.
const maxNotes = 100

// viewEvent describes e; false for what is no line of the log.
func viewEvent(e daemon.Event, now time.Time) (eventView, bool) {
	v := eventView{Time: clock(e.Time, now), Source: e.Source, Tone: toneIdle}
	switch e.Kind {
	case daemon.Changed:
		v.Text = "Something changed"
	case daemon.Started:
		v.Text, v.Tone = "Backup began", toneBusy
	case daemon.Saved:
		v.Text, v.Tone = "Saved in "+tookText(e.Took), toneOK
		v.report(e)
	case daemon.Failed:
		v.Text, v.Tone = "Failed: "+printable(e.Error), toneBad
		if e.Until.After(now) {
			v.Text += "; next try " + moment(e.Until, now, "").Text
		}
	case daemon.Stopped:
		v.Text, v.Tone = "Stopped: "+printable(e.Error), toneWarn
	case daemon.Paused:
		v.Text, v.Tone = "Paused until resumed", toneWarn
		if !e.Until.IsZero() {
			v.Text = "Paused until " + dateText(e.Until)
		}
	case daemon.Resumed:
		v.Text = "Resumed"
	case daemon.Unlocked:
		v.Text, v.Tone = "Unlocked", toneOK
	case daemon.LockedNow:
		v.Text, v.Tone = "Locked", toneWarn
	case daemon.Slept:
		v.Text = "The machine slept for " + tookText(e.Took)
	case daemon.Overflow:
		v.Text, v.Tone = "The system lost notices of changes; the source is scanned", toneWarn
	case daemon.WatchLimit:
		v.Text, v.Tone = "Not all can be watched: "+printable(e.Error), toneWarn
	case daemon.TaskDone:
		v.Text, v.Tone = strings.TrimSuffix("Done: "+printable(e.Task)+". "+printable(e.Result), ". "), toneOK
	case daemon.TaskFailed:
		v.Text, v.Tone = "Failed: "+printable(e.Task)+": "+printable(e.Error), toneBad
	case daemon.TaskStopped:
		v.Text, v.Tone = "Stopped: "+printable(e.Task), toneWarn
	case daemon.Reloaded:
		v.Text = "The configuration was read again"
		if e.Error != "" {
			v.Text, v.Tone = "The configuration has a fault: "+printable(e.Error), toneBad
		}
	case daemon.ProblemNews:
		v.Text, v.Tone = "Problem: "+printable(e.Error), toneBad
		if e.Result == string(daemon.Solved) {
			v.Text, v.Tone = "Solved: "+printable(e.Error), toneOK
		}
	default: // Progress, Done, Lost
		return eventView{}, false
	}
	return v, true
}

func (v *eventView) report(e daemon.Event) {
	r := e.Report
	if r == nil {
		return
	}
	v.Text += fmt.Sprintf(": %s new, %s changed, %s sent", countText(r.New), plural(r.Changed, "file"), human.Size(r.Uploaded))
	for _, f := range r.Failed {
		if len(v.Failed) == maxNotes {
			v.More = len(r.Failed) - maxNotes
			break
		}
		v.Failed = append(v.Failed, fileNote{printable(f.Path), printable(f.Err)})
	}
	if n := len(r.Failed); n > 0 {
		v.Text, v.Tone = v.Text+"; "+plural(int64(n), "file")+" could not be read", toneWarn
	}
}

package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/human"
)

// Tones say how a state is meant: they choose colour and icon, never alone what
// is said.
const (
	toneOK   = "ok"
	toneBusy = "busy"
	toneWarn = "warn"
	toneBad  = "bad"
	toneIdle = "idle"
)

// statusView is the daemon as the page shows it. Templates and the script of a
// live page fill the same places with it.
type statusView struct {
	Headline string       `json:"headline"`
	Detail   string       `json:"detail"`
	Tone     string       `json:"tone"`
	Locked   bool         `json:"locked"`
	Paused   bool         `json:"paused"`
	Running  bool         `json:"running"`
	Sources  []sourceView `json:"sources"`
	Targets  []targetView `json:"targets"`
}

// sourceView is one source.
type sourceView struct {
	Name    string        `json:"name"`
	Path    string        `json:"-"`
	State   string        `json:"state"`
	Tone    string        `json:"tone"`
	Overdue bool          `json:"overdue"`
	Saved   stamp         `json:"saved"`
	Next    stamp         `json:"next"`
	Pending stamp         `json:"pending"`
	Attempt stamp         `json:"attempt"`
	Watch   string        `json:"watch"`
	Note    string        `json:"note"` // what is wrong; "" when nothing is
	Running bool          `json:"running"`
	Run     *progressView `json:"run,omitempty"`

	Snapshot string `json:"-"`
}

// progressView is how far a run is.
type progressView struct {
	Value   int64  `json:"value"`
	Max     int64  `json:"max"` // 0: not known yet
	Text    string `json:"text"`
	Rate    string `json:"rate"`
	Current string `json:"current"`
}

func (w *Web) view(st daemon.Status, now time.Time) statusView {
	v := statusView{Locked: st.Locked, Paused: st.Paused, Sources: []sourceView{}, Targets: w.health.look(now)}
	for _, s := range st.Sources {
		sv := w.viewSource(s, st.Started, now)
		v.Running = v.Running || sv.Running
		v.Sources = append(v.Sources, sv)
	}
	v.Headline, v.Tone = headline(st, v.Sources, now)
	v.Detail = detail(st, now)
	return v
}

var stateNames = map[string]string{
	"running": "Backing up", "locked": "Locked", "paused": "Paused", "held": "Held back", "retrying": "Failed, trying again", "waiting": "Changes waiting", "idle": "Up to date",
}

var stateTones = map[string]string{
	"running": toneBusy, "locked": toneBad, "paused": toneWarn, "held": toneIdle, "retrying": toneWarn, "waiting": toneOK, "idle": toneOK,
}

var reasonNames = map[string]string{"scan": "full scan", "change": "for changes", "schedule": "by schedule", "retry": "another try", "asked": "asked for"}

func (w *Web) viewSource(s daemon.SourceStatus, started, now time.Time) sourceView {
	v := sourceView{
		Name: s.Name, Path: printable(s.Path), State: stateNames[s.State], Tone: stateTones[s.State],
		Saved: moment(s.LastSaved, now, "never"), Next: moment(s.Next, now, "–"), Pending: moment(s.PendingSince, now, "none"),
		Attempt: moment(s.LastAttempt, now, "never"), Snapshot: s.Snapshot, Running: s.State == "running", Watch: watchText(s.Watch),
	}
	if v.State == "" {
		v.State, v.Tone = s.State, toneIdle
	}
	if why := reasonNames[s.Reason]; why != "" && !s.Next.IsZero() {
		v.Next.Text += ", " + why
	}
	since := s.LastSaved
	if since.IsZero() {
		since = started
	}
	v.Overdue = now.Sub(since) > w.c.Overdue
	switch {
	case v.Overdue && s.LastSaved.IsZero():
		v.Tone, v.Saved.Text = toneBad, "never – overdue"
	case v.Overdue:
		v.Tone, v.Saved.Text = toneBad, v.Saved.Text+" – overdue"
	case s.LastSaved.IsZero() && s.State == "idle":
		v.State, v.Tone = "Not saved yet", toneIdle
	}
	v.Note = note(s)
	if v.Running {
		v.Run = viewProgress(s.Progress, now)
	}
	return v
}

// note says what is wrong with a source.
func note(s daemon.SourceStatus) string {
	var all []string
	if s.LastError != "" {
		text := "Last error: " + s.LastError
		if s.Failures > 1 {
			text += fmt.Sprintf(" (%d times in a row)", s.Failures)
		}
		all = append(all, text)
	}
	if s.Unreadable > 0 {
		all = append(all, plural(int64(s.Unreadable), "file")+" could not be read; the rest is saved")
	}
	if s.Watch.Error != "" {
		all = append(all, "Watching: "+s.Watch.Error)
	}
	return printable(strings.Join(all, ". "))
}

func watchText(w daemon.WatchStatus) string {
	switch w.Mode {
	case "watching":
		return "watching " + pluralFolders(w.Directories)
	case "limited":
		return "watching only " + pluralFolders(w.Directories) + ", scanning the rest"
	case "failed":
		return "cannot watch, scanning instead"
	}
	return "scanning only"
}

func pluralFolders(n int) string { return plural(int64(n), "folder") }

func viewProgress(p *backup.Progress, now time.Time) *progressView {
	if p == nil {
		return &progressView{Text: "Starting …"}
	}
	v := &progressView{Value: p.Bytes, Text: human.Size(p.Bytes) + ", " + plural(p.Files, "file"), Current: printable(p.Current)}
	took := now.Sub(p.Started).Seconds()
	if took > 1 && !p.Started.IsZero() {
		v.Rate = human.Size(int64(float64(p.Bytes)/took)) + "/s"
	}
	if p.AllBytes == 0 {
		return v
	}
	v.Text = fmt.Sprintf("%s of %s, %s of %s", human.Size(p.Bytes), human.Size(p.AllBytes), countText(p.Files), plural(p.AllFiles, "file"))
	if !p.Counted {
		v.Text += " found so far"
		return v
	}
	v.Max = p.AllBytes
	if left := p.AllBytes - p.Bytes; v.Rate != "" && took > 3 && p.Bytes > 0 && left > 0 {
		v.Rate += ", " + roughly(time.Duration(float64(left)/float64(p.Bytes)*took)*time.Second) + " left"
	}
	return v
}

// headline is the state of everything in one line: the worst first.
func headline(st daemon.Status, sources []sourceView, now time.Time) (text, tone string) {
	var overdue, failing, running, unsaved []string
	noted := false
	for i, s := range sources {
		switch {
		case s.Overdue:
			overdue = append(overdue, s.Name)
		case st.Sources[i].Failures > 0:
			failing = append(failing, s.Name)
		case st.Sources[i].LastSaved.IsZero():
			unsaved = append(unsaved, s.Name)
		}
		if s.Running {
			running = append(running, s.Name)
		}
		noted = noted || s.Note != ""
	}
	switch {
	case st.Locked:
		return "Locked: nothing is backed up", toneBad
	case len(overdue) > 0:
		return "Overdue: " + listed(overdue), toneBad
	case len(failing) > 0:
		return "The last backup failed: " + listed(failing), toneWarn
	case len(running) > 0:
		return "Backing up " + listed(running), toneBusy
	case st.Paused && st.PausedUntil.IsZero():
		return "Paused until you resume", toneWarn
	case st.Paused:
		return "Paused until " + st.PausedUntil.Local().Format("2 Jan, 15:04"), toneWarn
	case st.Hold != "":
		return "Waiting: " + printable(st.Hold), toneIdle
	case len(sources) == 0:
		return "There is nothing to back up yet", toneIdle
	case len(unsaved) > 0:
		return "Not saved yet: " + listed(unsaved), toneIdle
	case noted:
		return "Backed up, with remarks", toneWarn
	}
	return "Everything is backed up", toneOK
}

// listed is names as a sentence has them.
func listed(names []string) string {
	switch n := len(names); {
	case n == 1:
		return names[0]
	case n > 4:
		return strings.Join(names[:3], ", ") + fmt.Sprintf(" and %d more", n-3)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// detail is the line below the headline: the last backup and the next one.
func detail(st daemon.Status, now time.Time) string {
	var last, next time.Time
	for _, s := range st.Sources {
		if s.LastSaved.After(last) {
			last = s.LastSaved
		}
		if !s.Next.IsZero() && (next.IsZero() || s.Next.Before(next)) {
			next = s.Next
		}
	}
	text := "Last saved " + moment(last, now, "never").Text
	if !next.IsZero() {
		text += " · next " + moment(next, now, "").Text
	}
	return text
}

// methodView is how the backup key is kept.
type methodView struct{ Icon, Name, Detail, Command string }

func (w *Web) methods() []methodView {
	var all []methodView
	for _, m := range w.c.Methods {
		v := methodView{Icon: "shield", Name: m.Kind, Detail: "since " + m.Since.Local().Format("2 Jan 2006")}
		switch m.Kind {
		case "digits":
			v.Name, v.Command = "64 digits, written down", "coffer recovery verify"
		case "password":
			v.Name, v.Command = "Password", "coffer password verify"
			if m.Fleet != "" {
				v.Detail += ", vault " + printable(m.Fleet)
			}
		}
		all = append(all, v)
	}
	return all
}

func (w *Web) overview(rw http.ResponseWriter, r *http.Request) {
	st := w.c.Daemon.Status()
	now := time.Now()
	vault := w.vaultState(r.Context(), now, 0)
	w.render(rw, r, http.StatusOK, "overview", page{Title: "Overview", View: "/", Body: struct {
		statusView
		Methods  []methodView
		Vault    *vaultView
		Problems int
		Gateway  string
		Started  stamp
	}{w.view(st, now), w.methods(), vault, len(st.Problems), w.c.Gateway.URL, moment(st.Started, now, "")}})
}

func (w *Web) sources(rw http.ResponseWriter, r *http.Request) {
	w.render(rw, r, http.StatusOK, "sources", page{Title: "Sources", View: "/sources", Body: w.view(w.c.Daemon.Status(), time.Now())})
}

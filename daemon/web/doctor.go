package web

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/daemon"
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Check string
	State string // "ok", "warning" or "failed"
	Text  string
	Fix   string // what mends it; "" when nothing need be
}

// doctorTime is how long the doctor may look.
const doctorTime = time.Minute

// diagnosis is what the doctor found last.
type diagnosis struct {
	asking sync.Mutex // held while he looks
	mu     sync.Mutex
	at     time.Time // zero: he never did
	all    []Finding
	err    error
}

type findingView struct{ Check, Text, Fix, State, Tone string }

var findingTones = map[string]string{"ok": toneOK, "warning": toneWarn, "failed": toneBad}

// taskView is a task that comes round.
type taskView struct {
	Name, State, Tone string
	Last, Next        stamp
	Note              string
}

var taskNames = map[string]struct{ state, tone string }{
	"running": {"running", toneBusy}, "failed": {"failed", toneBad}, "waiting": {"waiting", toneIdle}, "idle": {"fine", toneOK},
}

// taskTitles say what the tasks of cofferd do; others have their names.
var taskTitles = map[string]string{
	"forget": "Retention", "prune": "Removing what no snapshot needs", "check": "Check of the storage",
	"read": "Reading a part back", "drill": "Restore drill",
}

func viewTask(t daemon.TaskStatus, now time.Time) taskView {
	name, ok := taskNames[t.State]
	if !ok {
		name.state, name.tone = t.State, toneIdle
	}
	v := taskView{Name: printable(cmp.Or(taskTitles[t.Name], t.Name)), State: name.state, Tone: name.tone, Last: moment(t.LastOK, now, "never"), Next: moment(t.Next, now, "when asked for"), Note: printable(t.Result)}
	if t.LastRun.IsZero() && t.State == "idle" {
		v.State, v.Tone = "not yet", toneIdle
	}
	if t.Error != "" {
		v.Note = printable(t.Error)
	}
	return v
}

// problemView is what is wrong by the daemon's own account.
type problemView struct {
	Text, Hint string
	Since      stamp
}

// doctor shows what is wrong and what mends it.
func (w *Web) doctor(rw http.ResponseWriter, r *http.Request) {
	now := time.Now()
	st := w.c.Daemon.Status()
	var problems []problemView
	for _, p := range st.Problems {
		problems = append(problems, problemView{printable(p.Text), printable(p.Hint), moment(p.Since, now, "")})
	}
	var tasks []taskView
	for _, t := range st.Tasks {
		tasks = append(tasks, viewTask(t, now))
	}
	d := &w.diagnosis
	d.mu.Lock()
	at, err := d.at, d.err
	var findings []findingView
	for _, f := range d.all {
		findings = append(findings, findingView{printable(f.Check), printable(f.Text), printable(f.Fix), f.State, findingTones[f.State]})
	}
	d.mu.Unlock()
	problem := ""
	if err != nil {
		problem = "The last look was not finished: " + printable(err.Error())
	}
	w.render(rw, r, http.StatusOK, "doctor", page{Title: "Doctor", View: "/doctor", Problem: problem, Body: struct {
		Problems []problemView
		Tasks    []taskView
		Findings []findingView
		At       stamp
		CanLook  bool
	}{problems, tasks, findings, moment(at, now, ""), w.c.Doctor != nil}})
}

// examine has the doctor look, which writes a small object to each storage.
func (w *Web) examine(rw http.ResponseWriter, r *http.Request) {
	d := &w.diagnosis
	if w.c.Doctor != nil && d.asking.TryLock() {
		defer d.asking.Unlock()
		ctx, cancel := context.WithTimeout(r.Context(), doctorTime)
		defer cancel()
		all, err := w.c.Doctor(ctx)
		if err != nil {
			w.log.Warn("web: doctor", zap.Error(err))
		}
		d.mu.Lock()
		d.at, d.all, d.err = time.Now(), all, err
		d.mu.Unlock()
	}
	http.Redirect(rw, r, "/doctor", http.StatusSeeOther)
}

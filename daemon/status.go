package daemon

import (
	"fmt"
	"os"
	"time"

	"coffer/backup"
)

// Status is the state of the daemon, the answer of GET /v1/status. Times that
// are not known are left out of the JSON.
type Status struct {
	Version     string         `json:"version"`
	PID         int            `json:"pid"`
	Started     time.Time      `json:"started"`
	Host        string         `json:"host"`
	Locked      bool           `json:"locked"` // the backup key is not in memory: nothing is backed up
	Paused      bool           `json:"paused"`
	PausedUntil time.Time      `json:"paused_until,omitzero"` // absent while paused: until resumed
	Seq         uint64         `json:"seq"`                   // of the newest event: what to ask events after
	Hold        string         `json:"hold,omitempty"`        // why nothing begins by itself, as "on battery"
	Config      Configured     `json:"config"`
	Sources     []SourceStatus `json:"sources"`
	Tasks       []TaskStatus   `json:"tasks"`
	Problems    []Problem      `json:"problems"`
}

// SourceStatus is the state of one source.
type SourceStatus struct {
	Name string `json:"name"`
	Path string `json:"path"`

	// State is "running", "locked", "paused", "held" (see Status.Hold), "retrying" (the last run failed),
	// "waiting" (changes are not yet quiet, or a scan is due) or "idle".
	State        string           `json:"state"`
	PendingSince time.Time        `json:"pending_since,omitzero"` // oldest change that is not upstream
	Next         time.Time        `json:"next,omitzero"`          // when the next backup begins by itself
	Reason       string           `json:"reason,omitempty"`       // of Next: "scan", "change", "schedule", "retry", "asked"
	LastAttempt  time.Time        `json:"last_attempt,omitzero"`
	LastSaved    time.Time        `json:"last_saved,omitzero"`
	Snapshot     string           `json:"snapshot,omitempty"` // of LastSaved
	Unreadable   int              `json:"unreadable"`         // files that it could not read
	Failures     int              `json:"failures"`           // in a row since
	LastError    string           `json:"last_error,omitempty"`
	Hint         string           `json:"hint,omitempty"` // what to do about it
	Lasting      bool             `json:"lasting"`        // it does not pass by itself
	Watch        WatchStatus      `json:"watch"`
	Progress     *backup.Progress `json:"progress,omitempty"` // while running
}

// WatchStatus says how well a source is watched. Whatever it says, the source
// is scanned at its interval.
type WatchStatus struct {
	Mode        string `json:"mode"`            // "starting", "watching", "limited" (the watch limit is reached), "failed" or "off"
	Directories int    `json:"directories"`     // watched
	Error       string `json:"error,omitempty"` // why it is limited or failed
	Hint        string `json:"hint,omitempty"`  // what to do about it
}

// Status describes the daemon at this moment.
func (d *Daemon) Status() Status {
	now := time.Now()
	p := d.pausedNow()
	st := Status{
		Version: d.c.Version, PID: os.Getpid(), Started: d.started, Host: d.c.Host,
		Locked: d.c.Key.Locked(), Paused: p.active(now), Seq: d.events.last(),
		Sources: []SourceStatus{},
	}
	st.Hold, st.Tasks = d.holds(), d.upkeep.status()
	if st.Paused {
		st.PausedUntil = p.Until
	}
	d.mu.Lock()
	st.Config = d.configured
	d.mu.Unlock()
	sources, _ := d.find(nil)
	for _, s := range sources {
		st.Sources = append(st.Sources, s.status(now, st.Locked, st.Paused, st.Hold != ""))
	}
	st.Problems = d.journal.since(d.problems(&st, now.Round(0)), now.Round(0))
	return st
}

// String is one line for people.
func (st Status) String() string {
	counts := make(map[string]int)
	saved := st.Started
	for _, s := range st.Sources {
		counts[s.State]++
		if s.LastSaved.After(saved) {
			saved = s.LastSaved
		}
	}
	line := fmt.Sprintf("%d sources", len(st.Sources))
	if len(st.Sources) == 1 {
		line = "1 source"
	}
	switch {
	case st.Locked:
		line += ", locked: waiting for the backup key"
	case st.Paused:
		line += ", paused"
	case st.Hold != "":
		line += ", waiting: " + st.Hold
	}
	if n := len(st.Problems); n == 1 {
		line += ", 1 problem"
	} else if n > 1 {
		line += fmt.Sprintf(", %d problems", n)
	}
	for _, state := range []string{"running", "waiting", "retrying"} {
		if n := counts[state]; n > 0 {
			line += fmt.Sprintf(", %d %s", n, state)
		}
	}
	if saved.After(st.Started) {
		line += ", last saved " + saved.Format(time.DateTime)
	}
	return line
}

func (s *source) status(now time.Time, locked, paused, held bool) SourceStatus {
	wait, reason := s.due(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStatus{
		Name: s.c.Name, Path: s.c.Path, State: "idle", PendingSince: s.record.PendingSince,
		LastAttempt: s.record.LastAttempt, LastSaved: s.record.LastSaved, Snapshot: s.record.Snapshot,
		Unreadable: s.record.Unreadable, Failures: s.record.Failures, LastError: s.record.LastError,
		Hint: s.record.Hint, Lasting: s.record.Lasting,
		Watch: s.watch,
	}
	if wait < never/2 {
		st.Next, st.Reason = now.Add(max(wait, 0)), reason
	}
	switch {
	case s.cancel != nil:
		st.State, st.Progress = "running", s.current
		st.Next, st.Reason = time.Time{}, ""
	case locked:
		st.State = "locked"
	case paused:
		st.State = "paused"
	case held:
		st.State = "held"
	case s.record.Failures > 0:
		st.State = "retrying"
	case !s.first.IsZero(), wait <= 0:
		st.State = "waiting"
	}
	return st
}

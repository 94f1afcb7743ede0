package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Task is work that comes round by itself, as a check of the repository does.
type Task struct {
	Name  string        // unique
	Every time.Duration // give or take a tenth; 0: only when it is asked for

	// Run does it, and says in one line how it went. round counts the successes
	// before. It is called again when a call was cut off, by kill -9 too. An error
	// is tried again soon, one that is a lasting [Trouble] at the next turn.
	Run func(ctx context.Context, round int) (result string, err error)
}

// Trouble is an error that says what the user can do about it.
type Trouble struct {
	Err     error
	Hint    string // a command, or what to do
	Lasting bool   // trying again soon does not help: something is damaged
}

func (t *Trouble) Error() string { return t.Err.Error() }

func (t *Trouble) Unwrap() error { return t.Err }

// ErrUnknownTask means that no task has the name asked for.
var ErrUnknownTask = errors.New("daemon: no such task")

const (
	taskSettle = 5 * time.Minute // after a start and after sleep the backups come first
	taskSave   = time.Hour       // at least this often the journal notes how long tasks have waited
)

// taskRecord is what the journal keeps of a task.
type taskRecord struct {
	Left    time.Duration `json:"left"` // until it is due, counted from the journal's clock; ns
	Round   int           `json:"round,omitempty"`
	LastRun time.Time     `json:"last_run,omitzero"` // its end
	LastOK  time.Time     `json:"last_ok,omitzero"`
	Result  string        `json:"result,omitempty"` // of the last success

	Failures int    `json:"failures,omitempty"` // in a row
	Error    string `json:"error,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Lasting  bool   `json:"lasting,omitempty"`
}

// upkeep runs the tasks, one at a time. When each is due is kept as a point on
// the clock that counts from the machine's start and is never set: a jump of the
// wall clock moves nothing.
type upkeep struct {
	d    *Daemon
	wake chan struct{} // holds one

	mu      sync.Mutex // held for moments; taken after that of the journal
	tasks   []Task
	records map[string]taskRecord
	at      map[string]time.Duration // when due, on the clock that counts from the machine's start
	settled time.Duration            // nothing begins by itself before
	asked   map[string][]chan<- error
	running string
	cancel  context.CancelCauseFunc // of the running one
	byHand  bool                    // the running one was asked for
}

func newUpkeep(d *Daemon) *upkeep {
	return &upkeep{d: d, wake: make(chan struct{}, 1), records: make(map[string]taskRecord),
		at: make(map[string]time.Duration), asked: make(map[string][]chan<- error)}
}

func checkTasks(tasks []Task) error {
	names := make(map[string]bool)
	for _, t := range tasks {
		if t.Name == "" || names[t.Name] || t.Run == nil || t.Every < 0 {
			return fmt.Errorf("daemon: task %q has no name of its own or nothing to do", t.Name)
		}
		names[t.Name] = true
	}
	return nil
}

// load takes over what the journal knows, and what has passed since.
func (u *upkeep) load(tasks []Task) {
	then, records := u.d.journal.tasks()
	now := u.d.clocks()
	passed := now.since(then)
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, r := range records {
		u.records[name] = r
		u.at[name] = now.Up + r.Left - passed
	}
	u.settled = now.Up + jitter(taskSettle, 2)
	u.set(tasks, now.Up)
}

// set replaces the tasks. The caller holds mu.
func (u *upkeep) set(tasks []Task, now time.Duration) {
	u.tasks = slices.Clone(tasks)
	for _, t := range tasks {
		at, known := u.at[t.Name]
		switch {
		case !known: // a new repository need not wait a week for its first check
			u.at[t.Name] = now + jitter(t.Every/10, 2)
		case at > now+t.Every+t.Every/10: // the interval was made shorter
			u.at[t.Name] = now + jitter(t.Every, 10)
		}
	}
}

// reload replaces the tasks; one that runs goes on.
func (u *upkeep) reload(tasks []Task) {
	u.mu.Lock()
	u.set(tasks, u.d.clocks().Up)
	u.mu.Unlock()
	u.wakeUp()
}

// stamp puts the state into the journal, as it is at its reading of the clocks.
func (u *upkeep) stamp(now reading) map[string]taskRecord {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make(map[string]taskRecord)
	for name, at := range u.at {
		r := u.records[name]
		r.Left = at - now.Up
		all[name] = r
	}
	return all
}

func (u *upkeep) wakeUp() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// settle lets the backups go first after the machine slept.
func (u *upkeep) settle() {
	u.mu.Lock()
	u.settled = u.d.clocks().Up + jitter(taskSettle, 2)
	u.mu.Unlock()
	u.wakeUp()
}

// stop ends the task that runs, unless it was asked for and only is by hand spared.
func (u *upkeep) stop(why error, byHandToo bool) {
	u.mu.Lock()
	if u.cancel != nil && (byHandToo || !u.byHand) {
		u.cancel(why)
	}
	u.mu.Unlock()
	u.wakeUp()
}

// run runs what is due until ctx ends.
func (u *upkeep) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer u.d.journal.save() // how long each has waited
	saved := time.Now()
	for {
		select {
		case <-ctx.Done():
			u.refuse(errors.New("the daemon stops"))
			return nil
		case <-u.wake:
		case <-timer.C:
		}
		if time.Since(saved) >= taskSave {
			saved = time.Now()
			u.d.journal.save()
		}
		t, asked, wait := u.next()
		if wait <= 0 {
			u.do(ctx, t, asked)
			wait = 0
		}
		timer.Reset(min(wait, taskSave))
	}
}

// next is the task to run, and when: what was asked for, then what is due longest.
func (u *upkeep) next() (t Task, asked []chan<- error, wait time.Duration) {
	free := u.d.waiting(time.Now()) == ""
	now := u.d.clocks().Up
	u.mu.Lock()
	defer u.mu.Unlock()
	wait = never
	for _, one := range u.tasks {
		if asked := u.asked[one.Name]; asked != nil {
			delete(u.asked, one.Name)
			return one, asked, 0
		}
		if left := max(u.at[one.Name], u.settled) - now; one.Every > 0 && free && left < wait {
			t, wait = one, left
		}
	}
	return t, nil, wait
}

// refuse answers all that ask.
func (u *upkeep) refuse(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, asked := range u.asked {
		for _, done := range asked {
			done <- err
		}
		delete(u.asked, name)
	}
}

// do runs one task and notes how it went.
func (u *upkeep) do(ctx context.Context, t Task, asked []chan<- error) {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.mu.Lock()
	u.running, u.cancel, u.byHand = t.Name, cancel, asked != nil
	round := u.records[t.Name].Round
	u.mu.Unlock()
	log := u.d.log.With(zap.String("task", t.Name))
	log.Info("task begins")
	begun := time.Now()
	result, err := t.Run(run, round)
	took := time.Since(begun)
	if err != nil && context.Cause(run) != nil {
		err = &stopped{context.Cause(run)}
	}
	e := u.end(t, result, err)
	e.Took = took
	u.d.journal.save()
	switch {
	case err == nil:
		log.Info("task done", zap.String("result", result), zap.Duration("took", took))
	case e.Kind == TaskStopped:
		log.Info("task stopped", zap.String("reason", err.Error()))
	default:
		log.Warn("task failed", zap.Error(err), zap.String("hint", e.Hint))
	}
	u.d.metrics.task(t.Name, err)
	u.d.events.publish(e)
	for _, done := range asked {
		done <- err
	}
}

// stopped is why a task was cut off; that is no failure.
type stopped struct{ why error }

func (s *stopped) Error() string { return s.why.Error() }

func (s *stopped) Unwrap() error { return s.why }

// end puts the outcome into the record and decides when the next turn is.
func (u *upkeep) end(t Task, result string, err error) Event {
	now, up := time.Now().Round(0), u.d.clocks().Up
	e := Event{Kind: TaskDone, Task: t.Name, Result: result}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running, u.cancel, u.byHand = "", nil, false
	r := u.records[t.Name]
	var cut *stopped
	var trouble *Trouble
	switch {
	case errors.As(err, &cut), errors.Is(err, ErrLocked):
		e.Kind, e.Error = TaskStopped, err.Error()
		u.at[t.Name] = max(u.at[t.Name], up+jitter(firstRetry, 4))
		return e
	case err == nil:
		r.Round++
		r.LastOK, r.Result = now, result
		r.Failures, r.Error, r.Hint, r.Lasting = 0, "", "", false
		u.at[t.Name] = up + jitter(t.Every, 10)
	default:
		r.Failures++
		r.Error, r.Hint, r.Lasting = err.Error(), "", false
		if errors.As(err, &trouble) {
			r.Hint, r.Lasting = trouble.Hint, trouble.Lasting
		}
		u.at[t.Name] = up + backoff(r.Failures)
		if r.Lasting && t.Every > 0 {
			u.at[t.Name] = up + jitter(t.Every, 10)
		}
		e.Kind, e.Error, e.Hint = TaskFailed, r.Error, r.Hint
	}
	r.LastRun = now
	u.records[t.Name] = r
	return e
}

// RunTask runs a task now, even if the daemon is paused, and waits for its end.
// ErrUnknownTask; else the error is that of the task.
func (d *Daemon) RunTask(ctx context.Context, name string) (TaskStatus, error) {
	if err := d.Ready(); err != nil {
		return TaskStatus{}, err
	}
	done := make(chan error, 1)
	u := d.upkeep
	u.mu.Lock()
	known := slices.ContainsFunc(u.tasks, func(t Task) bool { return t.Name == name })
	if known {
		u.asked[name] = append(u.asked[name], done)
	}
	u.mu.Unlock()
	if !known {
		return TaskStatus{}, fmt.Errorf("%w: %q", ErrUnknownTask, name)
	}
	u.wakeUp()
	select {
	case <-ctx.Done():
		return TaskStatus{}, ctx.Err()
	case err := <-done:
		for _, t := range u.status() {
			if t.Name == name {
				return t, err
			}
		}
		return TaskStatus{}, err
	}
}

// TaskStatus is the state of a task.
type TaskStatus struct {
	Name     string        `json:"name"`
	State    string        `json:"state"` // "running", "failed" (the last run), "waiting" (paused, locked, on battery) or "idle"
	Every    time.Duration `json:"every"` // ns; 0: only when it is asked for
	Next     time.Time     `json:"next,omitzero"`
	LastRun  time.Time     `json:"last_run,omitzero"`
	LastOK   time.Time     `json:"last_ok,omitzero"`
	Result   string        `json:"result,omitempty"` // of the last success
	Failures int           `json:"failures"`         // in a row
	Error    string        `json:"error,omitempty"`
	Hint     string        `json:"hint,omitempty"` // what to do about it
	Lasting  bool          `json:"lasting"`        // the error is of a kind that does not pass
}

func (u *upkeep) status() []TaskStatus {
	now := time.Now().Round(0)
	waits := u.d.waiting(now) != ""
	up := u.d.clocks().Up
	u.mu.Lock()
	defer u.mu.Unlock()
	all := []TaskStatus{}
	for _, t := range u.tasks {
		r := u.records[t.Name]
		s := TaskStatus{Name: t.Name, State: "idle", Every: t.Every, LastRun: r.LastRun, LastOK: r.LastOK, Result: r.Result,
			Failures: r.Failures, Error: r.Error, Hint: r.Hint, Lasting: r.Lasting}
		left := max(u.at[t.Name], u.settled) - up
		if t.Every > 0 {
			s.Next = now.Add(max(left, 0))
		}
		switch {
		case u.running == t.Name:
			s.State, s.Next = "running", time.Time{}
		case r.Failures > 0:
			s.State = "failed"
		case waits && left <= 0 && t.Every > 0:
			s.State = "waiting"
		}
		all = append(all, s)
	}
	return all
}

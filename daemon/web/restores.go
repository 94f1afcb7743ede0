package web

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
)

// keptRestores is how many restores, of those that have ended, are remembered.
const keptRestores = 20

// errBusy means that another restore is under way.
var errBusy = errors.New("web: a restore is under way")

// restores runs what the page restores, one after the other, and remembers the
// last ones until the daemon ends.
type restores struct {
	log  *zap.Logger
	ctx  context.Context
	end  context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	last int
	all  []*restoring // oldest first
}

// restoring is one restore, or a look at what it would do.
type restoring struct {
	id     int
	ask    restoreAsk
	stop   context.CancelFunc
	finish chan struct{} // closed at the end

	mu     sync.Mutex
	state  backup.Progress
	report backup.Report // at the end, with err
	err    error
}

// restoreAsk is what somebody wants restored.
type restoreAsk struct {
	repo     Repo
	snapshot *backup.Snapshot
	path     string // in the snapshot
	to       string // folder on this machine
	mode     string // as --overwrite of coffer restore; "": replace nothing
	verify   bool
	pretend  bool // only say what would happen
}

func newRestores(log *zap.Logger) *restores {
	r := &restores{log: log}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// close stops what runs and waits for it.
func (r *restores) close() {
	r.end()
	r.done.Wait()
}

// start begins a restore.
func (r *restores) start(ask restoreAsk) (*restoring, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.all); n > 0 && r.all[n-1].running() {
		return nil, errBusy
	}
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	r.last++
	ctx, stop := context.WithCancel(r.ctx)
	run := &restoring{id: r.last, ask: ask, stop: stop, finish: make(chan struct{})}
	r.all = append(r.all[max(0, len(r.all)-keptRestores+1):], run)
	r.done.Go(func() { r.run(ctx, run) })
	return run, nil
}

func (r *restores) run(ctx context.Context, run *restoring) {
	defer run.stop()
	defer close(run.finish)
	o, careful := run.ask.options()
	o.Progress = func(p backup.Progress) {
		run.mu.Lock()
		defer run.mu.Unlock()
		run.state = p
	}
	restore := run.ask.repo.Restore
	if careful {
		restore = run.ask.repo.RestoreNew
	}
	began := time.Now()
	report, err := restore(ctx, o)
	run.mu.Lock()
	defer run.mu.Unlock()
	run.report, run.err = report, err
	if !run.ask.pretend {
		r.log.Info("web: restore", zap.String("snapshot", o.Snapshot.ID), zap.Int64("files", report.Files), zap.Int("failed", len(report.Failed)),
			zap.Duration("took", time.Since(began)), zap.Bool("ok", err == nil))
	}
}

// options are those of the engine; careful says that nothing may be replaced.
func (a *restoreAsk) options() (o backup.RestoreOptions, careful bool) {
	o = backup.RestoreOptions{Snapshot: a.snapshot, To: a.to, Verify: a.verify, DryRun: a.pretend}
	if a.path != "/" {
		o.Paths, o.Strip = []string{a.path}, true
	}
	var known bool
	o.Overwrite, known = backup.ParseOverwrite(a.mode)
	return o, !known && !a.pretend
}

// find gives the restore with a number, nil if it is not remembered.
func (r *restores) find(id int) *restoring {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.all {
		if run.id == id {
			return run
		}
	}
	return nil
}

// newest gives the last restore, nil if there was none; looks do not count
// when they have ended.
func (r *restores) newest() *restoring {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.all) - 1; i >= 0; i-- {
		if run := r.all[i]; !run.ask.pretend || run.running() {
			return run
		}
	}
	return nil
}

func (r *restoring) running() bool {
	select {
	case <-r.finish:
		return false
	default:
		return true
	}
}

// look gives what is known: progress while it runs, report and err at the end.
func (r *restoring) look() (p backup.Progress, report backup.Report, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.report, r.err
}

// hint is what to do about an error, "" if nobody knows.
func hint(err error) string {
	if t, ok := errors.AsType[*daemon.Trouble](err); ok {
		return t.Hint
	}
	return ""
}

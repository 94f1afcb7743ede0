// Package upkeep is what keeps a repository well beside the backups: old
// snapshots are forgotten by rules, space is freed, structure and data are
// checked, and a random sample is restored and compared.
//
// [Tasks] makes the tasks that the daemon runs in turn. Each may be cut off at any
// moment and run again; several machines may do the same to one repository.
package upkeep

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"coffer/backup"
	"coffer/daemon"
	"coffer/internal/human"
)

// Repo is what the tasks need of a repository; *backup.Repo is one.
type Repo interface {
	Snapshots(ctx context.Context) ([]*backup.Snapshot, error)
	List(ctx context.Context, s *backup.Snapshot, name string, fn func(backup.Entry) error) error
	Restore(ctx context.Context, o backup.RestoreOptions) (backup.Report, error)
	Forget(ctx context.Context, o backup.ForgetOptions) (backup.ForgetReport, error)
	Prune(ctx context.Context, o backup.PruneOptions) (backup.PruneReport, error)
	Check(ctx context.Context, o backup.CheckOptions) (backup.CheckReport, error)
}

// Source is a source as far as it is kept well.
type Source struct {
	Name string
	Keep backup.Keep // the zero value keeps everything
}

// Config says what is done and how often. An interval of 0 or less leaves the
// turn out; the task can still be asked for.
type Config struct {
	Open    func(context.Context) (Repo, error) // required
	Host    string                              // required: only snapshots of this machine are forgotten and restored
	Sources []Source
	Dir     string // required: a folder of our own, below which samples are restored; removed afterwards

	Forget, Prune, Check, Read, Drill time.Duration // how often

	ReadAll time.Duration // within which all data is read back, by parts of one each turn of Read
	Log     *zap.Logger   // nil logs nothing
}

// The names of the tasks, in the order in which they run when all are due.
const (
	Forget = "forget" // snapshots that no rule keeps
	Prune  = "prune"  // free what no snapshot needs
	Check  = "check"  // the structure
	Read   = "read"   // a part of the data
	Drill  = "drill"  // restore a sample and compare it
)

// Tasks makes the tasks.
func Tasks(c Config) []daemon.Task {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	k := &keeper{c}
	with := func(name string, every time.Duration, fn func(context.Context, Repo, int) (string, error)) daemon.Task {
		return daemon.Task{Name: name, Every: max(every, 0), Run: func(ctx context.Context, round int) (string, error) {
			repo, err := c.Open(ctx)
			if err != nil {
				return "", err
			}
			return fn(ctx, repo, round)
		}}
	}
	all := []daemon.Task{
		with(Prune, c.Prune, k.prune), with(Check, c.Check, k.check), with(Read, c.Read, k.read), with(Drill, c.Drill, k.drill),
	}
	for _, s := range c.Sources {
		if !s.Keep.Empty() {
			return append([]daemon.Task{with(Forget, c.Forget, k.forget)}, all...)
		}
	}
	return all
}

// keeper does the work.
type keeper struct{ c Config }

// forget applies the rules of each source to its snapshots of this machine.
func (k *keeper) forget(ctx context.Context, repo Repo, _ int) (string, error) {
	removed, kept := 0, 0
	for _, s := range k.c.Sources {
		if s.Keep.Empty() {
			continue
		}
		r, err := repo.Forget(ctx, backup.ForgetOptions{Keep: s.Keep, Host: k.c.Host, Source: s.Name})
		if err != nil {
			return "", fmt.Errorf("source %s: %w", s.Name, err)
		}
		removed += len(r.Removed)
		for _, snap := range r.Kept { // those of others are among them
			if snap.Host == k.c.Host && snap.Source == s.Name {
				kept++
			}
		}
	}
	return fmt.Sprintf("snapshots: %d removed, %d stay", removed, kept), nil
}

func (k *keeper) prune(ctx context.Context, repo Repo, _ int) (string, error) {
	r, err := repo.Prune(ctx, backup.PruneOptions{})
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("%d packs (%s) removed; %d (%s) marked, to be removed after the grace time", r.Removed, human.Size(r.RemovedBytes), r.Marked, human.Size(r.MarkedBytes))
	if l := r.Locks; l != (backup.Relocked{}) {
		said += fmt.Sprintf("; %d objects locked anew, %d (%s) removed but still locked", l.Extended, l.Hidden, human.Size(l.HiddenBytes))
	}
	return said, nil
}

func (k *keeper) check(ctx context.Context, repo Repo, _ int) (string, error) {
	r, err := repo.Check(ctx, backup.CheckOptions{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("all there: snapshots %d, packs %d", r.Snapshots, r.Packs), k.sound(r)
}

// read reads one part, so that after ReadAll every pack was read: which part a
// pack belongs to follows from its name.
func (k *keeper) read(ctx context.Context, repo Repo, round int) (string, error) {
	of := 1
	if k.c.Read > 0 {
		of = int(max(1, k.c.ReadAll/k.c.Read))
	}
	part := round%of + 1
	r, err := repo.Check(ctx, backup.CheckOptions{ReadData: true, Part: part, Of: of})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s read back, part %d of %d", human.Size(r.Bytes), part, of), k.sound(r)
}

// sound turns what a check found into an error.
func (k *keeper) sound(r backup.CheckReport) error {
	for i, p := range r.Problems {
		if i == 100 {
			break // the log need not have them all: the command lists them
		}
		k.c.Log.Error("damage", zap.String("object", p.Object), zap.String("error", p.Err), zap.Int("touches", len(p.Touches)))
	}
	switch {
	case len(r.Problems) > 0:
		return &daemon.Trouble{Lasting: true, Err: fmt.Errorf("%d objects of the backup are damaged or missing", len(r.Problems)),
			Hint: `"coffer check" says which files they touch, "coffer repair" saves the rest`}
	case len(r.Rollbacks) > 0:
		return &daemon.Trouble{Lasting: true, Err: fmt.Errorf("the storage has lost snapshots that %d writers had published", len(r.Rollbacks)),
			Hint: `"coffer check" says more; another upstream may still have them: "coffer check --mirrors"`}
	}
	return nil
}

package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/scan"
)

// ErrBusy means that another process backs up the same source from this machine.
var ErrBusy = errors.New("backup: source is being backed up by another process")

// Backup saves the paths as a new snapshot, which is durable when Backup returns
// without error. What could not be read is in the Report; the rest is saved. A
// run that ends early, even by kill -9, leaves what it has stored to the next one.
func (r *Repo) Backup(ctx context.Context, o BackupOptions) (*Snapshot, Report, error) {
	r.backups.Lock()
	defer r.backups.Unlock()
	if err := o.fill(); err != nil {
		return nil, Report{}, fmt.Errorf("backing up: %w", err)
	}
	began := time.Now()
	snap, rep, err := r.backup(ctx, &o)
	for try := 1; errors.Is(err, errOvertaken) && try < overtakings; try++ {
		r.log.Info("a prune has overtaken the backup: what it removed is stored again", zap.String("source", o.Source))
		snap, rep, err = r.backup(ctx, &o)
	}
	rep.Took = time.Since(began)
	if err != nil {
		return nil, rep, fmt.Errorf("backing up %s: %w", o.Source, err)
	}
	return snap, rep, nil
}

// overtakings is how often a run is repeated that a prune has overtaken.
const overtakings = 3

// fill checks the options and sets what was left out.
func (o *BackupOptions) fill() (err error) {
	if o.Source == "" {
		return errors.New("source has no name")
	}
	if o.Paths, err = scan.Absolute(o.Paths); err != nil {
		return err
	}
	if o.Host == "" {
		if o.Host, err = os.Hostname(); err != nil {
			return fmt.Errorf("finding the name of this host: %w", err)
		}
	}
	if o.User == "" {
		if u, err := user.Current(); err == nil {
			o.User = u.Username
		}
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	if o.ExcludeFiles == nil {
		o.ExcludeFiles = []string{".cofferignore"}
	}
	o.Tags = slices.Clone(o.Tags)
	for i := range o.Tags {
		o.Tags[i] = utf8(o.Tags[i])
	}
	slices.Sort(o.Tags)
	return nil
}

// key names the files in the cache that belong to a source.
func (o *BackupOptions) key() string {
	h := sha256.Sum256([]byte(strings.Join(append([]string{o.Host, o.Source}, o.Paths...), "\x00")))
	return hex.EncodeToString(h[:16])
}

func (r *Repo) backup(ctx context.Context, o *BackupOptions) (*Snapshot, Report, error) {
	unlock, err := r.lockSource(o.key())
	if err != nil {
		return nil, Report{}, err
	}
	defer unlock()
	// Deletions first: one that is not there any more has been carried out, and
	// the index that is read after that does not know the packs.
	if _, err := r.condemn(ctx); err != nil {
		return nil, Report{}, err
	}
	if err := r.st.Refresh(ctx); err != nil {
		return nil, Report{}, err
	}
	shrinks := r.st.Shrinks()
	all, err := r.Snapshots(ctx)
	if err != nil { // one that is damaged must not keep new ones from being made
		if ctx.Err() != nil {
			return nil, Report{}, err
		}
		r.log.Warn("a snapshot cannot be read", zap.Error(err))
	}
	parent := parentOf(all, o)
	res, err := scan.Run(ctx, r.st, r.scanOptions(o, parent))
	if err != nil {
		res.Abort()
		return nil, res.Report, err
	}
	r.metrics.count(&res.Report)
	s, err := r.publish(ctx, o, res, parent, all, shrinks)
	if err != nil || o.DryRun {
		res.Abort()
		return s, res.Report, err
	}
	if err := res.Commit(); err != nil {
		r.log.Warn("directories could not be cached: the next run fetches them", zap.Error(err))
	}
	return s, res.Report, nil
}

func (r *Repo) scanOptions(o *BackupOptions, parent *Snapshot) scan.Options {
	so := o.chooses()
	so.ExcludeDir, so.Trees, so.Journal = r.st.CacheFile(), r.st.CacheFile("trees", o.key()), r.st.CacheFile("journal-"+o.key())
	so.NoCompress, so.Rescan, so.DryRun, so.Log, so.Progress = o.NoCompress, o.Rescan, o.DryRun, r.log, o.Progress
	if parent != nil {
		so.Parent = &parent.root
	}
	return so
}

// lockSource keeps other processes from writing the same journal.
func (r *Repo) lockSource(key string) (unlock func(), err error) {
	if r.st.CacheFile() == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(r.st.CacheFile("lock-"+key), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the source: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, ErrBusy
	}
	return func() { f.Close() }, nil
}

// parentOf returns the snapshot that a run is compared with.
func parentOf(all []*Snapshot, o *BackupOptions) *Snapshot {
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		if s.Source == utf8(o.Source) && s.Host == utf8(o.Host) && slices.Equal(s.Paths, o.Paths) {
			return s
		}
	}
	return nil
}

// publish writes the snapshot, unless nothing has changed and that is wanted so.
func (r *Repo) publish(ctx context.Context, o *BackupOptions, res *scan.Result, parent *Snapshot, all []*Snapshot, shrinks int) (*Snapshot, error) {
	s := &Snapshot{Time: o.Time.UTC(), End: time.Now().UTC(), Host: o.Host, User: o.User, Source: o.Source, Paths: o.Paths,
		Tags: o.Tags, Program: "coffer", Stats: res.Report.Statistics, Partial: res.Partial,
		root: res.Root, users: res.Users, groups: res.Groups}
	if o.DryRun {
		return s, nil
	}
	if parent != nil {
		s.Parent = parent.ID
		if o.SkipUnchanged && parent.root.Subtree == s.root.Subtree && parent.root.Mode == s.root.Mode {
			return parent, nil
		}
	}
	if err := r.stillThere(ctx, s, shrinks); err != nil {
		return nil, err
	}
	var err error
	if s.writer, err = r.writerID(); err != nil {
		return nil, err
	}
	if err := r.publishSnapshot(ctx, s); err != nil {
		return nil, err
	}
	if err := r.publishHead(ctx, append(all, s), nil); err != nil {
		r.log.Warn("the head could not be written: the next run says it", zap.Error(err))
	}
	return s, nil
}

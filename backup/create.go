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
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"coffer/backup/tree"
	"coffer/seal"
	"coffer/upstream"
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
	rep.Took = time.Since(began)
	if err != nil {
		return nil, rep, fmt.Errorf("backing up %s: %w", o.Source, err)
	}
	return snap, rep, nil
}

// fill checks the options and sets what was left out.
func (o *BackupOptions) fill() (err error) {
	if o.Source == "" {
		return errors.New("source has no name")
	}
	if o.Paths, err = absolute(o.Paths); err != nil {
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
	if err := r.refresh(ctx); err != nil {
		return nil, Report{}, err
	}
	all, err := r.Snapshots(ctx)
	if err != nil { // one that is damaged must not keep new ones from being made
		if len(all) == 0 && ctx.Err() != nil {
			return nil, Report{}, err
		}
		r.log.Warn("a snapshot cannot be read", zap.Error(err))
	}
	parent := parentOf(all, o)
	n := r.newRun(o)
	defer n.prev.close()
	top, err := n.store(ctx, parent)
	rep := Report{Statistics: n.statistics(), Failed: n.failures, Warnings: n.warnings}
	if err != nil {
		n.next.abort()
		n.journal.close(false)
		return nil, rep, err
	}
	snap, err := n.publish(ctx, top, parent, all)
	n.journal.close(err == nil && !o.DryRun)
	n.countFiles()
	return snap, rep, err
}

// lockSource keeps other processes from writing the same journal.
func (r *Repo) lockSource(key string) (unlock func(), err error) {
	if r.cache == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(r.cacheFile("lock-"+key), os.O_CREATE|os.O_RDWR, 0o600)
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

func (r *Repo) newRun(o *BackupOptions) *run {
	n := &run{r: r, o: o, started: time.Now(), uids: make(map[uint32]string), gids: make(map[uint32]string)}
	trees, journal := "", ""
	if r.cache != "" {
		trees, journal = r.cacheFile("trees", o.key()), r.cacheFile("journal-"+o.key())
		var st unix.Stat_t
		if unix.Stat(r.cache, &st) == nil {
			n.ownDev, n.ownIno = st.Dev, st.Ino
		}
	}
	n.prev = r.openPrevious(trees)
	if o.DryRun {
		trees, journal = "", ""
	}
	n.next = newTreeWriter(trees)
	n.journal = r.openJournal(journal)
	return n
}

// store walks, reads and stores everything, and returns the top directory.
func (n *run) store(ctx context.Context, parent *Snapshot) (*dirNode, error) {
	n.s = n.r.newStore(ctx, n.o.DryRun, n.journal.pack)
	n.ctx = n.s.ctx
	if n.o.Progress != nil {
		defer tick(func() { n.o.Progress(n.progress("store")) })()
	}
	n.s.fail(n.resume())
	tasks := make(chan task, 256)
	var readers sync.WaitGroup
	for range max(2, n.r.workers) {
		readers.Go(func() { n.s.fail(n.newReader().loop(tasks)) })
	}
	var prev *tree.Entry
	if parent != nil {
		prev = &parent.root
	}
	sc := &scanner{run: n, tasks: tasks, buf: make([]byte, 32<<10), ids: make(map[uint64]uint64)}
	top, err := sc.scan(n.o.Paths, prev)
	n.counted.Store(true)
	n.s.fail(err)
	close(tasks)
	readers.Wait()
	if err := n.s.finish(); err != nil {
		return nil, err
	}
	return top, nil
}

// resume takes in the packs that a killed run has stored and no index knows.
func (n *run) resume() error {
	for _, rec := range n.journal.packs {
		n.r.mu.RLock()
		_, known := n.r.table.Number(rec.Name)
		n.r.mu.RUnlock()
		if known {
			continue
		}
		info, err := n.r.bucket.Head(n.ctx, packName(rec.Name))
		if errors.Is(err, upstream.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for %s: %w", packName(rec.Name), err)
		}
		if info.Size == seal.SealedSize(int64(rec.Size)) {
			n.s.landed(rec)
		}
	}
	return nil
}

// publish writes the snapshot, unless nothing has changed and that is wanted so.
func (n *run) publish(ctx context.Context, top *dirNode, parent *Snapshot, all []*Snapshot) (*Snapshot, error) {
	n.ownerNames()
	o := n.o
	s := &Snapshot{Time: o.Time.UTC(), End: time.Now().UTC(), Host: o.Host, User: o.User, Source: o.Source, Paths: o.Paths,
		Tags: o.Tags, Program: "coffer", Stats: n.statistics(), Partial: n.partial, root: top.top, users: n.uids, groups: n.gids}
	if o.DryRun {
		n.next.abort()
		return s, nil
	}
	if parent != nil {
		s.Parent = parent.ID
		if o.SkipUnchanged && parent.root.Subtree == s.root.Subtree && parent.root.Mode == s.root.Mode {
			return parent, n.next.commit()
		}
	}
	var err error
	if s.writer, err = n.r.writerID(); err != nil {
		return nil, err
	}
	if err := n.r.publishSnapshot(ctx, s); err != nil {
		return nil, err
	}
	if err := n.r.publishHead(ctx, append(all, s), nil); err != nil {
		n.r.log.Warn("the head could not be written: the next run says it", zap.Error(err))
	}
	if err := n.next.commit(); err != nil {
		n.r.log.Warn("directories could not be cached: the next run fetches them", zap.Error(err))
	}
	return s, nil
}

func (n *run) countFiles() {
	c := n.r.metrics.files
	c.WithLabelValues("new").Add(float64(n.fresh.Load()))
	c.WithLabelValues("changed").Add(float64(n.changed.Load()))
	c.WithLabelValues("unchanged").Add(float64(n.unchangedFiles.Load()))
	n.r.metrics.read.Add(float64(n.read.Load()))
	n.r.metrics.added.Add(float64(n.s.added.Load()))
}

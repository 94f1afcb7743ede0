package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"coffer/backup/chunk"
	"coffer/backup/report"
	"coffer/backup/scan"
	"coffer/backup/tree"
)

// BringReport says what was brought from another repository.
type BringReport struct {
	Snapshots []*Snapshot `json:"snapshots"` // that are new here
	Present   int         `json:"present"`   // snapshots that had been brought before
	Files     int64       `json:"files"`     // of the new ones
	Bytes     int64       `json:"bytes"`     // of these
	Read      int64       `json:"read"`      // bytes of content that had to be read there
	Uploaded  int64       `json:"uploaded"`  // bytes sent
	Failed    []FileError `json:"failed"`    // what could not be read there: kept without its content
}

// foreign is a repository that snapshots are brought from. Its errors are about
// what it cannot read, not about where it is brought to.
type foreign interface {
	// snapshots are those that there are, oldest first.
	snapshots(ctx context.Context) ([]*foreignSnapshot, error)
	// dir returns the entries of a directory, ascending by name.
	dir(ctx context.Context, e *foreignEntry) ([]foreignEntry, error)
	// open returns the data of a file between its holes.
	open(ctx context.Context, e *foreignEntry) io.Reader
}

// foreignSnapshot is one of another repository: Origin says which, and root is
// not set.
type foreignSnapshot struct {
	Snapshot
	top foreignEntry
}

// foreignEntry is an entry without what says where its content lies here.
type foreignEntry struct {
	tree.Entry
	key  string // equal for files of equal content, and for equal directories
	from any    // what the repository needs to find it
}

// bringer brings snapshots, and remembers what it has brought.
type bringer struct {
	r        *Repo
	from     foreign
	run      *running
	in       *scan.Intake
	log      report.Log
	progress func(Progress)
	started  time.Time
	rep      BringReport
	stat     Statistics // of the snapshot at work
	dirs     map[string]knownDir
	files    map[string]content
}

// knownDir is a directory that lies here, with how much there is in it.
type knownDir struct {
	id                  chunk.ID
	size                int64
	count               uint64
	files, dirs, others int64
}

// content is where the content of a file lies here.
type content struct {
	ids      []chunk.ID
	indirect bool
}

// bring makes snapshots here of those there that were not brought before. What it
// has brought stays when it ends early, and what it was at is read again.
func (r *Repo) bring(ctx context.Context, from foreign, progress func(Progress)) (BringReport, error) {
	b := &bringer{r: r, from: from, progress: progress, started: time.Now(), dirs: make(map[string]knownDir), files: make(map[string]content)}
	r.backups.Lock()
	defer r.backups.Unlock()
	err := b.all(ctx)
	b.rep.Failed = b.log.Report(Statistics{}).Failed
	return b.rep, err
}

func (b *bringer) all(ctx context.Context) error {
	there, err := b.from.snapshots(ctx)
	if err != nil {
		return err
	}
	if b.run, err = b.r.begin(ctx); err != nil {
		return err
	}
	known := make(map[string]*Snapshot)
	for _, s := range b.run.all {
		known[s.Origin] = s
	}
	if err := b.seed(ctx, there, known); err != nil {
		return err
	}
	for _, f := range there {
		if known[f.Origin] != nil {
			b.rep.Present++
			continue
		}
		s, err := b.snapshot(ctx, f)
		if err != nil {
			return fmt.Errorf("snapshot of %s: %w", f.Time.Local().Format(time.DateTime), err)
		}
		known[f.Origin] = s
		b.rep.Snapshots = append(b.rep.Snapshots, s)
	}
	return nil
}

// seed learns from what was brought before, so that only what is new is read.
func (b *bringer) seed(ctx context.Context, there []*foreignSnapshot, known map[string]*Snapshot) error {
	newest := make(map[string]*foreignSnapshot) // of each group, before one that is to be brought
	for _, f := range there {
		group := fmt.Sprintf("%q %q", f.Host, f.Paths)
		if known[f.Origin] != nil {
			newest[group] = f
		} else if old := newest[group]; old != nil {
			if err := b.learn(ctx, &old.top, &known[old.Origin].root); err != nil {
				return err
			}
			delete(newest, group)
		}
	}
	return nil
}

// learn compares a directory there with what it became here. What cannot be read is
// brought again.
func (b *bringer) learn(ctx context.Context, there *foreignEntry, here *tree.Entry) error {
	if _, ok := b.dirs[there.key]; ok || here.Flags&tree.Missing != 0 {
		return ctx.Err()
	}
	entries, err := b.from.dir(ctx, there)
	if err != nil {
		return ctx.Err()
	}
	mine, err := b.r.st.Dir(ctx, here.Subtree)
	if err != nil {
		return ctx.Err()
	}
	whole := len(entries) == len(mine)
	sum := knownDir{id: here.Subtree, size: here.Size, count: here.Count}
	for i := range entries {
		e := &entries[i]
		j, ok := slices.BinarySearchFunc(mine, e.Name, func(m tree.Entry, name string) int { return strings.Compare(m.Name, name) })
		if !ok || mine[j].Type != e.Type || mine[j].Flags&tree.Missing != 0 {
			whole = false
			continue
		}
		switch m := &mine[j]; e.Type {
		case tree.Dir:
			if err := b.learn(ctx, e, m); err != nil {
				return err
			}
			sub, ok := b.dirs[e.key]
			whole = whole && ok
			sum.files, sum.dirs, sum.others = sum.files+sub.files, sum.dirs+sub.dirs+1, sum.others+sub.others
		case tree.File:
			sum.files++
			if ids, err := b.r.st.FileIDs(ctx, m); err == nil && b.r.st.HasAll(ids) && b.r.st.HasAll(m.Content) && m.Size == e.Size {
				b.files[e.key] = content{m.Content, m.Flags&tree.Indirect != 0}
			} else {
				whole = false
			}
		default:
			sum.others++
		}
	}
	if whole && b.r.st.HasAll([]chunk.ID{here.Subtree}) {
		b.dirs[there.key] = sum
	}
	return ctx.Err()
}

// snapshot brings one.
func (b *bringer) snapshot(ctx context.Context, f *foreignSnapshot) (*Snapshot, error) {
	b.stat = Statistics{}
	failures := b.log.Failures()
	b.in = scan.NewIntake(ctx, b.r.st, false)
	top := f.top.Entry
	b.in.Fail(b.dir(b.in.Context(), "", &f.top, &top))
	if err := b.in.Finish(); err != nil {
		return nil, err
	}
	s := f.Snapshot
	b.stat.Added, b.stat.Uploaded, b.stat.Packs = b.in.Added(), b.in.Uploaded(), b.in.Packs()
	s.root, s.Stats, s.Partial = top, b.stat, s.Partial || b.log.Failures() > failures
	if err := b.run.publish(ctx, &s); err != nil {
		return nil, err
	}
	b.rep.Files += b.stat.Files
	b.rep.Bytes += b.stat.Bytes
	b.rep.Read += b.stat.Read
	b.rep.Uploaded += b.stat.Uploaded
	return &s, nil
}

// dir brings a directory and all below it, and completes e.
func (b *bringer) dir(ctx context.Context, path string, there *foreignEntry, e *tree.Entry) error {
	b.stat.Dirs++
	if known, ok := b.dirs[there.key]; ok && e.Flags&tree.Missing == 0 {
		e.Subtree, e.Size, e.Count = known.id, known.size, known.count
		b.stat.Bytes += known.size
		b.stat.Files += known.files
		b.stat.Unchanged += known.files
		b.stat.Dirs += known.dirs
		b.stat.Others += known.others
		return ctx.Err()
	}
	before := b.stat
	if b.progress != nil {
		b.progress(Progress{Phase: "import", Started: b.started, Files: b.rep.Files + b.stat.Files, Bytes: b.rep.Bytes + b.stat.Bytes, Current: path})
	}
	var entries []foreignEntry
	var err error
	if e.Flags&tree.Missing == 0 {
		entries, err = b.from.dir(ctx, there)
	}
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.log.Failed(path+"/", err)
		e.Flags |= tree.Missing
		entries = nil
	}
	failures := b.log.Failures()
	out := make([]tree.Entry, len(entries))
	for i := range entries {
		out[i] = entries[i].Entry
		if err := b.entry(ctx, path+"/"+out[i].Name, &entries[i], &out[i]); err != nil {
			return err
		}
	}
	if err := b.in.Dir(e, out); err != nil {
		return err
	}
	if b.log.Failures() == failures && e.Flags&tree.Missing == 0 {
		b.dirs[there.key] = knownDir{e.Subtree, e.Size, e.Count, b.stat.Files - before.Files, b.stat.Dirs - before.Dirs, b.stat.Others - before.Others}
	}
	return nil
}

func (b *bringer) entry(ctx context.Context, path string, there *foreignEntry, e *tree.Entry) error {
	switch e.Type {
	case tree.Dir:
		return b.dir(ctx, path, there, e)
	case tree.File:
		b.stat.Files++
		b.stat.Bytes += e.Size
		return b.file(ctx, path, there, e)
	}
	b.stat.Others++
	return ctx.Err()
}

func (b *bringer) file(ctx context.Context, path string, there *foreignEntry, e *tree.Entry) error {
	if e.Flags&tree.Missing != 0 {
		return nil
	}
	if known, ok := b.files[there.key]; ok {
		e.Content = known.ids
		if known.indirect {
			e.Flags |= tree.Indirect
		}
		b.stat.Unchanged++
		return ctx.Err()
	}
	src := &watched{r: b.from.open(ctx, there)}
	b.stat.New++
	err := b.in.File(e, src)
	b.stat.Read += src.n
	switch {
	case err == nil:
		b.files[there.key] = content{e.Content, e.Flags&tree.Indirect != 0}
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case src.err == nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return err // it could not be stored
	}
	b.log.Failed(path, err)
	b.stat.Bytes -= e.Size
	e.Flags |= tree.Missing
	e.Content, e.Holes, e.Size = nil, nil, 0
	return nil
}

// watched tells errors of reading from those of what is done with the bytes.
type watched struct {
	r   io.Reader
	n   int64
	err error
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/backup/chunk"
	"coffer/backup/pack"
	"coffer/backup/report"
	"coffer/backup/store"
	"coffer/backup/tree"
	"coffer/seal"
	"coffer/upstream"
)

// maxTouches bounds what a Problem lists.
const maxTouches = 1000

// checker is one check at work. Problems are gathered by object; which files a
// damaged object touches is found at the end, by walking the snapshots.
type checker struct {
	r       *Repo
	o       *CheckOptions
	started time.Time

	mu       sync.Mutex
	problems map[string]*Problem
	lost     map[string]bool     // objects that are not what they should be, whoever is asked
	bad      map[chunk.ID]string // chunks that cannot be had, and the object to blame
	clean    map[chunk.ID]bool   // directories below which all is well
	bytes    atomic.Int64
	packs    atomic.Int64
	all      atomic.Int64
}

// Check verifies the repository as far as the options say. It returns an error
// only if it could not go on: what is wrong is in the report. It reads what is
// upstream, not what is cached.
func (r *Repo) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	c := newChecker(r, &o)
	if o.Of > 0 && (o.Part < 1 || o.Part > o.Of) {
		return CheckReport{}, fmt.Errorf("checking: part %d of %d", o.Part, o.Of)
	}
	defer report.Every(o.Progress, c.progress)()
	rep, err := c.run(ctx)
	rep.Bytes = c.bytes.Load()
	for _, name := range slices.Sorted(maps.Keys(c.problems)) {
		rep.Problems = append(rep.Problems, *c.problems[name])
	}
	r.metrics.problems.Add(float64(len(rep.Problems)))
	if err != nil {
		return rep, fmt.Errorf("checking: %w", err)
	}
	return rep, nil
}

func newChecker(r *Repo, o *CheckOptions) *checker {
	return &checker{r: r, o: o, started: time.Now(), problems: make(map[string]*Problem), lost: make(map[string]bool),
		bad: make(map[chunk.ID]string), clean: make(map[chunk.ID]bool)}
}

func (c *checker) progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Progress{Phase: "check", Started: c.started, Files: c.packs.Load(), AllFiles: c.all.Load(), Counted: true,
		Uploaded: c.bytes.Load(), Failed: int64(len(c.problems))}
}

func (c *checker) run(ctx context.Context) (rep CheckReport, err error) {
	if _, err := c.r.st.GetDoc(ctx, store.ConfigName); err != nil {
		if ctx.Err() != nil {
			return rep, err
		}
		c.problem(store.ConfigName, err)
	}
	names, err := c.index(ctx, &rep)
	for try := 1; errors.Is(err, ErrNotExist) && try < 5; try++ { // a prune has replaced the index meanwhile
		names, err = c.index(ctx, &rep)
	}
	if err != nil {
		return rep, err
	}
	if c.o.ReadData {
		if err := c.readPacks(ctx, names); err != nil {
			return rep, err
		}
	}
	snaps, err := c.snapshots(ctx)
	if err != nil {
		return rep, err
	}
	rep.Snapshots = len(snaps)
	if rep.Rollbacks, err = c.heads(ctx); err != nil {
		return rep, err
	}
	if len(c.o.Snapshots) > 0 {
		snaps = c.o.Snapshots
	}
	if err := c.r.settle(ctx); err != nil {
		return rep, err
	}
	rep.Chunks = c.r.st.Chunks()
	for _, s := range snaps {
		if _, err := c.walk(ctx, s.ID[:8]+":", "", &s.root); err != nil {
			return rep, err
		}
	}
	return rep, nil
}

func (c *checker) problem(object string, err error) *Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotExist) {
		c.lost[object] = true
	}
	p := c.problems[object]
	if p == nil {
		p = &Problem{Object: object, Err: err.Error()}
		c.problems[object] = p
	}
	return p
}

// listed is a pack upstream.
type listed struct {
	size  int64 // sealed
	known bool  // an index object describes it
}

// index compares what is there with what the index objects say, and returns the
// names of these.
func (c *checker) index(ctx context.Context, rep *CheckReport) ([]pack.Name, error) {
	names, err := c.r.st.ListNames(ctx, store.IndexDir)
	if err != nil {
		return nil, err
	}
	packs := make(map[pack.Name]listed)
	err = c.r.bucket.List(ctx, store.PackDir, "", func(i upstream.Info) error {
		n, err := pack.ParseName(path.Base(i.Name))
		if err == nil && store.PackName(n) == i.Name { // else a foreign object; listNames logs such
			packs[n] = listed{size: i.Size}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", store.PackDir, err)
	}
	rep.Packs, rep.Unused = len(packs), len(packs)
	c.all.Store(0)
	return names, c.records(ctx, names, func(rec *pack.Record) error {
		p, ok := packs[rec.Name]
		name := store.PackName(rec.Name)
		switch want := seal.SealedSize(int64(rec.Size)); {
		case !ok:
			c.problem(name, ErrNotExist)
			c.blame(rec, name)
		case p.size != want:
			c.problem(name, fmt.Errorf("%d bytes, want %d: %w", p.size, want, ErrCorrupt))
			c.blame(rec, name)
		}
		if ok && !p.known {
			rep.Unused--
			packs[rec.Name] = listed{p.size, true}
			if c.chosen(rec.Name) {
				c.all.Add(1)
			}
		}
		return nil
	})
}

// records calls fn with the record of each pack in the index objects, perhaps more
// than once.
func (c *checker) records(ctx context.Context, names []pack.Name, fn func(*pack.Record) error) error {
	bad := func(name string, err error) error {
		c.problem(name, err)
		return c.r.st.NoteBroken(name, err)
	}
	return c.r.st.EachIndex(ctx, names, c.r.st.FetchIndex, bad, func(_ pack.Name, x *pack.Index) error {
		for _, rec := range x.Records {
			if err := fn(rec); err != nil {
				return err
			}
		}
		return nil
	})
}

// chosen reports whether the data of a pack are to be read.
func (c *checker) chosen(n pack.Name) bool {
	return c.o.Of == 0 || (int(n[15])|int(n[14])<<8)%c.o.Of == c.o.Part-1
}

// blame notes that no chunk of a pack can be had.
func (c *checker) blame(rec *pack.Record, object string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range rec.Segments {
		for _, x := range rec.Segments[i].Chunks {
			c.bad[x.ID] = object
		}
	}
}

// readPacks fetches the packs and verifies every chunk.
func (c *checker) readPacks(ctx context.Context, names []pack.Name) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, c.r.st.Workers()))
	begun := make(map[pack.Name]bool)
	err := c.records(gctx, names, func(rec *pack.Record) error {
		if begun[rec.Name] || !c.chosen(rec.Name) {
			return nil
		}
		begun[rec.Name] = true
		g.Go(func() error {
			defer c.packs.Add(1)
			err := c.readPack(gctx, rec)
			if err != nil && gctx.Err() == nil {
				c.problem(store.PackName(rec.Name), err)
				return nil
			}
			return err
		})
		return nil
	})
	if gerr := g.Wait(); gerr != nil {
		return gerr
	}
	return err
}

// readPack verifies one pack. If it is damaged it finds out which segments are.
func (c *checker) readPack(ctx context.Context, rec *pack.Record) error {
	name := store.PackName(rec.Name)
	o, err := c.r.st.OpenPack(ctx, rec.Name, rec.Size)
	if err != nil {
		c.blame(rec, name)
		return err
	}
	body, err := o.NewReader(ctx, 0, -1)
	if err != nil {
		return store.Damaged(name, err)
	}
	whole := c.segments(body, rec)
	if whole == nil {
		whole = c.footer(body, rec)
	}
	body.Close()
	if whole == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	at := int64(0)
	for i := range rec.Segments {
		s := &rec.Segments[i]
		one := &pack.Record{Segments: rec.Segments[i : i+1]}
		part, err := o.NewReader(ctx, at, int64(s.Stored))
		if err == nil {
			err = c.segments(part, one)
			part.Close()
		}
		if err != nil {
			c.blame(one, name)
		}
		at += int64(s.Stored)
	}
	return store.Damaged(name, whole)
}

// segments reads and verifies the segments of a record.
func (c *checker) segments(body io.Reader, rec *pack.Record) error {
	z, h := pack.GetDecompressor(), c.r.st.Hasher()
	defer z.Put()
	var stored, plain []byte
	for i := range rec.Segments {
		s := &rec.Segments[i]
		stored = slices.Grow(stored[:0], int(s.Stored))[:s.Stored]
		if _, err := io.ReadFull(body, stored); err != nil {
			return store.NoEOF(err)
		}
		c.bytes.Add(int64(s.Stored))
		data := stored
		if s.Compressed {
			var err error
			if plain, err = z.Decompress(plain[:0], stored, s.Plain()); err != nil {
				return err
			}
			data = plain
		}
		for _, x := range s.Chunks {
			if h.Sum(data[:x.Len]) != x.ID {
				return fmt.Errorf("chunk %s: %w", x.ID, ErrCorrupt)
			}
			data = data[x.Len:]
		}
	}
	return nil
}

// footer verifies what follows the segments: it says the same as the index.
func (c *checker) footer(body io.Reader, rec *pack.Record) error {
	rest, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	_, found, err := parseEnd(rest, int64(rec.Size))
	if err != nil {
		return err
	}
	if !slices.Equal(found.Append(nil), rec.Append(nil)) {
		return fmt.Errorf("footer and index differ: %w", ErrCorrupt)
	}
	return nil
}

// parseEnd parses the footer at the end of b, the last bytes of a pack of size bytes.
func parseEnd(b []byte, size int64) (config []byte, rec *pack.Record, err error) {
	if len(b) < pack.TailSize {
		return nil, nil, pack.ErrFormat
	}
	n, err := pack.ParseTail(b[len(b)-pack.TailSize:])
	if err != nil {
		return nil, nil, err
	}
	if n > len(b)-pack.TailSize {
		return nil, nil, pack.ErrFormat
	}
	b = b[:len(b)-pack.TailSize]
	return pack.ParseFooter(b[len(b)-n:], size)
}

// snapshots reads all snapshots; those that do not open are problems.
func (c *checker) snapshots(ctx context.Context) ([]*Snapshot, error) {
	names, err := c.r.st.ListNames(ctx, store.SnapshotDir)
	if err != nil {
		return nil, err
	}
	var out []*Snapshot
	for _, n := range names {
		name := store.SnapshotDir + n.String()
		sealed, err := c.r.st.Fetch(ctx, name)
		var s *Snapshot
		if err == nil {
			s, err = c.r.parseSnapshot(n, sealed)
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			c.problem(name, err)
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

func (c *checker) heads(ctx context.Context) ([]string, error) {
	// A snapshot that does not open is damaged, not taken back: its name is there.
	names, err := c.r.st.ListNames(ctx, store.SnapshotDir)
	if err != nil {
		return nil, err
	}
	rollbacks, problems, err := c.r.rollbacks(ctx, names)
	for _, p := range problems {
		c.problem(p.Object, errors.New(p.Err))
	}
	return rollbacks, err
}

// walk follows a directory and notes what damaged chunks touch. It reports
// whether all below is well.
func (c *checker) walk(ctx context.Context, snap, name string, e *tree.Entry) (clean bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if e.Flags&tree.Missing != 0 || c.clean[e.Subtree] {
		return true, nil
	}
	if object, bad := c.bad[e.Subtree]; bad {
		c.touch(object, store.ErrNoChunk, snap+"/"+name)
		return false, nil
	}
	entries, err := c.r.st.Dir(ctx, e.Subtree)
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		c.touch(c.objectOf(e.Subtree), err, snap+"/"+name)
		return false, nil
	}
	clean = true
	for i := range entries {
		child := &entries[i]
		p := child.Name
		if name != "" {
			p = name + "/" + p
		}
		ok := true
		switch child.Type {
		case tree.Dir:
			ok, err = c.walk(ctx, snap, p, child)
		case tree.File:
			ok, err = c.file(ctx, snap+"/"+p, child)
		}
		if err != nil {
			return false, err
		}
		clean = clean && ok
	}
	if clean {
		c.clean[e.Subtree] = true
	}
	return clean, nil
}

func (c *checker) file(ctx context.Context, name string, e *tree.Entry) (clean bool, err error) {
	ids, err := c.r.st.FileIDs(ctx, e)
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		c.touch(c.objectOf(e.Content[0]), err, name)
		return false, nil
	}
	clean = true
	for _, id := range ids {
		if object, bad := c.bad[id]; bad {
			c.touch(object, store.ErrNoChunk, name)
			clean = false
		} else if _, ok := c.r.st.Lookup(id); !ok {
			c.touch(store.IndexDir, c.r.st.Missing(id), name)
			clean = false
		}
	}
	return clean, nil
}

// objectOf names the object that a chunk lies in, or should be described by.
func (c *checker) objectOf(id chunk.ID) string {
	if loc, ok := c.r.st.Lookup(id); ok {
		return store.PackName(loc.Name)
	}
	return store.IndexDir
}

func (c *checker) touch(object string, err error, name string) {
	p := c.problem(object, err)
	if n := len(p.Touches); n < maxTouches && (n == 0 || p.Touches[n-1] != name) {
		p.Touches = append(p.Touches, name)
	}
}

package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"coffer/backup/pack"
	"coffer/backup/store"
	"coffer/backup/tree"
)

// writerRef is the place of a snapshot in the chain of its writer.
type writerRef struct {
	id  pack.Name
	seq uint64
}

// snapshotDoc is a Snapshot as it is stored. Paths are byte strings: they need
// not be UTF-8.
type snapshotDoc struct {
	Version int               `cbor:"1,keyasint"`
	Time    time.Time         `cbor:"2,keyasint"`
	End     time.Time         `cbor:"3,keyasint"`
	Host    string            `cbor:"4,keyasint"`
	User    string            `cbor:"5,keyasint"`
	Source  string            `cbor:"6,keyasint"`
	Paths   [][]byte          `cbor:"7,keyasint"`
	Tags    []string          `cbor:"8,keyasint,omitempty"`
	Root    []byte            `cbor:"9,keyasint"` // a leaf with one entry
	Parent  []byte            `cbor:"10,keyasint,omitempty"`
	Program string            `cbor:"11,keyasint"`
	Stats   []int64           `cbor:"12,keyasint"`
	Partial bool              `cbor:"13,keyasint,omitempty"`
	Users   map[uint32]string `cbor:"14,keyasint,omitempty"`
	Groups  map[uint32]string `cbor:"15,keyasint,omitempty"`
	Writer  [16]byte          `cbor:"16,keyasint"`
	Seq     uint64            `cbor:"17,keyasint"`
	First   []byte            `cbor:"18,keyasint,omitempty"` // its name before its tags were changed
	Changes uint64            `cbor:"19,keyasint,omitempty"` // how many times they were
	Origin  string            `cbor:"20,keyasint,omitempty"`
}

const snapshotVersion = 1

// statFields lists the numbers in the order in which they are stored; new ones are
// added at the end.
func statFields(s *Statistics) []*int64 {
	return []*int64{&s.Files, &s.Dirs, &s.Others, &s.Bytes, &s.New, &s.Changed, &s.Unchanged,
		&s.Read, &s.Added, &s.Uploaded, &s.Packs}
}

func (s *Snapshot) encode() ([]byte, error) {
	d := snapshotDoc{Version: snapshotVersion, Time: s.Time.UTC(), End: s.End.UTC(), Host: utf8(s.Host), User: utf8(s.User),
		Source: utf8(s.Source), Tags: s.Tags, Root: tree.One(&s.root), Program: s.Program, Partial: s.Partial,
		Users: s.users, Groups: s.groups, Writer: s.writer.id, Seq: s.writer.seq, Origin: utf8(s.Origin), Changes: s.generation}
	if s.generation > 0 {
		d.First = s.first[:]
	}
	for _, p := range s.Paths {
		d.Paths = append(d.Paths, []byte(p))
	}
	if n, err := pack.ParseName(s.Parent); err == nil {
		d.Parent = n[:]
	}
	for _, f := range statFields(&s.Stats) {
		d.Stats = append(d.Stats, *f)
	}
	b, err := store.Encoding.Marshal(&d)
	if err != nil {
		return nil, fmt.Errorf("encoding a snapshot: %w", err)
	}
	return b, nil
}

func decodeSnapshot(n pack.Name, b []byte) (*Snapshot, error) {
	var d snapshotDoc
	if err := store.Decoding.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if d.Version != snapshotVersion {
		return nil, fmt.Errorf("snapshot version %d: %w", d.Version, ErrVersion)
	}
	top, _, err := tree.Decode(d.Root)
	if err != nil || len(top) != 1 || top[0].Type != tree.Dir {
		return nil, fmt.Errorf("root of snapshot: %w (%v)", ErrCorrupt, err)
	}
	s := &Snapshot{ID: n.String(), Time: d.Time, End: d.End, Host: d.Host, User: d.User, Source: d.Source, Tags: d.Tags,
		Program: d.Program, Partial: d.Partial, root: top[0], users: d.Users, groups: d.Groups,
		writer: writerRef{d.Writer, d.Seq}, first: n, Origin: d.Origin}
	if d.Changes > 0 {
		if len(d.First) != len(n) || tagged(pack.Name(d.First), d.Changes) != n {
			return nil, fmt.Errorf("name of a snapshot with other tags: %w", ErrCorrupt)
		}
		s.first, s.generation = pack.Name(d.First), d.Changes
	}
	for _, p := range d.Paths {
		s.Paths = append(s.Paths, string(p))
	}
	if len(d.Parent) == len(n) {
		s.Parent = pack.Name(d.Parent).String()
	}
	for i, f := range statFields(&s.Stats) {
		if i < len(d.Stats) {
			*f = d.Stats[i]
		}
	}
	return s, nil
}

// Snapshots returns all snapshots, oldest first. One that cannot be read is an
// error that names it; the others are returned beside the error.
func (r *Repo) Snapshots(ctx context.Context) (all []*Snapshot, err error) {
	for range relists {
		if all, err = r.listSnapshots(ctx); !errors.Is(err, ErrNotExist) {
			break // else one was removed, or replaced, since it was listed
		}
	}
	return all, err
}

// relists is how often snapshots are listed when one is listed and not there.
const relists = 4

func (r *Repo) listSnapshots(ctx context.Context) ([]*Snapshot, error) {
	names, err := r.st.ListNames(ctx, store.SnapshotDir)
	if err != nil {
		return nil, err
	}
	found := make([]*Snapshot, len(names))
	errs := make([]error, len(names))
	var g errgroup.Group
	g.SetLimit(store.Fetchers)
	for i, n := range names {
		g.Go(func() error {
			found[i], errs[i] = r.snapshot(ctx, n)
			return nil
		})
	}
	g.Wait()
	found = hideReplaced(slices.DeleteFunc(found, func(s *Snapshot) bool { return s == nil }))
	slices.SortFunc(found, func(a, b *Snapshot) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
	r.st.KeepOnly("snapshots", names)
	for _, err := range errs {
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// snapshot reads one, from the cache if it is there: snapshots never change.
func (r *Repo) snapshot(ctx context.Context, n pack.Name) (*Snapshot, error) {
	name := store.SnapshotDir + n.String()
	if sealed, ok := r.st.Kept("snapshots", n); ok {
		if s, err := r.parseSnapshot(n, sealed); err == nil {
			return s, nil
		}
	}
	sealed, err := r.st.Fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := r.parseSnapshot(n, sealed)
	if err == nil {
		r.st.Keep("snapshots", n, sealed)
	}
	return s, err
}

func (r *Repo) parseSnapshot(n pack.Name, sealed []byte) (*Snapshot, error) {
	name := store.SnapshotDir + n.String()
	plain, err := r.st.OpenDoc(name, sealed)
	if err != nil {
		return nil, err
	}
	s, err := decodeSnapshot(n, plain)
	if err != nil {
		return nil, store.Damaged(name, err)
	}
	return s, nil
}

// Find returns the snapshot that id names: the beginning of its ID, or "latest"
// for the newest one of source, of any source if that is empty.
func (r *Repo) Find(ctx context.Context, id, source string) (*Snapshot, error) {
	all, err := r.Snapshots(ctx)
	if err != nil {
		r.log.Warn("a snapshot cannot be read", zap.Error(err))
	}
	var found *Snapshot
	for _, s := range all {
		if source != "" && s.Source != source {
			continue
		}
		switch {
		case id == "latest" || id == "":
			found = s
		case strings.HasPrefix(s.ID, id) && found != nil:
			return nil, fmt.Errorf("%q: %w", id, ErrAmbiguous)
		case strings.HasPrefix(s.ID, id):
			found = s
		}
	}
	if found == nil && err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("%q: %w", id, ErrNoSnapshot)
	}
	return found, nil
}

// publishSnapshot writes s and gives it its ID: from then on it is acknowledged.
func (r *Repo) publishSnapshot(ctx context.Context, s *Snapshot) error {
	n := store.NewName()
	s.ID, s.first = n.String(), n
	return r.putSnapshot(ctx, n, s)
}

// putSnapshot writes s under a name; upstream.ErrExists if there is one.
func (r *Repo) putSnapshot(ctx context.Context, n pack.Name, s *Snapshot) error {
	b, err := s.encode()
	if err != nil {
		return err
	}
	sealed, err := r.st.PutDoc(ctx, store.SnapshotDir+n.String(), b)
	if err != nil {
		return err
	}
	r.st.Keep("snapshots", n, sealed)
	return nil
}
